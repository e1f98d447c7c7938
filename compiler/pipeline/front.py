"""The run directory's data: front.json, candidates.csv, training.csv, run.json, and a model card for each network."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

from compiler.evaluation import Quality
from compiler.pipeline.device import Device
from compiler.pipeline.networks import Evaluated, Measured
from compiler.pipeline.options import Options
from compiler.pipeline.pricing import Pricing
from compiler.pipeline.shapes import shape_json
from compiler.pipeline.subject import Subject
from compiler.pipeline.verdicts import Verdict
from compiler.report.card import read_base_card, write_cards
from compiler.report.schema import SCHEMA_VERSION, Front, percentiles_ms, this_tool, write_front
from compiler.store.store import write_atomically
from profilers import CostTable
from profilers.interval import median_interval
from profilers.peak import Peak, Reached


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Everything a finished run has to say. `grid` has the best network's speed-ups at other workloads."""

    options: Options
    subject: Subject
    device: Device
    table: CostTable
    pricing: Pricing
    dense: Measured
    winners: Sequence[Measured]
    verdicts: Mapping[str, Verdict]
    best: Measured
    grid: Sequence[Mapping[str, Any]]
    evaluated: Sequence[Evaluated]
    front: Sequence[Evaluated]
    notes: Sequence[str]
    timings_s: Mapping[str, float]
    model_errors: Mapping[str, Any]
    peak: Peak | None
    training: Sequence[Mapping[str, Any]]
    doubt: str | None = None


def _metric(name: str, validation: Quality, test: Quality) -> dict[str, Any]:
    others = {n: {"validation": validation.others[n], "test": test.others[n]} for n in validation.others}
    return {
        "name": name,
        "validation": validation.metric,
        "test": test.metric,
        "standard_error": {"validation": validation.deviation, "test": test.deviation},
        "others": others,
    }


def _same_as(winner: Measured, outcome: Outcome) -> list[str]:
    """The candidates whose metric on validation cannot be told from this one's, example by example."""
    others = (w for w in (outcome.dense, *outcome.winners) if w.id != winner.id)
    return [w.id for w in others if not w.validation.differs(winner.validation)]


def _measured(winner: Measured) -> dict[str, Any] | None:
    if winner.series is None:
        return None
    pooled = winner.series.pooled
    return {
        "latency_ms": percentiles_ms(pooled),
        "samples": len(pooled.samples_s),
        "memory_bytes": winner.memory_bytes,
        "energy_j": winner.energy_j,
        "throughput_per_s": winner.throughput_per_s,
        "throughput_batch": winner.batch,
    }


def _predicted(winner: Measured, outcome: Outcome) -> dict[str, Any]:
    subnet, costs = winner.subnet, winner.costs
    estimate = outcome.pricing.of(winner.form).estimate(subnet.shape, subnet.width)
    return {
        "latency_ms": estimate.value * 1e3,
        "source": estimate.source,
        "memory_bytes": costs.get("memory"),
        "energy_j": costs.get("energy"),
        "throughput_per_s": 1 / costs["throughput"] if "throughput" in costs else None,
    }


def _reached(winner: Measured, outcome: Outcome) -> Reached | None:
    """The encoder's arithmetic and weights, and the measured p50; None where it was not measured."""
    if winner.series is None:
        return None
    counted = outcome.pricing.of(winner.form).latency.operations(winner.subnet.counts)
    moved = max(winner.artifact.size_bytes - _stem_bytes(winner, outcome), 0.0)
    return Reached(winner.id, float(counted[0]), moved, winner.precision, winner.series.pooled.median_s)


def _with_checked_peak(outcome: Outcome) -> Outcome:
    """The outcome with its peak held against every measured network."""
    if outcome.peak is None:
        return outcome
    runs = [_reached(w, outcome) for w in (outcome.dense, *outcome.winners)]
    return replace(outcome, peak=outcome.peak.against(run for run in runs if run is not None))


def _roofline_share(winner: Measured, outcome: Outcome) -> float | None:
    """The least time that the device's own peak allows, over the measured one."""
    run = _reached(winner, outcome)
    return None if outcome.peak is None or run is None else outcome.peak.share(run)


def _stem_bytes(winner: Measured, outcome: Outcome) -> float:
    """Of a file; a call reads a few rows of an embedding table, never the whole."""
    stem = outcome.subject.checkpoint.architecture.outside_parameters(winner.subnet.width)
    return stem * winner.artifact.size_bytes / winner.parameters


