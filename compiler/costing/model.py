"""Vectorised costs: shapes in, arrays out."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from compiler.families import Architecture
from compiler.spaces import Counts, Shape, SubBlock
from profilers import CostKey, CostTable, Dimensions, Estimate, MissingCostError, Overflow, Stack, Workload
from profilers.interpolation import between
from profilers.roofline import operation_counts

Floats = NDArray[np.float64]
IntArray = NDArray[np.int64]


def dimensions_of(architecture: Architecture) -> Dimensions:
    """The sizes of a checkpoint that no sub-network changes, as the profiler wants them."""
    ffn = architecture.branches_within(0)[-1]
    return Dimensions(
        layers=architecture.layers,
        heads=architecture.heads,
        ffn_units=architecture.ffn_units,
        hidden_size=architecture.hidden_size,
        head_size=architecture.head_size,
        vocabulary=architecture.vocabulary,
        queries=architecture.queries,
        ffn_reads=sum(matrix.rows_each[0] for matrix in ffn.reads),
    )


def parameter_counts(architecture: Architecture, counts: Counts) -> Floats:
    """Parameters [N] of N shapes, by closed form."""
    if counts.widths is None:
        return _parameters(architecture, counts, None)
    total = np.empty(len(counts.widths))
    for width in np.unique(counts.widths):
        mine = counts.widths == width
        total[mine] = _parameters(architecture, counts.rows(mine), int(width))
    return total


def _parameters(architecture: Architecture, counts: Counts, width: int | None) -> Floats:
    """The same of shapes of one width."""
    attention, first_unit, unit = _block_parameters(architecture, width)
    heads = attention[np.arange(architecture.layers), counts.heads].sum(axis=1)
    units = np.where(counts.units, first_unit + unit * (counts.units - 1), 0).sum(axis=1)
    return np.asarray(heads + units + architecture.outside_parameters(width), dtype=np.float64)


@lru_cache(maxsize=64)
def _block_parameters(architecture: Architecture, width: int | None) -> tuple[IntArray, IntArray, IntArray]:
    """Parameters of every layer's attention by size [layers, sizes], of an FFN of one unit, and of each unit more [layers]."""

    def of(piece: str, sizes: Iterable[int]) -> list[list[int]]:
        layers = range(architecture.layers)
        return [[architecture.block_parameters(layer, piece, size, width) for size in sizes] for layer in layers]

    one, two = np.array(of("ffn", (1, 2)), dtype=np.int64).T
    return np.array(of("attention", range(architecture.largest.heads + 1)), dtype=np.int64), one, two - one


