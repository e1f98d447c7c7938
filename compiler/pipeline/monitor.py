"""What a run tells whoever watches it."""

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
