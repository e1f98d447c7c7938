"""Searches around a front: its seeds first, where gaps are largest, then what fills or mends it."""

from functools import partial

import numpy as np
import pytest

from compiler.oneshot import allocate, exact_front
from compiler.search import AROUND_SEEDS, hypervolume, is_nondominated, make_method
from compiler.spaces import SPACES, MixedPrecision, make_space, sample_uniform
from targets.errors import InputError
from tests.problem import SIZES, ideal_volume, knapsack, known, make, objectives, search


@pytest.fixture
def medium():
    return make_space("medium", SIZES)


def front_seeds(count: int):
    costs = exact_front(*knapsack()).costs
    return allocate(*knapsack(), budgets=np.linspace(costs[0], costs[-1], count).tolist())


@pytest.mark.parametrize("name", AROUND_SEEDS)
def test_seeds_are_evaluated_from_the_ends_of_their_front_then_in_the_middles_of_the_gaps(name, medium):
    seeds = front_seeds(9)[1:8]  # without the ends, which the method starts from anyway
    genomes, _ = search(make(name, medium, seeds=seeds), medium, evaluations=40)
    assert np.array_equal(genomes[3:10], seeds[[0, 6, 3, 1, 4, 2, 5]])


def test_exact_is_far_ahead_at_few_evaluations_where_the_loss_is_what_it_was_said_to_be(medium):
    ideal = ideal_volume(medium)

    def share(name, **options) -> float:
        _, values = search(make(name, medium, **options), medium, evaluations=60)
        return hypervolume(values, np.array([1.0, 1.0])) / ideal

    ours = share("exact", seeds=front_seeds(30))
    assert max(share("local"), share("nsga2")) < 0.9
    assert 0.95 < ours <= 1 + 1e-9


def widest_gaps(genomes, values, pool, costs):
    """Of every gap of a front that has seeds left, what a network in it could add, and where its middle is."""
    front = is_nondominated(values)
    order = np.argsort(values[front][:, 1])
    errors, places = values[front][order, 0], np.log(values[front][order, 1])
    left = ~(pool[:, None] == genomes[None]).all(axis=2).any(axis=1)
    gaps = []
    for low, high, more, less in zip(places, places[1:], errors, errors[1:], strict=False):
        inside = left & (np.log(costs) > low) & (np.log(costs) < high)
        if inside.any():
            gaps.append(((more - less) * (high - low), pool[inside], np.log(costs[inside]) - (low + high) / 2))
    return sorted(gaps, key=lambda gap: -gap[0])


@pytest.mark.parametrize("name", AROUND_SEEDS)
def test_seeds_of_known_cost_are_evaluated_in_the_middle_of_the_largest_gaps(name, medium):
    seeds = np.unique(front_seeds(80)[1:-1], axis=0)
    seeds = seeds[np.argsort(known(medium, seeds)[:, 0], kind="stable")]
    costs = known(medium, seeds)[:, 0]
    method = make(name, medium, seeds=seeds.repeat(2, axis=0), known=partial(known, medium))
    genomes = method.ask()
    assert any((genomes == seeds[0]).all(axis=1))
    assert any((genomes == seeds[-1]).all(axis=1))
    values = objectives(medium, genomes)
    method.tell(genomes, values)
    for _ in range(5):
        asked = method.ask()
        gaps = widest_gaps(genomes, values, seeds, costs)[: len(asked)]
        assert 0 < len(asked) <= 4
        for genome, (_, inside, far) in zip(asked, gaps, strict=True):
            assert np.abs(far[(inside == genome).all(axis=1)]).item() == pytest.approx(np.abs(far).min())
        told = objectives(medium, asked)
        method.tell(asked, told)
        genomes, values = np.concatenate([genomes, asked]), np.concatenate([values, told])
    assert len(np.unique(genomes, axis=0)) == len(genomes), "a seed that was given twice is evaluated once"


