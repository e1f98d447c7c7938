"""Text columns → the texts of a split."""

from __future__ import annotations

from typing import Any

from compiler.data.table import Table, is_encodable, is_missing, shorten
from targets.errors import InputError

MAX_CHARACTERS = 100_000
"""Longer texts are cut: no encoder reads that far, and tokenizers slow down long before."""


def read_texts(table: Table, columns: tuple[str, ...]) -> tuple[tuple[tuple[str, ...], ...], tuple[str, ...]]:
    """Texts of every row, and notes on what was changed. Raises InputError for an empty text, with its row."""
    texts = tuple(tuple(_text(table, row, name) for name in columns) for row in range(len(table)))
    changes = {
        f"cut to {MAX_CHARACTERS:,} characters": lambda text: len(text) > MAX_CHARACTERS,
        "rid of characters that UTF-8 cannot hold": lambda text: not is_encodable(text),
    }
    notes = []
    for what, applies in changes.items():
        rows = [row for row, pair in enumerate(texts) if any(map(applies, pair))]
        if rows:
            notes.append(f"{len(rows)} text(s) {what}, the first at {table.place(rows[0])}")
    return (tuple(tuple(map(_clean, pair)) for pair in texts) if notes else texts), tuple(notes)


def _text(table: Table, row: int, column: str) -> str:
    value: Any = table.columns[column][row]
    if is_missing(value):
        count = sum(map(is_missing, table.columns[column]))
        raise InputError(
            f"{table.place(row)}: the text ({column}) is empty; {count} of {len(table)} rows have none.\n"
            "Fill in or remove these rows.",
        )
    if not isinstance(value, str):
        raise InputError(
            f"{table.place(row)}: the text ({column}) is {shorten(value)}, not a string.\n"
            "Write it as a string, or name another column with --text-columns.",
        )
    return value


def _clean(text: str) -> str:
    return text[:MAX_CHARACTERS].encode(errors="replace").decode()
