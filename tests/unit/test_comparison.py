"""The page of several targets: escaped, complete, and clear about what was only predicted."""

import json

import pytest

from compiler.report.comparison import (
    Comparison,
    extra,
    lost,
    render_comparison,
    rewrite_comparison,
    summary,
    write_comparison,
)
from targets.errors import InputError
from tests.report_sample import sample_front

HOSTILE = "</td><b>x</b>"


def point(name, ms, metric):
    return {"id": name, "predicted_ms": ms, "metric": metric}


def found() -> Comparison:
    front = sample_front()
    c05, c08 = (next(c for c in front["candidates"] if c["id"] == name) for name in ("c05", "c08"))
    pair = {
        "same_shape": False, "precision": "fp32", "source": "roofline", "over_budget": True, "slower": 0.25, "worse": 0.012,
        "stranger": point("c05", 5.0, 0.9), "own_best": point("c08", 4.2, 0.88), "as_good": point("e1", 4.0, 0.9),
        "as_fast": point("e2", 4.9, 0.912),
    }  # fmt: skip
    return {
        "schema": 1, "tool": front["tool"], "model": "sample/MiniLM", "metric": "mean_cosine",
        "targets": [
            {"target": "cpu", "folder": "cpu", "missed": None, "best": c05},
            {"target": "a10g", "folder": "a10g", "missed": None, "best": c08},
            {"target": "t4", "folder": "t4", "missed": "no sub-network can meet 1 ms", "best": None},
        ],
        "misplaced": [{"on": "a10g", "of": "cpu", **pair}, {"on": "cpu", "of": "a10g", **pair, "slower": -0.1, "worse": 0.0}],
    }  # fmt: skip


def test_the_page_holds_every_target_and_pair():
    page = render_comparison(found())
    for words in (
        "cpu/report.html",
        "a10g/report.html",
        "no sub-network can meet 1 ms",
        "not measured",
        "roofline",
        "over it",
    ):
        assert words in page
    assert "nothing in it was measured" in page


def test_hostile_text_stays_text():
    content = found()
    content["model"] = content["targets"][2]["missed"] = content["misplaced"][0]["of"] = HOSTILE
    assert "<b>x</b>" not in render_comparison(content)


def test_words_follow_the_sign():
    more, less = found()["misplaced"]
    assert extra(more).replace("\u00a0", " ") == "25.0 % more time"
    assert extra(less).replace("\u00a0", " ") == "10.0 % less time"
    assert extra({**more, "slower": 0.0}) == "no more time"
    assert (lost(more), lost(less), lost({**more, "worse": -0.02})) == ("0.012 lower", "the same", "0.020 higher")


def test_the_summary_claims_what_the_figures_say():
    content = found()
    assert "that of cpu: on a10g" in summary(content)
    for outcome in content["targets"][:2]:
        outcome["best"] = content["targets"][0]["best"]
    assert summary(content) == "One network is the best on every target."
    content["targets"] = content["targets"][1:]
    assert summary(content).startswith("One target alone")
    content["targets"] = content["targets"][1:]
    assert summary(content).startswith("No target")


def test_a_page_is_rebuilt_from_its_data_and_from_no_other(tmp_path):
    write_comparison(tmp_path, found())
    page = (tmp_path / "report.html").read_bytes()
    (tmp_path / "report.html").unlink()
    assert rewrite_comparison(tmp_path).read_bytes() == page
    for spoilt in ("{", json.dumps({"schema": 99})):
        (tmp_path / "targets.json").write_text(spoilt, encoding="utf-8")
        with pytest.raises(InputError, match=r"targets\.json"):
            rewrite_comparison(tmp_path)
