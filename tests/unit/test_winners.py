"""Which network `best` names: by budgets, and never by a difference that the examples do not show."""

import numpy as np
import pytest

from compiler.evaluation import Quality
from compiler.pipeline.choice import choose
from compiler.pipeline.hunt import Found
from compiler.pipeline.options import Budgets
from compiler.pipeline.verdicts import Verdict, best_of
from compiler.pipeline.winners import Winner
from compiler.spaces import Form, Subnet
from targets.errors import BudgetError

RNG = np.random.default_rng(0)
RIGHT = (RNG.random(200) < 0.8).astype(float)
BUDGET = Budgets(max_latency_s=1.0)


def found(name, ms, quality):
    costs = {"latency": ms / 1e3, "params": 1.0}
    return Found(id=name, subnet=Subnet(heads=(), units=()), form=Form("fp32"), quality=quality, costs=costs)


def winner(name, ms, values):
    quality = Quality(metric=float(values.mean()), others={}, values=values)
    return Winner(found=found(name, ms, quality), read=dict, validation=quality, test=quality)


def wrong_on(count, also_right=0):
    """The values of a network that errs on so many more examples, and is right on a few others instead."""
    values = RIGHT.copy()
    values[np.flatnonzero(RIGHT == 1)[:count]] = 0.0
    values[np.flatnonzero(RIGHT == 0)[:also_right]] = 1.0
    return values


DENSE = winner("dense", 10, RIGHT)
ACCURATE = winner("accurate", 8, RIGHT)
LIKE = winner("like", 5, wrong_on(12, also_right=10))
WORSE = winner("worse", 3, wrong_on(12))


def chosen(winners, budgets=BUDGET, missed=(), keep=0.99):
    verdicts = {w.id: Verdict(status="missed" if w.id in missed else "predicted", limits={}) for w in winners}
    return best_of(winners, DENSE, verdicts, budgets, keep=keep).id


def test_within_the_noise_of_the_least_error_the_fastest_is_best():
    assert chosen([ACCURATE, LIKE, WORSE]) == "like"
    assert chosen([ACCURATE, WORSE]) == "accurate"


def test_a_network_over_its_budget_is_not_chosen_and_none_is_an_error():
    assert chosen([ACCURATE, LIKE, WORSE], missed=["like"]) == "accurate"
    with pytest.raises(BudgetError, match="none of 2 candidates"):
        chosen([ACCURATE, LIKE], missed=["accurate", "like"])


def test_under_a_bound_on_the_drop_the_fastest_that_keeps_enough_is_best():
    assert chosen([ACCURATE, LIKE, WORSE], Budgets(max_drop=0.2)) == "worse"
    assert chosen([ACCURATE, LIKE, WORSE], Budgets(max_drop=0.02)) == "like"


def test_without_budgets_where_none_keeps_enough_the_most_accurate_is_best():
    assert chosen([LIKE, WORSE], Budgets(), keep=0.999) == "like"


def front(*metrics):
    """Networks of 1, 2, 4, ... ms."""
    return [found(str(m), 2**i, Quality(metric=m, others={})) for i, m in enumerate(metrics)]


def kept(networks, count, **limits):
    return [f.quality.metric for f in choose(networks, limits, count)]


def test_networks_of_little_use_leave_their_place_to_others():
    of_use = [0.5, 0.6, 0.7, 0.8, 0.9]
    assert kept(front(0.1, 0.3, 0.4, *of_use), 5) == of_use
    assert kept(front(0.1, 0.3, 0.4, *of_use), 3) == [0.5, 0.7, 0.9]


def test_where_too_few_are_of_use_the_best_of_the_others_are_kept_too():
    assert kept(front(0.1, 0.2, 0.3, 0.9), 3) == [0.2, 0.3, 0.9]
    assert kept(front(-0.3, -0.2), 2) == [-0.3, -0.2]


def test_below_a_limit_the_best_are_kept_whatever_they_are_worth():
    assert kept(front(0.1, 0.2, 0.3, 0.4, 0.9), 2, latency=0.006) == [0.2, 0.3]
    assert kept(front(0.1, 0.9), 2, latency=1e-6) == [0.1]


def test_below_a_limit_a_little_cheaper_networks_are_kept_too():
    """Were the prediction 5 % too low, all of one cost would miss the limit together."""
    costs = {0.5: 4.0, 0.80: 9.0, 0.84: 9.3, 0.90: 9.65, 0.91: 9.68, 0.92: 9.7}
    networks = [found(str(m), ms, Quality(metric=m, others={})) for m, ms in costs.items()]
    assert kept(networks, 4, latency=0.01) == [0.5, 0.80, 0.84, 0.92]