@dataclass(frozen=True, slots=True, kw_only=True)
class CostModel:
    """A cost table laid out for look-up: seconds by size, under one workload or a weighted sum of several (traffic).

    Each layer has its own curves [layers, sizes]: a sub-block may run in another precision than the rest. `exact` are the
    workloads of those. `overflows` are what weights beyond the cache take, under each workload read. A table is of one width
    of the residual stream. `narrower` are the models of other tables, of the same
    network at smaller widths; between two of them every piece is on the line, and so is their sum.
    """

    table: CostTable
    weights: Mapping[Workload, float]
    base_s: float
    mask_s: float
    attention_s: Floats
    ffn_s: Floats
    head_workspace_s: float
    unit_workspace_s: float
    overflows: tuple[Overflow, ...] = ()
    exact: tuple[Workload, ...] = ()
    narrower: tuple["CostModel", ...] = ()

    @property
    def width(self) -> int:
        """Residual dimensions of the networks its table was made of."""
        return self.table.dimensions.hidden_size

    @property
    def at_widths(self) -> "list[CostModel]":
        """Itself and the narrower ones, the narrowest first."""
        return sorted((self, *self.narrower), key=lambda model: model.width)

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
                table.curve("attention", dims.largest.heads, read),
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
            overflows=tuple(
                overflow._replace(a_weight_s=weight * overflow.a_weight_s)
                for read, weight in weights.items()
                for overflow in table.overflows(read)
            ),
        )  # fmt: skip

    def with_exceptions(self, exact: "CostModel", exceptions: Collection[SubBlock]) -> "CostModel":
        """This model with some sub-blocks at what they take in a more exact precision.

        What belongs to no one sub-block (base, mask, the buffers of the widest) stays.
        """
        attention, ffn = self.attention_s.copy(), self.ffn_s.copy()
        for layer, piece in exceptions:
            mine, other = (attention, exact.attention_s) if piece == "attention" else (ffn, exact.ffn_s)
            mine[layer] = other[layer]
        narrower = tuple(
            mine.with_exceptions(other, exceptions) for mine, other in zip(self.narrower, exact.narrower, strict=True)
        )
        return replace(self, attention_s=attention, ffn_s=ffn, exact=tuple(exact.weights), narrower=narrower)

    def latency_s(self, counts: Counts) -> Floats:
        """Predicted seconds [N] of N shapes: a sum of table look-ups, lower is better.

        MissingCostError where a network is narrower than every table.
        """
        if counts.widths is not None:
            return self._between_tables(counts)
        layers = np.arange(counts.heads.shape[1])
        blocks = self.attention_s[layers, counts.heads].sum(axis=1) + self.ffn_s[layers, counts.units].sum(axis=1)
        widest = self.head_workspace_s * counts.heads.max(axis=1) + self.unit_workspace_s * counts.units.max(axis=1)
        once = self.base_s + np.where(counts.heads.any(axis=1), self.mask_s, 0.0)
        dims = self.table.dimensions
        weights = dims.attention_weights[counts.heads].sum(axis=1) + dims.weights_a_unit * counts.units.sum(axis=1)
        return np.asarray(once + blocks + widest + sum(overflow.seconds(weights) for overflow in self.overflows))

    @property
    def sums(self) -> "list[CostModel]":
        """Models without overflows; the latency of any network is the largest of theirs.

        Overflows are convex in the weights: the more there are of them, the more set in, in the order of what fits.
        """
        dims, found = self.table.dimensions, [replace(self, overflows=())]
        units = np.arange(self.ffn_s.shape[1])
        for overflow in sorted(self.overflows):
            last = found[-1]
            found.append(
                replace(
                    last,
                    base_s=last.base_s - overflow.a_weight_s * overflow.fits,
                    attention_s=last.attention_s + overflow.a_weight_s * dims.attention_weights,
                    ffn_s=last.ffn_s + overflow.a_weight_s * dims.weights_a_unit * units,
                )
            )
        return found

    def _between_tables(self, counts: Counts) -> Floats:
        models, alike = self.at_widths, counts._replace(widths=None)
        widths = [model.width for model in models]
        asked = np.asarray(counts.widths)
        if len(asked) and asked.min() < widths[0]:
            raise MissingCostError(f"no costs of networks narrower than {widths[0]}, asked: {asked.min()}")
        shares = between(widths, asked).T
        return np.asarray((shares * [model.latency_s(alike) for model in models]).sum(axis=0))

    def bends(self, counts: Counts) -> list[float]:
        """For every table between two others, how far it is off the line between them: a mean share over N shapes."""
        models, off = self.at_widths, []
        for below, here, above in zip(models, models[1:], models[2:], strict=False):
            share = (here.width - below.width) / (above.width - below.width)
            line = (1 - share) * below.latency_s(counts) + share * above.latency_s(counts)
            off.append(float(np.abs(line / here.latency_s(counts) - 1).mean()))
        return off

    def of_stacks(self, stacks: Sequence[Stack]) -> Floats:
        """Predicted seconds [N] of N shapes of equally many layers."""
        return self.latency_s(Counts.of(stacks))

    def operations(self, counts: Counts) -> Floats:
        """Floating-point operations [N] of the encoder layers of N shapes, a call."""
        total = np.zeros(len(counts.heads))
        widths = np.full(len(total), self.width) if counts.widths is None else counts.widths
        for width in np.unique(widths):
            mine, dims = counts.rows(widths == width), replace(self.table.dimensions, hidden_size=int(width))
            total[widths == width] = sum(
                weight * operation_counts(workload, dims, mine.heads, mine.units)
                for workload, weight in self.weights.items()
            )
        return total

    def estimate(self, shape: Shape, width: int | None = None) -> Estimate:
        """Predicted seconds of one shape, with their source: that of the least certain part.

        `width` is that of its residual stream where it has not the whole network's. What is read between lengths, or
        between widths, is interpolated.
        """
        if width is not None and width != self.width:
            return self._estimate_at(shape, width)
        read = {self.table.predict(shape, workload).source for workload in (*self.weights, *self.exact)}
        if len(self.weights) > 1 and read == {"measured"}:
            read = {"interpolated"}
        source = min(read, key=lambda source: source == "measured")
        return Estimate(value=float(self.of_stacks([shape])[0]), source=source)

    def _estimate_at(self, shape: Shape, width: int) -> Estimate:
        own = next((model for model in self.narrower if model.width == width), None)
        if own is not None:
            return own.estimate(shape)
        seconds = self.latency_s(Counts.of([shape])._replace(widths=np.array([width])))
        source = "interpolated" if self.table.source == "measured" else self.table.source
        return Estimate(value=float(seconds[0]), source=source)
