"""What a run tells whoever watches it."""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
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


class Rising:
    """Hands a monitor's calls on; of the progress of a stage only what is more than was told before.

    Work that is taken again in a stage (a table that was too noisy, another job of several) so never seems to lose ground.
    """

    def __init__(self, monitor: Monitor) -> None:
        self.monitor, self.told = monitor, 0.0

    def stage(self, name: str) -> None:
        """A stage begins, with nothing done."""
        self.told = 0.0
        self.monitor.stage(name)

    def progress(self, fraction: float) -> None:
        """Share of the present stage that is done, 1 at most."""
        fraction = min(fraction, 1.0)
        if fraction > self.told:
            self.told = fraction
            self.monitor.progress(fraction)

    def note(self, text: str) -> None:
        """A note, when it arises."""
        self.monitor.note(text)


def rising(monitor: Monitor) -> Rising:
    """A monitor whose progress never falls within a stage."""
    return monitor if isinstance(monitor, Rising) else Rising(monitor)


def part(progress: Callable[[float], None], begin: float, share: float) -> Callable[[float], None]:
    """Tells the progress of a part of a stage as that of the whole."""
    return lambda fraction: progress(begin + share * fraction)


class Notes:
    """What a run has to say, in the order in which it arose, each once; told to a monitor at once."""

    def __init__(self, monitor: Monitor, said: Sequence[str] = ()) -> None:
        """`said` are notes that the monitor was told before."""
        self.monitor, self.texts = monitor, list(said)

    def say(self, *texts: str) -> None:
        """Add notes that are new, and tell them."""
        for text in texts:
            if text not in self.texts:
                self.texts.append(text)
                self.monitor.note(text)


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
        self.timings_s[name] = self.timings_s.get(name, 0.0) + time.monotonic() - start
