"""The search of one run: genomes to (validation error, costs), every evaluation kept in the store."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from compiler.costing import Costs
from compiler.evaluation import Quality, Run
from compiler.export import ModelWorkbench, graph_run
from compiler.pipeline.learned import Learned
from compiler.pipeline.monitor import Monitor
from compiler.pipeline.options import Options
from compiler.pipeline.seeds import find_seeds
from compiler.search import is_nondominated, make_method
from compiler.slicing import SubnetRunner, bf16_where_it_is, has_bf16
from compiler.spaces import MixedPrecision, Space, Subnet, sample_stratified, sample_uniform
from compiler.spaces.space import Medium, Width
from compiler.spaces.subnet import IntArray
from compiler.store import Store, key_of
from targets import STATIC, usable_cpus

AS_SERVED = ("int8", STATIC)
"""Precisions whose networks are judged as the files that ship; the others follow fp32 closely and are judged in it."""

EVALUATIONS = {"fast": 40, "balanced": 80, "thorough": 100}
SEEDS = 16

_OVER = 1.1  # evaluated is what is predicted a little above a limit, too: the prediction has an error
_REFUSALS = 50  # networks above a limit that may be drawn for each evaluation
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One evaluated sub-network at one precision; `costs` are predicted, by objective (`compiler.costing.Costs.of`)."""

    id: str
    subnet: Subnet
    precision: str
    quality: Quality
    costs: Mapping[str, float]

    @property
    def latency_s(self) -> float:
        """Predicted latency of a call, in seconds."""
        return self.costs["latency"]

    @property
    def parameters(self) -> int:
        """How many weights it has."""
        return int(self.costs["params"])


