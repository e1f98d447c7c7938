"""Memory, energy and throughput as objectives and budgets, on the null device: all at once, and each refused where it must."""

import csv
import json

import pytest

from tests.cli import call, write_texts
from tests.tiny import save_tiny

ALL = ("latency", "memory", "energy", "throughput")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    root = tmp_path_factory.mktemp("objectives")
    return save_tiny(root / "encoder"), write_texts(root / "texts.txt"), root


@pytest.fixture
def run(place, monkeypatch, tmp_path):
    model, texts, root = place
    monkeypatch.setattr("compiler.pipeline.stages.export.compare_with_fresh_export", lambda *_: 0.0)

    def call_it(*arguments, target="null"):
        return call(
            model, "--data", texts, "--target", target, "--cache", root / "cache", "--out", tmp_path / "out",
            "--seq-len", 32, "--evaluations", 24, "--winners", 4, "--quiet", *arguments,
        )  # fmt: skip

    return call_it


def test_four_objectives_beside_the_error(run, tmp_path):
    done = run("--objectives", ",".join(ALL))
    assert done.code == 0, done.err
    front = json.loads((tmp_path / "out" / "front.json").read_text(encoding="utf-8"))
    assert front["objectives"] == list(ALL)
    dense = front["dense"]
    for net in front["candidates"]:
        for name in ("latency_ms", "memory_bytes", "energy_j"):
            assert 0 < net["predicted"][name] < dense["predicted"][name]
        assert net["predicted"]["throughput_per_s"] > dense["predicted"]["throughput_per_s"] > 0
        assert net["measured"]["energy_j"] is None, "nothing is measured on a device without a meter"
    watts = {net["predicted"]["energy_j"] / net["predicted"]["latency_ms"] for net in front["candidates"]}
    assert max(watts) == pytest.approx(min(watts))
    with (tmp_path / "out" / "candidates.csv").open(encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    values = [
        tuple(float(r[n]) for n in ("error", "latency_ms", "memory_bytes", "energy_j", "seconds_per_sequence"))
        for r in rows
    ]
    for row, mine in zip(rows, values, strict=True):
        beaten = any(all(a <= b for a, b in zip(other, mine, strict=True)) and other != mine for other in values)
        assert beaten != bool(int(row["on_front"]))
    assert "peak memory" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "~" in done.out, "predicted figures are marked"


def test_a_memory_budget_is_kept(run, tmp_path):
    assert run().code == 0
    front = json.loads((tmp_path / "out" / "front.json").read_text(encoding="utf-8"))
    assert front["dense"]["predicted"]["memory_bytes"] is None
    limit = 60_000
    done = run("--max-memory", f"{limit / 1e3}kB", "--objectives", "memory")
    assert done.code == 0, done.err
    front = json.loads((tmp_path / "out" / "front.json").read_text(encoding="utf-8"))
    best = next(net for net in front["candidates"] if net["id"] == front["best"])
    assert best["predicted"]["memory_bytes"] <= limit < front["dense"]["predicted"]["memory_bytes"]
    assert best["budget"] == {"status": "predicted", "limits": {"max_memory_bytes": limit}}


def test_a_memory_budget_below_stem_and_head_names_the_floor(run):
    done = run("--max-memory", "1kB")
    assert done.code == 4
    assert "stem and head alone" in done.message[0]


@pytest.mark.parametrize(
    ("flags", "target", "code", "words"),
    [
        (("--objectives", "energy", "--accept-modelled"), "a10g", 3, "energy is not available"),
        (("--objectives", "speed"), "null", 2, "known: latency, params, memory, energy, throughput"),
        (("--objectives", ","), "null", 2, "names none"),
        (("--max-memory", "300"), "null", 2, "write it like 300MB"),
        (("--max-memory", "0MB"), "null", 2, "--max-memory must be from 1 to"),
    ],
)
def test_what_cannot_be_had_is_refused(run, flags, target, code, words):
    done = run(*flags, target=target)
    assert done.code == code, done.err
    assert words in "\n".join(done.message)
    assert len(done.message) <= 2
