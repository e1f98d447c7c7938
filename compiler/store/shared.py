"""A store that many machines share: objects under a URL, behind a folder of this machine.

    STAGE/KEY.json                   a value beside its hash; of arrays the sha-256 of their file
    STAGE/KEY.SHA256.safetensors     arrays, named by their content, so that a record never fits another writer's file
    leases/ runs/                    who does a piece of work, and who uses what

A record is created only where there is none: the first to publish wins, and all others take its values. An entry that does
not match its hash is absent, and is replaced.
"""

import contextlib
import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from compiler.store.bucket import Bucket
from compiler.store.cap import CAP_BYTES, Entry, oldest
from compiler.store.interface import Arrays, Store
from compiler.store.leases import LASTS_S, Leases
from compiler.store.runs import BEAT_S, Runs, last_uses, oldest_start
from compiler.store.store import DiskStore, record_of, sha256_of, value_of
from targets.errors import InputError

_NAME = re.compile(r"([a-z][a-z0-9-]*)/([0-9a-f]{32})\.(?:json|[0-9a-f]{64}\.safetensors)")
_MARGIN_S = 5.0  # the server's clock is known to about a second, and many say whole seconds only
_TRIES = 5
_GROWTH = 0.1
"""Share of the cap that a run may write before it looks what can go."""


