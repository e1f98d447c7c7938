"""The declared form of a cost table's file, of the one schema that is read."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, NotRequired

from annotated_types import Ge, Le, Len
from typing_extensions import TypedDict

from targets import forms

_Seconds = Annotated[float, Ge(0), Le(1e6)]
_Size = Annotated[int, Ge(0), Le(10**12)]
"""Heads, units, or the weights that stay in a cache."""


class WorkloadForm(TypedDict):
    """What is asked of the device; a row that says more has these names, too."""

    batch: forms.Positive
    tokens: forms.Positive
    threads: forms.Positive
    precision: forms.Name
    runtime: forms.Name
    lengths: NotRequired[Annotated[list[forms.Positive], Len(0, 10_000)]]
    opset: NotRequired[forms.Positive]


class EntryForm(WorkloadForm):
    """Seconds of a piece at a size."""

    piece: Literal[
        "base", "mask", "attention", "ffn", "ffn_remainder", "attention_workspace", "ffn_workspace", "uncached"
    ]
    size: _Size
    seconds: _Seconds


class ErrorForm(WorkloadForm):
    """How far off the table is on networks it never saw; shares."""

    check_nets: forms.Count
    mape: forms.Deviation
    p95: forms.Deviation
    max: forms.Deviation
    spearman: forms.Correlation
    control_mape: forms.Deviation


class DimensionsForm(TypedDict):
    """The dense model."""

    layers: forms.Layers
    heads: Annotated[int, Ge(1), Le(10_000)]
    ffn_units: Annotated[int, Ge(1), Le(10**6)]
    hidden_size: Annotated[int, Ge(1), Le(10**6)]
    head_size: Annotated[int, Ge(1), Le(10**5)]
    vocabulary: Annotated[int, Ge(1), Le(10**9)]
    queries: NotRequired[Annotated[int, Ge(1), Le(10_000)]]
    ffn_reads: NotRequired[Annotated[int, Ge(1), Le(2)]]


class MeasuredForm(WorkloadForm):
    """How many networks a workload's entries were taken from, and which sizes because the curve bends there."""

    networks: forms.Count
    ffn_units_at_bends: list[forms.Width]


class NetworkForm(WorkloadForm):
    """A network by its sizes."""

    heads: Annotated[list[forms.Width], Len(0, forms.MOST_LAYERS)]
    ffn_units: Annotated[list[forms.Width], Len(0, forms.MOST_LAYERS)]


class OriginForm(TypedDict):
    """The table that another was carried over from."""

    source: Literal["measured", "transferred", "roofline", "null"]
    name: NotRequired[forms.Words]
    device: NotRequired[forms.Words]


TransferForm = TypedDict("TransferForm", {"from": OriginForm, "to": WorkloadForm})
"""How a table was carried over from another."""


class HowForm(TypedDict):
    """How it was measured, as far as it is read."""

    measured: NotRequired[list[MeasuredForm]]
    too_large: NotRequired[list[NetworkForm]]
    transfers: NotRequired[list[TransferForm]]
    warnings: NotRequired[list[forms.Words]]


class CostTableForm(TypedDict):
    """The whole file."""

    schema: int
    kind: str
    target: forms.Id
    source: Literal["measured", "transferred", "roofline", "null"]
    fingerprint: Mapping[str, Any]
    dimensions: DimensionsForm
    errors: list[ErrorForm]
    seconds_to_measure: NotRequired[forms.Seconds]
    alignment: Annotated[int, Ge(1), Le(10**5)]
    how: NotRequired[HowForm]
    entries: Annotated[list[EntryForm], Len(0, 200_000)]
    checks: NotRequired[list[WorkloadForm]]
