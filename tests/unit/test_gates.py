"""Gates against slices, finite differences and a network of which it is known what can go."""

from dataclasses import replace
from itertools import product
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from compiler.costing import CostModel
from compiler.export import load_sliced, save_checkpoint
from compiler.oneshot import Reconstructor, calibrate, gates, learn_sizes
from compiler.oneshot.gates import GatedNetwork, Price, gates_of, unpaid
from compiler.slicing import SubnetRunner, slice_parameters
from compiler.spaces import Counts, Ordering, Subnet, make_space
from compiler.tasks import encode
from profilers import CostKey, Dimensions, LayerSizes, Workload, roofline_table
from targets import Target, measure_fingerprint
from tests.cli import texts
from tests.tiny import HEADS, HIDDEN, LAYERS, UNITS, VOCABULARY, tiny_checkpoint

STEP = 8
DIMS = Dimensions(layers=LAYERS, heads=HEADS, ffn_units=UNITS, hidden_size=HIDDEN, head_size=8, vocabulary=VOCABULARY)
ASKED = Workload(tokens=32, runtime="null")
NULL = Target.parse("null")
TABLE = roofline_table(NULL, DIMS, ASKED, measure_fingerprint(NULL))
COST = CostModel.of(TABLE, ASKED)
UNCACHED = {CostKey("uncached", DIMS.weights(DIMS.dense) // 3, ASKED): 2 * COST.base_s}
SPILLING = CostModel.of(replace(TABLE, entries={**TABLE.entries, **UNCACHED}), ASKED)
"""Of which a third of the weights stays in the cache."""
SHUFFLED = Ordering(
    heads=tuple(np.random.default_rng(i).permutation(HEADS) for i in range(LAYERS)),
    units=tuple(np.random.default_rng(9 + i).permutation(UNITS) for i in range(LAYERS)),
)


@pytest.fixture(scope="module")
def embedder(tmp_path_factory):
    return tiny_checkpoint(tmp_path_factory.mktemp("embedder"))


def space_of(checkpoint):
    return make_space("medium", checkpoint.architecture, ordering=SHUFFLED, unit_step=STEP)


def plain(checkpoint):
    """Weights of sub-networks without any correction."""
    dense = {name: p.detach() for name, p in checkpoint.model.backbone.named_parameters()}
    return lambda subnet: slice_parameters(dense, checkpoint.architecture, subnet)


def gated(checkpoint, weights=None):
    space = space_of(checkpoint)
    return GatedNetwork(checkpoint, space, gates_of(space), weights or plain(checkpoint))


def inputs_of(checkpoint, count=6):
    (batch,) = encode(checkpoint, [(text,) for text in texts(count, seed=3)], max_tokens=32).batches
    return batch


def openings_of(network, genome):
    """Of a genome whose values are all knots."""
    return np.array([
        np.flatnonzero(gate.knots == genome[gate.variable])[0] / (len(gate.knots) - 1) for gate in network.gates
    ])  # fmt: skip


GENOMES = [[4, 4, 4, 6, 6, 6], [2, 1, 3, 4, 1, 5], [0, 2, 0, 3, 0, 6], [1, 0, 4, 0, 2, 0], [0] * 6]


@pytest.mark.parametrize(("model_type", "genome"), list(product(("bert", "distilbert"), GENOMES)))
def test_a_gated_network_is_the_one_its_gates_stand_for(model_type, genome, tmp_path):
    checkpoint = tiny_checkpoint(tmp_path, model_type)
    network, batch = gated(checkpoint), inputs_of(checkpoint)
    subnet = network.space.subnet(np.array(genome))
    expected = SubnetRunner(checkpoint.model, checkpoint.architecture)(subnet, batch)
    found = network(torch.tensor(openings_of(network, genome)), batch)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    again = checkpoint.model(**batch)
    whole = SubnetRunner(checkpoint.model, checkpoint.architecture)(network.space.subnet(network.space.largest), batch)
    assert torch.equal(again[-1], whole[-1]), "the model itself is left as it was"


def test_it_has_the_weights_that_a_network_is_judged_by(embedder):
    batches = encode(embedder, [(text,) for text in texts(40)], max_tokens=32)
    solver = Reconstructor(embedder, calibrate(embedder, batches))
    network, batch = gated(embedder, solver.parameters), inputs_of(embedder)
    genome = np.array([3, 0, 2, 5, 6, 1])
    subnet = network.space.subnet(genome)
    expected = SubnetRunner(embedder.model, embedder.architecture)(subnet, batch, solver.parameters(subnet))
    found = network(torch.tensor(openings_of(network, genome)), batch)
    torch.testing.assert_close(found[-1], expected[-1], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(found[-1], gated(embedder)(torch.tensor(openings_of(network, genome)), batch)[-1])


def test_forward_a_gate_is_rounded_to_what_the_space_has(embedder):
    network, batch = gated(embedder), inputs_of(embedder)
    at = openings_of(network, GENOMES[1])
    exact = network(torch.tensor(at), batch)[-1]
    for shift in (-0.03, 0.03):
        torch.testing.assert_close(network(torch.tensor(at + shift), batch)[-1], exact, rtol=1e-4, atol=1e-5)


def square(outputs):
    return outputs[-1].square().sum() + outputs[0][:, 0].sum()


def test_backward_it_is_the_line_between_neighbouring_sizes(embedder):
    network, batch = gated(embedder), inputs_of(embedder)
    at = np.ones(len(network.gates))
    row = 3  # the FFN of the first layer, between its fifth and sixth size, nearer to the sixth
    at[row] = 4.6 / (len(network.gates[row].knots) - 1)
    low, high = (network.projection(row, value)["weight"] for value in (4, 5))
    name = f"backbone.{embedder.architecture.branch(0, 'ffn').output.module}.weight"
    weight = high.clone().requires_grad_()
    outputs = torch.func.functional_call(embedder.model, {**network.base, name: weight}, kwargs=dict(batch))
    (slope,) = torch.autograd.grad(square(outputs), weight)
    expected = float((slope * (high - low)).sum()) * (len(network.gates[row].knots) - 1)
    leaf = torch.tensor(at, dtype=torch.float32, requires_grad=True)
    (found,) = torch.autograd.grad(square(network(leaf, batch)), leaf)
    assert float(found[row]) == pytest.approx(expected, rel=1e-3)


def test_what_is_shut_can_be_opened_again(embedder):
    """A dropped sub-block has the gradient of mixing its output in."""
    network, batch = gated(embedder), inputs_of(embedder)
    at, row = np.ones(len(network.gates)), 4
    last = len(network.gates[row].knots) - 1
    at[row] = 0.0
    leaf = torch.tensor(at, requires_grad=True)
    (found,) = torch.autograd.grad(square(network(leaf, batch)), leaf)

    def mixed(share):
        """The second layer's FFN with one step of units, as a mixture with what it reads."""
        genome = network.space.largest.copy()
        genome[4] = 1
        parameters = plain(embedder)(network.space.subnet(genome))
        ffn = embedder.architecture.branch(1, "ffn")
        read = []
        backbone = embedder.model.backbone
        before = backbone.get_submodule(ffn.entry).register_forward_pre_hook(lambda _, args: read.append(args[0]))
        after = backbone.get_submodule(ffn.after).register_forward_hook(
            lambda _, __, output: read[-1] + share * (output - read[-1])
        )
        padded = dict(network.base)
        for part in ("weight", "bias"):
            padded[f"backbone.{ffn.output.module}.{part}"] = parameters[f"{ffn.output.module}.{part}"]
            padded[f"backbone.{ffn.entry}.{part}"] = parameters[f"{ffn.entry}.{part}"]
        with torch.no_grad():
            value = square(torch.func.functional_call(embedder.model, padded, kwargs=dict(batch)))
        before.remove()
        after.remove()
        return float(value)

    expected = (mixed(0.01) - mixed(-0.01)) / 0.02 * last
    assert expected != pytest.approx(0, abs=1e-3)
    assert float(found[row]) == pytest.approx(expected, rel=0.02)


# the price


@pytest.fixture(params=[COST, SPILLING], ids=["cached", "spilling"])
def cost(request):
    return request.param


@pytest.fixture
def price(embedder, cost):
    return Price(gates_of(space_of(embedder)), cost)


def test_a_price_is_what_the_table_says_at_the_knots(embedder, price, cost):
    network = gated(embedder)
    for genome in GENOMES[:-1]:
        counts = network.space.counts(np.array([genome]))
        expected = float(cost.latency_s(counts)[0]) - cost.base_s - cost.mask_s
        assert price.seconds(openings_of(network, genome)) == pytest.approx(expected)


def test_slopes_are_finite_differences(price):
    at = np.random.default_rng(1).uniform(0.1, 0.9, len(price.gates))
    for row, slope in enumerate(price.slopes(at)):
        up, down = (at + d * np.eye(len(at))[row] for d in (1e-5, -1e-5))
        assert slope == pytest.approx((price.seconds(up) - price.seconds(down)) / 2e-5, rel=1e-4)


@pytest.mark.parametrize("share", [0.05, 0.4, 0.9])
def test_gates_are_moved_until_they_take_the_budget_and_no_less(price, share):
    budget = share * price.seconds(np.ones(len(price.gates)))
    for start in (0.0, 0.3, 1.0):
        found = price.fit(np.full(len(price.gates), start), budget)
        assert price.seconds(found) == pytest.approx(budget, rel=1e-6)
        assert ((found >= 0) & (found <= 1)).all()


def test_nothing_is_unpaid_where_every_second_saves_the_same_loss():
    slopes = np.array([1.0, 2.0, 5.0])
    at = np.full(3, 0.5)
    assert unpaid(at, -3.0 * slopes, slopes) == pytest.approx(np.zeros(3))
    left = unpaid(at, np.array([-4.0, -6.0, -15.0]), slopes)
    assert left[0] < 0, "the first is worth more than the price: a step against the gradient opens it"
    assert left @ slopes == pytest.approx(0), "what is exchanged costs no second"


def test_a_gate_that_is_wide_open_and_worth_it_has_no_say_in_the_price():
    slopes = np.ones(3)
    left = unpaid(np.array([1.0, 0.5, 0.5]), np.array([-100.0, -2.0, -4.0]), slopes)
    assert left == pytest.approx([0.0, 1.0, -1.0])


# what they learn


def lessons(checkpoint, count=40):
    found = []
    for i in range(count):
        (batch,) = encode(checkpoint, [(text,) for text in texts(8, seed=i)], max_tokens=32).batches
        with torch.no_grad():
            dense = checkpoint.model(**batch)[-1]
        found.append((batch, lambda outputs, dense=dense: (outputs[-1] - dense).square().mean()))
    return found


def budgets_of(count=6):
    full = float(COST.latency_s(Counts.of([DIMS.dense]))[0]) - COST.base_s
    return np.linspace(0.3, 0.9, count) * full


def learned(checkpoint, budgets, **options):
    return learn_sizes(
        checkpoint, space_of(checkpoint), plain(checkpoint), COST, budgets, lessons(checkpoint), **options
    )


def test_learned_sizes_lie_in_the_space_and_within_their_budgets(embedder):
    budgets, told = budgets_of(), []
    genomes = learned(embedder, budgets, progress=told.append)
    space = space_of(embedder)
    taken = COST.latency_s(space.counts(genomes)) - COST.base_s
    assert genomes.dtype == np.int64
    assert ((genomes >= space.lower) & (genomes <= space.upper)).all()
    assert (taken <= budgets * (1 + 1e-9)).all()
    assert (taken > 0.75 * budgets).all(), "what is allowed is used"
    assert told == pytest.approx(np.arange(1, 41) / 40)


def test_they_are_the_same_again_whatever_the_global_states_are(embedder):
    torch.manual_seed(5)
    first = learned(embedder, budgets_of(3))
    torch.manual_seed(6)
    assert np.array_equal(first, learned(embedder, budgets_of(3)))


def test_no_budget_no_sizes(embedder):
    assert learned(embedder, np.empty(0)).shape == (0, 2 * LAYERS)


def test_what_does_nothing_goes_first(tmp_path):
    """The FFN of the second layer writes nothing, and its norm does nothing to what the norm before it gave."""
    checkpoint = tiny_checkpoint(tmp_path)
    attention, ffn = checkpoint.architecture.branches(1)
    with torch.no_grad():
        for module in (attention.after, ffn.after):
            checkpoint.model.backbone.get_parameter(f"{module}.weight").fill_(1)
            checkpoint.model.backbone.get_parameter(f"{module}.bias").zero_()
        for part in ("weight", "bias"):
            checkpoint.model.backbone.get_parameter(f"{ffn.output.module}.{part}").zero_()
    genome = learned(checkpoint, budgets_of(6))[3]
    idle, others = genome[LAYERS + 1], np.delete(genome[LAYERS:], 1)
    assert idle <= 2 < others.min()


def test_a_network_that_was_cut_before_has_gates_on_what_is_left():
    left = (LayerSizes(2, 40), LayerSizes(0, 44), LayerSizes(4, 0))
    found = gates_of(make_space("medium", SimpleNamespace(shape=left, hidden_size=16, apart=None), unit_step=STEP))
    assert [(gate.layer, gate.piece, int(gate.sizes[-1])) for gate in found] == [
        (0, "attention", 2), (2, "attention", 4), (0, "ffn", 40), (1, "ffn", 44)
    ]  # fmt: skip
    assert all(gate.knots[:2].tolist() == [0, 1] and gate.knots[-1] == len(gate.sizes) - 1 for gate in found)


def test_of_such_a_network_too_it_is_the_slice_that_its_gates_stand_for(embedder, tmp_path):
    kept = Subnet.of([[1, 3], [], [0, 1, 2]], [range(0, 48, 2), range(5, 40), []])
    save_checkpoint(tmp_path, embedder, kept, SubnetRunner(embedder.model, embedder.architecture).parameters(kept))
    parent = load_sliced(tmp_path)
    space, batch = make_space("medium", parent.architecture, unit_step=STEP), inputs_of(parent)
    network = GatedNetwork(parent, space, gates_of(space), plain(parent))
    for genome in ([2, 0, 3, 3, 5, 0], [1, 0, 2, 2, 0, 0]):
        expected = SubnetRunner(parent.model, parent.architecture)(space.subnet(np.array(genome)), batch)
        found = network(torch.tensor(openings_of(network, genome)), batch)
        torch.testing.assert_close(found[-1], expected[-1], rtol=1e-4, atol=1e-5)


def test_large_sub_blocks_have_a_dozen_knots():
    space = make_space(
        "medium", SimpleNamespace(shape=(LayerSizes(16, 4096),), hidden_size=16, apart=None), unit_step=STEP
    )
    assert [len(gate.knots) for gate in gates_of(space)] == [gates.KNOTS + 1] * 2
