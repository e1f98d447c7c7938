"""From the front to files: which networks are kept, their final weights, their artefacts, their measurements."""

import contextlib
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from compiler.evaluation import Quality
from compiler.export import Artifact, ModelWorkbench, write_artifact
from compiler.export.serving import Accelerator, write_bundles
from compiler.export.tensorrt import shape_profile, write_recipe
from compiler.families import Checkpoint
from compiler.families.checkpoint import digest_of
from compiler.pipeline.device import Device
from compiler.pipeline.hunt import Found, Hunt
from compiler.pipeline.judge import judged_in
from compiler.pipeline.limits import MARGIN
from compiler.pipeline.measuring import StoreRecorder
from compiler.pipeline.monitor import Monitor
from compiler.pipeline.options import Budgets, Options
from compiler.pipeline.outfolder import install, writing
from compiler.pipeline.resources import Resources
from compiler.search import BELOW, spread_out
from compiler.spaces import Form
from compiler.store import Store, key_of
from profilers import OutOfMemoryError, Plan, Program, Series, Workload, interleave
from targets import STATIC
from targets.errors import BudgetError

KEPT_METRIC, KEPT_LIKENESS = 0.99, 0.90
"""Share of the dense model's metric that `best` keeps where no budget says otherwise."""

WORTH = 0.5
"""Share of the best metric on a front below which a network is written only where too few others are there; it may yet be
polished."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Winner:
    """A kept network with its final metrics and, once written and measured, its artefact and what it takes.

    `read` gives its final weights: those of all winners together may not fit into memory.
    `memory_bytes` is the peak of a process that serves it, `energy_j` a call's, `throughput_per_s` that at the predicted
    best `batch`: None where the run did not ask.
    """

    found: Found
    read: Callable[[], Mapping[str, Tensor]]
    validation: Quality
    test: Quality
    artifact: Artifact | None = None
    series: Series | None = None
    memory_bytes: int | None = None
    energy_j: float | None = None
    throughput_per_s: float | None = None
    batch: int | None = None
    grid: tuple[dict[str, Any], ...] = ()

    @property
    def id(self) -> str:
        """Its name in the run."""
        return self.found.id

    @property
    def speedups(self) -> list[float]:
        """Dense over this network, block by block; empty where nothing was measured."""
        return [] if self.series is None else self.series.ratio_to_reference()

    @property
    def speedup(self) -> float | None:
        """Median speed-up over the dense model, the two alternating in one run."""
        return float(np.median(self.speedups)) if self.speedups else None

    @property
    def peak_bytes(self) -> float | None:
        """Peak of a process that serves it: measured, else predicted, where the run asked."""
        return self.memory_bytes or self.found.costs.get("memory")

    def latency_s(self, percentile: str) -> float | None:
        """Measured latency percentile ("p50", ...), in seconds."""
        return None if self.series is None else self.series.pooled.percentile_s(float(percentile[1:]))


def choose(front: Sequence[Found], limits: Mapping[str, float], count: int, along: str = "latency") -> list[Found]:
    """At most `count` networks of a front, in even ratios of one of its objectives; below the limits where there are some.

    The best just below the limits are always among them, and so are the best a little further below (`BELOW`): the prediction has
    an error, and it is much the same for networks of one cost. What keeps less than `WORTH` of the best metric leaves its
    place to networks that are of use.
    """
    within = _within(front, limits, MARGIN)
    best = sorted(within or front[:1], key=lambda f: f.quality.error)
    least = WORTH * max(f.quality.metric for f in front)
    pool = best[: max(count, sum(f.quality.metric >= least for f in best))]
    must = [f for share in (1.0, *BELOW) for f in _within(best, limits, MARGIN * share)[:1] if limits]
    spread = [pool[i] for i in spread_out(np.log([f.costs[along] for f in pool]), count)]
    chosen = {f.id: f for f in (*must, *spread)}
    return sorted(list(chosen.values())[:count], key=lambda f: f.latency_s)


def _within(found: Sequence[Found], limits: Mapping[str, float], share: float) -> list[Found]:
    """Those that are predicted to take no more than this share of every limit."""
    return [f for f in found if all(f.costs[name] <= limit * share for name, limit in limits.items())]


def dense_elsewhere(hunt: Hunt, dense: Found) -> list[Found]:
    """The whole network in the other forms searched: what a candidate of theirs has to beat."""
    others = [form for form in hunt.forms if form != dense.form]
    return [hunt.costed(_dense_name(form), dense.subnet, form, dense.quality) for form in others]


def _dense_name(form: Form) -> str:
    return f"dense-{form.precision}-part" if form.exceptions else f"dense-{form.precision}"


def finish(hunt: Hunt, chosen: Sequence[Found], monitor: Monitor) -> list[Winner]:
    """Final weights of the chosen networks and their metrics on validation and test."""
    weights = hunt.learned.weights
    kept = list(dict.fromkeys((found.subnet, found.trained) for found in chosen))
    weights.finish(kept, monitor.progress)
    for found in chosen:
        weights.log(found.subnet, found.trained, found.id)
    return weights.of_each(
        lambda found: scored(hunt, found, partial(weights.final, found.subnet, found.trained)), chosen
    )


def scored(hunt: Hunt, found: Found, read: Callable[[], Mapping[str, Tensor]]) -> Winner:
    """A winner with its metrics on both splits, from the store where these very weights were scored before."""
    splits, parameters = (hunt.learned.validation, hunt.learned.test), read()
    about = hunt.subject.key(examples=[len(split.batches) for split in splits])
    key = key_of([about, found.subnet.digest, digest_of(parameters), str(judged_in(found.form))])
    stored = hunt.store.get("scored", key)
    if stored is None:
        run = hunt.judge.served(found.subnet, parameters, found.form)
        stored = [split.quality(run).to_json() for split in splits]
        hunt.store.put("scored", key, stored)
    validation, test = map(Quality.from_json, stored)
    return Winner(found=found, read=read, validation=validation, test=test)


def write(winner: Winner, out: Path, hunt: Hunt, budgets: Budgets) -> Winner:
    """Write a winner's files and check them."""
    artifact = write_artifact(
        out / winner.id, hunt.bench, winner.found.subnet, winner.read(), hunt.learned.validation.batches,
        _metadata(winner, hunt, budgets), winner.found.form,
    )  # fmt: skip
    return replace(winner, artifact=artifact)


