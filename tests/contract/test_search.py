"""What every search method must do, and that those which learn beat the one that does not."""

import sys
from functools import partial

import numpy as np
import pytest
import torch

from compiler.families import Architecture
from compiler.search import AROUND_SEEDS, METHODS, hypervolume, make_method
from compiler.search.registry import BAYESIAN
from compiler.spaces import SPACES, MixedPrecision, Ordering, make_space, sample_uniform
from compiler.spaces.space import Medium
from profilers import LayerSizes
from targets.errors import InputError
from tests import problem
from tests.problem import SIZES, ideal_volume, known, make, objectives

BUDGET = 150
FEW = {"surrogate": 12, "ehvi": 7, "rs-bo": 7, "ls-bo": 7}
"""Evaluations of the methods that take a tenth of a second for each; they also meet fewer spaces."""


def search(method, space, judge=objectives, evaluations: int = BUDGET):
    return problem.search(method, space, judge, evaluations=evaluations)


def budget(name, evaluations: int) -> int:
    return min(evaluations, FEW.get(name, evaluations))


class OnePoint(Medium):
    """A single network: all that a space of one layer, one head and one unit leaves when nothing may be dropped."""

    def _bounds(self):
        return [1, 1], [1, 1]


def one_point():
    one = (LayerSizes(1, 1),)
    return OnePoint(full=one, ordering=Ordering.by_index(one))


def spaces_of(name) -> list[str]:
    """What a method can search: those around seeds need sizes of its own in every layer."""
    if name in AROUND_SEEDS:
        return ["medium", "mixed"]
    return ["large", "mixed"] if name in FEW else [*SPACES, "mixed"]


def space_of(name):
    order = Ordering.by_index(SIZES.shape)
    if name == "mixed":
        return MixedPrecision.of(make_space("medium", SIZES, ordering=order), ("fp32", "int8"))
    return make_space(name, SIZES, ordering=order)


@pytest.fixture(params=METHODS)
def name(request) -> str:
    return request.param


@pytest.fixture(params=[(name, space) for name in METHODS for space in spaces_of(name)], ids="-".join)
def pair(request):
    name, space = request.param
    return name, space_of(space)


@pytest.fixture
def medium():
    return make_space("medium", SIZES)


# --- the contract


def test_search_stays_inside_the_bounds_of_every_space(pair):
    name, space = pair
    n = budget(name, 60)
    genomes, values = search(make(name, space), space, evaluations=n)
    assert genomes.dtype == np.int64
    assert genomes.shape == (n, len(space.lower))
    assert (genomes >= space.lower).all()
    assert (genomes <= space.upper).all()
    assert np.isfinite(values).all()


def test_search_starts_from_largest_smallest_and_middle(pair):
    name, space = pair
    genomes, _ = search(make(name, space), space, evaluations=4)
    start = np.stack([space.largest, space.smallest, space.middle])
    assert np.array_equal(genomes[:3], start)


def test_search_is_the_same_for_a_seed_and_another_for_another(name, medium):
    runs = [search(make(name, medium, seed=seed), medium, evaluations=budget(name, 60))[0] for seed in (3, 3, 4)]
    assert np.array_equal(runs[0], runs[1])
    assert not np.array_equal(runs[0], runs[2])


def test_search_does_not_depend_on_global_states(name, medium):
    runs = []
    for seed in (1, 2):
        np.random.seed(seed)  # noqa: NPY002  the point of the test
        torch.manual_seed(seed)
        runs.append(search(make(name, medium), medium, evaluations=budget(name, 60))[0])
    assert np.array_equal(*runs)


def test_search_continues_from_the_seeds_it_is_given_each_once(name, medium):
    extra = sample_uniform(medium, np.random.default_rng(9), 4)
    genomes, _ = search(make(name, medium, seeds=np.concatenate([extra, extra])), medium, evaluations=budget(name, 30))
    assert {tuple(g) for g in genomes[3:7]} == {tuple(g) for g in extra}
    assert (genomes[:7] == extra[0]).all(axis=1).sum() == 1


