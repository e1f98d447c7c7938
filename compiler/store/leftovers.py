"""Files and folders that must not outlive this process: removed at once where it has to end without unwinding."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

_PATHS: set[Path] = set()


@contextlib.contextmanager
def temporary(path: Path) -> Iterator[None]:
    """A path that `remove_leftovers` deletes as long as this lasts; whoever made it deletes it otherwise."""
    _PATHS.add(path)
    try:
        yield
    finally:
        _PATHS.discard(path)


def remove_leftovers() -> None:
    """Delete every registered path, as far as that can be done; links are removed, never followed."""
    for path in tuple(_PATHS):
        delete(path)


def delete(path: Path) -> None:
    """Delete a file, a link or a whole folder; what cannot be deleted stays."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
        return
    with contextlib.suppress(OSError):
        path.unlink()
