"""Structure and precision in one search, on the null device: what is found, written and said."""

import csv
import json
import shlex

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from tests.cli import call, write_texts
from tests.tiny import save_tiny


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    root = tmp_path_factory.mktemp("precision")
    save_tiny(root / "model")
    write_texts(root / "texts.txt")
    return root


def run(place, name, *arguments, target="null", model="model"):
    out = place / name
    done = call(
        place / model, "--data", place / "texts.txt", "--target", target, "--cache", place / "cache", "--out", out,
        "--seq-len", 32, "--evaluations", 40, "--winners", 6, "--quiet", *arguments,
    )  # fmt: skip
    return done, out


@pytest.fixture(scope="module")
def mixed(place):
    done, out = run(place, "mixed", "--precision", "int8,fp32")
    assert done.code == 0, done.err
    return out, json.loads((out / "front.json").read_text(encoding="utf-8"))


def test_the_front_holds_both_precisions_and_the_dense_model_in_both(mixed):
    _, front = mixed
    assert {c["precision"] for c in front["candidates"]} == {"fp32", "int8"}
    assert front["dense"]["precision"] == "fp32"
    (whole,) = [c for c in front["candidates"] if c["id"] == "dense-int8"]
    assert whole["shape"] == front["dense"]["shape"]
    assert whole["parameters"] == front["dense"]["parameters"]
    assert not any(c["exceptions"] for c in front["candidates"])
    latencies = [c["predicted"]["latency_ms"] for c in front["candidates"]]
    assert latencies == sorted(latencies)


def test_what_structure_gains_is_told_apart_from_what_precision_gains(mixed):
    _, front = mixed
    (whole,) = [c for c in front["candidates"] if c["id"] == "dense-int8"]
    assert whole["speedup_same_precision"] == pytest.approx(1.0)
    for candidate in front["candidates"]:
        same = front["dense"] if candidate["precision"] == "fp32" else whole
        assert candidate["speedup_same_precision"] == pytest.approx(candidate["speedup"] / same["speedup"])
    assert whole["speedup"] > 1


def test_int8_files_are_8_bits_run_and_say_so(mixed):
    out, front = mixed
    for candidate in front["candidates"]:
        path = out / candidate["artifact"]["path"]
        model = onnx.load(path)
        operators = {node.op_type for node in model.graph.node}
        assert ("MatMulInteger" in operators or not any(candidate["shape"]["heads"])) or candidate[
            "precision"
        ] == "fp32"
        assert {p.key: p.value for p in model.metadata_props}["precision"] == candidate["precision"]
        ids = np.ones((2, 5), dtype=np.int64)
        session = onnxruntime.InferenceSession(path)
        answers = session.run(None, {i.name: ids for i in session.get_inputs()})
        assert all(np.isfinite(answer).all() for answer in answers)
        assert (path.name == "model.int8.onnx") == (candidate["precision"] == "int8")
        assert (path.parent / "model.onnx").is_file()


def test_the_metric_of_an_int8_network_is_that_of_its_file(mixed, place):
    """Mean cosine on the test split, from the file alone and the tokenizer beside it."""
    from transformers import AutoTokenizer

    from compiler.tasks import read_data

    out, front = mixed
    split = read_data(str(place / "texts.txt"), seed=0).test
    embeddings = []
    for net in (front["dense"], next(c for c in front["candidates"] if c["precision"] == "int8")):
        tokenizer = AutoTokenizer.from_pretrained(out / net["id"])
        session = onnxruntime.InferenceSession(out / net["artifact"]["path"])
        names = [i.name for i in session.get_inputs()]
        rows = []
        for (text,) in split.texts:
            inputs = tokenizer(text, return_tensors="np")
            rows.append(session.run(None, {name: inputs[name].astype(np.int64) for name in names})[-1][0])
        embeddings.append(np.stack(rows) / np.linalg.norm(rows, axis=1, keepdims=True))
    found = (embeddings[0] * embeddings[1]).sum(axis=1).mean()
    assert found == pytest.approx(net["metric"]["test"], abs=0.01)  # activations share one range a batch
    assert found < 0.99999