def test_more_seeds_than_a_population_are_all_evaluated(name, medium):
    extra = sample_uniform(medium, np.random.default_rng(9), 40)
    genomes, _ = search(make(name, medium, seeds=extra), medium, evaluations=50)
    assert {tuple(g) for g in extra} <= {tuple(g) for g in genomes}


def test_no_seeds_is_as_no_argument(name, medium):
    empty = np.empty((0, len(medium.lower)), dtype=np.int64)
    runs = [search(make(name, medium, **o), medium, evaluations=budget(name, 40))[0] for o in ({}, {"seeds": empty})]
    assert np.array_equal(*runs)


def constant(_, genomes):
    return np.zeros((len(genomes), 2))


def failed(_, genomes):
    return np.full((len(genomes), 2), np.inf)


def half_failed(space, genomes):
    values = objectives(space, genomes)
    values[genomes.sum(axis=1) % 2 == 0] = np.inf
    return values


def coarse(space, genomes):
    return np.round(objectives(space, genomes), 1)


def three(space, genomes):
    values = objectives(space, genomes)
    return np.column_stack([values, values.sum(axis=1)])


def four(space, genomes):
    return np.column_stack([three(space, genomes), space.features(genomes).max(axis=1)])


@pytest.mark.parametrize("judge", [constant, failed, half_failed, coarse, three, four])
def test_search_survives_ties_failures_and_more_objectives(pair, judge):
    name, space = pair
    n = budget(name, 80)
    genomes, values = search(make(name, space), space, judge, evaluations=n)
    assert len(genomes) == len(values) == n
    assert (genomes >= space.lower).all()
    assert (genomes <= space.upper).all()


def test_search_of_a_space_smaller_than_the_population_does_not_hang(name):
    one = Architecture(
        **{field: getattr(SIZES, field) for field in SIZES.__slots__} | {"layers": 1, "heads": 1, "ffn_units": 1}
    )
    for space_name in set(spaces_of(name)) - {"mixed"}:
        tiny = make_space(space_name, one)
        method = make_method(name, tiny, lambda rng, n, tiny=tiny: sample_uniform(tiny, rng, n), seed=0)
        genomes, _ = search(method, tiny, constant, evaluations=budget(name, 24))
        assert (genomes <= tiny.upper).all()


def test_search_of_a_single_point_asks_for_it(name):
    space = one_point()
    method = make_method(name, space, lambda rng, n: sample_uniform(space, rng, n), seed=0)
    genomes, _ = search(method, space, constant, evaluations=12)
    assert (genomes == 1).all()


@pytest.mark.parametrize("space", ["medium", "mixed"])
def test_search_goes_on_the_same_wherever_it_was_interrupted(name, space):
    """Told the same again, from the store, it asks the same again; also where it knows the costs beforehand."""
    space = space_of(space)
    whole = make(name, space, known=partial(known, space))
    turns = []
    while sum(len(genomes) for genomes, _ in turns) < budget(name, 60):
        genomes = whole.ask()
        turns.append((genomes, objectives(space, genomes)))
        whole.tell(*turns[-1])
    resumed = make(name, space, known=partial(known, space))
    for genomes, values in turns:
        make(name, space, seed=1).ask()  # another search in the same process changes nothing
        assert np.array_equal(resumed.ask(), genomes)
        resumed.tell(genomes, values)


def test_search_may_be_told_of_the_first_of_what_it_asked_for_alone(name, medium):
    """The last batch of a search is cut to what evaluations are left."""
    method = make(name, medium)
    for _ in range(4):
        genomes = method.ask()[:2]
        method.tell(genomes, objectives(medium, genomes))
        assert (genomes <= medium.upper).all()


