"""What search methods are made of: orders of points, moves, features, the bandit, reference directions."""

import numpy as np
import pytest

from compiler.search import farthest_first, front_ranks, make_method, ranked
from compiler.search.bandit import Bandit
from compiler.search.evolution import Nsga3
from compiler.search.moves import Move, Moves
from compiler.spaces import SPACES, MixedPrecision, Ordering, make_space, sample_uniform
from tests.problem import SIZES, samplers, search


def spaces():
    rng = np.random.default_rng(1)
    order = Ordering(
        heads=tuple(rng.permutation(SIZES.heads) for _ in range(SIZES.layers)),
        units=tuple(rng.permutation(SIZES.ffn_units) for _ in range(SIZES.layers)),
    )
    found = {name: make_space(name, SIZES, ordering=order) for name in SPACES}
    return found | {"mixed": MixedPrecision.of(found["medium"], ("fp32", "int8", "int4"))}


SPACE = spaces()


# --- orders of points


def peeled(points):
    """Ranks by taking away one front after the other, by the definition of dominance."""
    rank, left = np.zeros(len(points), dtype=int), list(range(len(points)))
    for level in range(len(points)):
        front = [
            i for i in left if not any((points[o] <= points[i]).all() and (points[o] < points[i]).any() for o in left)
        ]
        rank[front] = level
        left = [i for i in left if i not in front]
    return rank


@pytest.mark.parametrize("seed", range(10))
def test_ranks_are_the_fronts_that_peeling_gives(seed):
    points = np.random.default_rng(seed).integers(0, 8, (30, 2 + seed % 3)).astype(float)
    assert front_ranks(points).tolist() == peeled(points).tolist()


def test_failed_points_rank_last():
    points = np.array([[np.inf, 0.0], [2.0, 2.0], [1.0, 1.0], [np.inf, np.inf]])
    ranks = front_ranks(points)
    assert ranks[2] < ranks[1] < ranks[0] == ranks[3]
    assert ranked(points).tolist()[:2] == [2, 1]
    assert sorted(ranked(np.full((3, 2), np.inf))) == [0, 1, 2]


def test_farthest_first_goes_from_the_ideal_to_the_ends():
    line = np.array([[0.0, 1.0], [0.3, 0.6], [0.4, 0.4], [0.7, 0.3], [1.0, 0.0]])
    order = farthest_first(line)
    assert order[0] == 2
    assert set(order[1:3]) == {0, 4}
    assert sorted(order) == [0, 1, 2, 3, 4]
    assert farthest_first(line * [100, 1e-3]) == order


@pytest.mark.parametrize("seed", range(5))
def test_any_beginning_covers_at_most_twice_as_badly_as_the_best_choice(seed):
    """Gonzalez's bound, against every choice of three points."""
    from itertools import combinations

    points = np.random.default_rng(seed).random((12, 2))
    scaled = (points - points.min(axis=0)) / np.ptp(points, axis=0)
    gaps = np.linalg.norm(scaled[:, None] - scaled[None], axis=2)
    best = min(gaps[:, list(some)].min(axis=1).max() for some in combinations(range(12), 3))
    assert gaps[:, farthest_first(points)[:3]].min(axis=1).max() <= 2 * best + 1e-12


# --- groups, features


@pytest.mark.parametrize("name", SPACE)
def test_groups_name_every_variable_once(name):
    space = SPACE[name]
    index = np.concatenate([part for parts in space.groups.values() for part in parts])
    assert sorted(index) == list(range(len(space.lower)))


@pytest.mark.parametrize("name", SPACE)
def test_features_lie_between_0_and_1_and_reach_both(name):
    space = SPACE[name]
    ends = space.features(np.stack([space.lower, space.upper]))
    assert np.allclose(ends, [[0.0], [1.0]])
    drawn = space.features(sample_uniform(space, np.random.default_rng(0), 50))
    assert ((drawn >= 0) & (drawn <= 1 + 1e-12)).all()
    assert drawn.shape[1] <= 4 * SIZES.layers


def test_features_of_medium_are_the_shares_kept():
    genomes = sample_uniform(SPACE["medium"], np.random.default_rng(0), 5)
    expected = genomes / ([SIZES.heads] * SIZES.layers + [SIZES.ffn_units] * SIZES.layers)
    assert np.allclose(SPACE["medium"].features(genomes), expected)


def test_features_of_large_say_whether_the_important_ones_are_kept():
    space = SPACE["large"]
    two = np.stack([space.lower, space.lower])
    for layer, order in enumerate(space.ordering.units):
        bits = space.groups["units"][layer]
        two[0, bits[order[:5]]] = 1
        two[1, bits[order[-5:]]] = 1
    first, last = space.features(two)
    counts = 2 * SIZES.layers
    assert np.array_equal(first[:counts], last[:counts])
    assert (first[-SIZES.layers :] > last[-SIZES.layers :]).all()


# --- moves


