"""Asynchronous successive halving, on a problem whose short trainings foretell long ones."""

from itertools import pairwise

import numpy as np
import pytest

from compiler.search import SHARES, MoAsha, SuccessiveHalving, hypervolume, is_nondominated, rung_budgets
from compiler.spaces import make_space, sample_uniform
from targets.errors import InputError
from tests.problem import SIZES, objectives

SPACE = make_space("medium", SIZES)
BUDGETS = (1.0, 3.0, 9.0)


def make(seed=0, **options):
    return SuccessiveHalving(
        SPACE, lambda rng, n: sample_uniform(SPACE, rng, n), seed=seed, **{"budgets": BUDGETS, **options}
    )


def trained(job, seed=0):
    """What a training of a budget shows: the truth, and an error that a longer training has less of."""
    rng = np.random.default_rng([seed, *job.genome])
    value = objectives(SPACE, job.genome[None])[0]
    value[0] += 0.1 * rng.random() / job.budget
    return value


def run(scheduler, budget, judge=trained):
    """Jobs and what they gave, one after the other, until the budget is spent."""
    done, spent = [], 0.0
    while True:
        job = scheduler.ask()
        spent += job.budget - (scheduler.budgets[job.rung - 1] if job.rung else 0.0)
        if spent > budget:
            return done
        done.append((job, judge(job)))
        scheduler.tell(*done[-1])


def record(done):
    return [(job.number, job.rung, job.budget, tuple(job.genome)) for job, _ in done]


def fronts(points):
    """Which front each point is on, by peeling."""
    rank, left, level = np.full(len(points), -1), np.arange(len(points)), 0
    while len(left):
        best = left[
            [not any((points[o] <= points[i]).all() and (points[o] < points[i]).any() for o in left) for i in left]
        ]
        rank[best], left, level = level, np.setdiff1d(left, best), level + 1
    return rank


def test_rungs_are_geometric_and_end_at_the_highest_budget():
    assert rung_budgets(1, 9) == (1.0, 3.0, 9.0)
    assert rung_budgets(1, 10) == pytest.approx((10 / 9, 10 / 3, 10))
    assert rung_budgets(2, 2) == (2.0,)
    assert rung_budgets(1, 16, reduction=4) == (1.0, 4.0, 16.0)


@pytest.mark.parametrize(("lowest", "highest", "reduction"), [(0, 9, 3), (9, 1, 3), (1, 9, 1), (-1, 1, 2)])
def test_rungs_that_do_not_rise_are_refused(lowest, highest, reduction):
    with pytest.raises(InputError, match="must rise"):
        rung_budgets(lowest, highest, reduction)


def test_it_starts_from_largest_smallest_middle_and_the_seeds_on_the_lowest_rung():
    seeds = sample_uniform(SPACE, np.random.default_rng(5), 2)
    scheduler = make(seeds=seeds)
    jobs = [scheduler.ask() for _ in range(5)]
    assert np.array_equal(
        np.stack([job.genome for job in jobs]), np.stack([SPACE.largest, SPACE.smallest, SPACE.middle, *seeds])
    )
    assert {(job.rung, job.budget) for job in jobs} == {(0, 1.0)}


def test_who_goes_on_is_among_the_best_third_of_its_rung():
    scheduler, told, promotions = make(), {}, 0
    for _ in range(150):
        job = scheduler.ask()
        if job.rung:
            below = told[job.rung - 1]
            assert len(below) >= 3
            rank = dict(zip(below, fronts(np.stack([*below.values()])), strict=True))
            better = [n for n in below if rank[n] < rank[job.number]]
            assert len(better) < len(below) // 3
            promotions += 1
        value = trained(job)
        told.setdefault(job.rung, {})[job.number] = value
        scheduler.tell(job, value)
    assert promotions > 30


def test_at_least_a_third_of_each_rung_goes_on_and_none_twice():
    """More than a third, since who was among the best when it went on may not be later."""
    done = run(make(), 300)
    assert len({(job.number, job.rung) for job, _ in done}) == len(done)
    sizes = [sum(job.rung == rung for job, _ in done) for rung in range(3)]
    for lower, upper in pairwise(sizes):
        assert lower // 3 - 1 <= upper < 0.6 * lower
    assert len(make().evaluated()[0]) == 0


