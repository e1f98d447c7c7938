"""Random search, and local search, also from seeds that are a front already."""

import numpy as np

from compiler.search.front import bisected, is_nondominated
from compiler.search.method import Floats, Known, Method, Sampler
from compiler.spaces import MixedPrecision, Space
from compiler.spaces.space import Medium
from compiler.spaces.subnet import IntArray
from targets.errors import InputError


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


def around_seeds(
    space: Space,
    sampler: Sampler,
    *,
    name: str,
    seed: int,
    seeds: IntArray | None = None,
    known: Known | None = None,
) -> Method:
    """Evaluate the seeds, given by rising cost, then search around what they gave: `exact` and `gates`, by where seeds are from.

    They come in an order that covers them at any number of evaluations. InputError where the space does not give every
    layer sizes of its own.
    """
    shapes = space.shapes if isinstance(space, MixedPrecision) else space
    if not isinstance(shapes, Medium):
        raise InputError(
            f"--search {name} needs --space medium, got {type(shapes).__name__.lower()}\n"
            "in the other spaces the sizes of a layer cannot be chosen alone; use another --search there"
        )
    in_order = None if seeds is None else seeds[bisected(len(seeds))]
    return LocalSearch(space, sampler, seed=seed, seeds=in_order, known=known)
