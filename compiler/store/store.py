"""Results by content: what was computed once from the same inputs is not computed again.

Each entry is a JSON value or a safetensors file, written to a temporary name and renamed, with its sha-256 beside it.
An entry that does not match its hash is treated as absent.
"""

import contextlib
import errno
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from targets.errors import InputError

Arrays = dict[str, NDArray[Any]]


def default_root() -> Path:
    """`$PARETOC_CACHE`, or paretoc's folder in the user's cache folder."""
    import platformdirs

    return Path(os.environ.get("PARETOC_CACHE") or platformdirs.user_cache_path("paretoc"))


def key_of(inputs: Any) -> str:
    """Sha-256 of JSON-able inputs in canonical form; anything else is rejected with TypeError."""
    return hashlib.sha256(json.dumps(inputs, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Entry:
    """One stored result: where it is, what stage made it, its size and when it was last written."""

    stage: str
    path: Path
    size_bytes: int
    age_s: float


class Store:
    """Results under `root`/stage/key; safe against being killed at any moment, never against two different writers."""

    def __init__(self, root: Path) -> None:
        self.root = root
        try:
            root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"the cache folder cannot be made: {error.strerror}\nchoose another with --cache DIR"
            ) from None

    def path(self, stage: str, key: str, suffix: str) -> Path:
        """Where an entry lies or would lie."""
        return self.root / stage / f"{key[:32]}{suffix}"

    def get(self, stage: str, key: str) -> Any:
        """A stored JSON value, or None."""
        path = self.path(stage, key, ".json")
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            intact = record["sha256"] == key_of(record["value"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return record["value"] if intact else None

    def put(self, stage: str, key: str, value: Any) -> None:
        """Store a JSON value."""
        record = {"sha256": key_of(value), "value": value}
        with self._written(self.path(stage, key, ".json")) as new:
            new.write_bytes(json.dumps(record).encode())

    def get_arrays(self, stage: str, key: str) -> Arrays | None:
        """Stored arrays by name, or None."""
        from safetensors.numpy import load_file

        path = self.path(stage, key, ".safetensors")
        expected = self.get(stage, key)
        try:
            intact = expected is not None and _sha256(path) == expected["arrays"]
        except OSError:
            return None
        return load_file(path) if intact else None

    def put_arrays(self, stage: str, key: str, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Store arrays by name. They go to the file directly: a second copy of a large model would not fit into memory."""
        from safetensors import SafetensorError
        from safetensors.numpy import save_file

        path = self.path(stage, key, ".safetensors")
        with self._written(path) as new:
            try:
                save_file(dict(arrays), new)
            except SafetensorError as error:
                raise OSError(errno.EIO, str(error)) from None
        self.put(stage, key, {"arrays": _sha256(path)})

    def folder(self, stage: str, key: str) -> Path:
        """A working folder for a stage that keeps its own checkpoints."""
        path = self.path(stage, key, ".work")
        path.mkdir(parents=True, exist_ok=True)
        return path

    @contextlib.contextmanager
    def _written(self, path: Path) -> Iterator[Path]:
        """Where to write what then becomes this file. InputError where there is no room."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with replaced(path) as new:
                yield new
        except OSError as error:
            raise InputError(
                f"the cache cannot be written: {error.strerror}\nfree room, or choose another with --cache DIR"
            ) from None

    def entries(self) -> Iterator[Entry]:
        """Everything stored, for listing and pruning."""
        now = time.time()
        for path in sorted(self.root.glob("*/*")):
            size = (
                sum(f.stat().st_size for f in path.rglob("*") if f.is_file()) if path.is_dir() else path.stat().st_size
            )
            yield Entry(path.parent.name, path, size, now - path.stat().st_mtime)

    def prune(self, older_than_s: float) -> int:
        """Delete entries older than this; bytes freed."""
        freed = 0
        for entry in list(self.entries()):
            if entry.age_s >= older_than_s:
                freed += entry.size_bytes
                _delete(entry.path)
        return freed


def _delete(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def check_writable(folder: Path, flag: str) -> None:
    """Make a folder and see that files can be made in it; InputError, which names the flag that chose it, where not."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(
            f"the output folder {folder} cannot be written: {error.strerror}\nchoose another with {flag}"
        ) from None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """Where to write what becomes this file, readable by all, once it is whole: it is never seen half-written."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    try:
        yield Path(name)
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that it is never seen half-written."""
    with replaced(path) as new:
        new.write_bytes(content)
