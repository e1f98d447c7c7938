"""Measure a cost table: stacks of n and 2n equal blocks, some whole networks, and check networks the table never sees.

Every block of a stack has its own weights. A sub-block's cost is the slope between stacks of different depth, so that
stem, head and call cancel; base and mask are the intercepts all networks share. Networks of many sizes are among those
fitted. One weighted least-squares fit finds all pieces together; where a call is short and the weights of a large network
do not stay in the cache, also how many do. Sizes are placed coarsely first; where a curve bends, more are: matrices whose
rows are a power of two apart fall into the same cache sets and take up to a fifth longer, alone among their neighbours, and
a kink is closed in on by halving.
"""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from profilers import roofline
from profilers.cost_table import CostKey, CostTable, Piece, Source, TableError, is_uneven, network_row
from profilers.interleave import Plan, Recorder, Series, interleave
from profilers.interpolation import between
from profilers.program import Dimensions, Program, Workbench
from profilers.runtimes import OutOfMemoryError, Runtime
from profilers.sizes import LayerSizes, Stack
from profilers.workload import Workload
from targets import Fingerprint, Target

Floats = NDArray[np.float64]

_FFN_SHARES = (1 / 96, 1 / 24, 1 / 12, 1 / 6, 1 / 4, 1 / 3, 1 / 2, 2 / 3, 5 / 6, 1)
_HEAD_SHARES = (1 / 12, 1 / 6, 1 / 4, 1 / 3, 1 / 2, 2 / 3, 5 / 6, 1)
_UNEVEN_SHARES = (1 / 24, 1 / 6, 1 / 2)
"""Of all units, and a few more: what a remainder takes is measured at these sizes."""

_WHOLE_SHARES = (1 / 16, 1 / 4, 1 / 2, 1)
_BEND, _HALVINGS = 0.04, 4
"""A curve bends at a size whose cost is this far from the line between its neighbours; so often is it looked at again."""

_SESSIONS = 0.015
"""Relative standard deviation of sessions of one network: one block is not trusted further than that."""

_CACHED_SHARES, _CACHED_TRIED = (1 / 48, 3 / 4), 30
"""Of the largest network's weights: how many the cache may hold, and how many numbers between are tried."""

_NOTHING = 1e-4
"""A mean square misfit, in what a network's time is worth, that explains itself."""

CHECK_ROUNDS = 2
"""Blocks of each check network at least: their own noise counts as the table's error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed:
    """Networks, their seconds, and the relative standard error of each."""

    stacks: Sequence[Stack]
    seconds: Floats
    errors: Floats


def head_sizes(dims: Dimensions) -> list[int]:
    """Head counts to measure: all of few, else eight, denser where small."""
    return sorted({max(1, round(dims.heads * share)) for share in _HEAD_SHARES})


def ffn_sizes(dims: Dimensions, alignment: int) -> list[int]:
    """FFN unit counts to measure: multiples of the device's alignment, denser where small, and all units."""
    aligned = {max(alignment, round(dims.ffn_units * share / alignment) * alignment) for share in _FFN_SHARES}
    return sorted({min(size, dims.ffn_units) for size in aligned} | {dims.ffn_units})


