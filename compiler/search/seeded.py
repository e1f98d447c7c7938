"""Search along a front of seeds: the best sizes by a model of the loss, evaluated where it pays most."""

import numpy as np

from compiler.search.front import bisected
from compiler.search.local import LocalSearch
from compiler.search.method import Floats, Known, Sampler, first_rows, unique
from compiler.search.modelled import Archive
from compiler.spaces import MixedPrecision, Space
from compiler.spaces.space import Medium
from compiler.spaces.subnet import IntArray
from targets.errors import InputError

COARSE, LEAST = 8, 3
"""Seeds that are evaluated first, spread over all that were given; and of each front, at least."""

NEAR = 2.0
"""Below a limit, networks that take less than one so-manyth of it are of little interest."""

BATCH = 4
TRADED = 0.5
"""Of what a variable has, at most, in one trade."""

BELOW = (0.97, 0.94)
"""Of the cost of the others, that of one trade in every batch, in turn: should the prediction be wrong, a network a little
cheaper is at hand."""

_TRIES = 64  # mutations, of which a batch is taken that was never evaluated
_TRADES = 256  # the same of trades
_AS_DEAR = 0.93  # of the best one's cost, at least, for a network to tell of its trades
_NEAR = 0.5  # from it; at this distance a network counts for a third
_RIDGE = 0.1


