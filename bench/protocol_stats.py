"""Figures of merit of searches, and which way is better over many of them. Arrays in, arrays out."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from compiler.search import hypervolume

Floats = NDArray[np.float64]

REFERENCE = np.array([2.0, 2.0])
DRAWS = 2000


def quantiles(values: Floats, pool: Floats) -> Floats:
    """The share of a pool [M] that each of the values [N] is at or above: 0 to 1, whatever the unit."""
    return np.searchsorted(np.sort(pool), values, side="right") / len(pool)


def normalised_volume(error: Floats, cost: Floats, errors: Floats, costs: Floats) -> float:
    """Hypervolume of points [N] in quantiles of all that was ever evaluated [M], up to (2, 2): 1 to 4, higher is better.

    Source: Klein et al., arXiv 2405.02267, section 5.
    """
    return hypervolume(np.column_stack([quantiles(error, errors), quantiles(cost, costs)]), REFERENCE)


def gain(test_error: Floats, relative_cost: Floats, constant_error: float) -> float:
    """Raw hypervolume of (test error, relative cost) up to what a constant answer errs, and the whole cost. Higher is better."""
    return hypervolume(np.column_stack([test_error, relative_cost]), np.array([constant_error, 1.0]))


def rank_ways(scores: Mapping[str, Sequence[float]], seed: int = 0) -> dict[str, dict[str, float]]:
    """Mean rank of each way over paired blocks (1 is best, the highest score) and its 95 % interval, blocks drawn anew."""
    ranks = rankdata(-np.array(list(scores.values())), axis=0)
    blocks = ranks.shape[1]
    drawn = np.random.default_rng(seed).integers(blocks, size=(DRAWS, blocks))
    low, high = np.percentile(ranks[:, drawn].mean(axis=2), [2.5, 97.5], axis=1)
    return {
        way: {"rank": float(ranks[row].mean()), "low": float(low[row]), "high": float(high[row])}
        for row, way in enumerate(scores)
    }


def kept_at(shares: Floats, error: Floats, test_error: Floats, dense_test_error: float, most: float) -> float | None:
    """Test metric over the dense one's, of the network of least validation error among those of at most this share of a cost."""
    rows = np.flatnonzero(shares <= most)
    if not len(rows) or dense_test_error >= 1:
        return None
    best = rows[np.argmin(error[rows])]
    return float((1 - test_error[best]) / (1 - dense_test_error))