def uneven_sizes(dims: Dimensions, alignment: int) -> list[int]:
    """FFN unit counts to measure that fill no whole multiples of the alignment, as far from them as can be."""
    near = {round(dims.ffn_units * share / alignment) * alignment + alignment // 2 for share in _UNEVEN_SHARES}
    return sorted(
        size for size in near if is_uneven(np.array(size), alignment, dims.ffn_units) and size < dims.ffn_units
    )


def _stack(dims: Dimensions, heads: int, units: int, depth: int) -> Stack:
    return (LayerSizes(heads, units),) * depth + (LayerSizes(0, 0),) * (dims.layers - depth)


def plan_stacks(dims: Dimensions, alignment: int) -> list[Stack]:
    """The networks to fit: each size as deep as the model, the largest at half the depth, whole networks, and one with nothing."""
    heads, units = head_sizes(dims), ffn_sizes(dims, alignment)
    half = max(dims.layers // 2, 1)
    single = [(h, 0) for h in heads] + [(0, u) for u in (*units, *uneven_sizes(dims, alignment))]
    whole = [(_nearest(heads, dims.heads * s), _nearest(units, dims.ffn_units * s)) for s in _WHOLE_SHARES]
    stacks = [_stack(dims, 0, 0, 0)]
    stacks += [_stack(dims, h, u, dims.layers) for h, u in single]
    stacks += [_stack(dims, h, u, half) for h, u in ((dims.heads, 0), (0, dims.ffn_units))]
    stacks += [_stack(dims, h, u, depth) for h, u in whole for depth in (1, half, dims.layers)]
    return list(dict.fromkeys(stacks))


def _only_piece(stack: Stack) -> LayerSizes | None:
    """The one sub-block that a network consists of, once or several times; None where it has two or none."""
    kept = {sizes for sizes in stack if any(sizes)}
    return next((sizes for sizes in kept if len(kept) == 1 and not all(sizes)), None)


def _within(wanted: Sequence[Stack], timed: Collection[Stack]) -> list[Stack]:
    """The networks of which no sub-block is larger than those that have a cost of their own.

    Where memory did not hold the largest sizes as deep as the model, a shallow network may still have them.
    """
    alone = [piece for stack in wanted if (piece := _only_piece(stack))]
    heads, units = (max((piece[i] for piece in alone), default=0) for i in (0, 1))
    return [net for net in timed if all(x.heads <= heads and x.ffn_units <= units for x in net)]


def _nearest(sizes: Sequence[int], wanted: float) -> int:
    return min(sizes, key=lambda size: abs(size - wanted))


def _hats(sizes: Sequence[int], size: int) -> Floats:
    """How the cost of a size mixes those of the sizes measured: float64 [sizes], the weights of linear interpolation."""
    if size == 0:
        return np.zeros(len(sizes))
    return np.asarray(between(sizes, [size])[0])


class Design(NamedTuple):
    """How the pieces of a model's networks add up under one workload."""

    dimensions: Dimensions
    alignment: int
    workload: Workload

    def uneven(self, units: int) -> bool:
        """Whether so many FFN units have a remainder."""
        return bool(is_uneven(np.array(units), self.alignment, self.dimensions.ffn_units))

    def keys(self, stacks: Sequence[Stack]) -> dict[Piece, list[CostKey]]:
        """The pieces to fit: base, mask, and every size that some stack has throughout."""
        single = {piece for stack in stacks if (piece := _only_piece(stack))}
        heads = sorted({x.heads for x in single if x.heads})
        units = sorted({x.ffn_units for x in single if x.ffn_units})
        even = [size for size in units if not self.uneven(size)]
        sizes: dict[Piece, list[int]] = {
            "base": [0],
            "mask": [0],
            "attention": heads,
            "ffn": even,
            "ffn_remainder": [size for size in units if size not in even],
            "attention_workspace": heads[-1:],
            "ffn_workspace": even[-1:],
        }
        return {piece: [CostKey(piece, size, self.workload) for size in placed] for piece, placed in sizes.items()}

    def row(self, stack: Stack, keys: Mapping[Piece, Sequence[CostKey]]) -> Floats:
        """What one network takes of every piece."""
        heads, units, uneven = ([key.size for key in keys[piece]] for piece in ("attention", "ffn", "ffn_remainder"))
        attention = _taken(heads, [sizes.heads for sizes in stack])
        ffn = _taken(units, [sizes.ffn_units for sizes in stack])
        remainder = _taken(uneven, [sizes.ffn_units for sizes in stack if self.uneven(sizes.ffn_units)])
        widest = [max(x.heads for x in stack) / heads[-1], max(x.ffn_units for x in stack) / units[-1]]
        return np.concatenate([[1.0, any(x.heads for x in stack)], attention, ffn, remainder, widest])


def _taken(sizes: Sequence[int], asked: Sequence[int]) -> Floats:
    """How the costs of all sizes asked mix those of the sizes measured: float64 [sizes]."""
    return sum((_hats(sizes, size) for size in asked), np.zeros(len(sizes)))


def fit_pieces(timed: Timed, design: Design) -> dict[CostKey, float]:
    """Non-negative least squares on relative errors, each network by what its own error is worth; no time below zero."""
    placed = design.keys(timed.stacks)
    keys = [key for sizes in placed.values() for key in sizes]
    matrix = np.array([design.row(stack, placed) for stack in timed.stacks])
    found = _solve(matrix, timed)
    weights = np.array([design.dimensions.weights(stack) for stack in timed.stacks])
    beyond = [
        (fits, _solve(np.column_stack([matrix, np.maximum(weights - fits, 0.0) / fits]), timed))
        for fits in map(int, np.geomspace(*_CACHED_SHARES, _CACHED_TRIED) * weights.max())
    ]
    fits, best = min(beyond, key=lambda tried: tried[1].misfit)
    if _tells(found.misfit, best.misfit, len(weights)):
        keys, found = [*keys, CostKey("uncached", fits, design.workload)], best
    return dict(zip(keys, map(float, found.seconds), strict=True))


class _Solution(NamedTuple):
    """Seconds of every piece, and the sum of the squares of what they leave, each in what its network is worth."""

    seconds: Floats
    misfit: float


def _solve(matrix: Floats, timed: Timed) -> _Solution:
    """Pieces of networks [N, pieces] that add up to what the networks take."""
    from scipy.optimize import nnls

    worth = 1 / np.hypot(timed.errors, _SESSIONS)
    solution, left = nnls(matrix * (worth / timed.seconds)[:, None], worth)
    return _Solution(solution, left**2)


def _tells(misfit: float, with_two_more: float, count: int) -> bool:
    """Whether two more parameters explain more than they cost (Schwarz, Annals of Statistics 6, 1978), beyond rounding."""
    floor = _NOTHING * count
    return count * float(np.log((misfit + floor) / (with_two_more + floor))) > 2 * float(np.log(count))


def refined(curve: Mapping[int, float], alignment: int) -> list[int]:
    """Sizes to measure next where a curve bends: beside a size that stands out, and half-way to those on either side of a kink.

    A size bends where it is off the line between the nearest sizes that do not lie right beside it. Where those right
    beside it are on that line, it stands out alone: nothing more is asked. The worst come first: what is held against a
    size that bends waits until more is known of that.
    """
    ends = {size: _apart(size, curve, alignment) for size in curve}
    off = {size: _off_line(size, curve, between) for size, between in ends.items() if between}
    found: set[int] = set()
    bent: set[int] = set()
    for size in sorted(off, key=lambda size: -off[size]):
        if off[size] <= _BEND or bent & {*ends[size]}:
            continue
        beside = {size - alignment, size + alignment}
        if not beside <= curve.keys():
            bent.add(size)
            found |= beside
        elif any(_off_line(near, curve, ends[size]) > _BEND for near in beside):
            bent.add(size)
            found |= {round((size + end) / 2 / alignment) * alignment for end in ends[size]}
    return sorted(found - curve.keys())


def _apart(size: int, curve: Mapping[int, float], alignment: int) -> tuple[int, ...]:
    """The nearest sizes below and above that do not lie right beside one; nothing where one of them is missing."""
    low = max((other for other in curve if other < size - alignment), default=None)
    high = min((other for other in curve if other > size + alignment), default=None)
    return () if low is None or high is None else (low, high)


def _off_line(size: int, curve: Mapping[int, float], ends: tuple[int, ...]) -> float:
    """How far the cost of a size is from the line between two others, as a share of it."""
    return abs(float(np.interp(size, ends, [curve[end] for end in ends])) / curve[size] - 1)


def control_seconds(
    known: Sequence[Stack], known_s: Floats, stacks: Sequence[Stack], dims: Dimensions, workload: Workload
) -> Floats:
    """Predictions [N] of a two-parameter linear fit, seconds on operations, made from the same measurements [M]."""
    given, wanted = (np.array([roofline.operations(workload, dims, s) for s in nets]) for nets in (known, stacks))
    slope, intercept = np.polyfit(given, known_s, 1, w=1 / known_s)
    return np.asarray(slope * wanted + intercept)


def reference_program(dims: Dimensions, workbench: Workbench) -> Program:
    """What every network's calls alternate with: a quarter of every layer."""
    quarter = LayerSizes(max(dims.heads // 4, 1), max(dims.ffn_units // 4, 1))
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
    start = time.monotonic()
    reference = reference_program(dimensions, workbench)

    planned = plan_stacks(dimensions, target.size_alignment)
    checks = [net for net in checks if net not in planned]
    wanted = list(dict.fromkeys([*planned, *(net for net in mixed if net not in checks and not _only_piece(net))]))
    several = 2 if workload.threads > 1 else 1  # their sessions differ about twice as much
    plan = replace(plan, min_rounds=several * plan.min_rounds)

    def timed(stacks: Sequence[Stack], begin: float, share: float) -> dict[Stack, Series]:
        programs = {stack: workbench(stack) for stack in dict.fromkeys(stacks)}
        series = interleave(
            list(programs.values()),
            reference,
            runtime,
            workload,
            plan=plan,
            seed=seed,
            rounds={programs[stack].name: several * check_rounds for stack in checks if stack in programs},
            recorder=recorder,
            skip_too_large=True,
            progress=lambda f: progress(begin + share * f),
        )
        return {stack: series[program.name] for stack, program in programs.items() if program.name in series}

    design = Design(dimensions, target.size_alignment, workload)
    series = timed([*wanted, *checks], 0.0, 0.95)
    fitting = _within([net for net in wanted if net in series], series)
    stacks, unseen = ([net for net in nets if net in fitting] for nets in (wanted, checks))
    level_s = next(iter(series.values())).reference_s
    entries = fit_pieces(_seconds(series, stacks, level_s), design)
    more: list[Stack] = []
    for step in range(_HALVINGS):
        bent = [net for net in _bent(entries, dimensions, target.size_alignment) if net not in more]
        if not bent:
            break
        more += bent
        try:
            series |= timed(bent, 0.95 + 0.05 * step / _HALVINGS, 0.05 / _HALVINGS)
        except OutOfMemoryError:  # not one of them was held: the curve stays as coarse as it is
            break
        stacks = [net for net in dict.fromkeys([*stacks, *bent]) if net in series]
        entries = fit_pieces(_seconds(series, stacks, level_s), design)
    table = CostTable(
        target=str(target),
        source="null" if runtime.source == "null" else "measured",
        fingerprint=fingerprint,
        dimensions=dimensions,
        entries=entries,
        seconds=time.monotonic() - start,
        how={
            **runtime.describe(),
            "measured": [_measured_row(workload, series, more)],
            "too_large": [network_row(net, workload) for net in (*wanted, *checks, *more) if net not in series],
        },
        alignment=target.size_alignment,
    )
    if not unseen:
        return table
    known, checked = (_seconds(series, nets, level_s) for nets in (stacks, unseen))
    return _with_error(table, known, checked, workload)


def _seconds(series: Mapping[Stack, Series], stacks: Sequence[Stack], level_s: float) -> Timed:
    """Networks of one or several runs at one level of the reference, in seconds."""
    ratios = [series[stack].median_s / series[stack].reference_s for stack in stacks]
    errors = [series[stack].error for stack in stacks]
    return Timed(stacks=stacks, seconds=np.array(ratios) * level_s, errors=np.array(errors))


def _measured_row(workload: Workload, series: Collection[Stack], more: Sequence[Stack]) -> dict[str, Any]:
    """How many networks a workload's table was measured on, and which FFN sizes were added where the curve bends."""
    return {
        **workload.to_json(),
        "networks": len(series),
        "ffn_units_at_bends": [stack[0].ffn_units for stack in more if stack in series],
    }


def _bent(entries: Mapping[CostKey, float], dims: Dimensions, alignment: int) -> list[Stack]:
    """Networks of the sizes to measure next where the FFN's curve bends; of heads nearly all are measured anyway."""
    curve = {key.size: seconds for key, seconds in entries.items() if key.piece == "ffn"}
    return [_stack(dims, 0, size, dims.layers) for size in refined(curve, alignment)]


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
    )