def test_candidates_csv_names_the_precision(mixed):
    out, _ = mixed
    rows = list(csv.DictReader((out / "candidates.csv").open(encoding="utf-8")))
    assert {row["precision"] for row in rows} == {"fp32", "int8"}
    shapes = [(row["heads"], row["ffn_units"], row["precision"]) for row in rows]
    assert len(set(shapes)) == len(shapes)


def test_int8_alone_still_has_the_fp32_model_as_its_baseline(place):
    done, out = run(place, "int8", target="null:int8")
    assert done.code == 0, done.err
    front = json.loads((out / "front.json").read_text(encoding="utf-8"))
    assert {c["precision"] for c in front["candidates"]} == {"int8"}
    assert front["dense"]["precision"] == "fp32"
    assert min(c["speedup"] for c in front["candidates"]) > 1


# --- static int8


@pytest.fixture(scope="module")
def static(place):
    done, out = run(place, "static", "--precision", "fp32,int8-static")
    assert done.code == 0, done.err
    return out, json.loads((out / "front.json").read_text(encoding="utf-8"))


def test_static_files_hold_pairs_with_zero_point_0_and_run(static):
    out, front = static
    quantised = [c for c in front["candidates"] if c["precision"] == "int8-static"]
    assert "dense-int8-static" in {c["id"] for c in quantised}
    for candidate in quantised:
        path = out / candidate["artifact"]["path"]
        assert path.name == "model.int8-static.onnx"
        model = onnx.load(path)
        known = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
        pairs = [n for n in model.graph.node if n.op_type in {"QuantizeLinear", "DequantizeLinear"}]
        assert pairs or not any(candidate["shape"]["heads"] + candidate["shape"]["ffn_units"])
        assert not any(known[n.input[2]].any() or known[n.input[2]].dtype != np.int8 for n in pairs)
        assert path.stat().st_size < (path.parent / "model.onnx").stat().st_size
        ids = np.ones((2, 5), dtype=np.int64)
        session = onnxruntime.InferenceSession(path)
        answers = session.run(None, {i.name: ids for i in session.get_inputs()})
        assert all(np.isfinite(answer).all() for answer in answers)
        card = (path.parent / "README.md").read_text(encoding="utf-8")
        assert "model.int8-static.onnx" in card
        assert (path.parent / "serving" / "triton" / "model" / "1" / "model.onnx").samefile(path)


def test_the_metric_of_a_static_network_is_its_own(static):
    _, front = static
    (whole,) = [c for c in front["candidates"] if c["id"] == "dense-int8-static"]
    assert 0.9 < whole["metric"]["validation"] < 0.99999
    assert whole["artifact"]["parity_max_abs_error"] > 0


def test_a_run_with_static_files_is_verified(static):
    out, _ = static
    done = call("verify", out)
    assert done.code == 0, done.err


def test_static_int8_of_a_gpu_has_a_recipe_for_explicit_pairs(place):
    done, out = run(place, "gpu", "--accept-modelled", target="a10g:int8")
    assert done.code == 0, done.err
    front = json.loads((out / "front.json").read_text(encoding="utf-8"))
    assert front["target"]["precision"] == "int8-static"
    assert {c["artifact"]["tensorrt"] for c in front["candidates"]} == {"parser-checked, engine not built"}
    folder = (out / front["candidates"][0]["artifact"]["path"]).parent
    words = shlex.split((folder / "tensorrt" / "build_engine.sh").read_text(encoding="utf-8"))
    assert "--onnx=../model.int8-static.onnx" in words
    assert "--stronglyTyped" in words
    assert not {"--int8", "--fp16", "--best", "--calib"} & {word.partition("=")[0] for word in words}
    assert "STRONGLY_TYPED" in (folder / "tensorrt" / "build_engine.py").read_text(encoding="utf-8")
    assert 'name: "tensorrt"' in (folder / "serving" / "triton" / "model" / "config.pbtxt").read_text(encoding="utf-8")
    assert "TensorrtExecutionProvider" in (folder / "serving" / "http" / "server.py").read_text(encoding="utf-8")


# --- exceptions

