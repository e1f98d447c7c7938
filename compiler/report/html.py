"""One self-contained page from a run: no network, no second file, and no script but its own."""

import base64
import csv
import hashlib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import TemplateError

from compiler.report import text, view
from compiler.report.chart import chart_data, latency_ms
from compiler.report.page import fill, resource
from compiler.report.schema import Front, known_front, read_front
from compiler.report.verdict import find_best, verdict
from compiler.store.store import write_atomically
from targets.errors import InputError, reason
from targets.json_file import is_there, read_bytes


def render_report(front: Mapping[str, Any], evaluated: Sequence[Mapping[str, Any]]) -> str:
    """The page as HTML.

    Args:
        front: the content of `front.json` (`compiler.report.schema.Front`).
        evaluated: rows of `candidates.csv`; numbers may be text.

    Raises `InputError` where `front` has another schema version than this code reads.
    """
    known = known_front(front)
    return fill("template.html", **_context(known, evaluated))


def write_report(run_dir: Path) -> Path:
    """Write `report.html` from the run's `front.json` and `candidates.csv`, whole or not at all, and return its path.

    Raises `InputError` where one of the two is missing or cannot be read.
    """
    front, rows = read_front(run_dir), _read_rows(run_dir / "candidates.csv")
    try:
        page = render_report(front, rows)
    except (LookupError, TemplateError, TypeError, ValueError, ArithmeticError) as error:
        raise InputError(
            f"{run_dir}: front.json or candidates.csv is damaged ({reason(error)}). Compile again."
        ) from error
    path = run_dir / "report.html"
    write_atomically(path, page.encode())
    return path


def _context(front: Front, evaluated: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    script = resource("chart.js")
    best = find_best(front)
    return {
        "front": front,
        "everyone": [front["dense"], *front["candidates"]],
        "selected": (best or front["dense"])["id"],
        "verdict": verdict(front),
        "tokens": view.tokens(front),
        "chart": chart_data(front, evaluated),
        "script": script,
        "script_hash": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        "layers": view.layers,
        "grid_view": view.grid_view,
        "resources": view.resources,
        "kept_attention": view.kept_attention,
        "prediction_error": view.prediction_error,
        "latency_ms": latency_ms,
        "flatten": text.flatten,
        "limit": text.limit,
    }


_MOST_BYTES_OF_ROWS = 256 * 2**20


def _read_rows(path: Path) -> list[dict[str, str]]:
    if not is_there(path):
        raise InputError(f"{path} is missing: {path.parent} is not the folder of a finished run.")
    content = read_bytes(path, name=str(path), most_bytes=_MOST_BYTES_OF_ROWS)
    try:
        return list(csv.DictReader(io.StringIO(content.decode("utf-8"), newline="")))
    except (csv.Error, UnicodeDecodeError) as error:
        raise InputError(f"{path} is damaged ({reason(error)}). Compile again.") from None
