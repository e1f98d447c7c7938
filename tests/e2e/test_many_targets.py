"""Several targets in one run: trained once, searched for each, compared by each one's own table."""

import csv
import json
import os
import shutil

import pytest

from compiler.costing import CostModel
from compiler.evaluation import Yardstick
from compiler.pipeline import ranking, training, weights
from compiler.spaces import Counts
from profilers import CostTable, LayerSizes
from targets import load_catalog
from tests.cli import call, classes, write_rows, write_texts
from tests.tiny import save_tiny

FEW = ("--seq-len", 32, "--evaluations", 24, "--winners", 3, "--quiet")
NULL, ABSENT = "null", "a10g"


class Desk:
    """A model, data and a cache; every call counts what is trained and what is calibrated on."""

    def __init__(self, root):
        self.root, self.cache = root, root / "cache"
        self.model = save_tiny(root / "encoder")
        self.texts = write_texts(root / "texts.txt")
        self.rows = write_rows(root / "classes.csv", classes())
        self.table = root / "a10g.json"
        arguments = ("--target", ABSENT, "--runtime", "null", "--model", self.model, "--seq-len", 32, "-o", self.table)
        assert call("profile", *arguments).code == 0

    def call(self, out, *arguments, targets=(NULL, ABSENT), data=None, model=None):
        flags = [flag for target in targets for flag in ("--target", target)]
        return call(
            model or self.model, "--data", data or self.texts, *flags, "--cache", self.cache, "--out", self.root / out,
            *FEW, *arguments,
        )  # fmt: skip

    def read(self, out, name="targets.json"):
        return json.loads((self.root / out / name).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    return Desk(tmp_path_factory.mktemp("targets"))


@pytest.fixture(autouse=True)
def no_fresh_export(monkeypatch):
    monkeypatch.setattr("compiler.pipeline.stages.export.compare_with_fresh_export", lambda *_: 0.0)


DRAWN = ("--search", "nsga2")
"""A search that draws: so small a model has one exact front for both targets, and no network would be misplaced."""


@pytest.fixture(scope="module")
def both(desk):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("compiler.pipeline.stages.export.compare_with_fresh_export", lambda *_: 0.0)
        done = desk.call("both", *DRAWN, "--table", desk.table, "--json")
    assert done.code == 0, done.err
    return done


@pytest.fixture
def counted(monkeypatch):
    """How often the expensive stages really run."""
    counts = dict.fromkeys(("train_supernet", "fine_tune", "calibrate", "polish"), 0)

    def counting(module, name):
        inner = getattr(module, name)

        def count(*arguments, **options):
            counts[name] += 1
            return inner(*arguments, **options)

        monkeypatch.setattr(module, name, count)

    for module, name in (
        (training, "train_supernet"),
        (training, "fine_tune"),
        (ranking, "calibrate"),
        (weights, "polish"),
    ):
        counting(module, name)
    return counts


def test_each_target_has_a_run_of_its_own_and_one_object_says_both(desk, both):
    assert json.loads(both.out) == desk.read("both")
    for target in (NULL, ABSENT):
        front = desk.read("both", f"{target}/front.json")
        assert front["target"]["name"] == target
        page = (desk.root / "both" / target / "report.html").read_text(encoding="utf-8")
        assert front["best"] in page
    assert not (desk.root / "both" / "front.json").exists()
    assert desk.read("both", f"{ABSENT}/front.json")["target"]["present"] is False


def test_a_run_of_many_gives_each_what_a_run_alone_gives(desk, both):  # noqa: ARG001
    assert desk.call("alone", *DRAWN, targets=[NULL]).code == 0
    alone, among = desk.read("alone", "front.json"), desk.read("both", f"{NULL}/front.json")
    assert [c | {"grid": []} for c in alone["candidates"]] == [c | {"grid": []} for c in among["candidates"]]
    assert alone["best"] == among["best"]


def test_misplaced_networks_are_costed_by_the_table_of_the_target_they_stand_on(desk, both):  # noqa: ARG001
    """The table read off its file and the evaluated networks off candidates.csv: nothing of the run's own arithmetic."""
    found = desk.read("both")
    (pair,) = (m for m in found["misplaced"] if m["on"] == ABSENT)
    of = desk.read("both", f"{NULL}/front.json")
    shape = next(c for c in of["candidates"] if c["id"] == of["best"])["shape"]
    table = CostTable.read(desk.table)
    (asked,) = (w for w in table.workloads() if w.precision == pair["precision"])
    stack = tuple(map(LayerSizes, shape["heads"], shape["ffn_units"]))
    expected_ms = 1e3 * float(CostModel.of(table, asked).latency_s(Counts.of([stack]))[0])
    assert pair["stranger"]["predicted_ms"] == pytest.approx(expected_ms)
    rows = list(csv.DictReader((desk.root / "both" / ABSENT / "candidates.csv").open(encoding="utf-8")))
    metric = pair["stranger"]["metric"]
    as_good = [float(r["latency_ms"]) for r in rows if 1 - float(r["error"]) >= metric - 1e-6]
    as_fast = [1 - float(r["error"]) for r in rows if float(r["latency_ms"]) <= expected_ms * (1 + 1e-9)]
    assert pair["slower"] == pytest.approx(expected_ms / min(*as_good, expected_ms) - 1, abs=1e-4)
    assert pair["worse"] == pytest.approx(max(*as_fast, metric) - metric, abs=1e-5)
    assert any(m["slower"] > 0.001 for m in found["misplaced"])


def test_the_page_says_that_what_it_compares_is_predicted_and_can_be_rebuilt(desk, both):  # noqa: ARG001
    path = desk.root / "both" / "report.html"
    before = path.read_text(encoding="utf-8")
    assert "predicted by the table of the target" in before
    assert f'href="{NULL}/report.html"' in before
    path.unlink()
    assert call("report", desk.root / "both").code == 0
    assert path.read_text(encoding="utf-8") == before


def test_a_folder_of_several_runs_is_no_run_and_says_which_are_in_it(desk, both):  # noqa: ARG001
    done = call("verify", desk.root / "both")
    assert done.code == 2
    assert f"{ABSENT}, {NULL}" in " ".join(done.message)


def test_every_device_finds_its_own_sizes_in_a_super_network():
    assert {target.size_alignment % training.UNIT_STEP for target in load_catalog().values()} == {0}


def test_one_super_network_serves_every_target_and_every_budget(desk, counted):
    training_flags = ("--effort", "thorough", "--epochs", 1)
    assert desk.call("trained", *training_flags, "--accept-modelled", data=desk.rows).code == 0
    assert (counted["train_supernet"], counted["fine_tune"], counted["calibrate"]) == (1, 1, 1)
    later = desk.call("later", *training_flags, "--accept-modelled", data=desk.rows, targets=["h100"])
    assert later.code == 0, later.err
    tighter = desk.call("tighter", *training_flags, "--min-speedup", "1.2x", data=desk.rows, targets=[NULL])
    assert tighter.code == 0, tighter.err
    assert (counted["train_supernet"], counted["fine_tune"], counted["calibrate"]) == (1, 1, 1)


def test_a_super_network_of_another_model_or_space_or_half_a_file_is_not_taken(desk, counted, tmp_path):
    """Nothing is said, since nothing went wrong: what does not fit is not found, and trained."""
    flags = ("--effort", "thorough", "--epochs", 1, "--cache", tmp_path / "cache")
    assert desk.call("whole", *flags, data=desk.rows, targets=[NULL]).code == 0
    before = desk.read("whole", "front.json")
    assert desk.call("space", *flags, "--space", "small", data=desk.rows, targets=[NULL]).code == 0
    assert (counted["train_supernet"], counted["fine_tune"]) == (2, 1)
    other = save_tiny(tmp_path / "other", seed=1)
    assert desk.call("model", *flags, data=desk.rows, targets=[NULL], model=other).code == 0
    assert (counted["train_supernet"], counted["fine_tune"]) == (3, 2)
    for path in (tmp_path / "cache" / "supernet").glob("*.safetensors"):
        os.truncate(path, path.stat().st_size // 2)
    for path in (tmp_path / "cache" / "evaluated").iterdir():
        path.unlink()
    assert desk.call("whole", *flags, data=desk.rows, targets=[NULL]).code == 0
    assert counted["train_supernet"] == 4
    assert desk.read("whole", "front.json")["candidates"] == before["candidates"]


def test_what_one_target_evaluated_no_other_evaluates_again(desk, monkeypatch):
    """fp32 on one device and fp16 on the other: judged alike, so that both find each other's candidates."""
    judged = []
    inner = Yardstick.judged
    monkeypatch.setattr(Yardstick, "judged", lambda self, run: judged.append(0) or inner(self, run))
    flags = ("--accept-modelled", "--space", "layer", "--search", "local", "--cache", desk.root / "apart")
    assert desk.call("one", *flags, targets=[NULL]).code == 0
    assert judged
    judged.clear()
    assert desk.call("one", *flags, targets=[NULL]).code == 0
    assert not judged
    assert desk.call("two", *flags, targets=["l4"]).code == 0
    rows = {
        name: {(r["heads"], r["ffn_units"]) for r in csv.DictReader((desk.root / name / "candidates.csv").open())}
        for name in ("one", "two")
    }
    fresh = rows["two"] - rows["one"]
    searched = len(fresh)
    finished = len(desk.read("two", "front.json")["candidates"]) + 1
    assert len(judged) <= searched + 2 * finished
    assert searched < len(rows["two"])


def test_what_was_polished_is_not_polished_again_in_other_company(desk, counted):
    flags = ("--effort", "balanced", "--epochs", 1)
    assert desk.call("polished", *flags, "--winners", 3, targets=[NULL]).code == 0
    assert counted["polish"] == 1
    logged = (desk.root / "polished" / "training.csv").read_text()
    assert "\npolished," in logged
    assert desk.call("polished", *flags, "--winners", 2, targets=[NULL]).code == 0
    assert counted["polish"] == 1
    assert (desk.root / "polished" / "training.csv").read_text() == logged, "its losses are still told"


def test_a_missed_budget_does_not_stop_the_others(desk):
    done = desk.call("missed", "--max-latency", "0.02ms", "--accept-modelled", "--json")
    found = json.loads(done.out)
    missed = {outcome["target"]: outcome["missed"] for outcome in found["targets"]}
    assert done.code == 4
    assert sum(reason is not None for reason in missed.values()) == 1, missed
    assert "1 of 2 targets" in done.message[0]
    reached = next(name for name, reason in missed.items() if reason is None)
    assert (desk.root / "missed" / reached / "front.json").is_file()
    assert found["misplaced"] == []


@pytest.mark.parametrize(
    ("targets", "flags", "code", "said"),
    [
        ((NULL, "null:fp32"), (), 2, "twice"),
        ((NULL, "abacus"), (), 2, "abacus"),
        ((NULL, ABSENT), (), 3, "--accept-modelled"),
        ((NULL, "t4"), ("--table",), 2, "the targets are null, t4"),
        ((NULL, ABSENT), ("--table", "--table"), 2, "has a table already"),
        ((ABSENT,), ("--table", "--table"), 2, "for one target"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_trained(desk, targets, flags, code, said):
    tables = [part for flag in flags for part in (flag, desk.table)]
    done = desk.call("refused", *tables, targets=targets)
    assert done.code == code, done.err
    assert said in " ".join(done.message)
    assert 1 <= len(done.message) <= 2
    shutil.rmtree(desk.root / "refused", ignore_errors=True)
