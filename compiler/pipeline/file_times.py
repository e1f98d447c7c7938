"""Measurements of the files that are written: latency against the dense one, memory, energy, throughput, other workloads."""

import contextlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from compiler.export import ModelWorkbench
from compiler.pipeline.device import Device
from compiler.pipeline.elsewhere import TimedFile
from compiler.pipeline.hunt import Hunt
from compiler.pipeline.measuring import StoreRecorder
from compiler.pipeline.monitor import Monitor
from compiler.pipeline.options import Options
from compiler.pipeline.resources import Resources
from compiler.pipeline.winners import Winner
from compiler.store import Store
from profilers import OutOfMemoryError, Plan, Program, Series, Workload, interleave

TIMING = {
    "fast": Plan(min_rounds=3, max_rounds=8, time_cap_s=10.0),
    "balanced": Plan(min_rounds=4, max_rounds=8, time_cap_s=45.0),
    "thorough": Plan(min_rounds=4, max_rounds=8, time_cap_s=45.0),
}
"""How long the finished files are timed, by effort."""


def _program(winner: Winner, bench: ModelWorkbench) -> Program:
    return _file_program(_timed_file(winner), bench)


def _timed_file(winner: Winner) -> TimedFile:
    assert winner.artifact is not None  # noqa: S101  it was written
    return TimedFile(
        name=winner.id, subnet=winner.found.subnet, precision=winner.found.precision, sha256=winner.artifact.sha256,
        path=winner.artifact.path,
    )  # fmt: skip


def _file_program(file: TimedFile, bench: ModelWorkbench) -> Program:
    return bench.program(file.name, file.subnet, file.path, file.precision)


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
    files, reference = [_timed_file(winner) for winner in timed], _timed_file(dense)
    if device.elsewhere is not None:
        return device.elsewhere.time(files, reference, store, workload, plan, seed)
    return alternate(files, reference, bench, device, store, workload, plan, seed, progress)


def alternate(
    files: Sequence[TimedFile],
    reference: TimedFile,
    bench: ModelWorkbench,
    device: Device,
    store: Store,
    workload: Workload,
    plan: Plan,
    seed: int,
    progress: Callable[[float], None] = lambda _: None,
) -> dict[str, Series]:
    """Series of files, by name, timed on a device that is here in turns with the reference.

    Blocks are kept in the store for this very run and no other.
    """
    assert device.runtime is not None  # noqa: S101  called for devices that are here only
    about = {
        "files": [file.sha256 for file in (reference, *files)],
        "fingerprint": device.fingerprint.to_json(),
        "workload": workload.to_json(),
        "target": str(device.target),
        "plan": repr(plan),
    }
    return interleave(
        [_file_program(file, bench) for file in files],
        _file_program(reference, bench),
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
