"""What a run tells a log file of its progress."""

import io

import pytest

from compiler.cli.console import ConsoleMonitor, PlainConsole
from compiler.pipeline.monitor import Notes, SilentMonitor, Stages, part, rising


@pytest.fixture
def tell(monkeypatch):
    """Tells a monitor fractions, twenty seconds apart, and returns its lines."""
    now = 0.0
    monkeypatch.setattr("compiler.cli.console.time.monotonic", lambda: now)

    def lines(*fractions: float) -> list[str]:
        nonlocal now
        out = io.StringIO()
        with ConsoleMonitor(PlainConsole(file=out, width=80)) as console:
            monitor = rising(console)
            monitor.stage("profile")
            for fraction in fractions:
                now += 20
                monitor.progress(fraction)
        return [line for line in out.getvalue().splitlines() if "left" in line]

    return lines


def test_the_time_left_is_what_the_rest_takes_at_this_pace(tell):
    assert tell(0.25, 0.5) == ["profile: 25%, about 60 s left", "profile: 50%, about 40 s left"]


def test_work_begun_again_is_never_shown_as_lost(tell):
    assert tell(0.9, 0.0, 0.2, 0.95) == ["profile: 90%, about 2 s left", "profile: 95%, about 4 s left"]


class Recorder(SilentMonitor):
    """Everything that a monitor is told, in order."""

    def __init__(self):
        self.told = []

    def stage(self, name):
        self.told.append(name)

    def progress(self, fraction):
        self.told.append(fraction)

    def note(self, text):
        self.told.append(text)


def test_a_stage_begins_with_nothing_done_and_ends_with_all_at_most():
    recorder = Recorder()
    monitor = rising(recorder)
    assert rising(monitor) is monitor
    monitor.stage("a")
    for fraction in (0.5, 0.2, 0.5, 0.7, 1.5):
        monitor.progress(fraction)
    monitor.stage("b")
    monitor.progress(0.1)
    assert recorder.told == ["a", 0.5, 0.7, 1.0, "b", 0.1]


def test_parts_of_a_stage_follow_each_other():
    told = []
    for begin in (0.0, 0.25):
        part(told.append, begin, 0.25 if not begin else 0.75)(0.5)
    assert told == [0.125, 0.625]


def test_notes_are_told_when_they_arise_each_once():
    recorder = Recorder()
    notes = Notes(recorder, said=["at load"])
    notes.say("a", "b", "at load")
    notes.say("b", "c")
    assert recorder.told == ["a", "b", "c"]
    assert notes.texts == ["at load", "a", "b", "c"]


def test_a_stage_that_is_entered_twice_takes_the_time_of_both(monkeypatch):
    now = iter([0.0, 1.0, 5.0, 7.0])
    monkeypatch.setattr("compiler.pipeline.monitor.time.monotonic", lambda: next(now))
    stages = Stages(SilentMonitor())
    for _ in range(2):
        with stages("score"):
            pass
    assert stages.timings_s == {"score": 3.0}


def test_notes_are_printed_as_they_are():
    out = io.StringIO()
    with ConsoleMonitor(PlainConsole(file=out, width=40)) as monitor:
        monitor.note("[red]a folder[/x] whose note is longer than a line of this console is wide")
    assert out.getvalue() == "[red]a folder[/x] whose note is longer than a line of this console is wide\n"
