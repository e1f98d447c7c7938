"""Runs what a plan says, job after job: what fails is tried again later or put down as failed, and the rest goes on."""

import errno
import gc
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from compiler.execution.ray_cluster import connected
from compiler.fleet.page import write_page
from compiler.fleet.plan import Plan, Planned
from compiler.fleet.record import (
    ANSWERED,
    TRACES,
    Fleet,
    Row,
    answered,
    drop_record,
    now,
    write_fleet,
    write_record,
)
from compiler.pipeline.monitor import Monitor, SilentMonitor
from compiler.pipeline.options import Options
from compiler.pipeline.outfolder import claimed
from compiler.pipeline.run import Missed, compile_each
from compiler.pipeline.workplace import workplace
from compiler.store import open_store
from compiler.store.disk import write_atomically
from targets import Target, present
from targets.errors import BudgetError, InputError, ParetocError, TargetError, printable, reason

TRIES = 3
"""How often an entry is tried whose error may pass."""

BACK_OFF_S = 15.0
"""Seconds until the second try; the third waits four times as long. Other jobs go on meanwhile."""

PAGE_EVERY_S = 20.0
"""How often, at most, the page is written while jobs go on."""

FAILED = 1
"""Exit code where an entry failed."""

_PASSING = {
    errno.EAGAIN, errno.EBUSY, errno.ECONNABORTED, errno.ECONNREFUSED, errno.ECONNRESET, errno.EHOSTUNREACH, errno.EINTR,
    errno.EIO, errno.EMFILE, errno.ENETUNREACH, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.ENOSPC, errno.EPIPE,
    errno.ESTALE, errno.ETIMEDOUT,
}  # fmt: skip
"""What the system says of what may be otherwise in a minute."""

Outcome = Mapping[str, Any] | BudgetError
"""The content of a front.json, or why nothing meets the budget."""


def compile_job(each: Sequence[Options]) -> list[Outcome]:
    """Compile one model for several targets; options differ in target, table and output folder only."""
    try:
        with workplace(each[0], each[1:]) as store:
            runs = compile_each(each, store, SilentMonitor())
    finally:
        gc.collect()  # networks that refer to themselves would wait for memory to run low
    return [run.error if isinstance(run, Missed) else run.content for run in runs]


def exit_code(rows: Sequence[Row]) -> int:
    """0 where every entry is done within its budget, 1 where one failed, else that of a missed budget."""
    statuses = {row["status"] for row in rows}
    if "failed" in statuses:
        return FAILED
    return BudgetError.exit_code if "missed budget" in statuses else 0


@dataclass(frozen=True, slots=True)
class _Job:
    """Entries that are run together, not before `ready_at` of the clock; `tries` were made of it."""

    entries: tuple[Planned, ...]
    ready_at: float = 0.0
    tries: int = 0


