"""Which networks of the front are finished and written."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np

from compiler.pipeline.limits import MARGIN
from compiler.pipeline.networks import Evaluated
from compiler.search import BELOW, NEAR, spread_out

WORTH = 0.5
"""Share of the best metric on a front below which a network is written only where too few others are there; it may yet be
polished."""

_ALIKE = 1.02  # ratio of two costs that make no difference
_HOLE = 1.4  # ratio of two neighbours' costs, between which a network is missed


def choose(
    front: Sequence[Evaluated], limits: Mapping[str, float], count: int, along: str = "latency"
) -> list[Evaluated]:
    """At most `count` networks of a front, fastest first, in even ratios of one of its objectives.

    Below limits they are first those that take at least one `NEAR`th of one, then others. The best just below the limits are always among them, and so are the best a little further below (`BELOW`): the
    prediction has an error, and it is much the same for networks of one cost. What keeps less than `WORTH` of the best metric
    leaves its place to networks that are of use.
    """
    within = _within(front, limits, MARGIN)
    best = sorted(within or front[:1], key=lambda f: f.quality.error)
    leader = min(front, key=lambda f: f.quality.error).quality
    pool = best[: max(count, sum(f.quality.keeps(leader, WORTH) for f in best))]
    if not limits:
        chosen = [pool[i] for i in spread_out(np.log([f.costs[along] for f in pool]), count)]
        return sorted(chosen, key=lambda f: f.latency_s)
    must = [f for share in (1.0, *BELOW) for f in _within(best, limits, MARGIN * share)[:1]]
    chosen = _filled(list({f.id: f for f in must}.values())[:count], near(pool, limits), count, along)
    chosen = _filled(chosen, pool, count, along)
    left = [f for f in pool if f not in chosen]  # those that cost the same as a chosen one, within a little
    return sorted([*chosen, *left[: count - len(chosen)]], key=lambda f: f.latency_s)


def near(pool: Sequence[Evaluated], limits: Mapping[str, float]) -> list[Evaluated]:
    """Networks that take no less of some objective than one `NEAR`th of its limit."""
    return [f for f in pool if any(f.costs[name] * NEAR >= limit * MARGIN for name, limit in limits.items())]


def _filled(chosen: list[Evaluated], pool: Sequence[Evaluated], count: int, along: str) -> list[Evaluated]:
    """The chosen ones and more of the pool, always the one furthest from those chosen before, by the ratio of their costs.

    None that is within `_ALIKE` of one of them.
    """
    left = [f for f in pool if f not in chosen]
    while left and len(chosen) < count:
        taken = np.log([f.costs[along] for f in chosen])
        far = [np.abs(np.log(f.costs[along]) - taken).min(initial=np.inf) for f in left]
        if max(far) < np.log(_ALIKE):
            break
        chosen = [*chosen, left.pop(int(np.argmax(far)))]
    return chosen


def _within(found: Sequence[Evaluated], limits: Mapping[str, float], share: float) -> list[Evaluated]:
    """Those that are predicted to take no more than this share of every limit."""
    return [f for f in found if all(f.costs[name] <= limit * share for name, limit in limits.items())]


def shortfalls(chosen: Sequence[Evaluated], limits: Mapping[str, float], count: int, dense_s: float) -> list[str]:
    """Why there are fewer networks than were asked for, and where below a limit on latency none lies; in words."""
    notes = []
    if len(chosen) < count:
        below = " below the limits" if limits else ""
        notes.append(
            f"{len(chosen)} of the {count} networks that --winners asks for: the front has no more{below}; "
            "more --evaluations may find some"
        )
    if "latency" in limits:
        ends = [limits["latency"] * MARGIN / NEAR, limits["latency"] * MARGIN]
        inside = sorted(f.latency_s for f in chosen if ends[0] < f.latency_s <= ends[1])
        steps = [ends[0], *inside, ends[1]]
        holes = [
            f"{dense_s / dear:.2f}x and {dense_s / cheap:.2f}x"
            for cheap, dear in pairwise(steps)
            if dear > _HOLE * cheap
        ]
        if holes:
            notes.append(f"no network lies between {', nor between '.join(holes)}: more --evaluations may find some")
    return notes