def _artifact(winner: Measured, out: Path) -> dict[str, Any]:
    artifact = winner.artifact
    return {
        "path": artifact.path.relative_to(out).as_posix(),
        "sha256": artifact.sha256,
        "bytes": artifact.size_bytes,
        "opset": artifact.opset,
        "attention_nodes": artifact.attention_nodes,
        "parity_max_abs_error": artifact.parity_error,
        "tensorrt": artifact.tensorrt,
    }


def _same_precision(winner: Measured, outcome: Outcome) -> float | None:
    """Speed-up over the dense model at the winner's own precision: what structure alone has gained."""
    dense = next((w for w in outcome.winners if w.id == f"dense-{winner.precision}"), outcome.dense)
    return None if winner.speedup is None or dense.speedup is None else winner.speedup / dense.speedup


def _shape(found: Evaluated, outcome: Outcome) -> dict[str, Any]:
    return shape_json(outcome.subject.checkpoint.architecture, found.subnet.shape, found.subnet.width)


def candidate(winner: Measured, outcome: Outcome) -> dict[str, Any]:
    """One candidate as `front.json` has it."""
    verdict = outcome.verdicts[winner.id]
    return {
        "id": winner.id,
        "shape": _shape(winner, outcome),
        "error": winner.validation.error,
        "metric": _metric(outcome.subject.metric.name, winner.validation, winner.test),
        "changes": {split: changes.to_json() for split, changes in winner.changes.items()} or None,
        "same_as": _same_as(winner, outcome),
        "predicted": _predicted(winner, outcome),
        "measured": _measured(winner),
        "roofline_share": _roofline_share(winner, outcome),
        "parameters": winner.parameters,
        "speedup": winner.speedup,
        "speedup_interval": median_interval(winner.speedups),
        "speedup_same_precision": _same_precision(winner, outcome),
        "precision": winner.precision,
        "exceptions": [block._asdict() for block in winner.form.exceptions],
        "grid": list(outcome.grid) if winner.id == outcome.best.id else [],
        "budget": {"status": verdict.status, "limits": dict(verdict.limits)},
        "artifact": _artifact(winner, outcome.options.out),
    }


def _data(subject: Subject) -> dict[str, Any]:
    data = subject.data
    return {
        "source": data.source,
        "train_examples": len(data.train),
        "validation_examples": len(data.validation),
        "test_examples": len(data.test),
        "notes": list(data.notes),
    }


def _workload(device: Device) -> dict[str, Any]:
    traffic = None
    if device.demand is not None:
        of_it = device.demand.traffic
        traffic = {"tokens": list(of_it.tokens), "shares": list(of_it.shares), "replayed": list(device.served.lengths)}
    return {**device.workload.to_json(), "traffic": traffic}


def _model(subject: Subject, dense: Measured) -> dict[str, Any]:
    a = subject.checkpoint.architecture
    return {
        "name": subject.checkpoint.name,
        "family": a.family.name,
        "layers": a.layers,
        "heads": a.heads,
        **({} if a.apart is None else {"queries": a.queries}),
        "ffn_units": a.ffn_units,
        "hidden_size": a.hidden_size,
        "parameters": dense.parameters,
    }


def _carried_from(table: CostTable) -> dict[str, list[str]]:
    """Names of the tables that this one was carried over from, with the devices they were measured on; empty without any."""
    origins = [row["from"] for row in table.how.get("transfers", ())]
    named = (" on ".join(origin[name] for name in ("name", "device") if name in origin) for origin in origins)
    found = [name for name in dict.fromkeys(named) if name]
    return {"carried_from": found} if found else {}


def front_json(outcome: Outcome) -> dict[str, Any]:
    """The whole of `front.json` (`compiler.report.schema.Front`)."""
    o, subject, device, table = outcome.options, outcome.subject, outcome.device, outcome.table
    error = None if table.error is None else asdict(table.error)
    return {
        "schema": SCHEMA_VERSION,
        "tool": this_tool(),
        "model": _model(subject, outcome.dense),
        "task": subject.task.name,
        "metric": {
            "name": subject.metric.name,
            "higher_is_better": subject.metric.scale.higher_is_better,
            **({} if subject.metric.scale.higher_is_better else {"scale": subject.metric.scale.name}),
            "description": subject.metric.description,
        },
        "data": _data(subject),
        "workload": {**_workload(device), "percentile": o.percentile},
        "target": {
            "name": device.target.name,
            "precision": device.target.precision,
            "present": device.here,
            "fingerprint": device.fingerprint.to_json() if device.here else table.fingerprint.to_json(),
        },
        "effort": subject.effort,
        "space": o.space,
        "search": o.method(subject.effort),
        "objectives": list(o.objectives),
        "seed": o.seed,
        "table": {
            "source": table.source,
            "entries": len(table.entries),
            "at_bends": table.at_bends,
            "seconds": table.seconds,
            "error": error,
            **_carried_from(table),
        },
        "models": dict(outcome.model_errors),
        "peak": outcome.peak.to_json() if outcome.peak else None,
        "dense": candidate(outcome.dense, outcome),
        "candidates": [candidate(w, outcome) for w in outcome.winners],
        "best": outcome.best.id,
        "evaluated": len(outcome.evaluated),
        "doubt": outcome.doubt,
        "notes": list(outcome.notes),
        "timings_s": {name: round(seconds, 2) for name, seconds in outcome.timings_s.items()},
    }


