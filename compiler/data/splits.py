"""Seeded splits that keep the shares of the classes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from compiler.data.text_data import Split
from targets.errors import InputError

Rows = npt.NDArray[np.int64]


def hold_out(labels: Rows | None, count: int, *, fraction: float, seed: int) -> tuple[Rows, Rows]:
    """Rows to keep and rows held out, each in ascending order.

    Args:
        labels: class ids to stratify by, or None.
        count: number of rows.
        fraction: share that is held out; round(fraction · count) rows, at least one and not all.
        seed: of the draw.

    The rows of a class, shuffled, sit at even distances on [0, 1); the rows nearest to 1 are held out. So every class
    gives its share to within one row, and its first row always stays: a class of one is never lost to training.
    """
    rng = np.random.default_rng(seed)
    position = np.empty(count)
    groups = np.zeros(count, dtype=np.int64) if labels is None else labels
    for group in np.unique(groups):
        rows = rng.permutation(np.flatnonzero(groups == group))
        position[rows] = (np.arange(len(rows)) + 0.5) / len(rows)
        position[rows[0]] = 0
    order = np.lexsort((rng.random(count), position))
    held = min(max(round(fraction * count), 1), count - 1)
    return np.sort(order[:-held]), np.sort(order[-held:])


def split_off(split: Split, *, fraction: float, seed: int) -> tuple[Split, Split]:
    """`split` in two, the second of `fraction`; stratified where it has class ids, and groups never apart."""
    if split.groups is not None:
        return _whole_groups(split, split.groups, fraction=fraction, seed=seed)
    classes = split.labels is not None and split.labels.dtype == np.int64 and split.labels.ndim == 1
    kept, held = hold_out(split.labels if classes else None, len(split), fraction=fraction, seed=seed)
    return split.take(kept), split.take(held)


def _whole_groups(split: Split, groups: Rows, *, fraction: float, seed: int) -> tuple[Split, Split]:
    """InputError where all examples are of one group."""
    numbers = np.unique(groups)
    if len(numbers) < 2:
        raise InputError(
            "All examples belong to one group (a query, an article), which cannot be split.\nGive data of several."
        )
    _, held = hold_out(None, len(numbers), fraction=fraction, seed=seed)
    apart = np.isin(groups, numbers[held])
    return split.take(np.flatnonzero(~apart)), split.take(np.flatnonzero(apart))
