"""Measurements of the files that are written: latency against the dense one, memory, energy, throughput, other workloads."""

import contextlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np

from compiler.export import ModelWorkbench
from compiler.pipeline.device import Device
from compiler.pipeline.elsewhere import TimedFile
from compiler.pipeline.measuring import StoreRecorder
from compiler.pipeline.networks import Exported
from compiler.pipeline.pricing import Pricing
from compiler.pipeline.stages.context import Context
from compiler.store import Store
from profilers import OutOfMemoryError, Plan, Program, Series, Workload, interleave
from targets import usable_cpus

TIMING = {
    "fast": Plan(min_rounds=3, max_rounds=8, time_cap_s=10.0),
    "balanced": Plan(min_rounds=4, max_rounds=8, time_cap_s=45.0),
    "thorough": Plan(min_rounds=4, max_rounds=8, time_cap_s=45.0),
}
"""How long the finished files are timed, by effort."""


def _program(network: Exported, bench: ModelWorkbench) -> Program:
    return _file_program(_timed_file(network), bench)


def _timed_file(network: Exported) -> TimedFile:
    return TimedFile(
        name=network.id, subnet=network.subnet, precision=network.precision, sha256=network.artifact.sha256,
        path=network.artifact.path,
    )  # fmt: skip


def _file_program(file: TimedFile, bench: ModelWorkbench) -> Program:
    return bench.program(file.name, file.subnet, file.path, file.precision)


def _alternate(
    networks: Sequence[Exported],
    dense: Exported,
    context: Context,
    device: Device,
    workload: Workload,
    plan: Plan,
    progress: Callable[[float], None] = lambda _: None,
) -> dict[str, Series]:
    files, reference = [_timed_file(network) for network in networks], _timed_file(dense)
    store, seed = context.store, context.options.seed
    if device.elsewhere is not None:
        return device.elsewhere.time(files, reference, store, workload, plan, seed)
    return alternate(files, reference, context.bench, device, store, workload, plan, seed, progress)


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


def measure_latency(networks: Sequence[Exported], context: Context, device: Device, effort: str) -> dict[str, Series]:
    """Timings of the final files by name, against the first of them, the dense one, alternating in one run."""
    return _alternate(networks, networks[0], context, device, device.served, TIMING[effort], context.monitor.progress)


def measure_resources(
    networks: Sequence[Exported], context: Context, device: Device, wanted: Collection[str]
) -> dict[str, tuple[int | None, float | None]]:
    """Memory in bytes and energy in joules of the final files by name, each alone, as the run asked for them."""
    done: dict[str, tuple[int | None, float | None]] = {}
    resources = context.resources(device)
    for network in networks:
        program, precision = _program(network, context.bench), network.precision
        memory = resources.peak_bytes(program, network.artifact.path, precision) if "memory" in wanted else None
        energy = resources.joules(program, precision) if "energy" in wanted else None
        done[network.id] = memory, energy
        context.monitor.progress(len(done) / len(networks))
    return done


def measure_throughput(
    networks: Sequence[Exported], context: Context, device: Device, pricing: Pricing
) -> dict[str, tuple[int, float]]:
    """By name the batch that is predicted to give most sequences a second, and how many the file gives at it.

    The first network is the dense one, which the others alternate with.
    """
    batches = {network.id: pricing.best_batch(network) for network in networks}
    plan = Plan(min_rounds=2, max_rounds=2)
    rates: dict[str, tuple[int, float]] = {}
    for batch in sorted(set(batches.values())):
        group = [network for network in networks if batches[network.id] == batch]
        series = _alternate(group, networks[0], context, device, device.in_batches(batch), plan)
        rates |= {network.id: (batch, batch / series[network.id].median_s) for network in group}
        context.monitor.progress(len(rates) / len(networks))
    return rates


def measure_grid(network: Exported, dense: Exported, context: Context, device: Device) -> tuple[dict[str, Any], ...]:
    """Speed-ups at batch 1 and 8, 32 and 128 tokens, one and all threads; each cell alternates with the dense model.

    A cell that the device's memory does not hold is left out.
    """
    tokens = [t for t in (32, 128) if t <= context.bench.checkpoint.architecture.max_tokens]
    threads = [1] if device.target.kind == "gpu" else sorted({1, usable_cpus()})
    cells = list(product((1, 8), tokens, threads))
    grid = list[dict[str, Any]]()
    plan = Plan(min_rounds=1, max_rounds=1, block_s=0.2, min_turns=5)
    for i, (batch, length, count) in enumerate(cells):
        workload = replace(device.workload, batch=batch, tokens=length, threads=count)
        with contextlib.suppress(OutOfMemoryError):
            series = _alternate([network], dense, context, device, workload, plan)
            grid.append(_cell(workload, series[network.id]))
        context.monitor.progress((i + 1) / len(cells))
    return tuple(grid)


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
