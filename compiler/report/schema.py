"""The shape of `front.json`, as types: the one contract between the pipeline that writes it and all who read it.

Latencies are milliseconds because this file holds printed units; sizes are bytes. `None` means "not known", never zero.
The types say which values make sense (`targets/forms.py`), and `compiler/report/sense.py` which do so together.
"""

import json
import math
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired, cast

from annotated_types import Len
from typing_extensions import TypedDict

from compiler.report.artifact_path import artifact_path
from compiler.report.sense import check_sense
from compiler.store.store import write_atomically
from compiler.tasks import TaskName
from profilers.measurement import Measurement
from targets import forms
from targets.errors import InputError, printable
from targets.json_file import conforming, is_there, read_json

SCHEMA_VERSION = 1

Percentile = Literal["p50", "p90", "p99"]


class Tool(TypedDict):
    """The program that wrote the file."""

    name: forms.Name
    version: forms.Name


class Model(TypedDict):
    """The dense checkpoint: heads (of keys and values) and FFN units are counts per layer.

    `queries` is there where query heads are cut apart: how many read each head.
    """

    name: forms.Name
    family: forms.Name
    layers: forms.Layers
    heads: forms.Width
    queries: NotRequired[forms.Width]
    ffn_units: forms.Width
    hidden_size: forms.Width
    parameters: forms.Count


class Metric(TypedDict):
    """The figure of quality that the error is made from; `scale` says how, and is a share where an older run lacks it."""

    name: forms.Word
    higher_is_better: bool
    scale: NotRequired[Literal["share", "perplexity", "divergence"]]
    description: forms.Words


class Data(TypedDict):
    """Where the examples came from and how they were split."""

    source: forms.Words
    train_examples: forms.Count
    validation_examples: forms.Count
    test_examples: forms.Count
    notes: list[forms.Words]


class Traffic(TypedDict):
    """Requests by length and share, and the lengths that finished files were timed on, in turn."""

    tokens: Annotated[list[forms.Positive], Len(1, 100_000)]
    shares: Annotated[list[forms.Share], Len(1, 100_000)]
    replayed: Annotated[list[forms.Positive], Len(1, 10_000)]


class Workload(TypedDict):
    """What the device is asked: the one workload behind every latency outside a grid; `traffic` replaces `tokens`.

    `opset` is there where it is not 23.
    """

    batch: forms.Positive
    tokens: forms.Positive
    threads: forms.Positive
    percentile: Percentile
    precision: forms.Word
    runtime: forms.Word
    traffic: Traffic | None
    opset: NotRequired[forms.Positive]


class TargetInfo(TypedDict):
    """The device; `present` says whether the run was on it. The fingerprint is free-form and measured."""

    name: forms.Id
    precision: forms.Word
    present: bool
    fingerprint: Mapping[str, Any]


class TableError(TypedDict):
    """The published error of a cost table on nets it never saw; fractions, not percent."""

    check_nets: forms.Count
    mape: forms.Deviation
    p95: forms.Deviation
    max: forms.Deviation
    spearman: forms.Correlation
    control_mape: forms.Deviation


class TableInfo(TypedDict):
    """The cost table that the search used; `source` is `None` where no table was needed.

    `at_bends` are sizes that were measured because the curve bends there. `carried_from` are the tables that a transferred one
    was adapted from, and the devices they were measured on.
    """

    source: Literal["measured", "transferred", "roofline", "null"] | None
    entries: forms.Count
    at_bends: NotRequired[forms.Count]
    carried_from: NotRequired[list[forms.Words]]
    seconds: forms.Seconds
    error: TableError | None


class Shape(TypedDict):
    """Kept heads and FFN units, one count per layer; 0 is a dropped sub-block.

    `hidden_size` is there where not all residual dimensions are kept: how many are. `queries` is there where query heads are cut
    apart: how many each kept head of a layer has.
    """

    heads: Annotated[list[forms.Width], Len(1, forms.MOST_LAYERS)]
    queries: NotRequired[Annotated[list[forms.Width], Len(1, forms.MOST_LAYERS)]]
    ffn_units: Annotated[list[forms.Width], Len(1, forms.MOST_LAYERS)]
    hidden_size: NotRequired[forms.Width]


class Split(TypedDict):
    """One figure on both splits: nets are chosen on validation, test is only reported."""

    validation: forms.Figure | None
    test: forms.Figure | None


class StandardError(TypedDict):
    """Of one figure on both splits, over examples (jackknife)."""

    validation: forms.Deviation | None
    test: forms.Deviation | None


class CandidateMetric(TypedDict):
    """The metric of one candidate, how uncertain it is, and further figures by name."""

    name: forms.Word
    validation: forms.Figure
    test: forms.Figure | None
    standard_error: StandardError
    others: Mapping[str, Split]


class Predicted(TypedDict):
    """A modelled latency and where it came from; memory, energy and throughput where the run asked for them."""

    latency_ms: forms.Milliseconds
    source: Literal["measured", "interpolated", "transferred", "roofline", "null"]
    memory_bytes: forms.Bytes | None
    energy_j: forms.Joules | None
    throughput_per_s: forms.Rate | None


class Percentiles(TypedDict):
    """Latency percentiles in milliseconds."""

    p50: forms.Milliseconds
    p90: forms.Milliseconds
    p99: forms.Milliseconds


class Measured(TypedDict):
    """The final artefact on the device: latency, peak bytes of a serving process, joules a call, sequences a second."""

    latency_ms: Percentiles
    samples: forms.Count
    memory_bytes: forms.Count | None
    energy_j: forms.Joules | None
    throughput_per_s: forms.Rate | None
    throughput_batch: forms.Positive | None


