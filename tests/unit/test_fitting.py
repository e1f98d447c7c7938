"""The fit of pieces to timed networks: no time below zero, and weights beyond the cache."""

from dataclasses import replace

import numpy as np
import pytest

from profilers import CostKey, CostTable, LayerSizes
from profilers.fitting import Design, Timed, fit_pieces
from profilers.placing import plan_stacks
from profilers.roofline import stack_seconds
from tests.machines import ASKED, CHECKS, DIMS, NULL, measure, random_stacks


@pytest.fixture(scope="module")
def table() -> CostTable:
    return measure()


def timed_by(table, stacks, noise=0.0):
    """What the networks take by a table, and a little more or less."""
    off = np.random.default_rng(0).normal(1, noise, len(stacks)) if noise else np.ones(len(stacks))
    seconds = np.array([table.predict(stack, ASKED).value for stack in stacks])
    return Timed(stacks=stacks, seconds=seconds * off, errors=np.full(len(stacks), 0.005))


@pytest.mark.parametrize("noise", [0.0, 0.015])
def test_weights_that_do_not_stay_in_the_cache_are_fitted_where_they_tell(table, noise):
    """Half of the dense network's, and what is beyond takes half as long again as the whole network does."""
    weights = DIMS.weights(DIMS.dense)
    assert weights == 4 * (6 * 4 * 96 * 16 + 192 * 2 * 96)
    key = CostKey("uncached", weights // 2, ASKED)
    slow = replace(table, entries={**table.entries, key: table.predict(DIMS.dense, ASKED).value / 2})
    assert slow.predict(DIMS.dense, ASKED).value == pytest.approx(1.5 * table.predict(DIMS.dense, ASKED).value)
    small = (LayerSizes(3, 96),) * 4
    assert slow.predict(small, ASKED).value == table.predict(small, ASKED).value
    design = Design(DIMS, NULL.size_alignment, ASKED)
    stacks = [*plan_stacks(DIMS, NULL.size_alignment), *random_stacks([40, 128], 30)]
    assert not [k for k in fit_pieces(timed_by(table, stacks, noise), design) if k.piece == "uncached"]
    (found,) = replace(slow, entries=fit_pieces(timed_by(slow, stacks, noise), design)).overflows(ASKED)
    assert found.fits == pytest.approx(key.size, rel=0.15)
    unseen = timed_by(slow, CHECKS)
    fitted = replace(table, entries=fit_pieces(timed_by(slow, stacks, noise), design))
    off = timed_by(fitted, CHECKS).seconds / unseen.seconds - 1
    assert np.abs(off).mean() < 0.012


def test_a_start_below_zero_is_no_cache(table):
    """All networks but the emptiest take less by the same: a line that no time of its own may be below zero for."""
    key = CostKey("uncached", DIMS.weights(DIMS.dense) // 50, ASKED)
    slow = replace(table, entries={**table.entries, key: table.predict(DIMS.dense, ASKED).value / 50})
    stacks = [*plan_stacks(DIMS, NULL.size_alignment), *random_stacks([40, 128], 30)]
    fitted = fit_pieces(timed_by(slow, stacks), Design(DIMS, NULL.size_alignment, ASKED))
    assert not [k for k in fitted if k.piece == "uncached"]
    off = timed_by(replace(table, entries=fitted), CHECKS).seconds / timed_by(slow, CHECKS).seconds - 1
    assert np.abs(off).mean() < 0.02


@pytest.mark.parametrize("seed", range(4))
def test_no_time_below_zero_where_the_device_is_noisy(seed):
    """Clipping the free solution instead would leave the other costs as wrong as the negative ones made them."""
    from scipy.optimize import lsq_linear

    rng = np.random.default_rng(seed)
    stacks = plan_stacks(DIMS, 8)
    true = np.array([stack_seconds(NULL, ASKED, DIMS, stack) for stack in stacks])
    seconds, errors = true * rng.lognormal(0, 0.5, len(true)), rng.uniform(0.001, 0.02, len(true))
    entries = fit_pieces(Timed(stacks=stacks, seconds=seconds, errors=errors), Design(DIMS, 8, ASKED))
    assert min(entries.values()) == 0.0
    units = [key.size for key in entries if key.piece == "ffn"]
    columns = {key: i for i, key in enumerate(entries)}
    matrix = np.zeros((len(stacks), len(columns)))
    for row, stack in zip(matrix, stacks, strict=True):
        row[0], row[1] = 1, any(sizes.heads for sizes in stack)
        row[-2:] = max(sizes.heads for sizes in stack) / 6, max(sizes.ffn_units for sizes in stack) / 192
        for heads, kept in stack:
            if heads:
                row[columns[CostKey("attention", heads, ASKED)]] += 1
            if kept % 8:
                row[columns[CostKey("ffn_remainder", kept, ASKED)]] += 1
            if kept:
                above = next(size for size in units if size >= kept)
                below = max((size for size in units if size < kept), default=above)
                share = 1.0 if above in (below, kept) else (kept - below) / (above - below)
                row[columns[CostKey("ffn", above, ASKED)]] += share
                row[columns[CostKey("ffn", below, ASKED)]] += 1 - share
    weights = 1 / np.hypot(errors, 0.015)
    scaled = matrix * (weights / seconds)[:, None]
    best = lsq_linear(scaled, weights, bounds=(0, np.inf), method="bvls", tol=1e-14)
    found = scaled @ np.array(list(entries.values())) - weights
    assert (found**2).sum() / 2 == pytest.approx(best.cost, rel=1e-6)
