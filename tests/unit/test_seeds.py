"""Where a search starts: allocations spread over the range, and within the limits of a run."""

from dataclasses import replace
from itertools import product
from types import SimpleNamespace

import numpy as np
import pytest

from compiler.costing import CostModel, Costs
from compiler.oneshot.importance import SubBlock
from compiler.pipeline.limits import MARGIN, ceilings, check_floor
from compiler.pipeline.options import Budgets
from compiler.pipeline.ranking import Ranking
from compiler.pipeline.seeds import LOCAL_SHARES, Groups, allocated, encoder_budgets_s, encoder_s, find_seeds
from compiler.spaces import Ordering, make_space
from profilers import CostKey, Dimensions, LayerSizes, Workload, roofline_table
from profilers.memory_model import NetworkBytes, Phase, modelled_memory
from targets import Target, measure_fingerprint
from targets.errors import BudgetError

DIMS = Dimensions(layers=3, heads=4, ffn_units=64, hidden_size=32, head_size=8, vocabulary=50)
ASKED = Workload(tokens=32, runtime="null")
NULL = Target.parse("null")
HERE = measure_fingerprint(NULL)
ARCHITECTURE = SimpleNamespace(
    layers=DIMS.layers, heads=DIMS.heads, ffn_units=DIMS.ffn_units, shape=DIMS.dense, hidden_size=DIMS.hidden_size,
    apart=None, largest=DIMS.largest, outside_parameters=lambda _: 1000, block_parameters=lambda _, piece, n, __: n * (1000 if piece == "attention" else 60),
)  # fmt: skip
LATENCY = CostModel.of(roofline_table(NULL, DIMS, ASKED, HERE), ASKED)
MEMORY = modelled_memory(NULL, NetworkBytes(dimensions=DIMS, stem_parameters=1000, workload=ASKED), HERE)
MEMORY = replace(MEMORY, loading=Phase(dense_bytes=9e5, per_weight_byte=2.0, per_activation_byte=0.0),
                 serving=Phase(dense_bytes=8e5, per_weight_byte=1.0, per_activation_byte=1.5))  # fmt: skip
SPACE = make_space("medium", ARCHITECTURE, unit_step=8)


def ranking(seed: int = 0) -> Ranking:
    """Losses that fall with what is kept, other ones in every sub-block."""
    rng = np.random.default_rng(seed)
    sizes = {"attention": DIMS.heads, "ffn": DIMS.ffn_units}
    blocks = {
        (layer, piece): SubBlock(order=np.arange(size), **{
            name: rng.uniform(0.2, 1) * (1 - (np.arange(size + 1) / size) ** rng.uniform(0.3, 1))
            for name in ("losses", "local")
        })
        for layer in range(DIMS.layers) for piece, size in sizes.items()
    }  # fmt: skip
    return Ranking(batches=None, calibration=None, ordering=Ordering(heads=(), units=()), blocks=blocks)


COSTS = Costs(architecture=ARCHITECTURE, latency=LATENCY, memory=MEMORY)


def seeds(count=16, **limits):
    return find_seeds(SPACE, COSTS, ranking(), count, limits)


def latencies(found):
    return LATENCY.latency_s(SPACE.counts(found.genomes))


def peaks(found):
    counts = SPACE.counts(found.genomes)
    return MEMORY.peak_bytes(counts.heads, counts.units)


DENSE_S = float(LATENCY.latency_s(SPACE.counts(SPACE.largest[None]))[0])


def test_without_limits_they_cover_the_range():
    found = seeds()
    assert found.gap is None
    assert found.genomes.shape == (16, 2 * DIMS.layers)
    encoder = (latencies(found) - LATENCY.base_s) / (DENSE_S - LATENCY.base_s)
    assert [(np.diff(half) >= 0).all() for half in np.split(encoder, len(LOCAL_SHARES))] == [True, True]
    encoder = np.sort(encoder)
    assert encoder[0] < 0.3
    assert encoder[-1] > 0.8


def test_below_a_latency_they_are_dense_just_below_it():
    limit = (LATENCY.base_s + 0.6 * (DENSE_S - LATENCY.base_s)) / MARGIN
    most = limit * MARGIN - LATENCY.base_s
    encoder = (latencies(seeds(latency=limit)) - LATENCY.base_s) / most
    assert (encoder <= 1 + 1e-9).all()
    assert (encoder > 0.75).sum() >= 6
    assert encoder[0] < 0.4


@pytest.mark.parametrize("share", [0.06, 0.02, 0.0])
def test_below_a_latency_of_next_to_nothing_they_still_fit(share):
    limit = (LATENCY.base_s + share * (DENSE_S - LATENCY.base_s)) / MARGIN
    budgets = encoder_budgets_s(LATENCY, Groups.of(SPACE), 16, limit)
    assert (budgets > 0).all()
    assert LATENCY.base_s + budgets.max() <= limit * MARGIN * (1 + 1e-6)
    assert latencies(seeds(latency=limit)).max() <= limit


def test_a_generous_limit_changes_nothing():
    assert np.array_equal(seeds(latency=2 * DENSE_S).genomes, seeds().genomes)


