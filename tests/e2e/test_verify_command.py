"""`compile verify`: a run that holds, runs that were tampered with, and a run whose device has come."""

import json
import shutil

import onnx
import pytest
import torch
from safetensors.torch import load_file, save_file

from profilers.runtimes.placement import CPU
from tests.cli import call, write_texts
from tests.tiny import save_tiny

LIMIT = {"max_latency_ms": 1e4, "min_speedup": 0.01}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    root = tmp_path_factory.mktemp("verify")
    done = call(
        save_tiny(root / "encoder"), "--data", write_texts(root / "texts.txt"), "--target", "null", "--seq-len", 32,
        "--evaluations", 24, "--winners", 3, "--cache", root / "cache", "--out", root / "out", "--quiet",
    )  # fmt: skip
    assert done.code == 0, done.err
    return root / "out"


@pytest.fixture
def run(finished, tmp_path):
    """A copy to spoil."""
    return shutil.copytree(finished, tmp_path / "run", symlinks=True)


def read(run):
    return json.loads((run / "front.json").read_text(encoding="utf-8"))


def change(run, edit):
    front = read(run)
    edit(front)
    (run / "front.json").write_text(json.dumps(front), encoding="utf-8")


def verified(run, *flags):
    done = call("verify", run, "--json", *flags)
    return done, json.loads(done.out)


def failed(found):
    return {(check["net"], check["what"]) for check in found["checks"] if check["passed"] is False}


def test_a_run_holds(run):
    done, found = verified(run)
    assert done.code == 0, done.err
    front = read(run)
    nets = {front["dense"]["id"], *(c["id"] for c in front["candidates"])}
    passed = {(check["net"], check["what"]) for check in found["checks"] if check["passed"]}
    assert passed == {(net, what) for net in nets for what in ("file", "graph", "attention", "parity")}
    (untimed,) = (check for check in found["checks"] if check["passed"] is None)
    assert "no clock" in untimed["detail"]
    assert found["passed"]
    assert found["timings"] == []
    shown = call("verify", run)
    assert shown.code == 0
    assert "parity" in shown.out


def test_a_network_that_its_runtime_converts_is_held_to_its_float_file(run):
    change(run, lambda front: front["candidates"][0].update(precision="bf16"))
    done, found = verified(run)
    assert done.code == 0, done.err
    assert found["passed"]


def test_other_bytes_are_found(run):
    net = read(run)["candidates"][0]["id"]
    path = run / net / "model.onnx"
    path.write_bytes(path.read_bytes() + b"\0")
    done, found = verified(run)
    assert done.code == 5
    assert failed(found) == {(net, "file")}
    assert f"{net}: file: {net}/model.onnx is not the file that was written" in done.err


def test_a_missing_file_is_found_and_the_others_are_still_checked(run):
    (run / "dense" / "model.onnx").unlink()
    done, found = verified(run)
    assert done.code == 5
    assert failed(found) == {("dense", "file")}
    assert all(check["passed"] for check in found["checks"] if check["net"] not in {"dense", "all"})


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("subnet.json", None, "no readable subnet.json"),
        ("subnet.json", '{"schema": 99}', "has schema 99"),
        ("config.json", "{", "config.json cannot be read"),
        ("model.safetensors", None, "the weights are not those of subnet.json"),
        ("tokenizer.json", None, "no tokenizer"),
    ],
)
def test_a_checkpoint_that_is_not_whole_is_found(run, name, content, message):
    net = read(run)["candidates"][0]["id"]
    path = run / net / name
    path.unlink()
    if content is not None:
        path.write_text(content, encoding="utf-8")
    done, found = verified(run)
    assert done.code == 5
    assert failed(found) == {(net, "parity")}
    assert message in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize(
    ("edit", "place"),
    [
        (lambda front: front["candidates"][1].pop("artifact"), "candidates[1].artifact"),
        (lambda front: front["dense"]["metric"].update(validation="0.9"), "dense.metric.validation"),
        (lambda front: front.update(workload=None), "workload"),
    ],
)
def test_a_front_that_was_edited_is_refused(run, edit, place):
    change(run, edit)
    done = call("verify", run)
    assert done.code == 2
    assert f"{place} is missing or no such value" in done.err
    assert len(done.message) <= 2
    assert "Traceback" not in done.err


