"""Allocation: the front, its resolution and the mixed-integer program against all combinations of small knapsacks.

Numbers are eighths, whose sums are exact in any order.
"""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler.oneshot import Constraint, allocate, allocate_constrained, exact_front
from targets.errors import BudgetError

quick = settings(deadline=None, max_examples=60, derandomize=True)
eighths = st.integers(0, 40).map(lambda n: n / 8)


@st.composite
def knapsacks(draw, tables: int = 2):
    """Tables of [options] a group, all of the same sizes, and how many groups are charged how much."""
    sizes = draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    rows = [[np.array(draw(st.lists(eighths, min_size=n, max_size=n))) for n in sizes] for _ in range(tables)]
    return rows, draw(eighths), draw(st.integers(0, len(sizes)))


def combinations_of(rows):
    return list(product(*(range(len(row)) for row in rows)))


def chosen(rows, options):
    return [row[i] for row, i in zip(rows, options, strict=True)]


def total(rows, options, charge: float = 0.0, charged: int = 0) -> float:
    return float(sum(chosen(rows, options))) + charge * any(options[:charged])


def points(losses, costs, charge, charged):
    return [(total(costs, options, charge, charged), total(losses, options)) for options in combinations_of(costs)]


@quick
@given(knapsacks())
def test_front_is_every_point_that_no_other_beats(drawn):
    (losses, costs), charge, charged = drawn
    everything = set(points(losses, costs, charge, charged))
    best = sorted(p for p in everything if not any(q != p and q[0] <= p[0] and q[1] <= p[1] for q in everything))
    front = exact_front(losses, costs, charge=charge, charged=charged, resolution=None)
    assert list(zip(front.costs.tolist(), front.losses.tolist(), strict=True)) == best


@quick
@given(knapsacks(), st.sampled_from([0.01, 0.1, 0.5, 1.0]))
def test_a_coarse_front_is_as_near_and_as_short_as_it_says(drawn, resolution):
    (losses, costs), charge, charged = drawn
    front = exact_front(losses, costs, charge=charge, charged=charged, resolution=resolution)
    slack = resolution * sum(np.ptp(cost) for cost in costs) + 1e-9
    for cost, loss in points(losses, costs, charge, charged):
        assert ((front.costs <= cost + slack) & (front.losses <= loss)).any()
    for cost, loss, options in zip(*front, strict=True):
        assert (cost, loss) == (total(costs, options, charge, charged), total(losses, options))
    assert (np.diff(front.costs) > 0).all()
    assert (np.diff(front.losses) < 0).all()


@quick
@given(knapsacks(), st.lists(st.integers(0, 120).map(lambda n: n / 8), min_size=1, max_size=5))
def test_allocation_loses_least_within_each_budget(drawn, budgets):
    (losses, costs), charge, charged = drawn
    everything = points(losses, costs, charge, charged)
    picks = allocate(losses, costs, budgets, charge=charge, charged=charged, resolution=None)
    for budget, pick in zip(budgets, picks, strict=True):
        fitting = [loss for cost, loss in everything if cost <= budget]
        found = total(costs, pick, charge, charged), total(losses, pick)
        assert found == (min(everything) if not fitting else (found[0], min(fitting)))
        assert not fitting or found[0] <= budget


@quick
@given(knapsacks(4), st.lists(st.integers(0, 60).map(lambda n: n / 8), min_size=3, max_size=3))
def test_constrained_allocation_loses_least_within_all_limits_or_says_what_is_possible(drawn, limits):
    (losses, *costs), _, _ = drawn
    latency, parameters, memory = costs
    nothing = [np.zeros(len(group)) for group in losses]
    rules = [
        Constraint(name="latency_s", costs=latency, limit=limits[0], peaks=[memory]),
        Constraint(name="parameters", costs=parameters, limit=limits[1]),
        Constraint(name="memory_bytes", costs=nothing, limit=limits[2], peaks=[memory]),
    ]

    def taken(options):
        parts = [list(map(float, chosen(rows, options))) for rows in costs]
        return [sum(parts[0]) + max(parts[2]), sum(parts[1]), max(parts[2])]

    values = {options: taken(options) for options in combinations_of(losses)}
    fitting = [options for options, value in values.items() if np.less_equal(value, limits).all()]
    if fitting:
        best = allocate_constrained(losses, rules)
        assert best.options in fitting
        assert best.loss == min(total(losses, options) for options in fitting) == total(losses, best.options)
        assert best.gap == 0
        return
    with pytest.raises(BudgetError) as refused:
        allocate_constrained(losses, rules)
    least = np.min(list(values.values()), axis=0)
    assert rules[0].least <= least[0]
    assert str(refused.value).endswith(f"parameters {least[1]:g}, memory_bytes {least[2]:g}")
