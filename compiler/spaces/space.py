"""Search spaces: bounded integer vectors (genomes) that stand for sub-networks.

Definitions: Klein et al., "Structural Pruning of Pre-trained Language Models via Neural Architecture Search",
arXiv 2405.02267, section 4. In SMALL, MEDIUM and LAYER a count k keeps the k most important heads or units.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from compiler.families import Architecture
from compiler.spaces.subnet import Counts, IntArray, Ordering, Shape, Subnet
from targets.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Space(ABC):
    """Genomes are int64 vectors between `lower` and `upper`, both included.

    `unit_step` coarsens FFN counts to multiples of it (1 is the paper's space; a device's vector width is cheaper).
    """

    layers: int
    heads: int
    units: int
    ordering: Ordering
    unit_step: int = 1
    lower: IntArray = field(init=False)
    upper: IntArray = field(init=False)

    def __post_init__(self) -> None:
        lower, upper = self._bounds()
        object.__setattr__(self, "lower", np.asarray(lower, dtype=np.int64))
        object.__setattr__(self, "upper", np.asarray(upper, dtype=np.int64))

    @property
    def steps(self) -> int:
        """The largest FFN variable; its value times `unit_step`, capped at U, is the count."""
        return -(-self.units // self.unit_step)

    def units_of(self, variable: IntArray) -> IntArray:
        """FFN unit counts from FFN variables."""
        return np.minimum(variable * self.unit_step, self.units)

    @abstractmethod
    def _bounds(self) -> tuple[list[int], list[int]]: ...

    @property
    @abstractmethod
    def groups(self) -> Mapping[str, IntArray]:
        """Indices [parts, variables of a part] of the variables by what they say: one part a sub-block where it has its own.

        The variables of a part that has several are bits.
        """

    def features(self, genomes: IntArray) -> NDArray[np.float64]:
        """Genomes as [N, features] between 0 and 1, few enough to learn from: how much of every part is kept."""
        span = np.maximum(self.upper - self.lower, 1)
        kept = [((genomes[:, index] - self.lower[index]) / span[index]).mean(axis=2) for index in self.groups.values()]
        return np.hstack(kept)

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
    """(layers, heads, units): one triple for the whole net; the first layers stay."""

    def _bounds(self) -> tuple[list[int], list[int]]:
        return [0, 1, 1], [self.layers, self.heads, self.steps]

    @property
    def groups(self) -> Mapping[str, IntArray]:
        """Three variables, each about the whole net."""
        return {"layers": np.array([[0]]), "heads": np.array([[1]]), "units": np.array([[2]])}

    def counts(self, genomes: IntArray) -> Counts:
        """The first `layers` layers keep (heads, units); the others are gone."""
        kept = np.arange(self.layers)[None, :] < genomes[:, :1]
        return Counts(kept * genomes[:, 1:2], kept * self.units_of(genomes[:, 2:3]))

    @property
    def smallest(self) -> IntArray:
        """One layer of one head and one unit step."""
        return np.array([1, 1, 1])


class Medium(Space):
    """Heads of every layer, then units of every layer: 2L integers."""

    def _bounds(self) -> tuple[list[int], list[int]]:
        return [0] * (2 * self.layers), [self.heads] * self.layers + [self.steps] * self.layers

    @property
    def groups(self) -> Mapping[str, IntArray]:
        """One variable a sub-block."""
        index = np.arange(2 * self.layers)[:, None]
        return {"heads": index[: self.layers], "units": index[self.layers :]}

    def counts(self, genomes: IntArray) -> Counts:
        """Heads are the first L variables, units the last L."""
        return Counts(genomes[:, : self.layers], self.units_of(genomes[:, self.layers :]))

    @property
    def smallest(self) -> IntArray:
        """One head and one unit step in every layer."""
        return np.ones(2 * self.layers, dtype=np.int64)


class Layer(Space):
    """One bit per layer: it stays whole or goes whole."""

    def _bounds(self) -> tuple[list[int], list[int]]:
        return [0] * self.layers, [1] * self.layers

    @property
    def groups(self) -> Mapping[str, IntArray]:
        """One bit a layer."""
        return {"layers": np.arange(self.layers)[:, None]}

    def counts(self, genomes: IntArray) -> Counts:
        """Full layers where the bit is set."""
        return Counts(genomes * self.heads, genomes * self.units)

    @property
    def smallest(self) -> IntArray:
        """No layer at all, as in the paper."""
        return self.lower


def _rank_weights(order: tuple[IntArray, ...]) -> NDArray[np.float64]:
    """Weights [layers, n] that fall linearly from the most important to the least; those of a layer sum to 1."""
    rank = np.argsort(np.stack(order), axis=1)
    falling = rank.shape[1] - rank
    return np.asarray(falling / falling.sum(axis=1, keepdims=True))


class Large(Space):
    """One bit per head, then one bit per unit: L(H + U) bits, layer after layer within each part."""

    def _bounds(self) -> tuple[list[int], list[int]]:
        variables = self.layers * (self.heads + self.units)
        return [0] * variables, [1] * variables

    @property
    def groups(self) -> Mapping[str, IntArray]:
        """The bits of each sub-block."""
        heads, units = self._bits(np.arange(len(self.lower))[None])
        return {"heads": heads[0], "units": units[0]}

    def features(self, genomes: IntArray) -> NDArray[np.float64]:
        """How much of every sub-block is kept, and the same with each head or unit weighted by its rank: 4L features."""
        orders = zip(self._bits(genomes), (self.ordering.heads, self.ordering.units), strict=True)
        weighted = [np.einsum("nli,li->nl", bits, _rank_weights(order)) for bits, order in orders]
        return np.hstack([super().features(genomes), *weighted])

    def _bits(self, genomes: IntArray) -> tuple[IntArray, IntArray]:
        split = self.layers * self.heads
        heads = genomes[:, :split].reshape(-1, self.layers, self.heads)
        return heads, genomes[:, split:].reshape(-1, self.layers, self.units)

    def counts(self, genomes: IntArray) -> Counts:
        """Bits set per layer."""
        heads, units = self._bits(genomes)
        return Counts(heads.sum(axis=2), units.sum(axis=2))

    def subnet(self, genome: IntArray) -> Subnet:
        """Exactly the heads and units whose bits are set; importance plays no part."""
        heads, units = self._bits(genome[None])
        return Subnet.of((np.flatnonzero(bits) for bits in heads[0]), (np.flatnonzero(bits) for bits in units[0]))

    @property
    def smallest(self) -> IntArray:
        """One head and one unit, those most important in the first layer."""
        genome = self.lower.copy()
        genome[self.ordering.heads[0][0]] = 1
        genome[self.layers * self.heads + self.ordering.units[0][0]] = 1
        return genome


SPACES: dict[str, Callable[..., Space]] = {"small": Small, "medium": Medium, "layer": Layer, "large": Large}


def make_space(name: str, architecture: Architecture, *, ordering: Ordering | None = None, unit_step: int = 1) -> Space:
    """The named space over a checkpoint; index order where no ordering is given. InputError lists the known names."""
    if name not in SPACES:
        raise InputError(f"unknown space {name!r}; known: {', '.join(SPACES)}")
    sizes = (architecture.layers, architecture.heads, architecture.ffn_units)
    return SPACES[name](
        layers=sizes[0],
        heads=sizes[1],
        units=sizes[2],
        ordering=ordering or Ordering.by_index(*sizes),
        unit_step=unit_step,
    )
