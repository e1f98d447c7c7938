"""The cost table of a run: measured here, read from a file or one that ships, or estimated where the user accepts that."""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from typing import Any

import numpy as np

from compiler.costing import BatchModel, CostModel, parameter_counts
from compiler.export.dense import FORM
from compiler.export.workbench import ModelWorkbench
from compiler.families import Architecture
from compiler.pipeline.demand import Demand
from compiler.pipeline.options import Options
from compiler.spaces import OF_FULL_WIDTH, Shape, make_space, sample_stratified
from compiler.spaces.space import narrowest
from compiler.store import Store, key_of
from profilers import (
    CostTable,
    MissingCostError,
    OutOfMemoryError,
    Plan,
    Recorder,
    Runtime,
    Workload,
    make_runtime,
    measure_table,
    roofline_table,
)
from profilers.cost_table import SCHEMA
from profilers.profile import CHECK_ROUNDS
from targets import PRECISIONS, Fingerprint, Target, measure_fingerprint, present, shipped_files, shipped_tables
from targets.errors import InputError, TargetError

BATCHES = {"cpu": (1, 4, 16), "gpu": (1, 8, 64), "null": (1, 4, 16)}
"""Profiled where throughput is asked for, by kind of device."""

MAX_MAPE, MAX_MAPE_THREADS, MAX_MAPE_TRANSFERRED = 0.03, 0.05, 0.10
"""A table that is further off on average is refused: one thread (or a GPU), several threads, carried over from elsewhere."""

CHECK_NETS = 20
FITTED_NETS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """The target of a run and how it is asked; `runtime` is None where the device is not here.

    `precisions` are those searched, the most exact first; fp32 is the baseline of every ratio whether searched or not.
    `batches` are profiled beside the workload's own, to find the one of most sequences a second.
    """

    target: Target
    workload: Workload
    precisions: tuple[str, ...]
    runtime: Runtime | None
    fingerprint: Fingerprint
    demand: Demand | None = None
    batches: tuple[int, ...] = ()

    @property
    def here(self) -> bool:
        """Whether anything can be measured."""
        return self.runtime is not None

    @property
    def has_clock(self) -> bool:
        """Whether what is measured are times, not the closed form of the null device."""
        return self.runtime is not None and self.runtime.source == "measured"

    @property
    def workloads(self) -> tuple[Workload, ...]:
        """What the table must answer for: fp32 and every precision searched, as files are served and in every batch."""
        precisions = dict.fromkeys(("fp32", *self.precisions))
        asked = [self.served, *(way for batch in self.batches for way in (self.called(batch), self.in_batches(batch)))]
        return tuple(replace(way, precision=p) for p, way in product(precisions, dict.fromkeys(asked)))

    @property
    def served(self) -> Workload:
        """How the finished files are asked: the workload, or what stands for the traffic."""
        return self.called(self.workload.batch)

    def called(self, batch: int) -> Workload:
        """The same in batches of another size."""
        return replace(self.workload, batch=batch, lengths=self.demand.lengths(batch) if self.demand else ())

    def in_batches(self, batch: int) -> Workload:
        """How the finished files are asked for sequences a second."""
        return replace(self.workload, batch=batch, lengths=self.demand.expected(batch) if self.demand else ())

    def costs(self, table: CostTable, narrower: Sequence[CostTable] = ()) -> dict[str, CostModel]:
        """The latency to search on, by precision. `narrower` are tables of the same network at smaller widths."""
        precisions = dict.fromkeys(w.precision for w in self.workloads)
        return {p: _at_widths(table, narrower, replace(self.served, precision=p)) for p in precisions}

    def batch_model(
        self, table: CostTable, precision: str, ceiling_s: float | None, narrower: Sequence[CostTable] = ()
    ) -> BatchModel:
        """Sequences a second by batch; of batches at which the device's memory holds the whole model.

        Under traffic a batch is padded to its longest. The ceiling is held against the percentile that the run asked for.
        """

        def models(ask: Callable[[int], Workload]) -> dict[int, CostModel]:
            asked = {b: replace(ask(b), precision=precision) for b in sorted({self.workload.batch, *self.batches})}
            held = {b: w for b, w in asked.items() if table.holds(table.dimensions.dense, w)}
            return {b: _at_widths(table, narrower, w) for b, w in held.items()}

        return BatchModel(batches=models(self.in_batches), calls=models(self.called), ceiling_s=ceiling_s)


def _at_widths(table: CostTable, narrower: Sequence[CostTable], workload: Workload) -> CostModel:
    return replace(CostModel.of(table, workload), narrower=tuple(CostModel.of(one, workload) for one in narrower))


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
    return tuple(sorted({target.with_precision(p).precision for p in asked}, key=PRECISIONS.index))


