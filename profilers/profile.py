"""Measure a cost table: stacks of n and 2n equal blocks, some whole networks, and check networks the table never sees.

Every block of a stack has its own weights. A sub-block's cost is the slope between stacks of different depth, so that
stem, head and call cancel; base and mask are the intercepts all networks share. Networks of many sizes are among those
fitted. One weighted least-squares fit finds all pieces together; where a call is short and the weights of a large network
do not stay in the cache, also how many do. Sizes are placed coarsely first; where a curve bends, more are: matrices whose
rows are a power of two apart fall into the same cache sets and take up to a fifth longer, alone among their neighbours, and
a kink is closed in on by halving.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np

from profilers import roofline
from profilers.cost_table import CostKey, CostTable, Overflow, Source, TableError, network_row
from profilers.fitting import Design, Timed, control_seconds, fit_pieces
from profilers.interleave import Plan, Recorder, Series, interleave
from profilers.placing import SizeCost, equal_blocks, ffn_sizes, only_piece, plan_stacks, refined, within
from profilers.program import Dimensions, Program, Workbench
from profilers.runtimes import OutOfMemoryError, Runtime
from profilers.sizes import LayerSizes, Stack
from profilers.workload import Workload
from targets import Fingerprint, Target

CHECK_ROUNDS = 2
"""Blocks of each check network at least: their own noise counts as the table's error."""

_LOOKS = 4
"""How often the curve is looked at again for bends."""

_FIRST_SHARE = 0.95
"""Of the progress: the networks planned; the rest is for bends."""


