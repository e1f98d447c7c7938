"""LARGE: a bit for every head and every FFN unit."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from compiler.spaces.query_heads import QueryHeads
from compiler.spaces.space import Space
from compiler.spaces.subnet import Counts, IntArray, Subnet


def _rank_weights(order: IntArray) -> NDArray[np.float64]:
    """Weights [n] that fall linearly from the most important to the least and sum to 1."""
    falling = len(order) - np.argsort(order)
    return np.asarray(falling / falling.sum())


class Large(Space):
    """One bit per head, then one bit per unit: L(H + U) bits, layer after layer within each part.

    A head is one of keys and values with all query heads that read it.
    """

    @property
    def whole_heads(self) -> IntArray:
        """Bits of heads: int64 [layers]."""
        return np.array([len(order) for order in self.ordering.heads])

    def _bounds(self) -> tuple[list[int], list[int]]:
        variables = int(self.whole_heads.sum() + self.units.sum())
        return [0] * variables, [1] * variables

    @property
    def _ends(self) -> IntArray:
        """Where the bits of every layer's heads end, then those of every layer's units: int64 [2 * layers]."""
        return np.cumsum([*self.whole_heads, *self.units])

    @property
    def _places(self) -> list[IntArray]:
        """The bits of every layer's heads, then those of every layer's units."""
        return np.split(np.arange(len(self.lower)), self._ends[:-1])

    @property
    def groups(self) -> Mapping[str, Sequence[IntArray]]:
        """The bits of each sub-block that there is."""
        kinds = {"heads": self._places[: self.layers], "units": self._places[self.layers :]}
        return {kind: [bits for bits in places if len(bits)] for kind, places in kinds.items()}

    def features(self, genomes: IntArray) -> NDArray[np.float64]:
        """How much of every sub-block is kept, and the same with each head or unit weighted by its rank: 4L features."""
        orders = (*self.ordering.heads, *self.ordering.units)
        weighted = [
            genomes[:, bits] @ _rank_weights(order)
            for bits, order in zip(self._places, orders, strict=True)
            if len(bits)
        ]
        return np.column_stack([super().features(genomes), *weighted])

    def counts(self, genomes: IntArray) -> Counts:
        """Bits set per layer."""
        so_far = np.pad(genomes.cumsum(axis=1), ((0, 0), (1, 0)))
        sums = np.diff(so_far[:, self._ends], axis=1, prepend=0)
        return Counts(self._sizes_of(sums[:, : self.layers]), sums[:, self.layers :])

    def _sizes_of(self, heads: IntArray) -> IntArray:
        """Sizes of attentions [N, layers] from numbers of whole groups."""
        queries = self.ordering.queries
        if queries is None:
            return heads
        columns = [
            np.array([queries.size(layer, groups) for groups in range(most + 1)])[heads[:, layer]]
            for layer, most in enumerate(self.whole_heads)
        ]
        return np.stack(columns, axis=1)

    def subnet(self, genome: IntArray) -> Subnet:
        """Exactly the heads and units whose bits are set; importance plays no part."""
        kept = [np.flatnonzero(genome[bits]) for bits in self._places]
        heads, units = kept[: self.layers], kept[self.layers :]
        order = self.ordering.queries
        if order is None:
            return Subnet.of(heads, units)
        every = (tuple(tuple(range(own.shape[1])) for _ in some) for own, some in zip(order.slots, heads, strict=True))
        return Subnet.of(heads, units, queries=QueryHeads(whole=order.whole, kept=tuple(every)))

    @property
    def smallest(self) -> IntArray:
        """One head and one unit, those most important in the first layer that has any."""
        genome = self.lower.copy()
        of_heads, of_units = self._places[: self.layers], self._places[self.layers :]
        for orders, bits in ((self.ordering.heads, of_heads), (self.ordering.units, of_units)):
            best = [bit[order[0]] for order, bit in zip(orders, bits, strict=True) if len(bit)]
            genome[best[:1]] = 1
        return genome
