"""The store of one machine, a folder: what was computed once from the same inputs is not computed again.

Each entry is a JSON value or a safetensors file, written to a temporary name and renamed, with its sha-256 beside it.
An entry that does not match its hash is treated as absent.
"""

import contextlib
import errno
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from compiler.store.cap import Entry, default_cap, entries, remove_until, touch
from compiler.store.disk import check_writable, file_error, is_full, replaced, write_atomically
from compiler.store.interface import Arrays, Store
from compiler.store.leftovers import delete, temporary
from compiler.store.lives import alive, alone, oldest_start
from compiler.store.names import claim
from targets.errors import InputError
from targets.json_file import read_bytes

__all__ = [
    "Arrays",
    "DiskStore",
    "Entry",
    "Store",
    "check_writable",
    "default_root",
    "key_of",
    "replaced",
    "write_atomically",
]

MOST_BYTES = 2**31  # of a JSON entry: the graph template of a large model is the largest
_MARGIN_S = 2.0  # that the clock of a file system may be behind


def default_root() -> Path:
    """`$PARETOC_CACHE`, or paretoc's folder in the user's cache folder. InputError where that is no folder but a URL."""
    import platformdirs

    asked = os.environ.get("PARETOC_CACHE")
    if asked and "://" in asked:
        raise InputError("$PARETOC_CACHE is a URL, where a folder is needed\nset it to a folder for this command")
    return Path(asked or platformdirs.user_cache_path("paretoc"))