def reference_program(dims: Dimensions, workbench: Workbench) -> Program:
    """What every network's calls alternate with: a quarter of every layer."""
    quarter = LayerSizes(*(max(size // 4, 1) for size in dims.largest))
    return workbench((quarter,) * dims.layers)


def _with_error(table: CostTable, timed: Timed, unseen: Timed, workload: Workload) -> CostTable:
    predicted = np.array([table.predict(stack, workload).value for stack in unseen.stacks])
    rows = [
        {**network_row(stack, workload), "measured_s": float(measured), "predicted_s": float(value)}
        for stack, measured, value in zip(unseen.stacks, unseen.seconds, predicted, strict=True)
    ]
    control = control_seconds(timed.stacks, timed.seconds, unseen.stacks, table.dimensions, workload)
    error = TableError.of(predicted, unseen.seconds, control)
    return replace(table, errors={workload: error}, checks=tuple(rows))


def measure_table(
    target: Target,
    dimensions: Dimensions,
    workload: Workload,
    runtime: Runtime,
    workbench: Workbench,
    fingerprint: Fingerprint,
    *,
    mixed: Sequence[Stack] = (),
    checks: Sequence[Stack],
    plan: Plan,
    check_rounds: int = CHECK_ROUNDS,
    seed: int = 0,
    recorder: Recorder | None = None,
    progress: Callable[[float], None] = lambda _: None,
) -> CostTable:
    """Measure every piece of a model on a device, and the table's own error on `checks`.

    `mixed` are networks of many sizes that are fitted beside stacks of equal blocks: what a piece costs among others.
    The check networks are measured in the same interleaved run, in `check_rounds` blocks at least; their times never
    enter the fit, and those that are fitted anyway are no checks. On several threads every network is given twice the blocks.
    """
    start, design = time.monotonic(), Design(dimensions, target.size_alignment, workload)
    planned = plan_stacks(dimensions, target.size_alignment)
    checks = [net for net in checks if net not in planned]
    wanted = list(dict.fromkeys([*planned, *(net for net in mixed if net not in checks and not only_piece(net))]))
    several = 2 if workload.threads > 1 else 1  # their sessions differ about twice as much
    reference = reference_program(dimensions, workbench)

    def timed(stacks: Sequence[Stack], told: Callable[[float], None]) -> dict[Stack, Series]:
        programs = {stack: workbench(stack) for stack in dict.fromkeys(stacks)}
        series = interleave(
            list(programs.values()),
            reference,
            runtime,
            workload,
            plan=replace(plan, min_rounds=several * plan.min_rounds),
            seed=seed,
            rounds={programs[stack].name: several * check_rounds for stack in checks if stack in programs},
            recorder=recorder,
            skip_too_large=True,
            progress=told,
        )
        return {stack: series[program.name] for stack, program in programs.items() if program.name in series}

    series = timed([*wanted, *checks], _part(progress, 0.0, _FIRST_SHARE))
    fitting = within([net for net in wanted if net in series], series)
    stacks, unseen = ([net for net in nets if net in fitting] for nets in (wanted, checks))
    fit = _Fit(design, series, stacks)
    for told in _parts(progress, _FIRST_SHARE, _LOOKS):
        bent = fit.bent()
        if not bent:
            break
        found: dict[Stack, Series] = {}
        with suppress(OutOfMemoryError):  # where not one of them is held, the curve stays as coarse as it is
            found = timed(bent, told)
        fit.add(bent, found)
    table = CostTable(
        target=str(target),
        source="null" if runtime.source == "null" else "measured",
        fingerprint=fingerprint,
        dimensions=dimensions,
        entries=fit.entries,
        seconds=time.monotonic() - start,
        how={
            **runtime.describe(),
            "measured": [_measured_row(workload, fit)],
            "too_large": [network_row(net, workload) for net in (*wanted, *checks, *fit.more) if net not in fit.series],
        },
        alignment=target.size_alignment,
    )
    return _with_error(table, fit.timed, fit.seconds(unseen), workload) if unseen else table


def _part(progress: Callable[[float], None], begin: float, share: float) -> Callable[[float], None]:
    """Tells the progress of a part of the whole."""
    return lambda fraction: progress(begin + share * fraction)


def _parts(progress: Callable[[float], None], begin: float, count: int) -> list[Callable[[float], None]]:
    """The same of what is left from `begin` on, in equal parts."""
    share = (1 - begin) / count
    return [_part(progress, begin + i * share, share) for i in range(count)]


class _Fit:
    """The pieces that explain what networks took so far; `more` are those of sizes asked for because the curve bends."""

    def __init__(self, design: Design, series: dict[Stack, Series], stacks: Sequence[Stack]) -> None:
        self.design, self.series, self.stacks = design, series, stacks
        self.more: list[Stack] = []
        self.level_s = next(iter(series.values())).reference_s
        self._solve()

    def _solve(self) -> None:
        self.timed = self.seconds(self.stacks)
        self.entries = fit_pieces(self.timed, self.design)

    def seconds(self, stacks: Sequence[Stack]) -> Timed:
        """Networks of one or several runs at the first run's level of the reference, in seconds."""
        ratios = [self.series[stack].median_s / self.series[stack].reference_s for stack in stacks]
        errors = [self.series[stack].error for stack in stacks]
        return Timed(stacks=stacks, seconds=np.array(ratios) * self.level_s, errors=np.array(errors))

    def bent(self) -> list[Stack]:
        """Networks of the sizes to measure next where the FFN's curve bends; of heads nearly all are measured anyway."""
        placed = {key.size: self._equal(key.size) for key in self.entries if key.piece == "ffn"}
        curve = {size: self._layer(stack) for size, stack in placed.items() if stack in self.series}
        nets = map(self._equal, refined(curve, self.design.alignment))
        return [net for net in nets if net not in self.more]

    def _equal(self, units: int) -> Stack:
        """As many layers as the model has of so many FFN units, and nothing else."""
        dims = self.design.dimensions
        return equal_blocks(dims, 0, units, dims.layers)

    def _layer(self, stack: Stack) -> SizeCost:
        """What a layer of a stack of equal ones took, not what the fit makes of it: networks of many sizes even bends out."""
        design, timed = self.design, self.seconds([stack])
        weights, layers = np.array(design.dimensions.weights(stack)), design.dimensions.layers
        beyond_s = sum(float(beyond.seconds(weights)) for beyond in Overflow.under(design.workload, self.entries))
        whole_s = float(timed.seconds[0]) - self.entries[CostKey("base", 0, design.workload)]
        return SizeCost(
            (whole_s - beyond_s) / layers, whole_s / layers, float(timed.errors[0] * timed.seconds[0]) / layers
        )

    def add(self, bent: Sequence[Stack], timed: Mapping[Stack, Series]) -> None:
        """Fit again, with those of the networks asked for that were timed."""
        self.more = [*self.more, *bent]
        self.series = {**self.series, **timed}
        self.stacks = [*self.stacks, *(net for net in bent if net in timed)]
        self._solve()


def _measured_row(workload: Workload, fit: _Fit) -> dict[str, Any]:
    """How many networks a workload's table was measured on, and which FFN sizes were added where the curve bends."""
    return {
        **workload.to_json(),
        "networks": len(fit.series),
        "ffn_units_at_bends": [stack[0].ffn_units for stack in fit.more if stack in fit.series],
    }


def roofline_table(target: Target, dimensions: Dimensions, workload: Workload, fingerprint: Fingerprint) -> CostTable:
    """A table of datasheet estimates for a device that is not here; every entry says `roofline`."""
    source: Source = "roofline"
    entries = {
        CostKey("base", 0, workload): roofline.base_seconds(target, workload, dimensions),
        CostKey("mask", 0, workload): 0.0,
    }
    for heads in range(1, dimensions.largest.heads + 1):
        entries[CostKey("attention", heads, workload)] = roofline.attention_seconds(target, workload, dimensions, heads)
    for units in ffn_sizes(dimensions, target.size_alignment):
        entries[CostKey("ffn", units, workload)] = roofline.ffn_seconds(target, workload, dimensions, units)
    return CostTable(
        target=str(target),
        source=source,
        fingerprint=fingerprint,
        dimensions=dimensions,
        entries=entries,
    )
