"""Which runs use a cache now, and which of them does a piece of work: locks that end with their process."""

import contextlib
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

from compiler.store.leftovers import temporary
from compiler.store.names import LOCKS
from targets.errors import InputError

_STALE_S = 86400.0
"""Age of a lock that nobody holds from which its file may go: those who wait for one have opened it long before."""


@contextlib.contextmanager
def alive(root: Path) -> Iterator[None]:
    """Say, as long as this lasts, that a run uses the cache: what it has read or written since it began is kept."""
    path = _folder(root) / f"run-{secrets.token_hex(8)}.lock"
    with temporary(path), held(path):
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                path.unlink()


@contextlib.contextmanager
def alone(root: Path, name: str, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Do a piece of work while no other process does; `waiting` is called once where another does it now."""
    with held(_folder(root) / f"{name}.lock", waiting):
        yield


@contextlib.contextmanager
def held(path: Path, waiting: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold a lock; without `waiting` nobody else may have it. InputError where the file system has no locks."""
    lock = FileLock(path)
    try:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            if waiting is None:
                raise
            waiting()
            lock.acquire()
    except (OSError, NotImplementedError) as error:
        if isinstance(error, Timeout):
            raise
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"{path.name} cannot be locked: {reason}\nchoose another folder for it") from None
    try:
        yield
    finally:
        lock.release()


def oldest_start(root: Path) -> float:
    """When the oldest run that uses the cache began (seconds, as `time.time`); infinity where none does.

    Marks of runs that were killed are removed, and locks that nobody has held for a day.
    """
    starts = [float("inf")]
    for path in sorted((root / LOCKS).glob("*.lock")):
        with contextlib.suppress(OSError):
            start, is_run = path.lstat().st_mtime, path.name.startswith("run-")
            if _is_held(path):
                starts += [start] if is_run else []
            elif is_run or time.time() - start > _STALE_S:
                path.unlink()
    return min(starts)


def _is_held(path: Path) -> bool:
    lock: BaseFileLock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except (Timeout, RuntimeError):  # or by this thread, under another object
        return True
    except NotImplementedError:
        return False
    lock.release()
    return False


def _folder(root: Path) -> Path:
    folder = root / LOCKS
    try:
        if folder.is_symlink():
            folder.unlink()
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise InputError(f"the cache cannot be written: {error.strerror}\nchoose another with --cache DIR") from None
    return folder
