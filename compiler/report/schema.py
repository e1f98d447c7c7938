"""The shape of `front.json`, as types: the one contract between the pipeline that writes it and all who read it.

Latencies are milliseconds because this file holds printed units; sizes are bytes. `None` means "not known", never zero.
"""

import json
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, NotRequired, TypedDict, cast

from compiler.report.conform import misfits
from compiler.store.store import write_atomically
from profilers.measurement import Measurement
from targets.errors import InputError

SCHEMA_VERSION = 1

Percentile = Literal["p50", "p90", "p99"]


class Tool(TypedDict):
    """The program that wrote the file."""

    name: str
    version: str


class Model(TypedDict):
    """The dense checkpoint: heads and FFN units are counts per layer."""

    name: str
    family: str
    layers: int
    heads: int
    ffn_units: int
    hidden_size: int
    parameters: int


class Metric(TypedDict):
    """The figure of quality that the error is made from."""

    name: str
    higher_is_better: bool
    description: str


class Data(TypedDict):
    """Where the examples came from and how they were split."""

    source: str
    train_examples: int
    validation_examples: int
    test_examples: int
    notes: list[str]


class Traffic(TypedDict):
    """Requests by length and share, and the lengths that finished files were timed on, in turn."""

    tokens: list[int]
    shares: list[float]
    replayed: list[int]


class Workload(TypedDict):
    """What the device is asked: the one workload behind every latency outside a grid; `traffic` replaces `tokens`.

    `opset` is there where it is not 23.
    """

    batch: int
    tokens: int
    threads: int
    percentile: Percentile
    precision: str
    runtime: str
    traffic: Traffic | None
    opset: NotRequired[int]


class TargetInfo(TypedDict):
    """The device; `present` says whether the run was on it. The fingerprint is free-form and measured."""

    name: str
    precision: str
    present: bool
    fingerprint: Mapping[str, Any]


class TableError(TypedDict):
    """The published error of a cost table on nets it never saw; fractions, not percent."""

    check_nets: int
    mape: float
    p95: float
    max: float
    spearman: float
    control_mape: float


class TableInfo(TypedDict):
    """The cost table that the search used; `source` is `None` where no table was needed.

    `at_bends` are sizes that were measured because the curve bends there.
    """

    source: Literal["measured", "transferred", "roofline"] | None
    entries: int
    at_bends: NotRequired[int]
    seconds: float
    error: TableError | None


class Shape(TypedDict):
    """Kept heads and FFN units, one count per layer; 0 is a dropped sub-block.

    `hidden_size` is there where not all residual dimensions are kept: how many are.
    """

    heads: list[int]
    ffn_units: list[int]
    hidden_size: NotRequired[int]


class Split(TypedDict):
    """One figure on both splits: nets are chosen on validation, test is only reported."""

    validation: float
    test: float | None


class StandardError(TypedDict):
    """Of one figure on both splits, over examples (jackknife)."""

    validation: float | None
    test: float | None


class CandidateMetric(TypedDict):
    """The metric of one candidate, how uncertain it is, and further figures by name."""

    name: str
    validation: float
    test: float | None
    standard_error: StandardError
    others: Mapping[str, Split]


class Predicted(TypedDict):
    """A modelled latency and where it came from; memory, energy and throughput where the run asked for them."""

    latency_ms: float
    source: Literal["measured", "interpolated", "transferred", "roofline", "null"]
    memory_bytes: float | None
    energy_j: float | None
    throughput_per_s: float | None


class Percentiles(TypedDict):
    """Latency percentiles in milliseconds."""

    p50: float
    p90: float
    p99: float


class Measured(TypedDict):
    """The final artefact on the device: latency, peak bytes of a serving process, joules a call, sequences a second."""

    latency_ms: Percentiles
    samples: int
    memory_bytes: int | None
    energy_j: float | None
    throughput_per_s: float | None
    throughput_batch: int | None


class GridCell(TypedDict):
    """One measured speed-up at another workload; both latencies come from one alternating run."""

    batch: int
    tokens: int
    threads: int
    latency_ms: float
    dense_latency_ms: float
    speedup: float


class Budget(TypedDict):
    """Whether the user's limits hold: on a measurement (`met`, `missed`) or on a model (`predicted`)."""

    status: Literal["met", "missed", "predicted", "none"]
    limits: Mapping[str, float]


class ArtifactInfo(TypedDict):
    """The exported file, its path relative to the run folder; `tensorrt` is the status of the recipe beside it."""

    path: str
    sha256: str
    bytes: int
    opset: int
    attention_nodes: int
    parity_max_abs_error: float | None
    tensorrt: str | None


