"""Random search, local search, also from an exact front, and NSGA-II behind one ask/tell interface.

Every method starts from the largest, the smallest and the middle network, then from the seeds it is given.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compiler.search.front import bisected, is_nondominated
from compiler.spaces import MixedPrecision, Space
from compiler.spaces.space import Medium
from compiler.spaces.subnet import IntArray
from targets.errors import InputError

Floats = NDArray[np.float64]
Sampler = Callable[[np.random.Generator, int], IntArray]
"""Draws genomes [n, variables]."""


def _unique(genomes: IntArray) -> IntArray:
    _, first = np.unique(genomes, axis=0, return_index=True)
    return genomes[np.sort(first)]


class Method(ABC):
    """Ask for genomes to evaluate, tell their objectives (all minimised). Deterministic for a seed."""

    def __init__(self, space: Space, sampler: Sampler, *, seed: int, seeds: IntArray | None = None) -> None:
        self.space = space
        self.sampler = sampler
        self.rng = np.random.default_rng(seed)
        start = np.stack([space.largest, space.smallest, space.middle])
        self.start = _unique(start if seeds is None or not len(seeds) else np.concatenate([start, seeds]))

    @abstractmethod
    def ask(self) -> IntArray:
        """Genomes [n, variables] to evaluate next; n is at least 1."""

    @abstractmethod
    def tell(self, genomes: IntArray, objectives: Floats) -> None:
        """Objectives [n, objectives] of the genomes asked for, in their order; inf where an evaluation failed."""


class RandomSearch(Method):
    """The starting networks, then draws from the sampler."""

    def __init__(self, space: Space, sampler: Sampler, *, seed: int, seeds: IntArray | None = None) -> None:
        super().__init__(space, sampler, seed=seed, seeds=seeds)
        self.started = False

    def ask(self) -> IntArray:
        """The start first, then batches of eight."""
        return self.sampler(self.rng, 8) if self.started else self.start

    def tell(self, genomes: IntArray, objectives: Floats) -> None:  # noqa: ARG002  random search does not learn
        """Nothing is learned."""
        self.started = True


class LocalSearch(Method):
    """Mutate one variable of a random member of the front; the child joins it if no member dominates it."""

    def __init__(self, space: Space, sampler: Sampler, *, seed: int, seeds: IntArray | None = None) -> None:
        super().__init__(space, sampler, seed=seed, seeds=seeds)
        self.genomes: IntArray = np.empty((0, len(space.lower)), dtype=np.int64)
        self.objectives: Floats = np.empty((0, 0))

    def ask(self) -> IntArray:
        """The start first, then one mutation at a time."""
        if not len(self.genomes):
            return self.start
        parent = self.genomes[self.rng.integers(len(self.genomes))]
        return self.space.mutate(parent, self.rng)[None]

    def tell(self, genomes: IntArray, objectives: Floats) -> None:
        """Keep the non-dominated ones of old and new."""
        known = np.concatenate([self.genomes, genomes])
        values = np.concatenate([self.objectives.reshape(-1, objectives.shape[1]), objectives])
        keep = is_nondominated(values)
        self.genomes, self.objectives = known[keep], values[keep]


class Nsga2(Method):
    """NSGA-II (Deb et al., 2002) as pymoo has it: integer variables, binary crossover and polynomial mutation."""

    def __init__(
        self, space: Space, sampler: Sampler, *, seed: int, seeds: IntArray | None = None, population: int = 20
    ) -> None:
        super().__init__(space, sampler, seed=seed, seeds=seeds)
        self.algorithm = self._make(population, seed)
        self.pending: Any = None
        self.exhausted = False  # no new offspring: the space is smaller than the population

    def _make(self, population: int, seed: int) -> Any:
        from pymoo.algorithms.moo.nsga2 import NSGA2
        from pymoo.core.problem import Problem
        from pymoo.operators.crossover.sbx import SBX
        from pymoo.operators.mutation.pm import PM
        from pymoo.operators.repair.rounding import RoundingRepair

        drawn = self.sampler(self.rng, population)
        first = _unique(np.concatenate([self.start, drawn]))[: max(population, len(self.start))]
        algorithm = NSGA2(
            pop_size=population,
            n_offsprings=population // 2,
            sampling=first.astype(float),
            crossover=SBX(prob=0.9, eta=10, vtype=float, repair=RoundingRepair()),
            mutation=PM(eta=15, vtype=float, repair=RoundingRepair()),
            eliminate_duplicates=True,
        )
        problem = Problem(n_var=len(self.space.lower), n_obj=2, xl=self.space.lower, xu=self.space.upper, vtype=int)
        algorithm.setup(problem, termination=("n_gen", 10**9), seed=seed, verbose=False)
        return algorithm

    def ask(self) -> IntArray:
        """The first population, then offspring."""
        self.pending = None if self.exhausted else self.algorithm.ask()
        self.exhausted = self.pending is None or len(self.pending) == 0
        if self.exhausted:
            return self.space.mutate(self.start[0], self.rng)[None]
        genomes: IntArray = np.rint(self.pending.get("X")).astype(np.int64)
        return genomes

    def tell(self, genomes: IntArray, objectives: Floats) -> None:
        """Pass the objectives on; failed evaluations rank last."""
        if self.pending is None or len(self.pending) != len(genomes):
            return
        self.algorithm.problem.n_obj = objectives.shape[1]
        self.pending.set("F", np.where(np.isfinite(objectives), objectives, 1e30))
        self.pending.apply(lambda individual: individual.evaluated.update({"F", "G", "H"}))
        self.algorithm.tell(infills=self.pending)


def exact(space: Space, sampler: Sampler, *, seed: int, seeds: IntArray | None = None) -> Method:
    """Evaluate the exact front of the additive model, given as seeds by rising cost, then search around what it gave.

    The front comes in an order that covers it at any number of evaluations. InputError where the space does not give
    every layer sizes of its own.
    """
    shapes = space.shapes if isinstance(space, MixedPrecision) else space
    if not isinstance(shapes, Medium):
        raise InputError(
            f"--search exact needs --space medium, got {type(shapes).__name__.lower()}\n"
            "in the other spaces the sizes of a layer cannot be chosen alone; use another --search there"
        )
    return LocalSearch(space, sampler, seed=seed, seeds=None if seeds is None else seeds[bisected(len(seeds))])


METHODS: dict[str, Callable[..., Method]] = {
    "random": RandomSearch,
    "local": LocalSearch,
    "nsga2": Nsga2,
    "exact": exact,
}


def make_method(name: str, space: Space, sampler: Sampler, *, seed: int, seeds: IntArray | None = None) -> Method:
    """The named method. InputError lists the known names."""
    if name not in METHODS:
        raise InputError(f"unknown search method {name!r}; known: {', '.join(METHODS)}")
    return METHODS[name](space, sampler, seed=seed, seeds=seeds)
