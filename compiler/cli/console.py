"""What a run looks like on a terminal: stages with a time left on stderr, the table of candidates at the end."""

import contextlib
import errno
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from compiler.report import text
from targets.errors import printable

if TYPE_CHECKING:
    from compiler.pipeline import Monitor


_MOST_OF_A_LINE = 5000


class PlainConsole(Console):
    """A console that shows texts as they are: names of files and models are no markup, and no codes for the terminal.

    A pipe that nobody reads raises BrokenPipeError, which ends the program quietly.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """Every string that is printed or stands in a table comes through here."""
        return super().render_str("\n".join(printable(line, _MOST_OF_A_LINE) for line in text.split("\n")), **options)

    def on_broken_pipe(self) -> None:
        """Called while the error is handled."""
        raise BrokenPipeError(errno.EPIPE, "nobody reads the answer")


def answer_console() -> Console:
    """Where answers go: stdout, wide enough for a table where it is no terminal."""
    return PlainConsole(width=None if sys.stdout.isatty() else 140)


def error_console() -> Console:
    """Where progress and notes go: stderr."""
    return PlainConsole(stderr=True)


@contextlib.contextmanager
def progress(*, quiet: bool) -> "Iterator[Monitor]":
    """Tells stderr how far a run is, or nobody."""
    from compiler.pipeline.monitor import SilentMonitor, rising

    if quiet:
        yield SilentMonitor()
        return
    with ConsoleMonitor(error_console()) as monitor:
        yield rising(monitor)


class ConsoleMonitor:
    """Progress bars on a terminal; one line a stage where stderr is a file."""

    def __init__(self, console: Console) -> None:
        self.console = console
        columns = (
            TextColumn("{task.description:<24}", markup=False),
            BarColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        self.bar = Progress(*columns, console=console, disable=not console.is_terminal)
        self.task: TaskID | None = None
        self.name, self.started, self.said = "", time.monotonic(), 0.0

    def __enter__(self) -> Self:
        self.bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._close(failed=error[0] is not None)
        self.bar.stop()

    def stage(self, name: str) -> None:
        """Begin a stage; the one before is done."""
        self._close()
        self.name, self.started, self.said = name, time.monotonic(), time.monotonic()
        self.task = self.bar.add_task(printable(name, 60), total=1.0)

    def _close(self, *, failed: bool = False) -> None:
        if self.task is None:
            return
        if not failed:
            self.bar.update(self.task, completed=1.0)
        if not self.console.is_terminal and not failed:
            self.console.print(f"{self.name}: {time.monotonic() - self.started:.1f} s")
        self.task = None

    def progress(self, fraction: float) -> None:
        """Move the bar; without a terminal, a line every 15 seconds with the time left. Fractions must not fall."""
        if self.task is None:
            return
        now = time.monotonic()
        self.bar.update(self.task, completed=fraction)
        if not self.console.is_terminal and now - self.said > 15 and 0 < fraction < 1:
            self.said = now
            left = (now - self.started) * (1 - fraction) / fraction
            self.console.print(f"{self.name}: {fraction:.0%}, about {left:.0f} s left")

    def note(self, text: str) -> None:
        """A line, or a block of lines, when it arises."""
        self.console.print(text, soft_wrap=True)


def _row(c: Mapping[str, Any], best: str | None) -> list[str]:
    measured, metric = c["measured"], c["metric"]
    latency = measured["latency_ms"] if measured else {"p50": c["predicted"]["latency_ms"], "p90": float("nan")}
    speedup = "-" if c["speedup"] is None else f"{c['speedup']:.2f}x"
    others = [_score(value["test"]) for value in metric["others"].values()]
    return [
        c["id"] + (" *" if c["id"] == best else ""),
        text.form(c),
        f"{c['parameters'] / 1e6:.1f}M",
        f"{c['artifact']['bytes'] / 1e6:.0f} MB",
        f"{latency['p50']:.2f}",
        f"{latency['p90']:.2f}" if measured else "-",
        speedup,
        *_resources(c),
        *(f"{_score(metric[split])}{_noise(metric['standard_error'][split])}" for split in ("validation", "test")),
        *others,
    ]


def _score(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _noise(standard_error: float | None) -> str:
    return "" if standard_error is None else f" ±{standard_error:.4f}"


_RESOURCES: Mapping[str, tuple[str, Callable[[float], str]]] = {
    "memory_bytes": ("memory", lambda value: f"{value / 1e6:.0f} MB"),
    "energy_j": ("energy", lambda value: f"{value * 1e3:.1f} mJ"),
    "throughput_per_s": ("seq/s", lambda value: f"{value:.0f}"),
}


def _resources(c: Mapping[str, Any]) -> list[str]:
    """Memory, energy and throughput where the run asked for them: measured, else predicted with a tilde."""
    cells = []
    for key, (_, say) in _RESOURCES.items():
        if c["predicted"][key] is not None:
            measured = None if c["measured"] is None else c["measured"][key]
            cells.append(f"~{say(c['predicted'][key])}" if measured is None else say(measured))
    return cells


def chosen_as(front: Mapping[str, Any]) -> str:
    """How to call the network that was chosen: where the dense model is at chance, nothing is best."""
    return "chosen, but the dense model is not to be trusted (see the first note)" if front.get("doubt") else "best"


def result_table(front: Mapping[str, Any]) -> Table:
    """Dense model and candidates: size, latency, speed-up, metrics; the best is starred."""
    w, metric = front["workload"], front["metric"]["name"]
    predicted = front["dense"]["measured"] is None
    table = Table(
        title=f"{front['model']['name']} on {front['target']['name']}, batch {w['batch']}, {w['tokens']} tokens, "
        f"{w['threads']} thread{'s' if w['threads'] > 1 else ''}, {w['runtime']}{' (predicted)' if predicted else ''}"
    )
    names = [
        "net",
        "precision",
        "params",
        "file",
        "p50 ms",
        "p90 ms",
        "speed-up",
        *(name for key, (name, _) in _RESOURCES.items() if front["dense"]["predicted"][key] is not None),
        f"{metric} (val)",
        f"{metric} (test)",
    ]
    names += [f"{name} (test)" for name in front["dense"]["metric"]["others"]]
    for name in names:
        table.add_column(name, justify="left" if name == "net" else "right")
    for c in (front["dense"], *sorted(front["candidates"], key=lambda c: -c["predicted"]["latency_ms"])):
        table.add_row(*_row(c, front["best"]))
    return table
