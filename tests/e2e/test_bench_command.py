"""`compile bench` on the real ONNX Runtime: files that differ beyond any noise, run directories, wrong input."""

import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from compiler.costing import dimensions_of
from compiler.export.dense import export_dense
from profilers import Workload
from profilers.onnx_file import read_onnx_file
from profilers.operation_count import count_operations
from profilers.roofline import operations
from targets import Target, present
from tests.cli import call
from tests.report_sample import sample_front
from tests.tiny import LAYERS, tiny_checkpoint

WIDTH, ROWS = 64, 50
A10G = bool(present(Target.parse("a10g")))
SHORT = ("--seconds", 0.1)


@pytest.fixture(autouse=True, scope="module")
def small_peak():
    """A peak of a second is not what is tested here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("profilers.peak._SIDES", {"cpu": (256,)})
        patch.setattr("profilers.peak._COPY_BYTES", {"cpu": 1 << 20})
        yield


def save_layers(path, layers, shape=("batch", "tokens")):
    """An embedding and so many products: time grows with their number."""
    weight = np.random.default_rng(0).standard_normal((WIDTH, WIDTH)).astype(np.float32) / 8
    nodes = [helper.make_node("Gather", ["table", "input_ids"], ["x0"])]
    nodes += [helper.make_node("MatMul", [f"x{i}", "weight"], [f"x{i + 1}"]) for i in range(layers)]
    graph = helper.make_graph(
        nodes,
        "layers",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, list(shape))],
        [helper.make_tensor_value_info(f"x{layers}", TensorProto.FLOAT, [*shape, WIDTH])],
        [numpy_helper.from_array(np.resize(weight, (ROWS, WIDTH)), "table"), numpy_helper.from_array(weight, "weight")],
    )
    path.parent.mkdir(exist_ok=True)
    onnx.save_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A quick file and one of twenty times its work."""
    folder = tmp_path_factory.mktemp("files")
    return save_layers(folder / "quick.onnx", 3), save_layers(folder / "slow.onnx", 60)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run directory of two networks, asked for two sequences of 32 tokens."""
    folder = tmp_path_factory.mktemp("run")
    front = sample_front()
    front |= {"candidates": front["candidates"][:1], "best": "c00"}
    front["workload"] |= {"batch": 2, "tokens": 32, "threads": 1}
    for net, layers in ((front["dense"], 60), (front["candidates"][0], 3)):
        save_layers(folder / net["artifact"]["path"], layers)
    (folder / "front.json").write_text(json.dumps(front), encoding="utf-8")
    return folder


def test_a_slower_file_is_found_reported_and_refused(files, tmp_path):
    quick, slow = files
    out = tmp_path / "new" / "bench"
    done = call("bench", quick, slow, *SHORT, "--fail-if-slower", "3%", "--json", "-o", out)
    assert done.code == 5, done.err
    assert "slow.onnx +" in done.message[1]
    found = json.loads(done.out)
    assert found == json.loads((out / "bench.json").read_text(encoding="utf-8"))
    assert sorted(p.name for p in out.iterdir()) == ["bench.html", "bench.json", "bench.md"]
    first, second = found["files"]
    assert (found["baseline"], first["name"], second["name"]) == ("quick.onnx", "quick.onnx", "slow.onnx")
    assert (second["verdict"], second["too_slow"], first["too_slow"]) == ("slower", True, False)
    assert second["speedup_interval"][0] <= second["speedup"] <= second["speedup_interval"][1] < 1
    for result, path, layers in ((first, quick, 3), (second, slow, 60)):
        latency = result["latency_ms"]
        assert 0 < latency["p50"] <= latency["p90"] <= latency["p99"]
        assert result["throughput_per_s"] == pytest.approx(1000 / latency["p50"])
        assert result["bytes"] == path.stat().st_size
        assert result["operations"]["count"] == layers * 2 * 128 * WIDTH * WIDTH
        assert result["roofline_share"] > 0
        assert result["memory_bytes"] > 20e6, "an interpreter with ONNX Runtime takes more than that"
        assert result["energy_j"] is None or result["energy_j"] > 0
        assert result["blocks"] >= 6
        assert result["samples"] >= 4 * result["blocks"]
    assert found["peak"]["flops_per_s"] > 0


def test_the_other_way_round_it_is_faster_and_passes(files):
    quick, slow = files
    done = call(
        "bench", quick, slow, "--baseline", slow, *SHORT, "--fail-if-slower", "3%", "--batch", 2, "--seq-len", 16
    )
    assert done.code == 0, done.err
    assert "quick.onnx is the fastest" in done.out
    assert "Batch 2 \N{MULTIPLICATION SIGN} 16 tokens, 1 thread" in done.out
    rows = [line.split()[1] for line in done.out.splitlines() if line.startswith("│ ")]
    assert rows == ["slow.onnx", "quick.onnx"]


def test_a_run_directory_is_held_against_its_dense_model_as_it_was_asked(run):
    done = call("bench", run, *SHORT, "--json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert found["workload"] == {"batch": 2, "tokens": 32, "threads": 1, "runtime": "onnxruntime"}
    assert [f["name"] for f in found["files"]] == ["dense", "c00"]
    assert found["files"][1]["verdict"] == "faster"


def test_a_file_of_fixed_sizes_is_timed_at_them(tmp_path):
    path = save_layers(tmp_path / "fixed.onnx", 2, shape=(3, 7))
    done = call("bench", path, *SHORT, "--json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert (found["workload"]["batch"], found["workload"]["tokens"]) == (3, 7)
    assert call("bench", path, "--batch", 1, *SHORT).message[0].startswith("fixed.onnx was exported for --batch 3 only")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["none.onnx"], 2, "cannot be read"),
        (["{quick}", "--baseline", "none.onnx"], 2, "cannot be read"),
        (["{quick}", "--runtime", "torch"], 2, "does not run ONNX files"),
        (["{quick}", "--target", "null"], 2, "not served by"),
        (["{quick}", "--target", "abacus"], 2, "no target is called"),
        (["{quick}", "--fail-if-slower", "much"], 2, "no share"),
        (["{quick}", "--seconds", "-1"], 2, "--seconds must be from 0.01 to 1,000,000, got -1"),
        pytest.param(
            ["{quick}", "--target", "a10g"], 3, "a10g is not here", marks=pytest.mark.skipif(A10G, reason="it is here")
        ),
        (["{folder}"], 2, "no run directory"),
        (["{quick}", "-o", "{quick}"], 2, "cannot be written"),
        ([], 2, "Missing argument"),
    ],
)
def test_mistakes_are_two_lines(files, arguments, code, words):
    places = {"quick": files[0], "folder": files[0].parent}
    done = call("bench", *(argument.format(**places) for argument in arguments))
    assert done.code == code, (done.out, done.err)
    assert words in done.err
    assert 1 <= len(done.message) <= 2, done.err
    assert not done.out


def test_an_exported_encoder_has_the_operations_of_its_closed_form(tmp_path):
    checkpoint = tiny_checkpoint(tmp_path, "bert")
    proto, _ = export_dense(checkpoint)
    onnx.save_model(proto, tmp_path / "model.onnx")
    file = read_onnx_file(tmp_path / "model.onnx", "dense")
    found = count_operations(file.path, file.arrays(2, 9))
    dimensions = dimensions_of(checkpoint.architecture)
    assert found.count == operations(Workload(batch=2, tokens=9), dimensions, dimensions.dense)
    assert found.counted == {"Attention": LAYERS, "MatMul": 6 * LAYERS}
    assert found.unknown == {}
