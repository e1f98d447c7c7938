"""Objects under a URL, through fsspec, on backends that create one only where there is none.

An object is whole or absent, and is listed as soon as it is written, which S3 and GCS promise. Times are the server's.
"""

import contextlib
import secrets
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from targets.errors import InputError, printable

BACKENDS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs", "memory": None}
"""Schemes whose driver can create conditionally, and the extra of paretoc that installs it: S3 by `If-None-Match: *`, GCS by
`ifGenerationMatch=0`, memory by a look-up in the one process that has it. Drivers of other schemes look first and write then.
"""

MARKER = "paretoc-cache.json"
_TAG = b'{"paretoc cache": 1}\n'
_MODIFIED = ("LastModified", "mtime", "updated", "modified", "created")
"""Names that drivers have for when an object was last written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """An object that was listed: its name below the URL, its size, and when it was last written (seconds, the server's clock)."""

    name: str
    size_bytes: int
    modified_at: float


class Bucket:
    """The objects below one URL. InputError where it cannot be reached, or a right is missing.

    It is ours if it has our marker, which it gets while it is empty.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._files, self._base = _opened(self.url)
        self._behind_s = 0.0
        self._claim()
        self._try_out()

    def now(self) -> float:
        """The server's time (seconds, as `time.time`), by what its clock was ahead of ours at the opening."""
        return time.time() + self._behind_s

    def create(self, name: str, content: bytes) -> bool:
        """Write an object unless there is one of this name: whether it was written."""
        with self._told():
            try:
                self._files.pipe_file(self._path(name), content, mode="create")
            except FileExistsError:
                return False
            except FileNotFoundError:
                raise OSError("there is no such bucket") from None
            except PermissionError:
                raise
            except OSError:  # S3 answers 409 while another creates it, and other servers 412 without a reason
                if self._files.exists(self._path(name)):
                    return False
                raise
        return True

    def write(self, name: str, content: bytes) -> None:
        """Write an object, over another."""
        with self._told():
            self._files.pipe_file(self._path(name), content)

    def read(self, name: str) -> bytes | None:
        """An object's content, or None."""
        with self._told():
            try:
                content: bytes = self._files.cat_file(self._path(name))
            except FileNotFoundError:
                return None
        return content

    def upload(self, name: str, path: Path) -> None:
        """Write a file as an object, over another."""
        with self._told():
            self._files.put_file(str(path), self._path(name))

    def download(self, name: str, path: Path) -> bool:
        """Write an object into a file: whether there was one."""
        with self._told():
            try:
                self._files.get_file(self._path(name), str(path))
            except FileNotFoundError:
                return False
        return True

    def delete(self, names: Iterable[str]) -> None:
        """Delete objects; those that are gone already count as deleted."""
        paths = [self._path(name) for name in names]
        with self._told():
            if len(paths) > 1:
                with contextlib.suppress(FileNotFoundError):
                    self._files.rm(paths)
                    return
            for path in paths:
                with contextlib.suppress(FileNotFoundError):
                    self._files.rm_file(path)

    def find(self, folder: str = "") -> list[Found]:
        """All objects below a folder, by name."""
        with self._told():
            try:
                listed = self._files.find(self._path(folder), detail=True)
            except FileNotFoundError:
                return []
            found = [(self._name(path), info) for path, info in listed.items()]
            return [
                Found(name=name, size_bytes=int(info["size"] or 0), modified_at=_modified_at(info))
                for name, info in sorted(found, key=lambda pair: pair[0])
            ]

    def _path(self, name: str) -> str:
        return f"{self._base}/{name}" if name else self._base

    def _name(self, path: str) -> str:
        return path.lstrip("/").removeprefix(self._base.lstrip("/")).lstrip("/")

    def _claim(self) -> None:
        """InputError for a place that holds what is not ours, or a cache of a newer paretoc."""
        found = self.read(MARKER)
        if found is None:
            with self._told():
                try:
                    names = {self._name(path) for path in self._files.ls(self._base, detail=False)} - {""}
                except FileNotFoundError:
                    names = set()
            if names and MARKER not in names:
                raise InputError(
                    f"{printable(self.url, 200)} is no cache of paretoc: it holds {printable(min(names), 80)}\n"
                    "choose an empty place, or one that paretoc made, with --cache"
                )
            found = _TAG if self.create(MARKER, _TAG) else self.read(MARKER)
        if found != _TAG:
            raise InputError(
                f"{printable(self.url, 200)} is no cache of this version of paretoc\nchoose another place with --cache"
            )

    def _try_out(self) -> None:
        """Create an object, create it again, list and delete it: rights, the server's clock, and that the second is refused."""
        name = f"probe/{secrets.token_hex(8)}"
        before = time.time()
        first, second = self.create(name, b"1"), self.create(name, b"2")
        try:
            listed, content = self.find(name), self.read(name)
        finally:
            self.delete([name])
        if not first or second or content != b"1" or not listed:
            raise InputError(
                f"{printable(self.url, 200)} cannot be shared: it writes over what is there when told not to\n"
                "choose a store that creates conditionally (S3, GCS), or a folder, with --cache"
            )
        self._behind_s = listed[0].modified_at - before

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Errors of a driver, each of which has its own, as lines for the user."""
        try:
            yield
        except InputError:
            raise
        except Exception as error:  # noqa: BLE001  each driver raises what it likes
            reason = str(error).strip().partition("\n")[0] or type(error).__name__
            raise InputError(
                f"the cache {printable(self.url, 200)} cannot be used: {printable(reason, 200)}\n"
                "it needs the rights to read, write, list and delete there, and credentials where its driver looks for them"
            ) from None


def _opened(url: str) -> tuple[Any, str]:
    """A file system without a memory of listings, and the path in it. InputError for an unknown scheme or a missing driver."""
    import fsspec

    scheme, _, rest = url.partition(":")
    if scheme not in BACKENDS:
        raise InputError(
            f"no cache can be kept at {printable(url, 200)}: of {printable(scheme, 40)} no conditional create is known\n"
            f"give a folder, or a URL of {', '.join(sorted(set(BACKENDS) - {'memory'}))}"
        )
    if not rest.strip("/"):
        raise InputError(f"{printable(url, 200)} names no bucket\nwrite it like {scheme}://BUCKET/FOLDER")
    try:
        files, base = fsspec.url_to_fs(url, use_listings_cache=False)
    except ImportError:
        extra = BACKENDS[scheme]
        raise InputError(
            f"the cache {printable(url, 200)} needs a package that is not installed\npip install 'paretoc[{extra}]'"
        ) from None
    except (ValueError, OSError) as error:
        raise InputError(f"{printable(url, 200)} cannot be opened: {printable(str(error), 200)}") from None
    return files, base.rstrip("/")


def _modified_at(info: dict[str, Any]) -> float:
    value = next(info[name] for name in _MODIFIED if info.get(name) is not None)
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    return value.timestamp() if isinstance(value, datetime) else float(value)