class GridCell(TypedDict):
    """One measured speed-up at another workload; both latencies come from one alternating run."""

    batch: forms.Positive
    tokens: forms.Positive
    threads: forms.Positive
    latency_ms: forms.Milliseconds
    dense_latency_ms: forms.Milliseconds
    speedup: forms.Ratio


class Budget(TypedDict):
    """Whether the user's limits hold: on a measurement (`met`, `missed`) or on a model (`predicted`)."""

    status: Literal["met", "missed", "predicted", "none"]
    limits: Mapping[str, forms.Figure]


class ArtifactInfo(TypedDict):
    """The exported file, its path relative to the run folder; `tensorrt` is the status of the recipe beside it."""

    path: forms.FilePath
    sha256: forms.Sha256
    bytes: forms.FileSize
    opset: forms.Positive
    attention_nodes: forms.Count
    parity_max_abs_error: forms.Deviation | None
    tensorrt: forms.Words | None


class PeakInfo(TypedDict):
    """What the device can do at best, measured here: in float32, on a GPU in its half-precision formats too.

    `int8_ops_per_s` is of 8-bit products in the runtime that serves, where it was measured.
    """

    flops_per_s: forms.Rate
    bytes_per_s: forms.Rate
    threads: forms.Positive
    method: forms.Words
    half_flops_per_s: NotRequired[Mapping[str, forms.Rate]]
    int8_ops_per_s: NotRequired[forms.Rate | None]


class SubBlockInfo(TypedDict):
    """One half of a layer (0-based)."""

    layer: forms.Width
    piece: Literal["attention", "ffn"]


class GroupInfo(TypedDict):
    """Decisions of one class or length, and the shares that the dense model and the network have right."""

    name: forms.Words
    count: forms.Count
    dense: forms.Share
    network: forms.Share
    drop: forms.Correlation
    standard_error: forms.Deviation | None


class ChangesInfo(TypedDict):
    """What a network decides otherwise than the dense model, on one split."""

    decisions: forms.Count
    flips: forms.Share
    standard_error: forms.Deviation | None
    classes: list[GroupInfo]
    lengths: list[GroupInfo]


class CandidateInfo(TypedDict):
    """One sub-network; the dense baseline has the same form and the id `dense`. `error` is on validation.

    `exceptions` are the sub-blocks that stay in fp32 whatever the `precision`; runs of older versions lack it.
    `changes` is of tasks that decide on classes. `same_as` names the candidates whose metric on validation is within the noise of this one's, paired over examples.
    `roofline_share` is the least time that the device's own peak allows, over the measured one.
    """

    id: forms.Id
    shape: Shape
    error: forms.Figure
    metric: CandidateMetric
    changes: NotRequired[Mapping[Literal["validation", "test"], ChangesInfo] | None]
    same_as: list[forms.Id]
    predicted: Predicted
    measured: Measured | None
    roofline_share: forms.Deviation | None
    parameters: forms.Count
    speedup: forms.Ratio | None
    speedup_interval: forms.Interval | None
    speedup_same_precision: forms.Ratio | None
    precision: forms.Word
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
    task: TaskName
    metric: Metric
    data: Data
    workload: Workload
    target: TargetInfo
    effort: forms.Word
    space: forms.Word
    search: forms.Word
    objectives: list[forms.Word]
    seed: forms.Count
    table: TableInfo
    models: Mapping[str, Mapping[str, Mapping[str, Any] | None]]
    peak: PeakInfo | None
    dense: CandidateInfo
    candidates: Annotated[list[CandidateInfo], Len(1, 10_000)]
    best: forms.Id | None
    evaluated: forms.Count
    doubt: NotRequired[forms.Words | None]
    notes: list[forms.Words]
    timings_s: Mapping[str, forms.Seconds]


def known_front(content: Mapping[str, Any]) -> Front:
    """The content of a `front.json`. InputError where it has another schema version than this code reads."""
    if content.get("schema") != SCHEMA_VERSION:
        raise InputError(
            f"front.json has schema {content.get('schema')!r}, this version reads {SCHEMA_VERSION}. "
            "Compile again, or use the version of paretoc that wrote it."
        )
    return cast("Front", content)


def plain(value: Any) -> Any:
    """A value as JSON has it: what is not finite is not known, and of half a character its code is spelt out."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-8", "backslashreplace").decode("utf-8")
    if isinstance(value, Mapping):
        return {plain(key): plain(part) for key, part in value.items()}
    return [plain(part) for part in value] if isinstance(value, list | tuple) else value


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
    write_atomically(run_dir / "front.json", (json.dumps(plain(front), indent=1) + "\n").encode())


def _below(folder: Path) -> str:
    """The runs that a folder holds, one for each target, as a hint."""
    runs = sorted(path.parent.name for path in folder.glob("*/front.json"))[:10]
    return f" Name one of those in it: {', '.join(runs)}" if runs else ""


def read_front(run_dir: Path) -> Front:
    """The `front.json` of a run, whose files lie in its folder. InputError where there is none, or none that makes sense."""
    path, folder = run_dir / "front.json", printable(str(run_dir))
    if not is_there(path):
        raise InputError(
            f"{folder}/front.json is missing: {folder} is not the folder of a finished run.{_below(run_dir)}"
        )
    content = read_json(path, name=str(path))
    if not isinstance(content, dict):
        raise InputError(f"{path} holds a {type(content).__name__}, expected an object. Compile again to rebuild it.")
    front = known_front(content)
    conforming(front, Front, name=str(path), fail=lambda message: InputError(f"{message}\n{_EDITED}"))
    check_sense(front, name=str(path), advice=_EDITED)
    for net in (front["dense"], *front["candidates"]):
        artifact_path(run_dir, net)
    return front


_EDITED = "it was edited, or is of another version: compile again"