class Hunt:
    """Evaluates and searches; what was evaluated before, in this run or a killed one, is looked up."""

    def __init__(
        self,
        learned: Learned,
        shapes: Space,
        costs: Mapping[str, Costs],
        precisions: tuple[str, ...],
        bench: ModelWorkbench,
        store: Store,
    ) -> None:
        self.learned, self.shapes, self.costs, self.precisions = learned, shapes, costs, precisions
        self.space = MixedPrecision.of(shapes, precisions)
        self.subject, self.bench, self.store = learned.subject, bench, store
        self.about = learned.about
        self.runner = SubnetRunner(self.subject.checkpoint.model, self.subject.checkpoint.architecture)
        self.found: dict[tuple[str, str], Found] = {}
        self.gap: float | None = None

    def run(self, subnet: Subnet, parameters: Mapping[str, Tensor], precision: str) -> Run:
        """What the yardstick runs: a sub-network with given weights; a quantised one as it will be served."""
        if precision in AS_SERVED:
            return graph_run(self.bench.graph(subnet, parameters, precision), usable_cpus())
        return lambda inputs: self.runner(subnet, inputs, parameters)[-1]

    def evaluate(self, subnet: Subnet, precision: str) -> Found:
        """Quality on the search split, and predicted costs."""
        key = (subnet.digest, precision)
        if key not in self.found:
            self.found[key] = self.costed(f"n{len(self.found):03d}", subnet, precision, self.quality(subnet, precision))
        return self.found[key]

    def costed(self, name: str, subnet: Subnet, precision: str, quality: Quality) -> Found:
        """A sub-network of known quality with its predicted costs."""
        costs = self.costs[precision].of(subnet.counts)
        return Found(
            id=name,
            subnet=subnet,
            precision=precision,
            quality=quality,
            costs={objective: float(values[0]) for objective, values in costs.items()},
        )

    def best_batch(self, found: Found) -> int:
        """The batch of most sequences a second that is predicted, where the run asks for throughput."""
        throughput = self.costs[found.precision].throughput
        assert throughput is not None  # noqa: S101  the caller asked
        return int(throughput.best(found.subnet.counts)[0][0])

    def quality(self, subnet: Subnet, precision: str) -> Quality:
        """How good a sub-network is while searching, from the store where it was evaluated before, for whatever target."""
        key = key_of([self.about, subnet.digest, judged_in(precision), has_bf16()])
        stored = self.store.get("evaluated", key)
        if stored is not None:
            return Quality.from_json(stored)
        parameters = self.learned.weights.searched(subnet)
        with bf16_where_it_is():
            quality = self.learned.search.quality(self.run(subnet, parameters, precision))
        self.store.put("evaluated", key, quality.to_json())
        return quality

    def objectives(self, found: list[Found], names: tuple[str, ...]) -> Floats:
        """[n, 1 + objectives]: error first, all minimised."""
        return np.array([[f.quality.error, *(f.costs[name] for name in names)] for f in found])

    def search(
        self, options: Options, limits: Mapping[str, float], monitor: Monitor, *, seeded: bool = True
    ) -> list[Found]:
        """Ask, evaluate, tell, until the evaluations are spent; the non-dominated ones, fastest first.

        It starts from allocations where it is `seeded` and heads and units are ordered by importance: their losses hold for
        that order alone.
        What is predicted above a limit (`compiler.pipeline.limits.ceilings`) is told as failed and costs no evaluation.
        """
        total = options.evaluations or EVALUATIONS[self.subject.effort]
        count = total // 2 if options.search == "exact" else SEEDS
        seeds = self._seeds(count, limits) if seeded and options.order == "importance" else None
        draw = partial(self._draw, sampling=options.sampling)
        known = partial(self.known, names=options.objectives, limits=limits)
        method = make_method(options.search, self.space, draw, seed=options.seed, seeds=seeds, known=known)
        asked = refused = 0
        while asked < total and refused < _REFUSALS * total:
            genomes = method.ask()[: total - asked]
            told = np.full((len(genomes), 1 + len(options.objectives)), np.inf)
            for row in self._within(genomes, limits):
                precision = self.precisions[self.space.precision(genomes[row])]
                found = self.evaluate(self.space.subnet(genomes[row]), precision)
                told[row] = self.objectives([found], options.objectives)[0]
                asked += 1
                monitor.progress(asked / total)
            refused += int(np.isinf(told[:, 0]).sum())
            method.tell(genomes, told)
        everything = list(self.found.values())
        front = is_nondominated(self.objectives(everything, options.objectives))
        return sorted((f for f, kept in zip(everything, front, strict=True) if kept), key=lambda f: f.latency_s)

    def known(self, genomes: IntArray, names: tuple[str, ...], limits: Mapping[str, float]) -> Floats:
        """Predicted costs [n, objectives] of genomes; inf where they are far above a limit."""
        costs = self._costs(genomes, (*names, *limits))
        above = np.any(costs[:, len(names) :] > _OVER * np.array([*limits.values()]), axis=1)
        return np.where(above[:, None], np.inf, costs[:, : len(names)])

    def _costs(self, genomes: IntArray, names: tuple[str, ...]) -> Floats:
        """Predicted costs [n, names], each genome's at its own precision."""
        counts, which = self.space.counts(genomes), np.array([self.space.precision(genome) for genome in genomes])
        costs = np.empty((len(genomes), len(names)))
        for i in np.unique(which):
            mine = which == i
            values = self.costs[self.precisions[i]].of(counts.rows(mine))
            costs[mine] = np.stack([values[name] for name in names], axis=1)
        return costs

    def _within(self, genomes: IntArray, limits: Mapping[str, float]) -> IntArray:
        """Rows of the genomes that are not predicted far above a limit; while nothing was found, the fastest at least."""
        if not limits:
            return np.arange(len(genomes))
        allowed = np.isfinite(self.known(genomes, ("latency",), limits)[:, 0])
        if not allowed.any() and not self.found:
            return np.array([np.argmin(self._costs(genomes, ("latency",))[:, 0])])
        return np.flatnonzero(allowed)

    def _draw(self, rng: np.random.Generator, n: int, *, sampling: str) -> IntArray:
        """Stratified, small networks as often as large ones; every precision as often as the others."""
        if sampling == "uniform":
            return sample_uniform(self.space, rng, n)
        genomes = sample_stratified(self.shapes, rng, n, self.costs[self.precisions[0]].latency.latency_s)
        if self.space is self.shapes:
            return genomes
        return np.column_stack([genomes, rng.integers(len(self.precisions), size=n)])

    def _seeds(self, count: int, limits: Mapping[str, float]) -> IntArray | None:
        """As many allocations in every precision; MEDIUM can hold them, and WIDTH at its full width, others start without."""
        shapes = self.shapes.medium if isinstance(self.shapes, Width) else self.shapes
        if not isinstance(shapes, Medium):
            return None
        genomes = []
        for i, precision in enumerate(self.precisions):
            costs, ranking = self.costs[precision], self.learned.ranking
            seeds = find_seeds(shapes, costs, ranking, count // len(self.precisions), limits)
            if seeds.gap is not None:
                self.gap = max(self.gap or 0.0, seeds.gap)
            rest = self.space.upper[len(shapes.upper) :].copy()
            if self.space is not self.shapes:
                rest[-1] = i
            genomes.append(np.column_stack([seeds.genomes, np.tile(rest, (len(seeds.genomes), 1))]))
        return np.concatenate(genomes)


def judged_in(precision: str) -> str:
    """The precision that a network's quality is taken in: of those that are judged alike, all find it in the store."""
    return precision if precision in AS_SERVED else "fp32"


def dense_subnet(space: Space) -> Subnet:
    """Every head and every unit."""
    return Subnet.first(space.full, space.ordering)
