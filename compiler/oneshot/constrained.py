"""The knapsack of `allocation` under several limits at once, as a mixed-integer linear program (HiGHS, through scipy).

A sum over the groups is linear. A largest value (peak memory, scratch space) is a variable of its own that no group's
option may exceed.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from targets.errors import BudgetError

Floats = NDArray[np.float64]
_LOSS_RANGE = 1e3  # HiGHS stops at an absolute gap of 1e-6: a billionth of the range of losses


@dataclass(frozen=True, slots=True, kw_only=True)
class Constraint:
    """The most that the options may take of something: the sum of `costs`, and of each of the `peaks` its largest.

    `costs[i]` is [options of group i], and so is `peaks[k][i]`; none is below zero in a peak.
    """

    name: str
    costs: Sequence[Floats]
    limit: float
    peaks: Sequence[Sequence[Floats]] = ()

    @property
    def least(self) -> float:
        """No combination takes less, the other constraints aside."""
        lowest = sum(float(cost.min()) for cost in self.costs)
        return lowest + sum(max(float(group.min()) for group in peak) for peak in self.peaks)

    @property
    def most(self) -> float:
        """No combination takes more."""
        highest = sum(float(cost.max()) for cost in self.costs)
        return highest + sum(max(float(group.max()) for group in peak) for peak in self.peaks)


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

    Limits are met to a millionth of the most that can be taken (the solver's tolerance). A charge that is paid once comes
    off the limit beforehand; what need not pay it is a problem of its own, its groups of one option. BudgetError says the
    least of each constraint.
    """
    from scipy.optimize import Bounds, LinearConstraint, milp

    sizes = [len(loss) for loss in losses]
    loss = np.concatenate(losses)
    peaks = sum(len(constraint.peaks) for constraint in constraints)
    matrix, lower, upper = _rows(sizes, constraints, peaks)
    result = milp(
        np.append(loss * _LOSS_RANGE / (np.ptp(loss) * len(sizes) or 1.0), np.zeros(peaks)),
        integrality=np.append(np.ones(len(loss)), np.zeros(peaks)),
        bounds=Bounds(0, np.append(np.ones(len(loss)), np.full(peaks, np.inf))),
        constraints=LinearConstraint(matrix, lower, upper),
        options={"time_limit": time_limit_s, "mip_rel_gap": 0.0},
    )
    if result.x is None:
        raise BudgetError(_refusal(constraints, infeasible=result.status == 2))
    taken = result.x[: len(loss)]
    options = tuple(int(np.argmax(part)) for part in np.split(taken, np.cumsum(sizes)[:-1]))
    total = sum(float(group[option]) for group, option in zip(losses, options, strict=True))
    return Allocation(options=options, loss=total, gap=float(result.mip_gap))


def _rows(sizes: Sequence[int], constraints: Sequence[Constraint], peaks: int) -> tuple[Floats, Floats, Floats]:
    """Matrix [rows, options + peaks], lower and upper [rows]: one option of every group, then every constraint.

    A constraint is in units of the most it can take: a row for its sum with its peaks, and one for each group below each.
    """
    groups = np.repeat(np.eye(len(sizes)), sizes, axis=1)
    rows = [np.pad(groups, ((0, 0), (0, peaks)))]
    limits = [np.ones(len(sizes))]
    variables = iter(np.eye(peaks))
    for constraint in constraints:
        unit = constraint.most or 1.0
        own = [next(variables) for _ in constraint.peaks]
        rows.append(
            np.append(np.concatenate(constraint.costs) / unit, np.sum(own, axis=0) if own else np.zeros(peaks))[None]
        )
        limits.append(np.array([constraint.limit / unit]))
        for peak, variable in zip(constraint.peaks, own, strict=True):
            rows.append(np.column_stack([groups * np.concatenate(peak) / unit, np.tile(-variable, (len(sizes), 1))]))
            limits.append(np.zeros(len(sizes)))
    upper = np.concatenate(limits)
    lower = np.where(np.arange(len(upper)) < len(sizes), 1.0, -np.inf)
    return np.vstack(rows), lower, upper


def _refusal(constraints: Sequence[Constraint], *, infeasible: bool) -> str:
    reason = "no allocation meets every budget" if infeasible else "no allocation was found in the time allowed"
    limits = ", ".join(f"{c.name} <= {c.limit:g}" for c in constraints)
    least = ", ".join(f"{c.name} {c.least:g}" for c in constraints)
    return f"{reason}: {limits}\nthe least possible of each alone: {least}"
