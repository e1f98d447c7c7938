"""Structure and precision in one search, on the null device: what is found, written and said."""

import csv
import json

import numpy as np
import onnx
import onnxruntime
import pytest

from tests.cli import call, write_texts
from tests.tiny import save_tiny


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    root = tmp_path_factory.mktemp("precision")
    save_tiny(root / "model")
    write_texts(root / "texts.txt")
    return root


def run(place, name, *arguments, target="null"):
    out = place / name
    done = call(
        place / "model", "--data", place / "texts.txt", "--target", target, "--cache", place / "cache", "--out", out,
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

    from compiler.data import read_data

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
