"""All that a search may ask less of: one value a sub-network and objective, all minimised."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from compiler.costing.model import CostModel, parameter_counts
from compiler.families import Architecture
from compiler.spaces import Counts, Shape, SubBlock
from profilers import Estimate
from profilers.energy_model import EnergyModel
from profilers.memory_model import MemoryModel

Floats = NDArray[np.float64]

OBJECTIVES = ("latency", "params", "memory", "energy", "throughput")


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchModel:
    """Sequences a second at the batch that gives most of them, no call lasting longer than `ceiling_s`.

    The smallest batch is always allowed: what is too slow at that is for the latency's own budget to say. `calls` are the
    latencies that the ceiling is for, where they are not the `batches`' own: the tail of traffic, say.
    """

    batches: Mapping[int, CostModel]
    calls: Mapping[int, CostModel] | None = None
    ceiling_s: float | None = None

    def best(self, counts: Counts) -> tuple[NDArray[np.int64], Floats]:
        """The batch [N] and the sequences a second [N] of N shapes."""
        sizes = np.array(sorted(self.batches))
        rates = sizes[:, None] / self._seconds(self.batches, sizes, counts)
        if self.ceiling_s is not None:
            calls_s = self._seconds(self.calls or self.batches, sizes, counts)
            rates[1:][calls_s[1:] > self.ceiling_s] = 0.0
        chosen = rates.argmax(axis=0)
        return sizes[chosen], rates[chosen, np.arange(rates.shape[1])]

    @staticmethod
    def _seconds(models: Mapping[int, CostModel], sizes: NDArray[np.int64], counts: Counts) -> Floats:
        return np.array([models[int(size)].latency_s(counts) for size in sizes])

    def with_exceptions(self, exact: "BatchModel", exceptions: Iterable[SubBlock]) -> "BatchModel":
        """As `CostModel.with_exceptions`, at every batch that both are known at."""
        kept = tuple(exceptions)

        def mixed(models: Mapping[int, CostModel], others: Mapping[int, CostModel]) -> dict[int, CostModel]:
            return {size: model.with_exceptions(others[size], kept) for size, model in models.items() if size in others}

        calls = None if self.calls is None else mixed(self.calls, exact.calls or exact.batches)
        return replace(self, batches=mixed(self.batches, exact.batches), calls=calls)


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """What sub-networks cost at one precision. Memory, energy and throughput are there where a run asks for them.

    The sub-blocks in `exceptions` stay in fp32: they take the time and the bytes that they take there.
    """

    architecture: Architecture
    latency: CostModel
    memory: MemoryModel | None = None
    energy: EnergyModel | None = None
    throughput: BatchModel | None = None
    exceptions: tuple[SubBlock, ...] = ()

    def with_exceptions(self, exact: "Costs", exceptions: Iterable[SubBlock]) -> "Costs":
        """These costs with some sub-blocks kept in fp32; `exact` are the costs there."""
        kept = tuple(exceptions)
        throughput = self.throughput
        if throughput is not None and exact.throughput is not None:
            throughput = throughput.with_exceptions(exact.throughput, kept)
        latency = self.latency.with_exceptions(exact.latency, kept)
        return replace(self, latency=latency, throughput=throughput, exceptions=kept)

    def of(self, counts: Counts) -> dict[str, Floats]:
        """Values [N] by objective, lower is better.

        `latency` in seconds, `params` a count, `memory` peak bytes, `energy` joules a call, `throughput` seconds a sequence.
        """
        latency_s = self.latency.latency_s(counts)
        values = {"latency": latency_s, "params": parameter_counts(self.architecture, counts)}
        if self.memory is not None:
            values["memory"] = self.memory.peak_bytes(counts.heads, counts.units, self._exact_parameters(counts))
        if self.energy is not None:
            values["energy"] = self.energy.joules(latency_s, self.latency.operations(counts))
        if self.throughput is not None:
            values["throughput"] = 1 / self.throughput.best(counts)[1]
        return values

    def _exact_parameters(self, counts: Counts) -> Floats:
        """Parameters [N] of the sub-blocks that stay in fp32."""
        total = np.zeros(len(counts.heads))
        widths = [None] * len(total) if counts.widths is None else counts.widths.tolist()
        for layer, piece in self.exceptions:
            groups = (counts.heads if piece == "attention" else counts.units)[:, layer]
            total += [
                self.architecture.block_parameters(layer, piece, int(size), width)
                for size, width in zip(groups, widths, strict=True)
            ]
        return total

    def estimate(self, shape: Shape, width: int | None = None) -> Estimate:
        """Predicted seconds of one shape and width, with their source."""
        return self.latency.estimate(shape, width)
