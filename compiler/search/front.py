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