def test_a_graph_that_computes_something_else_is_found(run):
    net = read(run)["candidates"][-1]["id"]
    path = run / net / "model.safetensors"
    weights = load_file(path)
    name = next(name for name in weights if name.endswith("word_embeddings.weight"))
    save_file(weights | {name: weights[name] + torch.randn_like(weights[name])}, path)
    done, found = verified(run)
    assert done.code == 5
    assert failed(found) == {(net, "parity")}
    assert "differs from PyTorch" in done.err


def test_a_graph_of_another_network_is_found(run):
    net = read(run)["candidates"][0]
    path = run / net["artifact"]["path"]
    other = {"heads": net["shape"]["heads"], "ffn_units": [units + 8 for units in net["shape"]["ffn_units"]]}
    change(run, lambda front: front["candidates"][0].update(shape=other))
    assert failed(verified(run)[1]) == {(net["id"], "parity")}
    graph = onnx.load(path)
    graph.graph.node[0].op_type = "NoSuchOperator"
    onnx.save(graph, path)
    from compiler.export import sha256_of

    change(run, lambda front: front["candidates"][0]["artifact"].update(sha256=sha256_of(path)))
    assert failed(verified(run)[1]) == {(net["id"], "graph")}


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "is missing"), ("[1]", "holds a list"), ("{", "is not JSON"), ('{"schema": 99}', "has schema 99")],
)
def test_what_is_no_run_of_this_version_is_refused(tmp_path, content, message):
    if content is not None:
        (tmp_path / "front.json").write_text(content, encoding="utf-8")
    done = call("verify", tmp_path)
    assert done.code == 2
    assert message in done.message[0]


def predicted(front):
    """As if it had been compiled elsewhere for this CPU."""
    front["target"].update(name="cpu", present=False)
    front["workload"].update(runtime="onnxruntime")
    for net in (front["dense"], *front["candidates"]):
        net.update(measured=None, speedup=None, speedup_interval=None, budget={"status": "predicted", "limits": LIMIT})


@pytest.fixture(autouse=True, scope="module")
def small_peak():
    """A peak of a second is not what is tested here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("profilers.peak._SIDES", {"cpu": (256,)})
        patch.setattr("profilers.peak._COPY_BYTES", {"cpu": 1 << 20})
        yield


def test_on_the_device_a_prediction_becomes_a_measurement(run, monkeypatch):
    hot = {"mode": CPU, "warnings": ["it was hot"]}
    monkeypatch.setattr("profilers.runtimes.onnx_runtime.CpuRuntime.describe", lambda _: hot)
    change(run, predicted)
    done, found = verified(run)
    assert done.code == 0, done.err
    front = read(run)
    for net in (front["dense"], *front["candidates"]):
        assert net["measured"]["latency_ms"]["p50"] > 0
        assert net["measured"]["samples"] > 10
        assert net["budget"]["status"] == "met"
        assert net["roofline_share"] > 0
    assert front["peak"] == found["peak"]
    assert all(timing["roofline_share"] > 0 for timing in found["timings"])
    assert found["notes"] == ["it was hot"]
    assert "it was hot" in front["notes"]
    assert front["dense"]["speedup"] == pytest.approx(1, rel=0.3)
    assert {timing["net"] for timing in found["timings"]} == {"dense", *(c["id"] for c in front["candidates"])}
    assert "measured by compile verify, after the run" in (run / "report.html").read_text(encoding="utf-8")


def test_a_budget_that_does_not_hold_on_the_device_fails(run):
    change(run, predicted)
    net = read(run)["candidates"][0]["id"]
    change(run, lambda front: front["candidates"][0]["budget"].update(limits={"max_latency_ms": 1e-6}))
    done, found = verified(run)
    assert done.code == 5
    assert failed(found) == {(net, "budget")}
    assert "allowed 1e-06" in done.err
    assert read(run)["candidates"][0]["budget"]["status"] == "missed"


def test_timing_can_be_left_out(run):
    change(run, predicted)
    done, found = verified(run, "--no-timing")
    assert done.code == 0
    assert found["timings"] == []
    assert read(run)["dense"]["measured"] is None
