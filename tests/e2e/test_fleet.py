"""`compile fleet` on the null device: planned, run, resumed; what models and devices share is made once."""

import json

import pytest

from compiler.pipeline import measuring, ranking
from compiler.pipeline.run import compile_each
from targets.errors import TargetError
from tests.cli import call, write_texts
from tests.tiny import save_tiny

TEXT = """
include = ["common.toml"]
[[entry]]
name = "a"
model = "enc-a"
budgets = [{ min_speedup = "1.05x" }, { name = "tight", max-latency = "1us" }]
[[entry]]
name = "b"
model = "enc-b"
effort = "fast"
[[entry]]
name = "lost"
model = "./gone"
targets = "null"
"""
COMMON = """
[defaults]
targets = ["null", "a10g"]
runtime = "null"
data = "texts.txt"
seq-len = 32
evaluations = 24
winners = 3
"""
NAMES = ["a-null-min-speedup-1.05x", "a-null-tight", "a-a10g-min-speedup-1.05x", "a-a10g-tight", "b-null", "b-a10g"]


class Desk:
    def __init__(self, root):
        self.root = root
        save_tiny(root / "enc-a")
        save_tiny(root / "enc-b", seed=1)
        write_texts(root / "texts.txt")
        (root / "fleet.toml").write_text(TEXT, encoding="utf-8")
        (root / "common.toml").write_text(COMMON, encoding="utf-8")

    def call(self, *arguments, out="out"):
        return call(
            "fleet", self.root / "fleet.toml", "--out", self.root / out, "--cache", self.root / "cache", *arguments
        )

    def read(self, out="out"):
        rows = json.loads((self.root / out / "fleet.json").read_text(encoding="utf-8"))["entries"]
        return {row["name"]: row for row in rows}

    def edit(self, old, new):
        path = self.root / "fleet.toml"
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new), encoding="utf-8")


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    return Desk(tmp_path_factory.mktemp("fleet"))


@pytest.fixture(autouse=True)
def no_fresh_export(monkeypatch):
    monkeypatch.setattr("compiler.pipeline.stages.export.compare_with_fresh_export", lambda *_: 0.0)
    monkeypatch.setattr("compiler.fleet.campaign.BACK_OFF_S", 0.01)


@pytest.fixture
def counted(monkeypatch):
    """How often the expensive stages really run, and which entries are compiled."""
    counts = {"calibrate": 0, "measure_table": 0, "jobs": []}

    def counting(module, name):
        inner = getattr(module, name)

        def count(*arguments, **options):
            counts[name] += 1
            return inner(*arguments, **options)

        monkeypatch.setattr(module, name, count)

    def compiled(each, store, monitor):
        counts["jobs"].append([options.out.name for options in each])
        return compile_each(each, store, monitor)

    counting(ranking, "calibrate")
    counting(measuring, "measure_table")
    monkeypatch.setattr("compiler.fleet.campaign.compile_each", compiled)
    return counts


def test_a_dry_run_writes_nothing(desk):
    done = desk.call("--dry-run", "--json")
    assert done.code == 0, done.err
    plan = json.loads(done.out)
    assert plan["counts"] == {"missing": 7}
    assert (plan["jobs"], plan["rankings_to_make"]) == (4, 3)
    assert plan["entries"][-1]["why"].startswith("model ")
    assert not (desk.root / "out").exists()
    assert "lost-null" in desk.call("--dry-run").out


def test_one_start_does_all_but_what_cannot_be_done(desk, counted):
    done = desk.call("--quiet")
    assert done.code == 1, done.err
    assert "7 entries: 3 done, 3 missed budget, 1 failed" in done.out
    rows = desk.read()
    assert list(rows) == [*NAMES, "lost-null"]
    assert rows["lost-null"]["error"].startswith("no model folder at")
    assert rows["a-null-tight"]["status"] == "missed budget"
    front = json.loads((desk.root / "out" / NAMES[0] / "front.json").read_text(encoding="utf-8"))
    assert rows[NAMES[0]]["chosen"]["id"] == front["best"]
    assert rows[NAMES[0]]["budget"] == "met"
    page = (desk.root / "out" / "fleet.html").read_text(encoding="utf-8")
    assert all(f'href="{name}/report.html"' in page for name in (NAMES[0], "b-null", "b-a10g"))
    assert counted["jobs"] == [[NAMES[0], NAMES[2]], [NAMES[1], NAMES[3]], NAMES[4:], ["lost-null"]]
    assert counted["calibrate"] == 2  # one a model, whatever targets and budgets
    assert counted["measure_table"] == 3  # null in fp32, a10g in fp32 and fp16: both models have one architecture


def test_a_second_start_tries_only_what_failed(desk, counted):
    before = desk.read()
    done = desk.call("--quiet", "--json")
    assert done.code == 1
    assert counted["jobs"] == [["lost-null"]]
    rows = {row["name"]: row for row in json.loads(done.out)["entries"]}
    assert {name: rows[name] for name in NAMES} == {name: before[name] for name in NAMES}


def test_an_edited_entry_and_no_other_is_run_again(desk, counted):
    desk.edit('[[entry]]\nname = "lost"\nmodel = "./gone"\ntargets = "null"\n', "")
    desk.edit('effort = "fast"', 'effort = "fast"\nwinners = 1')
    assert desk.call("--quiet").code == 4  # budgets that nothing meets are still missed
    assert counted["jobs"] == [["b-null", "b-a10g"]]
    assert counted["calibrate"] == 0
    assert desk.call("--quiet").code == 4
    assert counted["jobs"] == [["b-null", "b-a10g"]]


def test_a_busy_device_is_tried_again(desk, monkeypatch):
    desk.edit("winners = 1", "winners = 2")
    desk.edit('{ name = "tight", max-latency = "1us" }', "")
    desk.edit('min_speedup = "1.05x"', "max-drop = 0.9")
    failures = [TargetError("the device is busy")] * 3

    def fails_at_first(each, store, monitor):
        if failures and each[0].out.name.startswith("b-"):
            raise failures.pop()
        return compile_each(each, store, monitor)

    monkeypatch.setattr("compiler.fleet.campaign.compile_each", fails_at_first)
    done = desk.call()
    assert done.code == 0, done.err
    assert "tried again in" in done.err
    assert failures == []
    rows = desk.read()
    assert {row["status"] for row in rows.values()} == {"done"}
    assert max(row["tries"] for row in rows.values()) == 2


def test_bad_files_end_in_one_message(desk):
    path = desk.root / "bad.toml"
    for text, said in (
        ("[[entry]]\nname = 'x'\nmodle = 'y'\n", "did you mean 'model'"),
        ("include = ['bad.toml']", "include each other"),
    ):
        path.write_text(text, encoding="utf-8")
        done = call("fleet", path, "--out", desk.root / "bad")
        assert done.code == 2
        assert said in done.err
        assert len(done.message) <= 3
    assert not (desk.root / "bad").exists()
