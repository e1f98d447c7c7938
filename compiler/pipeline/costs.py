"""The cost table of a run: measured here, read from a file, or estimated where the user accepts that."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import numpy as np

from compiler.costing import CostModel, parameter_counts
from compiler.export.workbench import ModelWorkbench
from compiler.families import Architecture
from compiler.pipeline.demand import Demand
from compiler.pipeline.options import Options
from compiler.spaces import SPACES, Shape, make_space, sample_stratified
from compiler.store import Store, key_of
from profilers import CostTable, MissingCostError, Plan, Runtime, Workload, make_runtime, measure_table, roofline_table
from targets import PRECISIONS, Fingerprint, Target, measure_fingerprint, present
from targets.errors import InputError, TargetError

MAX_MAPE = 0.10
CHECK_NETS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """The target of a run and how it is asked; `runtime` is None where the device is not here.

    `precisions` are those searched, the most exact first; fp32 is the baseline of every ratio whether searched or not.
    """

    target: Target
    workload: Workload
    precisions: tuple[str, ...]
    runtime: Runtime | None
    fingerprint: Fingerprint
    demand: Demand | None = None

    @property
    def here(self) -> bool:
        """Whether anything can be measured."""
        return self.runtime is not None

    @property
    def workloads(self) -> tuple[Workload, ...]:
        """What the table must answer for: the workload at fp32 and at every precision searched, and every length."""
        lengths = self.demand.knots if self.demand else (self.workload.tokens,)
        precisions = dict.fromkeys(("fp32", *self.precisions))
        return tuple(replace(self.workload, precision=p, tokens=t) for p in precisions for t in lengths)

    @property
    def served(self) -> Workload:
        """How the finished files are asked: the workload, or the traffic replayed."""
        return replace(self.workload, lengths=self.demand.replayed) if self.demand else self.workload

    def costs(self, table: CostTable) -> dict[str, CostModel]:
        """The latency to search on, by precision: that of the workload, or what the traffic makes of it."""
        if self.demand is None:
            return {w.precision: CostModel.of(table, w) for w in self.workloads}
        return {
            precision: CostModel.mixed(
                table, {w: share for w, share in zip(of_it, self.demand.weights, strict=True) if share}
            )
            for precision, of_it in groupby(self.workloads, key=lambda w: w.precision)
        }


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


def _start(options: Options, target: Target) -> Runtime:
    """The runtime asked for, else the target's own; on a GPU the first that starts of those that serve its precision.

    TargetError of the first that was tried where none starts.
    """
    names = [options.runtime] if options.runtime else list(target.runtimes_for(target.precision))
    refused: list[TargetError] = []
    for name in names if target.kind == "gpu" else names[:1]:
        try:
            return make_runtime(name, target)
        except TargetError as error:
            refused.append(error)
    raise refused[0]


def _precisions(options: Options, target: Target) -> tuple[str, ...]:
    """The precisions to search, the most exact first. InputError where the device does not run one."""
    asked = options.precisions or (target.precision,)
    if target.kind == "gpu" and "int8" in asked:
        raise InputError(
            f"int8 on {target.name} needs static quantisation, which is not supported yet\n"
            "ask for fp16, or for int8 on a CPU"
        )
    return tuple(sorted((target.with_precision(p).precision for p in asked), key=PRECISIONS.index))


def find_device(options: Options) -> Device:
    """The device asked for. TargetError where it is not here and nothing stands in for it."""
    target = Target.parse(options.target)
    precisions = _precisions(options, target)
    presence = present(target)
    posing = options.runtime == "null" and target.kind != "null"
    here = posing or bool(presence)
    runtime = _start(options, target.with_precision(precisions[-1])) if here else None
    name = runtime.name if runtime else options.runtime or target.runtime
    if options.traffic is not None and here and name != "null" and (target.kind, name) != ("cpu", "onnxruntime"):
        raise TargetError(f"--traffic is replayed in ONNX Runtime on a CPU, not in {name} on {target.name}, so far")
    if here and name != "null":
        for precision in precisions:
            target.with_precision(precision).with_runtime(name)
    workload = Workload(
        batch=options.batch,
        tokens=options.seq_len,
        threads=1 if target.kind == "gpu" else options.threads,
        precision="fp32",
        runtime=name,
    )
    if here:
        fingerprint = measure_fingerprint(Target.parse("null") if posing else target, threads=options.threads)
        return Device(target=target, workload=workload, precisions=precisions, runtime=runtime, fingerprint=fingerprint)
    if options.table is None and not options.accept_modelled:
        raise TargetError(
            f"{target.name} is not here ({presence.reason.splitlines()[0]})\n"
            f"run 'compile profile --target {target.name}' on one and give its file with --table, "
            "or accept a datasheet estimate with --accept-modelled"
        )
    nowhere = measure_fingerprint(Target.parse("null"))
    return Device(target=target, workload=workload, precisions=precisions, runtime=None, fingerprint=nowhere)


def check_shapes(architecture: Architecture, unit_step: int, seed: int, count: int = CHECK_NETS) -> list[Shape]:
    """Random sub-networks of all spaces, spread over the range of parameters: what a table's error is taken on."""
    rng = np.random.default_rng(seed + 1)
    shapes: list[Shape] = []
    for name in SPACES:
        space = make_space(name, architecture, unit_step=unit_step)
        genomes = sample_stratified(space, rng, count // len(SPACES), lambda c: parameter_counts(architecture, c))
        shapes += [space.shape(genome) for genome in genomes]
    return list(dict.fromkeys(shapes))


def _measured(
    device: Device,
    workload: Workload,
    bench: ModelWorkbench,
    store: Store,
    seed: int,
    progress: Callable[[float], None],
) -> CostTable:
    assert device.runtime is not None  # noqa: S101  called for devices that are here only
    about = {
        "target": device.target.name,
        "fingerprint": device.fingerprint.to_json(),
        "workload": workload.to_json(),
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
        workload,
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


def _all_measured(
    device: Device, bench: ModelWorkbench, store: Store, seed: int, progress: Callable[[float], None]
) -> CostTable:
    """One table for every workload of the run."""
    tables: list[CostTable] = []
    for workload in device.workloads:
        tables.append(
            _measured(
                device, workload, bench, store, seed, lambda f: progress((len(tables) + f) / len(device.workloads))
            )
        )
    return CostTable.merge(tables)


def _given(options: Options, device: Device, bench: ModelWorkbench) -> tuple[CostTable, Workload]:
    """The user's table, and the workload it answers for (its runtime is what it was measured in)."""
    assert options.table is not None  # noqa: S101  the caller asked
    table = CostTable.read(options.table)
    if Target.parse(table.target).name != device.target.name:
        raise TargetError(f"{options.table.name} was measured on {table.target}, not on {device.target.name}")
    wanted = device.workload
    runtimes = {w.runtime for w in table.workloads()}
    if wanted.runtime not in runtimes and len(runtimes) == 1 and options.runtime is None:
        wanted = replace(wanted, runtime=runtimes.pop())
    if device.here and table.source in {"measured", "transferred"}:
        table.check_device(device.fingerprint, wanted.runtime)
    try:
        for workload in device.workloads:
            asked = replace(workload, runtime=wanted.runtime)
            table.check_fits(bench.dimensions, asked)
            CostModel.of(table, asked)
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
        table, workload = _all_measured(device, bench, store, options.seed, progress), device.workload
    else:
        tables = [roofline_table(device.target, bench.dimensions, w, device.fingerprint) for w in device.workloads]
        table, workload = CostTable.merge(tables), device.workload
    if table.error is not None and table.error.mape > MAX_MAPE and not options.accept_noisy_table:
        raise TargetError(
            f"the cost table is off by {table.error.mape:.1%} on average, over the bound of {MAX_MAPE:.0%}: "
            "is the machine busy?\nrun again with --fresh when it is quiet, or go on with --accept-noisy-table"
        )
    return table, workload
