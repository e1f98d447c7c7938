"""Which sub-blocks stay in fp32: the rule on made-up losses, and what such networks cost."""

from itertools import product

import numpy as np
import pytest

from compiler.costing import BatchModel, CostModel, Costs
from compiler.families import Architecture
from compiler.families.table import family_of
from compiler.pipeline.exceptions import SUFFERS, choose_exceptions, unexplained
from compiler.spaces import Counts, Form, SubBlock
from profilers import CostTable, Dimensions, LayerSizes, Workload, roofline_table
from profilers.memory_model import NetworkBytes, modelled_memory
from targets import Target, measure_fingerprint
from tests.problem import bert_counts

LAYERS = 6
BLOCKS = [SubBlock(layer, piece) for layer, piece in product(range(LAYERS), ("attention", "ffn"))]
BAD, WORSE = SubBlock(3, "ffn"), SubBlock(1, "attention")


def additive(parts, even=0.001):
    """A loss to which every sub-block that is not an exception adds its part."""
    return lambda exceptions: sum(parts.get(block, even) for block in BLOCKS if block not in exceptions)


@pytest.mark.parametrize(
    ("parts", "chosen"),
    [
        ({}, ()),
        (dict.fromkeys(BLOCKS, 0.1), ()),
        ({BAD: 0.5}, (BAD,)),
        ({BAD: 0.5, WORSE: 0.9}, (WORSE, BAD)),
        ({BAD: SUFFERS - 0.012}, ()),
        (dict.fromkeys(BLOCKS[:3], 0.5), tuple(BLOCKS[:3])),
        ({block: 0.5**i for i, block in enumerate(BLOCKS[:4])}, tuple(BLOCKS[:3])),
        (dict.fromkeys(BLOCKS[:5], 0.5), ()),
    ],
    ids=["none", "all alike", "one", "two", "too little", "three", "a quarter at most", "too many to be outliers"],
)
def test_outliers_are_chosen_and_no_others(parts, chosen):
    assert choose_exceptions(additive(parts), BLOCKS) == tuple(sorted(chosen))


def test_a_sub_block_that_helps_only_alone_is_not_chosen_as_well():
    """Two stand in each other's way: with either in fp32 the loss is gone."""

    def loss(exceptions):
        return 0.3 if {BAD, WORSE}.isdisjoint(exceptions) else 0.1

    assert choose_exceptions(loss, BLOCKS) in {(BAD,), (WORSE,)}


def test_nothing_is_tried_where_nothing_suffers():
    tried = []
    assert choose_exceptions(lambda exceptions: tried.append(exceptions) or 0.0, BLOCKS) == ()
    assert tried == [()]


def test_unexplained_is_the_share_of_the_variance():
    exact = np.array([[4, 1], [6, 1], [4, 3], [6, 3]], dtype=np.float32)
    assert unexplained(exact, exact + np.float32(0.3)) == pytest.approx(0.09, rel=1e-5)
    assert unexplained(exact, np.broadcast_to(exact.mean(axis=0), exact.shape)) == pytest.approx(1.0)
    assert unexplained(exact, exact) == 0


def test_a_form_forgets_exceptions_that_were_dropped():
    shape = [LayerSizes(2, 8)] * LAYERS
    shape[BAD.layer] = LayerSizes(2, 0)
    assert Form("int8", (WORSE, BAD)).of(tuple(shape)) == Form("int8", (WORSE,))
    assert str(Form("int8", (BAD,))) == "int8 but layer 3 ffn"
    assert str(Form("int8")) == "int8"


# --- costs

ARCHITECTURE = Architecture(
    family=family_of("bert"), prefix="", layers=LAYERS, heads=4, head_size=8, hidden_size=32, ffn_units=48, max_tokens=64,
    vocabulary=200, stem_parameters=9000, counts=bert_counts(8, LAYERS),
)  # fmt: skip
SIZES = Dimensions(layers=LAYERS, heads=4, ffn_units=48, hidden_size=32, head_size=8, vocabulary=200)
RNG = np.random.default_rng(0)
COUNTS = Counts(RNG.integers(0, 5, (50, LAYERS)), RNG.integers(0, 49, (50, LAYERS)))


@pytest.fixture(scope="module")
def costs() -> dict[str, Costs]:
    target, nowhere = Target.parse("null"), measure_fingerprint(Target.parse("null"))
    asked = [Workload(batch=b, tokens=32, precision=p, runtime="null") for p in ("fp32", "int8") for b in (1, 4)]
    table = CostTable.merge([roofline_table(target, SIZES, workload, nowhere) for workload in asked])
    found = {}
    for precision in ("fp32", "int8"):
        mine = {w.batch: CostModel.of(table, w) for w in asked if w.precision == precision}
        network = NetworkBytes(dimensions=SIZES, stem_parameters=9000, workload=asked[0 if precision == "fp32" else 2])
        found[precision] = Costs(
            architecture=ARCHITECTURE, latency=mine[1], memory=modelled_memory(target, network, nowhere),
            throughput=BatchModel(batches=mine),
        )  # fmt: skip
    return found


def of_one_block(cost, counts, block):
    """Seconds of one sub-block: what the network takes less what it takes without."""
    heads, units = counts.heads.copy(), counts.units.copy()
    (heads if block.piece == "attention" else units)[:, block.layer] = 0
    heads[:, 0], units[:, 0] = np.maximum(heads[:, 0], 4), np.maximum(units[:, 0], 48)  # mask and widest stay
    beside = counts.heads.copy(), counts.units.copy()
    beside[0][:, 0], beside[1][:, 0] = heads[:, 0], units[:, 0]
    return cost.latency_s(Counts(*beside)) - cost.latency_s(Counts(heads, units))


def test_an_exception_takes_the_time_that_it_takes_in_fp32(costs):
    exact, coarse = costs["fp32"], costs["int8"]
    mixed = coarse.with_exceptions(exact, (WORSE, BAD)).of(COUNTS)["latency"]
    wanted = coarse.of(COUNTS)["latency"]
    for block in (WORSE, BAD):
        wanted = wanted + of_one_block(exact.latency, COUNTS, block) - of_one_block(coarse.latency, COUNTS, block)
    np.testing.assert_allclose(mixed, wanted, rtol=1e-9)
    assert (mixed > coarse.of(COUNTS)["latency"]).any()


def test_its_weights_take_four_bytes(costs):
    coarse = costs["int8"]
    more = coarse.with_exceptions(costs["fp32"], (BAD,)).of(COUNTS)["memory"] - coarse.of(COUNTS)["memory"]
    units = COUNTS.units[:, BAD.layer]
    parameters = np.where(units, (32 + 1) * units + (units + 1) * 32 + 64, 0)
    np.testing.assert_allclose(more, 3 * parameters)


def test_throughput_and_the_estimate_know_of_it(costs):
    coarse = costs["int8"]
    mixed = coarse.with_exceptions(costs["fp32"], BLOCKS)
    shape = COUNTS.shape(0)
    assert mixed.estimate(shape).value == pytest.approx(mixed.of(Counts.of([shape]))["latency"][0])
    assert mixed.estimate(shape).source == coarse.estimate(shape).source
    full = Counts.of([(LayerSizes(4, 48),) * LAYERS])
    assert mixed.of(full)["throughput"] > coarse.of(full)["throughput"]
