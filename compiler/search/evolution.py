"""NSGA-II and NSGA-III as pymoo has them, over integer variables."""

from abc import abstractmethod
from typing import Any

import numpy as np

from compiler.search.method import Floats, Known, Method, Sampler, unique
from compiler.spaces import Space
from compiler.spaces.subnet import IntArray


class Evolution(Method):
    """A generation at a time: simulated binary crossover and polynomial mutation, rounded. Failures violate a constraint."""

    def __init__(
        self, space: Space, sampler: Sampler, *, seed: int, seeds: IntArray | None = None, known: Known | None = None,
        population: int = 20,
    ) -> None:  # fmt: skip
        super().__init__(space, sampler, seed=seed, seeds=seeds, known=known)
        self.population, self.seed = population, seed
        drawn = sampler(self.rng, population)
        self.first = unique(np.concatenate([self.start, drawn]))[: max(population, len(self.start))]
        self.algorithm: Any = None  # made when it is told of how many objectives there are
        self.pending: Any = None
        self.exhausted = False  # no new offspring: the space is hardly larger than the population

    @abstractmethod
    def _algorithm(self, objectives: int, **options: Any) -> Any:
        """The algorithm of pymoo for so many objectives."""

    def _set_up(self, objectives: int) -> None:
        from pymoo.core.problem import Problem
        from pymoo.operators.crossover.sbx import SBX
        from pymoo.operators.mutation.pm import PM
        from pymoo.operators.repair.rounding import RoundingRepair

        self.algorithm = self._algorithm(
            objectives,
            n_offsprings=self.population // 2,
            sampling=self.first.astype(float),
            crossover=SBX(prob=0.9, eta=10, vtype=float, repair=RoundingRepair()),
            mutation=PM(eta=15, vtype=float, repair=RoundingRepair()),
            eliminate_duplicates=True,
        )
        lower, upper = self.space.lower, self.space.upper
        problem = Problem(n_var=len(lower), n_obj=objectives, n_ieq_constr=1, xl=lower, xu=upper, vtype=int)
        self.algorithm.setup(problem, termination=("n_gen", 10**9), seed=self.seed, verbose=False)
        self.pending = self.algorithm.ask()

    def ask(self) -> IntArray:
        """The first population, then offspring; mutations of the largest network once pymoo finds no new ones."""
        if self.algorithm is None:
            return self.first
        if self.pending is None and not self.exhausted:
            self.pending = self.algorithm.ask()
            self.exhausted = self.pending is None or len(self.pending) == 0
        if self.exhausted:
            return self.space.mutate(self.start[0], self.rng)[None]
        genomes: IntArray = np.rint(self.pending.get("X")).astype(np.int64)
        return genomes

    def tell(self, genomes: IntArray, objectives: Floats) -> None:
        """Pass the objectives on; a generation that was cut short was the last."""
        if self.algorithm is None:
            self._set_up(objectives.shape[1])
        if self.exhausted or len(self.pending) != len(genomes):
            return
        worked = np.isfinite(objectives).all(axis=1, keepdims=True)
        self.pending.set("F", np.where(worked, objectives, 0.0), "G", np.where(worked, 0.0, 1.0))
        self.pending.apply(lambda individual: individual.evaluated.update({"F", "G", "H"}))
        self.algorithm.tell(infills=self.pending)
        self.pending = None


class Nsga2(Evolution):
    """NSGA-II (Deb et al., 2002): survival by non-dominated sorting, then by crowding distance."""

    def _algorithm(self, objectives: int, **options: Any) -> Any:  # noqa: ARG002  crowding takes any number
        from pymoo.algorithms.moo.nsga2 import NSGA2

        return NSGA2(pop_size=self.population, **options)


class Nsga3(Evolution):
    """NSGA-III (Deb and Jain, 2014): survival by niches around preset weights of the objectives, for three and more of them.

    The weights are evenly spaced (Das and Dennis, 1998) up to three objectives. Above, so few evenly spaced ones would all lie
    on the border of the simplex, so they minimise their energy instead (Blank et al., 2021).
    """

    def _algorithm(self, objectives: int, **options: Any) -> Any:
        from pymoo.algorithms.moo.nsga3 import NSGA3

        return NSGA3(ref_dirs=self._weights(objectives), pop_size=self.population, **options)

    def _weights(self, objectives: int) -> Floats:
        """At most as many weights [n, objectives] as the population has members, each summing to 1."""
        from pymoo.util.ref_dirs import get_reference_directions

        if objectives <= 3:
            partitions = self.population - 1 if objectives == 2 else int((2 * self.population + 0.25) ** 0.5 - 1.5)
            return np.asarray(get_reference_directions("das-dennis", objectives, n_partitions=partitions))
        return np.asarray(get_reference_directions("energy", objectives, self.population, seed=self.seed))
