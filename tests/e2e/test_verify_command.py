"""`compile verify`: a run that holds, runs that were tampered with, and a run whose device has come."""

import json
import shutil
from hashlib import sha256

import onnx
import pytest
import torch
from safetensors.torch import load_file, save_file

from compiler.report.manifest import refresh
from profilers.runtimes.placement import CPU
from tests.cli import call, write_texts
from tests.tiny import save_tiny

LIMIT = {"max_latency_ms": 1e4, "min_speedup": 0.01}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    root = tmp_path_factory.mktemp("verify")
    done = call(
        save_tiny(root / "encoder"), "--data", write_texts(root / "texts.txt"), "--target", "null", "--seq-len", 32,
        "--evaluations", 24, "--winners", 2, "--cache", root / "cache", "--out", root / "out", "--quiet",
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
    refresh(run, ["front.json"])


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
    assert passed == {("all", "list"), ("all", "best")} | {
        (net, what) for net in nets for what in ("files", "code", "file", "graph", "attention", "parity", "libraries")
    }
    (untimed,) = (check for check in found["checks"] if check["passed"] is None)
    assert "no clock" in untimed["detail"]
    assert found["passed"]
    assert found["timings"] == []
    shown = call("verify", run)
    assert shown.code == 0
    assert "parity" in shown.out
    digest = sha256((run / "manifest.json").read_bytes()).hexdigest()
    assert f"sha256 {digest}" in shown.out
    assert found["manifest_sha256"] == digest
    assert call("verify", run, "--no-timing", "--manifest-sha256", digest.upper()).code == 0


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
    assert failed(found) == {(net, "file"), (net, "files")}
    assert len(done.message) <= 3
    assert f"{net}: file: {net}/model.onnx is not the file that was written" in done.err


def test_a_missing_file_is_found_and_the_others_are_still_checked(run):
    (run / "dense" / "model.onnx").unlink()
    done, found = verified(run)
    assert done.code == 5
    assert failed(found) == {("dense", "file"), ("dense", "files")}
    assert all(check["passed"] for check in found["checks"] if check["net"] not in {"dense", "all"})


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("subnet.json", None, "no readable subnet.json"),
        ("subnet.json", '{"schema": 99}', "has schema 99"),
        ("config.json", "{", "config.json is not JSON"),
        ("model.safetensors", None, "the weights are not those of subnet.json"),
        ("tokenizer.json", None, "no tokenizer"),
        ("config.json", None, "config.json"),
        ("config.json", "[" * 100_000, "config.json"),
        ("config.json", '{"model_type": "bert", "num_hidden_layers": "x"}', ""),
        ("subnet.json", '{"schema": 1, "task": "embedding", "base": "x", "heads": 1, "units": null}', "subnet.json"),
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
    assert failed(found) == {(net, "parity"), (net, "files")}
    assert message in done.err
    assert len(done.message) <= 3
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
    assert f"front.json: {place}: " in done.err
    assert len(done.message) <= 2
    assert "Traceback" not in done.err


def tamper(run, name, content):
    (run / name).parent.mkdir(parents=True, exist_ok=True)
    (run / name).write_text(content, encoding="utf-8")


@pytest.mark.parametrize("name", ["modeling_subnet.py", "serving/http/server.py", "README.md", "serving/README.md"])
def test_a_file_that_was_changed_is_found(run, name):
    tamper(run, f"dense/{name}", "import os\n")
    done, found = verified(run)
    assert done.code == 5
    assert failed(found) == {("dense", "files"), *([("dense", "code")] if name.endswith(".py") else [])}
    assert f"dense/{name} was changed" in done.err


@pytest.mark.parametrize("name", ["modeling_subnet.py", "serving/http/server.py"])
def test_code_that_was_changed_together_with_the_list_is_found(run, name):
    digest = sha256((run / "manifest.json").read_bytes()).hexdigest()
    tamper(run, f"dense/{name}", "import os\n")
    refresh(run, [f"dense/{name}"])
    done, found = verified(run, "--manifest-sha256", digest)
    assert done.code == 5
    assert failed(found) == {("dense", "code"), ("all", "list")}
    assert f"{name} is not what paretoc writes" in done.err


def test_code_of_another_version_is_not_compared(run):
    tamper(run, "dense/modeling_subnet.py", "as an older release wrote it")
    refresh(run, ["dense/modeling_subnet.py"])
    change(run, lambda front: front["tool"].update(version="0.0.1"))
    done, found = verified(run)
    assert done.code == 0, done.err
    assert {check["passed"] for check in found["checks"] if check["what"] == "code"} == {None}


def test_a_file_that_is_not_of_the_run_is_found(run):
    net = read(run)["candidates"][0]["id"]
    tamper(run, f"{net}/serving/http/sitecustomize.py", "import os\n")
    (run / "dense" / "link").symlink_to("/etc")
    tamper(run, "notes.txt", "mine")
    done, found = verified(run)
    assert done.code == 5
    assert failed(found) == {(net, "files"), ("dense", "files")}
    assert f"{net}/serving/http/sitecustomize.py is not of this run" in done.err


@pytest.mark.parametrize("kind", ["another", "outside", "folder"])
def test_what_users_deploy_is_the_network_that_was_chosen(run, kind):
    (run / "best").unlink()
    if kind == "folder":
        shutil.copytree(run / "dense", run / "best")
    else:
        (run / "best").symlink_to("dense" if kind == "another" else "/etc")
    done, found = verified(run)
    assert done.code == 5
    assert failed(found) == {("all", "best")}


@pytest.mark.parametrize("name", ["candidates.csv", "run.json", "report.html"])
def test_a_file_of_the_run_itself_that_was_changed_is_found(run, name):
    (run / name).write_bytes((run / name).read_bytes() + b" ")
    assert failed(verified(run)[1]) == {("all", "list")}


def test_a_link_to_the_very_file_is_found(run, tmp_path):
    path = run / "dense" / "tokenizer.json"
    path.rename(tmp_path / "tokenizer.json")
    path.symlink_to(tmp_path / "tokenizer.json")
    assert ("dense", "files") in failed(verified(run)[1])


@pytest.mark.parametrize(
    "content",
    ["{", "[]", '{"schema": 9}', '{"schema": 1, "files": {"../x": {"bytes": 1}}}', '{"schema": 1, "files": 3}'],
)
def test_a_list_that_is_damaged_fails(run, content):
    tamper(run, "manifest.json", content)
    done, found = verified(run)
    assert done.code == 5
    assert failed(found) == {("all", "list")}


def test_a_list_that_leaves_a_network_out_fails(run):
    manifest = json.loads((run / "manifest.json").read_text())
    files = {name: digest for name, digest in manifest["files"].items() if not name.startswith("dense/")}
    tamper(run, "manifest.json", json.dumps({**manifest, "files": files}))
    assert failed(verified(run)[1]) == {("dense", "files")}


def test_a_run_of_an_older_release_has_no_list_and_holds(run):
    (run / "manifest.json").unlink()
    assert failed(verified(run)[1]) == {("all", "list")}
    (run / ".paretoc-run").unlink()
    done, found = verified(run)
    assert done.code == 0, done.err
    assert found["manifest_sha256"] is None
    assert any("no manifest.json" in check["detail"] for check in found["checks"])
    done, _ = verified(run, "--manifest-sha256", "0" * 64)
    assert done.code == 5


def test_a_hash_that_is_none_is_refused(run):
    done = call("verify", run, "--manifest-sha256", "abc")
    assert done.code == 2
    assert "64 hexadecimal digits" in done.message[0]


def test_a_report_that_is_built_again_is_listed(run):
    tamper(run, "report.html", "")
    assert call("report", run).code == 0
    assert verified(run)[0].code == 0


def test_a_graph_that_computes_something_else_is_found(run):
    net = read(run)["candidates"][-1]["id"]
    path = run / net / "model.safetensors"
    weights = load_file(path)
    name = next(name for name in weights if name.endswith("word_embeddings.weight"))
    save_file(weights | {name: weights[name] + torch.randn_like(weights[name])}, path)
    done, found = verified(run)
    assert done.code == 5
    assert failed(found) == {(net, "parity"), (net, "files")}
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
    assert failed(verified(run)[1]) == {(net["id"], "graph"), (net["id"], "files")}


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
    assert verified(run, "--no-timing")[0].code == 0  # the list has the files as they are now


def test_a_run_in_which_something_fails_keeps_its_predictions(run):
    change(run, predicted)
    net = read(run)["candidates"][0]["id"]
    (run / net / "model.onnx").unlink()
    before = (run / "front.json").read_bytes()
    done, found = verified(run)
    assert done.code == 5
    assert (net, "file") in failed(found)
    assert (run / "front.json").read_bytes() == before


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
