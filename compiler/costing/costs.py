"""All that a search may ask less of: one value a sub-network and objective, all minimised."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compiler.costing.model import CostModel, parameter_counts
from compiler.families import Architecture
from compiler.spaces import Counts, Shape
from profilers import Estimate
from profilers.energy_model import EnergyModel
from profilers.memory_model import MemoryModel

Floats = NDArray[np.float64]

OBJECTIVES = ("latency", "params", "memory", "energy", "throughput")


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchModel:
    """Sequences a second at the batch that gives most of them, no call lasting longer than `ceiling_s`.

    The smallest batch is always allowed: what is too slow at that is for the latency's own budget to say.
    """

    batches: Mapping[int, CostModel]
    ceiling_s: float | None = None

    def best(self, counts: Counts) -> tuple[NDArray[np.int64], Floats]:
        """The batch [N] and the sequences a second [N] of N shapes."""
        sizes = np.array(sorted(self.batches))
        seconds = np.array([self.batches[int(size)].latency_s(counts) for size in sizes])
        rates = sizes[:, None] / seconds
        if self.ceiling_s is not None:
            rates[1:][seconds[1:] > self.ceiling_s] = 0.0
        chosen = rates.argmax(axis=0)
        return sizes[chosen], rates[chosen, np.arange(rates.shape[1])]


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """What sub-networks cost at one precision. Memory, energy and throughput are there where a run asks for them."""

    architecture: Architecture
    latency: CostModel
    memory: MemoryModel | None = None
    energy: EnergyModel | None = None
    throughput: BatchModel | None = None

    def of(self, counts: Counts) -> dict[str, Floats]:
        """Values [N] by objective, lower is better.

        `latency` in seconds, `params` a count, `memory` peak bytes, `energy` joules a call, `throughput` seconds a sequence.
        """
        latency_s = self.latency.latency_s(counts)
        values = {"latency": latency_s, "params": parameter_counts(self.architecture, counts)}
        if self.memory is not None:
            values["memory"] = self.memory.peak_bytes(counts.heads, counts.units)
        if self.energy is not None:
            values["energy"] = self.energy.joules(latency_s, self.latency.operations(counts))
        if self.throughput is not None:
            values["throughput"] = 1 / self.throughput.best(counts)[1]
        return values

    def estimate(self, shape: Shape, width: int | None = None) -> Estimate:
        """Predicted seconds of one shape and width, with their source."""
        return self.latency.estimate(shape, width)
