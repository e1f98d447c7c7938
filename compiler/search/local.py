"""Random search and local search."""

import numpy as np

from compiler.search.front import is_nondominated
from compiler.search.method import Floats, Known, Method, Sampler
from compiler.spaces import Space
from compiler.spaces.subnet import IntArray


class RandomSearch(Method):
    """The starting networks, then draws from the sampler."""

    started = False

    def ask(self) -> IntArray:
        """The start first, then batches of eight."""
        return self.sampler(self.rng, 8) if self.started else self.start

    def tell(self, genomes: IntArray, objectives: Floats) -> None:  # noqa: ARG002  random search does not learn
        """Nothing is learned."""
        self.started = True


class LocalSearch(Method):
    """Mutate one variable of a random member of the front; the child joins it if no member dominates it."""

    def __init__(
        self, space: Space, sampler: Sampler, *, seed: int, seeds: IntArray | None = None, known: Known | None = None
    ) -> None:
        super().__init__(space, sampler, seed=seed, seeds=seeds, known=known)
        self.genomes: IntArray = np.empty((0, len(space.lower)), dtype=np.int64)
        self.objectives: Floats = np.empty((0, 0))

    def ask(self) -> IntArray:
        """The start first, then one mutation at a time."""
        if not len(self.genomes):
            return self.start
        return self.mutate(self.parent())[None]

    def parent(self) -> IntArray:
        """A member of the front."""
        return np.asarray(self.genomes[self.rng.integers(len(self.genomes))])

    def mutate(self, parent: IntArray) -> IntArray:
        """A child of a parent."""
        return self.space.mutate(parent, self.rng)

    def tell(self, genomes: IntArray, objectives: Floats) -> None:
        """Keep the non-dominated ones of old and new."""
        known = np.concatenate([self.genomes, genomes])
        values = np.concatenate([self.objectives.reshape(-1, objectives.shape[1]), objectives])
        keep = is_nondominated(values)
        self.genomes, self.objectives = known[keep], values[keep]
