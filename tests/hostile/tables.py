"""Data files: rows with odd cells, columns and headers, written in every format that paretoc reads."""

import contextlib
import csv
import io
import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.hostile.edits import dump
from tests.tiny import WORDS

FORMATS = ("csv", "tsv", "json", "jsonl", "parquet", "txt", "folder")
LABELS = ("class", "score", "none", "pair", "int")


@dataclass(frozen=True, slots=True)
class DataPlan:
    """A table of `rows` rows: its format, what its labels are, and changes to cells, columns and rows."""

    form: str
    label: str
    rows: int
    changes: tuple[tuple[str, int, Any], ...] = ()

    @property
    def path(self) -> str:
        """Where the data lie below the input."""
        return "data" if self.form == "folder" else f"data.{self.form}"

    def write(self, folder: Path) -> None:
        """Write the file or folder."""
        columns = self._columns()
        for kind, at, value in self.changes:
            with contextlib.suppress(ZeroDivisionError, IndexError):  # no row or column is left
                CHANGES[kind](columns, at, value)
        if self.form == "folder":
            (folder / "data").mkdir()
            for role in ("train", "dev", "test"):
                (folder / "data" / f"{role}.csv").write_bytes(_delimited(columns, ","))
        else:
            (folder / self.path).write_bytes(WRITERS[self.form](columns))

    def _columns(self) -> dict[str, list[Any]]:
        rng = random.Random(self.rows)
        texts = [
            f"{' '.join(rng.choices(WORDS, k=rng.randint(2, 9)))} {WORDS[i % len(WORDS)]}" for i in range(self.rows)
        ]
        if self.label == "pair":
            other = [" ".join(rng.choices(WORDS, k=5)) for _ in range(self.rows)]
            return {"sentence1": texts, "sentence2": other, "score": [rng.randint(0, 50) / 10 for _ in texts]}
        labels = {
            "class": [("good", "bad")[i % 2] for i in range(self.rows)],
            "int": [i % 3 for i in range(self.rows)],
            "score": [rng.random() * 5 for _ in texts],
        }
        return {"text": texts} | ({} if self.label == "none" else {"label": labels[self.label]})


Columns = dict[str, list[Any]]


def _cell(columns: Columns, at: int, value: Any) -> None:
    column = columns[list(columns)[at % len(columns)]]
    column[(at // 5) % len(column)] = value


def _some_cells(columns: Columns, at: int, value: Any) -> None:
    column = columns[list(columns)[at % len(columns)]]
    column[:: 2 + at % 7] = [value] * len(column[:: 2 + at % 7])


def _whole_column(columns: Columns, at: int, value: Any) -> None:
    name = list(columns)[at % len(columns)]
    columns[name] = [value] * len(columns[name])


def _rename(columns: Columns, at: int, value: Any) -> None:
    columns[str(value)[:2000]] = columns.pop(list(columns)[at % len(columns)])


def _drop(columns: Columns, at: int, _: Any) -> None:
    del columns[list(columns)[at % len(columns)]]


def _add(columns: Columns, at: int, value: Any) -> None:
    rows = len(next(iter(columns.values()), []))
    columns[("id", "idx", "date", "name", "text_b", "", "label2", str(value)[:50])[at % 8]] = [
        (i, f"2024-01-{i % 28 + 1:02d}", value)[at % 3] for i in range(rows)
    ]


def _header_again(columns: Columns, at: int, _: Any) -> None:
    for name, column in columns.items():
        column.insert(at % (len(column) + 1), name)


def _cased(columns: Columns, at: int, _: Any) -> None:
    column = columns[list(columns)[-1]]
    column[at % len(column)] = f" {column[at % len(column)]}".upper()


def _ragged(columns: Columns, at: int, _: Any) -> None:
    column = columns[list(columns)[at % len(columns)]]
    del column[at % (len(column) + 1) :]


CHANGES: dict[str, Callable[[Columns, int, Any], None]] = {
    "cell": _cell,
    "some-cells": _some_cells,
    "column": _whole_column,
    "rename": _rename,
    "drop": _drop,
    "add": _add,
    "header": _header_again,
    "case": _cased,
    "ragged": _ragged,
}


def _rows(columns: Columns) -> list[list[Any]]:
    longest = max(map(len, columns.values()), default=0)
    return [[column[i] if i < len(column) else None for column in columns.values()] for i in range(longest)]


def _delimited(columns: Columns, delimiter: str) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, escapechar="\\")
    writer.writerow(list(columns))
    writer.writerows(_rows(columns))
    return text.getvalue().encode("utf-8", errors="surrogatepass")


def _records(columns: Columns) -> list[dict[str, Any]]:
    return [dict(zip(columns, row, strict=True)) for row in _rows(columns)]


def _lines(columns: Columns) -> bytes:
    return b"".join(dump(record) + b"\n" for record in _records(columns))


def _parquet(columns: Columns) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    def column(values: list[Any]) -> Any:
        for made in (
            lambda: pa.array(values),
            lambda: pa.array([str(v) for v in values]),
            lambda: pa.array([repr(v) for v in values]),
        ):
            try:
                return made()
            except (pa.ArrowException, ValueError, OverflowError, TypeError):
                continue
        raise ValueError("no column")

    longest = max(map(len, columns.values()), default=0)
    arrays = [column([*values, *[None] * (longest - len(values))]) for values in columns.values()]
    names = [name.encode("utf-8", errors="replace").decode() for name in columns]
    table = pa.Table.from_arrays(arrays, names=names)
    if longest % 3 == 0:
        table = table.replace_schema_metadata({"huggingface": "{", "pandas": json.dumps({"index_columns": 3})})
    sink = io.BytesIO()
    try:
        pq.write_table(table, sink)
    except pa.ArrowException:  # a type that Parquet has no form for
        return b"PAR1"
    return sink.getvalue()


WRITERS: dict[str, Callable[[Columns], bytes]] = {
    "csv": lambda columns: _delimited(columns, ","),
    "tsv": lambda columns: _delimited(columns, "\t"),
    "json": lambda columns: dump(_records(columns) if len(columns) % 2 else columns),
    "jsonl": _lines,
    "parquet": _parquet,
    "txt": lambda columns: "\n".join(str(row[0]) if row else "" for row in _rows(columns)).encode(
        "utf-8", errors="surrogatepass"
    ),
}
