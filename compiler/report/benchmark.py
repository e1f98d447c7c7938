"""What `compile bench` found, for people: the schema of `bench.json`, a page, and a table in Markdown.

As in `front.json`, printed units stand in the file: latencies are milliseconds, sizes bytes, and `None` is "not known".
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypedDict

from compiler.report import text
from compiler.report.markdown import inline
from compiler.report.page import fill
from compiler.report.schema import PeakInfo, Percentiles, Tool
from compiler.store.store import write_atomically

SCHEMA_VERSION = 1

COLUMNS = (
    "file",
    "size",
    "p50 ms",
    "p90 ms",
    "p99 ms",
    "sequences/s",
    "speed-up",
    "95 % interval",
    "verdict",
    "memory",
    "energy",
    "of peak",
)

Verdict = Literal["faster", "slower", "same within noise", "undecided"]


class AskedInfo(TypedDict):
    """The one way in which all files were called."""

    batch: int
    tokens: int
    threads: int
    runtime: str


class DeviceInfo(TypedDict):
    """Where it was measured."""

    name: str
    fingerprint: Mapping[str, Any]


class OperationsInfo(TypedDict):
    """One call of a file: operations, weights read, and its nodes by operator in three states."""

    count: float
    weight_bytes: int
    counted: Mapping[str, int]
    ignored: Mapping[str, int]
    unknown: Mapping[str, int]


class BenchFile(TypedDict):
    """One file. `speedup` is the baseline's time over its own; of the baseline itself it is the noise."""

    name: str
    sha256: str
    bytes: int
    precision: str
    latency_ms: Percentiles
    samples: int
    blocks: int
    throughput_per_s: float
    speedup: float
    speedup_interval: tuple[float, float] | None
    verdict: Verdict
    too_slow: bool
    memory_bytes: int | None
    energy_j: float | None
    operations: OperationsInfo
    roofline_share: float | None


class Benchmark(TypedDict):
    """The whole of `bench.json`; `fail_if_slower` is the share of extra time that was allowed."""

    schema: int
    tool: Tool
    target: DeviceInfo
    workload: AskedInfo
    seconds: float
    baseline: str
    fail_if_slower: float | None
    peak: PeakInfo
    files: list[BenchFile]
    notes: list[str]


class Span(TypedDict):
    """A speed-up and its interval as places between 0 and 1 on a logarithmic axis; `one` is no difference."""

    low: float
    middle: float
    high: float
    one: float


def write_benchmark(bench: Benchmark, folder: Path) -> None:
    """Write bench.json, bench.md and bench.html, each whole or not at all."""
    write_atomically(folder / "bench.json", (json.dumps(bench, indent=1) + "\n").encode())
    write_atomically(folder / "bench.md", render_markdown(bench).encode())
    write_atomically(folder / "bench.html", render_page(bench).encode())


def render_page(bench: Benchmark) -> str:
    """One self-contained page: no network, no second file, no script."""
    return fill(
        "benchmark.html",
        bench=bench,
        summary=summary(bench),
        asked=asked(bench),
        spans=spans(bench),
        interval=interval,
        share=share,
        joules=text.joules,
        flatten=text.flatten,
    )


def render_markdown(bench: Benchmark) -> str:
    """The table for a pull request or a wiki."""
    rows = [COLUMNS, ("---", *["---:"] * (len(COLUMNS) - 1)), *(row(bench, file) for file in bench["files"])]
    table = "\n".join(f"| {' | '.join(map(inline, cells))} |" for cells in rows)
    notes = "\n".join(f"- {inline(note)}" for note in bench["notes"])
    return f"# Latency benchmark\n\n{inline(summary(bench))}\n\n{inline(asked(bench))}\n\n{table}\n\n{notes}\n"


def row(bench: Benchmark, file: BenchFile) -> tuple[str, ...]:
    """One file under `COLUMNS`, as text."""
    return (
        file["name"],
        text.size(file["bytes"]),
        *(text.number(file["latency_ms"][q]) for q in ("p50", "p90", "p99")),
        text.number(file["throughput_per_s"]),
        text.ratio(file["speedup"]),
        interval(file),
        standing(bench, file),
        text.size(file["memory_bytes"]),
        text.joules(file["energy_j"]),
        share(file),
    )


def asked(bench: Benchmark) -> str:
    """The workload and the device in one line."""
    w = bench["workload"]
    threads = f"{w['threads']} thread{'' if w['threads'] == 1 else 's'}"
    return (
        f"Batch {w['batch']} {text.TIMES} {w['tokens']} tokens, {threads}, {w['runtime']}, on {bench['target']['name']} "
        f"({bench['target']['fingerprint']['device_name']}); every file alternates with {bench['baseline']} in one run."
    )


def summary(bench: Benchmark) -> str:
    """The finding in one sentence that claims no more than the intervals allow."""
    baseline = bench["baseline"]
    others = [f for f in bench["files"] if f["name"] != baseline]
    first = max(others or bench["files"], key=lambda f: f["speedup"])
    if not others:
        return f"{baseline} answers in {text.milliseconds(first['latency_ms']['p50'])} (p50)."
    if first["verdict"] != "faster":
        return f"No file is measurably faster than {baseline}."
    return (
        f"{first['name']} is the fastest: {text.ratio(first['speedup'])} the speed of {baseline} ({interval(first)})."
    )


def interval(file: BenchFile) -> str:
    """The speed-up's 95 % interval as text."""
    ends = file["speedup_interval"]
    return text.UNKNOWN if ends is None else f"{text.ratio(ends[0])} to {text.ratio(ends[1])}"


def share(file: BenchFile) -> str:
    """How much of the measured time the device at its best would need; a bound where operators are unknown."""
    known = text.share_of_peak(file["roofline_share"])
    bound = file["operations"]["unknown"] and known not in (text.UNKNOWN, text.MISMEASURED)
    return f"\N{GREATER-THAN OR EQUAL TO} {known}" if bound else known


def standing(bench: Benchmark, file: BenchFile) -> str:
    """The verdict, or that this file is what the others are held against."""
    if file["name"] == bench["baseline"]:
        return "baseline"
    return f"{file['verdict']}, too slow" if file["too_slow"] else file["verdict"]


def spans(bench: Benchmark) -> dict[str, Span]:
    """Every file's speed-up on one axis that holds all intervals and no difference at all."""
    ends = {f["name"]: f["speedup_interval"] or (f["speedup"], f["speedup"]) for f in bench["files"]}
    lowest = math.log(min(1.0, *(low for low, _ in ends.values())))
    highest = math.log(max(1.0, *(high for _, high in ends.values())))

    def place(ratio: float) -> float:
        return (math.log(ratio) - lowest) / ((highest - lowest) or 1.0)

    return {
        f["name"]: Span(
            low=place(ends[f["name"]][0]),
            middle=place(f["speedup"]),
            high=place(ends[f["name"]][1]),
            one=place(1.0),
        )
        for f in bench["files"]
    }