class SeededFront(LocalSearch):
    """Evaluate seeds where they may add most; then mutate what none dominates.

    They are the fronts of one model of the loss or of several, one after another and each by rising cost. After a few that
    cover each, always those in the middle of the largest gaps of the front that was found: difference of error times ratio of
    cost (its logarithm) is what a network between two neighbours can add at most. So do sandwich algorithms approximate a convex
    front (Rote, Computing 48, 1992). A gap is filled from the fronts that its ends are of: which model is right, and which
    precision the better one, differs from place to place. Without `known` all seeds are evaluated, in an order that covers
    them at any number of evaluations.

    Where the whole network is known to be above a limit, the best one below it is wanted and not a front: after the first few,
    networks are tried that cost no more than the dearest seed and spend it elsewhere than the best one does. A model of the
    loss is wrong by layers.

    `exact` and `gates` are called so by where their seeds are from. InputError where the space does not give every layer sizes
    of its own.
    """

    def __init__(
        self,
        space: Space,
        sampler: Sampler,
        *,
        name: str,
        seed: int,
        seeds: IntArray | None = None,
        known: Known | None = None,
    ) -> None:
        shapes = space.shapes if isinstance(space, MixedPrecision) else space
        if not isinstance(shapes, Medium):
            raise InputError(
                f"--search {name} needs --space medium, got {type(shapes).__name__.lower()}\n"
                "in the other spaces the sizes of a layer cannot be chosen alone; use another --search there"
            )
        if seeds is not None and known is None:
            seeds = seeds[bisected(len(seeds))]
        super().__init__(space, sampler, seed=seed, seeds=None if known else seeds, known=known)
        self.archive = Archive(space)
        given = self.start[:0] if seeds is None or known is None else seeds
        every = np.zeros((0, 1)) if known is None or not len(given) else known(given)
        costs = every[:, 0]
        fronts = np.cumsum(np.diff(costs, prepend=costs[:1]) < 0)
        rows = first_rows(given)
        rows = rows[np.isfinite(costs[rows])]
        self.pool, self.places, self.fronts = given[rows], np.log(costs[rows]), fronts[rows]
        self.free = np.ones(len(self.pool), dtype=np.bool_)
        limited = known is not None and len(rows) and not np.isfinite(known(space.largest[None])).all()
        self.most = every[rows].max(axis=0) if limited else None  # of each cost, in a trade
        self.sizes = len(shapes.lower)  # variables; one more may say the precision

    def ask(self) -> IntArray:
        """The start and a few seeds; then trades below a limit, or seeds in the largest gaps; a mutation where there is neither."""
        if not len(self.genomes):
            return unique(np.concatenate([self.start, self._take(self._coarse())]))
        if self.most is not None and len(trades := self._trades(self.most)):
            return trades
        chosen = self._take(self._in_gaps())
        return chosen if len(chosen) else self._children()

    def tell(self, genomes: IntArray, objectives: Floats) -> None:
        """Keep the non-dominated ones, and that the others were evaluated."""
        self.archive.add(genomes, objectives)
        super().tell(genomes, objectives)

    def _trades(self, most: Floats) -> IntArray:
        """Trades of the network of least error that are new: two that promise most, any other, and a promising cheaper one."""
        errors = np.where((self.objectives[:, 1:] <= most).all(axis=1), self.objectives[:, 0], np.inf)
        best = int(np.argmin(errors))
        if not np.isfinite(errors[best]):
            return self.genomes[:0]
        slopes, share = self._slopes(best), BELOW[len(self.archive) // BATCH % len(BELOW)]
        as_dear, cheaper = self._traded(best, most), self._traded(best, share * most)
        promising = as_dear[self._by_promise(as_dear, best, slopes)[:2]]
        others = as_dear[~(as_dear[:, None] == promising).all(axis=2).any(axis=1)]
        return unique(np.concatenate([promising, others[:1], cheaper[self._by_promise(cheaper, best, slopes)[:1]]]))

    def _by_promise(self, genomes: IntArray, best: int, slopes: Floats) -> IntArray:
        """Rows of genomes, that of the least error first as far as it grows evenly."""
        return np.argsort(self._away(genomes, best) @ slopes, kind="stable")

    def _away(self, genomes: IntArray, best: int) -> Floats:
        """How far genomes are from the best one [n, sizes], as shares of what a variable spans."""
        span = np.maximum(self.space.upper - self.space.lower, 1)
        return np.asarray(((genomes - self.genomes[best]) / span)[:, : self.sizes])

    def _slopes(self, best: int) -> Floats:
        """What the error grows by along each variable [sizes], by ridge regression on what was found about as dear."""
        genomes, objectives = self.archive.genomes, self.archive.objectives
        there = self.archive.worked & (objectives[:, 1] > _AS_DEAR * self.objectives[best, 1])
        there &= (genomes[:, self.sizes :] == self.genomes[best, self.sizes :]).all(axis=1)
        away, grown = self._away(genomes[there], best), objectives[there, 0] - self.objectives[best, 0]
        near = away * np.exp(-np.abs(away).sum(axis=1, keepdims=True) / _NEAR)
        return np.asarray(np.linalg.solve(near.T @ away + _RIDGE * np.eye(self.sizes), near.T @ grown))

    def _traded(self, best: int, most: Floats) -> IntArray:
        """Many a trade of a network, new ones alone [n, variables]."""
        tried = [self._trade(self.genomes[best], most) for _ in range(_TRADES)]
        made = [one for one in tried if one is not None]
        return self.archive.unseen(np.array(made, dtype=np.int64).reshape(-1, len(self.space.lower)))

    def _trade(self, genome: IntArray, most: Floats) -> IntArray | None:
        """Less of one variable and as much more of another as the costs allow; None where there is none of the one or the other."""
        assert self.known is not None  # noqa: S101  only then there is a limit
        lower, upper = self.space.lower, self.space.upper
        giver, taker = self.rng.choice(self.sizes, 2, replace=False)
        given, taken = genome[giver] - lower[giver], upper[taker] - genome[taker]
        if not (given and taken):
            return None
        less = genome.copy()
        less[giver] -= max(1, round(TRADED * given * self.rng.random()))
        more = np.repeat(less[None], taken, axis=0)
        more[:, taker] += np.arange(1, taken + 1)
        paid = np.flatnonzero((self.known(more) <= most).all(axis=1))
        return more[paid[-1]] if len(paid) else None

    def _children(self) -> IntArray:
        """Mutations that are new and not known to be above a limit; one of them anyhow where none is."""
        born = np.stack([self.mutate(self.parent()) for _ in range(_TRIES)])
        new = self.archive.unseen(born)
        if self.known is not None and len(new):
            new = new[np.isfinite(self.known(new)).all(axis=1)]
        return new[:BATCH] if len(new) else born[:1]

    def _take(self, rows: list[int]) -> IntArray:
        self.free[rows] = False
        return self.pool[rows]

    def _coarse(self) -> list[int]:
        """A few of every front, from its cheapest to its dearest; below a limit in even ratios from one `NEAR`th of the dearest up.

        There fronts take turns, so that together they leave no gap; each begins with its dearest.
        """
        rows = list[int]()
        every = np.unique(self.fronts)
        for turn, front in enumerate(every):
            own = np.flatnonzero(self.fronts == front)
            count = min(len(own), max(COARSE // len(every), LEAST))
            if self.most is None:
                rows += own[np.linspace(0, len(own) - 1, count).round().astype(int)].tolist()
                continue
            steps = (np.arange(count) + turn / len(every) * (np.arange(count) > 0)) / count
            aims = self.places[own].max() - np.log(NEAR) * steps
            rows += [int(own[np.argmin(np.abs(self.places[own] - aim))]) for aim in aims]
        return list(dict.fromkeys(rows))

    def _in_gaps(self) -> list[int]:
        """Of the largest gaps that have seeds left, the seed nearest to the middle of each."""
        if not self.free.any():
            return []
        order = np.argsort(self.objectives[:, 1], kind="stable")
        errors, costs = self.objectives[order, 0], np.log(self.objectives[order, 1])
        of, rows = [self._fronts_of(genome) for genome in self.genomes[order]], list[int]()
        with np.errstate(invalid="ignore"):  # of failed evaluations
            areas = np.nan_to_num(np.abs(np.diff(errors)) * np.diff(costs), posinf=0.0)
        for gap in np.argsort(-areas, kind="stable"):
            inside = self.free & (self.places > costs[gap]) & (self.places < costs[gap + 1])
            if ends := of[gap] | of[gap + 1]:
                inside &= np.isin(self.fronts, list(ends))
            if inside.any():
                far = np.abs(self.places - (costs[gap] + costs[gap + 1]) / 2)
                rows.append(int(np.argmin(np.where(inside, far, np.inf))))
            if len(rows) == BATCH:
                break
        return rows

    def _fronts_of(self, genome: IntArray) -> set[int]:
        """The front a genome is a seed of: none of what the search started from or bred."""
        return set(self.fronts[(self.pool == genome).all(axis=1)].tolist())
