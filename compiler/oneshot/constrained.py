"""The knapsack of `allocation` under several limits at once, as a mixed-integer linear program (HiGHS, through scipy)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from targets.errors import BudgetError

Floats = NDArray[np.float64]
_LOSS_RANGE = 1e3  # HiGHS stops at an absolute gap of 1e-6: a billionth of the range of losses


@dataclass(frozen=True, slots=True, kw_only=True)
class Constraint:
    """The most that the options may take of something, in sum or (peak memory) each: `costs[i]` is [options of group i]."""

    name: str
    costs: Sequence[Floats]
    limit: float
    kind: Literal["sum", "max"] = "sum"

    @property
    def least(self) -> float:
        """The least that a combination can take, the other constraints aside."""
        lowest = [float(cost.min()) for cost in self.costs]
        return sum(lowest) if self.kind == "sum" else max(lowest)


@dataclass(frozen=True, slots=True, kw_only=True)
class Allocation:
    """The option of every group, their summed loss, and the relative gap to the least loss that the solver left open."""

    options: tuple[int, ...]
    loss: float
    gap: float


def allocate_constrained(
    losses: Sequence[Floats], constraints: Sequence[Constraint], *, time_limit_s: float = 30.0
) -> Allocation:
    """The combination of least summed loss that meets every constraint; `losses[i]` is [options of group i].

    Sums meet their limit to a millionth of the largest sum (the solver's tolerance), maxima exactly. A charge that is
    paid once comes off the limit beforehand; what need not pay it is a problem of its own, its groups of one option.
    BudgetError says the least possible value of each constraint.
    """
    from scipy.optimize import Bounds, milp

    sizes = [len(loss) for loss in losses]
    loss = np.concatenate(losses)
    result = milp(
        loss * _LOSS_RANGE / (np.ptp(loss) * len(sizes) or 1.0),
        integrality=np.ones(len(loss), dtype=np.int64),
        bounds=Bounds(0, _allowed(constraints, len(loss))),
        constraints=_rows(sizes, constraints),
        options={"time_limit": time_limit_s, "mip_rel_gap": 0.0},
    )
    if result.x is None:
        raise BudgetError(_refusal(constraints, infeasible=result.status == 2))
    options = tuple(int(np.argmax(taken)) for taken in np.split(result.x, np.cumsum(sizes)[:-1]))
    total = sum(float(group[option]) for group, option in zip(losses, options, strict=True))
    return Allocation(options=options, loss=total, gap=float(result.mip_gap))


def _rows(sizes: Sequence[int], constraints: Sequence[Constraint]) -> tuple[Floats, Floats, Floats]:
    """Matrix [rows, options], lower and upper [rows]: one option of every group, then the sums in units of the largest."""
    sums = [constraint for constraint in constraints if constraint.kind == "sum"]
    scales = [sum(float(cost.max()) for cost in constraint.costs) or 1.0 for constraint in sums]
    totals = [np.concatenate(c.costs) / scale for c, scale in zip(sums, scales, strict=True)]
    limits = [c.limit / scale for c, scale in zip(sums, scales, strict=True)]
    one = np.ones(len(sizes))
    matrix = np.vstack([np.repeat(np.eye(len(sizes)), sizes, axis=1), *totals])
    return matrix, np.append(one, [-np.inf] * len(sums)), np.append(one, limits)


def _allowed(constraints: Sequence[Constraint], options: int) -> Floats:
    """Upper bounds [options]: 0 where an option is above a maximum."""
    allowed = np.ones(options)
    for constraint in constraints:
        if constraint.kind == "max":
            allowed *= np.concatenate(constraint.costs) <= constraint.limit
    return allowed


def _refusal(constraints: Sequence[Constraint], *, infeasible: bool) -> str:
    reason = "no allocation meets every budget" if infeasible else "no allocation was found in the time allowed"
    limits = ", ".join(f"{c.name} <= {c.limit:g}" for c in constraints)
    least = ", ".join(f"{c.name} {c.least:g}" for c in constraints)
    return f"{reason}: {limits}\nthe least possible of each alone: {least}"
