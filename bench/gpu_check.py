"""Everything that only a CUDA GPU can show, in one prepared run of less than twelve minutes.

    make gpu-check                                          # on a machine with a GPU of the catalogue
    python bench/gpu_check.py --out results --parts tests resources
    python bench/gpu_check.py --rehearse                    # the same parts in small, on the CPU

Each part is a process of its own; seconds that it leaves are the next one's, and none keeps the others from their turn. After each
one, gpu_check.json is written with what it found, and gpu_check.tar.gz with its log and results. A part that has passed is not run
again: a run that was cut short goes on. Models have a published shape and random weights, texts are made up: costs depend on neither.
Exit code 0: all passed; 1: a part did not; 3: no GPU is here.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from gpu_parts import Part, Setting, parts_of, read_json
from output import write_json

from targets import Target, load_catalog, present
from targets.errors import TargetError

ROOT = Path(__file__).parents[1]
RECORD, ARCHIVE = "gpu_check.json", "gpu_check.tar.gz"
TOTAL_S = 700
REHEARSAL = 4
"""How many times the seconds a rehearsal has, on whatever machine it is."""

_KEPT = (".json", ".log")
_LARGE = ("inputs", "cache", "fresh")
"""Folders that do not go into the archive."""

Record = dict[str, Any]


def gpu_here() -> Target:
    """The GPU of the catalogue that is here. TargetError where none is."""
    gpus = [target for target in load_catalog().values() if target.kind == "gpu"]
    here = next((target for target in gpus if present(target)), None)
    if here is None:
        raise TargetError(f"no GPU of the catalogue is here: {present(gpus[0]).reason}".replace("\n", "; "))
    return here


def run_part(part: Part, folder: Path, limit_s: float) -> Record:
    """One part to its end, or until its seconds are over; its output goes to output.log."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    start, log = time.monotonic(), folder / "output.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            part.command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True
        )  # fmt: skip
        try:
            rc, timed_out = process.wait(limit_s), False
        except subprocess.TimeoutExpired:
            rc, timed_out = None, True
        finally:
            _end(process)
    record: Record = {
        "rc": rc,
        "timed_out": timed_out,
        "seconds": round(time.monotonic() - start, 1),
        "limit_s": round(limit_s),
    }
    try:
        record["figures"] = part.figures()
    except (OSError, ValueError, LookupError, TypeError) as error:  # it wrote none, or not all
        record["figures_missing"] = f"{type(error).__name__}: {error}"
    return record | ({} if rc == 0 else {"output": log.read_text(encoding="utf-8", errors="replace")[-4000:]})


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End it and what it started, if it still runs."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def passed(record: Record | None) -> bool:
    """Whether a part has run to its end, or has no place here."""
    return record is not None and (record.get("rc") == 0 or "missing" in record)


class Results:
    """What was found so far: in the folder of work, and where the results are wanted."""

    def __init__(self, about: Mapping[str, Any], work: Path, out: Path) -> None:
        """Goes on from earlier results about the same."""
        self.about, self.work, self.out = dict(about), work, out
        file = work / RECORD
        earlier = read_json(file) if file.exists() else {}
        self.parts: dict[str, Record] = earlier["parts"] if earlier.get("about") == self.about else {}

    def put(self, name: str, record: Record) -> None:
        """Record a part and write everything anew."""
        tries = self.parts.get(name, {}).get("tries", 0) + 1
        self.parts[name] = {"at": datetime.now(UTC).isoformat(timespec="seconds"), "tries": tries, **record}
        write_json(self.work / RECORD, {"about": self.about, "parts": self.parts})
        with tarfile.open(self.work / ARCHIVE, "w:gz") as archive:
            for path in sorted(self.work.rglob("*")):
                inside = path.relative_to(self.work)
                if path.suffix in _KEPT and inside.parts[0] not in _LARGE:
                    archive.add(path, str(inside))
        self.out.mkdir(parents=True, exist_ok=True)
        for name_ in (RECORD, ARCHIVE) if self.out != self.work else ():
            shutil.copyfile(self.work / name_, self.out / name_)


def run(parts: Iterable[Part], results: Results, total_s: float) -> int:
    """Every part that has not passed before; 1 where one does not now.

    A part has to end by the sum of its own seconds and of those before it.
    """
    start, due_s, failed = time.monotonic(), 0.0, False
    for part in parts:
        if passed(results.parts.get(part.name)):
            _say(f"{part.name}: passed before")
            continue
        due_s += part.timeout_s
        limit_s = min(due_s, total_s) - (time.monotonic() - start)
        if part.missing:
            record: Record = {"missing": part.missing}
        elif limit_s < 1:
            record = {"rc": None, "not_started": "no time was left"}
        else:
            record = run_part(part, results.work / part.name, limit_s)
        results.put(part.name, record)
        failed = failed or not passed(record)
        told = {key: value for key, value in record.items() if key not in ("figures", "output")}
        _say(f"{part.name}: {'passed' if passed(record) else 'FAILED'} {told}")
    return int(failed)


def _importable(work: Path) -> None:
    """What the parts import is the tree; where paretoc is not installed, its version is given a place to be read from."""
    try:
        metadata.version("paretoc")
        told = []
    except metadata.PackageNotFoundError:
        version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
        folder = work / "site" / f"paretoc-{version}.dist-info"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: paretoc\nVersion: {version}\n", encoding="utf-8"
        )
        told = [str(work / "site")]
    known = filter(None, [os.environ.get("PYTHONPATH")])
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *told, *known])


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def main(arguments: Sequence[str] | None = None, *, make: Callable[[Setting], list[Part]] = parts_of) -> int:
    """Run what was asked for; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=None, help=f"where {RECORD} and {ARCHIVE} go (--work if left out)")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "gpu-check", help="where parts write and go on")
    parser.add_argument("--parts", nargs="+", default=None, help="these alone, in their own order")
    parser.add_argument("--total-s", type=float, default=TOTAL_S, help="seconds of all parts")
    parser.add_argument("--rehearse", action="store_true", help="small sizes on the CPU")
    asked = parser.parse_args(arguments)
    try:
        gpu = None if asked.rehearse else gpu_here()
    except TargetError as error:
        _say(f"{error}; --rehearse runs the same parts in small on the CPU")
        return error.exit_code
    work = (asked.work / "rehearsal" if asked.rehearse else asked.work).resolve()
    setting = Setting.of(gpu, work)
    parts = make(setting)
    unknown = {*(asked.parts or ())} - {part.name for part in parts}
    if unknown:
        parser.error(f"no part is called {', '.join(sorted(unknown))}; known: {', '.join(part.name for part in parts)}")
    os.environ["PARETOC_CACHE"] = str(work / "cache")  # read by the parts
    _importable(work)
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    about = {"rehearsal": asked.rehearse, "target": setting.target, "precision": setting.precision}
    results = Results(about, work, (asked.out or work).resolve())
    wanted, more = (
        [p for p in parts if asked.parts is None or p.name in asked.parts],
        REHEARSAL if asked.rehearse else 1,
    )
    return run([replace(p, timeout_s=more * p.timeout_s) for p in wanted], results, more * asked.total_s)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the part in progress ends, too
    sys.exit(main())
