"""A source as the user names it → one table for each split that it has."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from compiler.data.arrow_tables import is_saved, read_saved
from compiler.data.files import FORMATS, is_data_file, read_file
from compiler.data.foreign import refuse_foreign
from compiler.data.hub import is_hub_name, read_hub
from compiler.data.names import ROLES
from compiler.data.table import Table, concatenate
from targets.errors import InputError, printable

ALL = "all"
"""The role of a table that is not split yet."""

_SHARD = re.compile(r"-\d{5}-of-\d{5}$")
_PAPERWORK = re.compile(r"(readme|licen[cs]e|notice|changelog|citation|requirements|dataset_infos?)\b", re.IGNORECASE)
_SHOWN = 8


def read_source(source: str, *, encoding: str | None, header: bool | None) -> dict[str, Table]:
    """Tables by role: train and any of validation and test, or `ALL` alone."""
    path = _path(source)
    try:
        if path.is_dir():
            return _read_folder(path, encoding=encoding, header=header)
        if path.exists():
            return {ALL: read_file(path, encoding=encoding, header=header)}
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"{path.name[:60]!r} cannot be read: {reason}.\nCheck the path in --data.") from error
    if path.suffix.casefold() in FORMATS or not is_hub_name(source):
        raise InputError(f"There is no file or folder {source!r}.\nCheck the path given to --data.")
    return _by_role(read_hub(source), source)


def display_name(source: str) -> str:
    """What the report calls the source: a base name, or the hub's own name."""
    path = _path(source)
    name = path.resolve().name if path.exists() else source
    return printable(name)


def _path(source: str) -> Path:
    try:
        return Path(source).expanduser()
    except RuntimeError:  # ~name of nobody
        return Path(source)


def _read_folder(folder: Path, *, encoding: str | None, header: bool | None) -> dict[str, Table]:
    if is_saved(folder):
        tables = read_saved(folder)
        return {ALL: tables[""]} if "" in tables else _by_role(tables, folder.resolve().name)
    files = _data_files(folder)
    roles = _group(files)
    if not roles and len(files) == 1:
        return {ALL: read_file(files[0], encoding=encoding, header=header)}
    _refuse_without_train(roles, files, folder)
    _refuse_ambiguous(roles)
    tables = {}
    for role in sorted(roles, key=list(ROLES).index):
        tables[role] = _joined(roles[role], encoding=encoding, header=header)
        header = tables[role].header if header is None else header
    return tables if len(tables) > 1 else {ALL: tables["train"]}


def _data_files(folder: Path) -> list[Path]:
    """The data files of a folder, or of the folder `data` in it, where a copy of a hub repository keeps them."""
    inner = folder / "data"
    return _files_in(folder) or (_files_in(inner) if inner.is_dir() else [])


def _files_in(folder: Path) -> list[Path]:
    return sorted(
        path for path in folder.iterdir() if path.is_file() and is_data_file(path) and not _PAPERWORK.match(path.name)
    )


def _joined(paths: list[Path], *, encoding: str | None, header: bool | None) -> Table:
    table = concatenate([read_file(path, encoding=encoding, header=header) for path in paths])
    return table if len(paths) == 1 else replace(table, source=f"{paths[0].name} and {len(paths) - 1} more")


def _stem(path: Path) -> str:
    """The file's name without its suffixes and without the number of a shard."""
    name = path.name.removesuffix(path.suffix)
    name = Path(name).stem if path.suffix.casefold() == ".gz" else name
    return _SHARD.sub("", name)


def _group(files: Iterable[Path]) -> dict[str, list[Path]]:
    """Files by role: a role is one file, or its numbered shards. `dev.csv` goes before `my_dev.csv`."""
    exact: dict[str, list[Path]] = {}
    loose: dict[str, list[Path]] = {}
    for path in files:
        stem = _stem(path)
        role = _role(stem)
        if role is not None:
            exact.setdefault(role, []).append(path)
        elif (role := _role_of_words(stem)) is not None:
            loose.setdefault(role, []).append(path)
    return loose | exact


def _refuse_ambiguous(roles: Mapping[str, list[Path]]) -> None:
    for role, paths in roles.items():
        if len(paths) > 1 and not all(_SHARD.search(path.name.split(".")[0]) for path in paths):
            names = " and ".join(path.name for path in paths[:_SHOWN])
            raise InputError(f"Which is the {role} split: {names}?\nLeave one of them in the folder.")


def _role(name: str) -> str | None:
    return next((role for role, names in ROLES.items() if name.casefold() in names), None)


def _role_of_words(name: str) -> str | None:
    """The role in names such as validation_matched, mrpc_dev, train.v2, TrainSet or imdb_train_small."""
    words = [word for word in re.split(r"[_.\s()-]+|(?<=[a-z])(?=[A-Z])|(?<=[a-z])(?=\d)", name) if word]
    ends = _role(words[0]) or _role(words[-1]) if words else None
    inner = {role for word in words if (role := _role(word)) is not None}
    return ends or (inner.pop() if len(inner) == 1 else None)


def _refuse_without_train(roles: Mapping[str, list[Path]], files: list[Path], folder: Path) -> None:
    if "train" in roles:
        return
    for path in sorted(folder.iterdir()) if not files else ():
        if path.is_file() and _role_of_words(_stem(path)) == "train":
            refuse_foreign(path, FORMATS)
    inner = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    what = ", ".join(path.name for path in files[:_SHOWN]) or "no data file"
    if inner and not files:
        what += f", but the folders {', '.join(inner[:_SHOWN])}"
    raise InputError(
        f"The folder {folder.resolve().name!r} has no train file: found {what}.\n"
        f"Name the files train, dev and test ({', '.join(FORMATS)}), or give one file.",
    )


def _by_role(tables: Mapping[str, Table], source: str) -> dict[str, Table]:
    """Splits by role; of several matching ones (validation_matched, …) the first."""
    roles: dict[str, Table] = {}
    for name, table in tables.items():
        role = _role(name) or _role_of_words(name)
        if role is not None:
            roles.setdefault(role, table)
    if len(tables) == 1:
        return {ALL: next(iter(tables.values()))}
    if "train" not in roles:
        raise InputError(f"{source} has no train split: found {', '.join(tables)}.\nUse a data set that has one.")
    return roles if len(roles) > 1 else {ALL: roles["train"]}
