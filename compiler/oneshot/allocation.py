"""Which sizes to give the layers: the knapsack of additive losses and one additive cost, its whole front at once.

Every group (a layer's attention, or its FFN) takes one of its options. The front grows group by group: each combination
kept so far with each option, without those that another beats (Nemhauser, Ullmann, "Discrete dynamic programming and
capital allocation", Management Science 1969).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from compiler.spaces.subnet import IntArray

Floats = NDArray[np.float64]
RESOLUTION = 1e-4


class Front(NamedTuple):
    """Combinations that no other beats: `costs` [n] rising, `losses` [n] falling, the `options` [n, groups] they take."""

    costs: Floats
    losses: Floats
    options: IntArray

    def within(self, budgets: Sequence[float]) -> IntArray:
        """Options [budgets, groups] that lose least at no more than each budget; the cheapest where nothing fits."""
        last = np.searchsorted(self.costs, budgets, side="right") - 1
        return self.options[np.maximum(last, 0)]


def exact_front(
    losses: Sequence[Floats],
    costs: Sequence[Floats],
    *,
    charge: float = 0.0,
    charged: int = 0,
    resolution: float | None = RESOLUTION,
) -> Front:
    """The front of summed loss against summed cost, both minimised; `losses[i]` and `costs[i]` are [options of group i].

    `charge` is paid once, unless each of the first `charged` groups takes its option 0. With `resolution` None the front
    is exact, and in the worst case exponentially long. Otherwise each merge keeps the least loss of every cell of
    `resolution / groups` of the range of summed costs: at most about `groups / resolution` combinations, and for any
    combination there is one that loses no more and costs at most `resolution` of that range more. Costs and losses are
    always those of the options beside them.
    """
    span = float(sum(np.ptp(cost) for cost in costs))
    cell = 0.0 if resolution is None else span * resolution / len(costs)
    front = Front(np.zeros(1), np.zeros(1), np.zeros((1, 0), dtype=np.int64))
    for group, (loss, cost) in enumerate(zip(losses, costs, strict=True), start=1):
        front = _merge(front, loss, cost, cell)
        if group == charged:
            front = _pay(front, charge, losses[:group], costs[:group])
    return front


def allocate(
    losses: Sequence[Floats],
    costs: Sequence[Floats],
    budgets: Sequence[float],
    *,
    charge: float = 0.0,
    charged: int = 0,
    resolution: float | None = RESOLUTION,
) -> IntArray:
    """For each budget, the options [budgets, groups] of least summed loss within it: a look-up in `exact_front`.

    Budgets below the cheapest combination give that combination.
    """
    return exact_front(losses, costs, charge=charge, charged=charged, resolution=resolution).within(budgets)


def _merge(front: Front, loss: Floats, cost: Floats, cell: float) -> Front:
    """The front with one more group."""
    costs, losses = np.add.outer(front.costs, cost).ravel(), np.add.outer(front.losses, loss).ravel()
    kept = _nondominated(costs, losses, cell)
    row, option = np.divmod(kept, len(cost))
    return Front(costs[kept], losses[kept], np.column_stack([front.options[row], option]))


def _pay(front: Front, charge: float, losses: Sequence[Floats], costs: Sequence[Floats]) -> Front:
    """The front of these groups when all combinations pay the charge but that of every option 0, which joins again."""
    paid = np.append(front.costs + charge, sum(float(cost[0]) for cost in costs))
    lost = np.append(front.losses, sum(float(loss[0]) for loss in losses))
    kept = _nondominated(paid, lost, 0.0)
    return Front(paid[kept], lost[kept], np.pad(front.options, ((0, 1), (0, 0)))[kept])


def _nondominated(costs: Floats, losses: Floats, cell: float) -> IntArray:
    """Indices, by rising cost, of the points that no other beats; of equal points one, of those in one cell the best."""
    alive = _least_of_cells(costs, losses, cell) if cell else np.arange(len(costs))
    order: IntArray = alive[np.lexsort((losses[alive], costs[alive]))]
    least: Floats = np.minimum.accumulate(losses[order])
    falls: NDArray[np.bool_] = np.append(True, least[1:] < least[:-1])
    return order[falls]


def _least_of_cells(costs: Floats, losses: Floats, cell: float) -> IntArray:
    """Indices of the points that lose least among those whose costs fall into the same cell."""
    cells = ((costs - costs.min()) / cell).astype(np.int64)
    least = np.full(cells.max() + 1, np.inf)
    np.minimum.at(least, cells, losses)
    return np.flatnonzero(losses == least[cells])
