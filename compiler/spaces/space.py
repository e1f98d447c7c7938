"""Search spaces: bounded integer vectors (genomes) that stand for sub-networks.

Definitions: Klein et al., "Structural Pruning of Pre-trained Language Models via Neural Architecture Search",
arXiv 2405.02267, section 4. In SMALL, MEDIUM and LAYER a count k keeps the k most important heads or units.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from compiler.families import Architecture
from compiler.spaces.subnet import Counts, IntArray, Ordering, Shape, Subnet
from targets.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Space(ABC):
    """Genomes are int64 vectors between `lower` and `upper`, both included.

    `full` is the network that is cut: layers may have unequal sizes, or none left. `unit_step` coarsens FFN counts to
    multiples of it (1 is the paper's space; a device's vector width is cheaper). `hidden_size` are the dimensions of the
    residual stream, of which only WIDTH cuts any.
    """

    full: Shape
    ordering: Ordering
    unit_step: int = 1
    hidden_size: int = 0
    lower: IntArray = field(init=False)
    upper: IntArray = field(init=False)

    def __post_init__(self) -> None:
        lower, upper = self._bounds()
        object.__setattr__(self, "lower", np.asarray(lower, dtype=np.int64))
        object.__setattr__(self, "upper", np.asarray(upper, dtype=np.int64))

    @property
    def layers(self) -> int:
        """Layers of the full network, those that lack everything included."""
        return len(self.full)

    @property
    def heads(self) -> IntArray:
        """Heads of the full network: int64 [layers]."""
        return np.array([sizes.heads for sizes in self.full])

    @property
    def units(self) -> IntArray:
        """FFN units of the full network: int64 [layers]."""
        return np.array([sizes.ffn_units for sizes in self.full])

    @property
    def steps(self) -> IntArray:
        """The largest FFN variable of every layer: int64 [layers]."""
        return -(-self.units // self.unit_step)

    def units_of(self, variables: IntArray) -> IntArray:
        """FFN unit counts from FFN variables [..., layers]: steps of `unit_step`, capped at what the layer has."""
        return np.minimum(variables * self.unit_step, self.units)

    @abstractmethod
    def _bounds(self) -> tuple[list[int], list[int]]: ...

    @property
    @abstractmethod
    def groups(self) -> Mapping[str, Sequence[IntArray]]:
        """Indices of the variables by what they say, part by part: one part a sub-block where it has its own.

        The variables of a part that has several are bits.
        """

    def features(self, genomes: IntArray) -> NDArray[np.float64]:
        """Genomes as [N, features] between 0 and 1, few enough to learn from: how much of every part is kept."""
        kept = (genomes - self.lower) / np.maximum(self.upper - self.lower, 1)
        return np.stack([kept[:, part].mean(axis=1) for parts in self.groups.values() for part in parts], axis=1)

    @abstractmethod
    def counts(self, genomes: IntArray) -> Counts:
        """Shapes of genomes [N, variables]."""

    def subnet(self, genome: IntArray) -> Subnet:
        """The sub-network a genome stands for."""
        return Subnet.first(self.shape(genome), self.ordering)

    def precision(self, genome: IntArray) -> int:  # noqa: ARG002  the spaces of the paper know one precision
        """Which of the run's precisions the genome asks for."""
        return 0

    def shape(self, genome: IntArray) -> Shape:
        """The shape a genome stands for."""
        return self.counts(genome[None]).shape(0)

    @property
    def largest(self) -> IntArray:
        """The genome of the full network."""
        return self.upper

    @property
    @abstractmethod
    def smallest(self) -> IntArray:
        """The smallest network worth training: what the sandwich rule takes."""

    @property
    def middle(self) -> IntArray:
        """Half way between the bounds; of bits, every second one is set."""
        half = (self.lower + self.upper) // 2
        return np.where(self.upper - self.lower == 1, self.lower + np.arange(len(half)) % 2, half)

    def mutate(self, genome: IntArray, rng: np.random.Generator) -> IntArray:
        """A copy with one variable drawn anew, never to its old value."""
        free = np.flatnonzero(self.upper > self.lower)
        child = genome.copy()
        if len(free) == 0:
            return child
        i = rng.choice(free)
        value = rng.integers(self.lower[i], self.upper[i])
        child[i] = value + (value >= genome[i])
        return child


