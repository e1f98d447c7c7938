"""How good sets of labels are, from logits and 0 or 1, both [examples, labels]; a label is given where its sigmoid is above 0.5.

Counts and sums without one example in turn are those of all less its own, so that jackknife values (`compiler.tasks.noise`) need no
second pass. The definitions are scikit-learn's. Labels that are neither there nor given are in no macro F1 (its zero_division=nan),
those that are never there in no mean average precision.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from compiler.tasks.noise import pseudo_values

Array = NDArray[Any]

_ROWS = 256  # of the examples left out at a time: memory is this many times all labels


def given(logits: Array) -> Array:
    """Which labels a model gives."""
    return np.asarray(logits > 0)


def _f1(right: Array, wrong: Array) -> Array:
    """From counts of what is right (there and given) and wrong (one of both); NaN where there is neither."""
    whole = 2.0 * right + wrong
    return np.asarray(np.divide(2.0 * right, whole, out=np.full(np.shape(whole), np.nan), where=whole > 0))


def _mean(figures: Array) -> Array:
    """Over labels, the last axis, without NaN; 1 where no label is left: nothing was to be found, nothing was given."""
    known = ~np.isnan(figures)
    count = known.sum(axis=-1)
    return np.where(count, np.where(known, figures, 0.0).sum(axis=-1) / np.maximum(count, 1), 1.0)


def _counts(logits: Array, labels: Array) -> tuple[Array, Array]:
    """What is right and what is wrong [examples, labels]."""
    predicted, there = given(logits), labels > 0
    return predicted & there, predicted != there


def micro_f1(logits: Array, labels: Array) -> float:
    """F1 of all pairs of an example and a label; 1 where there is none and none is given."""
    right, wrong = (counts.sum() for counts in _counts(logits, labels))
    return float(_mean(_f1(right, wrong)[None]))


def micro_values(logits: Array, labels: Array) -> Array:
    """Pseudo-values [examples] of `micro_f1`."""
    right, wrong = (counts.sum(axis=1) for counts in _counts(logits, labels))
    without = _mean(_f1(right.sum() - right, wrong.sum() - wrong)[:, None])
    return pseudo_values(micro_f1(logits, labels), without)


def macro_f1(logits: Array, labels: Array) -> float:
    """The mean of the labels' F1."""
    return float(_mean(_f1(*(counts.sum(axis=0) for counts in _counts(logits, labels)))))


def macro_values(logits: Array, labels: Array) -> Array:
    """Pseudo-values [examples] of `macro_f1`."""
    right, wrong = _counts(logits, labels)
    parts = [slice(start, start + _ROWS) for start in range(0, len(labels), _ROWS)]
    without = [_mean(_f1(right.sum(axis=0) - right[part], wrong.sum(axis=0) - wrong[part])) for part in parts]
    return pseudo_values(macro_f1(logits, labels), np.concatenate(without))


def mean_average_precision(logits: Array, labels: Array) -> float:
    """The mean of the labels' average precision."""
    return float(_mean(np.array([_precision(*pair)[0] for pair in zip(logits.T, labels.T, strict=True)])))


def precision_values(logits: Array, labels: Array) -> Array:
    """Pseudo-values [examples] of `mean_average_precision`."""
    whole, without = zip(*(_precision(*pair) for pair in zip(logits.T, labels.T, strict=True)), strict=True)
    return pseudo_values(float(_mean(np.array(whole))), _mean(np.stack(without, axis=-1)))


def _precision(scores: Array, labels: Array) -> tuple[float, Array]:
    """The average precision of one label's scores [examples], and that without each of them; NaN where it is never there.

    It is the mean over examples that have the label of the precision at their score. Without another example, precisions at its
    score and below have one fewer in their denominators, and one hit fewer if it has the label itself.
    """
    order = np.argsort(-scores, kind="stable")
    there = labels[order] > 0
    new = np.append(True, np.diff(scores[order]) != 0)
    run, starts = np.cumsum(new) - 1, np.flatnonzero(new)
    counted = np.append(starts[1:], len(there))[run]
    hits = np.cumsum(there)[counted - 1]
    fewer = np.maximum(counted - 1, 1)
    whole, less, missed = (np.where(there, part, 0.0) for part in (hits / counted, (hits - 1) / fewer, hits / fewer))
    above, first = np.append(0.0, np.cumsum(whole))[starts][run], starts[run]
    below = [part.sum() - np.append(0.0, np.cumsum(part))[first] for part in (less, missed)]
    sums = above + np.where(there, below[0] - less, below[1])
    rest = there.sum() - there
    without = np.empty(len(there))
    without[order] = np.divide(sums, rest, out=np.full(len(there), np.nan), where=rest > 0)
    return float(whole.sum() / there.sum()) if there.any() else np.nan, without
