"""Which networks meet the budgets, and which one of them `best` names: never by a difference that the examples do not show."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from compiler.evaluation import Changes
from compiler.pipeline.networks import Measured
from compiler.pipeline.options import Budgets
from compiler.tasks import Task
from targets.errors import BudgetError

INDIFFERENT = 0.002
"""Share of the metric that a faster network may surely cost and still count as good as the best within a budget."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether one network meets the budgets, on measurement or (`predicted`) on the table."""

    status: str
    limits: Mapping[str, float]


def judge(network: Measured, dense: Measured, budgets: Budgets, percentile: str) -> Verdict:
    """Hold a network against the budgets."""
    limits = budgets.limits()
    measured = network.series is not None
    latency = network.percentile_s(percentile) if measured else network.latency_s
    memory = network.peak_bytes
    speedup = network.speedup if measured else dense.latency_s / network.latency_s
    assert latency is not None  # noqa: S101  one of the two exists
    assert speedup is not None  # noqa: S101
    met = (
        (budgets.max_latency_s is None or latency <= budgets.max_latency_s)
        and (budgets.min_speedup is None or speedup >= budgets.min_speedup)
        and (budgets.max_memory_bytes is None or memory is None or memory <= budgets.max_memory_bytes)
        and (budgets.max_drop is None or network.validation.keeps(dense.validation, 1 - budgets.max_drop))
    )
    if budgets.max_flips is not None or budgets.max_class_drop is not None:
        met = met and _as_dense(network.changes["validation"], budgets)
    if not limits:
        return Verdict(status="none", limits=limits)
    if not met:
        return Verdict(status="missed", limits=limits)
    certain = measured and (budgets.max_memory_bytes is None or network.memory_bytes is not None)
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
    networks: Sequence[Measured], dense: Measured, verdicts: Mapping[str, Verdict], budgets: Budgets, *, keep: float
) -> Measured:
    """The network that the budgets select, by scores on validation and their paired noise (`compiler.evaluation.Quality.margin`).

    Under a budget of latency or memory it is the one of least error, or a faster one that is worse by no more than `INDIFFERENT`
    for sure. Without, it is the fastest that keeps the share `keep` of the dense metric for sure: the lower 95 % bound of what it
    is above that share, on the same examples, is not below 0. Where none is sure, it is of those whose score is above the share
    chosen as under a budget, and where there is none, of all (`reservation` says so). BudgetError naming the nearest candidate
    where none meets the budgets.
    """
    allowed = [w for w in networks if verdicts[w.id].status != "missed"]
    if not allowed:
        raise BudgetError(_nearest(networks, dense))
    if _of_costs(budgets):
        return _most_accurate(allowed)
    sure = [w for w in allowed if w.validation.margin(dense.validation, keep) >= 0]
    if sure:
        return min(sure, key=_cost)
    keeping = [w for w in allowed if w.validation.keeps(dense.validation, keep)]
    return _most_accurate(keeping or allowed)


def reservation(
    best: Measured, dense: Measured, budgets: Budgets, metric: str, *, keep: float, units: str = "examples"
) -> str | None:
    """What to know of the choice: that no network keeps the share, or none for sure; None where the one chosen does."""
    if _of_costs(budgets) or best.validation.margin(dense.validation, keep) >= 0:
        return None
    scores = f"{best.validation.metric:.4f} against {dense.validation.metric:.4f} of the dense model"
    examples = f"{len(best.validation.values):,} validation {units}"
    if not best.validation.keeps(dense.validation, keep):
        return f"no network keeps {keep:.0%} of the {metric}: {best.id} is the best there is ({scores}, {examples})"
    return f"{best.id} keeps {keep:.0%} of the {metric} or more, but no surer than chance on {examples} ({scores}): more data would tell"


def _most_accurate(networks: Sequence[Measured]) -> Measured:
    """The network of least error, or a faster one that is surely as good but for `INDIFFERENT`."""
    least = min(networks, key=lambda w: w.validation.error)
    allowance = INDIFFERENT * abs(least.validation.metric if least.validation.scale.higher_is_better else 1.0)
    return min((w for w in networks if w is least or w.validation.margin(least.validation) >= -allowance), key=_cost)


def _cost(network: Measured) -> float:
    return network.latency_s if network.series is None else network.series.median_s


def _nearest(networks: Sequence[Measured], dense: Measured) -> str:
    fastest = min(networks, key=_cost)
    nearest = max(
        networks,
        key=lambda w: _kept(w, dense) + (w.speedup or 0) / (fastest.speedup or 1),
    )
    speed = nearest.speedup or dense.latency_s / nearest.latency_s
    return (
        f"none of {len(networks)} candidates meets the budget\nnearest: {nearest.id} at {_cost(nearest) * 1e3:.3g} ms, "
        f"{speed:.2f}x{_megabytes(nearest)}, metric {nearest.validation.metric:.4f} (dense {dense.validation.metric:.4f}); "
        f"fastest: {_cost(fastest) * 1e3:.3g} ms{_megabytes(fastest)}"
    )


def _kept(network: Measured, dense: Measured) -> float:
    """Share of the dense model's metric; the metric itself where that is no measure."""
    kept = network.validation.scale.kept(network.validation.metric, dense.validation.metric)
    return network.validation.metric if kept is None else kept


def _megabytes(network: Measured) -> str:
    return "" if network.peak_bytes is None else f", {network.peak_bytes / 1e6:.4g} MB"
