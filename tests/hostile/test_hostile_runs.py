"""Bad runs, graphs and caches: the verbs that read what a run wrote; and that the rule for outcomes can fail."""

from dataclasses import replace

import pytest

from tests.hostile.campaign import campaign, check
from tests.hostile.cases import Case
from tests.hostile.edits import Edit
from tests.hostile.hooks import REACHED
from tests.hostile.oracle import failure
from tests.hostile.strategies import cases
from tests.hostile.worker import Outcome


@pytest.mark.timeout(600)
def test_bad_runs_graphs_and_caches_are_refused_in_three_lines(tmp_path, seeds):
    found = campaign(tmp_path, seeds, "verify,report,diff,bench,cache,targets,doctor,worker", 500)
    check(found)
    assert found["inputs"] >= 475


CASE = Case(verb="compile", part="model", base="encoder", edits=(Edit("fill-nan", "model/model.safetensors", 0),))
REFUSED = Outcome(
    code=2, why="", reading=False, error="", out="", err="load: 0.1 s\nerror: weights hold NaN\n", trace="", touched=(), seconds=0.1,
    most_bytes=0,
)  # fmt: skip


def test_a_refusal_is_right():
    assert failure(CASE, REFUSED) is None


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"code": 0}, "accepted"),
        ({"code": REACHED}, "accepted"),
        ({"code": 1}, "exit 1"),
        ({"code": 70}, "exit 70"),
        ({"code": None, "why": "time"}, "time"),
        ({"code": None, "why": "memory"}, "memory"),
        ({"code": None, "why": "signal 11"}, "signal 11"),
        (
            {"error": "KeyError", "trace": 'File "/x/compiler/a.py", line 3, in f\nKeyError: 1'},
            "traceback: compiler/a.py:f: KeyError",
        ),
        ({"err": "Traceback (most recent call last):\nerror: x\n"}, "traceback"),
        ({"err": "no such thing\n"}, "without a message"),
        ({"err": "error: a\nb\nc\nd\n"}, "4 lines"),
        ({"err": f"error: {'a' * 501}\n"}, "over 500"),
        ({"err": "error: \x1b[31mred\n"}, "unprintable"),
        ({"out": "\x07"}, "unprintable"),
        ({"touched": ("canary: changed home/notes.txt",)}, "touched: canary"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_the_rule_sees_what_is_wrong(changed, said):
    assert said in str(failure(CASE, replace(REFUSED, **changed)))


def test_a_seed_gives_the_same_inputs_again():
    assert cases(30, 5, ("compile", "verify")) == cases(30, 5, ("compile", "verify"))
    assert cases(30, 5, ("compile",)) != cases(30, 6, ("compile",))