class SharedStore(Store):
    """Results under a URL, each read into and written through `front`, the store of this machine for that URL alone.

    Working folders are this machine's. InputError where the URL cannot be used as a store, or can no longer be reached.
    """

    def __init__(
        self, url: str, front: DiskStore, cap_bytes: float = CAP_BYTES, lasts_s: float = LASTS_S, beat_s: float = BEAT_S
    ) -> None:
        self.bucket, self.front, self.cap_bytes = Bucket(url), front, cap_bytes
        self.leases = Leases(bucket=self.bucket, lasts_s=lasts_s)
        self.runs = Runs(self.bucket, beat_s)
        self.url = url
        self._grown_bytes = 0.0  # written since it was last trimmed

    @property
    def place(self) -> str:
        """The URL."""
        return self.url

    def get(self, stage: str, key: str) -> Any:
        """A stored JSON value, or None."""
        found = self.front.get(stage, key)
        if found is None:
            found = self._read(stage, key)
            if found is not None:
                self.front.put(stage, key, found)
        if found is not None:
            self.runs.use(_name(stage, key))
        return found

    def values(self, stage: str, prefix: str) -> Iterator[Any]:
        """The intact JSON values of a stage whose keys begin with `prefix`, by key."""
        names = filter(None, (_NAME.fullmatch(found.name) for found in self.bucket.find()))
        keys = {name[2] for name in names if name[1] == stage and name[2].startswith(prefix)}
        yield from (value for key in sorted(keys) if (value := self.get(stage, key)) is not None)

    def put(self, stage: str, key: str, value: Any) -> Any:
        """Publish a JSON value unless another process has done so; the one that counts."""
        content = record_of(value)
        self._make_room(len(content))
        return self.front.put(stage, key, self._published(stage, key, content, value, lambda: self._read(stage, key)))

    def get_arrays(self, stage: str, key: str) -> Arrays | None:
        """Stored arrays by name, or None."""
        found = self.front.get_arrays(stage, key)
        if found is None and self._fetched(stage, key):
            found = self.front.get_arrays(stage, key)
        if found is not None:
            self.runs.use(_name(stage, key))
        return found

    def put_arrays(self, stage: str, key: str, arrays: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        """Publish arrays by name unless another process has done so; `arrays` itself, or those that count."""
        self._make_room(sum(array.nbytes for array in arrays.values()))
        with self.front.drafted(stage, key, arrays) as draft:
            digest = sha256_of(draft)
            self.bucket.upload(_arrays_name(stage, key, digest), draft)
            record = {"arrays": digest}
            winner = self._published(stage, key, record_of(record), record, lambda: self._fetched(stage, key))
            if winner is record or winner == digest:
                self.front.take_arrays(stage, key, draft)
                return arrays
            self.bucket.delete([_arrays_name(stage, key, digest)])
        return self.front.get_arrays(stage, key) or arrays

    def folder(self, stage: str, key: str) -> Path:
        """A working folder of this machine."""
        return self.front.folder(stage, key)

    @contextlib.contextmanager
    def sole(self, stage: str, key: str, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Do a piece of work while no other process of any machine does, as long as this one renews its lease."""
        with self.front.sole(stage, key, waiting), self.leases.held(f"{stage}-{key[:32]}", waiting):
            yield

    def entries(self) -> Iterator[Entry]:
        """Everything stored under the URL; times are the server's."""
        return self._entries(last_uses(self.runs.seen()))

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """A run, which other machines see while it lasts."""
        with self.front.in_use():
            try:
                with self.runs.alive():
                    yield
            finally:
                with contextlib.suppress(InputError):
                    self.trim()

    def trim(self) -> int:
        """Delete what was not used for longest until the rest is below the cap; bytes freed. What a run uses stays."""
        return self._evict(self.cap_bytes, float("inf"))

    def prune(self, older_than_s: float) -> int:
        """Delete entries that were not used for so long, and by no run that still goes on; bytes freed under the URL."""
        self.front.prune(older_than_s)
        return self._evict(-1.0, self.bucket.now() - older_than_s + 1e-3)

    def _evict(self, most_bytes: float, unused_since: float) -> int:
        """One process at a time; another that does it now leaves nothing to do."""
        with self.leases.tried("eviction") as is_ours:
            if not is_ours:
                return 0
            seen = self.runs.seen()
            found = list(self._entries(last_uses(seen)))
            gone, freed, _ = oldest(found, most_bytes, min(unused_since, oldest_start(seen) - _MARGIN_S))
            self.bucket.delete(sorted((entry.name for entry in gone), key=lambda name: not name.endswith(".json")))
            self.runs.merge(
                seen, {_name(entry.stage, entry.key) for entry in found} - {_name(e.stage, e.key) for e in gone}
            )
            self.leases.delete_stale()
            self._grown_bytes = 0.0
            return freed

    def _entries(self, uses: Mapping[str, float]) -> Iterator[Entry]:
        for found in self.bucket.find():
            name = _NAME.fullmatch(found.name)
            if name is not None:
                used_at = max(found.modified_at, uses.get(_name(name[1], name[2]), 0.0))
                yield Entry(name[1], name[2], found.name, found.size_bytes, used_at)

    def _make_room(self, size_bytes: float) -> None:
        self._grown_bytes += size_bytes
        if self._grown_bytes > _GROWTH * self.cap_bytes:
            self.trim()

    def _published(self, stage: str, key: str, content: bytes, value: Any, winner: Callable[[], Any]) -> Any:
        """`value` where its record could be created, else what `winner` finds; a record that it cannot use is replaced."""
        name = f"{_name(stage, key)}.json"
        for _ in range(_TRIES):
            if self.bucket.create(name, content):
                return value
            before = self.bucket.read(name)
            found = winner()
            if found is not None:
                return found
            if before is not None and self.bucket.read(name) == before:  # or another process has just replaced it
                self.bucket.delete([name])
        raise InputError(f"{self.bucket.url}/{name} is damaged, and is there again when it was deleted")

    def _read(self, stage: str, key: str) -> Any:
        """The value under the URL, or None."""
        content = self.bucket.read(f"{_name(stage, key)}.json")
        try:
            return None if content is None else value_of(content)
        except ValueError:
            return None

    def _fetched(self, stage: str, key: str) -> str | None:
        """Bring arrays from the URL into the folder of this machine; their sha-256, or None where they are absent or damaged."""
        record = self._read(stage, key)
        digest = record.get("arrays") if isinstance(record, dict) else None
        if not isinstance(digest, str):
            return None
        with self.front.drafted(stage, key) as draft:
            if not self.bucket.download(_arrays_name(stage, key, digest), draft) or sha256_of(draft) != digest:
                return None
            self.front.take_arrays(stage, key, draft)
        return digest


def front_folder(root: Path, url: str) -> Path:
    """The folder of this machine that stands before a URL: another for each."""
    return root / hashlib.sha256(url.rstrip("/").encode()).hexdigest()[:16]


def _name(stage: str, key: str) -> str:
    return f"{stage}/{key[:32]}"


def _arrays_name(stage: str, key: str, digest: str) -> str:
    return f"{_name(stage, key)}.{digest}.safetensors"
