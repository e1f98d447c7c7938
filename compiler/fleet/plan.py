"""What a fleet has and what it lacks, told before anything is computed: from records and files alone."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any, Literal

from compiler.fleet.file import Entry
from compiler.fleet.fingerprint import Depends, Fingerprints
from compiler.fleet.record import ANSWERED, Row, read_record, read_rows

State = Literal["done", "missed budget", "missing", "changed", "failed"]

_NEAR = 1.25
"""Models whose files are as large, up to this factor, are taken to take as long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """An entry, what became of it, and what running it takes: `made` are parts of it that earlier entries have made."""

    entry: Entry
    depends: Depends
    state: State
    why: str
    row: Row
    made: tuple[str, ...] = ()
    estimated_s: float | None = None

    @property
    def answered(self) -> bool:
        """Whether there is nothing to do."""
        return self.state in ANSWERED


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """All entries, and the jobs that do what is missing: entries of one job differ in target, table and folder only."""

    entries: tuple[Planned, ...]
    jobs: tuple[tuple[Planned, ...], ...]

    @property
    def to_do(self) -> list[Planned]:
        """Entries that are run."""
        return [each for each in self.entries if not each.answered]

    def to_json(self) -> dict[str, Any]:
        """The plan as the command prints it."""
        to_do = self.to_do
        known = [each.estimated_s for each in to_do if each.estimated_s is not None]
        new = {
            part: len({getattr(each.depends, key) for each in to_do if part not in each.made})
            for part, key in (("ranking", "learned"), ("table", "table"))
        }
        return {
            "counts": dict(Counter(str(each.state) for each in self.entries)),
            "jobs": len(self.jobs),
            "rankings_to_make": new["ranking"],
            "tables_to_make": new["table"],
            "estimated_s": sum(known),
            "of_unknown_time": len(to_do) - len(known),
            "entries": [
                {
                    "name": each.entry.name, "state": each.state, "why": each.why, "made": list(each.made),
                    "estimated_s": each.estimated_s,
                }
                for each in self.entries
            ],
        }  # fmt: skip


def make_plan(entries: Sequence[Entry], out: Path) -> Plan:
    """Hold every entry against what lies in `out`. Nothing is written."""
    prints, before = Fingerprints(), read_rows(out)
    planned = [_planned(entry, prints.of(entry.options), before.get(entry.name)) for entry in entries]
    finished = [each.row for each in planned if each.state == "done"]
    shared = {"ranking": {row["learned"] for row in finished}, "table": {row["table"] for row in finished}}
    ready = [
        each if each.answered else replace(each, made=_made(each, shared), estimated_s=_seconds(each, finished))
        for each in planned
    ]
    return Plan(entries=tuple(ready), jobs=tuple(_jobs(ready)))


def _planned(entry: Entry, depends: Depends, before: Row | None) -> Planned:
    record = read_record(entry.options.out)
    blank = _blank(entry, depends)
    if record is not None and record["status"] in ANSWERED:
        changed = sorted(
            k for k in {*record["depends"], *depends.parts} if record["depends"].get(k) != depends.parts.get(k)
        )
        if not changed:
            state: State = "missed budget" if record["status"] == "missed budget" else "done"
            row: Row = {**record, "name": entry.name, "learned": depends.learned, "table": depends.table}
            return Planned(entry=entry, depends=depends, state=state, why="", row=row)
        why = depends.gone or f"other {' and '.join(changed)}"
        return Planned(entry=entry, depends=depends, state="changed", why=why, row=blank)
    gone = f"{depends.gone} is gone" if depends.gone else ""
    if before is not None and before["status"] == "failed":
        return Planned(entry=entry, depends=depends, state="failed", why=gone or before["error"] or "", row=blank)
    stopped = "stopped while it ran" if before is not None and before["status"] == "running" else ""
    return Planned(entry=entry, depends=depends, state="missing", why=gone or stopped, row=blank)


def _blank(entry: Entry, depends: Depends) -> Row:
    """The row of an entry that was not run yet."""
    options = entry.options
    return {
        "name": entry.name, "status": "waiting", "model": options.model, "target": options.target,
        "limits": options.budgets.limits(), "effort": options.effort, "depends": dict(depends.parts), "learned": depends.learned,
        "table": depends.table, "model_bytes": depends.model_bytes, "chosen": None, "budget": None, "front": [],
        "started": None, "ended": None, "seconds": None, "tries": 0, "error": None,
    }  # fmt: skip


def _made(each: Planned, shared: dict[str, set[str]]) -> tuple[str, ...]:
    keys = {"ranking": each.depends.learned, "table": each.depends.table}
    return tuple(part for part, key in keys.items() if key in shared[part])


def _seconds(each: Planned, finished: Sequence[Row]) -> float | None:
    """The median of what entries of models as large took at the same effort; None where there was none."""
    size = each.depends.model_bytes
    near = [
        row["seconds"]
        for row in finished
        if row["seconds"] is not None
        and row["effort"] == each.entry.options.effort
        and size
        and row["model_bytes"]
        and 1 / _NEAR <= row["model_bytes"] / size <= _NEAR
    ]
    return median(near) if near else None


def _jobs(entries: Sequence[Planned]) -> list[tuple[Planned, ...]]:
    """What is to be done: jobs of one model beside each other, those that a killed start was in last."""
    models = {each.depends.parts["model"]: i for i, each in reversed(list(enumerate(entries)))}
    jobs: dict[Any, list[Planned]] = {}
    for each in entries:
        if not each.answered:
            options = replace(each.entry.options, target="cpu", table=None, out=Path())
            jobs.setdefault(options, []).append(each)
    found = [tuple(job) for job in jobs.values()]
    return sorted(
        found, key=lambda job: (any(e.why.startswith("stopped") for e in job), models[job[0].depends.parts["model"]])
    )
