"""The search loop of a run: genomes to (validation error, costs), every evaluation kept in the store."""

from collections.abc import Mapping, Sequence
from functools import partial
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from compiler.evaluation import Quality
from compiler.execution import Progress
from compiler.export import ModelWorkbench
from compiler.pipeline.gated import learned_seeds
from compiler.pipeline.jobs import Evaluate
from compiler.pipeline.judge import Judge, judged_in
from compiler.pipeline.learned import Learned
from compiler.pipeline.monitor import Monitor, part
from compiler.pipeline.networks import Evaluated
from compiler.pipeline.options import Options
from compiler.pipeline.pricing import Pricing
from compiler.pipeline.seeds import find_seeds
from compiler.search import is_nondominated, make_method
from compiler.spaces import Form, MixedPrecision, Space, SubBlock, Subnet, sample_stratified, sample_uniform
from compiler.spaces.space import Medium, Width
from compiler.spaces.subnet import IntArray
from compiler.store import Store

EVALUATIONS = {"fast": 40, "balanced": 80, "thorough": 100}
SEEDS = 16
LEVELS = 128
"""Seeds of a search along them, of which it evaluates what it needs."""

_OVER = 1.1  # evaluated is what is predicted a little above a limit, too: the prediction has an error
_LEARNED = 0.5  # of the time of a search from gates, what they take to learn
_REFUSALS = 50  # networks above a limit that may be drawn for each evaluation
Floats = NDArray[np.float64]
_Evaluation = tuple[str, Form, float]
"""Of which sub-network (its digest) in which form, trained how far."""