SUFFERS = [{"layer": 1, "piece": "ffn"}]


@pytest.fixture(scope="module")
def suffering(place):
    """A model that answers as well as any in floats: one channel is 1 for every token, and a matrix counts on that.

    The channel's weights are so large that 8 bits leave nothing of the others in that matrix.
    """
    from safetensors.torch import load_file, save_file

    folder = save_tiny(place / "suffering")
    weights = load_file(folder / "model.safetensors")
    layer = next(n for n in weights if n.endswith("layer.1.intermediate.dense.weight")).removesuffix(
        "intermediate.dense.weight"
    )
    weights[f"{layer}attention.output.LayerNorm.weight"][0] = 0.0
    weights[f"{layer}attention.output.LayerNorm.bias"][0] = 1.0
    weights[f"{layer}intermediate.dense.weight"][:, 0] += 300.0
    weights[f"{layer}intermediate.dense.bias"] -= 300.0
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    done, out = run(place, "excepted", "--precision", "fp32,int8,int8-static", model="suffering")
    assert done.code == 0, done.err
    return out, json.loads((out / "front.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("precision", ["int8", "int8-static"])
def test_a_layer_that_suffers_stays_in_fp32(suffering, precision):
    out, front = suffering
    nets = {c["id"]: c for c in front["candidates"]}
    plain, kept = nets[f"dense-{precision}"], nets[f"dense-{precision}-part"]
    assert (plain["exceptions"], kept["exceptions"]) == ([], SUFFERS)
    assert kept["error"] < 0.5 * plain["error"]
    assert plain["predicted"]["latency_ms"] < kept["predicted"]["latency_ms"]
    assert kept["predicted"]["latency_ms"] < front["dense"]["predicted"]["latency_ms"]
    assert plain["artifact"]["bytes"] < kept["artifact"]["bytes"] < front["dense"]["artifact"]["bytes"]
    model = onnx.load(out / kept["artifact"]["path"])
    assert {p.key: p.value for p in model.metadata_props}["in_fp32"] == "layer 1 ffn"
    known = {t.name: t.data_type for t in model.graph.initializer}
    floats = {n.input[1] for n in model.graph.node if n.op_type == "MatMul"} & set(known)
    assert len(floats) == 2
    assert {known[name] for name in floats} == {onnx.TensorProto.FLOAT}


def test_networks_with_and_without_exceptions_are_searched_and_told_apart(suffering):
    out, front = suffering
    rows = list(csv.DictReader((out / "candidates.csv").open(encoding="utf-8")))
    assert {row["in_fp32"] for row in rows if row["precision"] != "fp32"} == {"", "layer 1 ffn"}
    assert {row["in_fp32"] for row in rows if row["precision"] == "fp32"} == {""}
    dropped = [row for row in rows if row["ffn_units"].split()[1] == "0"]
    assert not any(row["in_fp32"] for row in dropped)
    shapes = [(row["heads"], row["ffn_units"], row["precision"], row["in_fp32"]) for row in rows]
    assert len(set(shapes)) == len(shapes)
    assert any("layer 1 ffn" in note for note in front["notes"])
    assert "layer 1 ffn in fp32" in (out / "report.html").read_text(encoding="utf-8")
    card = (out / "dense-int8-part" / "README.md").read_text(encoding="utf-8")
    assert "this network, int8, layer 1 ffn in fp32" in card
    assert call("verify", out).code == 0


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("fp17", "does not run 'fp17'"),
        ("bf16", "has no bf16"),
        ("fp32,fp32", "name each precision once"),
        (",", "name each precision once"),
    ],
)
def test_precisions_that_cannot_be_are_refused(place, asked, said):
    done, _ = run(place, "refused", "--precision", asked)
    assert done.code == 2
    assert said in " ".join(done.message)
    assert len(done.message) <= 2


def test_too_few_texts_for_ranges_are_refused(place):
    few = write_texts(place / "few.txt", 10)
    done, _ = run(place, "few", "--data", few, "--precision", "fp32,int8-static")
    assert done.code == 2
    assert "7 texts are too few, 16 are the least" in " ".join(done.message)
    assert len(done.message) == 2
