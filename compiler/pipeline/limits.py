"""Budgets as the search can use them: the most that a network may be predicted to take of each objective."""

from collections.abc import Mapping

from compiler.pipeline.options import Budgets
from targets.errors import BudgetError

MARGIN = 0.97
"""Networks aimed at a budget are predicted a little below it: the prediction has an error."""


def ceilings(budgets: Budgets, dense_s: float) -> dict[str, float]:
    """The most of each objective that the budgets allow: `latency` in seconds, given the dense model's, `memory` in bytes."""
    seconds = [budgets.max_latency_s, None if budgets.min_speedup is None else dense_s / budgets.min_speedup]
    limits = {
        "latency": min((limit for limit in seconds if limit is not None), default=None),
        "memory": budgets.max_memory_bytes,
    }
    return {name: limit for name, limit in limits.items() if limit is not None}


def check_floor(limits: Mapping[str, float], floor: Mapping[str, float]) -> None:
    """BudgetError where even the smallest network is predicted above a limit."""
    below = [name for name, limit in limits.items() if limit < floor[name]]
    if "latency" in below:
        raise BudgetError(
            f"no sub-network can meet {limits['latency'] * 1e3:.3g} ms: stem and head alone take "
            f"{floor['latency'] * 1e3:.3g} ms\n"
            "ask for a higher --max-latency or a lower --min-speedup, or a shorter --seq-len"
        )
    if "memory" in below:
        raise BudgetError(
            f"no sub-network can meet {limits['memory'] / 1e6:.4g} MB: a process that serves stem and head alone takes "
            f"{floor['memory'] / 1e6:.4g} MB\nask for a higher --max-memory"
        )
