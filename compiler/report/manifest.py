"""The list of a run's files with their sha-256: written last, held against the folder by `compile verify`."""

import hashlib
import json
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, TypedDict, cast

from compiler.report.schema import Tool, this_tool
from compiler.store.store import write_atomically
from targets.errors import InputError, printable
from targets.json_file import conforming, parse_json, read_bytes

FILE = "manifest.json"
SCHEMA = 1

OWN_FILES = ("front.json", "run.json", "candidates.csv", "training.csv", "report.html")
"""Files of a run beside the folders of its networks."""


Entry = Mapping[str, int | str]
"""`bytes` and `sha256` of a file."""


class Manifest(TypedDict):
    """Every file of a run by its path below the run's folder. The list does not hold itself."""

    schema: int
    tool: Tool
    files: Mapping[str, Entry]


def write_manifest(run_dir: Path, networks: Iterable[str]) -> str:
    """List the run's own files and all in the folders of these networks; the sha-256 of the list."""
    names = [name for name in OWN_FILES if _is_file(run_dir / name)]
    names += [name for network in networks for name in files_below(run_dir, network)]
    return _write(run_dir, {name: _entry(run_dir / name) for name in sorted(names)})


def refresh(run_dir: Path, names: Iterable[str]) -> str | None:
    """Renew the entries of files that were rewritten; the sha-256 of the list, None where the run has none."""
    manifest = read_manifest(run_dir)
    if manifest is None:
        return None
    renewed = {name: _entry(run_dir / name) for name in names if name in manifest["files"]}
    return _write(run_dir, {**manifest["files"], **renewed})


def _entry(path: Path) -> Entry:
    return {"bytes": path.stat().st_size, "sha256": sha256_of_file(path)}


def _write(run_dir: Path, files: Mapping[str, Entry]) -> str:
    content: Manifest = {"schema": SCHEMA, "tool": this_tool(), "files": files}
    text = (json.dumps(content, indent=1) + "\n").encode()
    write_atomically(run_dir / FILE, text)
    return hashlib.sha256(text).hexdigest()


def read_manifest(run_dir: Path) -> Manifest | None:
    """The list of a run; None where there is none, as earlier releases left it. InputError where it is damaged."""
    return read_with_digest(run_dir)[0]


def read_with_digest(run_dir: Path) -> tuple[Manifest | None, str | None]:
    """The list of a run and its own sha-256; InputError as in `read_manifest`, also for a path that leaves the folder."""
    path = run_dir / FILE
    if not os.path.lexists(path):
        return None, None
    content = read_bytes(path, name=FILE)
    found = conforming(parse_json(content, name=FILE), dict[str, Any], name=FILE)
    if found.get("schema") != SCHEMA:
        raise InputError(f"{FILE} has schema {printable(repr(found.get('schema')), 40)}, this version reads {SCHEMA}")
    files = conforming(found.get("files"), dict[str, dict[str, int | str]], name=f"{FILE}: files")
    for name in files:
        if not _is_below(name):
            raise InputError(f"{FILE} names {printable(name, 80)}, which is no path below the run")
    manifest = cast("Manifest", {**found, "files": files})
    return manifest, hashlib.sha256(content).hexdigest()


def _is_below(name: str) -> bool:
    path = PurePosixPath(name)
    plain = bool(path.parts) and not path.is_absolute() and ".." not in path.parts and path.as_posix() == name
    return plain and "\\" not in name and "\0" not in name


def files_below(run_dir: Path, folder: str) -> list[str]:
    """Paths of everything in a folder of a run that is no folder, links among them; links are not followed."""
    found = []
    for place, folders, names in os.walk(run_dir / folder):
        links = [name for name in folders if Path(place, name).is_symlink()]
        found += [Path(place, name).relative_to(run_dir).as_posix() for name in (*names, *links)]
    return sorted(found)


def differences(run_dir: Path, listed: Mapping[str, Entry], folder: str) -> Iterator[str]:
    """What is wrong with the files of one folder, a clause each: changed, missing, not listed."""
    expected = {name for name in listed if name.startswith(f"{folder}/")}
    there = set(files_below(run_dir, folder))
    yield from filter(None, (_wrong(run_dir, name, listed[name]) for name in sorted(expected)))
    yield from (f"{name} is not of this run" for name in sorted(there - expected))


def own_differences(run_dir: Path, listed: Mapping[str, Entry]) -> Iterator[str]:
    """What is wrong with the run's own files."""
    for name in OWN_FILES:
        if name in listed:
            yield from filter(None, [_wrong(run_dir, name, listed[name])])
        elif os.path.lexists(run_dir / name):
            yield f"{name} is not of this run"


def _wrong(run_dir: Path, name: str, entry: Entry) -> str:
    """What is wrong with a file, empty where nothing is; one of another size is not read."""
    path = run_dir / name
    places = [PurePosixPath(name), *PurePosixPath(name).parents]
    if any((run_dir / place).is_symlink() for place in places[:-1]):
        return f"{name} is a link"
    if not os.path.lexists(path):
        return f"{name} is missing"
    if not _is_file(path):
        return f"{name} is no regular file"
    same = path.stat().st_size == entry.get("bytes") and sha256_of_file(path) == entry.get("sha256")
    return "" if same else f"{name} was changed"


def _is_file(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return False


def sha256_of_file(path: Path) -> str:
    """Sha-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