class Small(Space):
    """(layers, heads, units): one triple for the whole net; the first layers stay. No layer keeps more than it has."""

    def _bounds(self) -> tuple[list[int], list[int]]:
        most = [self.layers, int(self.heads.max()), int(self.steps.max())]
        return [0, min(1, most[1]), min(1, most[2])], most

    @property
    def groups(self) -> Mapping[str, Sequence[IntArray]]:
        """Three variables, each about the whole net."""
        return {"layers": [np.array([0])], "heads": [np.array([1])], "units": [np.array([2])]}

    def counts(self, genomes: IntArray) -> Counts:
        """The first `layers` layers keep (heads, units); the others are gone."""
        kept = np.arange(self.layers)[None, :] < genomes[:, :1]
        heads, units = np.minimum(genomes[:, 1:2], self.heads), self.units_of(genomes[:, 2:3])
        return Counts(np.where(kept, heads, 0), np.where(kept, units, 0))

    @property
    def smallest(self) -> IntArray:
        """One layer of one head and one unit step."""
        return np.minimum(1, self.upper)


def _one_a_sub_block(layers: int) -> dict[str, list[IntArray]]:
    """The groups of a genome that has a variable for every attention sub-block, then one for every FFN sub-block."""
    index = list(np.arange(2 * layers)[:, None])
    return {"heads": index[:layers], "units": index[layers:]}


class Medium(Space):
    """Heads of every layer, then units of every layer: 2L integers."""

    def _bounds(self) -> tuple[list[int], list[int]]:
        return [0] * (2 * self.layers), [*self.heads.tolist(), *self.steps.tolist()]

    @property
    def groups(self) -> Mapping[str, Sequence[IntArray]]:
        """One variable a sub-block."""
        return _one_a_sub_block(self.layers)

    def counts(self, genomes: IntArray) -> Counts:
        """Heads are the first L variables, units the last L."""
        return Counts(genomes[:, : self.layers], self.units_of(genomes[:, self.layers :]))

    @property
    def smallest(self) -> IntArray:
        """One head and one unit step in every layer that has any."""
        return np.minimum(1, self.upper)


class Layer(Space):
    """One bit per layer: it stays whole or goes whole."""

    def _bounds(self) -> tuple[list[int], list[int]]:
        return [0] * self.layers, [1] * self.layers

    @property
    def groups(self) -> Mapping[str, Sequence[IntArray]]:
        """One bit a layer."""
        return {"layers": list(np.arange(self.layers)[:, None])}

    def counts(self, genomes: IntArray) -> Counts:
        """Full layers where the bit is set."""
        return Counts(genomes * self.heads, genomes * self.units)

    @property
    def smallest(self) -> IntArray:
        """No layer at all, as in the paper."""
        return self.lower


class Sublayer(Space):
    """One bit per attention sub-block, then one per FFN sub-block: each stays whole or goes whole.

    Beyond the paper: He et al., "What Matters in Transformers? Not All Attention is Needed", arXiv 2406.15786, drop them apart.
    """

    def _bounds(self) -> tuple[list[int], list[int]]:
        return [0] * (2 * self.layers), [1] * (2 * self.layers)

    @property
    def groups(self) -> Mapping[str, Sequence[IntArray]]:
        """One bit a sub-block."""
        return _one_a_sub_block(self.layers)

    def counts(self, genomes: IntArray) -> Counts:
        """All heads, all units where the bits are set."""
        return Counts(genomes[:, : self.layers] * self.heads, genomes[:, self.layers :] * self.units)

    @property
    def smallest(self) -> IntArray:
        """No sub-block at all."""
        return self.lower


def _rank_weights(order: IntArray) -> NDArray[np.float64]:
    """Weights [n] that fall linearly from the most important to the least and sum to 1."""
    falling = len(order) - np.argsort(order)
    return np.asarray(falling / falling.sum())