def test_gaps_of_a_crooked_front_are_closed_sooner_than_in_an_order_that_does_not_look(medium):
    """Half of the range of costs is flat: what lies there adds nothing."""
    seeds = front_seeds(80)

    def flat(space, genomes):
        values = objectives(space, genomes)
        return np.column_stack([np.maximum(values[:, 0], 0.45), values[:, 1]])

    def volume(**options):
        _, values = search(make("exact", medium, seeds=seeds, **options), medium, flat, evaluations=24)
        return hypervolume(np.column_stack([values[:, 0], np.log(values[:, 1])]), np.array([1.0, 0.0]))

    assert volume(known=partial(known, medium)) > 1.01 * volume()


def uneven(genomes):
    """A front that is off everywhere: the sizes of a better one, the other way round."""
    return genomes[:, ::-1].copy()


def test_a_gap_is_filled_from_the_fronts_of_its_ends(medium):
    """Of two models of the loss one is right: after a look at both, none of the other's seeds is evaluated."""
    right = front_seeds(60)
    wrong = np.unique(uneven(right), axis=0)
    wrong = np.clip(wrong, medium.lower, medium.upper)
    wrong = wrong[np.argsort(known(medium, wrong)[:, 0], kind="stable")]
    method = make("exact", medium, seeds=np.concatenate([wrong, right]), known=partial(known, medium))
    started = len(method.ask())
    genomes, _ = search(method, medium, evaluations=36)
    later = genomes[started:]
    of_right = (later[:, None] == right[None]).all(axis=2).any(axis=1)
    assert of_right.mean() > 0.8
    assert of_right.sum() > 12


def test_a_gap_between_networks_of_one_precision_is_filled_in_that(medium):
    """Eight bits take half the time: fp32 is on the front at its dear end only, and seeds of it elsewhere are left alone."""
    mixed = MixedPrecision.of(medium, ("fp32", "int8"))
    seeds = np.concatenate([np.column_stack([front_seeds(40), np.full(40, form)]) for form in (0, 1)])

    def cost_of(genomes):
        return known(mixed, genomes) * np.where(genomes[:, -1:] == 1, 0.5, 1.0)

    def judge(space, genomes):
        return np.column_stack([objectives(space, genomes)[:, 0], cost_of(genomes)[:, 0]])

    method = make_method(
        "exact", mixed, lambda rng, n: sample_uniform(mixed, rng, n), seed=0, seeds=seeds, known=cost_of
    )
    started = len(method.ask())
    genomes, _ = search(method, mixed, judge, evaluations=40)
    later = genomes[started:]
    cheap = cost_of(later)[:, 0] < 0.5
    assert later[cheap, -1].mean() > 0.9
    assert cheap.sum() > 10


def test_a_front_whose_seeds_fail_is_gone_along_where_they_do_not(medium):
    def failing(space, genomes):
        values = objectives(space, genomes)
        return np.where(values[:, 1:] > 0.6, np.inf, values)

    method = make("exact", medium, seeds=front_seeds(40), known=partial(known, medium))
    genomes, values = search(method, medium, failing, evaluations=50)
    assert np.isfinite(values[-20:]).mean() > 0.8
    assert len(np.unique(genomes, axis=0)) > 40


def crooked(space, genomes):
    values = objectives(space, genomes)
    return values + 0.1 * np.sin(genomes.sum(axis=1))[:, None] * [1, 0]


def test_exact_goes_on_with_mutations_of_what_none_dominates(medium):
    """All of them new, and a few at a time: networks are judged side by side."""
    method = make("exact", medium, seeds=front_seeds(20))
    genomes, values = search(method, medium, crooked, evaluations=len(method.ask()))
    for _ in range(10):
        asked = method.ask()
        best = genomes[is_nondominated(values)]
        assert ((best[None] != asked[:, None]).sum(axis=2) == 1).any(axis=1).all()
        assert 1 <= len(asked) <= 4
        genomes = np.concatenate([genomes, asked])
        values = np.concatenate([values, crooked(medium, asked)])
        method.tell(asked, crooked(medium, asked))
    assert len(np.unique(genomes, axis=0)) == len(genomes)


def test_exact_takes_medium_in_several_precisions(medium):
    mixed = MixedPrecision.of(medium, ("fp32", "int8"))
    method = make_method("exact", mixed, lambda rng, n: sample_uniform(mixed, rng, n), seed=0)
    assert np.array_equal(method.ask()[0], mixed.largest)


