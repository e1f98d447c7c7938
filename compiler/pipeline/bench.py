"""`compile bench`: files timed against a baseline, alternating in one run, beside what the device can do at best."""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np

from compiler.export.files import sha256_of
from compiler.pipeline.monitor import Monitor
from compiler.report.artifact_path import artifact_path
from compiler.report.benchmark import SCHEMA_VERSION, AskedInfo, BenchFile, Benchmark, OperationsInfo, Verdict
from compiler.report.schema import PeakInfo, percentiles_ms, read_front, this_tool
from profilers import Plan, Runtime, Series, Workload, interleave, make_runtime
from profilers.energy import open_meter
from profilers.energy_model import measure_joules
from profilers.interval import median_interval
from profilers.memory import measure_taken_bytes
from profilers.onnx_file import UNKNOWN_VOCABULARY, Axis, OnnxFile, read_onnx_file
from profilers.operation_count import Operations, count_operations
from profilers.peak import Reached, measure_peak
from targets import Target, measure_fingerprint, present
from targets.bounds import check_number
from targets.errors import InputError, TargetError, VerificationError
from targets.json_file import is_there

RUNTIMES = ("onnxruntime", "tensorrt")
"""Those that open ONNX files."""

ROUNDS, BLOCK_S = 6, 0.45
"""Blocks of each file at least, and how long one lasts at most, for a network whose call takes milliseconds."""

PROCESSES = 2
"""In which each file is served to see what memory it takes; the worse one counts."""

SAME = 0.03
"""Files whose whole interval lies within this of no difference are the same; a wider interval around it is undecided."""

Interval = tuple[float, float] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchOptions:
    """What to time and how. None means: as the files fix it, else as the run was asked, else 1, 128 tokens, 1 thread.

    `seconds` is the time to spend on timing; six blocks of each file are taken in any case. `fail_if_slower` is a share of time.
    """

    paths: tuple[Path, ...]
    baseline: Path | None = None
    target: str = "cpu"
    runtime: str = "onnxruntime"
    batch: int | None = None
    seq_len: int | None = None
    threads: int | None = None
    seconds: float = 30.0
    fail_if_slower: float | None = None

    def __post_init__(self) -> None:
        for name in ("batch", "seq_len", "threads", "seconds"):
            check_number(f"--{name.replace('_', '-')}", getattr(self, name))
        if self.runtime not in RUNTIMES:
            raise InputError(f"{self.runtime!r} does not run ONNX files; known: {', '.join(RUNTIMES)}")


class Named(NamedTuple):
    """A file and its name in the benchmark: the id that its run gave it, or the file's own. A run tells its precision."""

    name: str
    path: Path
    precision: str | None = None


class Asked(NamedTuple):
    """How a run was asked."""

    batch: int = 1
    tokens: int = 128
    threads: int = 1


def bench(options: BenchOptions, monitor: Monitor) -> Benchmark:
    """Time all files. InputError where one cannot be read or run, TargetError where the target cannot be measured."""
    found, asked = find_files(options.paths, options.baseline)
    target = _target(options)
    files = [_read(file, target, options.runtime) for file in found]
    workload = agree(options, files, asked, target.precision)
    runtime = make_runtime(options.runtime, target)
    monitor.stage("count operations")
    operations = [count_operations(file.path, file.arrays(workload.batch, workload.tokens)) for file in files]
    monitor.stage("measure device peak")
    peak = measure_peak(target, workload.threads)
    monitor.stage("time files")
    start = time.monotonic()
    series = _time(files, runtime, workload, options.seconds, monitor)
    spent = time.monotonic() - start
    reached = [
        Reached(file.name, count.count, count.weight_bytes, file.precision, series[file.name].pooled.percentile_s(50))
        for file, count in zip(files, operations, strict=True)
    ]
    peak = peak.against(reached)
    monitor.stage("measure memory and energy")
    taken, missing = _take_stock(files, runtime, workload, target, monitor)
    return {
        "schema": SCHEMA_VERSION,
        "tool": this_tool(),
        "target": {"name": target.name, "fingerprint": measure_fingerprint(target, workload.threads).to_json()},
        "workload": cast("AskedInfo", {name: getattr(workload, name) for name in AskedInfo.__annotations__}),
        "seconds": round(spent, 2),
        "baseline": files[0].name,
        "fail_if_slower": options.fail_if_slower,
        "peak": cast("PeakInfo", peak.to_json()),
        "files": [
            _result(
                file,
                count,
                series[file.name],
                taken[file.name],
                workload,
                peak.share(run),
                None if file is files[0] else options.fail_if_slower,
            )
            for file, count, run in zip(files, operations, reached, strict=True)
        ],
        "notes": [*missing, *_notes(files, operations), *runtime.describe()["warnings"]],
    }


