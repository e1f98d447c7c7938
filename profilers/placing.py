"""Where to measure: the networks that a table is fitted to, placed coarsely first, and closer where a curve bends."""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from profilers.cost_table import is_uneven
from profilers.program import Dimensions
from profilers.sizes import LayerSizes, Stack

_FFN_SHARES = (1 / 96, 1 / 24, 1 / 12, 1 / 6, 1 / 4, 1 / 3, 1 / 2, 2 / 3, 5 / 6, 1)
_HEAD_SHARES = (1 / 12, 1 / 6, 1 / 4, 1 / 3, 1 / 2, 2 / 3, 5 / 6, 1)
_SPLIT_SIZES = 16
_UNEVEN_SHARES = (1 / 24, 1 / 6, 1 / 2)
"""Of all units, and a few more: what a remainder takes is measured at these sizes."""

_WHOLE_SHARES = (1 / 16, 1 / 4, 1 / 2, 1)
_BEND = 0.04
"""A curve bends at a size whose cost is this far from the line between its neighbours."""
_SURE = 2.0
"""Standard errors that are noise."""


def head_sizes(dims: Dimensions) -> list[int]:
    """Sizes of an attention to measure: all of few, else eight, denser where small.

    Where query heads are cut apart, all up to sixteen: such sizes are not on one line.
    """
    most = dims.largest.heads
    if most > dims.heads:
        return sorted({*np.linspace(1, most, min(most, _SPLIT_SIZES)).round().astype(int).tolist()})
    return sorted({max(1, round(most * share)) for share in _HEAD_SHARES})


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


def equal_blocks(dims: Dimensions, heads: int, units: int, depth: int) -> Stack:
    """So many layers of one size, and nothing in the others."""
    return (LayerSizes(heads, units),) * depth + (LayerSizes(0, 0),) * (dims.layers - depth)


def plan_stacks(dims: Dimensions, alignment: int) -> list[Stack]:
    """The networks to fit: each size as deep as the model, the largest at half the depth, whole networks, and one with nothing."""
    heads, units = head_sizes(dims), ffn_sizes(dims, alignment)
    half = max(dims.layers // 2, 1)
    single = [(h, 0) for h in heads] + [(0, u) for u in (*units, *uneven_sizes(dims, alignment))]
    whole = [(_nearest(heads, dims.largest.heads * s), _nearest(units, dims.ffn_units * s)) for s in _WHOLE_SHARES]
    stacks = [equal_blocks(dims, 0, 0, 0)]
    stacks += [equal_blocks(dims, h, u, dims.layers) for h, u in single]
    stacks += [equal_blocks(dims, h, u, half) for h, u in ((dims.largest.heads, 0), (0, dims.ffn_units))]
    stacks += [equal_blocks(dims, h, u, depth) for h, u in whole for depth in (1, half, dims.layers)]
    return list(dict.fromkeys(stacks))


def only_piece(stack: Stack) -> LayerSizes | None:
    """The one sub-block that a network consists of, once or several times; None where it has two or none."""
    kept = {sizes for sizes in stack if any(sizes)}
    return next((sizes for sizes in kept if len(kept) == 1 and not all(sizes)), None)


def within(wanted: Sequence[Stack], timed: Collection[Stack]) -> list[Stack]:
    """The networks of which no sub-block is larger than those that have a cost of their own.

    Where memory did not hold the largest sizes as deep as the model, a shallow network may still have them.
    """
    alone = [piece for stack in wanted if (piece := only_piece(stack))]
    heads, units = (max((piece[i] for piece in alone), default=0) for i in (0, 1))
    return [net for net in timed if all(x.heads <= heads and x.ffn_units <= units for x in net)]


def _nearest(sizes: Sequence[int], wanted: float) -> int:
    return min(sizes, key=lambda size: abs(size - wanted))


class SizeCost(NamedTuple):
    """What a layer with so many FFN units takes in a stack of them, in seconds: by itself, and as a whole.

    The whole has what its weights take beyond the cache. `error` is the standard error of either.
    """

    piece: float
    whole: float
    error: float = 0.0


Curve = Mapping[int, SizeCost]


def refined(curve: Curve, alignment: int) -> list[int]:
    """Sizes to measure next where a curve bends: beside a size that stands out, and half-way to those on either side of a kink.

    A size bends where it is off the line between the nearest sizes that do not lie right beside it, beyond what noise explains.
    Where those right beside it are on that line, it stands out alone: nothing more is asked. The worst come first: what is held
    against a size that bends waits until more is known of that.
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


def _apart(size: int, curve: Curve, alignment: int) -> tuple[int, ...]:
    """The nearest sizes below and above that do not lie right beside one; nothing where one of them is missing."""
    low = max((other for other in curve if other < size - alignment), default=None)
    high = min((other for other in curve if other > size + alignment), default=None)
    return () if low is None or high is None else (low, high)


def _off_line(size: int, curve: Curve, ends: tuple[int, ...]) -> float:
    """How far the cost of a size is from the line between two others, beyond the noise of all three.

    It is a share of what the larger of cost and line takes as a whole.
    """
    cost, low, high = (curve[s] for s in (size, *ends))
    share = (size - ends[0]) / (ends[1] - ends[0])
    line = (1 - share) * low.piece + share * high.piece
    noise = float(np.hypot(cost.error, np.hypot((1 - share) * low.error, share * high.error)))
    off = max(abs(line - cost.piece) - _SURE * noise, 0.0)
    return off / (cost.whole + max(line - cost.piece, 0.0) or 1.0)
