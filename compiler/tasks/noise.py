"""How uncertain a score is: jackknife pseudo-values, one an example.

With N examples, s the score of all and s_i that without example i, its pseudo-value is N s - (N - 1) s_i. Their standard
deviation over the root of N estimates the standard error of s, and that of the differences between two networks' values on
the same examples the error of the difference (Efron, Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 11). The
pseudo-values of a mean are the examples' own values: there the error is the textbook's closed form.
"""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

Array = NDArray[np.float64]
Score = Callable[[NDArray[np.generic], NDArray[np.generic]], float]

SURE = 1.96
"""Standard errors that two scores must be apart to be called different: 95 % of a normal distribution lie within."""

ONE_SIDED = 1.645
"""Standard errors below which 95 % of a normal distribution lie: how far one score must be above a bound to be so for sure."""

_ROWS = 256  # of the examples left out at a time: memory is this many times all examples


def standard_error(values: Array) -> float | None:
    """Of the mean of values [N]; None where one value, or none, tells nothing."""
    return float(values.std(ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else None


def pseudo_values(whole: float, without: Array) -> Array:
    """From the score of all N examples and the scores without each of them [N]."""
    count = len(without)
    return count * whole - (count - 1) * without


def share_values(part: NDArray[np.generic], whole: NDArray[np.generic]) -> Array:
    """Pseudo-values [N] of the ratio of two sums, from every example's part in both [N]; 0 where it is of nothing."""
    ours, all_ = (np.asarray(side, dtype=np.float64) for side in (part, whole))
    left, of = ours.sum() - ours, all_.sum() - all_
    without = np.divide(left, of, out=np.zeros_like(left), where=of > 0)
    return pseudo_values(float(ours.sum() / all_.sum()) if all_.sum() else 0.0, without)


def by_kind(
    score: Score, outputs: NDArray[np.generic], reference: NDArray[np.generic], kind: NDArray[np.int64]
) -> Array:
    """Pseudo-values [N] of any score; examples of one kind [N] are alike to it, so that one of each is left out in turn."""
    _, first, kinds = np.unique(kind, return_index=True, return_inverse=True)
    without = np.array([score(np.delete(outputs, i, axis=0), np.delete(reference, i)) for i in first])
    return pseudo_values(score(outputs, reference), without[kinds])


def pearson_values(x: Array, y: Array) -> Array:
    """Pseudo-values [N] of Pearson's correlation; 0 where what is left is constant."""
    x, y = (np.asarray(values, dtype=np.float64) - values.mean(dtype=np.float64) for values in (x, y))
    share = 1 + 1 / (len(x) - 1)  # centred on all, the others sum up to minus the one that is left out
    left = [(a * b).sum() - share * a * b for a, b in ((x, y), (x, x), (y, y))]
    return pseudo_values(float(_ratio((x * y).sum(), (x * x).sum(), (y * y).sum())), _ratio(*left))


def spearman_values(x: Array, y: Array) -> Array:
    """Pseudo-values [N] of Spearman's rank correlation: every example's absence moves the ranks of those above it."""
    without = [_spearman_without(x, y, rows) for rows in np.array_split(np.arange(len(x)), -(-len(x) // _ROWS))]
    ranks = [rankdata(values) - (len(x) + 1) / 2 for values in (x, y)]
    whole = _ratio(*((a * b).sum() for a, b in ((ranks[0], ranks[1]), (ranks[0],) * 2, (ranks[1],) * 2)))
    return pseudo_values(float(whole), np.concatenate(without))


def _spearman_without(x: Array, y: Array, rows: NDArray[np.int64]) -> Array:
    """Spearman's correlation [rows] of all but one example, for each of these."""
    a, b = (_ranks_without(values, rows) for values in (x, y))
    return _ratio((a * b).sum(axis=1), (a * a).sum(axis=1), (b * b).sum(axis=1))


def _ranks_without(values: Array, rows: NDArray[np.int64]) -> Array:
    """Centred mid-ranks [rows, N] of the other examples; 0 in the place of the one that is left out."""
    gone = values[rows, None]
    ranks = rankdata(values) - (gone < values) - 0.5 * (gone == values) - len(values) / 2
    ranks[np.arange(len(rows)), rows] = 0.0
    return np.asarray(ranks)


def _ratio(product: Array, *squares: Array) -> Array:
    """A correlation from centred sums; 0 where one side does not vary."""
    scale = np.sqrt(np.maximum(np.prod(squares, axis=0), 0.0))
    return np.asarray(np.divide(product, scale, out=np.zeros_like(scale), where=scale > 1e-12))
