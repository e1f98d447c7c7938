"""What the chart shows, as plain data: points, cloud, axes and the words of every tooltip."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from compiler.report.schema import CandidateInfo, Front, Percentile, chosen_as
from compiler.report.text import count, milliseconds, ratio, score, words


def latency_ms(candidate: CandidateInfo, percentile: Percentile) -> float:
    """The measured latency at `percentile` in ms, or the predicted one where nothing was measured."""
    measured = candidate["measured"]
    if measured is None:
        return candidate["predicted"]["latency_ms"]
    return measured["latency_ms"][percentile]


def chart_data(front: Front, evaluated: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Everything `chart.js` draws, JSON-ready and finite; the axes are in ms and in units of the error.

    Args:
        front: the run's `front.json`.
        evaluated: rows with `id`, `latency_ms` and `error`, numbers or their text; those that are not finite or
            that stand on the chart already are left out.
    """
    points = [_point(front, candidate) for candidate in front["candidates"]]
    dense = _point(front, front["dense"])
    shown = [point for point in [*points, dense] if _finite(point["x"], point["y"])]
    cloud = _cloud(evaluated, {point["id"] for point in shown})
    x, y = _domains(shown, cloud)
    inside = [row for row in cloud if x[0] <= row[0] <= x[1] and y[0] <= row[1] <= y[1]]
    return {
        "points": [point for point in points if point in shown],
        "dense": dense if dense in shown else None,
        "cloud": inside,
        "outside": len(cloud) - len(inside),
        "x": x,
        "y": y,
        "x_label": f"latency {front['workload']['percentile']}, ms",
        "y_label": "error on validation",
        "chosen_as": chosen_as(front),
    }


def _finite(*values: float) -> bool:
    return all(math.isfinite(value) for value in values)


def _point(front: Front, candidate: CandidateInfo) -> dict[str, Any]:
    return {
        "id": candidate["id"],
        "x": latency_ms(candidate, front["workload"]["percentile"]),
        "y": candidate["error"],
        "predicted": candidate["predicted"]["latency_ms"],
        "measured": candidate["measured"] is not None,
        "best": candidate["id"] == front["best"],
        "tip": _tip(front, candidate),
    }


def _tip(front: Front, candidate: CandidateInfo) -> list[tuple[str, str]]:
    metric, percentile = candidate["metric"], front["workload"]["percentile"]
    predicted = candidate["predicted"]
    name = words(front["metric"]["name"])
    rows = [
        ("error, validation", score(candidate["error"])),
        (f"{name}, validation", score(metric["validation"])),
        (f"{name}, test", score(metric["test"])),
        (f"predicted ({predicted['source']})", milliseconds(predicted["latency_ms"])),
        (f"measured {percentile}", _measured_text(candidate, percentile)),
        ("parameters", count(candidate["parameters"])),
    ]
    return rows if candidate["speedup"] is None else [*rows, ("speed-up", ratio(candidate["speedup"]))]


def _measured_text(candidate: CandidateInfo, percentile: Percentile) -> str:
    if candidate["measured"] is None:
        return "not measured"
    return milliseconds(latency_ms(candidate, percentile))


def _cloud(evaluated: Sequence[Mapping[str, Any]], shown: set[str]) -> list[tuple[float, float]]:
    rows = [(float(row["latency_ms"]), float(row["error"])) for row in evaluated if str(row["id"]) not in shown]
    return [row for row in rows if _finite(*row)]


def _domains(points: list[dict[str, Any]], cloud: list[tuple[float, float]]) -> tuple[list[float], list[float]]:
    """Axes that show the front well: the cloud may widen them by half, no more."""
    return (
        _domain([point["x"] for point in points], [row[0] for row in cloud]),
        _domain([point["y"] for point in points], [row[1] for row in cloud]),
    )


def _domain(values: list[float], others: list[float]) -> list[float]:
    """From zero, unless all values lie in the upper half of what that would show."""
    if not values:
        values = others or [0.0, 1.0]
    low, high = min(values), max(values)
    near = [value for value in others if value <= high + 0.5 * (high - low)]
    high = max([high, *near])
    pad = 0.06 * ((high - low) or abs(high) or 1.0)
    floor = low - 2 * pad if low > 0.5 * high or low < 0 else 0.0
    return [floor, high + pad]
