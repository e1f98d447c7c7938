"""Numbers that a user gives: the least and the most of every flag in one table, and one form of message."""

import math
from typing import NamedTuple

from targets.errors import InputError, printable


class Bounds(NamedTuple):
    """The least and the most that make sense, both allowed."""

    least: float
    most: float

    def __str__(self) -> str:
        return f"{_shown(self.least)} to {_shown(self.most)}"


MOST_SEED = 2**32 - 1
"""NumPy's older generators, which libraries seed, take no larger one."""

BOUNDS = {
    "--batch": Bounds(1, 65_536),
    "--seq-len": Bounds(1, 1_000_000),
    "--threads": Bounds(1, 4096),
    "--winners": Bounds(1, 1000),
    "--evaluations": Bounds(1, 1_000_000),
    "--random-subnets": Bounds(0, 1000),
    "--train-batch-size": Bounds(1, 65_536),
    "--accumulation": Bounds(1, 65_536),
    "--seed": Bounds(0, MOST_SEED),
    "--epochs": Bounds(1e-6, 10_000),
    "--learning-rate": Bounds(1e-12, 10),
    "--temperature": Bounds(1e-3, 1e6),
    "--check-nets": Bounds(12, 10_000),
    "--samples": Bounds(4, 10_000),
    "--seconds": Bounds(0.01, 1e6),
    "--max-latency": Bounds(1e-12, 1e6),
    "--max-memory": Bounds(1, 1e18),
    "--cache-size": Bounds(1e6, 1e18),
    "--min-speedup": Bounds(1e-6, 1e6),
    "--embedding-dim": Bounds(1, 1_000_000),
    "--max-drop": Bounds(0, 1 - 1e-9),
    "--max-flips": Bounds(0, 1 - 1e-9),
    "--max-class-drop": Bounds(0, 1 - 1e-9),
    "--fail-if-slower": Bounds(0, 1 - 1e-9),
    "--fail-if-worse": Bounds(0, 1 - 1e-9),
    "--prune": Bounds(0, 36_500 * 86_400.0),
}
"""By flag; times are seconds, sizes bytes and percentages shares of one."""


def check_number(flag: str, value: float | None) -> None:
    """InputError where a value lies outside of the bounds of its flag or is no number; None was not given."""
    bounds = BOUNDS[flag]
    if value is not None and not bounds.least <= value <= bounds.most:  # NaN is neither
        raise InputError(f"{flag} must be from {bounds}, got {_shown(value)}")


def check_text(flag: str, text: str, *, most: int = 4096) -> None:
    """InputError for a text that no file name, argument or UTF-8 file can hold, or that is longer than `most` characters."""
    if "\0" in text or any("\ud800" <= c <= "\udfff" for c in text):
        raise InputError(f"{flag} {printable(text, 60)} holds a character that is not in UTF-8, or none at all")
    if len(text) > most:
        raise InputError(f"{flag} has {len(text):,} characters, at most {most:,} are read")


def _shown(value: float) -> str:
    if isinstance(value, int):
        return f"{value:,}" if abs(value) < 10**15 else "a number of more than 15 digits"
    return f"{value:,.0f}" if math.isfinite(value) and value == int(value) and 1 <= abs(value) < 1e15 else f"{value:g}"
