"""Comma- and tab-separated files as people have them: quotes that do not balance, headers that are not there."""

from __future__ import annotations

import csv
import io
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Literal

from compiler.data.names import is_known
from compiler.data.table import Form, Table, as_number, shorten
from targets.errors import InputError

_HEADER_CHARACTERS = 60
_HEADER_WORDS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class _Records:
    rows: list[list[str]]
    lines: list[int]
    blank: int = 0
    error: str | None = None

    @property
    def rectangular(self) -> bool:
        return self.error is None and len({len(row) for row in self.rows}) == 1


def read_delimited(text: str, *, source: str, tab: bool, header: bool | None = None) -> Table:
    """Read delimited text.

    Args:
        text: the decoded file.
        source: its name, for messages.
        tab: whether the name promises tabs; otherwise commas, unless the first line shows another separator.
        header: whether the first row names the columns; None decides by its content.
    """
    text, declared = _declared_separator(text)
    delimiter = declared or _delimiter(text, tab=tab)
    records, notes = _records(text, delimiter, source)
    _refuse_ragged(records, source)
    named = _looks_like_header(records.rows) if header is None else header
    first = records.rows[0]
    names = _names(first) if named else [f"column_{i + 1}" for i in range(len(first))]
    _refuse_duplicates(names, source)
    if header is None and not named:
        notes = (*notes, f"{source}: no header was found, so columns are named column_1 to column_{len(names)}")
    if header is None and named and not any(is_known(name) for name in names):
        notes = (*notes, f"{source}: the first line was taken for a header")
    if records.blank:
        notes = (*notes, f"{source}: {records.blank} row(s) of empty cells were skipped")
    columns = {name: [row[i] for row in records.rows[named:]] for i, name in enumerate(names)}
    form = Form(format="TSV" if delimiter == "\t" else "CSV", separator=delimiter, header=named)
    lines = records.lines[named:]
    table = Table(source=source, columns=columns, lines=lines, header=named, notes=notes, form=form)
    return _without_headers(table) if named and len(names) > 1 else table


def _names(header: list[str]) -> list[str]:
    """Names of the columns; of several that have none, all but the first are called as pandas calls them."""
    names = [cell.strip() for cell in header]
    first = names.index("") if "" in names else None
    return [name or ("" if i == first else f"Unnamed: {i}") for i, name in enumerate(names)]


def _without_headers(table: Table) -> Table:
    """Without the rows that name the columns again: files that were joined bring theirs."""
    names = [name if not name.startswith("Unnamed: ") else "" for name in table.columns]
    first = next(iter(table.columns.values()))
    likely = (row for row, cell in enumerate(first) if cell.strip() == names[0])
    rows = [row for row in likely if [values[row].strip() for values in table.columns.values()] == names]
    if not rows:
        return table
    dropped = set(rows)
    kept = [row for row in range(len(table)) if row not in dropped]
    columns = {name: [values[row] for row in kept] for name, values in table.columns.items()}
    lines = None if table.lines is None else [table.lines[row] for row in kept]
    note = f"{table.places(rows)}: the header stands there again, dropped"
    return replace(table, columns=columns, lines=lines, notes=(*table.notes, note))


def _declared_separator(text: str) -> tuple[str, str | None]:
    """The text with a blank first line instead of Excel's "sep=;", and the separator that this declares."""
    found = re.match(r"\s*\"?sep=([,;\t|:^~ ])\"?[ \t]*\r?\n", text, re.IGNORECASE)
    return (text, None) if found is None else ("\n" + text[found.end() :], found[1])


