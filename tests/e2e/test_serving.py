"""Serving bundles: our server answers what the checkpoint answers, Triton's own definition reads its configuration."""

import importlib.util
import re
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib.metadata import files

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from google.protobuf import text_format

from compiler.export import load_sliced
from compiler.export.serving import write_bundles
from compiler.tasks import TASKS
from tests import served
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


def started(folder):
    """The bundle's server, in a process that has no paretoc and no torch."""
    return served.started(folder / "serving" / "http" / "server.py")


def ask(address, route, inputs):
    return served.ask(f"{address}/{route}", {"inputs": inputs})


def expected(folder, *columns):
    loaded = load_sliced(folder)
    with torch.no_grad():
        return loaded.model(**loaded.tokenizer(*columns, padding=True, return_tensors="pt"))[-1]


def test_the_server_of_an_embedding_model(encoder):
    sentences = texts(5)
    with started(encoder) as (address, _):
        found = ask(address, "embed", sentences)
        assert served.post(f"{address}/embed", {"inputs": []})[0] == 422
        assert served.post(f"{address}/classify", {"inputs": sentences})[0] == 404
        form = served.ask(f"{address}/v1/embeddings", {"input": sentences, "model": "any"})
    prompted = ["the " + sentence for sentence in sentences]
    wanted = expected(encoder, prompted).numpy()
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    np.testing.assert_allclose([each["embedding"] for each in form["data"]], wanted, atol=1e-5)


def test_no_embedding_depends_on_what_it_was_computed_with(encoder):
    sentences = [" ".join(texts(4, seed=i)[: 1 + i % 4]) for i in range(64)]
    with started(encoder) as (address, _), ThreadPoolExecutor(16) as threads:
        alone = [ask(address, "embed", text)[0] for text in sentences]
        together = list(threads.map(lambda text: ask(address, "embed", text)[0], sentences))
        with urllib.request.urlopen(f"{address}/metrics") as answer:
            metrics = answer.read().decode()
    np.testing.assert_allclose(together, alone, atol=1e-5)
    calls = int(re.search(r"^paretoc_call_rows_count (\d+)$", metrics, re.MULTILINE)[1])
    assert len(sentences) < calls < 2 * len(sentences), "some were computed together"


def test_the_server_of_a_classifier_of_pairs(judge):
    with started(judge) as (address, _):
        found = ask(address, "classify", PAIRS)
        alone = ask(address, "classify", PAIRS[:1])
        assert served.post(f"{address}/classify", {"inputs": [PAIRS[0], "one text"]})[0] == 422
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


def spans(path):
    table = np.zeros(80)
    served.lookup_graph(path, start_logits=table, end_logits=table)


def tags(path):
    served.lookup_graph(path, logits=np.zeros((80, 5)))


def ranks(path):
    served.context_graph(path, "logits", 1, 80)


@pytest.mark.parametrize(
    ("task", "graph", "outputs", "tei"),
    [
        (
            "question_answering",
            spans,
            [("start_logits", [-1]), ("end_logits", [-1])],
            "does not know question answering",
        ),
        ("token_classification", tags, [("logits", [-1, 5])], "does not know token classification"),
        ("reranking", ranks, [("logits", [1])], "text-embeddings-router --model-id tei"),
        ("multi_label", ranks, [("logits", [1])], '"raw_scores": true: TEI does otherwise'),
    ],
)
def test_bundles_follow_from_the_graph_and_the_task(judge, tmp_path, task, graph, outputs, tei):
    graph(tmp_path / "model.onnx")
    checkpoint = replace(load_sliced(judge), task=TASKS[task])
    write_bundles(tmp_path / "serving", tmp_path / "model.onnx", checkpoint, runs_on="cpu", threads=1)
    config = model_config(tmp_path / "serving" / "triton" / "model")
    assert [(tensor.name, list(tensor.dims)) for tensor in config.output] == outputs
    page = (tmp_path / "serving" / "README.md").read_text(encoding="utf-8")
    assert tei in page
    assert (tmp_path / "serving" / "tei").exists() == ("does not know" not in tei)
    assert f"localhost:8000{TASKS[task].route.paths[0]} " in page


@pytest.mark.parametrize(("precision", "most"), [("int8", 1), ("int8-static", 32), ("fp16", 32)])
def test_triton_batches_no_graph_whose_answers_depend_on_the_batch(judge, tmp_path, precision, most):
    ranks(tmp_path / "model.onnx")
    model = onnx.load(tmp_path / "model.onnx")
    onnx.helper.set_model_props(model, {"precision": precision})
    onnx.save(model, tmp_path / "model.onnx")
    write_bundles(tmp_path / "serving", tmp_path / "model.onnx", load_sliced(judge), runs_on="cpu", threads=1)
    config = model_config(tmp_path / "serving" / "triton" / "model")
    assert (config.max_batch_size, config.HasField("dynamic_batching")) == (most, most > 1)
    page = (tmp_path / "serving" / "README.md").read_text(encoding="utf-8")
    assert ("answers would depend on the others" in page) == (most == 1)


def test_the_graph_is_stored_once(encoder):
    assert (encoder / "serving" / "triton" / "model" / "1" / "model.onnx").samefile(encoder / "model.onnx")


def test_the_page_says_what_was_not_run_and_what_is_needed(encoder):
    page = " ".join((encoder / "serving" / "README.md").read_text(encoding="utf-8").split())
    assert "ONNX Runtime 1.23 or newer" in page
    assert "no Triton server has been run" in page
    assert not (encoder / "serving" / "tei").exists()
    assert "does not run opset 23" in page
    assert "localhost:8000/embed " in page
    assert not re.search(r"\$\w", page)


def test_every_network_of_the_run_has_them(encoder):
    for folder in encoder.parent.iterdir():
        if folder.is_dir() and not folder.is_symlink():
            assert onnx.load(folder / "serving" / "triton" / "model" / "1" / "model.onnx").graph.node
