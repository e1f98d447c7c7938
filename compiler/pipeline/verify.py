"""`compile verify`: what a run says of its files, checked again, and measured again where its target is here."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np

from compiler.evaluation.changes import TELLING
from compiler.export import check_attention, check_graph, compare, load_sliced, odd_inputs, read_origin, sha256_of
from compiler.export.foreign import NOT_COMPARED, held_against_libraries
from compiler.export.parity import TOLERANCES, in_float64
from compiler.export.tensorrt import require_coverage
from compiler.families import Checkpoint
from compiler.pipeline.bench import RUNTIMES
from compiler.pipeline.listed import check_code, check_list
from compiler.pipeline.monitor import Monitor
from compiler.pipeline.resources import PROCESSES
from compiler.pipeline.shapes import shape_json
from compiler.report.artifact_path import artifact_path
from compiler.report.card import read_base_card, write_cards
from compiler.report.html import write_report
from compiler.report.manifest import read_with_digest, refresh
from compiler.report.scale import scale_of
from compiler.report.schema import (
    CandidateInfo,
    ChangesInfo,
    Front,
    PeakInfo,
    percentiles_ms,
    read_front,
    this_tool,
    write_front,
)
from compiler.report.verification import SCHEMA_VERSION, Check, Timing, Verification
from compiler.spaces import Shape
from profilers import LayerSizes, Plan, Runtime, Series, Workload, interleave, make_runtime
from profilers.interval import median_interval
from profilers.memory import measure_taken_bytes
from profilers.onnx_file import OnnxFile, read_onnx_file
from profilers.operation_count import count_operations
from profilers.peak import Peak, Reached, measure_peak
from targets import Target, present
from targets.errors import InputError, ParetocError, VerificationError, printable

_PLAN = Plan(min_rounds=4, max_rounds=8, time_cap_s=30.0)


def verify(folder: Path, *, timing: bool, monitor: Monitor, manifest_sha256: str | None = None) -> Verification:
    """Check every network of a run directory, and time those with a budget (else the best) on the run's target.

    A run for a target that was not there and now is gets its measurements, where all checks passed: front.json, cards, the
    report and the list of files are written anew. `manifest_sha256` is what that list must have. InputError where the folder
    is no run.
    """
    if manifest_sha256 is not None and not re.fullmatch("[0-9a-fA-F]{64}", manifest_sha256):
        raise InputError("--manifest-sha256 takes 64 hexadecimal digits, as compile prints them")
    front = read_front(folder)
    nets = [front["dense"], *front["candidates"]]
    monitor.stage("check files")
    checks = list(check_list(folder, front, manifest_sha256))
    for done, net in enumerate(nets, start=1):
        checks += _file_checks(folder, front, net)
        monitor.progress(done / len(nets))
    timings: list[Timing] = []
    peak: Peak | None = None
    notes: list[str] = []
    intact = {net["id"] for net in nets} - {check["net"] for check in checks if check["passed"] is False}
    why_not = _why_not(front, timing=timing, intact="dense" in intact)
    if why_not:
        checks.append({"net": "all", "what": "budget", "passed": None, "detail": why_not})
    else:
        timed = [net for net in nets if net["id"] in intact and _is_timed(front, net)]
        found = _measure(folder, front, timed, monitor)
        timings, peak, notes = found.timings, found.peak, found.warnings
        if all(check["passed"] is not False for check in checks):
            _upgrade(folder, front, found)
        checks += found.budget
    return {
        "schema": SCHEMA_VERSION,
        "tool": this_tool(),
        "passed": all(check["passed"] is not False for check in checks),
        "checks": checks,
        "timings": timings,
        "peak": None if peak is None else cast("PeakInfo", peak.to_json()),
        "notes": notes,
        "manifest_sha256": _digest(folder),
    }


def _digest(folder: Path) -> str | None:
    try:
        return read_with_digest(folder)[1]
    except InputError:
        return None


def check_passed(found: Verification) -> None:
    """VerificationError that names what failed."""
    failed = [check for check in found["checks"] if check["passed"] is False]
    if failed:
        named = [f"{check['net']}: {check['what']}: {check['detail']}" for check in failed]
        more = [f"and {len(named) - 1} more"] if len(named) > 2 else named[1:]
        raise VerificationError("\n".join([f"{len(failed)} of {len(found['checks'])} checks failed", named[0], *more]))


def _shape(net: CandidateInfo) -> Shape:
    return tuple(map(LayerSizes, net["shape"]["heads"], net["shape"]["ffn_units"]))


def _file_checks(folder: Path, front: Front, net: CandidateInfo) -> Iterator[Check]:
    """The file's bytes, its graph, its attention, and what it computes; after a failure the rest is left unchecked."""
    path = artifact_path(folder, net)
    load = cache(partial(load_sliced, path.parent))
    code = check_code(folder, front, net, load)
    yield code
    ways: Mapping[str, Callable[[], str]] = {
        "file": lambda: _same_bytes(path, net),
        "graph": lambda: _valid(path),
        "attention": lambda: f"{check_attention(path, _shape(net))} Attention nodes",
        "parity": lambda: _parity(path, net, load()),
        "libraries": lambda: _libraries(path, load(), code),
    }
    if (path.parent / "tensorrt").is_dir():
        ways = {**ways, "tensorrt": lambda: _covered(path)}
    failed = ""
    for what, way in ways.items():
        if failed:
            yield {"net": net["id"], "what": what, "passed": None, "detail": f"not checked: {failed} failed"}
            continue
        try:
            detail = way()
            yield {
                "net": net["id"],
                "what": what,
                "passed": None if detail.startswith(NOT_COMPARED) else True,
                "detail": detail,
            }
        except ParetocError as error:
            failed = what
            yield {"net": net["id"], "what": what, "passed": False, "detail": str(error).splitlines()[0]}
        except Exception as error:  # noqa: BLE001  whatever a library makes of a file that was damaged
            failed = what
            said = f"{type(error).__name__}: {str(error).strip().split(chr(10), 1)[0]}"
            yield {"net": net["id"], "what": what, "passed": False, "detail": printable(said, 200)}