def test_several_workers_never_wait_and_what_they_hold_is_asked_once():
    rng, scheduler, held, asked = np.random.default_rng(0), make(), [], set()
    for _ in range(200):
        while len(held) < 4:
            held.append(scheduler.ask())
            assert (held[-1].number, held[-1].rung) not in asked
            asked.add((held[-1].number, held[-1].rung))
        job = held.pop(rng.integers(4))
        scheduler.tell(job, trained(job))
    assert {rung for _, rung in asked} == {0, 1, 2}


def test_it_is_the_same_for_a_seed_and_goes_on_the_same_after_a_replay():
    whole = run(make(seed=3), 120)
    assert record(whole) == record(run(make(seed=3), 120))
    assert record(whole) != record(run(make(seed=4), 120))
    for cut in (1, 5, 20, 40):
        resumed = make(seed=3)
        for _, value in whole[:cut]:
            resumed.tell(resumed.ask(), value)
        job = resumed.ask()
        assert record([(job, None)]) == record(whole[cut : cut + 1])


def test_what_failed_never_goes_on():
    def judge(job):
        return np.full(2, np.inf) if job.genome.sum() % 2 else trained(job)

    done = run(make(), 200, judge)
    assert any(job.rung == 2 for job, _ in done)
    assert all(job.genome.sum() % 2 == 0 for job, _ in done if job.rung)
    assert all(job.rung == 0 for job, _ in run(make(), 60, lambda _: np.full(2, np.inf)))


@pytest.mark.parametrize("count", [2, 4])
def test_ties_and_many_objectives_go_on_too(count):
    done = run(make(), 150, lambda _: np.zeros(count))
    assert {job.rung for job, _ in done} == {0, 1, 2}


def test_telling_what_was_not_asked_is_an_error():
    scheduler = make()
    job = scheduler.ask()
    scheduler.tell(job, np.zeros(2))
    with pytest.raises(ValueError, match="no open job"):
        scheduler.tell(job, np.zeros(2))


def test_it_finds_more_than_training_everything_fully_at_the_same_budget():
    """Hypervolume of the truth of what reached the top, over seeds, against as much full training of random networks."""
    reference, wins = np.ones(2), 0
    for seed in range(5):
        top = make(seed=seed)
        run(top, 270)
        ours = hypervolume(objectives(SPACE, top.evaluated()[0]), reference)
        full = make(seed=seed, budgets=(9.0,))
        run(full, 270)
        wins += ours > hypervolume(objectives(SPACE, full.evaluated()[0]), reference)
    assert wins >= 4


def test_the_top_rung_holds_a_front():
    scheduler = make()
    run(scheduler, 300)
    genomes, values = scheduler.evaluated()
    assert len(genomes) == len(values) > 5
    assert is_nondominated(values).sum() >= 4


# one worker, as a search method


def method(seed=0):
    return MoAsha(SPACE, lambda rng, n: sample_uniform(SPACE, rng, n), seed=seed)


def test_the_start_is_asked_for_at_once_on_the_lowest_rung():
    one = method()
    assert np.array_equal(one.ask(), np.stack([SPACE.largest, SPACE.smallest, SPACE.middle]))
    assert one.share == SHARES[0] == pytest.approx(1 / 9)


def test_as_a_method_it_asks_for_what_the_scheduler_does():
    """The start is told before anything else is asked, so the two have the same jobs."""
    one, scheduler = method(), make(budgets=SHARES)
    genomes = one.ask()
    jobs = [scheduler.ask() for _ in genomes]
    for _ in range(60):
        values = objectives(SPACE, genomes)
        assert np.array_equal(genomes, [job.genome for job in jobs])
        assert one.share == jobs[0].budget
        one.tell(genomes, values)
        for job, value in zip(jobs, values, strict=True):
            scheduler.tell(job, value)
        genomes, jobs = one.ask(), [scheduler.ask()]
    assert {len(told) > 2 for told in scheduler.told} == {True}


def test_what_goes_on_is_asked_for_again_with_three_times_the_share():
    one, shares = method(), {}
    for _ in range(60):
        genomes = one.ask()
        for genome in genomes:
            shares.setdefault(tuple(genome), []).append(one.share)
        one.tell(genomes, objectives(SPACE, genomes))
    assert {tuple(SHARES[:n]) for n in (1, 2, 3)} == {tuple(some) for some in shares.values()}