def _metadata(winner: Winner, hunt: Hunt, budgets: Budgets) -> dict[str, str]:
    """What a file says of itself; `labels` and `budget` are JSON."""
    checkpoint, shape = hunt.subject.checkpoint, winner.found.subnet.shape
    made_with = ("paretoc", "torch", "transformers", "onnx", "onnxscript")
    width = winner.found.subnet.width
    return {
        "producer": "paretoc",
        "made_with": ", ".join(f"{name} {version(name)}" for name in made_with),
        "task": checkpoint.task,
        "labels": json.dumps([] if checkpoint.task == "embedding" else checkpoint.label_names),
        "base_model": checkpoint.name,
        "heads": " ".join(str(sizes.heads) for sizes in shape),
        "ffn_units": " ".join(str(sizes.ffn_units) for sizes in shape),
        **({} if width is None else {"hidden_size": str(width)}),
        f"validation_{hunt.subject.metric.name}": f"{winner.validation.metric:.6f}",
        "budget": json.dumps(budgets.limits()),
    }


TIMING = {
    "fast": Plan(min_rounds=3, max_rounds=8, time_cap_s=10.0),
    "balanced": Plan(min_rounds=4, max_rounds=8, time_cap_s=45.0),
    "thorough": Plan(min_rounds=4, max_rounds=8, time_cap_s=45.0),
}
"""How long the finished files are timed, by effort."""


def add_recipe(winner: Winner, device: Device, longest: int) -> Winner:
    """A winner with a TensorRT recipe beside its file. VerificationError where TensorRT's parser would not take the file."""
    assert winner.artifact is not None  # noqa: S101  it was written
    path, asked = winner.artifact.path, device.workload
    batch = max((asked.batch, *device.batches))
    coverage = write_recipe(path.parent / "tensorrt", path, shape_profile(batch, asked.tokens, longest))
    return replace(winner, artifact=replace(winner.artifact, tensorrt=coverage.status))


def add_bundles(winner: Winner, device: Device, checkpoint: Checkpoint) -> None:
    """Write beside a winner's file what servers need to serve it."""
    assert winner.artifact is not None  # noqa: S101  it was written
    path = winner.artifact.path
    write_bundles(
        path.parent / "serving", path, checkpoint, runs_on=runs_on(device.target.kind, winner.found.precision), threads=device.workload.threads,
        cpus=device.fingerprint.cpu_count, usual=(device.workload.batch, device.workload.tokens),
    )  # fmt: skip


def installed(winners: Sequence[Winner], out: Path) -> list[Winner]:
    """The same with their files in the output folder, in the place of an earlier run's."""
    install(out)
    return [replace(winner, artifact=_moved(winner, out)) for winner in winners]