def _libraries(path: Path, saved: Checkpoint, code: Check) -> str:
    """The checkpoint in the libraries that others load it with; they run the code beside it, so that must be ours."""
    return held_against_libraries(path.parent, saved) if code["passed"] else f"{NOT_COMPARED}: the code is not ours"


def _same_bytes(path: Path, net: CandidateInfo) -> str:
    if not path.is_file():
        raise VerificationError(f"{net['artifact']['path']} is missing")
    found = sha256_of(path)
    if found != net["artifact"]["sha256"]:
        raise VerificationError(f"{net['artifact']['path']} is not the file that was written: sha-256 {found[:12]}…")
    return f"sha-256 {found[:12]}…"


def _valid(path: Path) -> str:
    check_graph(path)
    return "onnx.checker, with shape inference"


def _covered(path: Path) -> str:
    coverage = require_coverage(path)
    return f"{coverage.status} (TensorRT {coverage.version})"


def _parity(path: Path, net: CandidateInfo, saved: Checkpoint) -> str:
    """The file against the checkpoint beside it, rebuilt by our own code."""
    width = read_origin(path.parent).subnet.width
    if shape_json(saved.architecture, saved.architecture.shape, width) != net["shape"]:
        raise VerificationError(f"{net['id']}/subnet.json describes another network than front.json")
    inputs = odd_inputs(saved.input_names, saved.architecture, saved.tokenizer.pad_token_id)
    own = saved.model
    worst = compare(path, lambda given: own(**given), in_float64(own), inputs, TOLERANCES[net["precision"]])
    return f"largest difference from its checkpoint {worst:.1e}"


