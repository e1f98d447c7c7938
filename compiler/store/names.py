"""How a cache folder of ours is told from any other, and our entries in it from whatever else lies there.

A folder is a cache of ours if it carries our marker. It gets one while it is empty, or while it holds nothing but entries of
releases that wrote none. In any other folder nothing is written or deleted.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from compiler.store.disk import write_atomically
from targets.errors import InputError, printable

MARKER = "CACHEDIR.TAG"
LOCKS = ".locks"

_TAG = (
    "Signature: 8a477f597d28d172789f06886806bc55\n"  # of cache directories: https://bford.info/cachedir/
    "# This folder is a cache of paretoc, version 1.\n"
    "# List or prune it: compile cache --cache DIR\n"
)
_STAGE = re.compile(r"[a-z][a-z0-9-]*")
_ENTRY = re.compile(r"([0-9a-f]{32})\.(?:json|safetensors|work)")
_HALF_WRITTEN = re.compile(r"\.([0-9a-f]{32})\.(?:json|safetensors)\.\w{8}")  # of a run that was killed

_UNMARKED_STAGES = {
    "apart", "apart-log", "blocks", "dense", "energy", "evaluated", "exceptions", "final", "fine-tuned", "fine-tuned-log",
    "fresh-export", "gates", "looked-at", "memory", "polished", "polished-job", "polished-log", "ranking", "residual-order",
    "scored", "seconds", "supernet", "supernet-log", "table", "template",
}  # fmt: skip
"""Folders in caches of releases that wrote no marker."""


def claim(root: Path) -> None:
    """Make a cache folder, or see that it is one. InputError where it cannot be made, or holds what is not ours."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        if is_marked(root):
            return
        stranger = next(_strangers(root), None)
        if stranger is None:
            write_atomically(root / MARKER, _TAG.encode())
    except OSError as error:
        raise InputError(
            f"the cache folder cannot be made: {error.strerror}\nchoose another with --cache DIR"
        ) from None
    if stranger is not None and not is_marked(root):  # or another run has just marked it
        raise InputError(
            f"{printable(str(root), 200)} is no cache of paretoc: it holds {printable(stranger, 80)}\n"
            "choose an empty folder, or one that paretoc made, with --cache DIR"
        )


def is_marked(root: Path) -> bool:
    """Whether a folder carries our marker, in a file of its own."""
    path = root / MARKER
    if path.is_symlink() or not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(_TAG)).startswith(_TAG.partition("# List")[0].encode())


def _strangers(root: Path) -> Iterator[str]:
    """Names in an unmarked folder that no older release wrote."""
    for found in sorted(os.scandir(root), key=lambda found: found.name):
        if found.name.startswith(f".{MARKER}.") or found.name == LOCKS:  # another run is marking it
            continue
        if found.name not in _UNMARKED_STAGES or not found.is_dir(follow_symlinks=False):
            yield found.name
            continue
        yield from (f"{found.name}/{inside.name}" for inside in os.scandir(found.path) if key_in(inside) is None)


def stages(root: Path) -> list[Path]:
    """The folders of a cache that hold entries."""
    found = [each for each in os.scandir(root) if _STAGE.fullmatch(each.name) and each.is_dir(follow_symlinks=False)]
    return [Path(each.path) for each in sorted(found, key=lambda each: each.name)]


def key_in(found: "os.DirEntry[str]") -> str | None:
    """The 32 digits that the name of an entry begins with; None for what is no entry of ours, any link among it."""
    name = _ENTRY.fullmatch(found.name) or _HALF_WRITTEN.fullmatch(found.name)
    if name is None or found.is_symlink():
        return None
    fits = found.is_dir() if found.name.endswith(".work") else found.is_file()
    return name[1] if fits else None