_COLUMNS = {"memory": "memory_bytes", "energy": "energy_j", "throughput": "seconds_per_sequence"}


def _rows(outcome: Outcome) -> str:
    on_front = {f.id for f in outcome.front}
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    others = [name for name in ("memory", "energy", "throughput") if name in outcome.dense.costs]
    apart = any(found.trained < 1 for found in outcome.evaluated)
    widths = ["hidden_size"] if outcome.options.space == "width" else []
    queries = [] if outcome.subject.checkpoint.architecture.apart is None else ["queries"]
    writer.writerow([
        "id", "error", "standard_error", "examples", "latency_ms", "latency_source", "precision", "in_fp32", "parameters", *map(_COLUMNS.get, others),
        *(["trained_share"] if apart else []), "heads", *queries, "ffn_units", *widths, "on_front",
    ])  # fmt: skip
    for found in outcome.evaluated:
        shape = _shape(found, outcome)
        writer.writerow([
            found.id,
            f"{found.quality.error:.6f}",
            "" if found.quality.standard_error is None else f"{found.quality.standard_error:.6f}",
            len(found.quality.values),
            f"{found.latency_s * 1e3:.6f}",
            outcome.pricing.of(found.form).estimate(found.subnet.shape, found.subnet.width).source,
            found.precision,
            "; ".join(map(str, found.form.exceptions)),
            found.parameters,
            *(f"{found.costs[name]:.6g}" for name in others),
            *([f"{found.trained:.6g}"] if apart else []),
            *(" ".join(map(str, shape[name])) for name in ("heads", *queries, "ffn_units")),
            *(str(shape.get(name, outcome.subject.checkpoint.architecture.hidden_size)) for name in widths),
            int(found.id in on_front),
        ])  # fmt: skip
    return text.getvalue()


def _training_rows(outcome: Outcome) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(outcome.training[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(outcome.training)
    return text.getvalue()


def _run_json(outcome: Outcome, front: Mapping[str, Any]) -> dict[str, Any]:
    options = {k: str(v) if isinstance(v, Path) else v for k, v in asdict(outcome.options).items()}
    for private in ("out", "overwrite", "cache", "cache_bytes", "table", "model", "data"):
        options.pop(private)
    hashes = {c["id"]: c["artifact"]["sha256"] for c in (front["dense"], *front["candidates"])}
    return {
        "schema": SCHEMA_VERSION,
        "tool": front["tool"],
        "model": {"name": outcome.subject.checkpoint.name, "digest": outcome.subject.checkpoint.digest},
        "data": {"source": outcome.subject.data.source, "sha256": outcome.subject.data.sha256},
        "options": options,
        "fingerprint": front["target"]["fingerprint"],
        "timings_s": front["timings_s"],
        "artifacts_sha256": hashes,
    }


def write_run(outcome: Outcome) -> dict[str, Any]:
    """Write front.json, candidates.csv, run.json, the model cards and the `best` link; the content of front.json.

    Where something was trained, training.csv has its losses.
    """
    outcome, out = _with_checked_peak(outcome), outcome.options.out
    front = front_json(outcome)
    write_atomically(out / "candidates.csv", _rows(outcome).encode())
    if outcome.training:
        write_atomically(out / "training.csv", _training_rows(outcome).encode())
    write_atomically(out / "run.json", (json.dumps(_run_json(outcome, front), indent=1) + "\n").encode())
    write_front(out, cast("Front", front))
    write_cards(out, cast("Front", front), read_base_card(outcome.subject.checkpoint.folder))
    _link(out / "best", outcome.best.id)
    return front


def _link(link: Path, name: str) -> None:
    """A link for people; where the file system has none, front.json still names the best."""
    try:
        if link.is_symlink():  # what else has that name is somebody's own
            link.unlink()
        link.symlink_to(name)
    except OSError:
        return
