"""Vectorised costs: shapes in, arrays out."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from compiler.families import Architecture
from compiler.spaces import Counts, Shape, SubBlock
from profilers import CostKey, CostTable, Dimensions, Estimate, Stack, Workload
from profilers.roofline import operation_counts

Floats = NDArray[np.float64]


def dimensions_of(architecture: Architecture) -> Dimensions:
    """The sizes of a checkpoint that no sub-network changes, as the profiler wants them."""
    return Dimensions(
        layers=architecture.layers,
        heads=architecture.heads,
        ffn_units=architecture.ffn_units,
        hidden_size=architecture.hidden_size,
        head_size=architecture.head_size,
        vocabulary=architecture.vocabulary,
    )


def parameter_counts(architecture: Architecture, counts: Counts) -> Floats:
    """Parameters [N] of N shapes, by closed form."""
    attention = np.array([architecture.attention_parameters(h) for h in range(architecture.heads + 1)])
    ffn = np.array([architecture.ffn_parameters(u) for u in range(architecture.ffn_units + 1)])
    total = attention[counts.heads].sum(axis=1) + ffn[counts.units].sum(axis=1)
    return np.asarray(total + architecture.stem_parameters, dtype=np.float64)


@dataclass(frozen=True, slots=True, kw_only=True)
class CostModel:
    """A cost table laid out for look-up: seconds by size, under one workload or a weighted sum of several (traffic).

    Each layer has its own curves [layers, sizes]: a sub-block may run in another precision than the rest. `exact` are the
    workloads of those.
    """

    table: CostTable
    weights: Mapping[Workload, float]
    base_s: float
    mask_s: float
    attention_s: Floats
    ffn_s: Floats
    head_workspace_s: float
    unit_workspace_s: float
    exact: tuple[Workload, ...] = ()

    @classmethod
    def of(cls, table: CostTable, workload: Workload) -> "CostModel":
        """Read the curves off a table: of traffic that it was not measured under, the weighted sum over lengths that it has.

        MissingCostError where it lacks what is asked.
        """
        dims, weights = table.dimensions, table.weights(workload)
        parts = [
            (
                weight,
                table.lookup(CostKey("base", 0, read)).value,
                table.lookup(CostKey("mask", 0, read)).value,
                table.curve("attention", dims.heads, read),
                table.curve("ffn", dims.ffn_units, read),
                table.workspace("attention_workspace", read),
                table.workspace("ffn_workspace", read),
            )
            for read, weight in weights.items()
        ]
        base, mask, attention, ffn, head, unit = (sum(part[0] * part[i] for part in parts) for i in range(1, 7))
        return cls(
            table=table, weights=weights, base_s=float(base), mask_s=float(mask),
            attention_s=np.tile(attention, (dims.layers, 1)), ffn_s=np.tile(ffn, (dims.layers, 1)),
            head_workspace_s=float(head), unit_workspace_s=float(unit),
        )  # fmt: skip

    def with_exceptions(self, exact: "CostModel", exceptions: Iterable[SubBlock]) -> "CostModel":
        """This model with some sub-blocks at what they take in a more exact precision.

        What belongs to no one sub-block (base, mask, the buffers of the widest) stays.
        """
        attention, ffn = self.attention_s.copy(), self.ffn_s.copy()
        for layer, piece in exceptions:
            mine, other = (attention, exact.attention_s) if piece == "attention" else (ffn, exact.ffn_s)
            mine[layer] = other[layer]
        return replace(self, attention_s=attention, ffn_s=ffn, exact=tuple(exact.weights))

    def latency_s(self, counts: Counts) -> Floats:
        """Predicted seconds [N] of N shapes: a sum of table look-ups, lower is better."""
        layers = np.arange(counts.heads.shape[1])
        blocks = self.attention_s[layers, counts.heads].sum(axis=1) + self.ffn_s[layers, counts.units].sum(axis=1)
        widest = self.head_workspace_s * counts.heads.max(axis=1) + self.unit_workspace_s * counts.units.max(axis=1)
        return np.asarray(self.base_s + blocks + widest + np.where(counts.heads.any(axis=1), self.mask_s, 0.0))

    def of_stacks(self, stacks: Sequence[Stack]) -> Floats:
        """Predicted seconds [N] of N shapes of equally many layers."""
        return self.latency_s(Counts.of(stacks))

    def operations(self, counts: Counts) -> Floats:
        """Floating-point operations [N] of the encoder layers of N shapes, a call."""
        parts = [
            weight * operation_counts(workload, self.table.dimensions, counts.heads, counts.units)
            for workload, weight in self.weights.items()
        ]
        return np.asarray(sum(parts))

    def estimate(self, shape: Shape) -> Estimate:
        """Predicted seconds of one shape, with their source: that of the least certain part.

        What is read between lengths is interpolated.
        """
        read = {self.table.predict(shape, workload).source for workload in (*self.weights, *self.exact)}
        if len(self.weights) > 1 and read == {"measured"}:
            read = {"interpolated"}
        source = min(read, key=lambda source: source == "measured")
        return Estimate(value=float(self.of_stacks([shape])[0]), source=source)
