"""Dominance and hypervolume (moocore), all objectives minimised."""

from heapq import heappop, heappush

import moocore
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def is_nondominated(objectives: Floats) -> NDArray[np.bool_]:
    """Which of N points [N, objectives] no other point dominates; of equal points only the first counts."""
    return np.asarray(moocore.is_nondominated(objectives, keep_weakly=False))


def hypervolume(objectives: Floats, reference: Floats) -> float:
    """Volume dominated by points [N, objectives] up to the reference point."""
    return float(moocore.hypervolume(objectives, ref=reference))


def spread_out(values: Floats, count: int) -> list[int]:
    """Indices of at most `count` of N values, both ends included, as evenly spread over their range as they allow."""
    order = np.argsort(values, kind="stable")
    if len(order) <= count:
        return [int(i) for i in order]
    chosen = {int(order[0]), int(order[-1])}
    for target in np.linspace(values[order[0]], values[order[-1]], count)[1:-1]:
        free = [int(i) for i in order if int(i) not in chosen]
        chosen.add(min(free, key=lambda i: abs(values[i] - target)))
    return sorted(chosen, key=lambda i: values[i])


def bisected(count: int) -> list[int]:
    """The indices below `count` in an order that covers them from the start: both ends, then middles of widest gaps."""
    order = list(range(count))[:: max(count - 1, 1)]
    gaps = [(1 - count, 0)]
    while gaps:
        width, low = heappop(gaps)
        half = -width // 2
        if half > 0:
            order.append(low + half)
            heappush(gaps, (-half, low))
            heappush(gaps, (width + half, low + half))
    return order


def ranked(objectives: Floats) -> NDArray[np.int64]:
    """Indices of N points [N, objectives], best first: front after front, and within each `farthest_first`; failed ones last.

    The order in which multi-objective successive halving promotes (Schmucker et al., "Multi-objective Asynchronous
    Successive Halving", arXiv 2106.12639, section 3: non-dominated sorting, then an epsilon-net).
    """
    ranks = front_ranks(objectives)
    members = [np.flatnonzero(ranks == rank) for rank in np.unique(ranks)]
    return np.concatenate([some[farthest_first(objectives[some])] for some in members])


def front_ranks(objectives: Floats) -> NDArray[np.int64]:
    """Which front each of N points [N, objectives] is on: 0 is dominated by none; failed ones are on the last."""
    worked = np.isfinite(objectives).all(axis=1)
    ranks = np.full(len(objectives), len(objectives), dtype=np.int64)
    if worked.any():
        ranks[worked] = moocore.pareto_rank(objectives[worked])
    return ranks


def crowding(objectives: Floats) -> Floats:
    """Crowding distance [N] of points [N, objectives] within their own front (Deb et al., 2002); higher is lonelier, 0 failed."""
    from pymoo.operators.survival.rank_and_crowding.metrics import calc_crowding_distance

    distance = np.zeros(len(objectives))
    ranks = front_ranks(objectives)
    for rank in np.unique(ranks[np.isfinite(objectives).all(axis=1)]):
        distance[ranks == rank] = calc_crowding_distance(objectives[ranks == rank])
    return distance


def farthest_first(points: Floats) -> list[int]:
    """Indices of N points [N, objectives]: from the one nearest to the ideal, always the one farthest from those before.

    Distances are taken with every objective scaled to its range. Any beginning of the order covers the points about as
    well as so many can (Gonzalez, 1985). Points with a value that is not finite keep their order.
    """
    if not np.isfinite(points).all():
        return list(range(len(points)))
    low, span = points.min(axis=0), np.ptp(points, axis=0)
    scaled = (points - low) / np.where(span > 0, span, 1.0)
    order = [int(np.argmin(scaled.sum(axis=1)))]
    gaps = np.full(len(points), np.inf)
    while len(order) < len(points):
        gaps = np.minimum(gaps, np.linalg.norm(scaled - scaled[order[-1]], axis=1))
        gaps[order[-1]] = -1.0
        order.append(int(np.argmax(gaps)))
    return order
