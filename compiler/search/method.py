"""The ask/tell interface of every search method.

Every method starts from the largest, the smallest and the middle network, then from the seeds it is given. A search resumes by
replay: a new method of the same seed that is told the same asks the same.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from compiler.spaces import Space
from compiler.spaces.subnet import IntArray

Floats = NDArray[np.float64]
Sampler = Callable[[np.random.Generator, int], IntArray]
"""Draws genomes [n, variables]."""
Known = Callable[[IntArray], Floats]
"""All objectives but the first [n, objectives - 1] of genomes [n, variables], before any evaluation; inf above a limit."""


def unique(genomes: IntArray) -> IntArray:
    """Each genome once, where it came first."""
    return genomes[first_rows(genomes)]


def first_rows(genomes: IntArray) -> IntArray:
    """Where each of genomes [n, variables] comes first, in their order."""
    _, first = np.unique(genomes, axis=0, return_index=True)
    return np.sort(first)


def starting_genomes(space: Space, seeds: IntArray | None) -> IntArray:
    """The largest, the smallest and the middle network, then the seeds: [n, variables], each once."""
    start = np.stack([space.largest, space.smallest, space.middle])
    return unique(start if seeds is None or not len(seeds) else np.concatenate([start, seeds]))


class Method(ABC):
    """Ask for genomes to evaluate, tell their objectives (all minimised). Deterministic for a seed.

    Costs are read off a table, so only the error is unknown: a method that models objectives takes the others from `known`
    where it is given, and models all of them where it is not.
    """

    def __init__(
        self, space: Space, sampler: Sampler, *, seed: int, seeds: IntArray | None = None, known: Known | None = None
    ) -> None:
        self.space, self.sampler, self.known = space, sampler, known
        self.rng = np.random.default_rng(seed)
        self.start = starting_genomes(space, seeds)

    @property
    def share(self) -> float:
        """Of a full training: how far those asked for last are to be trained. Below 1 where a method decides that, too."""
        return 1.0

    @abstractmethod
    def ask(self) -> IntArray:
        """Genomes [n, variables] to evaluate next; n is at least 1."""

    @abstractmethod
    def tell(self, genomes: IntArray, objectives: Floats) -> None:
        """Objectives [n, objectives] of the genomes asked for, or of the first of them; inf where an evaluation failed."""
