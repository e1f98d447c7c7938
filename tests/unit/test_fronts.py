"""Dominance, hypervolume, and points that are spread out."""

from itertools import combinations, product

import numpy as np
import pytest

from compiler.search import bisected, hypervolume, is_nondominated, spread_out


def dominates(a, b) -> bool:
    return bool((a <= b).all() and (a < b).any())


@pytest.mark.parametrize("seed", range(20))
def test_front_is_what_no_other_point_dominates(seed):
    rng = np.random.default_rng(seed)
    points = rng.integers(0, 6, (25, 2 + seed % 2)).astype(float)
    seen: set[tuple[float, ...]] = set()
    expected = []
    for point in points:
        expected.append(tuple(point) not in seen and not any(dominates(other, point) for other in points))
        seen.add(tuple(point))
    assert is_nondominated(points).tolist() == expected


def test_front_leaves_out_failed_evaluations():
    points = np.array([[np.inf, np.inf], [1.0, 2.0], [2.0, 1.0], [np.inf, 0.5]])
    assert is_nondominated(points).tolist() == [False, True, True, True]
    assert is_nondominated(np.full((3, 2), np.inf)).tolist() == [True, False, False]


def brute_volume(points, reference) -> float:
    """Inclusion and exclusion over all sets of boxes."""
    total = 0.0
    for k in range(1, len(points) + 1):
        for some in combinations(points, k):
            total -= (-1) ** k * np.prod(np.maximum(reference - np.max(some, axis=0), 0))
    return float(total)


@pytest.mark.parametrize("seed", range(10))
def test_hypervolume_equals_inclusion_and_exclusion(seed):
    rng = np.random.default_rng(seed)
    points = rng.uniform(0, 1.3, (7, 2 + seed % 2))
    reference = np.ones(2 + seed % 2)
    assert hypervolume(points, reference) == pytest.approx(brute_volume(points, reference))


def test_hypervolume_by_hand():
    reference = np.array([2.0, 2.0])
    assert hypervolume(np.array([[1.0, 1.0]]), reference) == pytest.approx(1)
    assert hypervolume(np.array([[0.0, 1.0], [1.0, 0.0]]), reference) == pytest.approx(3)
    assert hypervolume(np.array([[0.0, 1.0], [1.0, 0.0], [1.5, 1.5]]), reference) == pytest.approx(3)
    assert hypervolume(np.array([[3.0, 0.0]]), reference) == 0


def test_spread_out_takes_both_ends_and_even_steps():
    values = np.array([0.0, 10.0, 1.0, 5.2, 9.0, 4.0])
    assert spread_out(values, 3) == [0, 3, 1]
    assert spread_out(values, 6) == spread_out(values, 99) == [0, 2, 5, 3, 4, 1]
    assert spread_out(np.array([3.0]), 2) == [0]


@pytest.mark.parametrize("count", range(2, 9))
def test_spread_out_never_repeats_and_never_exceeds(count):
    for ties in product([0.0, 1.0], repeat=5):
        chosen = spread_out(np.array([*ties, 0.5]), count)
        assert len(chosen) == len(set(chosen)) == min(count, 6)


def test_bisection_takes_both_ends_and_then_always_the_middle_of_a_widest_gap():
    assert bisected(9) == [0, 8, 4, 2, 6, 1, 3, 5, 7]


@pytest.mark.parametrize("count", range(20))
def test_every_beginning_of_a_bisection_leaves_no_gap_far_wider_than_another(count):
    order = bisected(count)
    assert sorted(order) == list(range(count))
    for n in range(2, count + 1):
        gaps = np.diff(sorted(order[:n]))
        assert gaps.max() <= 2 * gaps.min() + 1
