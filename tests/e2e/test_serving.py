"""Serving bundles: our server answers what the checkpoint answers, Triton's own definition reads its configuration."""

import contextlib
import importlib.util
import json
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from importlib.metadata import files

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from google.protobuf import text_format

from compiler.export import load_sliced
from compiler.export.serving import write_bundles
from tests.cli import call, texts, write_texts
from tests.tiny import save_tiny

PAIRS = [("a great film", "the river"), ("cold water", "is it warm")]


def compiled(root, model_type, data, *flags, **model):
    done = call(
        save_tiny(root / "model", model_type, **model), "--data", data, "--target", "null", "--seq-len", 32,
        "--effort", "fast", "--evaluations", 24, "--winners", 2, "--cache", root / "cache", "--out", root / "out",
        "--quiet", *flags,
    )  # fmt: skip
    assert done.code == 0, done.err
    return (root / "out" / "best").resolve()


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    root = tmp_path_factory.mktemp("encoder")
    return compiled(root, "bert", write_texts(root / "texts.txt"), "--prompt", "the ", "--threads", 2)


@pytest.fixture(scope="module")
def judge(tmp_path_factory):
    """A classifier of pairs whose padding is not token 0."""
    root = tmp_path_factory.mktemp("judge")
    rows = [f"{a},{b},{i % 3}" for i, (a, b) in enumerate(zip(texts(60), texts(60, seed=1), strict=True))]
    (root / "pairs.csv").write_text("\n".join(["first,second,label", *rows]) + "\n", encoding="utf-8")
    return compiled(root, "roberta", root / "pairs.csv", labels=3)


