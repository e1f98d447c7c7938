"""Structure and precision searched together: any space with one more variable."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from compiler.spaces.space import Space
from compiler.spaces.subnet import Counts, IntArray, Shape, Subnet


class SubBlock(NamedTuple):
    """One half of a layer."""

    layer: int
    piece: Literal["attention", "ffn"]

    def __str__(self) -> str:
        return f"layer {self.layer} {self.piece}"


class Form(NamedTuple):
    """How a network is written: in a precision, but for some sub-blocks that stay in fp32."""

    precision: str
    exceptions: tuple[SubBlock, ...] = ()

    def __str__(self) -> str:
        kept = ", ".join(map(str, self.exceptions))
        return f"{self.precision} but {kept}" if kept else self.precision

    def of(self, shape: Shape) -> "Form":
        """This form of a network of a shape: what was dropped is no exception."""
        kept = {"attention": lambda sizes: sizes.heads, "ffn": lambda sizes: sizes.ffn_units}
        return Form(self.precision, tuple(e for e in self.exceptions if kept[e.piece](shape[e.layer])))


@dataclass(frozen=True, kw_only=True)
class MixedPrecision(Space):
    """Genomes of `shapes`, and last which of `precisions` (the most exact first) the network runs in."""

    shapes: Space
    precisions: tuple[str, ...]

    @classmethod
    def of(cls, shapes: Space, precisions: tuple[str, ...]) -> Space:
        """`shapes` itself where there is nothing to choose."""
        if len(precisions) == 1:
            return shapes
        return cls(
            full=shapes.full, ordering=shapes.ordering, unit_step=shapes.unit_step, hidden_size=shapes.hidden_size,
            shapes=shapes, precisions=precisions,
        )  # fmt: skip

    def _bounds(self) -> tuple[list[int], list[int]]:
        last = len(self.precisions) - 1
        return [*self.shapes.lower.tolist(), 0], [*self.shapes.upper.tolist(), last]

    @property
    def groups(self) -> Mapping[str, Sequence[IntArray]]:
        """Those of the shapes, and the precision."""
        return {**self.shapes.groups, "precision": [np.array([len(self.lower) - 1])]}

    def features(self, genomes: IntArray) -> NDArray[np.float64]:
        """Those of the shapes, and last the precision: 0 the most exact, 1 the least."""
        return np.column_stack([self.shapes.features(genomes[:, :-1]), genomes[:, -1] / self.upper[-1]])

    def counts(self, genomes: IntArray) -> Counts:
        """Shapes do not depend on the precision."""
        return self.shapes.counts(genomes[:, :-1])

    def subnet(self, genome: IntArray) -> Subnet:
        """The sub-network without its precision."""
        return self.shapes.subnet(genome[:-1])

    def precision(self, genome: IntArray) -> int:
        """Which precision."""
        return int(genome[-1])

    @property
    def largest(self) -> IntArray:
        """The full network, most exact."""
        return np.append(self.shapes.largest, 0)

    @property
    def smallest(self) -> IntArray:
        """The smallest network, least exact."""
        return np.append(self.shapes.smallest, len(self.precisions) - 1)

    @property
    def middle(self) -> IntArray:
        """The middle network, most exact."""
        return np.append(self.shapes.middle, 0)
