"""A source as the user names it → one table for each split that it has."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from compiler.data.files import FORMATS, read_file
from compiler.data.hub import is_hub_name, read_hub
from compiler.data.table import Table, concatenate
from targets.errors import InputError

ALL = "all"
"""The role of a table that is not split yet."""

_ROLES = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev", "development", "eval"),
    "test": ("test", "testing"),
}
_SHARD = re.compile(r"-\d{5}-of-\d{5}$")
_PAPERWORK = re.compile(r"(readme|licen[cs]e|notice|changelog|citation|requirements|dataset_infos?)\b", re.IGNORECASE)


def read_source(source: str, *, encoding: str | None, header: bool | None) -> dict[str, Table]:
    """Tables by role: train and any of validation and test, or `ALL` alone."""
    path = _path(source)
    try:
        if path.is_dir():
            return _read_folder(path, encoding=encoding, header=header)
        if path.exists():
            return {ALL: read_file(path, encoding=encoding, header=header)}
    except OSError as error:
        raise InputError(f"{path.name[:60]!r} cannot be read: {error.strerror}.\nCheck the path in --data.") from error
    if path.suffix.casefold() in FORMATS or not is_hub_name(source):
        raise InputError(f"There is no file or folder {source!r}.\nCheck the path given to --data.")
    return _by_role(read_hub(source), source)


def display_name(source: str) -> str:
    """What the report calls the source: a base name, or the hub's own name."""
    path = _path(source)
    return path.resolve().name if path.exists() else source


def _path(source: str) -> Path:
    try:
        return Path(source).expanduser()
    except RuntimeError:  # ~name of nobody
        return Path(source)


def _read_folder(folder: Path, *, encoding: str | None, header: bool | None) -> dict[str, Table]:
    files = sorted(
        path
        for path in folder.iterdir()
        if path.is_file() and path.suffix.casefold() in FORMATS and not _PAPERWORK.match(path.name)
    )
    roles = _group(files)
    if not roles and len(files) == 1:
        return {ALL: read_file(files[0], encoding=encoding, header=header)}
    _refuse_without_train(roles, files, folder.resolve().name)
    _refuse_ambiguous(roles)
    tables: dict[str, Table] = {}
    for role in sorted(roles, key=list(_ROLES).index):
        tables[role] = concatenate([read_file(path, encoding=encoding, header=header) for path in roles[role]])
        header = tables[role].header if header is None else header
    return tables if len(tables) > 1 else {ALL: tables["train"]}


def _group(files: Iterable[Path]) -> dict[str, list[Path]]:
    """Files by role: a role is one file, or its numbered shards. `dev.csv` goes before `my_dev.csv`."""
    exact: dict[str, list[Path]] = {}
    loose: dict[str, list[Path]] = {}
    for path in files:
        stem = _SHARD.sub("", path.stem)
        role = _role(stem)
        if role is not None:
            exact.setdefault(role, []).append(path)
        elif (role := _role_of_words(stem)) is not None:
            loose.setdefault(role, []).append(path)
    return loose | exact


def _refuse_ambiguous(roles: Mapping[str, list[Path]]) -> None:
    for role, paths in roles.items():
        if len(paths) > 1 and not all(_SHARD.search(path.stem) for path in paths):
            names = " and ".join(path.name for path in paths)
            raise InputError(f"Which is the {role} split: {names}?\nLeave one of them in the folder.")


def _role(name: str) -> str | None:
    return next((role for role, names in _ROLES.items() if name.casefold() in names), None)


def _role_of_words(name: str) -> str | None:
    """The role in names such as validation_matched, mrpc_dev or train.v2."""
    words = re.split(r"[_.-]", name)
    return _role(words[0]) or _role(words[-1])


def _refuse_without_train(roles: Mapping[str, list[Path]], files: list[Path], folder: str) -> None:
    if "train" in roles:
        return
    found = ", ".join(path.name for path in files[:8]) or "no data file"
    raise InputError(
        f"The folder {folder!r} has no train file: found {found}.\n"
        f"Name the files train, dev and test ({', '.join(FORMATS)}), or give one file.",
    )


def _by_role(tables: Mapping[str, Table], source: str) -> dict[str, Table]:
    """Hub splits by role; of several matching ones (validation_matched, …) the first."""
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