@pytest.mark.parametrize("share", [0.5, 0.8])
def test_memory_is_kept_in_loading_and_in_serving(share):
    least, most = (float(MEMORY.peak_bytes(np.full((1, 3), h), np.full((1, 3), u))[0]) for h, u in ((0, 0), (4, 64)))
    limit = least + share * (most - least)
    found = seeds(8, memory=limit)
    assert found.gap == 0.0
    assert len(found.genomes) == 8
    assert (peaks(found) <= limit * MARGIN * (1 + 1e-6)).all()
    assert peaks(found).max() > 0.9 * limit * MARGIN, "what is allowed is used"


def test_of_a_network_that_was_cut_before_they_fit_what_is_left_and_use_the_memory():
    """Savings count from the whole model, whatever is left of it."""
    left = (LayerSizes(2, 40), LayerSizes(0, 60), LayerSizes(4, 0))
    space = make_space("medium", SimpleNamespace(shape=left, hidden_size=DIMS.hidden_size, apart=None), unit_step=8)
    none, all_of_it = (space.counts(genome[None]) for genome in (space.lower, space.upper))
    least, most = (float(MEMORY.peak_bytes(counts.heads, counts.units)[0]) for counts in (none, all_of_it))
    limit = least + 0.7 * (most - least)
    found = find_seeds(space, COSTS, ranking(), 8, {"memory": limit})
    counts = space.counts(found.genomes)
    assert (counts.heads <= space.heads).all()
    assert (counts.units <= space.units).all()
    taken = MEMORY.peak_bytes(counts.heads, counts.units)
    assert (taken <= limit * MARGIN * (1 + 1e-6)).all()
    assert taken.max() > 0.9 * limit * MARGIN


def test_budgets_that_nothing_meets_are_left_out():
    found = seeds(8, memory=1.0)
    assert found.genomes.shape == (0, 2 * DIMS.layers)


def test_loss_models_are_shares_of_everything():
    for local in (0.0, 0.2, 1.0):
        losses = ranking().losses(local)
        assert sum(float(loss[0]) for loss in losses.values()) == pytest.approx(1)
        assert all(loss[-1] == pytest.approx(0) for loss in losses.values())


def test_ceilings_and_floor():
    limits = ceilings(Budgets(max_latency_s=3.0, min_speedup=2.0, max_memory_bytes=7.0, max_drop=0.1), 4.0)
    assert limits == {"latency": 2.0, "memory": 7.0}
    assert ceilings(Budgets(), 4.0) == {}
    check_floor(limits, {"latency": 1.9, "memory": 6.0})
    with pytest.raises(BudgetError, match="stem and head alone take"):
        check_floor(limits, {"latency": 2.1, "memory": 6.0})
    with pytest.raises(BudgetError, match="serves stem and head alone"):
        check_floor(limits, {"latency": 1.9, "memory": 8.0})


def overflowing(share):
    """The latency with weights of which a share stays in the cache, and twice the seconds for all others."""
    fits = int(DIMS.weights(DIMS.dense) * share)
    more = {CostKey("uncached", fits, ASKED): 2 * DENSE_S * share}
    return CostModel.of(replace(LATENCY.table, entries={**LATENCY.table.entries, **more}), ASKED)


def test_with_weights_beyond_the_cache_no_network_within_a_budget_loses_less():
    """Held against all there are, where the network found has more or fewer weights than fit by far."""
    space = make_space("medium", ARCHITECTURE, unit_step=16)
    groups, cost = Groups.of(space), overflowing(0.4)
    losses = groups.losses(ranking().losses(0.0))
    every = np.array(list(product(*(range(len(loss)) for loss in losses))))
    seconds, lost = (
        encoder_s(cost, groups, every),
        sum(loss[taken] for loss, taken in zip(losses, every.T, strict=True)),
    )
    counts = space.counts(every)
    assert seconds + cost.base_s == pytest.approx(cost.latency_s(counts))
    budgets = np.geomspace(np.quantile(seconds, 0.02), seconds.max(), 12)
    found = allocated(losses, cost, groups, budgets)
    taken_s = encoder_s(cost, groups, found)
    least = np.array([lost[seconds <= budget].min() for budget in budgets])
    reached = sum(loss[taken] for loss, taken in zip(losses, found.T, strict=True))
    within = taken_s <= budgets * (1 + 1e-6)
    assert within.sum() >= 10
    assert reached[within] == pytest.approx(least[within], abs=5e-3)
    assert np.isclose(reached[within], least[within], atol=1e-4).sum() >= 10


@pytest.mark.parametrize("memory", [False, True])
def test_with_weights_beyond_the_cache_seeds_keep_a_latency_too(memory):
    costs = replace(COSTS, latency=overflowing(0.3))
    most = float(costs.latency.latency_s(SPACE.counts(SPACE.largest[None]))[0])
    limit = costs.latency.base_s + 0.5 * (most - costs.latency.base_s)
    limits = {"latency": limit, **({"memory": 1e9} if memory else {})}
    found = find_seeds(SPACE, costs, ranking(), 8, limits)
    taken = costs.latency.latency_s(SPACE.counts(found.genomes))
    assert (taken <= limit * MARGIN * (1 + 1e-6)).all()
    assert taken.max() > 0.9 * limit * MARGIN
