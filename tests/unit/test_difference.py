"""`compile diff`: two fronts by hand."""

import copy
import json

import pytest

from compiler.report.difference import check_difference, compare_runs
from targets.errors import InputError, VerificationError
from tests.cli import call
from tests.report_sample import sample_front


def chosen(front):
    return next(c for c in front["candidates"] if c["id"] == front["best"])


@pytest.fixture
def before():
    front = copy.deepcopy(sample_front())
    chosen(front).update(speedup=2.0, speedup_interval=[1.9, 2.1])
    chosen(front)["metric"]["validation"] = 0.9
    return front


@pytest.fixture
def after(before):
    return copy.deepcopy(before)


def test_equal_runs_differ_in_nothing(before, after):
    found = compare_runs(before, after, slower=0.0, worse=0.0)
    assert (found["unlike"], found["failures"]) == ([], [])
    assert {figure["change"] for figure in found["figures"]} <= {0.0, None}
    check_difference(found)


def test_changes_are_relative_to_the_first(before, after):
    chosen(after)["artifact"]["bytes"] = chosen(before)["artifact"]["bytes"] * 2
    chosen(after)["metric"]["test"] = None
    figures = {figure["name"]: figure for figure in compare_runs(before, after)["figures"]}
    assert figures["file bytes"]["change"] == 1.0
    assert next(figure for name, figure in figures.items() if name.endswith("(test)"))["change"] is None


@pytest.mark.parametrize(("interval", "limit", "fails"), [
    ([1.7, 1.95], 0.0, False),  # they overlap
    ([1.7, 1.85], 0.0, True),
    ([1.7, 1.85], 0.03, False),  # 1.85 * 1.03 is above 1.9
    ([1.7, 1.80], 0.03, True),
])  # fmt: skip
def test_slower_means_beyond_both_intervals_and_the_allowance(before, after, interval, limit, fails):
    chosen(after).update(speedup=1.75, speedup_interval=interval)
    found = compare_runs(before, after, slower=limit)
    assert bool(found["failures"]) == fails
    if fails:
        with pytest.raises(VerificationError, match=r"1\.75x the dense model's speed, 2\.00x before"):
            check_difference(found)


def test_worse_is_held_against_validation(before, after):
    chosen(after)["metric"]["validation"] = 0.88
    assert compare_runs(before, after, worse=0.03)["failures"] == []
    assert "0.8800 on validation, 0.9000 before" in compare_runs(before, after, worse=0.01)["failures"][0]


def test_what_cannot_be_compared_fails_a_gate_and_is_named(before, after):
    chosen(after).update(speedup=None)
    chosen(after)["metric"]["name"] = after["metric"]["name"] = "spearman"
    after["workload"]["batch"] = 8
    after["target"]["name"] = "a10g"
    found = compare_runs(before, after, slower=0.1, worse=0.1)
    assert len(found["failures"]) == 2
    assert [line.split(":")[0] for line in found["unlike"]] == ["target", "metric", "workload"]


def test_a_run_that_chose_nothing_is_refused(before, after):
    after["best"] = None
    with pytest.raises(InputError, match="the second run has chosen no network"):
        compare_runs(before, after)


def test_the_command_prints_both_and_exits_5_where_it_fails(tmp_path, before, after):
    chosen(after)["metric"]["validation"] = 0.5
    for name, front in (("old", before), ("new", after)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "front.json").write_text(json.dumps(front), encoding="utf-8")
    shown = call("diff", tmp_path / "old", tmp_path / "new")
    assert shown.code == 0
    assert "file bytes" in shown.out
    gated = call("diff", tmp_path / "old", tmp_path / "new", "--fail-if-worse", "1%", "--json")
    assert gated.code == 5
    assert json.loads(gated.out)["failures"]
    assert call("diff", tmp_path / "old", tmp_path).code == 2