def _absent(target: Target, why: str = "") -> TargetError:
    """What there is to do about a target that is not here."""
    return TargetError(
        f"{target.name} is not here ({present(target).reason.splitlines()[0]}){why}\n"
        f"run 'compile profile --target {target.name}' on one and give its file with --table, "
        "or accept a datasheet estimate with --accept-modelled"
    )


def find_device(options: Options) -> Device:
    """The device asked for. TargetError where it is not here and nothing can stand in for it.

    Whether a table that ships fits the model is seen when the model is there (`find_table`).
    """
    target = Target.parse(options.target)
    precisions = _precisions(options, target)
    posing = options.runtime == "null" and target.kind != "null"
    here = posing or bool(present(target))
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
        opset=options.opset,
    )
    batches = BATCHES[target.kind] if "throughput" in options.objectives else ()
    if here:
        fingerprint = measure_fingerprint(Target.parse("null") if posing else target, threads=options.threads)
        return Device(
            target=target, workload=workload, precisions=precisions, runtime=runtime, fingerprint=fingerprint,
            batches=batches,
        )  # fmt: skip
    if options.table is None and not options.accept_modelled and not shipped_tables(target.name):
        raise _absent(target)
    nowhere = measure_fingerprint(Target.parse("null"))
    return Device(
        target=target, workload=workload, precisions=precisions, runtime=None, fingerprint=nowhere, batches=batches
    )


def find_here(options: Options) -> Device:
    """The device asked for, to measure on. TargetError where it is not here."""
    device = find_device(options)
    if not device.here:
        raise _absent(device.target)
    return device


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


def _measured(
    device: Device,
    workload: Workload,
    bench: ModelWorkbench,
    store: Store,
    seed: int,
    progress: Callable[[float], None],
) -> CostTable:
    """The table of one workload, from the store where it was measured before."""
    about = about_samples(device, workload, bench, seed)
    key = key_of([SCHEMA, about])
    stored = store.get("table", key)
    if stored is not None:
        return CostTable.from_json(stored)
    table = measure_steadily(
        device, workload, bench, seed=seed, recorder=StoreRecorder(store, about), progress=progress
    )
    store.put("table", key, table.to_json())
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


def _fitting(
    table: CostTable, name: str, options: Options, device: Device, bench: ModelWorkbench
) -> tuple[CostTable, Workload]:
    """What a table from a file says of this run's workloads, and the workload to read it at: in the runtime it is of.

    TargetError where the table is of another device, model or workload, InputError where it lacks a piece.
    """
    if Target.parse(table.target).name != device.target.name:
        raise TargetError(f"{name} was measured on {table.target}, not on {device.target.name}")
    wanted = device.workload
    runtimes = {w.runtime for w in table.workloads()}
    if wanted.runtime not in runtimes and len(runtimes) == 1 and options.runtime is None:
        wanted = replace(wanted, runtime=runtimes.pop())
    if device.here and table.source in {"measured", "transferred"}:
        table.check_device(device.fingerprint, wanted.runtime)
    asked = [replace(workload, runtime=wanted.runtime) for workload in device.workloads]
    try:
        for workload in asked:
            table.check_fits(bench.dimensions, workload)
            if table.holds(table.dimensions.dense, workload):
                CostModel.of(table, workload)
    except MissingCostError as error:
        raise InputError(f"{name} is not complete: {error}\nprofile again: compile profile") from None
    return table.under([read for workload in asked for read in table.weights(workload)]), wanted


def _shipped(table: CostTable, name: str) -> CostTable:
    """The table with a note of where it is from, for the run."""
    note = f"costs are from {name}, a table that ships with paretoc: {table.source} on {table.fingerprint.device_name}"
    return replace(table, how={**table.how, "warnings": [*table.how.get("warnings", ()), note]})


def _check_held(table: CostTable, device: Device, workload: Workload) -> None:
    """OutOfMemoryError where the device's memory does not hold the whole model: it is the baseline of every ratio."""
    for asked in device.workloads:
        at = replace(asked, runtime=workload.runtime)
        if at.batch == workload.batch and not table.holds(table.dimensions.dense, at):
            raise OutOfMemoryError(
                f"the whole model does not fit into the memory of {device.target.name} at {at}\n"
                "ask for less: --batch, --seq-len"
            )


