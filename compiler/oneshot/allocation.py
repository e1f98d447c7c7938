"""Which sizes to give the layers: the knapsack of additive losses and additive costs, solved by dynamic programming."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def allocate(
    losses: Sequence[Floats], costs: Sequence[Floats], budgets: Sequence[float], *, resolution: int = 2000
) -> list[list[int]]:
    """For each budget, the option of every group whose summed loss is least while the summed cost stays within it.

    `losses[i]` and `costs[i]` are [options of group i], both to be small. Costs are rounded up to `resolution` steps of
    the largest budget, so a solution never exceeds its budget; it is optimal for the rounded costs. Budgets below the
    cheapest combination give that combination.
    """
    step = max(budgets) / resolution
    rounded = [np.ceil(np.maximum(cost, 0) / step - 1e-9).astype(np.int64) for cost in costs]
    best = np.zeros(resolution + 1)
    picks = []
    for loss, cost in zip(losses, rounded, strict=True):
        best, pick = _add_group(best, loss, cost)
        picks.append(pick)
    return [_trace(picks, rounded, best, int(budget / step)) for budget in budgets]


def _add_group(best: Floats, loss: Floats, cost: NDArray[np.int64]) -> tuple[Floats, NDArray[np.int64]]:
    """Least loss within each cost after one more group, and the option that reached it."""
    new = np.full(len(best), np.inf)
    pick = np.full(len(best), -1, dtype=np.int64)
    for option in range(len(loss)):
        shift = int(cost[option])
        if shift >= len(best):
            continue
        value = np.full(len(best), np.inf)
        value[shift:] = best[: len(best) - shift] + loss[option]
        better = value < new
        new[better], pick[better] = value[better], option
    return new, pick


def _trace(picks: list[NDArray[np.int64]], costs: list[NDArray[np.int64]], best: Floats, budget: int) -> list[int]:
    if not np.isfinite(best[budget]):
        return [int(np.argmin(cost)) for cost in costs]
    chosen = []
    for pick, cost in zip(reversed(picks), reversed(costs), strict=True):
        option = int(pick[budget])
        chosen.append(option)
        budget -= int(cost[option])
    return chosen[::-1]