def _delimiter(text: str, *, tab: bool) -> str:
    """Tabs where the name promises them and the first line has one; else commas, or what the first line has most of.

    A comma in the first line may be one of its text: where it does not separate all lines alike, another mark may.
    """
    lines = text[:100_000].lstrip("\r\n").splitlines()[:20]
    found = {mark: lines[0].count(mark) for mark in ",;\t|"} if lines else {}
    if tab and (found.get("\t") or not any(n and _separates(lines, mark) for mark, n in found.items())):
        return "\t"
    likely = max(found, key=lambda mark: found[mark]) if any(found.values()) else ","
    if not found.get(",") or not (found["\t"] or found[";"]):
        return "," if found.get(",") else likely
    return next((mark for mark in ",\t;" if found[mark] and _separates(lines, mark)), ",")


def _separates(lines: list[str], mark: str) -> bool:
    """Whether the first lines have equally many fields; the last of them may be cut off."""
    rows = _parse("\n".join(lines[:-1] if len(lines) > 2 else lines), mark, csv.QUOTE_MINIMAL)
    return rows.rectangular


def _records(text: str, delimiter: str, source: str) -> tuple[_Records, tuple[str, ...]]:
    """Read with quoting, unless quotes are plain characters here: then they join lines that stand on their own."""
    quoted = _parse(text, delimiter, csv.QUOTE_MINIMAL)
    if quoted.rectangular and '"' not in text:
        return quoted, ()
    bare = _parse(text, delimiter, csv.QUOTE_NONE)
    separate = bare.rectangular and len(bare.rows[0]) > 1
    if separate and (not quoted.rectangular or len(quoted.rows) < len(bare.rows)):
        return bare, (f"{source}: read without quoting, because its quotes do not balance",)
    if quoted.error is not None:
        raise InputError(
            f"{source} cannot be read as delimited text: {quoted.error}.\n"
            "Double every quote inside a quoted field, or save the data as JSON lines.",
        )
    return quoted, ()


def _parse(text: str, delimiter: str, quoting: Literal[0, 3]) -> _Records:
    rows, lines = [], []
    start, blank, error = 1, 0, None
    with _long_fields():
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, quoting=quoting, strict=True)
        try:
            for row in reader:
                if any(cell.strip() for cell in row):
                    rows.append(row)
                    lines.append(start)
                else:
                    blank += bool(row)
                start = reader.line_num + 1
        except csv.Error as problem:
            error = f"{problem}, in the record that starts at line {start}"
    return _Records(rows=rows, lines=lines, blank=blank, error=error)


@contextmanager
def _long_fields() -> Iterator[None]:
    limit = csv.field_size_limit(sys.maxsize)
    try:
        yield
    finally:
        csv.field_size_limit(limit)


def _refuse_ragged(records: _Records, source: str) -> None:
    if not records.rows:
        raise InputError(f"{source} holds no rows.\nGive a file with one example a line.")
    width = len(records.rows[0])
    for row, line in zip(records.rows, records.lines, strict=True):
        if len(row) != width:
            raise InputError(
                f"{source} line {line} has {len(row)} fields, but the first row has {width}.\n"
                "Quote fields that contain the separator, or save the data as JSON lines.",
            )


def _refuse_duplicates(names: list[str], source: str) -> None:
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InputError(
            f"{source} names the column {shorten(twice)} twice.\n"
            "Rename one of them, or pass --no-header if the first line is data.",
        )


def _looks_like_header(rows: list[list[str]]) -> bool:
    first = rows[0]
    if first == [str(i) for i in range(len(first))] or any(is_known(cell) for cell in first):
        return True
    filled = [cell for cell in first if cell.strip()]  # a spreadsheet leaves empty cells behind the last name
    if len(set(filled)) < len(filled) or any(as_number(cell) is not None for cell in filled):
        return False
    return all(map(_is_name, filled)) and not _recurs(rows)


def _is_name(cell: str) -> bool:
    short = len(cell) <= _HEADER_CHARACTERS and len(cell.split()) <= _HEADER_WORDS
    return short and re.search(r"[.!?]\s*$", cell) is None


def _recurs(rows: list[list[str]]) -> bool:
    """Whether a cell of the first row is also a value further down its column."""
    return any(cell and any(row[i] == cell for row in rows[1:]) for i, cell in enumerate(rows[0]))
