"""Classes that no figure can see: noted first, by name."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from compiler.data.table import Table, shorten
from compiler.data.text_data import Labels, Split, class_counts

_SHOWN = 3


def rare_class_notes(
    splits: Mapping[str, Split], names: tuple[str, ...] | None, train: Table, train_labels: Labels | None
) -> list[str]:
    """Notes on the classes without an example in validation; of a single example with its line."""
    if names is None or train_labels is None or splits["validation"].labels is None:
        return []
    totals = class_counts(train_labels, len(names))
    validated = class_counts(splits["validation"].labels, len(names))
    unseen = [i for i in range(len(names)) if not validated[i]]
    if not unseen:
        return []
    shown = ", ".join(_count(names[i], int(totals[i]), train, train_labels, i) for i in unseen[:_SHOWN])
    more = f" and {len(unseen) - _SHOWN} more" if len(unseen) > _SHOWN else ""
    what = "a class has" if len(unseen) == 1 else f"{len(unseen)} classes have"
    return [f"{what} no example in validation, so that nothing is chosen by it: {shown}{more}"]


def _count(name: str, total: int, train: Table, labels: Labels, number: int) -> str:
    if total == 1:
        has = labels[:, number] if labels.ndim == 2 else labels == number
        return f"{shorten(name)} (one example: {train.place(int(np.flatnonzero(has)[0]))})"
    return f"{shorten(name)} ({total or 'no'} examples)"