class SearchLoop:
    """Evaluates and searches; what was evaluated before, in this run or a killed one, is looked up."""

    def __init__(
        self,
        learned: Learned,
        shapes: Space,
        pricing: Pricing,
        precisions: Sequence[str],
        bench: ModelWorkbench,
        store: Store,
        exceptions: Mapping[str, tuple[SubBlock, ...]] = MappingProxyType({}),
    ) -> None:
        """Where a precision has exceptions, networks are searched with and without them."""
        self.learned, self.shapes, self.pricing = learned, shapes, pricing
        self.forms = tuple(Form(p, kept) for p in precisions for kept in dict.fromkeys((exceptions.get(p, ()), ())))
        self.space = MixedPrecision.of(shapes, tuple(map(str, self.forms)))
        self.subject, self.bench, self.store = learned.subject, bench, store
        self.judge = Judge(learned, bench, store)
        self.found: dict[tuple[str, Form], Evaluated] = {}
        self.gap: float | None = None

    def evaluate(
        self,
        networks: Sequence[tuple[Subnet, Form]],
        share: float = 1.0,
        progress: Progress = lambda _: None,
        names: Sequence[str] = (),
    ) -> list[Evaluated]:
        """Quality on the search split, trained up to this share, and predicted costs; found is what was trained longest.

        Networks are judged side by side; `progress` gets the share that is done. One that a network found before outdoes, at
        no higher cost of any that `names` gives, is judged on some of the examples (`compiler.evaluation.early`).
        """
        networks = [(subnet, form.of(subnet.shape)) for subnet, form in networks]
        judged = dict.fromkeys((subnet, judged_in(form)) for subnet, form in networks)
        rivals = self._rivals(networks, share, names) if names else judged
        qualities = self.learned.weights.of_each(
            lambda one: self.judge.quality(*one, share, rivals[one]), list(judged), progress,
            job=lambda one, threads: Evaluate(subnet=one[0], form=one[1], share=share, rival=rivals[one]).job(threads),
        )  # fmt: skip
        known = dict(zip(judged, qualities, strict=True))
        return [self._found(subnet, form, known[subnet, judged_in(form)], share) for subnet, form in networks]

    def _rivals(
        self, networks: Sequence[tuple[Subnet, Form]], share: float, names: Sequence[str]
    ) -> dict[tuple[Subnet, Form], Quality | None]:
        """For what is judged, the best of those found, trained as long and judged on all examples, that cost no more in any form."""
        least: dict[tuple[Subnet, Form], Floats] = {}
        for subnet, form in networks:
            values = self.pricing.of(form).of(subnet.counts)
            costs, one = np.array([float(values[name][0]) for name in names]), (subnet, judged_in(form))
            least[one] = np.minimum(costs, least.get(one, costs))
        examples = len(self.learned.search.batches)
        pool = [f for f in self.found.values() if f.trained == share and len(f.quality.values) == examples]
        pool.sort(key=lambda f: f.quality.error)
        costs = self.objectives(pool, tuple(names))[:, 1:] if pool else np.empty((0, len(names)))
        no_dearer = {one: np.flatnonzero(np.all(costs <= limit, axis=1)) for one, limit in least.items()}
        return {one: pool[rows[0]].quality if len(rows) else None for one, rows in no_dearer.items()}

    def _found(self, subnet: Subnet, form: Form, quality: Quality, share: float) -> Evaluated:
        before = self.found.get((subnet.digest, form))
        if before is not None and before.trained == share:
            return before
        name = f"n{len(self.found):03d}" if before is None else before.id
        now = self.pricing.evaluated(name, subnet, form, quality, share)
        if before is None or before.trained < share:
            self.found[subnet.digest, form] = now
        return now

    def objectives(self, found: list[Evaluated], names: tuple[str, ...]) -> Floats:
        """[n, 1 + objectives]: error first, all minimised."""
        return np.array([[f.quality.error, *(f.costs[name] for name in names)] for f in found])

    def search(
        self, options: Options, limits: Mapping[str, float], monitor: Monitor, *, seeded: bool = True
    ) -> list[Evaluated]:
        """Ask, evaluate, tell, until the evaluations are spent; the non-dominated ones, fastest first.

        It starts from sizes that promise much, where it is `seeded` (`_seeds`).
        What is predicted above a limit (`compiler.pipeline.limits.ceilings`) is told as failed and costs no evaluation. Nor does
        a network that was found before: several genomes of SMALL stand for one. As many in a row as evaluations end the search.
        """
        total, name = options.evaluations or EVALUATIONS[self.subject.effort], options.method(self.subject.effort)
        begun = _LEARNED if seeded and name == "gates" else 0.0
        seeds = self._seeds(name, options.order, total, limits, part(monitor.progress, 0.0, begun)) if seeded else None
        progress = part(monitor.progress, begun, 1 - begun)
        draw = partial(self._draw, sampling=options.sampling)
        known = partial(self.known, names=options.objectives, limits=limits)
        method = make_method(name, self.space, draw, seed=options.seed, seeds=seeds, known=known)
        seen: set[_Evaluation] = set()
        refused = repeated = 0
        while len(seen) < total and refused < _REFUSALS * total and repeated < total:
            genomes = method.ask()
            rows = self._within(genomes, limits)
            networks = [(self.space.subnet(g), self.forms[self.space.precision(g)]) for g in genomes[rows]]
            keys = [(subnet.digest, form.of(subnet.shape), method.share) for subnet, form in networks]
            some = _first_of(keys, seen, total - len(seen))
            genomes, rows = genomes[: rows[some]] if some < len(rows) else genomes, rows[:some]
            new = seen.union(keys[:some]) - seen
            told_to = part(progress, len(seen) / total, len(new) / total)
            found = self.evaluate(networks[:some], method.share, told_to, options.objectives)
            told = np.full((len(genomes), 1 + len(options.objectives)), np.inf)
            told[rows] = self.objectives(found, options.objectives)
            seen |= new
            repeated = 0 if new else repeated + len(rows)
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
        """Predicted costs [n, names], each genome's in its own form."""
        counts, which = self.space.counts(genomes), np.array([self.space.precision(genome) for genome in genomes])
        costs = np.empty((len(genomes), len(names)))
        for i in np.unique(which):
            mine = which == i
            values = self.pricing.of(self.forms[i]).of(counts.rows(mine))
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
        """Stratified, small networks as often as large ones; every form as often as the others."""
        if sampling == "uniform":
            return sample_uniform(self.space, rng, n)
        genomes = sample_stratified(self.shapes, rng, n, self.pricing.of(self.forms[0]).latency.latency_s)
        if self.space is self.shapes:
            return genomes
        return np.column_stack([genomes, rng.integers(len(self.forms), size=n)])

    def _seeds(
        self, name: str, order: str, total: int, limits: Mapping[str, float], progress: Progress
    ) -> IntArray | None:
        """What gates learned where the search is named after them, allocations elsewhere; as many in every form.

        MEDIUM can hold them, and WIDTH at its full width; other spaces start without. So do allocations where heads and units
        are not ordered by importance: their losses hold for that order alone.
        """
        shapes = self.shapes.medium if isinstance(self.shapes, Width) else self.shapes
        learned = name == "gates"
        if not isinstance(shapes, Medium) or not (learned or order == "importance"):
            return None
        exact = name == "exact" and "memory" not in limits  # there each seed is a program of its own
        count = (LEVELS if exact else total // 2 if learned else SEEDS) // len(self.forms)
        genomes = []
        for i, form in enumerate(self.forms):
            costs = self.pricing.of(form)
            if learned:
                told = part(progress, i / len(self.forms), 1 / len(self.forms))
                seeds = learned_seeds(self.learned.weights, shapes, costs, count, limits, told)
            else:
                seeds = find_seeds(shapes, costs, self.learned.ranking, count, limits)
            if seeds.gap is not None:
                self.gap = max(self.gap or 0.0, seeds.gap)
            rest = self.space.upper[len(shapes.upper) :].copy()
            if self.space is not self.shapes:
                rest[-1] = i
            genomes.append(np.column_stack([seeds.genomes, np.tile(rest, (len(seeds.genomes), 1))]))
        return np.concatenate(genomes)


def _first_of(keys: Sequence[_Evaluation], seen: set[_Evaluation], most: int) -> int:
    """How many of the first keys have no more new ones among them than `most`."""
    new: set[_Evaluation] = set()
    for i, key in enumerate(keys):
        new |= {key} - seen
        if len(new) > most:
            return i
    return len(keys)


def dense_subnet(space: Space) -> Subnet:
    """Every head and every unit."""
    return Subnet.first(space.full, space.ordering)
