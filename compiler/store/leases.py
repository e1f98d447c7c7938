"""Which process does a piece of work, across machines: leases that end when their holder no longer renews them.

A lease is a numbered object, created only where there is none. Whoever finds the newest one expired creates the next number,
which one alone can: taking over is a compare-and-swap on any backend that creates conditionally. A holder that has lost its
lease goes on; what is published first counts.
"""

import contextlib
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from compiler.store.bucket import Bucket
from targets.errors import InputError

FOLDER = "leases"
LASTS_S = 120.0
"""Time from a lease's last renewal after which it may be taken over."""

_RENEWALS, _STALE_S = 4, 86400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Leases:
    """Leases of one process: all that share a bucket use the same `lasts_s`."""

    bucket: Bucket
    lasts_s: float = LASTS_S
    owner: str = field(default_factory=lambda: secrets.token_hex(16))

    @contextlib.contextmanager
    def held(self, name: str, waiting: Callable[[], None]) -> Iterator[None]:
        """Hold a lease, renewed as long as this lasts; `waiting` is called once where another holds it now."""
        number = self._acquired(name)
        if number is None:
            waiting()
            while (number := self._acquired(name)) is None:
                time.sleep(self.lasts_s / 60)
        with self._renewed(name, number):
            yield

    @contextlib.contextmanager
    def tried(self, name: str) -> Iterator[bool]:
        """Hold a lease if nobody else has it: whether this is so."""
        number = self._acquired(name)
        if number is None:
            yield False
            return
        with self._renewed(name, number):
            yield True

    def delete_stale(self) -> None:
        """Delete leases that nobody has renewed for a day."""
        since = self.bucket.now() - max(_STALE_S, self.lasts_s)
        self.bucket.delete([found.name for found in self.bucket.find(FOLDER) if found.modified_at < since])

    def _acquired(self, name: str) -> int | None:
        """The number of the lease if it could be had."""
        held = self._numbers(name)
        newest = max(held, default=-1)
        if held and held[newest] + self.lasts_s > self.bucket.now():
            return None
        taken = _object(name, newest + 1)
        if self.bucket.create(taken, self.owner.encode()) or self.bucket.read(taken) == self.owner.encode():
            return newest + 1  # its answer may have been lost, and it was asked again
        return None

    @contextlib.contextmanager
    def _renewed(self, name: str, number: int) -> Iterator[None]:
        try:
            with repeated(lambda: self._renew(name, number), self.lasts_s / _RENEWALS):
                yield
        finally:
            with contextlib.suppress(InputError):  # it expires
                self._release(name, number)

    def _renew(self, name: str, number: int) -> None:
        if self._is_ours(name, number):
            self.bucket.write(_object(name, number), self.owner.encode())

    def _release(self, name: str, number: int) -> None:
        if self._is_ours(name, number):
            self.bucket.delete([_object(name, each) for each in self._numbers(name) if each <= number])

    def _is_ours(self, name: str, number: int) -> bool:
        newest = max(self._numbers(name), default=-1)
        return newest == number and self.bucket.read(_object(name, number)) == self.owner.encode()

    def _numbers(self, name: str) -> dict[int, float]:
        """When each lease of this name was last renewed, by number."""
        found = {each.name.rpartition("/")[2]: each.modified_at for each in self.bucket.find(f"{FOLDER}/{name}")}
        return {int(number): modified_at for number, modified_at in found.items() if number.isdigit()}


@contextlib.contextmanager
def repeated(action: Callable[[], None], every_s: float) -> Iterator[None]:
    """Call an action again and again in a thread as long as this lasts; where it fails it is called at the next turn."""
    ended = threading.Event()

    def go_on() -> None:
        while not ended.wait(every_s):
            with contextlib.suppress(InputError):
                action()

    thread = threading.Thread(target=go_on, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _object(name: str, number: int) -> str:
    return f"{FOLDER}/{name}/{number:08}"
