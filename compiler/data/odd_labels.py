"""Values that are no labels, or that two people have spelt in two ways: found, and named with their lines."""

from __future__ import annotations

import datetime as dt
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from typing import Any

from compiler.data.names import SCORE_NAMES, plain
from compiler.data.table import Table, as_number, distinct, is_encodable, is_missing, shorten
from targets.errors import InputError, printable

_MARKS = {"n/a", "#n/a", "#na", "null", "<na>", "-", "--", "?", "nat", "#value!", "#ref!", "(null)", "\\n", "."}
_MARKS_OR_NAMES = {"none", "na", "nil", "missing", "undefined", "unknown", "unlabelled", "unlabeled", "tbd"}
"""Class names of some data; a few of them among many others are gaps."""

_RARE_ROWS, _RARE_SHARE = 10, 0.01
_TRUTHS = {"true", "false", "yes", "no", "y", "n", "t", "f"}
_TOTALS = {"total", "totals", "sum", "average", "mean", "grand total", "subtotal", "count", "summe", "gesamt"}
_DATE = re.compile(r"\d{4}[-/.]\d{1,2}[-/.]\d{1,2}([T ].*)?|\d{1,2}[-/.]\d{1,2}[-/.]\d{2,4}( .*)?")
_WITH_MARKS = re.compile(r"[$€£]?\s*[-+]?\d{1,3}(?:[,.\u00a0\u202f ']?\d{3})*(?:[.,]\d+)?\s*%?")
_COMMA = re.compile(r"[-+]?\d+,(\d+)")


def is_date(value: object) -> bool:
    """Whether a value is, or spells, a date."""
    if isinstance(value, dt.date):
        return True
    return isinstance(value, str) and _DATE.fullmatch(value.strip()) is not None


def is_rare(rows: int, of: int) -> bool:
    """Whether so few rows are odd ones among the others: 1 % and ten at most, and one of any number."""
    return rows == 1 or rows <= min(_RARE_ROWS, _RARE_SHARE * of)


def gaps(values: Sequence[Any]) -> list[int]:
    """Rows whose label is a mark for a missing one: "N/A" anywhere; "none" where it is rare, or all others are numbers."""
    found = distinct(values)
    words = {value: value.strip().casefold() for value in found if isinstance(value, str)}
    marks = {value for value, word in words.items() if word in _MARKS}
    names = {value for value, word in words.items() if word in _MARKS_OR_NAMES}
    if not marks and not names:
        return []
    others = [value for value in found if not isinstance(value, str) or value not in marks | names]
    numeric = bool(others) and all(as_number(value) is not None for value in others)
    if not numeric and not is_rare(sum(value in names for value in values), len(values)):
        names = set()
    return [row for row, value in enumerate(values) if value in marks or value in names]


def refuse_odd(table: Table, column: str, *, chosen: bool) -> None:
    """InputError for labels that are no labels: gaps, dates, row numbers, numbers with marks, two spellings of one.

    `chosen` says that the user named the task: then a word such as "N/A" is a class if that is a classification.
    """
    values = table.columns[column]
    _refuse_broken(table, column)
    if not chosen:
        _refuse_gaps(table, column)
        _refuse_total(table, column)
    if all(map(is_date, values)):
        raise InputError(
            f"The label column ({column}) of {table.source} holds dates: {shorten(values[0])}.\n"
            "Name another one with --label-column, or pass --task embedding.",
        )
    if not chosen:
        _refuse_marked_numbers(table, column)
        _refuse_row_numbers(table, column)
    _refuse_spellings(table, column)


def _refuse_broken(table: Table, column: str) -> None:
    for value in distinct(table.columns[column]):
        if isinstance(value, str) and not is_encodable(value):
            raise InputError(
                f"{table.place(list(table.columns[column]).index(value))}: the label ({column}) is {printable(value, 60)}, in which half of a character is missing."
                "\nWrite it out, or remove the row.",
            )


def _refuse_gaps(table: Table, column: str) -> None:
    rows = gaps(table.columns[column])
    if rows:
        shown = ", ".join(dict.fromkeys(shorten(table.columns[column][row]) for row in rows[:3]))
        raise InputError(
            f"{table.places(rows)}: the label ({column}) is {shown}, which says that there is none.\n"
            "Fill in or remove these rows, or pass --task classification if it is a class.",
        )


