"""Fronts on test, one panel a task: error against relative latency, a colour a way, every seed a line. Plain SVG.

Dashed is the dense network's error.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from compiler.search import is_nondominated

WIDTH, HEIGHT, MARGIN, ACROSS = 300, 220, 40, 3
COLOURS = ("#888888", "#0b6bcb", "#c2410c", "#15803d")

Row = Mapping[str, Any]


def write_plot(path: Path, rows: Sequence[Row], ways: Mapping[str, str], name: Callable[[Any], str]) -> None:
    """Draw the ways, given by label, whose names rows have."""
    tasks = list(dict.fromkeys(row["task"] for row in rows))
    panels = [
        _panel(task, [(i, row) for i, way in enumerate(ways.values()) for row in rows
                      if row["task"] == task and name(row["way"]) == way], place)
        for place, task in enumerate(tasks)
    ]  # fmt: skip
    legend = "".join(
        f'<text x="{MARGIN + 120 * i}" y="16" fill="{COLOURS[i]}">{label}</text>' for i, label in enumerate(ways)
    )
    width, height = WIDTH * min(ACROSS, len(tasks)), 24 + HEIGHT * -(-len(tasks) // ACROSS)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" '
        f'font-size="11">{legend}{"".join(panels)}</svg>\n',
        encoding="utf-8",
    )


def _panel(task: str, drawn: Sequence[tuple[int, Row]], place: int) -> str:
    left, top = WIDTH * (place % ACROSS), 24 + HEIGHT * (place // ACROSS)
    inner = WIDTH - 1.5 * MARGIN, HEIGHT - 1.5 * MARGIN
    fronts = [(colour, _front(row)) for colour, row in drawn]
    dense = [1 - row["dense_test"] for _, row in drawn]
    errors = np.concatenate([dense, *(points[:, 1] for _, points in fronts)]) if drawn else np.array([0.0, 1.0])
    least, span = errors.min(), max(float(np.ptp(errors)), 1e-9)
    lines = "".join(
        f'<polyline fill="none" stroke="{COLOURS[colour]}" points="{_path((points - [0, least]) / [1, span], inner)}"/>'
        for colour, points in fronts
    )
    whole = "".join(
        f'<path d="M0 {-inner[1] * (error - least) / span:.1f}h{inner[0]}" stroke="#aaa" stroke-dasharray="3"/>'
        for error in sorted(set(dense))
    )
    return (
        f'<g transform="translate({left + MARGIN},{top + HEIGHT - MARGIN})">{whole}'
        f'<path d="M0 {-inner[1]}V0H{inner[0]}" fill="none" stroke="#333"/>'
        f'<text x="0" y="{-6 - inner[1]}">{task}: test error, {least:.2f} to {least + span:.2f}</text>'
        f'<text x="{inner[0]}" y="14" text-anchor="end">latency, up to dense</text>{lines}</g>'
    )


def _front(row: Row) -> Any:
    points = np.column_stack([row["front"]["latency"], row["front"]["test_error"]])
    kept = points[is_nondominated(points)]
    return kept[np.argsort(kept[:, 0])]


def _path(points: Any, inner: tuple[float, float]) -> str:
    return " ".join(f"{x * inner[0]:.1f},{-y * inner[1]:.1f}" for x, y in points)