def _moved(winner: Winner, out: Path) -> Artifact:
    assert winner.artifact is not None  # noqa: S101  it was written
    return replace(winner.artifact, path=out / winner.artifact.path.relative_to(writing(out)))


def runs_on(kind: str, precision: str) -> Accelerator:
    """What a device of a kind serves a file of a precision with."""
    if kind != "gpu":
        return "cpu"
    return "tensorrt" if precision == STATIC else "cuda"


def _program(winner: Winner, bench: ModelWorkbench) -> Program:
    source = None if winner.artifact is None else winner.artifact.path
    return bench.program(winner.id, winner.found.subnet, source, winner.found.precision)


def _alternate(
    timed: Sequence[Winner],
    dense: Winner,
    bench: ModelWorkbench,
    device: Device,
    store: Store,
    workload: Workload,
    plan: Plan,
    seed: int,
    progress: Callable[[float], None] = lambda _: None,
) -> dict[str, Series]:
    """Time files against the dense one, alternating in one run; blocks are kept for this very run and no other."""
    assert device.runtime is not None  # noqa: S101  called for devices that are here only
    about = {
        "files": [w.artifact.sha256 for w in (dense, *timed) if w.artifact is not None],
        "fingerprint": device.fingerprint.to_json(),
        "workload": workload.to_json(),
        "target": str(device.target),
        "plan": repr(plan),
    }
    return interleave(
        [_program(w, bench) for w in timed],
        _program(dense, bench),
        device.runtime,
        workload,
        plan=plan,
        seed=seed,
        recorder=StoreRecorder(store, about),
        progress=progress,
    )


def measure(
    nets: Sequence[Winner],
    bench: ModelWorkbench,
    device: Device,
    store: Store,
    options: Options,
    monitor: Monitor,
    plan: Plan,
) -> list[Winner]:
    """Time the final files against the first of them, the dense one, alternating in one run."""
    dense = nets[0]
    series = _alternate(nets, dense, bench, device, store, device.served, plan, options.seed, monitor.progress)
    return [replace(net, series=series[net.id]) for net in nets]


def measure_resources(
    winners: Sequence[Winner],
    resources: Resources,
    wanted: Collection[str],
    monitor: Monitor,
) -> list[Winner]:
    """Memory and energy of the final files, each alone, as the run asked for them."""
    done = []
    for winner in winners:
        assert winner.artifact is not None  # noqa: S101  it was written
        program, precision = _program(winner, resources.bench), winner.found.precision
        memory = resources.peak_bytes(program, winner.artifact.path, precision) if "memory" in wanted else None
        energy = resources.joules(program, precision) if "energy" in wanted else None
        done.append(replace(winner, memory_bytes=memory, energy_j=energy))
        monitor.progress(len(done) / len(winners))
    return done


def measure_throughput(
    winners: Sequence[Winner],
    dense: Winner,
    hunt: Hunt,
    device: Device,
    store: Store,
    options: Options,
    monitor: Monitor,
) -> list[Winner]:
    """Sequences a second of the final files, each at the batch that is predicted to give most, against the dense one."""
    batches = {w.id: hunt.best_batch(w.found) for w in winners}
    plan = Plan(min_rounds=2, max_rounds=2)
    rates: dict[str, float] = {}
    for batch in sorted(set(batches.values())):
        group = [w for w in winners if batches[w.id] == batch]
        series = _alternate(group, dense, hunt.bench, device, store, device.in_batches(batch), plan, options.seed)
        rates |= {w.id: batch / series[w.id].median_s for w in group}
        monitor.progress(len(rates) / len(winners))
    return [replace(w, throughput_per_s=rates[w.id], batch=batches[w.id]) for w in winners]


def measure_grid(
    winners: Sequence[Winner],
    dense: Winner,
    bench: ModelWorkbench,
    device: Device,
    store: Store,
    options: Options,
    monitor: Monitor,
) -> list[Winner]:
    """Speed-ups at batch 1 and 8, 32 and 128 tokens, one and all threads; each cell alternates with the dense model."""
    from targets import usable_cpus

    tokens = [t for t in (32, 128) if t <= bench.checkpoint.architecture.max_tokens]
    threads = [1] if device.target.kind == "gpu" else sorted({1, usable_cpus()})
    cells = [(b, t, n) for b in (1, 8) for t in tokens for n in threads]
    grids: dict[str, list[dict[str, Any]]] = {w.id: [] for w in winners}
    plan = Plan(min_rounds=1, max_rounds=1, block_s=0.2, min_turns=5)
    for i, (batch, length, count) in enumerate(cells):
        workload = replace(device.workload, batch=batch, tokens=length, threads=count)
        with contextlib.suppress(OutOfMemoryError):  # a cell that the device's memory does not hold stays empty
            series = _alternate(winners, dense, bench, device, store, workload, plan, options.seed)
            for name, cell in series.items():
                grids[name].append(_cell(workload, cell))
        monitor.progress((i + 1) / len(cells))
    return [replace(w, grid=tuple(grids[w.id])) for w in winners]


