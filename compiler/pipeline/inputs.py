"""The files that a run reads, for workers on machines that do not have them: they travel through a shared store."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from compiler.pipeline.options import Options
from compiler.store import DiskStore, Store, key_of
from targets.errors import InputError

_NAMES = ("model", "data", "traffic")
"""Options that may name a file or a folder."""


def published(options: Options, store: Store) -> dict[str, str]:
    """Keys of the files and folders that the options name, by option, after they were put into the store.

    Nodes that use the same folder as their store have the same files: then there is nothing to publish.
    """
    if isinstance(store, DiskStore):
        return {}
    named = {name: Path(getattr(options, name) or "") for name in _NAMES}
    return {name: _publish(path, store) for name, path in named.items() if path.name and path.exists()}


def _publish(path: Path, store: Store) -> str:
    files = dict(_files(path))
    key = key_of({name: _sha256(file) for name, file in files.items()})
    if store.get_arrays("input", key) is None:
        store.put_arrays("input", key, {name: np.fromfile(file, np.uint8) for name, file in files.items()})
    return key


def _files(path: Path) -> Iterator[tuple[str, Path]]:
    """A file under its own name, or the files of a folder under their paths in it."""
    if path.is_file():
        yield path.name, path
        return
    for file in sorted(path.rglob("*")):
        if file.is_file():
            yield f"{path.name}/{file.relative_to(path).as_posix()}", file


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fetched(options: Options, keys: Mapping[str, str], store: Store) -> Options:
    """The options with what was published written to a folder of this machine.

    InputError where the store no longer has it.
    """
    places: Any = {name: str(_fetch(getattr(options, name), key, store)) for name, key in keys.items()}
    return replace(options, **places)


def _fetch(asked: str, key: str, store: Store) -> Path:
    folder = store.folder("input", key)
    done = folder / ".complete"
    if not done.exists():
        parts = store.get_arrays("input", key)
        if parts is None:
            raise InputError(
                "the files of the run are not in the store any more\nstart again with a larger --cache-limit"
            )
        for name, content in parts.items():
            target = folder.joinpath(*Path(name).parts)
            if not target.resolve().is_relative_to(folder.resolve()):
                raise InputError(
                    "the store holds a file that would lie outside its folder\nchoose another with --cache"
                )
            target.parent.mkdir(parents=True, exist_ok=True)
            content.tofile(target)
        done.touch()
    return folder / Path(asked).name
