"""Labels as they are written → class ids or scores."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from compiler.data.names import plain
from compiler.data.table import Table, as_number, is_missing, shorten
from compiler.data.text_data import Labels
from targets.errors import InputError

_SHOWN = 5


def refuse_missing(table: Table, column: str) -> None:
    """InputError for the first row without a label (the hub's -1 where classes have names), or with one that is a list."""
    named = column in table.class_names
    for row, value in enumerate(table.columns[column]):
        if is_missing(value) or (named and value == -1):
            count = sum(is_missing(value) or (named and value == -1) for value in table.columns[column])
            raise InputError(
                f"{table.place(row)}: the label ({column}) is {_absent(value)}; {count} of {len(table)} rows have none.\n"
                "Fill in or remove these rows, or pass --task embedding to use the texts alone.",
            )
        if isinstance(value, list | dict):
            raise InputError(
                f"{table.place(row)}: the label ({column}) is {shorten(value)}; only one label a row is supported.\n"
                "Name another column with --label-column.",
            )


def _absent(value: object) -> str:
    """A label that says there is none, as a message names it."""
    return f"{shorten(value)}, which is no label" if isinstance(value, str) and value.strip() else "empty"


def encode_scores(tables: Mapping[str, Table], column: str) -> dict[str, Labels]:
    """float64 scores by role."""
    scores = {role: _scores(table, column) for role, table in tables.items()}
    train = next(iter(scores.values()))
    if len(train) and np.all(train == train[0]):
        raise InputError(
            f"All labels ({column}) are {train[0]:g}: there is nothing to learn.\nName another one with --label-column.",
        )
    return scores


def _scores(table: Table, column: str) -> Labels:
    numbers = [as_number(value) for value in table.columns[column]]
    if None in numbers:
        row = numbers.index(None)
        raise InputError(
            f"{table.place(row)}: the label ({column}) is {shorten(table.columns[column][row])}, not a number.\n"
            "Scores must be numbers: pass --task classification, or name another --label-column.",
        )
    return np.array(numbers, dtype=np.float64)


def encode_classes(tables: Mapping[str, Table], column: str) -> tuple[dict[str, Labels], tuple[str, ...]]:
    """int64 class ids by role, and the class names by id.

    The first table defines the classes: in the order of the file's own class names where it has them, else numerically
    where all are numbers, else alphabetically, a class that negates another first.
    """
    train = next(iter(tables.values()))
    counts = Counter(map(canonical, train.columns[column]))
    _refuse_unclasslike(train, column, counts)
    named = train.class_names.get(column)
    if named is None or not all(isinstance(value, int) for value in train.columns[column]):
        names = ordered(counts)
        return _ids(tables, column, names), tuple(names)
    return _ids(tables, column, [str(i) for i in range(len(named))]), named


def _ids(tables: Mapping[str, Table], column: str, names: Sequence[str]) -> dict[str, Labels]:
    ids = {name: i for i, name in enumerate(names)}
    return {role: _class_ids(table, column, ids) for role, table in tables.items()}


def canonical(value: object) -> str:
    """One spelling a class: 1, 1.0 and "1" are the same label."""
    number = as_number(value)
    if number is None:
        return str(value).strip()
    return str(int(number)) if number.is_integer() else repr(number)


def ordered(names: Mapping[str, int]) -> list[str]:
    """Names of classes: numerically where all are numbers, else alphabetically, a class that negates another first."""
    if all(as_number(name) is not None for name in names):
        return sorted(names, key=float)
    return sorted(names, key=lambda name: (not _negates(name, names), name))


def _negates(name: str, names: Mapping[str, int]) -> bool:
    """Whether a class is another one with a "not" before it: F1 is that of the other, as people write it."""
    word = plain(name).replace("_", "")
    return any(
        word == prefix + plain(other).replace("_", "") for other in names for prefix in ("not", "non", "no", "un")
    )


def _refuse_unclasslike(table: Table, column: str, counts: Counter[str]) -> None:
    if len(counts) < 2:
        raise InputError(
            f"All {len(table)} labels of {table.source} ({column}) are {shorten(next(iter(counts)))}: "
            "there is nothing to learn.\nGive data with two classes or more, or name another --label-column.",
        )
    if len(table) >= 20 and len(counts) > len(table) / 2:
        raise InputError(
            f"The labels of {table.source} ({column}) have {len(counts)} different values in {len(table)} rows: "
            "these are not classes.\nName another --label-column, or pass --task regression (numbers) or embedding.",
        )


def _class_ids(table: Table, column: str, ids: Mapping[str, int]) -> Labels:
    names = [canonical(value) for value in table.columns[column]]
    unseen = Counter(name for name in names if name not in ids)
    if unseen:
        shown = ", ".join(shorten(name) for name in list(unseen)[:_SHOWN])
        more = f" and {len(unseen) - _SHOWN} more" if len(unseen) > _SHOWN else ""
        raise InputError(
            f"{table.source} has labels ({column}) that the training data lacks: {shown}{more}, "
            f"in {unseen.total()} of {len(table)} rows.\nAdd examples of them to the training data, or remove these rows.",
        )
    return np.array([ids[name] for name in names], dtype=np.int64)