class Large(Space):
    """One bit per head, then one bit per unit: L(H + U) bits, layer after layer within each part."""

    def _bounds(self) -> tuple[list[int], list[int]]:
        variables = int(self.heads.sum() + self.units.sum())
        return [0] * variables, [1] * variables

    @property
    def _ends(self) -> IntArray:
        """Where the bits of every layer's heads end, then those of every layer's units: int64 [2 * layers]."""
        return np.cumsum([*self.heads, *self.units])

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
        return Counts(sums[:, : self.layers], sums[:, self.layers :])

    def subnet(self, genome: IntArray) -> Subnet:
        """Exactly the heads and units whose bits are set; importance plays no part."""
        kept = [np.flatnonzero(genome[bits]) for bits in self._places]
        return Subnet.of(kept[: self.layers], kept[self.layers :])

    @property
    def smallest(self) -> IntArray:
        """One head and one unit, those most important in the first layer that has any."""
        genome = self.lower.copy()
        of_heads, of_units = self._places[: self.layers], self._places[self.layers :]
        for orders, bits in ((self.ordering.heads, of_heads), (self.ordering.units, of_units)):
            best = [bit[order[0]] for order, bit in zip(orders, bits, strict=True) if len(bit)]
            genome[best[:1]] = 1
        return genome


class Width(Space):
    """Heads of every layer, units of every layer, and last the width of the residual stream, one for the whole network.

    Beyond the paper; Wang et al., "HAT", arXiv 2005.14187, make the embedding dimension elastic. Widths are multiples of
    `unit_step` from half of the hidden size up: costs between profiled widths are never extrapolated.
    """

    def _bounds(self) -> tuple[list[int], list[int]]:
        least, most = (
            -(-size // self.unit_step) for size in (narrowest(self.hidden_size, self.unit_step), self.hidden_size)
        )
        lower, upper = self.medium.lower.tolist(), self.medium.upper.tolist()
        return [*lower, least], [*upper, most]

    @property
    def medium(self) -> Medium:
        """The same without the width: a genome of it is the first part of one of this space."""
        return Medium(full=self.full, ordering=self.ordering, unit_step=self.unit_step)

    @property
    def groups(self) -> Mapping[str, Sequence[IntArray]]:
        """One variable a sub-block, and the width."""
        return {**_one_a_sub_block(self.layers), "width": [np.array([2 * self.layers])]}

    def counts(self, genomes: IntArray) -> Counts:
        """Those of MEDIUM, and the width."""
        widths = np.minimum(genomes[:, -1] * self.unit_step, self.hidden_size)
        return self.medium.counts(genomes[:, :-1])._replace(widths=widths)

    def subnet(self, genome: IntArray) -> Subnet:
        """The most important dimensions, as many as the width says, for the whole network."""
        width = int(min(genome[-1] * self.unit_step, self.hidden_size))
        return Subnet.first(self.shape(genome), self.ordering, None if width == self.hidden_size else width)

    @property
    def smallest(self) -> IntArray:
        """One head and one unit step in every layer that has any, at the least width."""
        return np.maximum(self.lower, np.minimum(1, self.upper))


NARROWEST = 1 / 2
"""Of the hidden size: no network of the space is narrower."""


def narrowest(hidden_size: int, step: int) -> int:
    """The least width of WIDTH: the first multiple of the step that is no less than its share of the hidden size."""
    return min(-(-int(hidden_size * NARROWEST) // step) * step, hidden_size)


SPACES: dict[str, Callable[..., Space]] = {
    "small": Small,
    "medium": Medium,
    "layer": Layer,
    "sublayer": Sublayer,
    "large": Large,
    "width": Width,
}

OF_FULL_WIDTH = ("small", "medium", "layer", "sublayer", "large")
"""Spaces whose networks all have the dense model's residual stream."""


def make_space(name: str, architecture: Architecture, *, ordering: Ordering | None = None, unit_step: int = 1) -> Space:
    """The named space over a checkpoint; index order where no ordering is given. InputError lists the known names."""
    if name not in SPACES:
        raise InputError(f"unknown space {name!r}; known: {', '.join(SPACES)}")
    if name == "width" and not architecture.stem:
        of_head = "with this head" if architecture.family.stem else f"of type {architecture.family.name}"
        raise InputError(
            f"space 'width' is not there for models {of_head}: their residual dimensions are not cut\n"
            f"spaces of this model: {', '.join(OF_FULL_WIDTH)}"
        )
    shape = architecture.shape
    return SPACES[name](
        full=shape,
        ordering=ordering or Ordering.by_index(shape),
        unit_step=unit_step,
        hidden_size=architecture.hidden_size,
    )
