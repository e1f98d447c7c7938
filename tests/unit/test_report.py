"""The report page, as text: self-contained, escaped, complete, and honest about what was not measured."""

import base64
import csv
import hashlib
import json
import re
from html.parser import HTMLParser

import pytest

from compiler.report import text
from compiler.report.chart import chart_data
from compiler.report.html import render_report, write_report
from compiler.report.schema import SCHEMA_VERSION
from compiler.report.verdict import verdict
from targets.errors import InputError
from tests.report_sample import sample_evaluated, sample_front

HOSTILE = "</script><b>x</b>\"'&amp;"


class Page(HTMLParser):
    """Tags with their attributes, and the text of every script."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.scripts, self._inside = [], [], None
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._inside = tag
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, _tag):
        self._inside = None

    def handle_data(self, data):
        if self._inside == "script":
            self.scripts[-1] += data

    def rows(self):
        return [attrs["data-id"] for tag, attrs in self.tags if tag == "tr" and "data-id" in attrs]


@pytest.fixture
def front():
    return sample_front()


@pytest.fixture
def evaluated():
    return sample_evaluated()


def _off_device(front):
    unknown = dict.fromkeys(("measured", "speedup", "speedup_interval", "speedup_same_precision"))
    for candidate in [front["dense"], *front["candidates"]]:
        candidate.update(unknown, grid=[])
        candidate["predicted"]["source"] = "transferred"
    front["target"]["present"] = False
    front["table"] = {"source": "transferred", "entries": 44, "seconds": 0.0, "error": None}
    return front


def test_page_is_self_contained(front, evaluated):
    html = render_report(front, evaluated)
    page = Page(html)
    assert "http://" not in html
    assert "https://" not in html
    assert not re.search(r"url\(|@import|fetch\(|XMLHttpRequest|\bimport\b", html)
    assert not [attrs for _, attrs in page.tags if {"src", "href", "srcset", "action"} & attrs.keys()]
    assert not {tag for tag, _ in page.tags} & {"link", "img", "iframe", "object"}


def test_hostile_text_stays_text(front, evaluated):
    front["model"]["name"] = front["data"]["source"] = front["notes"][0] = HOSTILE
    front["candidates"][0]["id"] = front["best"] = HOSTILE
    front["target"]["fingerprint"] = {HOSTILE: {HOSTILE: HOSTILE}}
    html = render_report(front, evaluated)
    page = Page(html)
    assert "<b>x</b>" not in html
    assert len(page.scripts) == 2
    assert HOSTILE in page.rows()
    assert HOSTILE in {point["id"] for point in json.loads(page.scripts[0])["points"]}


def test_only_our_own_script_may_run(front, evaluated):
    page = Page(render_report(front, evaluated))
    digest = base64.b64encode(hashlib.sha256(page.scripts[1].encode()).digest()).decode()
    policy = next(attrs["content"] for tag, attrs in page.tags if tag == "meta" and "http-equiv" in attrs)
    assert f"script-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy


def test_every_candidate_is_in_the_table_and_has_details(front, evaluated):
    page = Page(render_report(front, evaluated))
    expected = ["dense", *(candidate["id"] for candidate in front["candidates"])]
    details = {attrs["data-id"]: "hidden" in attrs for tag, attrs in page.tags if tag == "article"}
    assert page.rows() == expected
    assert list(details) == expected
    assert [name for name, hidden in details.items() if not hidden] == [front["best"]]


def test_off_the_device_nothing_passes_as_measured(front, evaluated):
    html = render_report(_off_device(front), evaluated)
    data = json.loads(Page(html).scripts[0])
    assert not any(point["measured"] for point in [*data["points"], data["dense"]])
    assert "predicted</em>" in verdict(front)
    assert "Not measured." in html
    assert "This table publishes no error" in html
    assert "on the front, measured" not in html


def test_verdict_names_best_speed_and_quality(front):
    words = verdict(front).striptags().replace("\u00a0", " ").replace(text.TIMES, "x")
    assert words.startswith("c05 answers in ")
    assert re.search(r"2\.\d\dx faster \(interval 2\.\d\dx to 2\.\d\dx\), measured on cpu\.", words)
    assert "It keeps 95.3 % of the mean cosine of the dense model on test (0.953 against 1.000)." in words
    assert "The budget (min speedup 2x) is met." in words


def test_verdict_claims_no_speed_within_the_interval(front):
    best = next(candidate for candidate in front["candidates"] if candidate["id"] == front["best"])
    best["speedup"], best["speedup_interval"] = 1.02, [0.98, 1.06]
    assert "no measurable difference in speed" in verdict(front)
    assert "faster" not in verdict(front)


def test_verdict_says_slower_when_it_is(front):
    best = next(candidate for candidate in front["candidates"] if candidate["id"] == front["best"])
    best["speedup"], best["speedup_interval"] = 0.8, [0.78, 0.82]
    assert "slower" in verdict(front)
    assert "faster" not in verdict(front)


def test_verdict_without_a_winner(front, evaluated):
    front["best"] = None
    assert "No candidate meets the budget" in render_report(front, evaluated)


def test_a_metric_where_lower_is_better_is_not_kept(front):
    front["metric"] |= {"name": "mean_squared_error", "higher_is_better": False}
    assert "It keeps" not in verdict(front)
    assert "mean squared error on test is" in verdict(front)


def test_cloud_leaves_out_the_front_and_what_is_not_finite(front, evaluated):
    broken = [{"id": "x", "latency_ms": "nan", "error": "0.1"}, {"id": "y", "latency_ms": "1", "error": "inf"}]
    data = chart_data(front, [*evaluated, *broken])
    assert len(data["cloud"]) + data["outside"] == len(evaluated) - len(front["candidates"])
    json.dumps(data, allow_nan=False)


def test_far_cloud_does_not_squeeze_the_front_and_is_counted(front):
    far = [{"id": f"far{index}", "latency_ms": 5.0, "error": 50.0 + index} for index in range(7)]
    data = chart_data(front, far)
    assert data["outside"] == 7
    assert data["y"][1] < 0.3


def test_axes_hold_a_front_of_one(front, evaluated):
    front["candidates"] = front["candidates"][:1]
    front["dense"] = front["candidates"][0] | {"id": "dense"}
    x, y = chart_data(front, [])["x"], chart_data(front, [])["y"]
    assert x[0] < x[1]
    assert y[0] < y[1]
    assert render_report(front, evaluated)


def test_missing_attention_is_said(front, evaluated):
    front["candidates"][0]["artifact"]["attention_nodes"] = 0
    assert "expected 6, one for each kept attention block" in render_report(front, evaluated)


def test_another_schema_is_refused(front, evaluated):
    with pytest.raises(InputError, match=f"this version reads {SCHEMA_VERSION}"):
        render_report(front | {"schema": 99}, evaluated)


def test_write_report_reads_the_run_folder(front, evaluated, tmp_path):
    (tmp_path / "front.json").write_text(json.dumps(front), encoding="utf-8")
    with (tmp_path / "candidates.csv").open("w", encoding="utf-8", newline="") as out:
        writer = csv.DictWriter(out, list(evaluated[0]))
        writer.writeheader()
        writer.writerows(evaluated)
    path = write_report(tmp_path)
    assert path == tmp_path / "report.html"
    assert path.read_text(encoding="utf-8") == render_report(front, evaluated)
    assert {entry.name for entry in tmp_path.iterdir()} == {"front.json", "candidates.csv", "report.html"}


@pytest.mark.parametrize("content", [None, "{", "[]", "{}", '{"schema": 1}'])
def test_a_folder_that_is_no_run_is_refused(content, tmp_path):
    if content is not None:
        (tmp_path / "front.json").write_text(content, encoding="utf-8")
        (tmp_path / "candidates.csv").write_text("id,error,latency_ms\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"front\.json"):
        write_report(tmp_path)
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (5.1, "5.10"),
        (0.0512, "0.0512"),
        (84.94, "84.9"),
        (9.999, "10.0"),
        (12345.6, "12,300"),
        (0, "0"),
        (1.2e-6, f"1.2{text.TIMES}10⁻⁶"),
        (-0.5, "-0.500"),
        (None, text.UNKNOWN),
        (float("nan"), text.UNKNOWN),
    ],
)
def test_numbers_read_as_people_write_them(value, expected):
    assert text.number(value) == expected


def test_units_are_printed():
    printed = [
        text.size(64_700_000),
        text.count(22_600_000),
        text.seconds(388),
        text.seconds(7800),
        text.percent(0.021),
    ]
    assert [entry.replace("\u00a0", " ") for entry in printed] == [
        "64.7 MB",
        "22.6 M",
        "6 min 28 s",
        "2 h 10 min",
        "2.1 %",
    ]
    assert text.limit("max_latency_ms", 6.0).replace("\u00a0", " ") == "max latency 6 ms"


def test_sizes_placed_where_the_curve_bends_are_counted(front, evaluated):
    words = "of them placed where the curve bends"
    assert words not in render_report(front, evaluated)
    front["table"]["at_bends"] = 4
    assert f"4 {words}" in render_report(front, evaluated)


def test_traffic_is_told_instead_of_one_length(front, evaluated):
    assert "128 tokens" in render_report(front, evaluated)
    front["workload"]["traffic"] = {"tokens": [4, 40], "shares": [0.5, 0.5], "replayed": [4, 40]}
    html = render_report(front, evaluated)
    assert "4 to 40 tokens" in html
    assert "4, 40 tokens, in turn" in html
