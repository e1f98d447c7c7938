"""One file of any supported format → a table."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from compiler.data.delimited import read_delimited
from compiler.data.table import Table, shorten
from targets.errors import InputError

FORMATS = (".csv", ".tsv", ".jsonl", ".json", ".ndjson", ".parquet", ".txt")


def read_file(path: Path, *, encoding: str | None = None, header: bool | None = None) -> Table:
    """Read one file; its format is its suffix.

    Raises InputError for what is missing, empty, in another encoding or not in the format that its name promises.
    """
    suffix = path.suffix.casefold()
    if suffix not in FORMATS:
        raise InputError(f"{path.name} is of no known format ({suffix or 'no suffix'}).\nUse {', '.join(FORMATS)}.")
    content = _read_bytes(path)
    table = _parse(content, path.name, suffix, encoding=encoding, header=header)
    if not len(table):
        raise InputError(f"{path.name} holds no rows.\nGive a file with one example a line.")
    return table


def _parse(content: bytes, source: str, suffix: str, *, encoding: str | None, header: bool | None) -> Table:
    if suffix == ".parquet":
        return _read_parquet(content, source)
    text = decode(content, source=source, encoding=encoding)
    if suffix in {".csv", ".tsv"}:
        return read_delimited(text, source=source, tab=suffix == ".tsv", header=header)
    if suffix == ".txt":
        return _read_lines(text, source)
    return _read_json(text, source)


def _read_bytes(path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path.name} cannot be read: {error.strerror}.\nGive a file that you can open.") from error
    if not content.strip():
        raise InputError(f"{path.name} is empty.\nGive a file with one example a line.")
    return content


def decode(content: bytes, *, source: str, encoding: str | None) -> str:
    """Decode a text file, UTF-8 unless `encoding` names another; a byte-order mark is dropped."""
    try:
        text = content.decode(encoding or "utf-8")
    except LookupError as error:
        raise InputError(f"There is no encoding {shorten(encoding)}.\nTry --encoding latin-1 or utf-16.") from error
    except UnicodeDecodeError as error:
        raise InputError(_encoding_message(content, source, encoding, error)) from error
    if "\0" in text[:10_000]:
        raise InputError(f"{source} is not a text file: it contains NUL characters.\nUse {', '.join(FORMATS)}.")
    return text.removeprefix("\ufeff")


def _encoding_message(content: bytes, source: str, encoding: str | None, error: UnicodeDecodeError) -> str:
    line = content.count(b"\n", 0, error.start) + 1
    found = f"{source} is not {encoding or 'UTF-8'}: byte 0x{content[error.start]:02x} at line {line}"
    marked = content.startswith((b"\xff\xfe", b"\xfe\xff"))
    other = "utf-16" if marked else "latin-1"
    return f"{found}.\nPass --encoding {other}, or the encoding that it was written in."


def _read_lines(text: str, source: str) -> Table:
    numbered = [(i, line.rstrip("\n")) for i, line in enumerate(io.StringIO(text, newline=None), start=1)]
    kept = [(i, line) for i, line in numbered if line.strip()]
    return Table(source=source, columns={"text": [line for _, line in kept]}, lines=[i for i, _ in kept])


def _read_json(text: str, source: str) -> Table:
    if text.lstrip().startswith("["):
        records = _load_json(text, f"{source}")
        return _table_of(records, source, lines=None)
    kept = [(i, line) for i, line in enumerate(io.StringIO(text, newline=None), start=1) if line.strip()]
    records = [_load_json(line, f"{source} line {i}") for i, line in kept]
    return _table_of(records, source, lines=[i for i, _ in kept])


def _load_json(text: str, place: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{place} is not JSON: {error}.\nWrite one JSON object a line.") from error


def _table_of(records: Sequence[Any], source: str, *, lines: list[int] | None) -> Table:
    for row, record in enumerate(records):
        if not isinstance(record, Mapping):
            place = f"row {row + 1}" if lines is None else f"line {lines[row]}"
            raise InputError(f"{source} {place} is {shorten(record)}, not an object.\nWrite one JSON object a line.")
    names = dict.fromkeys(name for record in records for name in record)
    columns = {name: [record.get(name) for record in records] for name in names}
    return Table(source=source, columns=columns, lines=lines)


def _read_parquet(content: bytes, source: str) -> Table:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        table = parquet.read_table(pa.BufferReader(content))
    except (pa.ArrowException, OSError) as error:
        first = str(error).splitlines()[0]
        raise InputError(f"{source} is not a Parquet file: {first}\nWrite it again, or give it as CSV.") from error
    metadata = (table.schema.metadata or {}).get(b"huggingface", b"{}")
    columns = {name: table.column(name).to_pylist() for name in table.column_names}
    return Table(source=source, columns=columns, class_names=_class_names(metadata))


def _class_names(metadata: bytes) -> dict[str, tuple[str, ...]]:
    """The ClassLabel names that `datasets` writes into the files it saves."""
    features = json.loads(metadata).get("info", {}).get("features", {})
    return {
        column: tuple(feature["names"])
        for column, feature in features.items()
        if isinstance(feature, dict) and feature.get("_type") == "ClassLabel" and "names" in feature
    }