@pytest.mark.parametrize("name", ["surrogate", *BAYESIAN])
def test_methods_that_model_ask_for_nothing_twice_and_nothing_above_a_limit(name, medium):
    def limited(genomes):
        costs = known(medium, genomes)
        return np.where(costs > 0.5, np.inf, costs)

    method = make(name, medium, known=limited)
    start = method.ask()
    method.tell(start, objectives(medium, start))
    genomes, _ = search(method, medium, evaluations=10)
    assert (known(medium, genomes) <= 0.5).all()
    assert len(np.unique(np.concatenate([start, genomes]), axis=0)) == len(start) + len(genomes)


@pytest.mark.parametrize("name", BAYESIAN)
def test_without_botorch_its_methods_say_how_to_install_it(name, medium, monkeypatch):
    monkeypatch.setitem(sys.modules, "botorch", None)
    with pytest.raises(InputError, match=rf"--search {name} needs BoTorch.*pip install 'paretoc\[bo\]'"):
        make(name, medium)


def test_failures_never_hide_what_worked(medium):
    """A local search whose every network fails but some must still find the front of those."""
    _, values = search(make("local", medium), medium, half_failed, evaluations=300)
    assert len(set(map(tuple, values[np.isfinite(values).all(axis=1)]))) > 20


# --- who learns


def volume(name, space, sampler, seed, evaluations) -> float:
    """Hypervolume of what was trained to the end."""
    method = make(name, space, seed=seed, sampler=sampler, known=partial(known, space))
    return hypervolume(problem.finished(method, space, trainings=evaluations), np.array([1.0, 1.0]))


LEARN = {
    "local": (BUDGET, ["uniform"]),
    "exact": (BUDGET, ["uniform"]),
    "gates": (BUDGET, ["uniform"]),
    "nsga2": (BUDGET, ["uniform", "stratified"]),
    "nsga3": (BUDGET, ["uniform", "stratified"]),
    "mo-rea": (BUDGET, ["uniform"]),
    "bandit": (BUDGET, ["uniform"]),
    "surrogate": (40, ["uniform", "stratified"]),
    "ehvi": (25, ["stratified"]),
    "rs-bo": (25, ["uniform"]),
    "ls-bo": (25, ["uniform"]),
    "mo-asha": (30, ["uniform"]),
}
"""Evaluations, counted in full trainings, and the samplers whose draws alone a method must beat.

Stratified draws cover the whole range of costs. rs-bo and ls-bo, which follow one weighting at a time, do not beat those in so
few evaluations: 0.56 and 0.60 of the volume where they give 0.59.
"""


def test_every_method_but_random_is_said_to_learn():
    assert set(LEARN) == set(METHODS) - {"random"}


@pytest.mark.parametrize(("name", "sampler"), [(name, s) for name, (_, some) in LEARN.items() for s in some])
def test_methods_that_learn_beat_random_search_at_equal_evaluations(name, sampler, medium):
    n = LEARN[name][0]
    ours, random = ([volume(one, medium, sampler, seed, n) for seed in range(5)] for one in (name, "random"))
    assert np.mean(ours) > np.mean(random)
    assert sum(a > b for a, b in zip(ours, random, strict=True)) >= 4


def test_long_searches_come_near_the_best_front(medium):
    """The optimum by dynamic programming over the additive objective and cost: an independent oracle."""
    ideal = ideal_volume(medium)
    for name in ("local", "nsga2"):
        _, values = search(make(name, medium), medium, evaluations=1000)
        assert 0.93 * ideal < hypervolume(values, np.array([1.0, 1.0])) <= ideal + 1e-9


def test_unknown_method_lists_the_names(medium):
    with pytest.raises(
        InputError,
        match="known: random, local, nsga2, exact, gates, nsga3, mo-rea, bandit, surrogate, ehvi, rs-bo, ls-bo, mo-asha",
    ):
        make("annealing", medium)
