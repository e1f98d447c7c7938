"""Measuring the cost tables of a run: on which networks, kept as it goes, and again where a moment's load spoilt it."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from compiler.costing import parameter_counts
from compiler.export.dense import FORM
from compiler.export.workbench import ModelWorkbench
from compiler.families import Architecture
from compiler.pipeline.device import Device
from compiler.spaces import OF_FULL_WIDTH, Shape, make_space, sample_stratified
from compiler.store import Store, key_of
from profilers import CostTable, Plan, Recorder, Workload, measure_table
from profilers.profile import CHECK_ROUNDS

MAX_MAPE, MAX_MAPE_THREADS, MAX_MAPE_TRANSFERRED = 0.03, 0.05, 0.10
"""A table that is further off on average is refused: one thread (or a GPU), several threads, carried over from elsewhere."""

CHECK_NETS = 20
FITTED_NETS = 20


class StoreRecorder:
    """Keeps blocks of samples in the store, so that a killed profile goes on where it was."""

    def __init__(self, store: Store, about: dict[str, Any]) -> None:
        self.store, self.about = store, about

    def get(self, name: str) -> list[list[float]] | None:
        """Samples recorded under this name."""
        samples: list[list[float]] | None = self.store.get("blocks", key_of([self.about, name]))
        return samples

    def put(self, name: str, samples_s: list[list[float]]) -> None:
        """Record samples."""
        self.store.put("blocks", key_of([self.about, name]), samples_s)


class BlockRecorder:
    """Keeps blocks of samples while the process lives: what is measured again goes on from them."""

    def __init__(self) -> None:
        self.blocks: dict[str, list[list[float]]] = {}

    def get(self, name: str) -> list[list[float]] | None:
        """Samples recorded under this name."""
        return self.blocks.get(name)

    def put(self, name: str, samples_s: list[list[float]]) -> None:
        """Record samples."""
        self.blocks[name] = samples_s


def check_shapes(architecture: Architecture, unit_step: int, seed: int, count: int = CHECK_NETS) -> list[Shape]:
    """Random sub-networks of all spaces of one width, spread over the range of parameters: what a table's error is taken on.

    Those of the whole architecture, whatever was cut of it before: a table is of all its pieces.
    """
    return _random_shapes(architecture, unit_step, np.random.default_rng(seed + 1), count)


def fitted_shapes(architecture: Architecture, unit_step: int, seed: int) -> list[Shape]:
    """Others drawn in the same way: a table is fitted to them, beside the stacks of equal blocks."""
    return _random_shapes(architecture, unit_step, np.random.default_rng([seed, 2]), FITTED_NETS)


def _random_shapes(architecture: Architecture, unit_step: int, rng: np.random.Generator, count: int) -> list[Shape]:
    shapes: list[Shape] = []
    for turn, name in enumerate(OF_FULL_WIDTH):
        space, share = make_space(name, architecture.whole, unit_step=unit_step), (count + turn) // len(OF_FULL_WIDTH)
        genomes = sample_stratified(space, rng, share, lambda c: parameter_counts(architecture, c)) if share else ()
        shapes += [space.shape(genome) for genome in genomes]
    return list(dict.fromkeys(shapes))


def about_samples(device: Device, workload: Workload, bench: ModelWorkbench, seed: int) -> dict[str, Any]:
    """What the blocks of samples of one table depend on, as JSON values: what a `StoreRecorder` keeps them under."""
    return {
        "target": device.target.name,
        "fingerprint": device.fingerprint.to_json(),
        "workload": workload.to_json(),
        "dimensions": repr(bench.dimensions),
        "outputs": bench.checkpoint.model.output_names,
        "graph": FORM,
        "seed": seed,
    }


def measure_here(
    device: Device,
    workload: Workload,
    bench: ModelWorkbench,
    *,
    seed: int,
    check_nets: int = CHECK_NETS,
    plan: Plan | None = None,
    check_rounds: int = CHECK_ROUNDS,
    recorder: Recorder | None = None,
    progress: Callable[[float], None],
) -> CostTable:
    """The table of one workload, measured on a device that is here; its error is taken on `check_nets` networks."""
    assert device.runtime is not None  # noqa: S101  the caller knows that it is here
    return measure_table(
        device.target,
        bench.dimensions,
        workload,
        device.runtime,
        bench,
        device.fingerprint,
        mixed=fitted_shapes(bench.checkpoint.architecture, device.target.size_alignment, seed),
        checks=check_shapes(bench.checkpoint.architecture, device.target.size_alignment, seed, check_nets),
        plan=plan or Plan(),
        check_rounds=check_rounds,
        seed=seed,
        recorder=recorder,
        progress=progress,
    )


def measure_steadily(
    device: Device,
    workload: Workload,
    bench: ModelWorkbench,
    *,
    seed: int,
    check_nets: int = CHECK_NETS,
    recorder: Recorder,
    progress: Callable[[float], None],
) -> CostTable:
    """As `measure_here`; what is too far off is measured again, in more blocks beside those there are.

    A moment's load is no reason to refuse a table.
    """
    measure = partial(
        measure_here, device, workload, bench, seed=seed, check_nets=check_nets, recorder=recorder, progress=progress
    )
    first = measure()
    if not too_noisy(first):
        return first
    second = measure(plan=Plan(min_rounds=3), check_rounds=4)
    return replace(second, seconds=first.seconds + second.seconds)


def too_noisy(table: CostTable) -> str:
    """What is further off than its bound, in words; empty where nothing is."""
    for workload, error in table.errors.items():
        bound = MAX_MAPE if workload.threads == 1 else MAX_MAPE_THREADS
        if workload in table.carried_over:
            bound = MAX_MAPE_TRANSFERRED
        if error.mape > bound:
            return f"the cost table is off by {error.mape:.1%} on average ({workload}), over the bound of {bound:.0%}"
    return ""
