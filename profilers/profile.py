"""Measure a cost table: stacks of n and 2n equal blocks, and check networks the table never sees.

Every block of a stack has its own weights. A sub-block's cost is the slope between the two stacks, so that stem, head
and call cancel; base and mask are the intercepts all stacks share. One weighted least-squares fit finds them together.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from profilers import roofline
from profilers.cost_table import CostKey, CostTable, Piece, Source, TableError
from profilers.interleave import Plan, Recorder, Series, interleave
from profilers.program import Dimensions, Program, Workbench
from profilers.runtimes import Runtime
from profilers.sizes import LayerSizes, Stack
from profilers.workload import Workload
from targets import Fingerprint, Target

_FFN_SHARES = (1 / 96, 1 / 24, 1 / 12, 1 / 6, 1 / 4, 1 / 3, 1 / 2, 2 / 3, 5 / 6, 1)
_ALL_HEADS = 16


class _Stack(NamedTuple):
    """`depth` equal sub-blocks of one piece; depth 0 is the network without any."""

    piece: Piece
    size: int
    depth: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fit:
    entries: dict[CostKey, float]
    stacks: list[Stack]
    seconds: NDArray[np.float64]


def head_sizes(dims: Dimensions) -> list[int]:
    """Head counts to measure: all of them, or about sixteen spread evenly."""
    count = min(dims.heads, _ALL_HEADS)
    return sorted({round(dims.heads * (i + 1) / count) for i in range(count)})


def ffn_sizes(dims: Dimensions, alignment: int) -> list[int]:
    """FFN unit counts to measure: multiples of the device's alignment, denser where small, and all units."""
    aligned = {max(alignment, round(dims.ffn_units * share / alignment) * alignment) for share in _FFN_SHARES}
    return sorted({min(size, dims.ffn_units) for size in aligned} | {dims.ffn_units})


