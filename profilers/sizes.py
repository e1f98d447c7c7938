"""The sizes a cost depends on: a network is a stack of layers, each with its heads and FFN units."""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

FEW_GROUPS = 4
"""Key-value heads, at most, of a model whose query heads are cut apart: whole groups alone are coarse there."""


class LayerSizes(NamedTuple):
    """Kept heads and FFN units of one encoder layer; 0 means that sub-block is gone.

    Heads are places in the model's `attention_sizes`: key-value heads, each with all its query heads, unless there are few.
    """

    heads: int
    ffn_units: int


Stack = tuple[LayerSizes, ...]
"""A whole network as the profiler sees it: sizes only, never which heads or units."""


class Heads(NamedTuple):
    """Key-value heads of an attention, and how many query heads read each of them."""

    groups: int
    queries: int

    @property
    def query_heads(self) -> int:
        """Query heads of all groups."""
        return self.groups * self.queries

    @property
    def weights(self) -> int:
        """How many heads' rows its matrices have: queries and output one a query head, keys and values one a group."""
        return 2 * (self.query_heads + self.groups)


def are_split(heads: Heads) -> bool:
    """Whether query heads of a model with these heads are cut apart: it has few groups, of several each."""
    return heads.queries > 1 and heads.groups <= FEW_GROUPS


@lru_cache
def attention_sizes(heads: Heads) -> tuple[Heads, ...]:
    """What an attention may keep of these heads, by size: 0 nothing, the last one everything.

    Whole groups; where a model has few of them, fewer query heads as well, equally many in every group that stays. Sizes rise
    with the weights, and of as many weights with the query heads.
    """
    queries = range(1, heads.queries + 1) if are_split(heads) else (heads.queries,)
    found = [Heads(groups, each) for groups in range(1, heads.groups + 1) for each in queries]
    return Heads(0, 0), *sorted(found, key=lambda size: (size.weights, size.query_heads))


def random_stack(rng: np.random.Generator, heads: Sequence[int], units: Sequence[int], layers: int) -> Stack:
    """Sub-blocks kept with one probability, sizes up to one limit: anything between one block and all of them."""
    keep, limit = rng.random(2)

    def draw(sizes: Sequence[int]) -> int:
        return int(rng.choice(sizes[: int(limit * len(sizes)) + 1])) if rng.random() < keep else 0

    return tuple(LayerSizes(draw(heads), draw(units)) for _ in range(layers))
