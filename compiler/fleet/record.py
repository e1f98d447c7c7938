"""What became of each entry: a record beside its run, by which a later start knows it, and `fleet.json`, which has them all."""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from typing_extensions import TypedDict

from compiler.report.chart import latency_ms
from compiler.report.schema import Tool, known_front, plain, this_tool
from compiler.store.disk import write_atomically
from targets.errors import InputError
from targets.json_file import conforming, is_there, read_bytes, read_json

SCHEMA = 1
FLEET, PAGE, RECORD, TRACES = "fleet.json", "fleet.html", "fleet-entry.json", "fleet-errors"
_MOST_FRONT_BYTES = 256 * 2**20

Status = Literal["waiting", "running", "done", "missed budget", "failed"]
ANSWERED: tuple[Status, ...] = ("done", "missed budget")
"""An entry of these is not run again while nothing that it depends on changes."""


class Chosen(TypedDict):
    """The network that a run chose; `measured` says whether its latency was: the null device has no clock."""

    id: str
    latency_ms: float
    measured: bool
    speedup: float | None
    error: float
    metric: str
    score: float


class Row(TypedDict):
    """One entry. `front` has latency in ms and error of each network; `seconds` are its share of the run it was made in.

    Times are ISO 8601 in UTC. `depends` has digests by part, `learned` and `table` those of what it shares with other entries.
    """

    name: str
    status: Status
    model: str
    target: str
    limits: dict[str, float]
    effort: str
    depends: dict[str, str]
    learned: str
    table: str
    model_bytes: int
    chosen: Chosen | None
    budget: str | None
    front: list[tuple[float, float]]
    started: str | None
    ended: str | None
    seconds: float | None
    tries: int
    error: str | None


class Fleet(TypedDict):
    """The whole of `fleet.json`."""

    schema: int
    tool: Tool
    file: str
    started: str
    updated: str
    counts: dict[str, int]
    entries: list[Row]


def now() -> str:
    """The time as rows have it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def answered(row: Row, front: Mapping[str, Any]) -> Row:
    """A row with what a finished run found."""
    found = known_front(plain(front))
    best = next((c for c in found["candidates"] if c["id"] == found["best"]), None)
    points = sorted((latency_ms(c, "p50"), c["error"]) for c in found["candidates"])
    status = None if best is None else best["budget"]["status"]
    chosen: Chosen | None = None
    if best is not None:
        chosen = {
            "id": best["id"], "latency_ms": latency_ms(best, "p50"), "measured": best["measured"] is not None and best["predicted"]["source"] != "null",
            "speedup": best["speedup"], "error": best["error"], "metric": best["metric"]["name"],
            "score": best["metric"]["validation"],
        }  # fmt: skip
    missed = best is None or status == "missed"
    return {
        **row,
        "status": "missed budget" if missed else "done",
        "chosen": chosen,
        "budget": status,
        "front": points,
        "error": None,
    }


def write_record(folder: Path, row: Row) -> None:
    """Keep a row beside its run, with the digest of the front.json that it is of."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {"schema": SCHEMA, "front_sha256": _front_digest(folder), "row": plain(row)}
    write_atomically(folder / RECORD, (json.dumps(content, indent=1) + "\n").encode())


def read_record(folder: Path) -> Row | None:
    """The row of an earlier start; None where there is none, or not of the front.json that lies there."""
    path = folder / RECORD
    if not is_there(path):
        return None
    try:
        content = read_json(path)
        if content.get("schema") != SCHEMA or content["front_sha256"] != _front_digest(folder):
            return None
        return _row(content["row"])
    except (InputError, AttributeError, KeyError):
        return None


def drop_record(folder: Path) -> None:
    """Forget what became of an entry: its run begins anew."""
    (folder / RECORD).unlink(missing_ok=True)


def _front_digest(folder: Path) -> str | None:
    path = folder / "front.json"
    if not is_there(path):
        return None
    return hashlib.sha256(read_bytes(path, name=str(path), most_bytes=_MOST_FRONT_BYTES)).hexdigest()


def _row(value: Any) -> Row:
    if isinstance(value, dict) and isinstance(value.get("front"), list):
        value = {**value, "front": [tuple(point) if isinstance(point, list) else point for point in value["front"]]}
    found: Row = conforming(value, Row, name=RECORD)
    return found


def write_fleet(out: Path, file: str, started: str, rows: Sequence[Row]) -> Fleet:
    """Write fleet.json, an entry a line, whole or not at all; its content."""
    counts = dict(Counter(str(row["status"]) for row in rows))
    found: Fleet = {
        "schema": SCHEMA, "tool": this_tool(), "file": file, "started": started, "updated": now(), "counts": counts,
        "entries": list(rows),
    }  # fmt: skip
    head, end = json.dumps({**found, "entries": []}).rsplit("]", 1)
    lines = ",\n".join(
        map(json.dumps, rows)
    )  # without an indent json is ten times as fast: this is written after every job
    write_atomically(out / FLEET, f"{head}\n{lines}\n]{end}\n".encode())
    return found


def read_rows(out: Path) -> dict[str, Row]:
    """The rows of the last start by name; none where there was none, or its file was damaged."""
    if not is_there(out / FLEET):
        return {}
    try:
        content = read_json(out / FLEET)
        return {row["name"]: row for row in map(_row, content["entries"])}
    except (InputError, KeyError, TypeError):
        return {}
