"""Pairs of a query and a candidate: which rows are of one query."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from compiler.data.names import QUERY_NAMES, QUERY_TEXTS, plain
from compiler.data.table import Table, as_number, is_missing, shorten
from compiler.data.text_data import Labels
from targets.errors import InputError

_REPEATED_SHARE = 0.5
"""Of rows, at least, whose query another row has too, for a column of texts to be one of queries."""

_ODD_SHARE = 0.1
"""Of ids, at most, that may stand for several texts: a few spell one query in two ways, many are ids of something else."""


def query_column(table: Table) -> str | None:
    """The column whose values say which rows are of one query, by its name, where a value occurs twice."""
    named = (name for name in table.columns if plain(name) in QUERY_NAMES)
    return next((name for name in named if _is_repeated(table.columns[name])), None)


def _is_repeated(values: Sequence[Any]) -> bool:
    return any(count > 1 for count in Counter(str(value) for value in values if not is_missing(value)).values())


def repeats_queries(table: Table, column: str) -> bool:
    """Whether most rows of a column of texts share theirs with another row."""
    counts = Counter(map(str, table.columns[column]))
    return sum(count for count in counts.values() if count > 1) >= _REPEATED_SHARE * len(table)


def is_query_text(column: str) -> bool:
    """Whether a column of this name holds what is asked for."""
    return plain(column) in QUERY_TEXTS


def holds_grades(table: Table, column: str) -> bool:
    """Whether a column holds numbers from 0 on, or true and false, and they do not number classes with names."""
    numbers = [_grade(value) for value in table.columns[column] if not is_missing(value)]
    named = any(as_number(name) is None for name in table.class_names.get(column, ()))
    return bool(numbers) and not named and all(number is not None and number >= 0 for number in numbers)


def _grade(value: object) -> float | None:
    return float(value) if isinstance(value, bool) else as_number(value)


def read_grades(table: Table, column: str) -> Labels:
    """float64 grades [rows]. InputError, with lines, for what is no number from 0 on, and for numbers that stand for classes."""
    names = table.class_names.get(column, ())
    if any(as_number(name) is None for name in names):
        raise InputError(
            f"The labels ({column}) of {table.source} are classes: {', '.join(map(shorten, names[:4]))}.\n"
            "Grades of relevance must be numbers, 0 for none: write them so, or pass --task classification.",
        )
    written = [_grade(names[value] if names and isinstance(value, int) else value) for value in table.columns[column]]
    wrong = [row for row, grade in enumerate(written) if grade is None or grade < 0]
    if wrong:
        raise InputError(
            f"{table.places(wrong)}: the label ({column}) is {shorten(table.columns[column][wrong[0]])}, no grade of relevance."
            "\nGrades are numbers, 0 for a candidate that is not relevant: correct these rows.",
        )
    return np.array(written, dtype=np.float64)


def query_groups(
    tables: Mapping[str, Table], column: str | None, texts: Sequence[str]
) -> dict[str, npt.NDArray[np.int64]]:
    """Numbers of queries by role [rows], each table's its own: by a column of ids, else by the first text.

    InputError, with lines, for a row without an id, and where many ids stand for several queries.
    """
    groups, first = dict[str, npt.NDArray[np.int64]](), 0
    for role, table in tables.items():
        keys = table.columns[texts[0]] if column is None else _ids(table, column, texts)
        numbers: dict[str, int] = {}
        groups[role] = np.array([first + numbers.setdefault(str(key), len(numbers)) for key in keys], dtype=np.int64)
        first += len(numbers)
    return groups


def _ids(table: Table, column: str, texts: Sequence[str]) -> Sequence[Any]:
    values = table.columns[column]
    gaps = [row for row, value in enumerate(values) if is_missing(value)]
    if gaps:
        raise InputError(f"{table.places(gaps)}: the query ({column}) is empty.\nFill it in, or remove these rows.")
    odd = min((_others(table, values, text) for text in texts), key=len)
    if len(odd) > _ODD_SHARE * len(set(map(str, values))):
        row, text = next(iter(odd.values())), table.columns[texts[0]]
        earlier = next(text[i] for i, value in enumerate(values) if str(value) == str(values[row]))
        raise InputError(
            f"{table.place(row)}: {column} {shorten(values[row])} stands for two queries: {shorten(earlier)} and "
            f"{shorten(text[row])}; {len(odd):,} do.\nGive each query its own, or pass --task with what else the pairs are for.",
        )
    return values


def _others(table: Table, values: Sequence[Any], column: str) -> dict[str, int]:
    """The ids whose texts in a column are not all the same, each with the first row that differs."""
    first, odd = dict[str, Any](), dict[str, int]()
    for row, (value, text) in enumerate(zip(map(str, values), table.columns[column], strict=True)):
        if first.setdefault(value, text) != text:
            odd.setdefault(value, row)
    return odd
