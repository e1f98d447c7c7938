"""Multi-objective regularised evolution: the oldest die, not the worst."""

from collections import deque

import numpy as np

from compiler.search.front import crowding, front_ranks
from compiler.search.method import Floats, Known, Method, Sampler
from compiler.spaces import Space
from compiler.spaces.subnet import IntArray


class AgingEvolution(Method):
    """Regularised evolution (Real et al., 2019, arXiv 1802.01548) with several objectives, as in arXiv 2405.02267 (MO-REA).

    A child is one mutation of the best of a random sample of the population: on the earliest front, there in the least
    crowded place. It replaces the oldest member, so that no network lives on by a lucky evaluation.
    """

    def __init__(
        self, space: Space, sampler: Sampler, *, seed: int, seeds: IntArray | None = None, known: Known | None = None,
        population: int = 20, sample: int = 5,
    ) -> None:  # fmt: skip
        super().__init__(space, sampler, seed=seed, seeds=seeds, known=known)
        self.sample = sample
        drawn = sampler(self.rng, max(population - len(self.start), 0))
        self.first = np.concatenate([self.start, drawn])
        self.members: deque[tuple[IntArray, Floats]] = deque(maxlen=len(self.first))

    def ask(self) -> IntArray:
        """The first population, then one child at a time."""
        if not self.members:
            return self.first
        return self.space.mutate(self._parent(), self.rng)[None]

    def _parent(self) -> IntArray:
        size = min(self.sample, len(self.members))
        genomes, objectives = zip(*self.members, strict=True)
        chosen = self.rng.choice(len(genomes), size, replace=False)
        ranks, loneliness = front_ranks(np.array(objectives)), crowding(np.array(objectives))
        best: int = min(chosen, key=lambda i: (ranks[i], -loneliness[i]))
        return np.asarray(genomes[best])

    def tell(self, genomes: IntArray, objectives: Floats) -> None:
        """The new are born, as many of the oldest die."""
        self.members.extend(zip(genomes, objectives, strict=True))