def below(space, most):
    """Costs as a run knows them that has a limit."""
    return lambda genomes: np.where(known(space, genomes) > most, np.inf, known(space, genomes))


def wrong_seeds(medium, most):
    seeds = np.clip(np.unique(uneven(front_seeds(60)), axis=0), medium.lower, medium.upper)
    seeds = seeds[known(medium, seeds)[:, 0] <= most]
    return seeds[np.argsort(known(medium, seeds)[:, 0], kind="stable")]


@pytest.mark.parametrize("name", AROUND_SEEDS)
def test_below_a_limit_the_best_network_trades_and_costs_no_more_than_the_dearest_seed(name, medium):
    most = 0.5
    seeds = wrong_seeds(medium, most)
    dearest = known(medium, seeds)[-1, 0]
    method = make(name, medium, seeds=seeds, known=below(medium, most))
    genomes = method.ask()
    values = np.column_stack([objectives(medium, genomes)[:, 0], below(medium, most)(genomes)])
    values[np.isinf(values[:, 1]), 0] = np.inf
    method.tell(genomes, values)
    cheaper = []
    for _ in range(8):
        best = genomes[np.argmin(np.where(values[:, 1] <= dearest, values[:, 0], np.inf))]
        asked = method.ask()
        change = np.sign(asked - best)
        assert (change == -1).sum(axis=1).tolist() == (change == 1).sum(axis=1).tolist() == [1] * len(asked)
        costs = known(medium, asked)[:, 0] / dearest
        assert (costs <= 1).all()
        cheaper += (costs <= 0.97).tolist()
        genomes = np.concatenate([genomes, asked])
        values = np.concatenate([values, objectives(medium, asked)])
        method.tell(asked, values[-len(asked) :])
    assert len(np.unique(genomes, axis=0)) == len(genomes)
    assert 8 <= sum(cheaper) < len(cheaper)


def test_trades_mend_what_the_model_of_the_loss_has_wrong(medium):
    most = 0.5
    seeds, errors = wrong_seeds(medium, most), {}

    def limited(space, genomes):
        values = objectives(space, genomes)
        return np.where(values[:, 1:] > most, np.inf, values)

    for way, costs in {"trades": below(medium, most), "gaps": partial(known, medium)}.items():
        _, values = search(make("exact", medium, seeds=seeds, known=costs), medium, limited, evaluations=50)
        errors[way] = values[:, 0].min()
    front = limited(medium, exact_front(*knapsack()).options)
    ideal = front[:, 0].min()
    assert errors["trades"] - ideal < 0.5 * (errors["gaps"] - ideal)


def test_a_trade_leaves_the_precision(medium):
    mixed = MixedPrecision.of(medium, ("fp32", "int8"))
    seeds = wrong_seeds(medium, 0.4)
    seeds = np.concatenate([np.column_stack([seeds, np.full(len(seeds), form)]) for form in (0, 1)])
    method = make_method(
        "exact", mixed, lambda rng, n: sample_uniform(mixed, rng, n), seed=0, seeds=seeds, known=below(mixed, 0.4)
    )
    genomes = method.ask()
    values = objectives(mixed, genomes)
    values[values[:, 1] > 0.4] = np.inf
    method.tell(genomes, values)
    asked = method.ask()
    assert len(asked)
    assert (asked[:, -1] == genomes[np.argmin(values[:, 0]), -1]).all()


def test_a_limit_that_only_the_smallest_meets_leaves_nothing_to_trade(medium):
    least = known(medium, medium.smallest[None])[0, 0]
    method = make("exact", medium, seeds=medium.smallest[None], known=below(medium, least))
    genomes = method.ask()
    values = objectives(medium, genomes)
    values[values[:, 1] > least] = np.inf
    method.tell(genomes, values)
    assert len(method.ask())


@pytest.mark.parametrize("name", AROUND_SEEDS)
@pytest.mark.parametrize("space", sorted(set(SPACES) - {"medium"}))
def test_spaces_whose_layers_have_no_sizes_of_their_own_are_refused(name, space):
    with pytest.raises(InputError, match=f"--search {name} needs --space medium, got {space}"):
        make(name, make_space(space, SIZES))
