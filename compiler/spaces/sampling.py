"""Draw genomes: uniformly as in the paper, or stratified so that small networks are seen as often as large ones."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from compiler.spaces.space import Space
from compiler.spaces.subnet import Counts, IntArray

CostFunction = Callable[[Counts], NDArray[np.float64]]
"""Costs [N] of N shapes; lower is cheaper. Parameters or measured latency."""

_POOL_PER_SAMPLE = 16
_CONCENTRATION = 4.0


def sample_uniform(space: Space, rng: np.random.Generator, n: int) -> IntArray:
    """Every variable uniform between its bounds, independently: int64 [n, variables]."""
    return rng.integers(space.lower, space.upper, size=(n, len(space.lower)), endpoint=True)


def _sample_by_density(space: Space, rng: np.random.Generator, n: int) -> IntArray:
    """Genomes that keep a share of each variable, the share itself uniform from genome to genome."""
    share = rng.uniform(0.02, 0.98, size=(n, 1))
    a, b = share * _CONCENTRATION, (1 - share) * _CONCENTRATION
    span = space.upper - space.lower
    wide = np.flatnonzero(span != 1)
    drawn = rng.beta(a, b, size=(n, len(wide)))
    kept = (rng.random((n, len(span))) < share).astype(np.int64)
    kept[:, wide] = np.minimum((drawn * (span[wide] + 1)).astype(np.int64), span[wide])
    return space.lower + kept


def sample_stratified(space: Space, rng: np.random.Generator, n: int, cost: CostFunction) -> IntArray:
    """Genomes whose costs spread evenly over the whole range: one for each of n equal slices of it.

    From a pool of genomes of every density, the one nearest to a cost drawn inside each slice is taken; no genome of
    the pool is taken twice. The order of the result is random.
    """
    pool = np.concatenate([_sample_by_density(space, rng, _POOL_PER_SAMPLE * n), sample_uniform(space, rng, n)])
    costs = cost(space.counts(pool))
    ends = cost(space.counts(np.stack([space.lower, space.upper])))
    wanted = ends.min() + (np.arange(n) + rng.random(n)) / n * (ends.max() - ends.min())
    chosen = []
    for target in rng.permutation(wanted):
        nearest = int(np.argmin(np.abs(costs - target)))
        costs[nearest] = np.inf
        chosen.append(nearest)
    return pool[chosen]
