"""The page of a fleet: a table that can be searched and sorted, with the front of every entry as a small drawing."""

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from compiler.fleet.record import PAGE, Fleet, Row
from compiler.report import text
from compiler.report.page import fill, resource
from compiler.store.disk import write_atomically

WIDTH, HEIGHT, _MARGIN = 120, 30, 4


def write_page(out: Path, fleet: Fleet) -> None:
    """Write fleet.html, whole or not at all."""
    write_atomically(out / PAGE, render_page(fleet).encode("utf-8", "backslashreplace"))


def render_page(fleet: Fleet) -> str:
    """One self-contained page: no network, no second file, and no script but its own."""
    script = resource("fleet.js")
    return fill(
        "fleet.html",
        fleet=fleet,
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        sparkline=sparkline,
        limits=_limits,
        size=(WIDTH, HEIGHT),
    )


def _limits(row: Row) -> str:
    return ", ".join(text.limit(name, value) for name, value in row["limits"].items()) or text.UNKNOWN


def sparkline(row: Row) -> dict[str, Any] | None:
    """The front as a line of steps, error over latency, and where the chosen network is; None where there is no front."""
    front = row["front"]
    if not front:
        return None
    xs, ys = _scaled([ms for ms, _ in front], WIDTH), _scaled([-error for _, error in front], HEIGHT)
    steps = [f"M{xs[0]:.1f} {ys[0]:.1f}", *(f"H{x:.1f}V{y:.1f}" for x, y in zip(xs[1:], ys[1:], strict=True))]
    chosen = row["chosen"]
    at = None if chosen is None else (chosen["latency_ms"], chosen["error"])
    return {
        "path": "".join(steps),
        "dots": [(f"{x:.1f}", f"{y:.1f}", tuple(p) == at) for p, x, y in zip(front, xs, ys, strict=True)],
        "title": f"{len(front)} networks, {text.milliseconds(front[0][0])} to {text.milliseconds(front[-1][0])}",
    }


def _scaled(values: Sequence[float], size: int) -> list[float]:
    """Values from one margin of a drawing to the other, in the middle where they are all equal."""
    low, high = min(values), max(values)
    if low == high:
        return [size / 2] * len(values)
    return [_MARGIN + (size - 2 * _MARGIN) * (value - low) / (high - low) for value in values]