def key_of(inputs: Any) -> str:
    """Sha-256 of JSON-able inputs in canonical form; anything else is rejected with TypeError."""
    return hashlib.sha256(json.dumps(inputs, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def record_of(value: Any) -> bytes:
    """A JSON value as an entry: beside its hash."""
    return json.dumps({"sha256": key_of(value), "value": value}).encode()


def value_of(content: bytes) -> Any:
    """The value of an entry. ValueError where it is damaged."""
    try:
        record = json.loads(content)
        value, intact = record["value"], record["sha256"] == key_of(record["value"])
    except (KeyError, TypeError, RecursionError) as error:
        raise ValueError("no entry of a store") from error
    if not intact:
        raise ValueError("an entry that does not match its hash")
    return value


class DiskStore(Store):
    """Results under `root`/stage/key, `cap_bytes` of them at most; safe against being killed at any moment.

    Several processes may use one. What a process has read or written since its store was opened stays, whatever its size.
    """

    def __init__(self, root: Path, cap_bytes: float | None = None) -> None:
        claim(root)
        self.root, self.opened_at = root, time.time()
        self.cap_bytes = default_cap(root) if cap_bytes is None else cap_bytes
        self._bytes: float | None = None  # about, once something was written
        self._least_bytes = 0.0  # what the last eviction had to leave

    @property
    def place(self) -> str:
        """The folder."""
        return str(self.root)

    def path(self, stage: str, key: str, suffix: str) -> Path:
        """Where an entry lies or would lie."""
        return self.root / stage / f"{key[:32]}{suffix}"

    def get(self, stage: str, key: str) -> Any:
        """A stored JSON value, or None."""
        path = self.path(stage, key, ".json")
        try:
            value = value_of(read_bytes(path, name=path.name, most_bytes=MOST_BYTES))
        except (InputError, ValueError):
            return None
        touch(path)
        return value

    def values(self, stage: str, prefix: str) -> Iterator[Any]:
        """The intact JSON values of a stage whose keys begin with `prefix` (up to 32 hexadecimal digits), by key."""
        for path in sorted((self.root / stage).glob(f"{prefix}*.json")):
            value = self.get(stage, path.stem)
            if value is not None:
                yield value

    def put(self, stage: str, key: str, value: Any) -> Any:
        """Store a JSON value, over another; the value."""
        content = record_of(value)
        with self._written(self.path(stage, key, ".json"), len(content)) as new:
            new.write_bytes(content)
        return value

    def get_arrays(self, stage: str, key: str) -> Arrays | None:
        """Stored arrays by name, or None."""
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        path = self.path(stage, key, ".safetensors")
        if not self._has_arrays(stage, key):
            return None
        touch(path)
        try:
            return load_file(path)
        except (OSError, SafetensorError):  # pruned just now
            return None

    def _has_arrays(self, stage: str, key: str) -> bool:
        expected = self.get(stage, key)
        try:
            return isinstance(expected, dict) and sha256_of(self.path(stage, key, ".safetensors")) == expected["arrays"]
        except (OSError, KeyError):
            return False

    def put_arrays(self, stage: str, key: str, arrays: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        """Store arrays by name. They go to the file directly: a second copy of a large model would not fit into memory.

        Where another process has just stored them, its file stays: a hash beside another process's file fits nothing.
        """
        with alone(self.root, "arrays"):
            if not self._has_arrays(stage, key):
                with self.drafted(stage, key, arrays) as draft:
                    self._take(stage, key, draft)
                return arrays
        return self.get_arrays(stage, key) or arrays

    @contextlib.contextmanager
    def drafted(self, stage: str, key: str, arrays: Mapping[str, NDArray[Any]] | None = None) -> Iterator[Path]:
        """A file beside the entries, with these arrays in it or empty; it is gone afterwards, unless it was taken."""
        from safetensors import SafetensorError
        from safetensors.numpy import save_file

        path = self.path(stage, key, ".safetensors")
        self._make_room(sum(array.nbytes for array in (arrays or {}).values()))
        with self._reported(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
            os.close(handle)
            with temporary(draft := Path(name)):
                try:
                    if arrays is not None:
                        save_file(dict(arrays), draft)
                    yield draft
                except SafetensorError as error:
                    raise file_error(error) or OSError(errno.EIO, str(error)) from None
                finally:
                    delete(draft)

    def take_arrays(self, stage: str, key: str, draft: Path) -> None:
        """Make a draft the entry, over another."""
        with alone(self.root, "arrays"), self._reported(draft):
            self._take(stage, key, draft)

    def _take(self, stage: str, key: str, draft: Path) -> None:
        digest = sha256_of(draft)
        draft.chmod(0o644)
        draft.replace(self.path(stage, key, ".safetensors"))
        self.put(stage, key, {"arrays": digest})

    def folder(self, stage: str, key: str) -> Path:
        """A working folder for a stage that keeps its own checkpoints."""
        path = self.path(stage, key, ".work")
        with self._reported(path):
            path.mkdir(parents=True, exist_ok=True)
            os.utime(path)
        return path

    @contextlib.contextmanager
    def sole(self, stage: str, key: str, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Do a piece of work while no other process does, under a lock that ends with its process."""
        with alone(self.root, f"{stage}-{key[:32]}", waiting):
            yield

    @contextlib.contextmanager
    def _written(self, path: Path, size_bytes: float) -> Iterator[Path]:
        """Where to write what then becomes this file. InputError where it cannot be written."""
        self._make_room(size_bytes)
        with self._reported(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with replaced(path) as new:
                yield new

    @contextlib.contextmanager
    def _reported(self, path: Path) -> Iterator[None]:
        if path.parent.is_symlink():
            raise InputError(f"{path.parent} is a link: nothing is written through it\nchoose another with --cache DIR")
        try:
            yield
        except OSError as error:
            free = "free room, or " if is_full(error) else ""
            raise InputError(
                f"the cache cannot be written: {error.strerror}\n{free}choose another with --cache DIR"
            ) from None

    def entries(self) -> Iterator[Entry]:
        """Everything stored, for listing."""
        return entries(self.root)

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """A run: other processes keep what it has read or written as long as this lasts. Then the store is brought below its cap."""
        try:
            with alive(self.root):
                yield
        finally:
            with contextlib.suppress(OSError):
                self.trim()

    def trim(self) -> int:
        """Delete what was not used for longest until the rest is below the cap; bytes freed. What a run uses stays."""
        return remove_until(self.root, self.cap_bytes, oldest_start(self.root) - _MARGIN_S)[0]

    def prune(self, older_than_s: float) -> int:
        """Delete entries that were not used for so long, and by no run that still goes on; bytes freed."""
        used_since = time.time() - older_than_s + 1e-3
        return remove_until(self.root, -1.0, min(used_since, oldest_start(self.root) - _MARGIN_S))[0]

    def _make_room(self, size_bytes: float) -> None:
        """Before so many bytes are written: delete what was not used for longest where they would pass the cap."""
        if self._bytes is None:
            self._bytes = float(sum(entry.size_bytes for entry in self.entries()))
        self._bytes += size_bytes
        if self._bytes > max(self.cap_bytes, self._least_bytes):
            used_since = min(self.opened_at, oldest_start(self.root)) - _MARGIN_S
            _, left = remove_until(self.root, self.cap_bytes - size_bytes, used_since)
            self._bytes = left + size_bytes
            self._least_bytes = 1.05 * self._bytes  # what must stay is not looked through at every write


def sha256_of(path: Path) -> str:
    """Sha-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