@contextlib.contextmanager
def served(folder):
    """The address of the bundle's server, run in a process that has no paretoc and no torch."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    blocked = (
        "import sys, runpy\nfor name in ('compiler', 'profilers', 'torch', 'transformers'): sys.modules[name] = None\n"
    )
    script = folder / "serving" / "http" / "server.py"
    start = (
        f"{blocked}sys.argv = ['server.py', '--port', '{port}']\nrunpy.run_path({str(script)!r}, run_name='__main__')"
    )
    server = subprocess.Popen([sys.executable, "-c", start], stderr=subprocess.PIPE, text=True)
    try:
        address = f"http://127.0.0.1:{port}"
        wait_for(address, server)
        yield address
    finally:
        server.terminate()
        server.wait(timeout=20)


def wait_for(address, server):
    for _ in range(200):
        assert server.poll() is None, server.stderr.read()
        with contextlib.suppress(urllib.error.URLError), urllib.request.urlopen(f"{address}/health") as answer:
            assert json.load(answer) == {"status": "ok"}
            return
        time.sleep(0.1)
    pytest.fail("the server did not start")


def ask(address, route, inputs):
    body = json.dumps({"inputs": inputs}).encode()
    request = urllib.request.Request(f"{address}/{route}", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


def expected(folder, *columns):
    loaded = load_sliced(folder)
    with torch.no_grad():
        return loaded.model(**loaded.tokenizer(*columns, padding=True, return_tensors="pt"))[-1]


def test_the_server_of_an_embedding_model(encoder):
    sentences = texts(5)
    with served(encoder) as address:
        found = ask(address, "embed", sentences)
        with pytest.raises(urllib.error.HTTPError, match="422"):
            ask(address, "embed", [])
        with pytest.raises(urllib.error.HTTPError, match="404"):
            ask(address, "predict", sentences)
    prompted = ["the " + sentence for sentence in sentences]
    np.testing.assert_allclose(found, expected(encoder, prompted).numpy(), atol=1e-5)


def test_the_server_of_a_classifier_of_pairs(judge):
    with served(judge) as address:
        found = ask(address, "predict", PAIRS)
        alone = ask(address, "predict", PAIRS[:1])
        with pytest.raises(urllib.error.HTTPError, match="422"):
            ask(address, "predict", [PAIRS[0], "one text"])
    scores = expected(judge, *map(list, zip(*PAIRS, strict=True))).softmax(dim=1).numpy()
    names = list(load_sliced(judge).label_names)
    assert [list(row) for row in found] == [names, names]
    np.testing.assert_allclose([list(row.values()) for row in found], scores, atol=1e-5)
    np.testing.assert_allclose(list(alone[0].values()), scores[0], atol=1e-5)


def triton_definition():
    """Triton's ModelConfig; its package's client of gRPC, which would be imported with it, is not needed to read it."""
    path = next(f.locate() for f in files("tritonclient") if f.name == "model_config_pb2.py")
    spec = importlib.util.spec_from_file_location("model_config_pb2", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def model_config(model):
    return text_format.Parse((model / "config.pbtxt").read_text(encoding="utf-8"), triton_definition().ModelConfig())


@pytest.mark.parametrize("kind", ["encoder", "judge"])
def test_triton_s_own_definition_reads_its_configuration(kind, request):
    folder = request.getfixturevalue(kind)
    model = folder / "serving" / "triton" / "model"
    definition = triton_definition()
    config = model_config(model)
    session = onnxruntime.InferenceSession(model / "1" / config.default_model_filename)
    types = {"tensor(int64)": definition.TYPE_INT64, "tensor(float)": definition.TYPE_FP32}
    for ours, theirs in ((config.input, session.get_inputs()), (config.output, session.get_outputs())):
        assert [tensor.name for tensor in ours] == [tensor.name for tensor in theirs]
        assert [tensor.data_type for tensor in ours] == [types[tensor.type] for tensor in theirs]
        sizes = [[d if isinstance(d, int) else -1 for d in tensor.shape[1:]] for tensor in theirs]
        assert [list(tensor.dims) for tensor in ours] == sizes
    assert (config.name, config.backend) == (model.name, "onnxruntime")
    assert config.max_batch_size > 1
    assert config.HasField("dynamic_batching")
    assert [(group.count, group.kind) for group in config.instance_group] == [
        (1, definition.ModelInstanceGroup.KIND_CPU)
    ]
    assert config.parameters["intra_op_thread_count"].string_value == ("2" if kind == "encoder" else "1")


@pytest.mark.parametrize(
    ("device", "count"),
    [
        ({"runs_on": "cpu", "threads": 2, "cpus": 8}, 4),
        ({"runs_on": "cpu", "threads": 16, "cpus": 8}, 1),
        ({"runs_on": "cpu", "threads": 1}, 1),
        ({"runs_on": "cuda", "threads": 1, "cpus": 8}, 1),
    ],
)
def test_as_many_calls_at_a_time_as_the_target_has_processors_for(encoder, tmp_path, device, count):
    write_bundles(tmp_path / "serving", encoder / "model.onnx", load_sliced(encoder), **device)
    (group,) = model_config(tmp_path / "serving" / "triton" / "model").instance_group
    kinds = triton_definition().ModelInstanceGroup
    assert (group.count, group.kind) == (count, kinds.KIND_CPU if device["runs_on"] == "cpu" else kinds.KIND_GPU)


@pytest.mark.parametrize(("usual", "most"), [((4, 24), 32), ((64, 24), 64)])
def test_triton_has_tensorrt_build_one_engine_for_every_batch_it_makes(encoder, tmp_path, usual, most):
    checkpoint = load_sliced(encoder)
    write_bundles(tmp_path / "serving", encoder / "model.onnx", checkpoint, runs_on="tensorrt", threads=1, usual=usual)
    config = model_config(tmp_path / "serving" / "triton" / "model")
    (tensorrt,) = config.optimization.execution_accelerators.gpu_execution_accelerator
    names = [tensor.name for tensor in config.input]
    shapes = {
        "min": (1, 1), "opt": usual, "max": (max(most, config.max_batch_size), checkpoint.max_tokens),
    }  # fmt: skip
    assert tensorrt.name == "tensorrt"
    assert dict(tensorrt.parameters) == {"precision_mode": "INT8"} | {
        f"trt_profile_{which}_shapes": ",".join(f"{name}:{batch}x{tokens}" for name in names)
        for which, (batch, tokens) in shapes.items()
    }


def test_shape_profiles_need_a_triton_that_hands_them_on(encoder, tmp_path):
    older = tmp_path / "model.onnx"
    graph = onnx.load(encoder / "model.onnx")
    graph.opset_import[0].version = 19
    onnx.save(graph, older)
    for runs_on, needed in (("cuda", "23.05"), ("tensorrt", "24.04")):
        write_bundles(tmp_path / "serving", older, load_sliced(encoder), runs_on=runs_on, threads=1)
        config = (tmp_path / "serving" / "triton" / "model" / "config.pbtxt").read_text(encoding="utf-8")
        assert f"Triton {needed} or newer" in config
        assert f"Triton {needed} or newer" in (tmp_path / "serving" / "README.md").read_text(encoding="utf-8")


def test_each_bundle_says_what_it_needs_and_that_it_was_not_run(encoder, tmp_path):
    older = tmp_path / "model.onnx"
    graph = onnx.load(encoder / "model.onnx")
    graph.opset_import[0].version = 22  # what is written beside a graph goes by what it says of itself
    onnx.save(graph, older)
    write_bundles(tmp_path / "serving", older, load_sliced(encoder), runs_on="cpu", threads=1)
    config = " ".join((tmp_path / "serving" / "triton" / "model" / "config.pbtxt").read_text(encoding="utf-8").split())
    assert "Triton 25.03 or newer" in config
    assert "no # server has been run with it" in config
    page = (tmp_path / "serving" / "tei" / "README.md").read_text(encoding="utf-8")
    assert "Version 1.9 or newer" in page
    assert "no such server has been run with it" in page


def test_the_graph_is_stored_once(encoder):
    assert (encoder / "serving" / "triton" / "model" / "1" / "model.onnx").samefile(encoder / "model.onnx")


def test_the_page_says_what_was_not_run_and_what_is_needed(encoder):
    page = " ".join((encoder / "serving" / "README.md").read_text(encoding="utf-8").split())
    assert "ONNX Runtime 1.23 or newer" in page
    assert "no Triton server has been run" in page
    assert not (encoder / "serving" / "tei").exists()
    assert "does not run opset 23" in page
    assert not re.search(r"\$\w", page.replace("$route", "x"))


def test_every_network_of_the_run_has_them(encoder):
    for folder in encoder.parent.iterdir():
        if folder.is_dir() and not folder.is_symlink():
            assert onnx.load(folder / "serving" / "triton" / "model" / "1" / "model.onnx").graph.node