class PeakInfo(TypedDict):
    """What the device can do at best, measured here: in float32, on a GPU in its half-precision formats too.

    `int8_ops_per_s` is of 8-bit products in the runtime that serves, where it was measured.
    """

    flops_per_s: float
    bytes_per_s: float
    threads: int
    method: str
    half_flops_per_s: NotRequired[Mapping[str, float]]
    int8_ops_per_s: NotRequired[float | None]


class SubBlockInfo(TypedDict):
    """One half of a layer (0-based)."""

    layer: int
    piece: Literal["attention", "ffn"]


class CandidateInfo(TypedDict):
    """One sub-network; the dense baseline has the same form and the id `dense`. `error` is on validation.

    `exceptions` are the sub-blocks that stay in fp32 whatever the `precision`; runs of older versions lack it.
    `same_as` names the candidates whose metric on validation is within the noise of this one's, paired over examples.
    `roofline_share` is the least time that the device's own peak allows, over the measured one.
    """

    id: str
    shape: Shape
    error: float
    metric: CandidateMetric
    same_as: list[str]
    predicted: Predicted
    measured: Measured | None
    roofline_share: float | None
    parameters: int
    speedup: float | None
    speedup_interval: list[float] | None
    speedup_same_precision: float | None
    precision: str
    exceptions: NotRequired[list[SubBlockInfo]]
    grid: list[GridCell]
    budget: Budget
    artifact: ArtifactInfo


class Front(TypedDict):
    """The whole of `front.json`; `best` is `None` where no candidate meets the budget.

    `doubt` says why the dense model is not to be trusted on these labels, and `None` where nothing is wrong; runs of older versions
    lack it. Their metric of unlabelled data has the name that labelled data have.
    """

    schema: int
    tool: Tool
    model: Model
    task: Literal["embedding", "classification", "regression"]
    metric: Metric
    data: Data
    workload: Workload
    target: TargetInfo
    effort: str
    space: str
    search: str
    objectives: list[str]
    seed: int
    table: TableInfo
    models: Mapping[str, Mapping[str, Mapping[str, Any] | None]]
    peak: PeakInfo | None
    dense: CandidateInfo
    candidates: list[CandidateInfo]
    best: str | None
    evaluated: int
    doubt: NotRequired[str | None]
    notes: list[str]
    timings_s: Mapping[str, float]


def known_front(content: Mapping[str, Any]) -> Front:
    """The content of a `front.json`. InputError where it has another schema version than this code reads."""
    if content.get("schema") != SCHEMA_VERSION:
        raise InputError(
            f"front.json has schema {content.get('schema')!r}, this version reads {SCHEMA_VERSION}. "
            "Compile again, or use the version of paretoc that wrote it."
        )
    return cast("Front", content)


def chosen_as(front: Front) -> str:
    """What the network that `best` names is called: where the dense model is not to be trusted, nothing is best."""
    return "chosen" if front.get("doubt") else "best"


def percentiles_ms(measurement: Measurement) -> Percentiles:
    """Latencies as every report has them."""
    p50, p90, p99 = (measurement.percentile_s(q) * 1e3 for q in (50, 90, 99))
    return {"p50": p50, "p90": p90, "p99": p99}


def this_tool() -> Tool:
    """This program, as a file says what wrote it."""
    return {"name": "paretoc", "version": metadata.version("paretoc")}


def write_front(run_dir: Path, front: Front) -> None:
    """Write the `front.json` of a run, whole or not at all."""
    write_atomically(run_dir / "front.json", (json.dumps(front, indent=1) + "\n").encode())


def _below(folder: Path) -> str:
    """The runs that a folder holds, one for each target, as a hint."""
    runs = sorted(path.parent.name for path in folder.glob("*/front.json"))
    return f" Name one of those in it: {', '.join(runs)}" if runs else ""


def read_front(run_dir: Path) -> Front:
    """The `front.json` of a run. InputError where the folder has none, or none that this code reads."""
    path = run_dir / "front.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise InputError(
            f"{path} is missing: {run_dir} is not the folder of a finished run.{_below(run_dir)}"
        ) from None
    except ValueError as error:
        raise InputError(f"{path} is not JSON: {error}. Compile again to rebuild it.") from None
    if not isinstance(content, dict):
        raise InputError(f"{path} holds a {type(content).__name__}, expected an object. Compile again to rebuild it.")
    front = known_front(content)
    wrong = next(misfits(front, Front), None)
    if wrong is not None:
        raise InputError(
            f"{path} was edited, or is of another version: {wrong} is missing or no such value.\nCompile again."
        )
    return front
