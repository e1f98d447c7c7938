"""Parquet, Arrow and Feather files, and the folders that `datasets` saves → tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from compiler.data.table import Form, Table, check_table, concatenate, refuse_many, shorten
from targets.errors import InputError, printable
from targets.json_file import parse_json_text, read_bytes, read_json

_MOST_BYTES = 4 * 2**30
_DICT, _STATE = "dataset_dict.json", "state.json"


def read_parquet(content: bytes, source: str) -> Table:
    """A Parquet file; class names of `datasets` are kept."""
    import pyarrow as pa
    from pyarrow import parquet

    try:
        file = parquet.ParquetFile(pa.BufferReader(content))
        refuse_many(file.metadata.num_rows, source)
        return _table(file.read(), source, "Parquet")
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        raise InputError(
            f"{source} is not a Parquet file: {_reason(error)}\nWrite it again, or give it as CSV."
        ) from error


def read_arrow(content: bytes, source: str) -> Table:
    """An Arrow or Feather file, in the file's or the stream's layout."""
    import pyarrow as pa
    from pyarrow import feather, ipc

    try:
        if content.startswith(b"FEA1"):
            return _table(feather.read_table(pa.BufferReader(content)), source, "Feather")
        opened = ipc.open_file if content.startswith(b"ARROW1") else ipc.open_stream
        return _table(opened(pa.BufferReader(content)).read_all(), source, "Arrow")
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        raise InputError(
            f"{source} is not an Arrow file: {_reason(error)}\nWrite it again, or give it as CSV."
        ) from error


def _reason(error: Exception) -> str:
    return printable((str(error).strip().splitlines() or [type(error).__name__])[0], 120)


def _table(found: Any, source: str, kind: str) -> Table:
    refuse_many(found.num_rows, source)
    found.validate(full=True)  # offsets of a damaged file would be read beyond its end
    twice = next((name for name in found.column_names if found.column_names.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"{source} names the column {shorten(twice)} twice.\nRename one of them.")
    columns = {name: found.column(name).to_pylist() for name in found.column_names}
    names = class_names((found.schema.metadata or {}).get(b"huggingface", b"{}"))
    return Table(source=source, columns=columns, class_names=names, form=Form(format=kind))


def class_names(metadata: bytes) -> dict[str, tuple[str, ...]]:
    """The names of ClassLabels, alone or in lists, that `datasets` writes into the files it saves; none where the metadata are another's."""
    try:
        found = parse_json_text(metadata.decode(), name="metadata")
        features = found["info"]["features"]
        named = {column: _names_of(feature) for column, feature in features.items()}
        return {column: tuple(map(str, names)) for column, names in named.items() if isinstance(names, list)}
    except (InputError, UnicodeDecodeError, LookupError, TypeError, AttributeError):
        return {}


def _names_of(feature: Any) -> Any:
    """The names of a column's ClassLabel, or of that which its lists hold; None where it has none."""
    if isinstance(feature, list) and len(feature) == 1:
        return _names_of(feature[0])
    if not isinstance(feature, dict):
        return None
    if feature.get("_type") in {"Sequence", "List", "LargeList"}:
        return _names_of(feature.get("feature"))
    return feature.get("names") if feature.get("_type") == "ClassLabel" else None


def is_saved(folder: Path) -> bool:
    """Whether `save_to_disk` of `datasets` wrote the folder."""
    return (folder / _DICT).is_file() or (folder / _STATE).is_file()


def read_saved(folder: Path) -> dict[str, Table]:
    """A folder of `Dataset.save_to_disk` as {"": table}, one of `DatasetDict.save_to_disk` by split name."""
    if not (folder / _DICT).is_file():
        return {"": _saved_split(folder)}
    found = read_json(folder / _DICT)
    names = found.get("splits") if isinstance(found, dict) else None
    if not isinstance(names, list) or not names or not all(map(_is_plain, names)):
        raise InputError(f"{_DICT} of {folder.resolve().name} names no splits.\nSave the data set again.")
    return {name: _saved_split(folder / name) for name in names}


def _saved_split(folder: Path) -> Table:
    source = folder.resolve().name
    state = read_json(folder / _STATE, name=f"{_STATE} of {source}")
    listed = state.get("_data_files") if isinstance(state, dict) else None
    names = [file.get("filename") if isinstance(file, dict) else None for file in listed or ()]
    if not names or not all(map(_is_plain, names)):
        raise InputError(f"{_STATE} of {source} names no Arrow files beside it.\nSave the data set again.")
    tables = [_shard(folder / str(name), source) for name in names]
    return check_table(concatenate(tables))


def _shard(path: Path, source: str) -> Table:
    try:
        size = path.stat().st_size
    except OSError as error:
        raise InputError(f"{source} lacks {path.name}: {error.strerror}.\nCopy the whole folder.") from error
    if size > _MOST_BYTES:
        raise InputError(
            f"{path.name} has {size:,} bytes; at most {_MOST_BYTES:,} are read.\nSave a sample of the rows."
        )
    return read_arrow(read_bytes(path, name=path.name, most_bytes=max(size, 1)), source)


def _is_plain(name: object) -> bool:
    """Whether it is the name of a file in the same folder: not a path."""
    return isinstance(name, str) and name not in {"", ".", ".."} and not {"/", "\\", "\0"} & set(name)
