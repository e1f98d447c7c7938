"""Stage "profile": what sub-networks cost on the target, and the most that they may."""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from compiler.costing import Costs
from compiler.pipeline.costs import find_narrower_tables, find_table
from compiler.pipeline.device import Device
from compiler.pipeline.limits import ceilings, check_floor
from compiler.pipeline.measuring import check_shapes
from compiler.pipeline.monitor import part
from compiler.pipeline.pricing import Pricing
from compiler.pipeline.stages.context import Context
from compiler.spaces import Counts
from profilers import CostTable, LayerSizes


@dataclass(frozen=True, slots=True, kw_only=True)
class Profiled:
    """The device with the workload that was profiled, its tables, cost models, and the budgets as ceilings of predicted costs.

    `narrower` are tables of narrower networks, where `--space width` searches those.
    """

    device: Device
    table: CostTable
    narrower: tuple[CostTable, ...]
    pricing: Pricing
    limits: Mapping[str, float]


def profile(context: Context, device: Device) -> Profiled:
    """Find or measure the tables of a target. BudgetError where no network can meet the budgets."""
    options, progress = context.options, context.monitor.progress
    with context.stages("profile"):
        first = 1 / 3 if options.space == "width" else 1.0  # there two narrower tables follow
        told = part(progress, 0.0, first), part(progress, first, 1 - first)
        table, workload = find_table(options, device, context.bench, context.store, told[0])
        device = replace(device, workload=workload)
        narrower = tuple(find_narrower_tables(options, device, context.bench, context.store, told[1]))
    costs = _costs(context, device, table, narrower)
    context.notes.say(*_notes_of_costs(device, table), *_notes_of_widths(context, device, (table, *narrower), costs))
    limits = _limits(context, device, costs, narrower)
    return Profiled(device=device, table=table, narrower=narrower, pricing=Pricing(costs), limits=limits)


def _costs(context: Context, device: Device, table: CostTable, narrower: Sequence[CostTable]) -> dict[str, Costs]:
    options = context.options
    models = {"memory", "energy"} & set(options.costs)
    stage = context.stages(f"profile {' and '.join(sorted(models))}") if models else contextlib.nullcontext()
    with stage:
        return context.resources(device).costs(
            table, options.costs, options.budgets.max_latency_s, context.monitor.progress, narrower
        )


def _limits(
    context: Context, device: Device, costs: Mapping[str, Costs], narrower: Sequence[CostTable]
) -> dict[str, float]:
    """The budgets as ceilings of the predicted costs. BudgetError where nothing can meet them."""
    shape = context.bench.checkpoint.architecture.shape
    nothing, dense = Counts.of([(LayerSizes(0, 0),) * len(shape)]), Counts.of([shape])
    if narrower:
        nothing = nothing._replace(widths=np.array([min(t.dimensions.hidden_size for t in narrower)]))
    least = [costs[precision].of(nothing) for precision in device.precisions]
    floor = {name: min(float(cost[name][0]) for cost in least) for name in least[0]}
    limits = ceilings(context.options.budgets, float(costs["fp32"].of(dense)["latency"][0]))
    check_floor(limits, floor)
    return limits


def _notes_of_costs(device: Device, table: CostTable) -> list[str]:
    """What there is to know of the times that the search goes by."""
    notes = list[str]()
    if not device.here:
        notes.append(
            f"{device.target.name} was not here: nothing was measured on it, latencies are predicted ({table.source})"
        )
    if table.source == "null":
        notes.append("the null device has no clock: its times are a closed form, not measurements")
    if table.how.get("too_large"):
        notes.append(f"{len(table.how['too_large'])} networks of the profile did not fit into the device's memory")
    return [*notes, *table.how.get("warnings", ()), *device.warnings()]


def _notes_of_widths(
    context: Context, device: Device, tables: Sequence[CostTable], costs: Mapping[str, Costs]
) -> list[str]:
    """Where costs of narrow networks are from, and how far the line between two tables is off at one between them."""
    if len(tables) == 1:
        return []
    ordered = sorted(tables, key=lambda table: table.dimensions.hidden_size)
    *narrow, whole = (str(table.dimensions.hidden_size) for table in ordered)
    shapes = Counts.of(
        check_shapes(context.bench.checkpoint.architecture, device.target.size_alignment, context.options.seed)
    )
    off = [f"{bend:.1%}" for bend in costs["fp32"].latency.bends(shapes)]
    told = f"; left out, the one in the middle is {off[0]} off the line between its neighbours" if off else ""
    own = f"networks of {' and '.join(narrow)} residual dimensions (of {whole}) have a cost table of their own"
    return [f"{own}, between them costs are interpolated{told}"]