def _made_for(name: str, table: CostTable) -> str:
    """The models and workloads that a table answers for, in words."""
    sizes, workloads = table.dimensions, table.workloads()

    def each(field: str) -> str:
        return " or ".join(dict.fromkeys(str(getattr(workload, field)) for workload in workloads))

    return (
        f"{name} is for {sizes.heads} heads, {sizes.ffn_units} FFN units and hidden size {sizes.hidden_size} at batch "
        f"{each('batch')}, tokens {each('tokens')}, threads {each('threads')}, {each('precision')} in {each('runtime')}"
    )


def _elsewhere(options: Options, device: Device, bench: ModelWorkbench) -> tuple[CostTable, Workload]:
    """The first table that ships and fits, else the datasheet's where the user accepts that; TargetError without.

    No table that ships has several widths.
    """
    shipped = () if options.space == "width" else shipped_files(device.target.name)
    tables = {file.name: CostTable.read(file) for file in shipped}
    for name, table in tables.items():
        with contextlib.suppress(TargetError):
            fitting, workload = _fitting(table, name, options, device, bench)
            return _shipped(fitting, name), workload
    if options.accept_modelled:
        return _modelled(device, bench), device.workload
    if options.space == "width":
        raise _absent(device.target, ", and a table is of one hidden size, --space width of several")
    named = "; ".join(_made_for(name, table) for name, table in tables.items())
    raise _absent(device.target, f", and no table that ships fits: {named}")


def _modelled(device: Device, bench: ModelWorkbench) -> CostTable:
    """The datasheet's."""
    tables = [roofline_table(device.target, bench.dimensions, w, device.fingerprint) for w in device.workloads]
    return CostTable.merge(tables)


def profiled_widths(hidden_size: int, step: int) -> list[int]:
    """Widths of the residual stream to profile beside the hidden size itself, for the space WIDTH: its least, and one between."""
    least, between = narrowest(hidden_size, step), round(3 * hidden_size / 4 / step) * step
    return sorted({width for width in (least, between) if least <= width < hidden_size})


def find_narrower_tables(
    options: Options, device: Device, bench: ModelWorkbench, store: Store, progress: Callable[[float], None]
) -> tuple[CostTable, ...]:
    """Tables of the network at smaller widths, where the run searches those; no more is measured where it does not.

    TargetError where the error of one is above the bound.
    """
    if options.space != "width":
        return ()
    tables: list[CostTable] = []
    widths = profiled_widths(bench.dimensions.hidden_size, device.target.size_alignment)
    for width in widths:
        narrow = bench.narrowed(width)
        if device.here:
            table = _all_measured(
                device, narrow, store, options.seed, lambda f: progress((len(tables) + f) / len(widths))
            )
        else:
            table = _modelled(device, narrow)
        tables.append(_accepted(table, options))
    return tuple(tables)


def find_table(
    options: Options, device: Device, bench: ModelWorkbench, store: Store, progress: Callable[[float], None]
) -> tuple[CostTable, Workload]:
    """The table of this run and the workload to read it at. TargetError where its error is above the bound."""
    if options.table is not None:
        table, workload = _fitting(CostTable.read(options.table), options.table.name, options, device, bench)
    elif device.here:
        table, workload = _all_measured(device, bench, store, options.seed, progress), device.workload
    else:
        table, workload = _elsewhere(options, device, bench)
    _check_held(table, device, workload)
    return _accepted(table, options), workload


def _accepted(table: CostTable, options: Options) -> CostTable:
    """The table, with a warning where it is too far off and the user accepts that; TargetError where not."""
    doubt = too_noisy(table) or _unproven(table)
    if doubt and not (options.accept_noisy_table or options.demo):
        again = "run again with --fresh" if options.table is None else "profile again"
        raise TargetError(f"{doubt}\n{again} when the machine is quiet, or go on with --accept-noisy-table")
    if doubt:
        table = replace(table, how={**table.how, "warnings": [*table.how.get("warnings", ()), f"{doubt}; accepted"]})
    return table


def _unproven(table: CostTable) -> str:
    """The first workload for which a table of measurements publishes no error, in words; empty where it has all."""
    if table.source not in {"measured", "transferred"}:
        return ""
    missing = [workload for workload in table.workloads() if workload not in table.errors]
    return f"the cost table publishes no error for {missing[0]}" if missing else ""


def too_noisy(table: CostTable) -> str:
    """What is further off than its bound, in words; empty where nothing is."""
    for workload, error in table.errors.items():
        bound = MAX_MAPE if workload.threads == 1 else MAX_MAPE_THREADS
        if table.source == "transferred":
            bound = MAX_MAPE_TRANSFERRED
        if error.mape > bound:
            return f"the cost table is off by {error.mape:.1%} on average ({workload}), over the bound of {bound:.0%}"
    return ""
