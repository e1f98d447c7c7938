"""What methods that model the objectives share: the evaluated networks, and candidates around them."""

from abc import abstractmethod
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from compiler.search.front import is_nondominated
from compiler.search.method import Floats, Known, Method, Sampler, unique
from compiler.search.moves import Moves
from compiler.spaces import Space
from compiler.spaces.subnet import IntArray

_CELLS = 2**23  # variables of all candidates at once: 64 MiB of them
_ENOUGH = 4  # evaluations that worked before anything is learned from them


class Candidates(NamedTuple):
    """Genomes [n, variables], their features [n, features], and their `costs` [n, objectives - 1] where they are known."""

    genomes: IntArray
    features: Floats
    costs: Floats | None

    def take(self, rows: IntArray) -> "Candidates":
        """Some of them."""
        return Candidates(self.genomes[rows], self.features[rows], None if self.costs is None else self.costs[rows])


class Scale(NamedTuple):
    """The range of every objective among what was evaluated: 0 is the best value there, 1 the worst."""

    low: Floats
    span: Floats

    @classmethod
    def of(cls, objectives: Floats) -> "Scale":
        """From objectives [n, objectives]."""
        span = np.ptp(objectives, axis=0)
        return cls(objectives.min(axis=0), np.where(span > 0, span, 1.0))

    def objectives(self, objectives: Floats) -> Floats:
        """Objectives [n, objectives] on the scale."""
        return np.asarray((objectives - self.low) / self.span)

    def costs(self, costs: Floats) -> Floats:
        """All of them but the first [n, objectives - 1] on the scale."""
        return np.asarray((costs - self.low[1:]) / self.span[1:])


class Archive:
    """Everything that was told: what a method that learns looks back on."""

    def __init__(self, space: Space) -> None:
        self.genomes: IntArray = np.empty((0, len(space.lower)), dtype=np.int64)
        self.objectives: Floats = np.empty((0, 0))
        self._seen: set[bytes] = set()

    def __len__(self) -> int:
        return len(self.genomes)

    def add(self, genomes: IntArray, objectives: Floats) -> None:
        """Objectives [n, objectives] of genomes [n, variables]."""
        self.genomes = np.concatenate([self.genomes, genomes])
        self.objectives = np.concatenate([self.objectives.reshape(-1, objectives.shape[1]), objectives])
        self._seen.update(genome.tobytes() for genome in genomes)

    def unseen(self, genomes: IntArray) -> IntArray:
        """Those never told, each once."""
        new = unique(genomes)
        return new[[genome.tobytes() not in self._seen for genome in new]]

    @property
    def worked(self) -> NDArray[np.bool_]:
        """Which evaluations did not fail."""
        return np.asarray(np.isfinite(self.objectives).all(axis=1))


class Modelled(Method):
    """Learns the objectives from what was evaluated and asks for the most promising candidates.

    Genomes are integers, up to tens of thousands of bits of them, so candidates are screened and not optimised continuously:
    draws of the sampler, mutations and crossings of the front. None was evaluated before or is known to be above a limit.
    """

    draws = 16
    children = 256

    def __init__(
        self, space: Space, sampler: Sampler, *, seed: int, seeds: IntArray | None = None, known: Known | None = None
    ) -> None:
        super().__init__(space, sampler, seed=seed, seeds=seeds, known=known)
        self.archive = Archive(space)
        self.moves = Moves(space)

    def ask(self) -> IntArray:
        """The start, then what is chosen; a draw that is not new only where no candidate is."""
        if not len(self.archive):
            return self.start
        found = self.candidates(self._parents())
        if not len(found.genomes):
            return self.sampler(self.rng, 1)
        if self.archive.worked.sum() < _ENOUGH:
            return found.genomes[:1]
        return self.choose(found)

    @abstractmethod
    def choose(self, candidates: Candidates) -> IntArray:
        """The most promising genomes; there is at least one candidate."""

    def tell(self, genomes: IntArray, objectives: Floats) -> None:
        """Remember."""
        self.archive.add(genomes, objectives)

    def candidates(self, parents: IntArray) -> Candidates:
        """New genomes: draws of the sampler first, then children of the parents."""
        room = max(_CELLS // len(self.space.lower), 1)
        drawn = self.sampler(self.rng, self.draws)
        born = self.moves.offspring(parents, self.rng, min(self.children, room))
        found = self.describe(self.archive.unseen(np.concatenate([drawn, born])))
        if found.costs is None:
            return found
        return found.take(np.flatnonzero(np.isfinite(found.costs).all(axis=1)))

    def describe(self, genomes: IntArray) -> Candidates:
        """What is known of genomes without an evaluation."""
        return Candidates(genomes, self.space.features(genomes), None if self.known is None else self.known(genomes))

    def evaluated(self) -> tuple[Candidates, Floats]:
        """What was evaluated and worked, with its objectives [n, objectives]."""
        worked = self.archive.worked
        genomes, objectives = self.archive.genomes[worked], self.archive.objectives[worked]
        costs = None if self.known is None else objectives[:, 1:]
        return Candidates(genomes, self.space.features(genomes), costs), objectives

    def _parents(self) -> IntArray:
        front = is_nondominated(self.archive.objectives) & self.archive.worked
        return self.archive.genomes[front] if front.any() else self.start
