"""Classes or scores, by the values of the label column; and what must not decide it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from compiler.data.names import SCORE_NAMES, plain
from compiler.data.odd_labels import is_rare
from compiler.data.table import Table, as_number, distinct, shorten
from targets.errors import InputError

_FEW_SCORES = 10
_FEW_CLASSES = 20
_LEAST_OF_CLASS = 5
"""Examples of every class, at least, for a few other values to be odd ones among classes."""


def infer_task(values: Sequence[Any], column: str) -> str:
    """Classification or regression.

    Strings are classes. Numbers with fractions are scores unless there are only a few of them. Whole numbers are
    classes, unless there are many of them or the column is called a score.
    """
    numbers = [as_number(value) for value in values]
    known = [number for number in numbers if number is not None]
    if len(known) < len(numbers) or not known:
        return "classification"
    different = len(set(known))
    if all(number.is_integer() for number in known):
        limit = _FEW_CLASSES if plain(column) in SCORE_NAMES else max(_FEW_CLASSES, len(known) // 20)
        return "classification" if different <= limit else "regression"
    return "classification" if different <= min(_FEW_SCORES, len(known) / 3) else "regression"


def decide_task(table: Table, column: str, *, declared: Sequence[str]) -> tuple[str, str]:
    """The task that the labels are for, and why. `declared` are those that the model's head may have been trained for.

    InputError, with lines, where a few values decide, and where numbers can be classes as well as scores.
    """
    values = table.columns[column]
    if column in table.class_names and "regression" not in declared:
        return "classification", f"from the values of {column}"
    numbers = {as_number(value) for value in distinct(values)}
    if "regression" in declared and None not in numbers:
        return "regression", f"because the model's head has one output and {column} holds numbers"
    if "regression" in declared:
        words = ", ".join(shorten(value) for value in distinct(values)[:4])
        raise InputError(
            f"The model's head has one output, a score, and the labels ({column}) of {table.source} are words: {words}.\n"
            "Write numbers, as 0 and 1, or pass --task classification with a model that has a head for it.",
        )
    if "classification" in declared and all(number is not None and number.is_integer() for number in numbers):
        return "classification", f"because the model's head has classes and {column} holds whole numbers"
    _refuse_words_among_scores(table, column)
    inferred = infer_task(values, column)
    if inferred == "regression":
        _refuse_few_beyond_classes(table, column)
        _refuse_numbered_classes(table, column)
    return inferred, f"from the values of {column}"


def _refuse_words_among_scores(table: Table, column: str) -> None:
    """InputError where most labels are scores, and others, which are no numbers, would make all of them classes."""
    values = table.columns[column]
    if all(as_number(value) is not None for value in distinct(values)):
        return
    odd = [row for row, value in enumerate(values) if as_number(value) is None]
    numbers = [value for value in values if as_number(value) is not None]
    if len(odd) < len(numbers) and infer_task(numbers, column) == "regression":
        raise InputError(
            f"{table.places(odd)}: the label ({column}) is {_shown(table, column, odd)}, where {len(numbers):,} others are "
            "scores.\nWrite numbers there or remove these rows, or pass --task classification.",
        )


def _refuse_few_beyond_classes(table: Table, column: str) -> None:
    """InputError where all but a few labels are classes with some examples each, and those few would make scores of them."""
    values = table.columns[column]
    numbers = [as_number(value) for value in values]
    rare = {number for number, count in Counter(numbers).items() if count < _LEAST_OF_CLASS}
    odd = [row for row, number in enumerate(numbers) if number in rare]
    rest = [value for value, number in zip(values, numbers, strict=True) if number not in rare]
    if odd and rest and is_rare(len(odd), len(values)) and infer_task(rest, column) == "classification":
        raise InputError(
            f"{table.places(odd)}: the label ({column}) is {_shown(table, column, odd)}, where the others are "
            f"{len(set(rest))} classes.\nCorrect or remove these rows, or pass --task classification or regression.",
        )


def _refuse_numbered_classes(table: Table, column: str) -> None:
    """InputError for whole numbers from 0 or 1 on without a gap, too many for a guess: classes are numbered so, too."""
    numbers = {as_number(value) for value in table.columns[column]}
    whole = sorted(int(number) for number in numbers if number is not None and number.is_integer())
    if plain(column) in SCORE_NAMES or len(whole) < len(numbers) or len(whole) > len(table) / 2:
        return
    if whole[0] in {0, 1} and whole[-1] - whole[0] == len(whole) - 1:
        raise InputError(
            f"The labels ({column}) of {table.source} are all numbers from {whole[0]} to {whole[-1]}: classes or scores?\n"
            "Pass --task classification or regression.",
        )


def _shown(table: Table, column: str, rows: Sequence[int]) -> str:
    return ", ".join(dict.fromkeys(shorten(table.columns[column][row]) for row in rows[:3]))
