"""Query heads that are cut apart, in models of few key-value heads: an order inside every group, and a choice of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from profilers import Heads, Stack, attention_sizes

IntArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryOrder:
    """Query heads inside the groups of every layer by importance, the most important first: int64 [groups, queries].

    `whole` are the heads of the model before anything was cut: sizes count in its `attention_sizes`.
    """

    whole: Heads
    slots: tuple[IntArray, ...]

    @classmethod
    def by_index(cls, shape: Stack, whole: Heads) -> "QueryOrder":
        """Index order in layers of these sizes."""
        kept = (attention_sizes(whole)[sizes.heads] for sizes in shape)
        return cls(whole=whole, slots=tuple(np.tile(np.arange(one.queries), (one.groups, 1)) for one in kept))

    def sizes(self, layer: int) -> IntArray:
        """The sizes that a layer may have, 0 and what fits into it: int64 [sizes]."""
        groups, queries = self.slots[layer].shape
        fits = [kept.groups <= groups and kept.queries <= queries for kept in attention_sizes(self.whole)]
        return np.flatnonzero(fits)

    def size(self, layer: int, groups: int) -> int:
        """The size of so many groups of a layer, with all query heads that they have there."""
        return attention_sizes(self.whole).index(Heads(groups, self.slots[layer].shape[1] if groups else 0))


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryHeads:
    """Kept query heads of every kept key-value head, layer by layer, ascending, equally many in the groups of a layer.

    `whole` are the heads of the model before anything was cut.
    """

    whole: Heads
    kept: tuple[tuple[tuple[int, ...], ...], ...]

    def __post_init__(self) -> None:
        for layer in self.kept:
            if len({len(slots) for slots in layer}) > 1 or () in layer:
                raise ValueError("groups of a layer must keep equally many query heads, one at least")
            if any(a >= b for slots in layer for a, b in pairwise(slots)):
                raise ValueError("kept indices must be ascending and distinct")

    def size(self, layer: int) -> int:
        """The size that a layer's attention has."""
        kept = self.kept[layer]
        return attention_sizes(self.whole).index(Heads(len(kept), len(kept[0]) if kept else 0))

    def to_json(self) -> dict[str, Any]:
        """Plain lists, for `subnet.json`."""
        return {**self.whole._asdict(), "kept": [[list(slots) for slots in layer] for layer in self.kept]}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "QueryHeads":
        """Inverse of `to_json`."""
        kept = tuple(tuple(tuple(slots) for slots in layer) for layer in data["kept"])
        return cls(whole=Heads(data["groups"], data["queries"]), kept=kept)

    def within(self, heads: Sequence[Sequence[int]], parent: "QueryHeads") -> "QueryHeads":
        """The same in the numbering of the network that `parent` was cut from; `heads` are the kept groups of every layer."""
        layers = zip(heads, self.kept, parent.kept, strict=True)
        kept = (
            tuple(tuple(there[group][slot] for slot in slots) for group, slots in zip(groups, own, strict=True))
            for groups, own, there in layers
        )
        return QueryHeads(whole=parent.whole, kept=tuple(kept))


def first_query_heads(shape: Stack, heads: Sequence[IntArray], order: QueryOrder) -> tuple[list[list[int]], QueryHeads]:
    """The most important groups of every layer, ascending, and the most important query heads of each."""
    sizes = [attention_sizes(order.whole)[layer.heads] for layer in shape]
    groups = [sorted(map(int, own[: kept.groups])) for own, kept in zip(heads, sizes, strict=True)]
    slots = (
        tuple(tuple(sorted(map(int, own[group][: kept.queries]))) for group in some)
        for own, some, kept in zip(order.slots, groups, sizes, strict=True)
    )
    return groups, QueryHeads(whole=order.whole, kept=tuple(slots))
