"""Interleaved measuring on a machine that drifts on purpose."""

import sys
from dataclasses import replace
from itertools import count
from types import SimpleNamespace

import numpy as np
import pytest

from profilers import LayerSizes, Measurement, Plan, interleave, make_runtime
from profilers.interleave import Block
from profilers.roofline import stack_seconds
from profilers.runtimes import OutOfMemoryError
from tests.machines import (
    ASKED,
    DIMS,
    NULL,
    PLAN,
    PROGRAMS,
    REFERENCE,
    Killed,
    Machine,
    Notebook,
    Small,
    all_units,
    workbench,
)

TRUE = {p.name: stack_seconds(NULL, ASKED, DIMS, p.stack) for p in PROGRAMS}
REFERENCE_S = stack_seconds(NULL, ASKED, DIMS, REFERENCE.stack)


def run(machine, *, plan=PLAN, **options):
    return interleave(PROGRAMS, REFERENCE, machine, ASKED, plan=plan, seed=0, **options)


@pytest.fixture(scope="module")
def duration() -> float:
    machine = Machine()
    run(machine)
    return machine.now


DRIFTS = {
    "slower by 30 % all the while": lambda share: 1 + 0.3 * share,
    "faster by 30 % all the while": lambda share: 1.3 - 0.3 * share,
    "slower for a third of the time": lambda share: 1.3 if 1 / 3 < share < 2 / 3 else 1.0,
    "up and down": lambda share: 1 + 0.15 * np.sin(20 * np.pi * share),
}


@pytest.mark.parametrize("drift", DRIFTS.values(), ids=DRIFTS)
def test_drift_is_divided_out(drift, duration):
    series = run(Machine(speed=lambda now: drift(now / duration)))
    raw = [
        abs(sample / TRUE[n] - 1) for n, s in series.items() for b in s.blocks for turn in b.turns_s for sample in turn
    ]
    assert max(raw) > 0.14
    off = [abs(s.median_s / s.reference_s / (TRUE[n] / REFERENCE_S) - 1) for n, s in series.items()]
    assert np.mean(off) < 0.005
    assert max(off) < 0.03


def test_on_a_still_machine_nothing_is_corrected():
    for name, series in run(Machine()).items():
        assert series.median_s == pytest.approx(TRUE[name])
        assert series.error == pytest.approx(0)
        assert series.pooled.median_s == pytest.approx(TRUE[name])
        assert series.ratio_to_reference() == pytest.approx([REFERENCE_S / TRUE[name]] * PLAN.min_rounds)


def test_the_reference_is_opened_once_and_called_before_between_and_after_the_turns():
    machine = Machine()
    series = run(machine)
    assert machine.opened.count(REFERENCE.name) == 1
    assert machine.opened[0] == REFERENCE.name
    for one in series.values():
        assert {len(block.reference_s) - len(block.turns_s) for block in one.blocks} == {1}


def test_a_turn_lasts_about_as_long_as_a_call_of_the_reference():
    for name, series in run(Machine()).items():
        (calls,) = {len(turn) for block in series.blocks for turn in block.turns_s}
        assert calls == np.clip(round(REFERENCE_S / TRUE[name]), 1, 16)


def test_a_ratio_is_held_against_the_calls_on_both_sides():
    block = Block(reference_s=(1.0, 3.0, 5.0), turns_s=((4.0,), (4.0, 12.0, 0.1)))
    assert block.ratios == pytest.approx([4 / 2, 4 / 4])


def test_order_is_random_and_given_by_the_seed():
    orders = []
    for seed in (0, 0, 1):
        machine = Machine()
        interleave(PROGRAMS, REFERENCE, machine, ASKED, plan=PLAN, seed=seed)
        orders.append(machine.opened)
    assert orders[0] == orders[1] != orders[2]


def test_a_short_series_is_spread_over_the_whole_run():
    often = {p.name: 8 for p in PROGRAMS[::2]}
    machine = Machine()
    run(machine, plan=replace(PLAN, max_rounds=2), rounds=often)
    for program in PROGRAMS[1::2]:
        first, last = (i for i, name in enumerate(machine.opened) if name == program.name)
        between = machine.opened[first + 1 : last]
        assert {3, 4, 5} >= {between.count(name) for name in often}, program.name


def test_rounds_stop_when_turns_agree():
    assert {len(s.blocks) for s in run(Machine()).values()} == {PLAN.min_rounds}


def test_only_what_disagrees_is_measured_on_up_to_the_last_round():
    rng = np.random.default_rng(0)
    noisy = PROGRAMS[2].name
    series = run(Machine(noise=lambda name: rng.uniform(0.5, 2) if name == noisy else 1.0))
    assert {name for name, s in series.items() if len(s.blocks) > PLAN.min_rounds} == {noisy}
    assert len(series[noisy].blocks) == PLAN.max_rounds


