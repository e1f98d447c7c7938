"""Writing whole files or none, and what an error of the file system is to the user."""

import contextlib
import errno
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

from compiler.store.leftovers import temporary
from targets.errors import InputError

_FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}


def is_full(error: OSError) -> bool:
    """Whether an error means that a disk, or a user's share of it, has no room left."""
    return error.errno in _FULL


def file_error(error: BaseException) -> OSError | None:
    """The error of the file system behind an exception, None where there is none.

    safetensors is written in Rust: its errors carry the number in their text, "(os error 28)"; other libraries give a full
    disk in the system's own words at most.
    """
    if isinstance(error, OSError):
        return error if error.errno is not None else None
    found = re.search(r"\(os error (\d+)\)", str(error))
    if found is None:
        return next(
            (OSError(number, os.strerror(number)) for number in _FULL if os.strerror(number) in str(error)), None
        )
    return OSError(int(found[1]), os.strerror(int(found[1])))


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


@contextlib.contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """Where to write what becomes this file, readable by all, once it is whole: it is never seen half-written.

    A link of that name is replaced, not followed; other names of the same file keep the old content.
    """
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    new = Path(name)
    with temporary(new):
        try:
            yield new
            new.chmod(0o644)
            new.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                new.unlink()
            raise


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that it is never seen half-written."""
    with replaced(path) as new:
        new.write_bytes(content)