def _read(named: Named, target: Target, runtime: str) -> OnnxFile:
    """A file at the precision it runs in: its run's, else its own, else what TensorRT is asked to make of float weights."""
    file = read_onnx_file(named.path, named.name)
    built = target.precision if runtime == "tensorrt" and file.precision == "fp32" else file.precision
    return replace(file, precision=named.precision or built)


def _target(options: BenchOptions) -> Target:
    target = Target.parse(options.target).with_runtime(options.runtime)
    presence = present(target)
    if not presence:
        raise TargetError(f"{target.name} is not here ({presence.reason.splitlines()[0]})\nrun compile bench on one")
    return target


def find_files(paths: Sequence[Path], baseline: Path | None) -> tuple[list[Named], Asked]:
    """All files, the baseline first, each once and under a name of its own, and how the first run among them was asked.

    InputError where a folder is no run directory.
    """
    found, asked = [], []
    for path in paths:
        files, workload = _read_run(path) if path.is_dir() else ([Named(path.name, path)], None)
        found += files
        asked += [workload] if workload else []
    unique: dict[str, Named] = {}
    for file in (*found, *([Named(baseline.name, baseline)] if baseline else [])):
        unique.setdefault(_place(file.path), file)
    names = [file.name for file in unique.values()]
    named = [f if names.count(f.name) == 1 else f._replace(name=f.path.as_posix()) for f in unique.values()]
    first = _place(baseline or found[0].path)
    return sorted(named, key=lambda file: _place(file.path) != first), asked[0] if asked else Asked()


def _place(path: Path) -> str:
    """What tells a file from others, however it is written; a link that leads nowhere has one, too."""
    return os.path.realpath(path)


def _read_run(folder: Path) -> tuple[list[Named], Asked]:
    if not is_there(folder / "front.json"):
        raise InputError(
            f"{folder} is no run directory: it holds no front.json\ngive an ONNX file, or a folder that compile wrote"
        )
    front = read_front(folder)
    nets = (front["dense"], *front["candidates"])
    files = [Named(net["id"], artifact_path(folder, net), net["precision"]) for net in nets]
    asked = front["workload"]
    return files, Asked(asked["batch"], asked["tokens"], asked["threads"])


def agree(options: BenchOptions, files: Sequence[OnnxFile], asked: Asked, precision: str) -> Workload:
    """One workload for all files. InputError names a file that was exported for another size."""
    return Workload(
        batch=_size("--batch", options.batch, files, 0, asked.batch),
        tokens=_size("--seq-len", options.seq_len, files, 1, asked.tokens),
        threads=options.threads or asked.threads,
        precision=precision,
        runtime=options.runtime,
    )


def _size(flag: str, given: int | None, files: Sequence[OnnxFile], axis: Axis, default: int) -> int:
    fixed = {file.name: size for file in files if (size := file.fixed(axis)) is not None}
    size = given or next(iter(fixed.values()), default)
    for name, only in fixed.items():
        if only != size:
            raise InputError(
                f"{name} was exported for {flag} {only} only, the benchmark has {size}\n"
                f"ask for {flag} {only}, leave the file out, or export it with dynamic axes"
            )
    return size


def _time(
    files: Sequence[OnnxFile], runtime: Runtime, workload: Workload, seconds: float, monitor: Monitor
) -> dict[str, Series]:
    """Rounds until the time is up; the baseline is timed as a file too, so that its own noise is seen."""
    plan = Plan(
        min_rounds=ROUNDS, max_rounds=10_000, block_s=min(BLOCK_S, seconds / (ROUNDS * len(files))), min_turns=4,
        tolerance=0.0, time_cap_s=seconds,
    )  # fmt: skip
    start = time.monotonic()
    programs = [file.program() for file in files]
    return interleave(
        programs,
        programs[0],
        runtime,
        workload,
        plan=plan,
        seed=0,
        progress=lambda share: monitor.progress(min(share, (time.monotonic() - start) / seconds)),
    )


