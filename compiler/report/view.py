"""Small views of one candidate for the template: its layers, its grid, its prediction against its measurement."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypedDict, cast

from compiler.report import text
from compiler.report.schema import CandidateInfo, Front, GridCell


class LayerView(TypedDict):
    """One layer of the drawing: kept counts and the shares they are of the dense layer.

    `queries` are those of each head, where they are cut apart and not all are kept; else 0.
    """

    number: int
    heads: int
    queries: int
    ffn_units: int
    heads_share: float
    ffn_share: float


class ResourceView(TypedDict):
    """Memory, energy or throughput of one candidate, predicted and measured, each as a number for sorting and as text."""

    name: str
    predicted: float | None
    measured: float | None
    predicted_text: str
    measured_text: str


class GridView(TypedDict):
    """A grid as a table: columns are (threads, tokens), rows are (batch, one cell or `None` a column)."""

    columns: list[tuple[int, int]]
    rows: list[tuple[int, list[GridCell | None]]]


def layers(front: Front, candidate: CandidateInfo) -> Iterator[LayerView]:
    """The layers of `candidate`, from the input to the output, numbered from 1."""
    shape, model = candidate["shape"], front["model"]
    each = model.get("queries", 1)
    kept = zip(shape["heads"], shape.get("queries", [each] * model["layers"]), shape["ffn_units"], strict=True)
    for number, (heads, queries, units) in enumerate(kept, start=1):
        yield LayerView(
            number=number,
            heads=heads,
            queries=0 if queries == each else queries,
            ffn_units=units,
            heads_share=heads * queries / max(1, model["heads"] * each),
            ffn_share=units / max(1, model["ffn_units"]),
        )


_RESOURCES: Mapping[str, tuple[str, Callable[[float | None], str]]] = {
    "memory_bytes": ("peak memory", text.size),
    "energy_j": ("energy a call", text.joules),
    "throughput_per_s": ("throughput", text.per_second),
}


def resources(front: Front, candidate: CandidateInfo) -> list[ResourceView]:
    """What else the run asked for, in the same order for every candidate; empty where it asked for latency alone."""
    asked = [key for key in _RESOURCES if cast("Any", front["dense"]["predicted"])[key] is not None]
    return [_resource(key, candidate) for key in asked]


def _resource(key: str, candidate: CandidateInfo) -> ResourceView:
    name, say = _RESOURCES[key]
    predicted, measured = (cast("Any", candidate[side] or {}).get(key) for side in ("predicted", "measured"))
    return ResourceView(
        name=name, predicted=predicted, measured=measured, predicted_text=say(predicted), measured_text=say(measured)
    )


def tokens(front: Front) -> str:
    """How long the sequences are: one length, or the range of the traffic."""
    workload = front["workload"]
    if workload["traffic"] is None:
        return str(workload["tokens"])
    asked = workload["traffic"]["tokens"]
    return f"{asked[0]} to {asked[-1]}"


def kept_attention(candidate: CandidateInfo) -> int:
    """How many attention sub-blocks are left: what the exported graph's Attention nodes must number."""
    return sum(heads > 0 for heads in candidate["shape"]["heads"])


def grid_view(candidate: CandidateInfo) -> GridView:
    """The measured speed-ups by batch, threads and tokens; a workload that was not measured is `None`."""
    cells = {(cell["batch"], cell["threads"], cell["tokens"]): cell for cell in candidate["grid"]}
    columns = sorted({key[1:] for key in cells})
    rows = [(batch, [cells.get((batch, *column)) for column in columns]) for batch in sorted({key[0] for key in cells})]
    return GridView(columns=columns, rows=rows)


def prediction_error(candidate: CandidateInfo) -> float | None:
    """Predicted over measured p50, minus one; `None` where nothing was measured."""
    if candidate["measured"] is None:
        return None
    return candidate["predicted"]["latency_ms"] / candidate["measured"]["latency_ms"]["p50"] - 1
