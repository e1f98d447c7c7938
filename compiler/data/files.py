"""One file of any supported format → a table."""

from __future__ import annotations

import zlib
from dataclasses import replace
from pathlib import Path

from compiler.data.arrow_tables import read_arrow, read_parquet
from compiler.data.conll import is_tagged, read_conll
from compiler.data.delimited import read_delimited
from compiler.data.encodings import decode
from compiler.data.foreign import refuse_disguised, refuse_foreign
from compiler.data.json_tables import read_json_records
from compiler.data.plain_text import read_lines
from compiler.data.table import Table, check_table
from targets.errors import InputError
from targets.json_file import read_bytes

_CONLL = (".conll", ".conll2003", ".iob", ".iob2", ".bio", ".bioes")
FORMATS = (".csv", ".tsv", ".tab", ".jsonl", ".json", ".ndjson", ".parquet", ".arrow", ".feather", ".txt", *_CONLL)
MOST_BYTES = 4 * 2**30
"""Of a data file, decompressed: more does not fit into the memory of a common machine as Python strings."""

_ARROW = {".parquet": read_parquet, ".arrow": read_arrow, ".feather": read_arrow}
_MOST_EXPANSION, _LEAST_ALLOWED = 100, 64 * 2**20
"""Text compresses 3 to 20 times. A file that expands more is no text, and would fill the memory."""


def is_data_file(path: Path) -> bool:
    """Whether the name is one of a format that is read, compressed or not; hidden files are none."""
    return suffix_of(path)[0] in FORMATS and not path.name.startswith(".")


def suffix_of(path: Path) -> tuple[str, bool]:
    """The suffix that names the format, and whether the file is compressed."""
    packed = path.suffix.casefold() == ".gz"
    return (Path(path.stem) if packed else path).suffix.casefold(), packed


def read_file(path: Path, *, encoding: str | None = None, header: bool | None = None) -> Table:
    """Read one file; its format is its suffix.

    Raises InputError for what is missing, empty, in another encoding or not in the format that its name promises.
    """
    suffix, packed = suffix_of(path)
    if packed and suffix not in FORMATS:
        raise InputError(f"{path.name} does not say what is compressed in it.\nName it like data.csv.gz.")
    if not packed:
        refuse_foreign(path, FORMATS)
    content = _read(path, packed=packed)
    return check_table(_parse(content, path.name, suffix, encoding=encoding, header=header))


def _parse(content: bytes, source: str, suffix: str, *, encoding: str | None, header: bool | None) -> Table:
    if suffix in _ARROW:
        return _ARROW[suffix](content, source)
    text, used, notes = decode(content, source=source, encoding=encoding)
    if suffix in {".csv", ".tsv", ".tab"}:
        refuse_disguised(text, source)
        if is_tagged(text):
            table = read_conll(text, source)
        else:
            table = read_delimited(text, source=source, tab=suffix != ".csv", header=header)
    elif suffix in _CONLL:
        refuse_disguised(text, source)
        table = read_conll(text, source)
    elif suffix == ".txt":
        refuse_disguised(text, source)
        table = read_lines(text, source, header=header)
    else:
        table = read_json_records(text, source)
    return replace(table, notes=(*notes, *table.notes), form=replace(table.form, encoding=used))


def _read(path: Path, *, packed: bool) -> bytes:
    size = path.stat().st_size
    if size > MOST_BYTES:
        raise InputError(
            f"{path.name} has {size:,} bytes; at most {MOST_BYTES:,} are read.\nGive a sample of its rows."
        )
    content = read_bytes(path, name=path.name, most_bytes=max(size, 1))
    content = _decompressed(content, path.name) if packed else content
    if not content.strip():
        raise InputError(f"{path.name} is empty.\nGive a file with one example a line.")
    return content


def _decompressed(content: bytes, source: str) -> bytes:
    """The content of a gzip file, of several parts where it has them. InputError where it is damaged or expands too far."""
    most = min(max(_MOST_EXPANSION * len(content), _LEAST_ALLOWED), MOST_BYTES)
    parts: list[bytes] = []
    try:
        while content:
            part = zlib.decompressobj(wbits=31)
            parts.append(part.decompress(content, most - sum(map(len, parts)) + 1))
            if sum(map(len, parts)) > most:
                raise InputError(
                    f"{source} expands to more than {most:,} bytes.\nDecompress it yourself and give a sample."
                )
            if not part.eof:
                raise InputError(f"{source} ends in the middle of its compressed data.\nCopy or download it again.")
            content = part.unused_data.lstrip(b"\0")
    except zlib.error as error:
        raise InputError(f"{source} is no gzip file: {error}.\nCopy or download it again.") from error
    return b"".join(parts)
