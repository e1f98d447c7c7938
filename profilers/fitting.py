"""From what networks took to what their pieces take: one fit for all, and the control beside it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from profilers import roofline
from profilers.cost_table import CostKey, Piece, is_uneven
from profilers.interpolation import between
from profilers.placing import only_piece
from profilers.program import Dimensions
from profilers.sizes import Stack
from profilers.workload import Workload

Floats = NDArray[np.float64]

_SESSIONS = 0.015
"""Relative standard deviation of sessions of one network: one block is not trusted further than that."""

_CACHED_SHARES, _CACHED_TRIED = (1 / 48, 3 / 4), 30
"""Of the largest network's weights: how many the cache may hold, and how many numbers between are tried."""

_NOTHING = 1e-4
"""A mean square misfit, in what a network's time is worth, that explains itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed:
    """Networks, their seconds, and the relative standard error of each."""

    stacks: Sequence[Stack]
    seconds: Floats
    errors: Floats


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
        single = {piece for stack in stacks if (piece := only_piece(stack))}
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
    """Non-negative least squares on relative errors, each network by what its own error is worth; no time below zero.

    A cache that is best at the least of what is tried is none: such a piece has no bend, only a start below zero.
    """
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
    if fits > beyond[0][0] and _tells(found.misfit, best.misfit, len(weights)):
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


def control_seconds(
    known: Sequence[Stack], known_s: Floats, stacks: Sequence[Stack], dims: Dimensions, workload: Workload
) -> Floats:
    """Predictions [N] of a two-parameter linear fit, seconds on operations, made from the same measurements [M]."""
    given, wanted = (np.array([roofline.operations(workload, dims, s) for s in nets]) for nets in (known, stacks))
    slope, intercept = np.polyfit(given, known_s, 1, w=1 / known_s)
    return np.asarray(slope * wanted + intercept)
