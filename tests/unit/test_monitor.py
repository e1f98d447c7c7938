"""What a run tells a log file of its progress."""

import io

import pytest
from rich.console import Console

from compiler.cli.console import ConsoleMonitor


@pytest.fixture
def tell(monkeypatch):
    """Tells a monitor fractions, twenty seconds apart, and returns its lines."""
    now = 0.0
    monkeypatch.setattr("compiler.cli.console.time.monotonic", lambda: now)

    def lines(*fractions: float) -> list[str]:
        nonlocal now
        out = io.StringIO()
        with ConsoleMonitor(Console(file=out, width=80)) as monitor:
            monitor.stage("profile")
            for fraction in fractions:
                now += 20
                monitor.progress(fraction)
        return [line for line in out.getvalue().splitlines() if "left" in line]

    return lines


def test_the_time_left_is_what_the_rest_takes_at_this_pace(tell):
    assert tell(0.25, 0.5) == ["profile: 25%, about 60 s left", "profile: 50%, about 40 s left"]


def test_work_begun_again_starts_its_own_clock(tell):
    assert tell(0.9, 0.0, 0.2) == ["profile: 90%, about 2 s left", "profile: 20%, about 80 s left"]
