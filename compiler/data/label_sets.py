"""Several labels a row, in every form that files have them: lists, lists spelt as text, names with separators, columns of 0 and 1."""

from __future__ import annotations

import ast
import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from compiler.data.labels import canonical, ordered
from compiler.data.names import describes_rows, is_identifier
from compiler.data.odd_labels import refuse_odd
from compiler.data.table import Table, as_number, is_missing, shorten
from compiler.data.text_data import Labels
from targets.errors import InputError

SEPARATORS = ("|", ";", ",")
"""Between names that are written in one string: the first of these that occurs."""

_TRUTHS = {"true": 1, "false": 0}
_LONGEST = 10_000
_ADJACENT = re.compile(r"""['"]\s+['"]""")
_SHOWN = 5

Names = tuple[Any, ...]


def holds_lists(table: Table, column: str) -> bool:
    """Whether a column holds lists of labels, or such lists spelt as text: not of one label each, not one label a token."""
    values = [value for value in table.columns[column] if not is_missing(value)]
    lists = [_as_list(value) for value in values]
    if not values or None in lists or any(isinstance(part, list | dict) for each in lists for part in each or ()):
        return False
    sizes = [len(each or ()) for each in lists]
    return any(size != 1 for size in sizes) and not _is_beside_tokens(table, column)


def _is_beside_tokens(table: Table, column: str) -> bool:
    """Whether another column holds lists as long, row by row: those are tokens."""
    sizes = [len(value) if isinstance(value, list) else None for value in table.columns[column]]
    others = (values for name, values in table.columns.items() if name != column)
    return any(
        [len(v) if isinstance(v, list) else None for v in values] == sizes and None not in sizes for values in others
    )


def _as_list(value: Any) -> list[Any] | None:
    """A list, or what one is that is spelt as text in JSON or Python; None for anything else."""
    if isinstance(value, list):
        return value
    text = value.strip() if isinstance(value, str) else ""
    if not (text.startswith("[") and text.endswith("]")) or len(text) > _LONGEST:
        return None
    for parse in (json.loads, _python_list):
        try:
            found = parse(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
            continue
        return found if isinstance(found, list) else None
    return None


def _python_list(text: str) -> Any:
    if _ADJACENT.search(text):
        raise ValueError("strings without a comma between them would become one")
    return ast.literal_eval(text)


def flag_columns(table: Table) -> tuple[str, ...]:
    """The columns that hold 0 and 1 alone, or true and false, and are not said to describe rows."""
    named = [name for name in table.columns if not is_identifier(name) and not describes_rows(name)]
    return tuple(name for name in named if all(_flag(value) is not None for value in table.columns[name]))


def _flag(value: Any) -> int | None:
    """1 or 0 for what says so, else None."""
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, str) and value.strip().casefold() in _TRUTHS:
        return _TRUTHS[value.strip().casefold()]
    number = as_number(value)
    return int(number) if number in {0, 1} else None


def with_flags_joined(table: Table, names: Sequence[str], column: str) -> Table:
    """A table with one column of names in place of several of 0 and 1; as it is where it has none of these.

    InputError, with lines, for other values, and where some of the columns are missing.
    """
    missing = [name for name in names if name not in table.columns]
    if len(missing) == len(names):
        return table
    if missing:
        raise InputError(f"{table.source} lacks the column {shorten(missing[0])}.\nIts columns: {table.describe()}.")
    flags = {name: [_flag(value) for value in table.columns[name]] for name in names}
    for name, values in flags.items():
        wrong = [row for row, value in enumerate(values) if value is None]
        if wrong:
            raise InputError(
                f"{table.places(wrong)}: {shorten(name)} is {shorten(table.columns[name][wrong[0]])}, not 0 or 1.\n"
                "Several columns of labels say with 1 that a row has the label: correct them, or name others with --label-column."
            )
    joined = [tuple(name for name in names if flags[name][row]) for row in range(len(table))]
    rest = {name: values for name, values in table.columns.items() if name not in names}
    return replace(table, columns={**rest, column: joined}, class_names={**table.class_names, column: tuple(names)})


def separator_of(values: Sequence[Any]) -> str | None:
    """What stands between names in strings of several; None where nothing does."""
    texts = [value for value in values if isinstance(value, str) and _as_list(value) is None]
    return next((mark for mark in SEPARATORS if any(mark in text for text in texts)), None)


