"""The interface of a store: results by stage and key, one process at a time for a piece of work, and a cap on the size."""

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from compiler.store.cap import Entry

Arrays = dict[str, NDArray[Any]]


def _nothing() -> None:
    pass


class Store(ABC):
    """Results by stage and key, `cap_bytes` of them at most; several processes may use one.

    A key is a hash of all inputs, so that an entry never changes. Whoever has computed a result goes on with what `put` or
    `put_arrays` returns: another process may have published its own before.
    """

    cap_bytes: float

    @property
    @abstractmethod
    def place(self) -> str:
        """The folder or URL at which another process opens the same store."""

    @abstractmethod
    def get(self, stage: str, key: str) -> Any:
        """A stored JSON value, or None. A damaged entry is absent."""

    @abstractmethod
    def values(self, stage: str, prefix: str) -> Iterator[Any]:
        """The intact JSON values of a stage whose keys begin with `prefix` (up to 32 hexadecimal digits), by key."""

    @abstractmethod
    def put(self, stage: str, key: str, value: Any) -> Any:
        """Store a JSON value; what the store holds from now on."""

    @abstractmethod
    def get_arrays(self, stage: str, key: str) -> Arrays | None:
        """Stored arrays by name, or None."""

    @abstractmethod
    def put_arrays(self, stage: str, key: str, arrays: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        """Store arrays by name; `arrays` itself, or those that another process published before."""

    @abstractmethod
    def folder(self, stage: str, key: str) -> Path:
        """A working folder on this machine for a stage that keeps its own checkpoints."""

    @abstractmethod
    def sole(
        self, stage: str, key: str, waiting: Callable[[], None] = _nothing
    ) -> contextlib.AbstractContextManager[None]:
        """Do a piece of work while no other process does; `waiting` is called where another does it now."""

    @abstractmethod
    def in_use(self) -> contextlib.AbstractContextManager[None]:
        """A run: other processes keep what it has read or written as long as this lasts. Then the store is brought below its cap."""

    @abstractmethod
    def entries(self) -> Iterator[Entry]:
        """Everything stored, for listing."""

    @abstractmethod
    def trim(self) -> int:
        """Delete what was not used for longest until the rest is below the cap; bytes freed. What a run uses stays."""

    @abstractmethod
    def prune(self, older_than_s: float) -> int:
        """Delete entries that were not used for so long, and by no run that still goes on; bytes freed."""

    @contextlib.contextmanager
    def working(self, stage: str, key: str, waiting: Callable[[], None] = _nothing) -> Iterator[Path]:
        """The working folder, this process's alone as long as this lasts; another that wants it waits (`waiting` is called)."""
        with self.sole(stage, key, waiting):
            yield self.folder(stage, key)

    def stored(self, stage: str, key: str, make: Callable[[], Any], waiting: Callable[[], None] = _nothing) -> Any:
        """A JSON value, made where the store lacks it, by one process while the others wait for it."""
        found = self.get(stage, key)
        if found is not None:
            return found
        with self.sole(stage, key, waiting):
            found = self.get(stage, key)
            return self.put(stage, key, make()) if found is None else found
