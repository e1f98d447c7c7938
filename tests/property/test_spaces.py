"""Spaces: genome, counts and sub-network say the same; samplers and mutation stay inside; small nets are seen."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler.costing import parameter_counts
from compiler.families import Architecture
from compiler.families.architecture import StemPart
from compiler.families.table import family_of
from compiler.spaces import (
    SPACES,
    Counts,
    Ordering,
    Shape,
    Space,
    Subnet,
    make_space,
    sample_stratified,
    sample_uniform,
)
from profilers import LayerSizes
from targets.errors import InputError
from tests.problem import bert_counts

quick = settings(deadline=None, max_examples=20, derandomize=True)


def architecture(layers: int, heads: int, units: int, head_size: int = 8) -> Architecture:
    return Architecture(
        family=family_of("bert"),
        prefix="bert.",
        layers=layers,
        heads=heads,
        head_size=head_size,
        hidden_size=heads * head_size,
        ffn_units=units,
        max_tokens=512,
        vocabulary=1000,
        stem_parameters=12_345,
        stem=(StemPart("bert.embeddings.word_embeddings.weight", 1, 0),),
        counts=bert_counts(head_size, layers),
    )


def widest(space: Space) -> Architecture:
    return architecture(space.layers, int(space.heads.max()), int(space.units.max()))


def shuffled(shape: Shape, seed: int) -> Ordering:
    rng = np.random.default_rng(seed)
    return Ordering(
        heads=tuple(rng.permutation(sizes.heads) for sizes in shape),
        units=tuple(rng.permutation(sizes.ffn_units) for sizes in shape),
    )


@st.composite
def cuts(draw, layers: int, heads: int, units: int) -> Shape | None:
    """What an earlier cut has left of every layer; None for a model that was never cut."""
    sizes = st.builds(LayerSizes, st.integers(0, heads), st.integers(0, units))
    return draw(st.none() | st.lists(sizes, min_size=layers, max_size=layers).map(tuple))


@st.composite
def spaces(draw, names=tuple(SPACES)) -> Space:
    layers, heads, units = draw(st.integers(1, 5)), draw(st.integers(1, 6)), draw(st.integers(1, 40))
    model = replace(architecture(layers, heads, units), cut=draw(cuts(layers, heads, units)))
    return make_space(
        draw(st.sampled_from(names)),
        model,
        ordering=shuffled(model.shape, draw(st.integers(0, 99))),
        unit_step=draw(st.sampled_from([1, 4, 7, 64])),
    )


@st.composite
def with_genomes(draw, names=tuple(SPACES)):
    space = draw(spaces(names))
    rng = np.random.default_rng(draw(st.integers(0, 9999)))
    corners = np.stack([space.largest, space.smallest, space.middle, space.lower])
    return space, np.concatenate([corners, sample_uniform(space, rng, 4)]), rng


def inside(space: Space, genomes) -> bool:
    return bool((genomes >= space.lower).all() and (genomes <= space.upper).all())


def params(space: Space):
    return lambda counts: parameter_counts(widest(space), counts)


@quick
@given(with_genomes())
def test_counts_shape_and_sub_network_agree(drawn):
    space, genomes, _ = drawn
    counts = space.counts(genomes)
    assert counts.heads.shape == counts.units.shape == (len(genomes), space.layers)
    for row, genome in enumerate(genomes):
        subnet = space.subnet(genome)
        width = None if counts.widths is None else counts.widths[row]
        assert (subnet.width or space.hidden_size) == (width or space.hidden_size)
        assert subnet.shape == counts.shape(row) == space.shape(genome)
        for heads, units, sizes in zip(subnet.heads, subnet.units, space.full, strict=True):
            assert set(heads) <= set(range(sizes.heads))
            assert set(units) <= set(range(sizes.ffn_units))


@quick
@given(with_genomes())
def test_a_sub_network_survives_json_and_knows_equal_ones(drawn):
    space, genomes, _ = drawn
    for genome in genomes:
        subnet = space.subnet(genome)
        back = Subnet.from_json(subnet.to_json())
        assert back == subnet
        assert back.digest == subnet.digest
    digests = {space.subnet(g).digest for g in genomes}
    assert len(digests) == len({(s.heads, s.units, s.residual) for s in map(space.subnet, genomes)})


@quick
@given(with_genomes())
def test_counts_can_be_stacked_and_taken_apart(drawn):
    space, genomes, _ = drawn
    counts = space.counts(genomes)
    again = Counts.of([counts.shape(row) for row in range(len(genomes))])
    assert np.array_equal(again.heads, counts.heads)
    assert np.array_equal(again.units, counts.units)


@quick
@given(spaces())
def test_largest_is_everything_and_the_starts_are_inside(space):
    assert space.shape(space.largest) == space.full
    assert space.subnet(space.largest).residual is None
    for genome in (space.largest, space.smallest, space.middle):
        assert genome.shape == space.lower.shape
        assert inside(space, genome)
    cost = params(space)(space.counts(np.stack([space.smallest, space.middle, space.largest])))
    assert cost[0] <= cost[2]
    assert cost[1] <= cost[2]


@quick
@given(with_genomes(), st.integers(1, 30))
def test_samplers_stay_inside_and_give_as_many_as_asked_for(drawn, n):
    space, _, rng = drawn
    for genomes in (sample_uniform(space, rng, n), sample_stratified(space, rng, n, params(space))):
        assert genomes.shape == (n, len(space.lower))
        assert genomes.dtype == np.int64
        assert inside(space, genomes)


@quick
@given(spaces(), st.integers(0, 99))
def test_samplers_are_given_by_the_seed(space, seed):
    for draw in (sample_uniform, lambda *args: sample_stratified(*args, params(space))):
        first, second = (draw(space, np.random.default_rng(seed), 6) for _ in range(2))
        assert np.array_equal(first, second)


@quick
@given(with_genomes())
def test_mutation_changes_exactly_one_variable_and_stays_inside(drawn):
    space, genomes, rng = drawn
    for genome in genomes:
        before = genome.copy()
        child = space.mutate(genome, rng)
        assert np.array_equal(genome, before)
        assert inside(space, child)
        assert (child != genome).sum() == (space.upper > space.lower).any()


def test_mutation_reaches_every_other_value_equally_often():
    space = make_space("small", architecture(2, 1, 4))
    genome, rng = np.array([1, 1, 2]), np.random.default_rng(0)
    children = [tuple(int(v) for v in space.mutate(genome, rng)) for _ in range(4000)]
    assert set(children) == {(0, 1, 2), (2, 1, 2), (1, 1, 1), (1, 1, 3), (1, 1, 4)}
    share = np.mean([child[0] != 1 for child in children])
    assert 0.45 < share < 0.55  # heads are fixed at 1, so layers and units take turns


@quick
@given(with_genomes(("small", "medium", "layer", "width")))
def test_first_k_keeps_the_most_important(drawn):
    space, genomes, _ = drawn
    for genome in genomes:
        subnet = space.subnet(genome)
        for layer in range(space.layers):
            for kept, order in (
                (subnet.heads[layer], space.ordering.heads[layer]),
                (subnet.units[layer], space.ordering.units[layer]),
            ):
                rank = {int(index): place for place, index in enumerate(order)}
                dropped = set(rank) - set(kept)
                assert max((rank[i] for i in kept), default=-1) < min((rank[i] for i in dropped), default=len(rank))


@quick
@given(with_genomes(("large",)))
def test_large_keeps_exactly_the_bits_set(drawn):
    space, genomes, _ = drawn
    for genome in genomes:
        subnet, bits = space.subnet(genome), []
        for layers, sizes in ((subnet.heads, space.heads), (subnet.units, space.units)):
            bits += [int(i in kept) for kept, size in zip(layers, sizes, strict=True) for i in range(size)]
        assert bits == genome.tolist()


@quick
@given(spaces())
def test_unit_steps_cover_zero_to_all(space):
    every = [space.units_of(np.full(space.layers, variable)) for variable in range(space.steps.max() + 1)]
    for layer, steps in enumerate(space.steps):
        counts = [int(row[layer]) for row in every[: steps + 1]]
        assert (counts[0], counts[-1]) == (0, space.full[layer].ffn_units)
        assert (np.diff(counts) > 0).all()
        assert all(count % space.unit_step == 0 for count in counts[:-1])


@quick
@given(with_genomes())
def test_parameters_of_many_equal_the_closed_form_of_each(drawn):
    space, genomes, _ = drawn
    sizes = widest(space)
    counts = space.counts(genomes)
    many = parameter_counts(sizes, counts)
    widths = [None] * len(genomes) if counts.widths is None else counts.widths
    assert many.tolist() == [sizes.parameters(counts.shape(row), width) for row, width in enumerate(widths)]


@pytest.mark.parametrize("name", SPACES)
def test_middle_is_about_half_of_the_encoder(name):
    space = make_space(name, MINILM)
    small, middle, large = params(space)(space.counts(np.stack([space.lower, space.middle, space.largest])))
    assert 0.2 < (middle - small) / (large - small) < 0.6


def test_genomes_by_hand():
    sizes = architecture(3, 4, 10)
    order = shuffled(sizes.shape, 0)
    small = make_space("small", sizes, ordering=order, unit_step=4)
    assert small.shape(np.array([2, 3, 2])) == ((3, 8), (3, 8), (0, 0))
    assert small.shape(np.array([1, 1, 3])) == ((1, 10), (0, 0), (0, 0))
    medium = make_space("medium", sizes, ordering=order)
    assert medium.shape(np.array([0, 4, 1, 10, 0, 3])) == ((0, 10), (4, 0), (1, 3))
    layer = make_space("layer", sizes, ordering=order)
    assert layer.shape(np.array([1, 0, 1])) == ((4, 10), (0, 0), (4, 10))
    sublayer = make_space("sublayer", sizes, ordering=order)
    assert sublayer.shape(np.array([1, 0, 1, 0, 0, 1])) == ((4, 0), (0, 0), (4, 10))
    large = make_space("large", sizes, ordering=order)
    assert len(large.lower) == 3 * (4 + 10)
    assert sum(sum(sizes) for sizes in large.shape(large.smallest)) == 2
    assert large.subnet(large.smallest).heads[0] == (int(order.heads[0][0]),)


def test_widths_by_hand():
    sizes = architecture(2, 4, 10, head_size=5)
    order = replace(shuffled(sizes.shape, 0), residual=np.arange(20)[::-1])
    space = make_space("width", sizes, ordering=order, unit_step=8)
    assert space.lower.tolist() == [0, 0, 0, 0, 2]
    assert space.upper.tolist() == [4, 4, 2, 2, 3]
    narrow, whole = (space.subnet(np.array([1, 0, 2, 1, width])) for width in (2, 3))
    assert narrow.shape == whole.shape == ((1, 10), (0, 8))
    assert narrow.residual == tuple(range(4, 20))
    assert narrow.counts.widths.tolist() == [16]
    assert (whole.residual, whole.counts.widths) == (None, None)
    assert space.counts(np.array([[1, 0, 2, 1, 2], [1, 0, 2, 1, 3]])).widths.tolist() == [16, 20]
    assert space.smallest.tolist() == [1, 1, 1, 1, 2]
    by_index = make_space("width", sizes, unit_step=8)
    assert by_index.subnet(by_index.smallest).residual == tuple(range(16))
    assert make_space("width", sizes, unit_step=64).subnet(np.array([1, 1, 1, 1, 1])).residual is None


def test_dimensions_that_are_cut_twice_are_counted_in_the_first_network():
    blocks = ([[0]], [[1]])
    narrow, whole = Subnet.of(*blocks, residual=[9, 1, 4]), Subnet.of(*blocks)
    assert Subnet.of([[0]], [[0]], residual=[0, 2]).within(narrow).residual == (1, 9)
    assert Subnet.of([[0]], [[0]]).within(narrow).residual == (1, 4, 9)
    assert Subnet.of([[0]], [[0]], residual=[0, 2]).within(replace(whole, units=((1,),))).residual == (0, 2)


def test_genomes_of_a_network_that_was_cut_before_by_hand():
    left = (LayerSizes(2, 10), LayerSizes(0, 6), LayerSizes(3, 0))
    sizes = replace(architecture(3, 4, 10), cut=left)
    order = shuffled(left, 0)
    small = make_space("small", sizes, ordering=order, unit_step=4)
    assert small.upper.tolist() == [3, 3, 3]
    assert small.shape(np.array([3, 3, 3])) == left
    assert small.shape(np.array([2, 3, 2])) == ((2, 8), (0, 6), (0, 0))
    medium = make_space("medium", sizes, ordering=order, unit_step=4)
    assert medium.upper.tolist() == [2, 0, 3, 3, 2, 0]
    assert medium.shape(medium.smallest) == ((1, 4), (0, 4), (1, 0))
    assert make_space("layer", sizes, ordering=order).shape(np.array([0, 1, 1])) == ((0, 0), (0, 6), (3, 0))
    large = make_space("large", sizes, ordering=order)
    assert len(large.lower) == 2 + 3 + 10 + 6
    bits = np.zeros(21, dtype=np.int64)
    bits[[1, 2, 4, 5, 14, 15, 20]] = (
        1  # head 1 of layer 0; heads 0, 2 of layer 2; units 0, 9 of layer 0; 0, 5 of layer 1
    )
    assert large.subnet(bits) == Subnet.of([[1], [], [0, 2]], [[0, 9], [0, 5], []])


def test_what_is_cut_twice_is_counted_in_the_first_network():
    first = Subnet.of([[1, 3, 5], [], [0, 2]], [[4, 6, 8, 9], [1], []])
    second = Subnet.of([[0, 2], [], [1]], [[1, 3], [], []])
    assert second.within(first) == Subnet.of([[1, 5], [], [2]], [[6, 9], [], []])


def quartile_shares(space: Space, genomes) -> np.ndarray:
    """Share of genomes in each quarter of the cost range from the smallest to the largest network."""
    cost = params(space)
    low, high = cost(space.counts(np.stack([space.lower, space.upper])))
    position = (cost(space.counts(genomes)) - low) / (high - low)
    return np.bincount(np.minimum((position * 4).astype(int), 3), minlength=4) / len(genomes)


MINILM = architecture(6, 12, 1536, 32)


@pytest.mark.parametrize("name", SPACES)
@pytest.mark.parametrize("seed", range(3))
def test_stratified_samples_fill_every_quarter_of_the_cost_range(name, seed):
    space = make_space(name, MINILM)
    n = {"layer": 64, "large": 80}.get(name, 200)  # LAYER has 64 genomes, those of LARGE are long
    genomes = sample_stratified(space, np.random.default_rng(seed), n, params(space))
    shares = quartile_shares(space, genomes)
    assert (shares >= 0.15).all(), shares
    assert (shares <= 0.35).all(), shares


def test_uniform_samples_of_large_hardly_ever_leave_the_middle():
    space = make_space("large", MINILM)
    shares = quartile_shares(space, sample_uniform(space, np.random.default_rng(0), 200))
    assert shares[0] == shares[3] == 0


def test_stratified_takes_no_genome_of_the_pool_twice():
    space = make_space("large", MINILM)
    genomes = sample_stratified(space, np.random.default_rng(0), 100, params(space))
    assert len(np.unique(genomes, axis=0)) == 100


def test_stratified_follows_the_cost_it_is_given():
    space = make_space("medium", MINILM)
    genomes = sample_stratified(space, np.random.default_rng(0), 200, lambda counts: counts.heads.sum(1).astype(float))
    heads = space.counts(genomes).heads.sum(1) / 72
    assert abs(np.quantile(heads, [0.25, 0.5, 0.75]) - [0.25, 0.5, 0.75]).max() < 0.05


def test_unknown_space_lists_the_names():
    with pytest.raises(InputError, match="known: small, medium, layer, sublayer, large"):
        make_space("huge", MINILM)


@pytest.mark.parametrize("kept", [[1, 1], [2, 1]])
def test_a_sub_network_of_indices_that_do_not_ascend_is_refused(kept):
    with pytest.raises(ValueError, match="ascending and distinct"):
        Subnet(heads=(tuple(kept),), units=((),))
    with pytest.raises(ValueError, match="1 layers of heads, 2 layers of FFN units"):
        Subnet.of([[0]], [[0], [1]])
    with pytest.raises(ValueError, match="needs a residual dimension"):
        Subnet.of([[0]], [[0]], residual=[])