def _refuse_total(table: Table, column: str) -> None:
    """InputError where the last row adds up the others."""
    last = len(table) - 1
    cells = [
        str(values[last]).strip().rstrip(":").casefold() for name, values in table.columns.items() if name != column
    ]
    if as_number(table.columns[column][last]) is not None and any(cell in _TOTALS for cell in cells):
        raise InputError(f"{table.place(last)}: the last row seems to add up the others.\nRemove it.")


def _refuse_marked_numbers(table: Table, column: str) -> None:
    values = table.columns[column]
    odd = [value for value in distinct(values) if as_number(value) is None]
    if odd and all(map(_is_marked, odd)):
        rows = [row for row, value in enumerate(values) if as_number(value) is None]
        raise InputError(
            f"{table.places(rows)}: the label ({column}) is {shorten(values[rows[0]])}, a number with a comma, space or sign."
            "\nWrite it as 1234.5, or pass --task classification if it is a class.",
        )


def _is_marked(value: object) -> bool:
    return isinstance(value, str) and _WITH_MARKS.fullmatch(value.strip()) is not None


def with_decimal_points(values: Sequence[Any]) -> list[Any] | None:
    """Numbers such as "3,5" with a point instead, where every value is one and none can be a thousand's separator."""
    odd = [value for value in values if as_number(value) is None]
    found = [_COMMA.fullmatch(value.strip()) for value in odd if isinstance(value, str)]
    if not odd or len(found) < len(odd) or None in found:
        return None
    if any("." in str(value) for value in values) or all(match is not None and len(match[1]) == 3 for match in found):
        return None
    return [value.strip().replace(",", ".") if isinstance(value, str) else value for value in values]


def _refuse_row_numbers(table: Table, column: str) -> None:
    """InputError where a label counts the rows."""
    values = table.columns[column]
    if plain(column) in SCORE_NAMES or len(values) < 20 or len(found := distinct(values)) < len(values):
        return
    numbers = [as_number(value) for value in found]
    whole = {int(number) for number in numbers if number is not None and number.is_integer()}
    if len(whole) < len(values):
        return
    if max(whole) - min(whole) == len(whole) - 1:
        raise InputError(
            f"The label column ({column}) of {table.source} numbers the rows: {min(whole)} to {max(whole)}.\n"
            "Name another one with --label-column, or pass --task embedding.",
        )


def _refuse_spellings(table: Table, column: str) -> None:
    """InputError where labels differ in case, spaces or the Unicode form alone; spaces around a label mean nothing."""
    values = table.columns[column]
    labels = {value.strip() for value in distinct(values) if isinstance(value, str) and not is_missing(value)}
    alike: dict[str, list[str]] = {}
    for label in sorted(labels):
        alike.setdefault(_plain(label), []).append(label)
    for spellings in alike.values():
        if len(spellings) > 1:
            raise _two_spellings(table, column, spellings)
    _refuse_two_kinds(table, column)


def _two_spellings(table: Table, column: str, spellings: list[str]) -> InputError:
    written = [value.strip() if isinstance(value, str) else "" for value in table.columns[column]]
    counts = Counter(written)
    common, rare = sorted(spellings, key=lambda label: -counts[label])[:2]
    return InputError(
        f"{table.place(written.index(rare))}: the label ({column}) {_spelt(rare)} ({counts[rare]} rows) differs from "
        f"{_spelt(common)} ({counts[common]} rows) in case, spaces or Unicode form only.\nWrite them alike.",
    )


def _refuse_two_kinds(table: Table, column: str) -> None:
    """InputError for yes and no in words beside 0 and 1."""
    labels = {str(value).strip().casefold() for value in distinct(table.columns[column])}
    truths = labels & _TRUTHS
    if truths and len(truths) < len(labels) and all(as_number(label) is not None for label in labels - truths):
        shown = ", ".join(shorten(label) for label in sorted(labels)[:4])
        raise InputError(
            f"The labels ({column}) of {table.source} mix numbers and words for yes and no: {shown}.\nWrite them alike.",
        )


def _plain(label: str) -> str:
    text = unicodedata.normalize("NFKC", label)
    visible = (c for c in text if unicodedata.category(c) != "Cf")
    return " ".join("".join(visible).split()).casefold()


def _spelt(label: str) -> str:
    """The label, escaped where it would look like another."""
    return shorten(label) if label.isascii() else ascii(label[:40])
