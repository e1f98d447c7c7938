"""Carrying a cost table over, against closed-form devices: the oracle knows every cost and adds the noise itself."""

from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np
import pytest

from profilers import CostKey, CostTable, Dimensions, LayerSizes, Plan, Program, Workload, make_runtime
from profilers.cost_table import network_row
from profilers.runtimes import OutOfMemoryError
from profilers.transfer import (
    MIN_SAMPLES,
    TransferError,
    _Mixture,
    choose_samples,
    measure_transfer,
    nearest_workload,
    transfer,
)
from targets import Target
from targets.fingerprint import measure_fingerprint

DIMS = Dimensions(layers=6, heads=12, ffn_units=1536, hidden_size=384, head_size=32, vocabulary=500)
HEADS = tuple(range(1, 13))
UNITS = (16, 64, 128, 256, 384, 512, 768, 1024, 1280, 1536)
NULL = Target.parse("null")
HERE = measure_fingerprint(NULL)
OLD = Workload(batch=1, tokens=128)
NEW = Workload(batch=1, tokens=128, threads=2)
NOISE = 0.015
PLAN = Plan(min_rounds=1, max_rounds=1, block_s=0.0)
QUARTER = (LayerSizes(DIMS.heads // 4, DIMS.ffn_units // 4),) * DIMS.layers


@dataclass(frozen=True)
class Machine:
    """Costs in seconds by closed form; `attention` and `ffn` take a size above 0."""

    base: float
    mask: float
    attention: Callable[[float], float]
    ffn: Callable[[float], float]

    def seconds(self, stack) -> float:
        blocks = sum(self.attention(h) for h, _ in stack if h) + sum(self.ffn(u) for _, u in stack if u)
        return self.base + blocks + (self.mask if any(h for h, _ in stack) else 0.0)


BASE = Machine(84e-6, 81e-6, lambda h: 80e-6 + 182e-6 * h, lambda u: 70e-6 + 2.36e-6 * u)
DEVICES = {
    "scaled": Machine(0.6 * 84e-6, 0.6 * 81e-6, lambda h: 0.6 * BASE.attention(h), lambda u: 0.6 * BASE.ffn(u)),
    "attention and FFN apart": Machine(84e-6, 81e-6, lambda h: 0.55 * BASE.attention(h), lambda u: 0.3 * BASE.ffn(u)),
    "another call overhead": Machine(1.5e-3, 81e-6, BASE.attention, BASE.ffn),
    "other curvature": Machine(60e-6, 40e-6, lambda h: 1e-4 + 2e-5 * h**1.3, lambda u: 5e-5 + 2e-6 * u**0.9),
    "many cores": Machine(120e-6, 2e-6, lambda h: 60e-6 + 1e-6 * h, lambda u: 30e-6 + 1e-8 * u),
}
FAMILY = ("scaled", "attention and FFN apart", "another call overhead", "many cores")
"""Devices the adaptation can match exactly; the other curvature lies outside."""


def base_table(noise: float = 0.0, seed: int = 0, **more: float) -> CostTable:
    rng = np.random.default_rng(seed)
    entries = {CostKey("base", 0, OLD): BASE.base, CostKey("mask", 0, OLD): BASE.mask}
    entries |= {CostKey("attention", h, OLD): BASE.attention(h) * rng.lognormal(0, noise) for h in HEADS}
    entries |= {CostKey("ffn", u, OLD): BASE.ffn(u) * rng.lognormal(0, noise) for u in UNITS}
    entries |= {CostKey(piece, 0, OLD): seconds for piece, seconds in more.items()}
    return CostTable(target="null:fp32", source="measured", fingerprint=HERE, dimensions=DIMS, entries=entries)


def random_stacks(count: int, seed: int):
    """Sizes of every kind, between the base's entries too; drawn otherwise than the module draws its samples."""
    rng = np.random.default_rng([seed, 7])
    stacks = []
    while len(stacks) < count:
        heads = rng.binomial(12, rng.random(), 6) * rng.integers(0, 2, 6)
        units = rng.binomial(96, rng.random(), 6) * 16 * rng.integers(0, 2, 6)
        if heads.any() or units.any():
            stacks.append(tuple(LayerSizes(int(h), int(u)) for h, u in zip(heads, units, strict=True)))
    return stacks


def carried_over(device: Machine, base: CostTable, noise: float = 0.0, seed: int = 0, count: int = 10) -> CostTable:
    samples = choose_samples(base, DIMS, OLD, count, seed)
    rng = np.random.default_rng([seed, 1])
    measured = np.array([device.seconds(stack) for stack in samples]) * rng.lognormal(0, noise, len(samples))
    return transfer(base, OLD, samples, measured, NULL, HERE, NEW)


# --- the adaptation


@pytest.mark.parametrize("name", FAMILY)
def test_a_device_within_reach_is_recovered_entry_by_entry(name):
    device = DEVICES[name]
    table = carried_over(device, base_table())
    for heads in HEADS:
        assert table.entries[CostKey("attention", heads, NEW)] == pytest.approx(device.attention(heads), rel=0.02)
    for units in UNITS:
        assert table.entries[CostKey("ffn", units, NEW)] == pytest.approx(device.ffn(units), rel=0.02)
    assert table.entries[CostKey("base", 0, NEW)] == pytest.approx(device.base, rel=0.02)
    for stack in random_stacks(20, 0):
        assert table.predict(stack, NEW).value == pytest.approx(device.seconds(stack), rel=0.005)


def test_one_constant_is_all_that_a_slower_twin_changes():
    base = base_table(noise=0.02)
    twin = carried_over(DEVICES["scaled"], base_table(), count=MIN_SAMPLES)
    assert [s / base_table().entries[key._replace(workload=OLD)] for key, s in twin.entries.items()] == pytest.approx(
        [0.6] * len(base.entries), rel=1e-4
    )


@pytest.mark.parametrize("name", DEVICES)
def test_half_the_error_of_the_scaled_table_and_never_more(name):
    """Ten noisy samples, twenty noisy unseen networks, a base with noise of its own: mean over four draws."""
    device = DEVICES[name]
    errors = [_measured(device, seed) for seed in range(4)]
    transferred, scaled = (np.mean([getattr(e, field) for e in errors]) for field in ("rmse", "scaled_rmse"))
    assert transferred < (1.1 if name == "scaled" else 0.5) * scaled
    if name == "scaled":
        assert max(e.rmse for e in errors) < 2 * NOISE
    else:
        assert scaled > 4 * NOISE


def _measured(device: Machine, seed: int) -> TransferError:
    rng = np.random.default_rng([seed, 2])
    clock = Clock(lambda stack: device.seconds(stack) * rng.lognormal(0, NOISE))
    return measure(clock, base_table(NOISE, seed), seed=seed)[1]


@pytest.mark.parametrize("seed", range(5))
def test_no_cost_below_zero_and_none_out_of_order_however_noisy_the_samples(seed):
    table = carried_over(DEVICES["other curvature"], base_table(), noise=0.7, seed=seed)
    assert min(table.entries.values()) >= 0
    for piece, sizes in (("attention", HEADS), ("ffn", UNITS)):
        costs = [table.entries[CostKey(piece, size, NEW)] for size in sizes]
        assert costs == sorted(costs)


def test_any_piece_is_carried_over_and_a_saving_stays_a_saving():
    base = base_table(pair=-5e-6)
    table = carried_over(DEVICES["attention and FFN apart"], base)
    assert table.entries.keys() == {key._replace(workload=NEW) for key in base.entries}
    assert -5e-5 < table.entries[CostKey("pair", 0, NEW)] < 0


def test_a_piece_that_cost_nothing_on_the_base_can_cost_something_here():
    base = base_table()
    free_call = replace(base, entries={**base.entries, CostKey("base", 0, OLD): 0.0})
    table = carried_over(DEVICES["another call overhead"], free_call)
    assert table.entries[CostKey("base", 0, NEW)] == pytest.approx(1.5e-3, rel=0.02)


def test_every_number_says_transferred_between_sizes_too():
    table = carried_over(DEVICES["scaled"], base_table())
    assert table.source == "transferred"
    assert table.predict(DIMS.dense, NEW).source == "transferred"
    between = (LayerSizes(12, 100),) + (LayerSizes(0, 0),) * 5
    assert table.predict(between, NEW).source == "transferred"
    assert CostTable.from_json(table.to_json()).entries == table.entries


# --- which networks to measure


def test_samples_are_given_by_the_seed_and_keep_off_the_checks():
    base = base_table()
    first = choose_samples(base, DIMS, OLD, 10, 0)
    assert first == choose_samples(base, DIMS, OLD, 10, 0)
    assert first != choose_samples(base, DIMS, OLD, 10, 1)
    assert len(set(first)) == 10
    other = choose_samples(base, DIMS, OLD, 10, 0, avoid=first)
    assert not set(first) & set(other)


def test_a_model_of_other_depth_is_sampled_at_its_own():
    base = base_table()
    stacks = choose_samples(base, replace(DIMS, layers=3), OLD, 10, 0)
    assert {len(stack) for stack in stacks} == {3}


def _design(stacks) -> np.ndarray:
    """By hand: call, mask, heads, FFN units, attention blocks and FFN blocks, relative to the base's prediction."""
    rows = [
        [1, any(h for h, _ in s), *np.sum(s, axis=0), sum(h > 0 for h, _ in s), sum(u > 0 for _, u in s)]
        for s in stacks
    ]
    scale = np.array([BASE.base, BASE.mask, 182e-6, 2.36e-6, 80e-6, 70e-6])
    return np.array(rows) * scale / np.array([[BASE.seconds(s)] for s in stacks])


def test_chosen_samples_determine_the_unknowns_better_than_random_ones():
    """Variance of a free least-squares fit on unseen networks, and the conditioning behind it."""
    unseen = _design(random_stacks(200, 5))

    def judged(stacks) -> tuple[float, float]:
        design = _design(stacks)
        return float(np.mean((unseen @ np.linalg.pinv(design)) ** 2)), float(np.linalg.cond(design))

    drawn = [judged(random_stacks(10, seed)) for seed in range(50)]
    for seed in range(3):
        variance, condition = judged(choose_samples(base_table(), DIMS, OLD, 10, seed))
        assert variance < np.percentile([v for v, _ in drawn], 10)
        assert condition < np.percentile([c for _, c in drawn], 25)


def test_a_prediction_is_the_sum_of_what_its_shapes_add():
    mixture = _Mixture.of(base_table(noise=0.1), OLD)
    stacks = random_stacks(10, 3)
    mix = np.random.default_rng(0).random(len(mixture.prior))
    mixed = replace(mixture.base, entries=mixture.entries(mix, NEW))
    assert mixture.seconds(stacks) @ mix == pytest.approx([mixed.predict(s, NEW).value for s in stacks])
    assert mixture.entries(mixture.prior, OLD) == pytest.approx(dict(mixture.base.entries))


def test_the_nearest_workload_shares_most_and_then_has_the_nearest_size():
    batches = [Workload(batch=b, tokens=128) for b in (1, 8, 32)]
    table = base_table()
    table = replace(table, entries={k._replace(workload=w): s for w in batches for k, s in table.entries.items()})
    assert nearest_workload(table, batches[2]) == batches[2]
    assert nearest_workload(table, Workload(batch=12, tokens=128)) == batches[1]
    assert nearest_workload(table, Workload(batch=1, tokens=64, threads=2)) == batches[0]
    assert nearest_workload(replace(table, entries={}), NEW) == NEW


# --- measuring


class Clock:
    """A runtime whose seconds are a function of the network, the same at every call."""

    name, source = "clock", "measured"

    def __init__(self, seconds) -> None:
        self.seconds, self.opened = seconds, []

    @contextmanager
    def open(self, program, asked):
        assert asked == NEW
        self.opened.append(program.stack)
        seconds = self.seconds(program.stack)
        yield SimpleNamespace(sample=lambda count: [seconds] * count)

    def describe(self) -> dict:
        return {"mode": "by hand", "warnings": []}


def not_built(*_):
    pytest.fail("nothing is built for a closed form")


def workbench(stack) -> Program:
    name = " ".join(f"{heads}.{units}" for heads, units in stack)
    return Program(name=name, stack=stack, dimensions=DIMS, graph=not_built, module=not_built, inputs=not_built)


def measure(runtime, base: CostTable, *, seed: int = 0, count: int = 10):
    return measure_transfer(
        base, OLD, NULL, DIMS, NEW, runtime, workbench, HERE,
        count=count, checks=random_stacks(20, seed), plan=PLAN, seed=seed,
    )  # fmt: skip


def test_the_table_publishes_its_error_beside_the_scaled_bases():
    device, base = DEVICES["attention and FFN apart"], base_table()
    clock = Clock(device.seconds)
    table, error = measure(clock, base)
    checks = random_stacks(20, 0)
    assert [(c["heads"], c["ffn_units"]) for c in table.checks] == [
        ([h for h, _ in stack], [u for _, u in stack]) for stack in checks
    ]
    measured, predicted, scaled = (
        np.array([c[name] for c in table.checks]) for name in ("measured_s", "predicted_s", "scaled_s")
    )
    assert measured == pytest.approx([device.seconds(s) for s in checks])
    assert predicted == pytest.approx([table.predict(s, NEW).value for s in checks])
    constants = scaled / [base.predict(s, OLD).value for s in checks]
    assert constants == pytest.approx([constants[0]] * 20)
    assert error.rmse == pytest.approx(np.sqrt(np.mean((predicted / measured - 1) ** 2)))
    assert error.scaled_rmse == pytest.approx(np.sqrt(np.mean((scaled / measured - 1) ** 2)))
    assert error.scaled_rmse_s == pytest.approx(np.sqrt(np.mean((scaled - measured) ** 2)))
    assert error.rmse_s < 0.1 * error.scaled_rmse_s
    assert (error.samples, error.check_nets) == (10, 20)
    (written,) = table.how["transfers"]
    assert written["from"] == {
        "target": "null:fp32", "source": base.source, "device": "null", "workload": OLD.to_json(),
    }  # fmt: skip
    assert (written["rmse"], written["scaled_rmse"]) == (error.rmse, error.scaled_rmse)
    published = table.errors[NEW]
    assert published.mape == pytest.approx(np.abs(predicted / measured - 1).mean())
    assert published.control_mape > 0.05 > published.mape


def test_the_scaled_base_is_the_best_that_one_constant_can_do_on_the_samples():
    device, base = DEVICES["other curvature"], base_table()
    clock = Clock(device.seconds)
    table, _ = measure(clock, base)
    samples = choose_samples(base, DIMS, OLD, 10, 0, avoid=random_stacks(20, 0))
    assert set(samples) < set(clock.opened)
    ratios = np.array([base.predict(s, OLD).value / device.seconds(s) for s in samples])
    constants = np.linspace(0.01, 2, 20_000)
    best = constants[((constants[:, None] * ratios - 1) ** 2).sum(axis=1).argmin()]
    check = random_stacks(20, 0)[0]
    assert table.checks[0]["scaled_s"] == pytest.approx(best * base.predict(check, OLD).value, rel=1e-3)


def test_checks_never_enter_the_fit():
    device, base, checks = DEVICES["other curvature"], base_table(), set(random_stacks(20, 0))
    clock = Clock(device.seconds)
    table, _ = measure(clock, base)
    assert checks < set(clock.opened)
    spoilt, _ = measure(Clock(lambda s: device.seconds(s) * (3 if s in checks else 1)), base)
    assert spoilt.entries == pytest.approx(dict(table.entries))


def test_what_does_not_fit_into_memory_is_left_out_and_listed():
    device, base = DEVICES["attention and FFN apart"], base_table()
    largest = choose_samples(base, DIMS, OLD, 10, 0, avoid=random_stacks(20, 0))[0]

    def seconds(stack) -> float:
        if stack == largest:
            raise OutOfMemoryError("too large")
        return device.seconds(stack)

    table, error = measure(Clock(seconds), base)
    assert table.how["too_large"] == [network_row(largest, NEW)]
    assert (error.samples, error.check_nets) == (9, 20)
    assert error.rmse < 0.5 * error.scaled_rmse


def test_where_too_few_samples_fit_nothing_is_carried_over():
    device, base = DEVICES["attention and FFN apart"], base_table()
    fitting = choose_samples(base, DIMS, OLD, 10, 0, avoid=random_stacks(20, 0))[:3]

    def seconds(stack) -> float:
        if stack in fitting or stack in random_stacks(20, 0) or stack == QUARTER:
            return device.seconds(stack)
        raise OutOfMemoryError("too large")

    with pytest.raises(OutOfMemoryError, match=r"holds too few networks .* 3 samples and 20 to check"):
        measure(Clock(seconds), base)


def test_on_the_null_device_nothing_says_transferred():
    runtime = make_runtime("null", NULL)
    base = replace(base_table(), source="null")
    table, _ = measure_transfer(
        base, OLD, NULL, DIMS, NEW, runtime, workbench, HERE, checks=random_stacks(4, 0), plan=PLAN
    )
    assert table.source == "null"
    assert table.predict(DIMS.dense, NEW).source == "null"
