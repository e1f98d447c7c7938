"""The sizes that an attention may have: whole groups, and query heads inside them where a model has few."""

import numpy as np
import pytest

from compiler.export.subnet_form import check_subnet, schema_of
from compiler.spaces import Ordering, QueryHeads, Subnet
from profilers import Dimensions, Heads, LayerSizes, attention_sizes
from profilers.placing import head_sizes
from targets.errors import InputError

SMOLLM2, GEMMA = Heads(3, 3), Heads(1, 3)
PAIRS = [Heads(groups, queries) for groups in range(1, 7) for queries in range(1, 10)]


@pytest.mark.parametrize("heads", PAIRS, ids=str)
def test_sizes_rise_with_the_weights_from_nothing_to_everything(heads):
    sizes = attention_sizes(heads)
    assert (sizes[0], sizes[-1]) == (Heads(0, 0), heads)
    assert len(set(sizes)) == len(sizes)
    weights = [(size.weights, size.query_heads) for size in sizes]
    assert weights == sorted(weights)


def test_whole_groups_are_counted_where_there_are_many_or_each_has_one_query_head():
    assert attention_sizes(Heads(12, 1)) == tuple(Heads(n, min(n, 1)) for n in range(13))
    assert attention_sizes(Heads(8, 2)) == (Heads(0, 0), *(Heads(n, 2) for n in range(1, 9)))


def test_query_heads_are_cut_apart_where_groups_are_few():
    assert attention_sizes(GEMMA) == ((0, 0), (1, 1), (1, 2), (1, 3))
    assert attention_sizes(SMOLLM2) == (
        (0, 0), (1, 1), (1, 2), (2, 1), (1, 3), (3, 1), (2, 2), (2, 3), (3, 2), (3, 3),
    )  # fmt: skip


def test_the_profile_measures_every_one_of_them():
    dims = Dimensions(layers=2, heads=3, queries=3, ffn_units=64, hidden_size=36, head_size=4, vocabulary=50)
    assert head_sizes(dims) == list(range(1, 10))
    assert dims.attention_weights.tolist() == [36 * 4 * size.weights for size in attention_sizes(SMOLLM2)]
    assert dims.weights(dims.dense) == 2 * (36 * 4 * (9 + 3 + 3 + 9) + 2 * 36 * 64)


def subnet() -> Subnet:
    kept = (((0, 2), (1, 2)), (), ((1,), (0,), (2,)))
    return Subnet.of([[0, 2], [], [0, 1, 2]], [[1], [2], []], queries=QueryHeads(whole=SMOLLM2, kept=kept))


def form(**changes):
    content = {"task": "embedding", "base": "m", **subnet().to_json()}
    return {"schema": schema_of(content), **content, **changes}


def test_a_network_says_its_sizes_and_is_written_and_read():
    found = subnet()
    sizes = attention_sizes(SMOLLM2)
    assert [sizes[layer.heads] for layer in found.shape] == [(2, 2), (0, 0), (3, 1)]
    assert form()["schema"] == 2
    assert Subnet.from_json(check_subnet(form(), name="x")) == found
    other = QueryHeads(whole=SMOLLM2, kept=(((0, 1), (1, 2)), (), ((1,), (0,), (2,))))
    assert Subnet.of(found.heads, found.units, queries=other).digest != found.digest


def test_a_file_without_them_has_all_of_its_heads():
    content = {"task": "embedding", "base": "m", "heads": [[0, 2], []], "ffn_units": [[1], [2]]}
    assert schema_of(content) == 1
    found = Subnet.from_json(check_subnet({"schema": 1, **content}, name="x")).with_all_queries(SMOLLM2)
    assert found.queries == QueryHeads(whole=SMOLLM2, kept=(((0, 1, 2), (0, 1, 2)), ()))
    assert found.shape[0].heads == attention_sizes(SMOLLM2).index(Heads(2, 3))


BAD = {
    "of one query head": ({"groups": 3, "queries": 1, "kept": [[[0], [0]], [], [[0]] * 3]}, "not cut apart"),
    "of many groups": ({"groups": 9, "queries": 3, "kept": [[[0], [0]], [], [[0]] * 3]}, "not cut apart"),
    "of other heads": ({"groups": 3, "queries": 3, "kept": [[[0]], [], [[0]] * 3]}, "not those of the heads"),
    "unequal": ({"groups": 3, "queries": 3, "kept": [[[0, 1], [0]], [], [[0]] * 3]}, "equally many"),
    "none": ({"groups": 3, "queries": 3, "kept": [[[], []], [], [[0]] * 3]}, "one at least"),
    "beyond": ({"groups": 3, "queries": 3, "kept": [[[0], [3]], [], [[0]] * 3]}, "a head has 3"),
    "twice": ({"groups": 3, "queries": 3, "kept": [[[0, 0], [0, 1]], [], [[0]] * 3]}, "ascend"),
    "no lists": ({"groups": 3, "queries": 3, "kept": 7}, "valid list"),
}


@pytest.mark.parametrize("kind", BAD)
def test_damage_is_named(kind):
    found, message = BAD[kind]
    with pytest.raises(InputError, match=message):
        check_subnet(form(query_heads=found), name="x")


def test_query_heads_are_of_an_older_form_never():
    with pytest.raises(InputError, match="schema 1 knows no query_heads"):
        check_subnet(form(schema=1), name="x")


def test_index_order_keeps_the_first_of_every_group():
    size = attention_sizes(SMOLLM2).index(Heads(2, 2))
    order = Ordering.by_index((LayerSizes(9, 4),), SMOLLM2)
    found = Subnet.first((LayerSizes(size, 1),), order)
    assert (found.heads, found.queries.kept) == (((0, 1),), (((0, 1), (0, 1)),))
    assert [part.tolist() for part in order.parts] == [[0, 1, 2], [0, 1, 2, 3], [0, 1, 2] * 3]
    assert np.array_equal(order.queries.sizes(0), range(10))
