"""How large a cache may grow, and what goes first: entries that were not used for longest."""

import contextlib
import os
import re
import shutil
import stat
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from compiler.store.leftovers import delete
from compiler.store.names import key_in, stages
from targets.errors import InputError

CAP_BYTES, CAP_SHARE = 20e9, 0.1
"""A cache holds 20 GB at most, on a small disk a tenth of it."""

VARIABLE = "PARETOC_CACHE_SIZE"
_SIZES = {"MB": 1e6, "GB": 1e9, "MiB": 2**20, "GiB": 2**30}


@dataclass(frozen=True, slots=True)
class Entry:
    """One stored result: what stage made it, its key, its name in the store, its size and when it was last read or written."""

    stage: str
    key: str
    name: str
    size_bytes: int
    used_at: float

    @property
    def age_s(self) -> float:
        """Seconds since it was last used."""
        return time.time() - self.used_at


def size_asked() -> float | None:
    """`$PARETOC_CACHE_SIZE`, or None."""
    asked = os.environ.get(VARIABLE)
    if not asked:
        return None
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([MG]i?B)\s*", asked)
    if match is None:
        raise InputError(f"{VARIABLE} is no size; write it like 20GB or 500MB")
    return float(match[1]) * _SIZES[match[2]]


def default_cap(root: Path) -> float:
    """`$PARETOC_CACHE_SIZE`, else 20 GB or a tenth of the disk, whichever is less."""
    asked = size_asked()
    return min(CAP_BYTES, CAP_SHARE * shutil.disk_usage(root).total) if asked is None else asked


def entries(root: Path) -> Iterator[Entry]:
    """Every entry of ours in a cache; links and whatever else lies there are passed over."""
    for stage in stages(root):
        for found in sorted(os.scandir(stage), key=lambda found: found.name):
            key = key_in(found)
            if key is not None:
                size, used_at = _use(Path(found.path))
                yield Entry(stage.name, key, f"{stage.name}/{found.name}", size, used_at)


def _use(path: Path) -> tuple[int, float]:
    """Bytes, and when a file or anything in a folder was last used. Another process may be deleting it: then it is nothing."""
    size, used_at = 0, 0.0
    for each in (path, *(Path(folder, name) for folder, _, names in os.walk(path) for name in names)):
        with contextlib.suppress(OSError):
            found = each.lstat()
            is_file = stat.S_ISREG(found.st_mode)
            size += found.st_size if is_file else 0
            used_at = max(
                used_at, found.st_mtime, found.st_atime if is_file else 0.0
            )  # listing a folder is no use of it
    return size, min(used_at, time.time())  # a clock may have been set back


def touch(path: Path) -> None:
    """Say that an entry was used; when it was written stays as it is."""
    with contextlib.suppress(OSError):  # of somebody else's cache, which may only be read
        os.utime(path, ns=(time.time_ns(), path.stat().st_mtime_ns))


def oldest(found: Iterable[Entry], most_bytes: float, unused_since: float) -> tuple[list[Entry], int, float]:
    """Entries to delete, those that were not used for longest first, so that the rest has so many bytes; freed and left.

    Parts of one result go together. Those used at `unused_since` or later stay.
    """
    parts: dict[tuple[str, str], list[Entry]] = {}
    for entry in found:
        parts.setdefault((entry.stage, entry.key), []).append(entry)
    left = float(sum(entry.size_bytes for result in parts.values() for entry in result))
    gone: list[Entry] = []
    freed = 0
    for used_at, result in sorted(((max(e.used_at for e in r), r) for r in parts.values()), key=lambda pair: pair[0]):
        if left <= most_bytes or used_at >= unused_since:
            break
        size = sum(entry.size_bytes for entry in result)
        gone += result
        freed, left = freed + size, left - size
    return gone, freed, left


def remove_until(root: Path, most_bytes: float, unused_since: float) -> tuple[int, float]:
    """Delete the `oldest` results of a cache folder; bytes freed and left."""
    gone, freed, left = oldest(entries(root), most_bytes, unused_since)
    for entry in gone:
        delete(root / entry.name)
    return freed, left