class Taken(NamedTuple):
    """Peak bytes of a process that serves a file, and joules a call; None where the device does not tell."""

    memory_bytes: int | None
    energy_j: float | None


def _take_stock(
    files: Sequence[OnnxFile], runtime: Runtime, workload: Workload, target: Target, monitor: Monitor
) -> tuple[dict[str, Taken], list[str]]:
    """What each file takes, and why something could not be told."""
    missing: dict[str, None] = {}

    def told(measure: Callable[[], Any]) -> Any:
        try:
            return measure()
        except TargetError as error:
            why = str(error).splitlines()[0]
            missing[f"{why[:1].upper()}{why[1:]}."] = None
            return None

    meter, taken = told(lambda: open_meter(target)), {}
    for done, file in enumerate(files, start=1):
        program, inputs = file.program(), file.arrays(workload.batch, workload.tokens)
        taken[file.name] = Taken(
            told(
                partial(measure_taken_bytes, file.path, program, inputs, runtime, workload, target, processes=PROCESSES)
            ),
            told(partial(measure_joules, runtime, program, workload, meter)) if meter else None,
        )
        monitor.progress(done / len(files))
    return taken, list(missing)


def _result(
    file: OnnxFile,
    operations: Operations,
    series: Series,
    taken: Taken,
    workload: Workload,
    share: float | None,
    limit: float | None,
) -> BenchFile:
    pooled = series.pooled
    ratios = series.ratio_to_reference()
    interval = median_interval(ratios)
    median_s = pooled.percentile_s(50)
    return {
        "name": file.name,
        "sha256": sha256_of(file.path),
        "bytes": file.size_bytes,
        "precision": file.precision,
        "latency_ms": percentiles_ms(pooled),
        "samples": len(pooled.samples_s),
        "blocks": len(series.blocks),
        "throughput_per_s": workload.batch / median_s,
        "speedup": float(np.median(ratios)),
        "speedup_interval": interval,
        "verdict": verdict(interval),
        "too_slow": limit is not None and too_slow(interval, limit),
        "memory_bytes": taken.memory_bytes,
        "energy_j": taken.energy_j,
        "operations": cast("OperationsInfo", operations.to_json()),
        "roofline_share": share,
    }


def verdict(interval: Interval) -> Verdict:
    """What a 95 % interval of the speed-up allows to say; nothing where there is none."""
    if interval is None:
        return "undecided"
    low, high = interval
    if low > 1:
        return "faster"
    if high < 1:
        return "slower"
    return "same within noise" if high <= 1 + SAME and low >= 1 / (1 + SAME) else "undecided"


def too_slow(interval: Interval, limit: float) -> bool:
    """Whether the whole interval of the time, relative to the baseline's, lies above 1 + `limit`."""
    return interval is not None and 1 / interval[1] > 1 + limit


def check_speed(found: Benchmark) -> None:
    """VerificationError that names the files which are too slow, beyond the noise."""
    slow = [file for file in found["files"] if file["too_slow"]]
    if slow:
        raise VerificationError(
            f"{len(slow)} of {len(found['files']) - 1} files take over {found['fail_if_slower']:.1%} more time than "
            f"{found['baseline']}\n{', '.join(map(_excess, slow))}"
        )


def _excess(file: BenchFile) -> str:
    assert file["speedup_interval"] is not None  # noqa: S101  without one nothing is too slow
    low, high = file["speedup_interval"]
    return f"{file['name']} {1 / file['speedup'] - 1:+.1%} (95 % interval {1 / high - 1:+.1%} to {1 / low - 1:+.1%})"


def _notes(files: Sequence[OnnxFile], operations: Sequence[Operations]) -> list[str]:
    notes = []
    for file, count in zip(files, operations, strict=True):
        if count.unknown:
            notes.append(
                f"{file.name}: operations of {_listed(count.unknown)} are not known; its share is a lower bound."
            )
        if file.vocabulary is None:
            notes.append(f"{file.name}: no embedding table was found; ids stay below {UNKNOWN_VOCABULARY}.")
    return notes


def _listed(names: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in names.items())