def test_a_network_stops_as_soon_as_its_error_is_small():
    rng, noisy = np.random.default_rng(0), PROGRAMS[0].name
    machine = Machine(noise=lambda name: rng.normal(1, 0.04) if name == noisy else 1.0)
    series = run(machine, plan=replace(PLAN, max_rounds=90))
    assert PLAN.min_rounds < len(series[noisy].blocks) < 90
    assert series[noisy].error <= PLAN.tolerance
    assert series[noisy].median_s == pytest.approx(TRUE[noisy], rel=0.02)


def test_the_error_of_a_series_is_the_scatter_of_its_median():
    """Of many machines with the same noise, the medians scatter as each machine's own error says."""
    errors, medians = [], []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        machine = Machine(noise=lambda _, rng=rng: rng.normal(1, 0.03))
        one = interleave(
            PROGRAMS[:1], REFERENCE, machine, ASKED, plan=replace(PLAN, max_rounds=2, min_turns=30), seed=0
        )
        series = one[PROGRAMS[0].name]
        errors.append(series.error)
        medians.append(series.median_s / series.reference_s)
    assert np.mean(errors) == pytest.approx(np.std(medians) / np.mean(medians), rel=0.35)


def test_the_time_cap_ends_the_rounds_but_never_the_first_ones(monkeypatch):
    clock = count(step=100)
    module = sys.modules["profilers.interleave"]  # the package's attribute of that name is the function
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: float(next(clock))))
    rng = np.random.default_rng(0)
    series = run(Machine(noise=lambda _: rng.uniform(0.5, 2)), plan=replace(PLAN, max_rounds=10**9, time_cap_s=1.0))
    assert {len(s.blocks) for s in series.values()} == {PLAN.min_rounds}


def test_what_was_recorded_is_not_measured_again():
    notebook = Notebook()
    first = run(Machine(), recorder=notebook)
    again = run(Machine(fail_after=0), recorder=notebook)
    assert again == first


def test_a_killed_run_measures_only_what_is_missing():
    whole = Machine()
    expected = run(whole)
    notebook = Notebook()
    with pytest.raises(Killed):
        run(Machine(fail_after=29), recorder=notebook)
    rest = Machine()
    result = run(rest, recorder=notebook)
    assert rest.opened == [REFERENCE.name, *whole.opened[29:]]
    for name, series in result.items():
        assert series.median_s == pytest.approx(expected[name].median_s)


def test_a_block_lasts_as_long_as_planned_within_its_bounds_of_turns():
    plan = replace(PLAN, min_rounds=1, max_rounds=1)
    for block_s in (20 * REFERENCE_S, 1e9):
        for name, one in run(Machine(), plan=replace(plan, block_s=block_s)).items():
            (block,) = one.blocks
            turn_s = 2 * REFERENCE_S + (len(block.turns_s[0]) + 1) * TRUE[name]
            assert abs(len(block.turns_s) - np.clip(block_s / turn_s, plan.min_turns, plan.max_turns)) <= 1


@pytest.mark.parametrize("lengths", [(), (40,) * 8, (20, 40, 60)])
def test_a_block_lasts_as_long_whether_a_call_is_of_one_length_or_of_many(lengths):
    asked, stack = replace(ASKED, lengths=lengths), DIMS.dense
    plan = Plan(
        min_rounds=1, max_rounds=1, block_s=200 * stack_seconds(NULL, ASKED, DIMS, stack), min_turns=1, long_s=1e9
    )
    program = workbench(stack)
    series = interleave(
        [program],
        workbench((*stack[:2], LayerSizes(0, 0), LayerSizes(0, 0))),
        make_runtime("null", NULL),
        asked,
        plan=plan,
        seed=0,
    )
    (block,) = series[program.name].blocks
    calls_s = [*block.reference_s, *(s for turn in block.turns_s for s in turn)]
    assert (
        0.5 * plan.block_s < 2 * len(asked.each) * sum(calls_s) < 1.3 * plan.block_s
    )  # half of all calls are not counted


def test_what_must_be_timed_has_to_fit():
    dense, small = workbench(DIMS.dense), [p for p in PROGRAMS if not all_units(p.stack)]
    for programs, reference, skip in (
        ([*small, dense], REFERENCE, False),
        (small, dense, True),
        ([dense], REFERENCE, True),
    ):
        with pytest.raises(OutOfMemoryError, match=f"{dense.name} does not fit"):
            interleave(programs, reference, Small(all_units), ASKED, plan=PLAN, seed=0, skip_too_large=skip)


def test_progress_rises_to_one():
    told = []
    run(Machine(), progress=told.append)
    assert told == sorted(told)
    assert told[0] > 0
    assert told[-1] == 1


def test_statistics_are_derived_from_the_samples():
    measurement = Measurement(samples_s=(4.0, 1.0, 2.0, 3.0, 10.0), warmup=2)
    assert measurement.median_s == 3
    assert measurement.percentile_s(100) == 10
    assert measurement.spread == pytest.approx((4 - 2) / 3)


@pytest.mark.parametrize("samples", [(), (1.0, float("nan")), (-1.0,), (float("inf"),)])
def test_impossible_samples_are_refused(samples):
    with pytest.raises(ValueError, match="sample"):
        Measurement(samples_s=samples, warmup=0)
