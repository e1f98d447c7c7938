"""Which runs use a shared store, and what each has read: one object a run, written again while it lasts.

Reading an entry would otherwise cost a write. Objects of runs that ended are merged into one.
"""

import contextlib
import json
import secrets
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from compiler.store.bucket import Bucket
from compiler.store.leases import repeated
from targets.errors import InputError

FOLDER = "runs"
BEAT_S = 60.0
"""Time between two signs of life of a run."""

_MERGED = f"{FOLDER}/merged.json"
_MISSED = 5  # signs of life after which a run is dead

_EVERY_S = 3600.0  # a use is written down once an hour


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A run as its object shows it. Times are the server's, in seconds; `used` has entries' last uses, by stage/key."""

    name: str
    started_at: float
    live: bool
    used: Mapping[str, float]


class Runs:
    """The runs of a bucket; this process's own is alive as long as `alive` lasts. All that share a bucket use the same `beat_s`."""

    def __init__(self, bucket: Bucket, beat_s: float = BEAT_S) -> None:
        self.bucket, self.beat_s = bucket, beat_s
        self._lock = threading.Lock()
        self._used: dict[str, float] = {}

    def use(self, name: str) -> None:
        """Note that an entry was used; it is written down at the next sign of life."""
        with self._lock:
            now = self.bucket.now()
            if now - self._used.get(name, 0.0) > _EVERY_S:
                self._used[name] = now

    @contextlib.contextmanager
    def alive(self) -> Iterator[None]:
        """A run, from its first sign of life to its last."""
        name, started_at = f"{FOLDER}/{secrets.token_hex(16)}.json", self.bucket.now()

        def beat(*, ended: bool = False) -> None:
            with self._lock:
                content = {"started_at": started_at, "ended": ended, "used": self._used}
                told = json.dumps(content).encode()
            self.bucket.write(name, told)

        beat()
        try:
            with repeated(beat, self.beat_s):
                yield
        finally:
            with contextlib.suppress(InputError):  # without it the run counts as dead a while later
                beat(ended=True)

    def seen(self) -> list[Seen]:
        """Every run that has left an object."""
        found = [(each, self.bucket.read(each.name)) for each in self.bucket.find(FOLDER)]
        since = self.bucket.now() - _MISSED * self.beat_s
        return [_seen(each.name, content, recent=each.modified_at > since) for each, content in found if content]

    def merge(self, seen: list[Seen], kept: set[str]) -> None:
        """One object for all runs that ended, with the uses of entries that are kept."""
        dead = [run for run in seen if not run.live]
        uses = {name: used_at for name, used_at in last_uses(dead).items() if name in kept}
        self.bucket.write(_MERGED, json.dumps({"started_at": 0, "ended": True, "used": uses}).encode())
        self.bucket.delete([run.name for run in dead if run.name != _MERGED])


def last_uses(seen: list[Seen]) -> dict[str, float]:
    """When each entry was last used."""
    uses: dict[str, float] = {}
    for run in seen:
        for name, used_at in run.used.items():
            uses[name] = max(used_at, uses.get(name, 0.0))
    return uses


def oldest_start(seen: list[Seen]) -> float:
    """When the oldest live run began; infinity where none lives."""
    return min((run.started_at for run in seen if run.live), default=float("inf"))


def _seen(name: str, content: bytes, *, recent: bool) -> Seen:
    """An object that is damaged, or not ours, is a run that began before all others as long as it is recent."""
    try:
        told: Any = json.loads(content)
        used = {str(entry): float(used_at) for entry, used_at in told["used"].items()}
        return Seen(name=name, started_at=float(told["started_at"]), live=recent and not told["ended"], used=used)
    except (ValueError, KeyError, TypeError, AttributeError):
        return Seen(name=name, started_at=0.0, live=recent, used={})