def _why_not(front: Front, *, timing: bool, intact: bool) -> str:
    """Why nothing is timed; empty where it is."""
    name = front["target"]["name"]
    if not timing:
        return "not timed: --no-timing"
    if not intact:
        return "not timed: the dense model, the baseline of every ratio, is not intact"
    if front["workload"]["runtime"] == "null":
        return "not timed: the null device has no clock"
    if front["workload"]["runtime"] not in RUNTIMES:
        return f"not timed: {front['workload']['runtime']} does not run ONNX files"
    presence = present(Target.parse(name))
    return "" if presence else f"not timed: {name} is not here ({presence.reason.splitlines()[0]})"


def _is_timed(front: Front, net: CandidateInfo) -> bool:
    judged = net["budget"]["status"] in {"met", "predicted"}
    return net["id"] in {front["dense"]["id"], front["best"]} or net["measured"] is None or judged


def _workload(front: Front) -> Workload:
    asked = front["workload"]
    traffic = asked["traffic"]
    return Workload(
        batch=asked["batch"], tokens=asked["tokens"], threads=asked["threads"], precision="fp32",
        runtime=asked["runtime"], lengths=tuple(traffic["replayed"]) if traffic else (),
    )  # fmt: skip


class _Measured(NamedTuple):
    """What was timed, whether budgets hold, what the device can do at best, and what was wrong with it meanwhile."""

    timings: list[Timing]
    budget: list[Check]
    peak: Peak
    warnings: list[str]


def _measure(folder: Path, front: Front, nets: Sequence[CandidateInfo], monitor: Monitor) -> _Measured:
    """Every network's timing against the dense one, and whether its budget holds."""
    target = Target.parse(front["target"]["name"]).with_runtime(front["workload"]["runtime"])
    runtime, workload = make_runtime(front["workload"]["runtime"], target), _workload(front)
    files = {net["id"]: _file(folder, net) for net in nets}
    monitor.stage("measure device peak")
    peak = measure_peak(target, workload.threads)
    monitor.stage("time files")
    programs = [file.program() for file in files.values()]
    series = interleave(programs, programs[0], runtime, workload, plan=_PLAN, seed=0, progress=monitor.progress)
    timings, checks = [], []
    reached = {name: _reached(file, series[name], workload) for name, file in files.items()}
    peak = peak.against(run for run in reached.values() if run is not None)
    for net in nets:
        own, file, run = series[net["id"]], files[net["id"]], reached[net["id"]]
        timing = _timing(net, own, None if run is None else peak.share(run))
        timings.append(timing)
        if not net["budget"]["limits"] or net["budget"]["status"] == "missed":
            continue
        broken = list(_broken(net, front, timing, own, partial(_memory, file, runtime, workload, target)))
        detail = "; ".join(broken) or f"{timing['speedup']:.2f}x, {timing['latency_ms']['p50']:.3g} ms"
        checks.append(Check(net=net["id"], what="budget", passed=not broken, detail=detail))
    return _Measured(timings, checks, peak, list(runtime.describe()["warnings"]))


def _file(folder: Path, net: CandidateInfo) -> OnnxFile:
    return replace(read_onnx_file(artifact_path(folder, net), net["id"]), precision=net["precision"])


def _reached(file: OnnxFile, series: Series, workload: Workload) -> Reached | None:
    """What a call computes and moves, and its median; None where calls are of many lengths."""
    if workload.lengths:
        return None
    counted = count_operations(file.path, file.arrays(workload.batch, workload.tokens))
    return Reached(file.name, counted.count, counted.weight_bytes, file.precision, series.pooled.median_s)


def _timing(net: CandidateInfo, series: Series, share: float | None) -> Timing:
    ratios, pooled = series.ratio_to_reference(), series.pooled
    return {
        "net": net["id"],
        "latency_ms": percentiles_ms(pooled),
        "samples": len(pooled.samples_s),
        "speedup": float(np.median(ratios)),
        "speedup_interval": median_interval(ratios),
        "was": net["speedup"],
        "roofline_share": share,
    }


def _memory(file: OnnxFile, runtime: Runtime, workload: Workload, target: Target) -> int | None:
    inputs = file.arrays(workload.batch, max(workload.lengths, default=workload.tokens))
    return measure_taken_bytes(file.path, file.program(), inputs, runtime, workload, target, processes=PROCESSES)


