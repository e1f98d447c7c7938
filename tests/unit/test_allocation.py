"""Allocation: small knapsacks by hand, and one of BERT-base's size by dynamic programming against HiGHS."""

import numpy as np
import pytest

from compiler.oneshot import Constraint, allocate, allocate_constrained, exact_front
from compiler.oneshot.allocation import RESOLUTION
from targets.errors import BudgetError

LOSSES = [np.array([3.0, 1.0, 0.0]), np.array([2.0, 0.0])]
COSTS = [np.array([0.0, 2.0, 5.0]), np.array([0.0, 3.0])]
LAYERS, HEADS, STEPS = 12, 12, 64


def bert_base():
    """Losses with falling returns, other ones in every layer; the costs of all layers the same, and a little uneven."""
    rng = np.random.default_rng(0)
    heads, steps = np.arange(HEADS + 1) / HEADS, np.arange(STEPS + 1) / STEPS
    losses = [rng.uniform(0.1, 1) * (1 - kept ** rng.uniform(0.2, 1)) for kept in [heads] * LAYERS + [steps] * LAYERS]
    attention = (heads + 0.2 * (heads > 0)) * rng.uniform(0.97, 1.03, HEADS + 1)
    ffn = (2 * steps + 0.1 * (steps > 0)) * rng.uniform(0.99, 1.01, STEPS + 1)
    return losses, [attention] * LAYERS + [ffn] * LAYERS


def total(rows, options) -> float:
    return float(sum(row[i] for row, i in zip(rows, options, strict=True)))


def test_front_by_hand():
    front = exact_front(LOSSES, COSTS, resolution=None)
    assert front.costs.tolist() == [0, 2, 5, 8]
    assert front.losses.tolist() == [5, 3, 1, 0]
    assert front.options.tolist() == [[0, 0], [1, 0], [1, 1], [2, 1]]


def test_a_charge_is_paid_once_and_only_by_what_it_belongs_to():
    front = exact_front(LOSSES, COSTS, charge=4, charged=1, resolution=None)
    assert front.costs.tolist() == [0, 3, 9, 12]
    assert front.options.tolist() == [[0, 0], [0, 1], [1, 1], [2, 1]]
    both = exact_front(LOSSES, COSTS, charge=4, charged=2, resolution=None)
    assert both.costs.tolist() == [0, 6, 9, 12]


def test_an_option_that_is_free_but_for_the_charge_does_not_hide_the_one_without():
    front = exact_front([np.array([1.0, 0.0])], [np.zeros(2)], charge=1, charged=1)
    assert (front.costs.tolist(), front.losses.tolist()) == ([0, 1], [1, 0])


def test_options_that_cost_more_and_lose_more_are_never_taken():
    losses, costs = [np.array([2.0, 1.5, 1.0, 1.0])], [np.array([0.0, 3.0, 2.0, 2.0])]
    assert exact_front(losses, costs).options.tolist() == [[0], [2]]


def test_equal_costs_leave_the_least_loss():
    front = exact_front(LOSSES, [np.ones(3), np.ones(2)])
    assert (front.costs.tolist(), front.losses.tolist()) == ([2], [0])


def test_budgets_are_looked_up_and_never_exceeded():
    picks = allocate(LOSSES, COSTS, [-1, 0, 1.99, 2, 7.9, 8, 100])
    assert picks.tolist() == [[0, 0], [0, 0], [0, 0], [1, 0], [1, 1], [2, 1], [2, 1]]


@pytest.mark.parametrize("share", [0.02, 0.2])
def test_front_of_bert_base_agrees_with_highs(share):
    losses, costs = bert_base()
    front = exact_front(losses, costs)
    budget = share * front.costs[-1]
    slack = RESOLUTION * sum(float(np.ptp(cost)) for cost in costs)
    tight, loose = front.within([budget, budget + slack])
    best = allocate_constrained(losses, [Constraint(name="latency_s", costs=costs, limit=budget)])
    assert best.gap == 0
    assert total(costs, tight) <= budget
    assert total(losses, loose) - 1e-9 <= best.loss <= total(losses, tight) + 1e-9


def limited(**limits: float) -> list[Constraint]:
    costs = {"latency_s": COSTS, "parameters": [np.array([0.0, 1.0, 2.0]), np.array([0.0, 4.0])]}
    return [Constraint(name=name, costs=costs[name], limit=limit) for name, limit in limits.items()]


def test_several_limits_by_hand():
    assert allocate_constrained(LOSSES, []).options == (2, 1)
    assert allocate_constrained(LOSSES, limited(latency_s=5)).options == (1, 1)
    both = allocate_constrained(LOSSES, limited(latency_s=5, parameters=4))
    assert (both.options, both.loss, both.gap) == ((2, 0), 2, 0)


def test_a_maximum_only_excludes_options():
    peak = Constraint(name="memory_bytes", costs=[cost * 0 for cost in COSTS], limit=3, peaks=[COSTS])
    assert allocate_constrained(LOSSES, [peak]).options == (1, 1)


@pytest.mark.parametrize(("limit", "options"), [(13, (2, 1)), (12.9, (2, 0)), (7.9, (0, 1)), (5.9, (1, 0))])
def test_a_sum_and_the_largest_of_a_group_share_one_limit(limit, options):
    memory = Constraint(name="memory_bytes", costs=[np.array([0.0, 2.0, 3.0]), np.array([0.0, 5.0])], limit=limit,
                        peaks=[[np.array([0.0, 1.0, 5.0]), np.array([0.0, 1.0])]])  # fmt: skip
    assert allocate_constrained([np.array([3.0, 2.5, 0.0]), np.array([2.0, 0.0])], [memory]).options == options


def test_what_cannot_be_met_says_the_least_possible():
    costs = [np.array([1.0, 2.0]), np.array([3.0, 2.0])]
    sizes = Constraint(name="parameters", costs=costs, limit=2.5)
    peak = Constraint(name="memory_bytes", costs=[np.zeros(2)] * 2, limit=1, peaks=[costs])
    with pytest.raises(BudgetError, match=r"every budget: parameters <= 2\.5, memory_bytes <= 1") as refused:
        allocate_constrained([np.zeros(2)] * 2, [sizes, peak])
    assert str(refused.value).endswith("the least possible of each alone: parameters 3, memory_bytes 2")


def test_too_little_time_is_not_said_to_be_infeasible():
    losses, costs = bert_base()
    with pytest.raises(BudgetError, match="in the time allowed"):
        allocate_constrained(losses, [Constraint(name="latency_s", costs=costs, limit=9)], time_limit_s=0.0)
