"""Local search that learns what to mutate."""

import numpy as np

from compiler.search.front import crowding, is_nondominated
from compiler.search.local import LocalSearch
from compiler.search.method import Floats, Known, Sampler
from compiler.search.moves import Moves
from compiler.spaces import Space
from compiler.spaces.subnet import IntArray

_TRIES = 20  # draws of a move that may find nothing to do


class Bandit:
    """UCB1 over arms with rewards between 0 and 1 (Auer et al., 2002, "Finite-time Analysis of the Multiarmed Bandit")."""

    def __init__(self, arms: int) -> None:
        self.pulls = np.zeros(arms)
        self.rewards = np.zeros(arms)

    def scores(self) -> Floats:
        """Mean reward and a bonus for what is hardly tried [arms], higher is better; inf for what was never tried."""
        tried = np.maximum(self.pulls, 1)
        bonus = np.sqrt(2 * np.log(max(self.pulls.sum(), 1)) / tried)
        return np.where(self.pulls > 0, self.rewards / tried + bonus, np.inf)

    def learn(self, arm: int, reward: float) -> None:
        """What pulling an arm gave."""
        self.pulls[arm] += 1
        self.rewards[arm] += reward


class BanditSearch(LocalSearch):
    """Local search whose moves have learned priorities, as operations have in AutoBERT-Zero (arXiv 2107.07445, section 3.2).

    It starts from a drawn population. Of two members of the front the one in the less crowded place is mutated. A move is
    rewarded when its child joins the front; one that finds nothing to do counts as tried without reward.
    """

    def __init__(
        self, space: Space, sampler: Sampler, *, seed: int, seeds: IntArray | None = None, known: Known | None = None,
        population: int = 20,
    ) -> None:  # fmt: skip
        super().__init__(space, sampler, seed=seed, seeds=seeds, known=known)
        drawn = sampler(self.rng, max(population - len(self.start), 0))
        self.start = np.concatenate([self.start, drawn])
        self.moves = Moves(space)
        self.bandit = Bandit(len(self.moves.all))
        self.pulled: int | None = None
        self.seen: set[bytes] = set()

    def parent(self) -> IntArray:
        """By a binary tournament."""
        loneliness = crowding(self.objectives)
        best: int = max(self.rng.integers(len(self.genomes), size=2), key=lambda i: loneliness[i])
        return np.asarray(self.genomes[best])

    def mutate(self, parent: IntArray) -> IntArray:
        """By the most promising move that gives a network not yet seen; by any one variable where none does."""
        for _ in range(_TRIES):
            scores = self.bandit.scores()
            self.pulled = int(self.rng.choice(np.flatnonzero(scores == scores.max())))
            child = self.moves.apply(self.moves.all[self.pulled], parent, self.rng)
            if child.tobytes() not in self.seen:
                return child
            self.bandit.learn(self.pulled, 0.0)
        self.pulled = None
        return self.space.mutate(parent, self.rng)

    def tell(self, genomes: IntArray, objectives: Floats) -> None:
        """Reward the move whose child none of the front dominates or equals, then keep the front."""
        if self.pulled is not None:
            both = np.concatenate([self.objectives, objectives])
            self.bandit.learn(self.pulled, float(np.isfinite(objectives).all() and is_nondominated(both)[-1]))
        self.seen.update(genome.tobytes() for genome in genomes)
        super().tell(genomes, objectives)