def with_names(table: Table, column: str, separator: str | None) -> Table:
    """A table whose column holds a tuple of labels a row, each once; what is missing stays so, unless strings are separated.

    InputError, with lines, for what is no label.
    """
    if column not in table.columns:
        return table
    values = table.columns[column]
    empty = () if separator is not None and not all(map(is_missing, values)) else None
    names = [empty if is_missing(value) else _names(value, separator) for value in values]
    for row, found in enumerate(names):
        wrong = next((name for name in found or () if is_missing(name) or isinstance(name, list | dict)), found)
        if wrong is not found:
            raise InputError(
                f"{table.place(row)}: the labels ({column}) hold {shorten(wrong)}, which is no label.\n"
                "Write a list of names, an empty one for none."
            )
    return replace(table, columns={**table.columns, column: names})


def _names(value: Any, separator: str | None) -> Names:
    found = _as_list(value)
    if found is None and isinstance(value, str) and separator is not None:
        found = [part.strip() for part in value.split(separator) if part.strip()]
    try:
        return tuple(dict.fromkeys([value] if found is None else found))
    except TypeError:  # a list or an object among the names
        return tuple(found or ())


def encode_sets(tables: Mapping[str, Table], column: str) -> tuple[dict[str, Labels], tuple[str, ...]]:
    """int8 [rows, labels] by role, 1 where a row has a label, and the names of the labels.

    The first table defines them: in the order of the file's own names where it has them, else numerically where all are
    numbers, else alphabetically. InputError, with lines, for names that it lacks, two spellings of one, or no choice of labels.
    """
    train = next(iter(tables.values()))
    names, written = _label_names(train, column)
    labels = {role: _matrix(table, column, names, written) for role, table in tables.items()}
    own = labels[next(iter(labels))]
    if len(train) and (own == own[0]).all():
        shown = ", ".join(shorten(name) for name, there in zip(names, own[0], strict=True) if there) or "none"
        raise InputError(
            f"All {len(train):,} rows of {train.source} have the same labels ({column}): {shown}; there is nothing to learn.\n"
            "Name another column, or several of 0 and 1, with --label-column."
        )
    if len(names) < 2:
        raise InputError(
            f"{train.source} has only {shorten(names[0])} for labels ({column}): there are no several to tell apart.\n"
            "Give data with two labels or more; with or without one label is --task classification."
        )
    return labels, names


def _label_names(train: Table, column: str) -> tuple[tuple[str, ...], Callable[[Any], str]]:
    """The names, and how a written label is one of them."""
    named = train.class_names.get(column)
    found = [name for row in train.columns[column] for name in row]
    if named is not None and all(isinstance(name, int) for name in found):
        return named, lambda value: named[value] if isinstance(value, int) and 0 <= value < len(named) else str(value)
    if named is not None:
        return (
            *named,
        ), canonical  # another tuple: columns have an order, but are no numbers that a model was trained with
    if found:
        rows = [row for row, names in enumerate(train.columns[column]) for _ in names]
        lines = [row + 1 if train.lines is None else train.lines[row] for row in rows]
        refuse_odd(Table(source=train.source, columns={column: found}, lines=lines), column, chosen=True)
    return tuple(ordered(Counter(map(canonical, found)))), canonical


def _matrix(table: Table, column: str, names: tuple[str, ...], written: Callable[[Any], str]) -> Labels:
    numbers = {name: i for i, name in enumerate(names)}
    made = np.zeros((len(table), len(names)), dtype=np.int8)
    unseen, rows = Counter[str](), list[int]()
    for row, labels in enumerate(table.columns[column]):
        for label in map(written, labels):
            if label in numbers:
                made[row, numbers[label]] = 1
            else:
                unseen[label] += 1
                rows.append(row)
    if unseen:
        shown = ", ".join(shorten(name) for name in list(unseen)[:_SHOWN])
        more = f" and {len(unseen) - _SHOWN} more" if len(unseen) > _SHOWN else ""
        raise InputError(
            f"{table.places(sorted(set(rows)))}: labels ({column}) that the training data lacks: {shown}{more}.\n"
            "Add examples of them to the training data, or remove these rows.",
        )
    return made
