"""What a step of each strategy trains, and how sub-networks are drawn."""

import numpy as np
import pytest

from compiler.spaces import make_space
from compiler.supernet import STRATEGIES, plan_step, stratified_sampler, uniform_sampler
from targets.errors import InputError
from tests.tiny import LAYERS, UNITS
from tests.training import cost, plan


@pytest.mark.parametrize(
    ("strategy", "step", "expected"),
    [
        ("standard", 3, [("whole", "learn")]),
        ("random", 3, [("random", "learn")]),
        ("random-linear", 0, [("whole", "learn")]),
        ("random-linear", 6, [("random", "learn")]),
        ("sandwich", 3, [("whole", "learn"), ("smallest", "learn"), ("random", "learn"), ("random", "learn")]),
        ("kd", 0, [("whole", "learn")]),
        ("kd", 6, [("whole", "teach"), ("random", "distil")]),
        ("full", 3, [("whole", "learn"), ("smallest", "distil"), ("random", "distil"), ("random", "distil")]),
    ],
)
def test_each_strategy_plans_what_the_paper_says(classifier, strategy, step, expected):
    space = make_space("medium", classifier.architecture)
    smallest = space.subnet(space.smallest)

    def kind(subnet):
        return "whole" if subnet is None else "smallest" if subnet == smallest else "random"

    assert [(kind(turn.subnet), turn.role) for turn in plan(strategy, space, step=step)] == expected


def test_every_strategy_has_a_plan_that_depends_on_seed_and_step_alone(classifier):
    space = make_space("medium", classifier.architecture)
    for strategy in STRATEGIES:
        assert plan(strategy, space, step=6) == plan(strategy, space, step=6)
    for strategy in ("random", "sandwich", "full"):
        assert plan(strategy, space, step=3) != plan(strategy, space, step=4)
        assert plan(strategy, space, seed=0) != plan(strategy, space, seed=1)
        assert plan(strategy, space, total_steps=7) == plan(strategy, space, total_steps=700)


def test_an_unknown_strategy_is_refused_with_the_known_ones(classifier):
    with pytest.raises(InputError, match=r"'burger'.*sandwich"):
        plan("burger", make_space("medium", classifier.architecture))


@pytest.mark.parametrize("random_subnets", [0, 1, 5])
def test_sandwich_draws_as_many_random_subnets_as_asked(classifier, random_subnets):
    space = make_space("large", classifier.architecture)
    assert len(plan("sandwich", space, random_subnets=random_subnets)) == 2 + random_subnets


def test_random_linear_is_random_ever_more_often(classifier):
    space = make_space("small", classifier.architecture)
    random = np.array(
        [
            plan_step("random-linear", space, uniform_sampler(space), step=step, total_steps=400)[0].subnet is not None
            for step in range(400)
        ]
    )
    assert random[:100].mean() < 0.25
    assert 0.35 < random[100:300].mean() < 0.65
    assert random[300:].mean() > 0.75


def share_of_small(space, sampler) -> float:
    subnets = [plan_step("random", space, sampler, step=s, total_steps=150)[0].subnet for s in range(150)]
    units = [sum(len(layer) for layer in subnet.units) for subnet in subnets]
    return float(np.mean(np.array(units) < UNITS * LAYERS / 3))


def test_stratified_sampling_sees_small_networks_and_uniform_sampling_does_not(classifier):
    space = make_space("large", classifier.architecture)
    assert 0.2 < share_of_small(space, stratified_sampler(space, cost)) < 0.45
    assert share_of_small(space, uniform_sampler(space)) == 0
