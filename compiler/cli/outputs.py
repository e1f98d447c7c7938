"""Files that a command is told to write, refused where they are somebody else's: better now than after minutes of measuring."""

import os
from collections.abc import Sequence
from pathlib import Path

from targets.errors import InputError, printable
from targets.json_file import read_json


def check_table(path: Path, base: Path | None, model: str | None) -> None:
    """InputError where a cost table could not be written, or would take the place of another file than a cost table."""
    shown = printable(str(path), 200)
    if path.is_dir():
        raise InputError(f"{shown} is a folder\ngive -o a file to write the table to")
    if not path.absolute().parent.is_dir():
        raise InputError(
            f"no folder {printable(str(path.parent), 200)} to write the table to\nmake it, or choose another file with -o"
        )
    if not os.access(path.absolute().parent, os.W_OK):
        raise InputError(f"{shown} cannot be written\nchoose another file with -o")
    if base is not None and _same(path, base):
        raise InputError(f"{shown} is the table of --from\nchoose another file with -o")
    if model is not None and any(_same(parent, Path(model)) for parent in path.absolute().parents):
        raise InputError(f"{shown} lies in the folder of the model\nchoose another file with -o")
    if path.exists() and not _is_table(path):
        raise InputError(f"{shown} is there and is no cost table\nchoose another file with -o")


def check_benchmark(folder: Path, paths: Sequence[Path]) -> None:
    """InputError where bench.json, bench.md or bench.html would take the place of files that no benchmark wrote."""
    there = [name for name in ("bench.json", "bench.md", "bench.html") if os.path.lexists(folder / name)]
    if there and not _says_ours(folder / "bench.json"):
        raise InputError(
            f"{printable(str(folder), 200)} holds {there[0]}, which no benchmark wrote\nchoose another folder with --output"
        )
    if any(_same(folder / name, path) for name in there for path in paths):
        raise InputError(f"{printable(str(folder), 200)} holds a file to time\nchoose another folder with --output")


def _same(path: Path, other: Path) -> bool:
    try:
        return path.samefile(other)
    except (OSError, ValueError):
        return False


def _is_table(path: Path) -> bool:
    """Whether a file holds a cost table of any release, or nothing at all."""
    if not path.is_file():
        return False
    try:
        content = {} if path.stat().st_size == 0 else read_json(path)
    except InputError:
        return False
    return content == {} or (isinstance(content, dict) and {"target", "entries", "fingerprint"} <= set(content))


def _says_ours(path: Path) -> bool:
    try:
        return bool(read_json(path)["tool"]["name"] == "paretoc")
    except (InputError, KeyError, TypeError):
        return False
