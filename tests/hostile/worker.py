"""One input in one forked process: limits of memory, file size and time, output into files, and what came of it."""

import faulthandler
import gc
import json
import os
import resource
import shutil
import signal
import sys
import time
import traceback
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.hostile.cases import Case
from tests.hostile.edits import CANARY
from tests.hostile.hooks import REACHED, Notes, shorten, stop_early
from tests.hostile.snapshot import State, snapshot, touched

MOST_FILE_BYTES = 256 * 2**20
MOST_BYTES = 1536 * 2**20
"""Memory of a worker beyond what its parent holds."""

WRITABLE = ("out", "out.json", "cache")
WRITES_IN_ITS_INPUT = {
    "report": ("report.html", "manifest.json"),
    "verify": ("report.html", "front.json", "manifest.json"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of one input. `code` is None where it was ended; `why` then says by what. `reading`: it was refused while reading."""

    code: int | None
    why: str
    reading: bool
    error: str
    out: str
    err: str
    trace: str
    touched: tuple[str, ...]
    seconds: float
    most_bytes: int
    processor_s: float = 0.0

    @property
    def reached(self) -> bool:
        """Whether it was accepted and stopped on purpose."""
        return self.code == REACHED


class Slot:
    """A place for one worker at a time: a folder with the canary, and in it the input of the moment."""

    def __init__(self, folder: Path, seeds: Path) -> None:
        self.folder, self.seeds, self.case_folder = folder, seeds, folder / "case"
        folder.mkdir(parents=True)
        self._set_canary()
        self.pid, self.started, self.limit_s, self.most_bytes = 0, 0.0, 0.0, 0
        self.case: Case | None = None
        self.ended = ""

    def _set_canary(self) -> None:
        shutil.rmtree(self.folder / CANARY, ignore_errors=True)
        shutil.copytree(self.seeds / "others", self.folder / CANARY, symlinks=True)
        self.canary = snapshot(self.folder / CANARY)

    def start(self, case: Case, limit_s: float) -> None:
        """Fork a worker for the case."""
        _clear(self.case_folder)
        for name in ("in", "tmp", "cwd"):
            (self.case_folder / name).mkdir(parents=True)
        if snapshot(self.folder / CANARY) != self.canary:  # the one before changed it
            self._set_canary()
        self.case, self.limit_s, self.started, self.most_bytes, self.ended = case, limit_s, time.monotonic(), 0, ""
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            _child(case, self)

    def poll(self, base_bytes: int) -> Outcome | None:
        """The outcome once the worker has ended; one over its limits is ended here."""
        pid, status, used = os.wait4(self.pid, os.WNOHANG)
        if pid == 0:
            self._watch(base_bytes)
            return None
        seconds = time.monotonic() - self.started
        _kill_group(self.pid)
        code = os.waitstatus_to_exitcode(status)
        why = self.ended or (f"signal {-code}" if code < 0 else "")
        return replace(
            self._outcome(None if code < 0 else code, why, seconds), processor_s=used.ru_utime + used.ru_stime
        )

    def _watch(self, base_bytes: int) -> None:
        taken = _resident_bytes(self.pid) - base_bytes
        self.most_bytes = max(self.most_bytes, taken)
        if self.ended:
            return
        over_time, over_memory = time.monotonic() - self.started > self.limit_s, taken > MOST_BYTES
        if over_time or over_memory:
            self.ended = "time" if over_time else "memory"
            os.kill(self.pid, signal.SIGUSR1)  # faulthandler writes where it is
            time.sleep(0.3)
            _kill_group(self.pid)

    def _outcome(self, code: int | None, why: str, seconds: float) -> Outcome:
        folder, case = self.case_folder, self.case
        assert case is not None
        note = _read_json(folder / "note.json")
        before: State = {name: tuple(state) for name, state in _read_json(folder / "before.json").items()}
        changes = [f"canary: {what}" for what in touched(self.canary, snapshot(self.folder / CANARY))]
        if before:
            changes += [what for what in touched(before, _inputs(folder)) if not _is_ours(case, what)]
        if note.get("code") is not None and (left := sorted(p.name for p in (folder / "tmp").iterdir())):
            changes.append(f"left in the folder for temporary files: {', '.join(left[:3])}")
        return Outcome(
            code=code, why=why, reading=bool(note.get("reading")), error=str(note.get("error", "")), out=_text(folder / "stdout"),
            err=_text(folder / "stderr"), trace=str(note.get("trace", "")) or _text(folder / "stack"), touched=tuple(changes),
            seconds=seconds, most_bytes=self.most_bytes,
        )  # fmt: skip


def _is_ours(case: Case, what: str) -> bool:
    """Whether a change is one that was asked for: a report in a run, a pruned cache, what a flag or variable names."""
    name = what.split(" ", 1)[1]
    names_output = {"--out", "--cache", "-o"} & set(case.flags) or any(
        variable == "PARETOC_CACHE" for variable, _ in case.environment
    )
    if name.startswith("cwd/") or (what.startswith("made") and not name.startswith(f"in/{case.part}/")):
        return bool(names_output)
    if case.verb == "cache" and case.base == "cache":
        return name.startswith("in/cache/")
    return any(name.endswith(f"/{own}") for own in WRITES_IN_ITS_INPUT.get(case.verb, ()))


def _inputs(folder: Path) -> State:
    """The input and the working folder."""
    states = {"in": snapshot(folder / "in", leave_out=WRITABLE), "cwd": snapshot(folder / "cwd")}
    return {f"{part}/{name}": state for part, found in states.items() for name, state in found.items()}


def _clear(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)


def _text(path: Path, most: int = 400_000) -> str:
    try:
        with path.open("rb") as file:
            return file.read(most).decode("utf-8", errors="surrogateescape")
    except OSError:
        return ""


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_bytes()))
    except (OSError, ValueError):
        return {}


def _resident_bytes(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text("ascii").split()[1]) * resource.getpagesize()
    except (OSError, IndexError):
        return 0


def _kill_group(pid: int) -> None:
    for kill in (os.killpg, os.kill):
        try:
            kill(pid, signal.SIGKILL)
        except OSError:
            continue


def _child(case: Case, slot: Slot) -> None:
    """Run the command line and end the process; never returns."""
    folder = slot.case_folder
    code = 70
    try:
        _isolate(folder, slot.folder / CANARY / "home")
        arguments = case.prepare(slot.seeds, folder / "in")
        for name, value in case.environment:
            os.environ[name] = value.replace("<in>", str(folder / "in"))
        (folder / "before.json").write_text(json.dumps(_inputs(folder)), encoding="utf-8")
        notes = Notes()
        notes.watch()
        if not case.whole:
            stop_early(case.verb)
        shorten(case.verb)
        (folder / "arguments.json").write_text(json.dumps(arguments), encoding="utf-8")
        code = _run(arguments, notes, folder)
    except BaseException:  # noqa: BLE001  the parent must see it, whatever it is
        (folder / "note.json").write_text(
            json.dumps({"trace": traceback.format_exc(), "error": "harness"}), encoding="utf-8"
        )
    finally:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(code)


def _run(arguments: list[str], notes: Notes, folder: Path) -> int:
    from compiler.cli import main

    found: dict[str, Any] = {}
    try:
        code = main(arguments)
    except BaseException as error:  # noqa: BLE001  a traceback is what is looked for
        found = {"trace": traceback.format_exc(), "error": type(error).__name__}
        traceback.print_exc()
        code = 1
    found |= {"code": code, "reading": notes.reading or not notes.stack, "stack": notes.stack}
    (folder / "note.json").write_text(json.dumps(found), encoding="utf-8")
    return code


def _isolate(folder: Path, home: Path) -> None:
    """A session, output, home, working and temporary folder of its own, and limits."""
    os.setsid()
    for number, name in ((1, "stdout"), (2, "stderr")):
        handle = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(handle, number)
    null = os.open("/dev/null", os.O_RDONLY)
    os.dup2(null, 0)
    os.chdir(folder / "cwd")
    os.environ |= {"HOME": str(home), "TMPDIR": str(folder / "tmp"), "PARETOC_CACHE": str(folder / "default-cache")}
    import tempfile

    tempfile.tempdir = None
    resource.setrlimit(resource.RLIMIT_FSIZE, (MOST_FILE_BYTES, MOST_FILE_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    virtual = int(Path("/proc/self/statm").read_text("ascii").split()[0]) * resource.getpagesize()
    most = virtual + 3 * MOST_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    faulthandler.register(signal.SIGUSR1, file=(folder / "stack").open("w"), all_threads=True)


def freeze() -> int:
    """Make forks cheap; the parent's own memory in bytes."""
    gc.collect()
    gc.freeze()
    return _resident_bytes(os.getpid())
