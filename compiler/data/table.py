"""Named columns as a file holds them, before anything is known about what they mean."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

from targets.errors import InputError, printable

MAX_ROWS = 5_000_000
"""Rows of one split, at most: what fits into the memory of a common machine as Python strings."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """How a file was read: format, encoding and separator, as far as the format has them, and whether it has a header."""

    format: str
    encoding: str | None = None
    separator: str | None = None
    header: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Equally long columns, and where each row stood in its file.

    Attributes:
        source: base name of the file, for messages.
        columns: values by column name.
        lines: line of each row in a text file; None for formats without lines.
        header: whether the first line named the columns; None where the format names them otherwise.
        class_names: label names by column, where the format carries them (datasets' ClassLabel).
        notes: what the reader had to decide.
        form: how the file was read.
    """

    source: str
    columns: Mapping[str, Sequence[Any]]
    lines: Sequence[int] | None = None
    header: bool | None = None
    class_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    form: Form = Form(format="data set")

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))

    def place(self, row: int) -> str:
        """Where a person finds row number `row` (counted from 0)."""
        return f"{self.source} row {row + 1}" if self.lines is None else f"{self.source} line {self.lines[row]}"

    def places(self, rows: Sequence[int], most: int = 3) -> str:
        """Where a person finds these rows: the first three, and how many more there are."""
        numbers = [row + 1 if self.lines is None else self.lines[row] for row in rows[:most]]
        what = "row" if self.lines is None else "line"
        more = f" and {len(rows) - most} more" if len(rows) > most else ""
        return f"{self.source} {what}{'s' if len(rows) > 1 else ''} {', '.join(map(str, numbers))}{more}"

    def describe(self) -> str:
        """The columns, each with an example value."""
        shown = [f"{name_of(name)} (e.g. {example(values)})" for name, values in self.columns.items()]
        return ", ".join(shown[:_SHOWN]) + (f" and {len(shown) - _SHOWN} more" if len(shown) > _SHOWN else "")


_SHOWN = 8
"""Columns that a message names."""


def check_table(table: Table) -> Table:
    """The table itself. InputError where it has no rows, too many, or a column name that UTF-8 cannot hold."""
    if not len(table):
        raise InputError(f"{table.source} holds no rows.\nGive a file with one example a line.")
    refuse_many(len(table), table.source)
    for name in table.columns:
        if not is_encodable(name):
            raise InputError(
                f"{table.source} has a column named {printable(name, 60)}, in which half of a character is missing.\n"
                "Rename it.",
            )
    return table


def refuse_many(rows: int, source: str) -> None:
    """InputError for more rows than fit."""
    if rows > MAX_ROWS:
        raise InputError(f"{source} has {rows:,} rows; at most {MAX_ROWS:,} are read.\nGive a sample of them.")


def concatenate(tables: Sequence[Table]) -> Table:
    """The shards of one split as one table; InputError for a shard without the columns of the first."""
    first = tables[0]
    if len(tables) == 1:
        return first
    for table in tables:
        missing = [name for name in first.columns if name not in table.columns]
        if missing:
            raise InputError(
                f"{table.source} lacks the column {shorten(missing[0])}, which {first.source} has.\n"
                "Give shards of one data set.",
            )
    refuse_many(sum(map(len, tables)), first.source)
    columns = {name: [value for table in tables for value in table.columns[name]] for name in first.columns}
    notes = tuple(dict.fromkeys(note for table in tables for note in table.notes))
    return replace(first, columns=columns, lines=None, notes=notes)


def is_missing(value: object) -> bool:
    """None, NaN, blank, or the word nan."""
    if isinstance(value, str):
        return value.strip().casefold() in {"", "nan"}
    return value is None or (isinstance(value, float) and math.isnan(value))


def as_number(value: object) -> float | None:
    """The finite number that `value` is or spells, or None."""
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal | str):
        return None
    if isinstance(value, str) and "_" in value:
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def distinct(values: Iterable[Any]) -> list[Any]:
    """Every different value once, True and 1 apart."""
    return list({(type(value), value): value for value in values}.values())


def is_encodable(text: str) -> bool:
    """Whether UTF-8 can hold the text: half of a surrogate pair, which JSON can spell, it cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def shorten(value: object, length: int = 40) -> str:
    """`value` for a message: quoted, on one line, not long."""
    text = " ".join(str(value)[: 4 * length].split())
    return f"'{text[: length - 1]}…'" if len(text) > length else f"'{text}'"


def name_of(column: str) -> str:
    """A column name for a message: not long, and something where there is none."""
    text = " ".join(column.split())
    return (f"{text[:59]}…" if len(text) > 60 else text) or "(unnamed)"


def example(values: Iterable[Any]) -> str:
    """The first value that is none of the missing ones, shortened."""
    return shorten(next((value for value in values if not is_missing(value)), ""), 30)
