"""A sub-network: which heads and FFN units every layer keeps, and which dimensions of the residual stream."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from compiler.families import Kept
from compiler.spaces.query_heads import QueryHeads, QueryOrder, first_query_heads
from profilers import Heads, LayerSizes

IntArray = NDArray[np.int64]

Shape = tuple[LayerSizes, ...]
"""Sizes only, one (heads, ffn_units) a layer: what costs need. 0 means the sub-block is gone."""


class Counts(NamedTuple):
    """Shapes of N sub-networks at once: `heads` and `units` are int64 [N, layers].

    `widths` are their residual dimensions [N]; None where all have the dense model's.
    """

    heads: IntArray
    units: IntArray
    widths: IntArray | None = None

    def rows(self, chosen: IntArray | NDArray[np.bool_]) -> "Counts":
        """Those of some of them."""
        widths = None if self.widths is None else self.widths[chosen]
        return Counts(self.heads[chosen], self.units[chosen], widths)

    def shape(self, row: int) -> Shape:
        """The shape of one of them."""
        return tuple(LayerSizes(int(h), int(u)) for h, u in zip(self.heads[row], self.units[row], strict=True))

    @classmethod
    def of(cls, shapes: Sequence[Shape]) -> "Counts":
        """Stack shapes of equally many layers."""
        array = np.asarray(shapes, dtype=np.int64)
        return cls(array[:, :, 0], array[:, :, 1])


@dataclass(frozen=True, slots=True, kw_only=True)
class Ordering:
    """Heads and FFN units of every layer by importance, the most important first: int64 [heads], [ffn_units].

    `residual` is the same of the residual dimensions [hidden]; None is index order. `queries` is there where query heads are cut
    apart, and then orders those of every group.
    """

    heads: tuple[IntArray, ...]
    units: tuple[IntArray, ...]
    residual: IntArray | None = None
    queries: QueryOrder | None = None

    @classmethod
    def by_index(cls, shape: Shape, apart: Heads | None = None) -> "Ordering":
        """Index order of layers of these sizes: what the published code of the paper uses.

        `apart` is that of the architecture (`Architecture.apart`).
        """
        queries = None if apart is None else QueryOrder.by_index(shape, apart)
        heads = [sizes.heads for sizes in shape] if queries is None else [len(slots) for slots in queries.slots]
        return cls(
            heads=tuple(np.arange(count) for count in heads),
            units=tuple(np.arange(sizes.ffn_units) for sizes in shape),
            queries=queries,
        )

    @property
    def parts(self) -> list[IntArray]:
        """All its orders: of heads, of FFN units, of query heads where those are cut apart, of residual dimensions."""
        queries = () if self.queries is None else (slots.flatten() for slots in self.queries.slots)
        return [*self.heads, *self.units, *queries, *(() if self.residual is None else (self.residual,))]


@dataclass(frozen=True, kw_only=True)
class Subnet:
    """Kept head indices and FFN unit indices per layer, ascending; empty means that sub-block is gone.

    Heads are key-value heads. Where their query heads are cut apart (`Architecture.apart`), `queries` says which of them stay,
    else all do. They count in the network that is cut. Where that was cut from another one, `within` counts in the other.
    `residual` are the kept dimensions of the residual stream, one choice for the whole network; None keeps all of them.
    """

    heads: tuple[tuple[int, ...], ...]
    units: tuple[tuple[int, ...], ...]
    residual: tuple[int, ...] | None = None
    queries: QueryHeads | None = None

    def __post_init__(self) -> None:
        if len(self.heads) != len(self.units):
            raise ValueError(f"{len(self.heads)} layers of heads, {len(self.units)} layers of FFN units")
        if self.queries is not None and [*map(len, self.queries.kept)] != [*map(len, self.heads)]:
            raise ValueError("query heads must be named for every kept head, and for no other")
        if self.residual == ():
            raise ValueError("a network needs a residual dimension")
        for kept in (*self.heads, *self.units, self.residual or ()):
            if any(a >= b for a, b in pairwise(kept)):
                raise ValueError("kept indices must be ascending and distinct")

    @classmethod
    def of(
        cls,
        heads: Iterable[Iterable[int]],
        units: Iterable[Iterable[int]],
        residual: Iterable[int] | None = None,
        queries: QueryHeads | None = None,
    ) -> "Subnet":
        """Build from indices in any order; `queries` are those of the heads as they ascend."""
        return cls(
            heads=tuple(tuple(sorted(int(i) for i in layer)) for layer in heads),
            units=tuple(tuple(sorted(int(i) for i in layer)) for layer in units),
            residual=None if residual is None else tuple(sorted(int(i) for i in residual)),
            queries=queries,
        )

    @classmethod
    def first(cls, shape: Shape, ordering: Ordering, width: int | None = None) -> "Subnet":
        """The sub-network of this shape that keeps the most important heads and units of every layer.

        `width` is how many residual dimensions it keeps, the most important as well; all where it is left out.
        """
        residual: Iterable[int] | None = None
        if width is not None:
            residual = range(width) if ordering.residual is None else ordering.residual[:width]
        units = (order[: sizes.ffn_units] for order, sizes in zip(ordering.units, shape, strict=True))
        if ordering.queries is not None:
            groups, queries = first_query_heads(shape, ordering.heads, ordering.queries)
            return cls.of(groups, units, residual, queries)
        heads = (order[: sizes.heads] for order, sizes in zip(ordering.heads, shape, strict=True))
        return cls.of(heads, units, residual)

    def kept(self, layer: int) -> tuple[Kept, Kept]:
        """What a layer keeps of its attention, and of its FFN."""
        slots = None if self.queries is None else self.queries.kept[layer]
        return Kept(self.heads[layer], slots), Kept(self.units[layer])

    def with_all_queries(self, whole: Heads) -> "Subnet":
        """The same with every query head of its groups named, where none is: what older files leave out."""
        if self.queries is not None:
            return self
        every = tuple(range(whole.queries))
        queries = QueryHeads(whole=whole, kept=tuple((every,) * len(layer) for layer in self.heads))
        return replace(self, queries=queries)

    def within(self, parent: "Subnet") -> "Subnet":
        """The same heads, units and dimensions in the numbering of the network that `parent` was cut from."""
        residual = self.residual
        if parent.residual is not None:
            residual = parent.residual if residual is None else tuple(parent.residual[i] for i in residual)
        queries = self.queries
        if queries is not None and parent.queries is not None:
            queries = queries.within(self.heads, parent.queries)
        return Subnet.of(
            ((kept[i] for i in own) for own, kept in zip(self.heads, parent.heads, strict=True)),
            ((kept[i] for i in own) for own, kept in zip(self.units, parent.units, strict=True)),
            residual,
            queries,
        )

    @cached_property
    def shape(self) -> Shape:
        """Sizes per layer."""
        heads = map(len, self.heads) if self.queries is None else map(self.queries.size, range(len(self.heads)))
        return tuple(LayerSizes(h, len(u)) for h, u in zip(heads, self.units, strict=True))

    @property
    def width(self) -> int | None:
        """How many residual dimensions it keeps; None for all."""
        return None if self.residual is None else len(self.residual)

    @property
    def counts(self) -> Counts:
        """Its sizes as those of one network."""
        return Counts.of([self.shape])._replace(widths=None if self.width is None else np.array([self.width]))

    @cached_property
    def digest(self) -> str:
        """A short hash of the kept indices: equal exactly for equal sub-networks."""
        kept: tuple[Any, ...] = (self.heads, self.units)
        kept += () if self.residual is None else (self.residual,)
        kept += () if self.queries is None else (self.queries.kept,)
        return hashlib.sha256(repr(kept).encode()).hexdigest()[:16]

    def to_json(self) -> dict[str, Any]:
        """Plain lists, for `subnet.json`; residual dimensions where not all are kept, query heads where they are cut apart."""
        residual = {} if self.residual is None else {"residual": list(self.residual)}
        queries = {} if self.queries is None else {"query_heads": self.queries.to_json()}
        return {
            "heads": [list(layer) for layer in self.heads],
            "ffn_units": [list(layer) for layer in self.units],
            **residual,
            **queries,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Subnet":
        """Inverse of `to_json`."""
        queries = QueryHeads.from_json(data["query_heads"]) if "query_heads" in data else None
        return cls.of(data["heads"], data["ffn_units"], data.get("residual"), queries)