@pytest.mark.parametrize("name", SPACE)
def test_moves_stay_inside_and_touch_their_kind_alone(name):
    space, rng = SPACE[name], np.random.default_rng(0)
    moves = Moves(space)
    for move in moves.all:
        others = np.setdiff1d(np.arange(len(space.lower)), space.groups[move.kind])
        for genome in sample_uniform(space, rng, 20):
            before = genome.copy()
            child = moves.apply(move, genome, rng)
            assert np.array_equal(genome, before)
            assert ((child >= space.lower) & (child <= space.upper)).all()
            assert np.array_equal(child[others], genome[others])


def changed(move, genome, space, rng):
    """Sizes of the parts that a move changed, before and after."""
    index = space.groups[move.kind]
    child = Moves(space).apply(move, genome, rng)
    sizes = genome[index].sum(axis=1), child[index].sum(axis=1)
    rows = np.flatnonzero((genome[index] != child[index]).any(axis=1))
    return sizes[0][rows], sizes[1][rows], child


@pytest.mark.parametrize("name", ["medium", "large"])
def test_moves_do_what_they_are_called(name):
    space, rng = SPACE[name], np.random.default_rng(0)
    index = space.groups["units"]
    lower, upper = space.lower[index].sum(axis=1)[0], space.upper[index].sum(axis=1)[0]
    for genome in sample_uniform(space, rng, 100):
        before, after, _ = changed(Move("grow", "units"), genome, space, rng)
        assert len(before) <= 1
        assert (after > before).all()
        before, after, _ = changed(Move("shrink", "units"), genome, space, rng)
        assert (after < before).all()
        assert (changed(Move("drop", "units"), genome, space, rng)[1] == lower).all()
        assert (changed(Move("restore", "units"), genome, space, rng)[1] == upper).all()
        child = changed(Move("copy", "units"), genome, space, rng)[2]
        assert all(any(np.array_equal(part, old) for old in genome[index]) for part in child[index])
        child = changed(Move("exchange", "units"), genome, space, rng)[2]
        assert sorted(map(tuple, child[index])) == sorted(map(tuple, genome[index]))
        before, after, _ = changed(Move("trade", "units"), genome, space, rng)
        assert len(before) <= 2
        assert len(before) < 2 or np.prod(after - before) < 0


def test_small_steps_are_as_frequent_as_large_ones():
    space, rng = SPACE["medium"], np.random.default_rng(0)
    steps = [Moves(space).apply(Move("grow", "units"), space.lower, rng).sum() for _ in range(2000)]
    assert np.mean(np.array(steps) < SIZES.ffn_units**0.5) == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("name", SPACE)
def test_children_inherit_every_part_whole(name):
    space, rng = SPACE[name], np.random.default_rng(0)
    one, other = sample_uniform(space, rng, 2)
    child = Moves(space).cross(one, other, rng)
    for index in space.groups.values():
        for part in index:
            assert np.array_equal(child[part], one[part]) or np.array_equal(child[part], other[part])


# --- the bandit


def test_scores_are_those_of_ucb1():
    bandit = Bandit(3)
    for arm, reward in ((0, 1.0), (0, 0.0), (1, 1.0)):
        bandit.learn(arm, reward)
    assert bandit.scores() == pytest.approx([0.5 + np.log(3) ** 0.5, 1 + (2 * np.log(3)) ** 0.5, np.inf])


def test_the_bandit_prefers_what_pays():
    bandit, rng = Bandit(4), np.random.default_rng(0)
    for _ in range(400):
        arm = int(np.argmax(bandit.scores()))
        bandit.learn(arm, float(rng.random() < (0.1, 0.2, 0.8, 0.1)[arm]))
    assert bandit.pulls[2] > 200
    assert bandit.pulls.min() > 5


def test_bandit_search_learns_which_kind_of_move_pays():
    """An error that heads do not enter: moves of heads that grow never pay, moves of units do."""
    space = SPACE["medium"]

    def judge(space, genomes):
        kept = space.features(genomes)
        heads, units = kept[:, : SIZES.layers], kept[:, SIZES.layers :]
        return np.stack([1 - np.sqrt(units).mean(axis=1), kept.mean(axis=1) + heads.mean(axis=1)], axis=1)

    method = make_method("bandit", space, samplers(space)["stratified"], seed=0)
    search(method, space, judge, evaluations=400)
    paid = dict(zip(method.moves.all, method.bandit.rewards / method.bandit.pulls, strict=True))
    pulls = dict(zip(method.moves.all, method.bandit.pulls, strict=True))
    assert paid[Move("grow", "units")] > paid[Move("grow", "heads")]
    assert pulls[Move("grow", "units")] > pulls[Move("restore", "heads")]


# --- preset weights


@pytest.mark.parametrize("objectives", [2, 3, 4, 5])
def test_preset_weights_sum_to_1_and_are_no_more_than_the_population(objectives):
    space = SPACE["medium"]
    method = make_method("nsga3", space, samplers(space)["stratified"], seed=0)
    assert isinstance(method, Nsga3)
    weights = method._weights(objectives)
    assert 15 <= len(weights) <= method.population
    assert np.allclose(weights.sum(axis=1), 1)
    assert len(np.unique(weights.round(9), axis=0)) == len(weights)
