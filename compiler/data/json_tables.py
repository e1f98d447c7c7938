"""JSON as people have it → a table: records, lines, columns, pandas' orientations, and records wrapped in an object."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

from compiler.data.names import ROLES, is_known
from compiler.data.questions import are_articles, article_table
from compiler.data.table import Form, Table, shorten
from targets.errors import InputError
from targets.json_file import parse_json_text

Record = Mapping[str, Any]

_WRITE_LINES = "Write one JSON object a line."
_ENVELOPE = {"row", "row_idx", "truncated_cells"}
"""Keys around every row that the hub's data set server sends."""


def read_json_records(text: str, source: str) -> Table:
    """A JSON value of any known shape, or JSON lines. InputError that names the line or the shape for everything else."""
    start = text.lstrip()[:1]
    if start in {"[", "{"}:
        try:
            value = parse_json_text(text, name=source, of_data=True)
        except InputError:
            if start == "[" and not _is_list_of_lines(text):
                raise
        else:
            return _of_value(value, source)
    return _of_lines(text, source)


def _is_list_of_lines(text: str) -> bool:
    """Whether a line holds a whole value: then a comma too many can be dropped, and the line that is wrong be named."""
    lines = [line.strip() for line in text[:1_000_000].splitlines() if line.strip() not in {"", "["}]
    first = lines[0] if lines else ""
    return (first.lstrip("[ ").startswith("{") and first.rstrip(", ]").endswith("}")) or (
        len(lines) > 1 and first.startswith("[") and first.rstrip(",").endswith("]")
    )


def _of_lines(text: str, source: str) -> Table:
    numbered = ((i, line.strip()) for i, line in enumerate(io.StringIO(text, newline=None), start=1))
    kept = [(i, _bare(line)) for i, line in numbered if line.strip("[],")]
    records = [_of_line(line, f"{source} line {i}") for i, line in kept]
    return _of_records(records, source, lines=[i for i, _ in kept])


def _bare(line: str) -> str:
    """A line without the comma after it, and without the bracket of an array that opens or closes on it."""
    line = line.removesuffix(",")
    if line.startswith("[") and line.endswith("]"):
        return line
    return line.removeprefix("[").removesuffix("]" if line.endswith("}]") else "")


def _of_line(line: str, place: str) -> Any:
    try:
        return parse_json_text(line, name=place, of_data=True)
    except InputError as error:
        raise InputError(f"{str(error).removesuffix('.')}.\n{_WRITE_LINES}") from None


def _of_value(value: Any, source: str) -> Table:
    if isinstance(value, list):
        return _of_list(value, source)
    shape, found = _unwrapped(value, source)
    if isinstance(found, list):
        return _of_list(found, source, shape)
    return Table(source=source, columns=found, form=Form(format=f"JSON ({shape})"))


def _of_list(values: list[Any], source: str, shape: str = "records") -> Table:
    if values and all(isinstance(value, str) for value in values):
        return Table(source=source, columns={"text": values}, form=Form(format="JSON (texts)"))
    if values and all(isinstance(value, list) for value in values):
        raise InputError(f"{source} holds rows without names of columns: {shorten(values[0])}.\n{_WRITE_LINES}")
    return _of_records(values, source, lines=None, shape=shape)


def _of_records(records: Sequence[Any], source: str, *, lines: list[int] | None, shape: str = "records") -> Table:
    for row, record in enumerate(records):
        if not isinstance(record, Mapping):
            place = f"row {row + 1}" if lines is None else f"line {lines[row]}"
            raise InputError(f"{source} {place} is {shorten(record)}, not an object.\n{_WRITE_LINES}")
    if records and all("row" in record and set(record) <= _ENVELOPE for record in records):
        return _of_records([record["row"] for record in records], source, lines=lines, shape="rows of the hub's server")
    if are_articles(records):
        return article_table(records, source, lines)
    names = dict.fromkeys(name for record in records for name in record)
    columns = {name: [record.get(name) for record in records] for name in names}
    form = Form(format="JSON lines" if lines is not None else f"JSON ({shape})")
    return Table(source=source, columns=columns, lines=lines, form=form)


