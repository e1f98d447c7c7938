"""The search of one run: genomes to (validation error, costs), every evaluation kept in the store."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from compiler.costing import CostModel, parameter_counts
from compiler.evaluation import Quality, Yardstick
from compiler.oneshot import allocate
from compiler.pipeline.monitor import Monitor
from compiler.pipeline.options import Options
from compiler.pipeline.subject import Subject
from compiler.pipeline.weights import Ranking, Weights
from compiler.search import is_nondominated, make_method
from compiler.slicing import SubnetRunner
from compiler.spaces import Counts, Space, Subnet, sample_stratified
from compiler.spaces.subnet import IntArray
from compiler.store import Store, key_of
from profilers import LayerSizes

EVALUATIONS = {"fast": 60, "balanced": 80, "thorough": 100}
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One evaluated sub-network."""

    id: str
    subnet: Subnet
    quality: Quality
    latency_s: float
    parameters: int


class Hunt:
    """Evaluates and searches; what was evaluated before, in this run or a killed one, is looked up."""

    def __init__(
        self, subject: Subject, space: Space, cost: CostModel, weights: Weights, yardstick: Yardstick, store: Store
    ) -> None:
        self.subject, self.space, self.cost, self.weights = subject, space, cost, weights
        self.yardstick, self.store = yardstick, store
        self.runner = SubnetRunner(subject.checkpoint.model, subject.checkpoint.architecture)
        self.found: dict[str, Found] = {}
        self.about: dict[str, Any] = {}

    def run(self, subnet: Subnet, parameters: Mapping[str, Tensor]) -> Any:
        """What the yardstick runs: a sub-network with given weights."""
        return lambda inputs: self.runner(subnet, inputs, parameters)[-1]

    def evaluate(self, subnet: Subnet) -> Found:
        """Quality on the search split, and predicted costs."""
        if subnet.digest in self.found:
            return self.found[subnet.digest]
        counts = Counts.of([subnet.shape])
        architecture = self.subject.checkpoint.architecture
        found = Found(
            id=f"n{len(self.found):03d}",
            subnet=subnet,
            quality=self._quality(subnet),
            latency_s=float(self.cost.latency_s(counts)[0]),
            parameters=int(parameter_counts(architecture, counts)[0]),
        )
        self.found[subnet.digest] = found
        return found

    def _quality(self, subnet: Subnet) -> Quality:
        key = key_of([self.about, subnet.digest])
        stored = self.store.get("evaluated", key)
        if stored is not None:
            return Quality(**stored)
        quality = self.yardstick.quality(self.run(subnet, self.weights.searched(subnet)))
        self.store.put("evaluated", key, {"metric": quality.metric, "others": dict(quality.others)})
        return quality

    def objectives(self, found: list[Found], names: tuple[str, ...]) -> Floats:
        """[n, 1 + objectives]: error first, all minimised."""
        columns = {"latency": [f.latency_s for f in found], "params": [float(f.parameters) for f in found]}
        return np.array([[f.quality.error for f in found], *(columns[name] for name in names)]).T

    def search(self, options: Options, ranking: Ranking, monitor: Monitor) -> list[Found]:
        """Ask, evaluate, tell, until the evaluations are spent; the non-dominated ones, fastest first."""
        total = options.evaluations or EVALUATIONS[self.subject.effort]
        method = make_method(
            options.search,
            self.space,
            lambda rng, n: sample_stratified(self.space, rng, n, self.cost.latency_s),
            seed=options.seed,
            seeds=self.allocated(ranking),
        )
        asked = 0
        while asked < total:
            genomes = method.ask()[: total - asked]
            evaluated = []
            for genome in genomes:
                evaluated.append(self.evaluate(self.space.subnet(genome)))
                asked += 1
                monitor.progress(asked / total)
            method.tell(genomes, self.objectives(evaluated, options.objectives))
        everything = list(self.found.values())
        front = is_nondominated(self.objectives(everything, options.objectives))
        return sorted((f for f, kept in zip(everything, front, strict=True) if kept), key=lambda f: f.latency_s)

    def allocated(self, ranking: Ranking, count: int = 16) -> IntArray | None:
        """Seeds: the sizes that lose least by the additive loss model, at latencies spread over the range.

        Only MEDIUM can hold them; other spaces start without.
        """
        if type(self.space).__name__ != "Medium":
            return None
        layers, step = self.space.layers, self.space.unit_step
        heads = np.arange(self.space.heads + 1)
        units = np.minimum(np.arange(self.space.steps + 1) * step, self.space.units)
        losses = [ranking.blocks[i, "attention"].losses[heads] for i in range(layers)]
        losses += [ranking.blocks[i, "ffn"].losses[units] for i in range(layers)]
        costs = [self.cost.attention_s[heads]] * layers + [self.cost.ffn_s[units]] * layers
        full = float(sum(cost[-1] for cost in costs))
        budgets = [full * share for share in np.linspace(0.08, 0.95, count)]
        return np.array(allocate(losses, costs, budgets), dtype=np.int64)


def dense_subnet(space: Space) -> Subnet:
    """Every head and every unit."""
    return Subnet.first((LayerSizes(space.heads, space.units),) * space.layers, space.ordering)
