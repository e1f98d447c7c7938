"""The cost table of a run: measured here, read from a file, or estimated where the user accepts that."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from compiler.costing import CostModel, parameter_counts
from compiler.export.workbench import ModelWorkbench
from compiler.families import Architecture
from compiler.pipeline.options import Options
from compiler.spaces import SPACES, Shape, make_space, sample_stratified
from compiler.store import Store, key_of
from profilers import CostTable, MissingCostError, Plan, Runtime, Workload, make_runtime, measure_table, roofline_table
from targets import Fingerprint, Target, measure_fingerprint, present
from targets.errors import InputError, TargetError

MAX_MAPE = 0.10
CHECK_NETS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """The target of a run and how it is asked; `runtime` is None where the device is not here."""

    target: Target
    workload: Workload
    runtime: Runtime | None
    fingerprint: Fingerprint

    @property
    def here(self) -> bool:
        """Whether anything can be measured."""
        return self.runtime is not None


class StoreRecorder:
    """Keeps blocks of samples in the store, so that a killed profile goes on where it was."""

    def __init__(self, store: Store, about: dict[str, Any]) -> None:
        self.store, self.about = store, about

    def get(self, name: str) -> list[float] | None:
        """Samples recorded under this name."""
        samples: list[float] | None = self.store.get("blocks", key_of([self.about, name]))
        return samples

    def put(self, name: str, samples_s: list[float]) -> None:
        """Record samples."""
        self.store.put("blocks", key_of([self.about, name]), samples_s)


def _runtime_name(options: Options, target: Target) -> str:
    if options.runtime is not None:
        return options.runtime
    return "torch" if target.kind == "gpu" and present(target) else target.runtime


def find_device(options: Options) -> Device:
    """The device asked for. TargetError where it is not here and nothing stands in for it."""
    target = Target.parse(options.target)
    presence = present(target)
    name = _runtime_name(options, target)
    posing = name == "null" and target.kind != "null"
    workload = Workload(
        batch=options.batch,
        tokens=options.seq_len,
        threads=1 if target.kind == "gpu" else options.threads,
        precision=target.precision,
        runtime=name,
    )
    if posing or presence:
        fingerprint = measure_fingerprint(Target.parse("null") if posing else target, threads=options.threads)
        return Device(target=target, workload=workload, runtime=make_runtime(name, target), fingerprint=fingerprint)
    if options.table is None and not options.accept_modelled:
        raise TargetError(
            f"{target.name} is not here ({presence.reason.splitlines()[0]})\n"
            f"run 'compile profile --target {target.name}' on one and give its file with --table, "
            "or accept a datasheet estimate with --accept-modelled"
        )
    nowhere = measure_fingerprint(Target.parse("null"))
    return Device(target=target, workload=workload, runtime=None, fingerprint=nowhere)


def check_shapes(architecture: Architecture, unit_step: int, seed: int) -> list[Shape]:
    """Random sub-networks of all spaces, spread over the range of parameters: what a table's error is taken on."""
    rng = np.random.default_rng(seed + 1)
    shapes: list[Shape] = []
    for name in SPACES:
        space = make_space(name, architecture, unit_step=unit_step)
        genomes = sample_stratified(space, rng, CHECK_NETS // len(SPACES), lambda c: parameter_counts(architecture, c))
        shapes += [space.shape(genome) for genome in genomes]
    return list(dict.fromkeys(shapes))


def _measured(
    device: Device, bench: ModelWorkbench, store: Store, seed: int, progress: Callable[[float], None]
) -> CostTable:
    assert device.runtime is not None  # noqa: S101  called for devices that are here only
    about = {
        "target": str(device.target),
        "fingerprint": device.fingerprint.to_json(),
        "workload": device.workload.to_json(),
        "dimensions": repr(bench.dimensions),
        "outputs": bench.checkpoint.model.output_names,
        "seed": seed,
    }
    stored = store.get("table", key_of(about))
    if stored is not None:
        return CostTable.from_json(stored)
    table = measure_table(
        device.target,
        bench.dimensions,
        device.workload,
        device.runtime,
        bench,
        device.fingerprint,
        checks=check_shapes(bench.checkpoint.architecture, device.target.size_alignment, seed),
        plan=Plan(),
        seed=seed,
        recorder=StoreRecorder(store, about),
        progress=progress,
    )
    store.put("table", key_of(about), table.to_json())
    return table


def _given(options: Options, device: Device, bench: ModelWorkbench) -> tuple[CostTable, Workload]:
    """The user's table, and the workload it answers for (its runtime is what it was measured in)."""
    assert options.table is not None  # noqa: S101  the caller asked
    table = CostTable.read(options.table)
    if Target.parse(table.target).name != device.target.name:
        raise TargetError(f"{options.table.name} was measured on {table.target}, not on {device.target.name}")
    wanted = device.workload
    runtimes = {w.runtime for w in table.workloads()}
    if wanted.runtime not in runtimes and len(runtimes) == 1 and options.runtime is None:
        wanted = Workload(**{**wanted.to_json(), "runtime": runtimes.pop()})
    table.check_fits(bench.dimensions, wanted)
    if device.here and table.source == "measured":
        table.check_device(device.fingerprint, wanted.runtime)
    try:
        CostModel.of(table, wanted)
    except MissingCostError as error:
        raise InputError(f"{options.table.name} is not complete: {error}\nprofile again: compile profile") from None
    return table, wanted


def find_table(
    options: Options, device: Device, bench: ModelWorkbench, store: Store, progress: Callable[[float], None]
) -> tuple[CostTable, Workload]:
    """The table of this run and the workload to read it at. TargetError where its error is above the bound."""
    if options.table is not None:
        table, workload = _given(options, device, bench)
    elif device.here:
        table, workload = _measured(device, bench, store, options.seed, progress), device.workload
    else:
        table = roofline_table(device.target, bench.dimensions, device.workload, device.fingerprint)
        workload = device.workload
    if table.error is not None and table.error.mape > MAX_MAPE and not options.accept_noisy_table:
        raise TargetError(
            f"the cost table is off by {table.error.mape:.1%} on average, over the bound of {MAX_MAPE:.0%}: "
            "is the machine busy?\nrun again with --fresh when it is quiet, or go on with --accept-noisy-table"
        )
    return table, workload
