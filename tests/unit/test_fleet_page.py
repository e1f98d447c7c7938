"""The page of a fleet: every entry, escaped, with its front drawn, and nothing from outside."""

import re

import pytest

from compiler.fleet.page import HEIGHT, WIDTH, render_page, sparkline
from compiler.fleet.record import answered
from tests.fleet import Desk, write_model
from tests.report_sample import sample_front

HOSTILE = "</td><script>x</script>"


@pytest.fixture
def fleet(tmp_path):
    write_model(tmp_path / "enc")
    desk = Desk(tmp_path, '[[entry]]\nname = "a"\nmodel = "enc"\ntargets = ["cpu", "null"]\nmin-speedup = 2\n')
    return desk.start()


def test_the_page_has_every_entry_and_asks_nobody(fleet):
    page = render_page(fleet)
    assert page.count('<svg class="spark"') == 2
    assert 'href="a-cpu/report.html"' in page
    assert "min speedup 2\N{MULTIPLICATION SIGN}" in page
    assert re.findall(r'(?:src|href)="(?!a-|fleet\.json)[^"]*"', page) == []
    assert "prefers-color-scheme: dark" in page
    assert "default-src 'none'" in page


def test_texts_of_others_are_escaped(fleet):
    row = fleet["entries"][0]
    hostile = {**row, "status": "failed", "error": HOSTILE, "chosen": None, "front": [], "model": f'"{HOSTILE}'}
    page = render_page({**fleet, "file": HOSTILE, "entries": [hostile]})
    assert HOSTILE not in page
    assert "&lt;/td&gt;&lt;script&gt;x" in page


def test_a_spark_line_has_every_network_inside_and_marks_the_chosen_one(fleet):
    row = fleet["entries"][0]
    line = sparkline(row)
    assert len(line["dots"]) == len(row["front"]) == len(sample_front()["candidates"])
    assert sum(best for *_, best in line["dots"]) == 1
    assert all(0 < float(x) < WIDTH and 0 < float(y) < HEIGHT for x, y, _ in line["dots"])
    assert sparkline({**row, "front": []}) is None
    assert sparkline({**row, "front": [(1.0, 0.1)]})["dots"] == [(f"{WIDTH / 2:.1f}", f"{HEIGHT / 2:.1f}", False)]


def test_a_run_whose_choice_misses_its_budget_on_the_device_is_missed(fleet):
    front = sample_front()
    next(c for c in front["candidates"] if c["id"] == front["best"])["budget"]["status"] = "missed"
    assert answered(fleet["entries"][0], front)["status"] == "missed budget"
    assert answered(fleet["entries"][0], {**front, "best": None})["chosen"] is None