def _plan_stacks(dims: Dimensions, alignment: int) -> list[_Stack]:
    depths = sorted({max(dims.layers // 2, 1), dims.layers})
    sizes: list[tuple[Piece, int]] = [("attention", h) for h in head_sizes(dims)]
    sizes += [("ffn", u) for u in ffn_sizes(dims, alignment)]
    return [_Stack("base", 0, 0)] + [_Stack(piece, size, depth) for piece, size in sizes for depth in depths]


def _sizes(stack: _Stack, dims: Dimensions) -> Stack:
    block = LayerSizes(stack.size, 0) if stack.piece == "attention" else LayerSizes(0, stack.size)
    return (block,) * stack.depth + (LayerSizes(0, 0),) * (dims.layers - stack.depth)


def _fit(stacks: Sequence[_Stack], seconds: NDArray[np.float64], dims: Dimensions, workload: Workload) -> _Fit:
    """Non-negative least squares on relative errors; unknowns: base, mask and one slope per size, no time below zero."""
    from scipy.optimize import nnls

    slopes = list(dict.fromkeys((s.piece, s.size) for s in stacks if s.depth))
    column = {key: i + 2 for i, key in enumerate(slopes)}
    matrix = np.zeros((len(stacks), len(slopes) + 2))
    matrix[:, 0] = 1
    for row, stack in enumerate(stacks):
        if stack.depth:
            matrix[row, 1] = stack.piece == "attention"
            matrix[row, column[stack.piece, stack.size]] = stack.depth
    solution, _ = nnls(matrix / seconds[:, None], np.ones(len(stacks)))
    entries = {CostKey("base", 0, workload): float(solution[0]), CostKey("mask", 0, workload): float(solution[1])}
    entries |= {CostKey(p, s, workload): float(solution[i]) for (p, s), i in column.items()}
    return _Fit(entries=entries, stacks=[_sizes(s, dims) for s in stacks], seconds=seconds)


def _control(fit: _Fit, stacks: Sequence[Stack], dims: Dimensions, workload: Workload) -> NDArray[np.float64]:
    """Predictions of a two-parameter linear fit, seconds on operations, made from the same measurements."""
    known = np.array([roofline.operations(workload, dims, s) for s in fit.stacks])
    slope, intercept = np.polyfit(known, fit.seconds, 1, w=1 / fit.seconds)
    return np.asarray(slope * np.array([roofline.operations(workload, dims, s) for s in stacks]) + intercept)


def _reference(dims: Dimensions, workbench: Workbench) -> Program:
    half = LayerSizes(max(dims.heads // 2, 1), max(dims.ffn_units // 2, 1))
    return workbench((half,) * dims.layers)


def _error(
    table: CostTable, fit: _Fit, checks: Sequence[Stack], series: Sequence[Series], workload: Workload
) -> TableError:
    predicted = np.array([table.predict(stack, workload).value for stack in checks])
    measured = np.array([s.median_s for s in series])
    return TableError.of(predicted, measured, _control(fit, checks, table.dimensions, workload))


def _with_error(
    table: CostTable, fit: _Fit, checks: Sequence[Stack], series: Sequence[Series], workload: Workload
) -> CostTable:
    from dataclasses import replace

    rows = [
        {
            "heads": [sizes.heads for sizes in stack],
            "ffn_units": [sizes.ffn_units for sizes in stack],
            "measured_s": s.median_s,
            "predicted_s": table.predict(stack, workload).value,
        }
        for stack, s in zip(checks, series, strict=True)
    ]
    return replace(table, error=_error(table, fit, checks, series, workload), checks=tuple(rows))


def measure_table(
    target: Target,
    dimensions: Dimensions,
    workload: Workload,
    runtime: Runtime,
    workbench: Workbench,
    fingerprint: Fingerprint,
    *,
    checks: Sequence[Stack],
    plan: Plan,
    seed: int = 0,
    recorder: Recorder | None = None,
    progress: Callable[[float], None] = lambda _: None,
) -> CostTable:
    """Measure every piece of a model on a device, and the table's own error on `checks`.

    The check networks are measured in the same interleaved run; their times never enter the fit.
    """
    start = time.monotonic()
    stacks = _plan_stacks(dimensions, target.size_alignment)
    programs = [workbench(_sizes(stack, dimensions)) for stack in stacks]
    check_programs = [workbench(stack) for stack in checks]
    unique = {program.name: program for program in (*programs, *check_programs)}
    series = interleave(
        list(unique.values()),
        _reference(dimensions, workbench),
        runtime,
        workload,
        plan=plan,
        seed=seed,
        recorder=recorder,
        progress=progress,
    )
    seconds = np.array([series[program.name].median_s for program in programs])
    fit = _fit(stacks, seconds, dimensions, workload)
    table = CostTable(
        target=str(target),
        source="null" if runtime.source == "null" else "measured",
        fingerprint=fingerprint,
        dimensions=dimensions,
        entries=fit.entries,
        error=None,
        seconds=time.monotonic() - start,
    )
    if not checks:
        return table
    return _with_error(table, fit, checks, [series[p.name] for p in check_programs], workload)


def roofline_table(target: Target, dimensions: Dimensions, workload: Workload, fingerprint: Fingerprint) -> CostTable:
    """A table of datasheet estimates for a device that is not here; every entry says `roofline`."""
    source: Source = "roofline"
    entries = {
        CostKey("base", 0, workload): roofline.base_seconds(target, workload, dimensions),
        CostKey("mask", 0, workload): 0.0,
    }
    for heads in range(1, dimensions.heads + 1):
        entries[CostKey("attention", heads, workload)] = roofline.attention_seconds(target, workload, dimensions, heads)
    for units in ffn_sizes(dimensions, target.size_alignment):
        entries[CostKey("ffn", units, workload)] = roofline.ffn_seconds(target, workload, dimensions, units)
    return CostTable(
        target=str(target),
        source=source,
        fingerprint=fingerprint,
        dimensions=dimensions,
        entries=entries,
        error=None,
    )
