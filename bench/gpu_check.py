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
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from output import write_json

from profilers import make_runtime
from targets import Target, load_catalog, present
from targets.errors import TargetError

ROOT = Path(__file__).parents[1]
RECORD, ARCHIVE = "gpu_check.json", "gpu_check.tar.gz"
TOTAL_S = 700
_KEPT = (".json", ".log")
_LARGE = ("inputs", "cache", "fresh")
"""Folders that do not go into the archive."""

Figures = dict[str, Any]
Record = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A command, the seconds that it has, how its figures are read, and why it cannot run here (empty: it can)."""

    name: str
    command: Sequence[str]
    timeout_s: float
    figures: Callable[[], Figures] = dict
    missing: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """On what the parts run: a target, a precision, two models (a small and a large one), and where they write."""

    target: str
    precision: str
    small: str
    large: str
    device: str
    work: Path

    @classmethod
    def of(cls, gpu: Target | None, work: Path) -> "Setting":
        """On a GPU the real sizes at fp16; without one a rehearsal."""
        if gpu is None:
            return cls(target="cpu", precision="fp32", small="tiny", large="tiny", device="cpu", work=work)
        return cls(target=gpu.name, precision="fp16", small="minilm-shape", large="bert-base", device="cuda", work=work)


def gpu_here() -> Target:
    """The GPU of the catalogue that is here. TargetError where none is."""
    gpus = [target for target in load_catalog().values() if target.kind == "gpu"]
    here = next((target for target in gpus if present(target)), None)
    if here is None:
        raise TargetError(f"no GPU of the catalogue is here: {present(gpus[0]).reason}".replace("\n", "; "))
    return here


def parts_of(at: Setting) -> list[Part]:
    """What runs, in this order: what the later ones take longest to tell comes last."""
    return [
        Part(
            name="inputs", timeout_s=40,
            command=_bench("generated.py", "--models", *dict.fromkeys((at.small, at.large)), "--out", at.work / "inputs"),
        ),
        Part(
            name="tests", timeout_s=110, figures=lambda: _tests(at.work / "tests" / "output.log"),
            command=[sys.executable, "-m", "pytest", "tests/gpu", "-q", "-ra", "-p", "no:cacheprovider"],
        ),
        _compile(at, "compile-small", at.small, timeout_s=260),
        _tables(at, "tables-small", at.small, timeout_s=50, precisions=at.precision, nets=40, rounds=1),
        _tables(at, "tables-large", at.large, timeout_s=130, precisions=f"{at.precision},fp32", nets=20, rounds=1),
        _compile(at, "compile-large", at.large, timeout_s=90, table=True),
        Part(
            name="resources", timeout_s=40, figures=lambda: {"rows": _read(at.work / "resources" / "resources.json")},
            command=_bench(
                "gpu_resources.py", "--models", *dict.fromkeys((at.small, at.large)), "--target", at.target,
                "--precision", at.precision, "--json", at.work / "resources" / "resources.json",
            ),
        ),
        _tables(at, "tables-onnxruntime", at.small, timeout_s=60, precisions=at.precision, nets=20, rounds=1, runtime="onnxruntime"),
    ]  # fmt: skip


def _bench(script: str, *arguments: object) -> list[str]:
    return [sys.executable, f"bench/{script}", *map(str, arguments)]


def _tables(
    at: Setting, name: str, model: str, *, timeout_s: float, precisions: str, nets: int, rounds: int, runtime: str = "torch"
) -> Part:  # fmt: skip
    folder = at.work / name
    return Part(
        name=name, timeout_s=timeout_s, figures=lambda: {"tables": [_table_row(row) for row in _read(folder / "tables.json")]},
        missing=_missing(at, runtime),
        command=_bench(
            "tables.py", "--models", model, "--target", at.target, "--runtime", runtime, "--precision", precisions, "--nets", nets,
            "--rounds", rounds, "--check-rounds", 2, "--block-s", 0.1, "--json", folder / "tables.json", "--tables", folder,
            "--cache", at.work / "cache",
        ),
    )  # fmt: skip


def _missing(at: Setting, runtime: str) -> str:
    try:
        make_runtime(runtime, Target.parse(at.target))
    except TargetError as error:
        return str(error).splitlines()[0]
    return ""


def _compile(at: Setting, name: str, model: str, *, timeout_s: float, table: bool = False) -> Part:
    """The fast path; from nothing, or with the table that was measured before."""
    out, tables = at.work / name / "out", at.work / "tables-large"
    told = ("--table", tables / f"{at.target}-{model}.json") if table else ("--profile", "full")
    command = (
        sys.executable, "-m", "compiler", "compile", at.work / "inputs" / model, "--data", at.work / "inputs" / "texts.txt",
        "--task", "embedding", "--target", at.target, "--runtime", "torch", "--precision", at.precision, "--effort", "fast",
        "--device", at.device, "--winners", 3, "--cache", at.work / ("cache" if table else "fresh"), "--out", out, "--overwrite",
        "--accept-noisy-table", *told,
    )  # fmt: skip
    return Part(
        name=name,
        command=list(map(str, command)),
        timeout_s=timeout_s,
        figures=lambda: _front(_read(out / "front.json")),
    )


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _front(front: Mapping[str, Any]) -> Figures:
    """Seconds of every stage, the table's error, and what was found."""
    found = [
        {name: c[name] for name in ("id", "metric", "speedup", "parameters", "precision")} for c in front["candidates"]
    ]
    return {
        "timings_s": front["timings_s"], "table": front["table"], "best": front["best"], "candidates": found,
        "target": front["target"], "notes": front["notes"],
    }  # fmt: skip


def _table_row(row: Mapping[str, Any]) -> Figures:
    return {name: value for name, value in row.items() if name not in ("checks", "fingerprint")}


def _tests(log: Path) -> Figures:
    """How many passed, failed, were skipped."""
    counts = re.findall(r"(\d+) (passed|failed|skipped|errors?)", log.read_text(encoding="utf-8").splitlines()[-1])
    return {name: int(count) for count, name in counts}


def run_part(part: Part, folder: Path, limit_s: float) -> Record:
    """One part to its end, or until its seconds are over; its output goes to output.log."""
    folder.mkdir(parents=True, exist_ok=True)
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
        earlier = _read(file) if file.exists() else {}
        self.parts: dict[str, Record] = earlier["parts"] if earlier.get("about") == self.about else {}

    def put(self, name: str, record: Record) -> None:
        """Record a part and write everything anew."""
        self.parts[name] = {"at": datetime.now(UTC).isoformat(timespec="seconds"), **record}
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
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    about = {"rehearsal": asked.rehearse, "target": setting.target, "precision": setting.precision}
    results = Results(about, work, (asked.out or work).resolve())
    return run([p for p in parts if asked.parts is None or p.name in asked.parts], results, asked.total_s)


if __name__ == "__main__":
    sys.exit(main())