def _cell(workload: Workload, series: Series) -> dict[str, Any]:
    speedup = float(np.median(series.ratio_to_reference()))
    return {
        "batch": workload.batch,
        "tokens": workload.tokens,
        "threads": workload.threads,
        "latency_ms": series.median_s * 1e3,
        "dense_latency_ms": series.reference_s * 1e3,
        "speedup": speedup,
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether one winner meets the budgets, on measurement or (`predicted`) on the table."""

    status: str
    limits: Mapping[str, float]


def judge(winner: Winner, dense: Winner, budgets: Budgets, percentile: str) -> Verdict:
    """Hold a winner against the budgets."""
    limits = budgets.limits()
    measured = winner.series is not None
    latency = winner.latency_s(percentile) if measured else winner.found.latency_s
    memory = winner.peak_bytes
    speedup = winner.speedup if measured else dense.found.latency_s / winner.found.latency_s
    assert latency is not None  # noqa: S101  one of the two exists
    assert speedup is not None  # noqa: S101
    met = (
        (budgets.max_latency_s is None or latency <= budgets.max_latency_s)
        and (budgets.min_speedup is None or speedup >= budgets.min_speedup)
        and (budgets.max_memory_bytes is None or memory is None or memory <= budgets.max_memory_bytes)
        and (budgets.max_drop is None or winner.validation.metric >= dense.validation.metric * (1 - budgets.max_drop))
    )
    if not limits:
        return Verdict(status="none", limits=limits)
    if not met:
        return Verdict(status="missed", limits=limits)
    certain = measured and (budgets.max_memory_bytes is None or winner.memory_bytes is not None)
    return Verdict(status="met" if certain else "predicted", limits=limits)


def best_of(
    winners: Sequence[Winner], dense: Winner, verdicts: Mapping[str, Verdict], budgets: Budgets, *, keep: float
) -> Winner:
    """What the budgets select: the least error under a budget of latency or memory, the fastest under a bound on the error.

    Without budgets: the fastest that keeps the share `keep` of the dense metric, else that of least error. Of those which
    validation cannot tell from the least error it is the fastest. BudgetError naming the nearest candidate where none
    meets the budgets.
    """
    allowed = [w for w in winners if verdicts[w.id].status != "missed"]
    if not allowed:
        raise BudgetError(_nearest(winners, dense))
    if any(limit is not None for limit in (budgets.max_latency_s, budgets.min_speedup, budgets.max_memory_bytes)):
        return _most_accurate(allowed)
    share = keep if budgets.max_drop is None else 1 - budgets.max_drop
    keeping = [w for w in allowed if w.validation.metric >= share * dense.validation.metric]
    return min(keeping, key=_cost) if keeping else _most_accurate(allowed)


def _most_accurate(winners: Sequence[Winner]) -> Winner:
    """The fastest of those that are not known to be worse than the one of least error."""
    least = min(winners, key=lambda w: w.validation.error)
    return min((w for w in winners if not w.validation.differs(least.validation)), key=_cost)


def _cost(winner: Winner) -> float:
    return winner.found.latency_s if winner.series is None else winner.series.median_s


def _nearest(winners: Sequence[Winner], dense: Winner) -> str:
    fastest = min(winners, key=_cost)
    nearest = max(
        winners,
        key=lambda w: w.validation.metric / (dense.validation.metric or 1) + (w.speedup or 0) / (fastest.speedup or 1),
    )
    speed = nearest.speedup or dense.found.latency_s / nearest.found.latency_s
    return (
        f"none of {len(winners)} candidates meets the budget\nnearest: {nearest.id} at {_cost(nearest) * 1e3:.3g} ms, "
        f"{speed:.2f}x{_megabytes(nearest)}, metric {nearest.validation.metric:.4f} (dense {dense.validation.metric:.4f}); "
        f"fastest: {_cost(fastest) * 1e3:.3g} ms{_megabytes(fastest)}"
    )


def _megabytes(winner: Winner) -> str:
    return "" if winner.peak_bytes is None else f", {winner.peak_bytes / 1e6:.4g} MB"