@dataclass(slots=True, kw_only=True)
class Campaign:
    """One start of a fleet. `compile_job`, `sleep` and `clock` can be replaced to see what it does without doing it."""

    plan: Plan
    out: Path
    file: str
    monitor: Monitor
    overwrite: bool = False
    compile_job: Callable[[Sequence[Options]], list[Outcome]] = compile_job
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic
    rows: dict[str, Row] = field(init=False)
    started: str = field(init=False, default="")
    page_at: float = field(init=False, default=0.0)

    def __post_init__(self) -> None:
        self.rows = {each.entry.name: each.row for each in self.plan.entries}

    def run(self) -> Fleet:
        """Run what is missing; the content of fleet.json.

        InputError where the folder, the cache or the cluster cannot be used at all. What fails in an entry is in its row.
        """
        self.started = now()
        jobs = [_Job(entries) for entries in self.plan.jobs]
        with claimed(self.out, overwrite=self.overwrite):
            if jobs:
                _check(jobs[0].entries[0].entry.options)
            self.monitor.stage("fleet")
            try:
                self._publish(page=True)
                while jobs:
                    job = self._next(jobs)
                    jobs = [*[other for other in jobs if other is not job], *self._attempt(job)]
                    self._publish(page=self.clock() - self.page_at > PAGE_EVERY_S)
            finally:
                for name, row in self.rows.items():
                    if (
                        row["status"] == "running"
                    ):  # Ctrl-C; of a process that was killed fleet.json still says that it ran
                        self.rows[name] = {**row, "status": "waiting"}
                found = self._publish(page=True)
        return found

    def _publish(self, *, page: bool) -> Fleet:
        """Write fleet.json, and the page where that is asked for."""
        found = write_fleet(self.out, self.file, self.started, list(self.rows.values()))
        if page:
            write_page(self.out, found)
            self.page_at = self.clock()
        left = sum(row["status"] in {"waiting", "running"} for row in self.rows.values())
        self.monitor.progress(1 - left / max(1, len(self.rows)))
        return found

    def _next(self, jobs: Sequence[_Job]) -> _Job:
        """The first job that is ready; where all have to wait, that which is ready first, when it is."""
        job = next((job for job in jobs if job.ready_at <= self.clock()), None)
        if job is None:
            job = min(jobs, key=lambda job: job.ready_at)
            self.sleep(max(0.0, job.ready_at - self.clock()))
        return job

    def _attempt(self, job: _Job) -> list[_Job]:
        """Do a job; what of it is still to be done."""
        begun, started = self.clock(), now()
        alone = len(job.entries) == 1
        for each in job.entries:
            self._set(each, status="running", started=started, tries=job.tries + 1)
            drop_record(each.entry.options.out)
        self._publish(page=False)
        try:
            outcomes = self.compile_job([each.entry.options for each in job.entries])
        except BaseException as error:  # noqa: BLE001  whatever a library raises is of its entry
            stop = _stop_in(error)
            if stop is not None:
                raise stop from None
            if not alone:  # one of them failed: each by itself says which
                for each in job.entries:
                    self._set(each, status="waiting", error=_said(error))
                return [_Job((each,), tries=job.tries) for each in job.entries]
            return self._failed(job, job.entries[0], error)
        seconds = (self.clock() - begun) / len(job.entries)
        for each, outcome in zip(job.entries, outcomes, strict=True):
            self._answer(each, outcome, seconds)
        return []

    def _set(self, each: Planned, **values: Any) -> Row:
        row = cast("Row", {**self.rows[each.entry.name], **values})
        self.rows[each.entry.name] = row
        return row

    def _answer(self, each: Planned, outcome: Outcome, seconds: float) -> None:
        """Keep what a run found."""
        row = self._set(each, ended=now(), seconds=seconds)
        if isinstance(outcome, BudgetError):
            row = {**row, "status": "missed budget", "budget": "missed", "error": str(outcome)}
        else:
            row = answered(row, outcome)
        self.rows[each.entry.name] = row
        write_record(each.entry.options.out, row)
        speedup = row["chosen"] and row["chosen"]["speedup"]
        self._tell(each, f"{row['status']} in {seconds:.0f} s" + (f", {speedup:.2f}x" if speedup else ""))

    def _failed(self, job: _Job, each: Planned, error: BaseException) -> list[_Job]:
        """Put an error down, or off."""
        said = _said(error)
        tries = job.tries + 1
        if tries < TRIES and _may_pass(error, each.entry.options):
            wait_s = BACK_OFF_S * 4 ** (tries - 1)
            self._set(each, status="waiting", error=said)
            self._tell(each, f"tried again in {wait_s:.0f} s: {said.splitlines()[0]}")
            return [_Job(job.entries, self.clock() + wait_s, tries)]
        if not isinstance(error, ParetocError):
            (self.out / TRACES).mkdir(exist_ok=True)
            trace = self.out / TRACES / f"{each.entry.name}.txt"
            write_atomically(trace, "".join(traceback.format_exception(error)).encode("utf-8", "backslashreplace"))
            said += f"\nthe trace is in {TRACES}/{trace.name}"
        self._set(each, status="failed", ended=now(), error=said)
        self._tell(each, f"failed: {said.splitlines()[0]}")
        return []

    def _tell(self, each: Planned, text: str) -> None:
        settled = sum(row["status"] in {*ANSWERED, "failed"} for row in self.rows.values())
        self.monitor.note(f"{settled}/{len(self.rows)} {each.entry.name}: {text}")


def _check(options: Options) -> None:
    """InputError where the cache or the cluster cannot be used: better once and now than in every entry."""
    open_store(options.cache, options.cache_bytes)
    if options.ray is not None:
        with connected(options.ray):
            pass


def _stop_in(error: BaseException) -> BaseException | None:
    """What asks the process to end (Ctrl-C), be it behind an error that a library made of it; None where an entry failed.

    Panics of Rust libraries are no Exceptions, and are errors of an entry all the same.
    """
    seen: set[int] = set()
    found: BaseException | None = error
    while found is not None and id(found) not in seen:
        if not isinstance(found, Exception) and type(found).__name__ != "PanicException":
            return found
        seen.add(id(found))
        found = found.__cause__ or found.__context__
    return None


def _said(error: BaseException) -> str:
    if isinstance(error, ParetocError):
        return str(error)
    return printable(f"{type(error).__name__}: {reason(error)}", 300)


def _may_pass(error: BaseException, options: Options) -> bool:
    """Whether trying again may help: the system was busy, or a device that is there was. A missing model stays missing."""
    if isinstance(error, TargetError):
        return options.ray is not None or options.runtime == "null" or bool(present(Target.parse(options.target)))
    if isinstance(error, InputError):  # the line that an error of the system became
        cause = error.__cause__ or error.__context__
        return isinstance(cause, OSError) and cause.errno in _PASSING
    return isinstance(error, OSError) and (error.errno is None or error.errno in _PASSING)