def _unwrapped(value: Record, source: str) -> tuple[str, Any]:
    """What an object holds: its shape in words, and records or columns."""
    if isinstance(value.get("columns"), list) and isinstance(value.get("data"), list):
        return "pandas, split", _split_columns(value, source)
    if value and all(isinstance(part, Mapping) for part in value.values()):
        return _of_mappings(value, source)
    if (columns := _columns(value)) is not None:
        return "columns", columns
    _refuse_ragged(value, source)
    lists = [key for key, part in value.items() if isinstance(part, list) and part and isinstance(part[0], Mapping)]
    if len(lists) == 1:
        return f"records in {shorten(lists[0])}", value[lists[0]]
    _refuse_splits(value, source)
    if value and not any(isinstance(part, list | Mapping) for part in value.values()):
        return "records", [value]
    keys = ", ".join(shorten(key) for key in list(value)[:6]) or "none"
    raise InputError(f"{source} is a JSON object of no known shape; its keys: {keys}.\n{_WRITE_LINES}")


def _columns(value: Record) -> dict[str, list[Any]] | None:
    """The columns of {"text": […], "label": […]}, where that is what it is."""
    lists = {key: part for key, part in value.items() if isinstance(part, list)}
    flat = all(not isinstance(cell, list | Mapping) for part in lists.values() for cell in part)
    alike = len({len(part) for part in lists.values()}) == 1
    known = any(map(is_known, lists))
    if not lists or not flat or not alike or not known or len(lists) < len(value):
        return None
    return lists


def _refuse_ragged(value: Record, source: str) -> None:
    """InputError for columns of different lengths."""
    flat = {key: len(part) for key, part in value.items() if isinstance(part, list) and is_known(key)}
    if len(flat) == len(value) and len(set(flat.values())) > 1:
        lengths = ", ".join(f"{shorten(key)} {count:,}" for key, count in list(flat.items())[:6])
        raise InputError(f"The columns of {source} have different lengths: {lengths}.\n{_WRITE_LINES}")


def _split_columns(value: Record, source: str) -> dict[str, list[Any]]:
    names, rows = value["columns"], value["data"]
    wrong = next(
        (row for row, cells in enumerate(rows) if not isinstance(cells, list) or len(cells) != len(names)), None
    )
    if wrong is not None or not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
        where = "its columns are no names" if wrong is None else f"row {wrong + 1} has not {len(names)} cells"
        raise InputError(f"{source} looks like pandas' orient='split', but {where}.\n{_WRITE_LINES}")
    return {name: [row[i] for row in rows] for i, name in enumerate(names)}


def _of_mappings(value: Mapping[str, Record], source: str) -> tuple[str, Any]:
    """An object of objects: pandas' orient='columns' ({column: {row: cell}}) or 'index' ({row: {column: cell}})."""
    inner = dict.fromkeys(key for part in value.values() for key in part)
    by_column = any(map(is_known, value)) or (_are_numbers(inner) and not _are_numbers(value))
    by_row = any(map(is_known, inner)) or (_are_numbers(value) and not _are_numbers(inner))
    if by_column == by_row:
        raise InputError(
            f"{source} is an object of objects; whether its keys name columns or rows cannot be told: "
            f"{shorten(next(iter(value)))}, {shorten(next(iter(inner), ''))}.\n{_WRITE_LINES}",
        )
    if by_row:
        return "pandas, index", list(value.values())
    return "pandas, columns", {name: [part.get(row) for row in inner] for name, part in value.items()}


def _are_numbers(keys: Mapping[str, Any]) -> bool:
    return all(key.isdigit() for key in keys)


def _refuse_splits(value: Record, source: str) -> None:
    roles = {word for words in ROLES.values() for word in words}
    found = [key for key in value if key.casefold() in roles]
    if len(found) > 1:
        raise InputError(
            f"{source} holds several splits: {', '.join(found)}.\nWrite each to a file of its own name in one folder.",
        )