def _broken(
    net: CandidateInfo, front: Front, timing: Timing, series: Series, memory: Callable[[], int | None]
) -> Iterator[str]:
    """Every limit that is surely broken: by more than the noise of this measurement, where there is noise."""
    limits, noise = net["budget"]["limits"], 1 + 2 * series.error
    percentile = front["workload"]["percentile"]
    latency = timing["latency_ms"][percentile]
    if latency > limits.get("max_latency_ms", np.inf) * noise:
        yield f"{percentile} is {latency:.3g} ms, allowed {limits['max_latency_ms']:.3g}"
    if timing["speedup"] * noise < limits.get("min_speedup", 0.0):
        yield f"{timing['speedup']:.2f}x the dense model's speed, promised {limits['min_speedup']:.2f}x"
    if "max_memory_bytes" in limits and (taken := memory()) is not None and taken > limits["max_memory_bytes"]:
        yield f"{taken / 1e6:.4g} MB, allowed {limits['max_memory_bytes'] / 1e6:.4g}"
    yield from _dropped(net["metric"]["validation"], front, limits)
    if changes := (net.get("changes") or {}).get("validation"):
        yield from _changed(changes, limits)


def _changed(changes: ChangesInfo, limits: Mapping[str, float]) -> Iterator[str]:
    """Limits on what is decided otherwise than by the dense model that are broken by what the run found."""
    if changes["flips"] > limits.get("max_flips", 1.0):
        yield f"{changes['flips']:.2%} of the answers flip, allowed {limits['max_flips']:.2%}"
    telling = [group for group in changes["classes"] if group["count"] >= TELLING]
    worst = max(telling, key=lambda group: group["drop"], default=None)
    if worst is not None and worst["drop"] > limits.get("max_class_drop", 1.0):
        yield f"{worst['name']} loses {worst['drop']:.2%} of its answers, allowed {limits['max_class_drop']:.2%}"


def _dropped(metric: float, front: Front, limits: Mapping[str, float]) -> Iterator[str]:
    """A metric that does not keep the share of the dense model's that was promised."""
    if "max_drop" not in limits:
        return
    scale, kept, dense = scale_of(front), 1 - limits["max_drop"], front["dense"]["metric"]["validation"]
    if not scale.keeps(metric, kept, dense):
        yield f"metric {metric:.4f}, promised {scale.least(kept, dense):.4f}"


def _upgrade(folder: Path, front: Front, found: _Measured) -> None:
    """What was only predicted is measured now: front.json, the model cards and the report say so."""
    judged = {check["net"]: check["passed"] for check in found.budget}
    predicted = [net for net in (front["dense"], *front["candidates"]) if net["measured"] is None]
    if not predicted:
        return
    timed = {timing["net"]: timing for timing in found.timings}
    for net in predicted:
        timing = timed[net["id"]]
        net["measured"] = {
            "latency_ms": timing["latency_ms"], "samples": timing["samples"], "memory_bytes": None, "energy_j": None,
            "throughput_per_s": None, "throughput_batch": None,
        }  # fmt: skip
        net["roofline_share"] = timing["roofline_share"]
        net["speedup"] = timing["speedup"]
        net["speedup_interval"] = list(timing["speedup_interval"]) if timing["speedup_interval"] else None
        if net["id"] in judged:
            net["budget"]["status"] = "met" if judged[net["id"]] else "missed"
    front["peak"] = cast("PeakInfo", found.peak.to_json())
    front["notes"] += ["measured by compile verify, after the run", *found.warnings]
    write_front(folder, front)
    write_cards(folder, front, read_base_card(folder / "dense"))
    write_report(folder)
    cards = [
        f"{Path(net['artifact']['path']).parent.as_posix()}/README.md" for net in (front["dense"], *front["candidates"])
    ]
    refresh(folder, ["front.json", "report.html", *cards])
