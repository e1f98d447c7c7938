"""Which networks meet the budgets, and which one of them `best` names: never by a difference that the examples do not show."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from compiler.evaluation import Changes
from compiler.pipeline.options import Budgets
from compiler.pipeline.winners import Winner
from compiler.tasks import Task
from targets.errors import BudgetError

INDIFFERENT = 0.002
"""Share of the metric that a faster network may surely cost and still count as good as the best within a budget."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether one winner meets the budgets, on measurement or (`predicted`) on the table."""

    status: str
    limits: Mapping[str, float]


def judge(winner: Winner, dense: Winner, budgets: Budgets, percentile: str) -> Verdict:
    """Hold a winner against the budgets."""
    limits = budgets.limits()
    measured = winner.series is not None
    latency = winner.latency_s(percentile) if measured else winner.found.latency_s
    memory = winner.peak_bytes
    speedup = winner.speedup if measured else dense.found.latency_s / winner.found.latency_s
    assert latency is not None  # noqa: S101  one of the two exists
    assert speedup is not None  # noqa: S101
    met = (
        (budgets.max_latency_s is None or latency <= budgets.max_latency_s)
        and (budgets.min_speedup is None or speedup >= budgets.min_speedup)
        and (budgets.max_memory_bytes is None or memory is None or memory <= budgets.max_memory_bytes)
        and (budgets.max_drop is None or winner.validation.keeps(dense.validation, 1 - budgets.max_drop))
    )
    if budgets.max_flips is not None or budgets.max_class_drop is not None:
        met = met and _as_dense(winner.changes["validation"], budgets)
    if not limits:
        return Verdict(status="none", limits=limits)
    if not met:
        return Verdict(status="missed", limits=limits)
    certain = measured and (budgets.max_memory_bytes is None or winner.memory_bytes is not None)
    return Verdict(status="met" if certain else "predicted", limits=limits)


def _as_dense(changes: Changes, budgets: Budgets) -> bool:
    """Whether a network decides enough as the dense model does, over all and in every class with enough decisions."""
    worst = changes.worst_class
    return (budgets.max_flips is None or changes.flips <= budgets.max_flips) and (
        budgets.max_class_drop is None or worst is None or worst.drop <= budgets.max_class_drop
    )


def kept_share(task: Task, budgets: Budgets) -> float:
    """Share of the dense model's metric that `best` is to keep where no budget is one of costs."""
    return task.keep if budgets.max_drop is None else 1 - budgets.max_drop


def _of_costs(budgets: Budgets) -> bool:
    return any(limit is not None for limit in (budgets.max_latency_s, budgets.min_speedup, budgets.max_memory_bytes))


def best_of(
    winners: Sequence[Winner], dense: Winner, verdicts: Mapping[str, Verdict], budgets: Budgets, *, keep: float
) -> Winner:
    """The network that the budgets select, by scores on validation and their paired noise (`compiler.evaluation.Quality.margin`).

    Under a budget of latency or memory it is the one of least error, or a faster one that is worse by no more than `INDIFFERENT`
    for sure. Without, it is the fastest that keeps the share `keep` of the dense metric for sure: the lower 95 % bound of what it
    is above that share, on the same examples, is not below 0. Where none is sure, it is of those whose score is above the share
    chosen as under a budget, and where there is none, of all (`reservation` says so). BudgetError naming the nearest candidate
    where none meets the budgets.
    """
    allowed = [w for w in winners if verdicts[w.id].status != "missed"]
    if not allowed:
        raise BudgetError(_nearest(winners, dense))
    if _of_costs(budgets):
        return _most_accurate(allowed)
    sure = [w for w in allowed if w.validation.margin(dense.validation, keep) >= 0]
    if sure:
        return min(sure, key=_cost)
    keeping = [w for w in allowed if w.validation.keeps(dense.validation, keep)]
    return _most_accurate(keeping or allowed)


def reservation(
    best: Winner, dense: Winner, budgets: Budgets, metric: str, *, keep: float, units: str = "examples"
) -> str | None:
    """What to know of the choice: that no network keeps the share, or none for sure; None where the one chosen does."""
    if _of_costs(budgets) or best.validation.margin(dense.validation, keep) >= 0:
        return None
    scores = f"{best.validation.metric:.4f} against {dense.validation.metric:.4f} of the dense model"
    examples = f"{len(best.validation.values):,} validation {units}"
    if not best.validation.keeps(dense.validation, keep):
        return f"no network keeps {keep:.0%} of the {metric}: {best.id} is the best there is ({scores}, {examples})"
    return f"{best.id} keeps {keep:.0%} of the {metric} or more, but no surer than chance on {examples} ({scores}): more data would tell"


def _most_accurate(winners: Sequence[Winner]) -> Winner:
    """The network of least error, or a faster one that is surely as good but for `INDIFFERENT`."""
    least = min(winners, key=lambda w: w.validation.error)
    allowance = INDIFFERENT * abs(least.validation.metric if least.validation.scale.higher_is_better else 1.0)
    return min((w for w in winners if w is least or w.validation.margin(least.validation) >= -allowance), key=_cost)


def _cost(winner: Winner) -> float:
    return winner.found.latency_s if winner.series is None else winner.series.median_s


def _nearest(winners: Sequence[Winner], dense: Winner) -> str:
    fastest = min(winners, key=_cost)
    nearest = max(
        winners,
        key=lambda w: _kept(w, dense) + (w.speedup or 0) / (fastest.speedup or 1),
    )
    speed = nearest.speedup or dense.found.latency_s / nearest.found.latency_s
    return (
        f"none of {len(winners)} candidates meets the budget\nnearest: {nearest.id} at {_cost(nearest) * 1e3:.3g} ms, "
        f"{speed:.2f}x{_megabytes(nearest)}, metric {nearest.validation.metric:.4f} (dense {dense.validation.metric:.4f}); "
        f"fastest: {_cost(fastest) * 1e3:.3g} ms{_megabytes(fastest)}"
    )


def _kept(winner: Winner, dense: Winner) -> float:
    """Share of the dense model's metric; the metric itself where that is no measure."""
    kept = winner.validation.scale.kept(winner.validation.metric, dense.validation.metric)
    return winner.validation.metric if kept is None else kept


def _megabytes(winner: Winner) -> str:
    return "" if winner.peak_bytes is None else f", {winner.peak_bytes / 1e6:.4g} MB"
