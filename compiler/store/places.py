"""The place where results are kept: a folder, or a URL with a folder of this machine before it."""

import os
from pathlib import Path

from compiler.store.bucket import BACKENDS
from compiler.store.cap import CAP_BYTES, size_asked
from compiler.store.interface import Store
from compiler.store.shared import SharedStore, front_folder
from compiler.store.store import DiskStore, default_root
from targets.errors import InputError, printable

FRONT = "PARETOC_CACHE_FRONT"


def default_place() -> str:
    """`$PARETOC_CACHE`, a folder or a URL, or paretoc's folder in the user's cache folder."""
    return os.environ.get("PARETOC_CACHE") or str(default_root())


def open_store(place: str | Path | None = None, cap_bytes: float | None = None) -> Store:
    """The store at a folder, a file:// URL or a URL of a shared store; without a place the default one.

    InputError where it cannot be made there.
    """
    found = local_folder(place)
    if found is not None:
        return DiskStore(found, cap_bytes)
    url = str(place or default_place())
    front = DiskStore(front_folder(_fronts(), url))
    return SharedStore(url, front, cap_bytes if cap_bytes is not None else size_asked() or CAP_BYTES)


def local_folder(place: str | Path | None = None) -> Path | None:
    """The folder that a place is, None for a URL of a shared store. InputError for a URL without its slashes."""
    told = str(place or default_place())
    scheme, _, rest = told.partition("://")
    if not rest and not told.endswith("://"):
        if told.partition(":")[0] in BACKENDS and ":" in told:
            raise InputError(
                f"the cache {printable(told, 200)} is neither a folder nor a URL\nwrite it like s3://BUCKET/FOLDER"
            )
        return Path(told)
    return Path(rest) if scheme in {"file", "local"} else None


def _fronts() -> Path:
    """`$PARETOC_CACHE_FRONT`, or paretoc's folder of fronts in the user's cache folder."""
    import platformdirs

    return Path(os.environ.get(FRONT) or platformdirs.user_cache_path("paretoc-fronts"))
