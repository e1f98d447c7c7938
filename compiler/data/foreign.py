"""Formats that are not read, by suffix: what each is, and what to do with it."""

from __future__ import annotations

import re
from pathlib import Path

from targets.errors import InputError

_SHEET = ("a spreadsheet", "Save the sheet as CSV (UTF-8)")
_PICKLE = ("a pickle, which can run code when loaded", "Save the data as Parquet, CSV or JSON lines")
_ARCHIVE = ("an archive", "Unpack it and give the file or folder in it")
_PACKED = ("compressed in a way that is not read", "Decompress it, or use gzip (.gz)")
_ARRAY = ("an array", "Save texts and labels as Parquet, CSV or JSON lines")
_DATABASE = ("a database", "Export the table as CSV or Parquet")
_DOCUMENT = ("a document", "Save its text as .txt, one example a line")
_RECORDS = ("of a format that is not read", "Save the data as Parquet, CSV or JSON lines")
_TREEBANK = (
    "a treebank (CoNLL-U), whose columns are not read",
    "Save the words and the tags to learn as two columns, in a file named .conll",
)

_KINDS = {
    _SHEET: ("xlsx", "xls", "xlsm", "xlsb", "ods", "numbers"),
    _PICKLE: ("pkl", "pickle", "pt", "pth", "bin", "joblib", "dill", "ckpt"),
    _ARCHIVE: ("zip", "tar", "tgz", "7z", "rar", "tbz2", "txz"),
    _PACKED: ("bz2", "xz", "zst", "zstd", "lz4", "lzma", "br"),
    _ARRAY: ("npy", "npz", "h5", "hdf5", "hdf", "mat", "safetensors"),
    _DATABASE: ("db", "sqlite", "sqlite3", "sql", "mdb", "duckdb"),
    _DOCUMENT: ("pdf", "docx", "doc", "rtf", "odt", "html", "htm", "epub", "md"),
    _RECORDS: (
        "orc",
        "avro",
        "xml",
        "yaml",
        "yml",
        "toml",
        "sav",
        "dta",
        "rds",
        "rdata",
        "tfrecord",
        "msgpack",
        "proto",
    ),
    _TREEBANK: ("conllu", "conllx"),
}
_BY_SUFFIX = {f".{suffix}": kind for kind, suffixes in _KINDS.items() for suffix in suffixes}


def refuse_foreign(path: Path, formats: tuple[str, ...]) -> None:
    """InputError for a file of any format that is not read, by its name."""
    suffix = path.suffix.casefold()
    if suffix in _BY_SUFFIX:
        what, remedy = _BY_SUFFIX[suffix]
        raise InputError(f"{path.name} is {what}.\n{remedy} ({', '.join(formats)} are read).")
    if suffix not in formats:
        raise InputError(f"{path.name} is of no known format ({suffix or 'no suffix'}).\nUse {', '.join(formats)}.")


_DISGUISES = (
    (re.compile(r"\s*\{\s*\"[^\"\n]*\"\s*:"), "JSON", "Name it .json or .jsonl"),
    (
        re.compile(r"\s*<(?:!doctype|html|\?xml)\b", re.IGNORECASE),
        "a page of HTML or XML",
        "Download the data themselves",
    ),
    (re.compile(r"version https://git-lfs"), "a pointer of Git LFS", "Fetch the file with: git lfs pull"),
    (re.compile(r"PK\x03\x04"), "an archive or a spreadsheet", "Unpack it, or save the sheet as CSV"),
    (re.compile(r"PAR1"), "Parquet", "Name it .parquet"),
    (re.compile(r"%PDF-"), "a PDF document", "Save its text as .txt, one example a line"),
)


def refuse_disguised(text: str, source: str) -> None:
    """InputError for a text file that holds something else than its name says."""
    for form, what, remedy in _DISGUISES:
        if form.match(text[:1000]):
            raise InputError(f"{source} holds {what}, not what its name says.\n{remedy}.")
