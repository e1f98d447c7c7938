"""Named columns as a file holds them, before anything is known about what they mean."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

from targets.errors import InputError


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
    """

    source: str
    columns: Mapping[str, Sequence[Any]]
    lines: Sequence[int] | None = None
    header: bool | None = None
    class_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))

    def place(self, row: int) -> str:
        """Where a person finds row number `row` (counted from 0)."""
        return f"{self.source} row {row + 1}" if self.lines is None else f"{self.source} line {self.lines[row]}"

    def describe(self) -> str:
        """The columns, each with an example value."""
        return ", ".join(f"{name} (e.g. {_example(values)})" for name, values in self.columns.items())


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


def shorten(value: object, length: int = 40) -> str:
    """`value` for a message: quoted, on one line, not long."""
    text = " ".join(str(value)[: 4 * length].split())
    return f"'{text[: length - 1]}…'" if len(text) > length else f"'{text}'"


def _example(values: Iterable[Any]) -> str:
    return shorten(next((value for value in values if not is_missing(value)), ""), 30)
