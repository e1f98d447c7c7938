"""What a run tells whoever watches it."""

import contextlib
import time
from collections.abc import Iterator
from typing import Protocol


class Monitor(Protocol):
    """Told which stage runs, how far it is, and what is worth a line."""

    def stage(self, name: str) -> None:
        """A stage begins."""

    def progress(self, fraction: float) -> None:
        """Share of the present stage that is done, 0 to 1."""

    def note(self, text: str) -> None:
        """Something the user should read."""


class SilentMonitor:
    """Says nothing."""

    def stage(self, name: str) -> None:
        """Ignored."""

    def progress(self, fraction: float) -> None:
        """Ignored."""

    def note(self, text: str) -> None:
        """Ignored."""


class Stages:
    """Names each stage to a monitor and takes its time; `of` is said with the name where there are several of a kind."""

    def __init__(self, monitor: Monitor, of: str = "") -> None:
        self.monitor, self.of = monitor, of
        self.timings_s: dict[str, float] = {}

    @contextlib.contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Run a stage."""
        self.monitor.stage(f"{name}, {self.of}" if self.of else name)
        start = time.monotonic()
        yield
        self.timings_s[name] = time.monotonic() - start
