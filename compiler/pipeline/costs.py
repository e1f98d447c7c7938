"""The cost table of a run: made on the device, read from a file or one that ships, or estimated where the user accepts that."""

import contextlib
from collections.abc import Callable
from dataclasses import replace

from compiler.costing import CostModel
from compiler.export.workbench import ModelWorkbench
from compiler.pipeline.device import Device, absent
from compiler.pipeline.measuring import too_noisy
from compiler.pipeline.options import Options
from compiler.pipeline.tables import measure_all
from compiler.spaces.space import narrowest
from compiler.store import Store
from profilers import CostTable, MissingCostError, OutOfMemoryError, Workload, roofline_table
from targets import Target, shipped_files
from targets.errors import InputError, TargetError


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
    """A table that ships and fits, that of this very model first, else the datasheet's where the user accepts that.

    TargetError without. No table that ships has several widths.
    """
    shipped = () if options.space == "width" else shipped_files(device.target.name)
    tables = {file.name: CostTable.read(file) for file in shipped}
    for name, table in sorted(tables.items(), key=lambda named: named[1].dimensions != bench.dimensions):
        with contextlib.suppress(TargetError):
            fitting, workload = _fitting(table, name, options, device, bench)
            return _shipped(fitting, name), workload
    if options.accept_modelled:
        return _modelled(device, bench), device.workload
    if options.space == "width":
        raise absent(device.target, ", and a table is of one hidden size, --space width of several")
    named = "; ".join(_made_for(name, table) for name, table in tables.items())
    raise absent(device.target, f", and no table that ships fits: {named}")


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
            table = measure_all(
                device, narrow, store, options.seed, lambda f: progress((len(tables) + f) / len(widths)),
                full=options.profile == "full",
            )  # fmt: skip
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
    elif device.elsewhere is not None:
        table, workload = device.elsewhere.profile(), device.workload
    elif device.here:
        table = measure_all(device, bench, store, options.seed, progress, full=options.profile == "full")
        workload = device.workload
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
