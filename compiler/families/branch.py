"""A residual branch: what one layer adds to its stream, as groups that can be cut and the modules that hold them.

A layer is a list of branches. Whatever cuts, counts, costs, ranks, re-solves or exports a network reads this description and
no other: a family says here, and nowhere else, how it is built.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

Piece = Literal["attention", "ffn"]

StandIn = Literal["identity", "first", "second", "no_attention", "zero"]
"""identity: x -> x; first: (x, ...) -> (x, None); second: (x, y) -> y; no_attention: (x, ...) -> (0, None); zero: x -> 0."""


@dataclass(frozen=True, slots=True)
class Matrix:
    """A linear module whose weight has the groups of a branch along one axis: `rows` of each group, one after another.

    A fused module holds `copies` of that, one after another: three where query, key and value are one matrix.
    """

    module: str
    rows: int
    copies: int = 1

    def indices(self, groups: Sequence[int], size: int) -> list[int]:
        """The places of some groups along an axis of `size`, ascending within each copy."""
        stride = size // self.copies
        return [
            copy * stride + group * self.rows + row
            for copy in range(self.copies)
            for group in groups
            for row in range(self.rows)
        ]

    def size(self, groups: int) -> int:
        """How long the axis is with so many groups."""
        return self.copies * groups * self.rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Branch:
    """One branch of a layer; module names count from the root of the model that `Architecture.branches` is of.

    `groups` are what genomes count: attention heads, or FFN units. They lie on axis 0 of `reads` and on axis 1 of `output`.
    `entry` is the module whose input is the stream. `after` is the norm over the residual sum: a dropped branch returns its
    input, so that norm goes too. `norms` and `others` go with the branch. `without` says which modules stand in when it is
    dropped. `counts` are attributes of modules, as "module.attribute", that hold a number of groups times the value.
    """

    piece: Piece
    groups: int
    entry: str
    reads: tuple[Matrix, ...]
    output: Matrix
    after: str
    norms: tuple[str, ...]
    without: Mapping[str, StandIn]
    others: tuple[str, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)

    @property
    def matrices(self) -> tuple[Matrix, ...]:
        """Everything that multiplies."""
        return (*self.reads, self.output)

    @property
    def modules(self) -> tuple[str, ...]:
        """Modules whose parameters go when every group goes."""
        return (*(matrix.module for matrix in self.matrices), *self.norms, *self.others)

    @property
    def residual_axes(self) -> dict[str, int]:
        """By module, the axis of its weight that has residual dimensions: 1 where it reads them, else 0."""
        return {matrix.module: 1 for matrix in self.reads} | dict.fromkeys((self.output.module, *self.norms), 0)

    def below(self, root: str) -> "Branch":
        """The same branch with every module named from above, `root` being the layer."""
        return replace(
            self,
            entry=f"{root}.{self.entry}",
            reads=tuple(replace(matrix, module=f"{root}.{matrix.module}") for matrix in self.reads),
            output=replace(self.output, module=f"{root}.{self.output.module}"),
            after=f"{root}.{self.after}",
            norms=_below(root, self.norms),
            without={f"{root}.{module}": rule for module, rule in self.without.items()},
            others=_below(root, self.others),
            counts={f"{root}.{attribute}": each for attribute, each in self.counts.items()},
        )


@dataclass(frozen=True, slots=True)
class ParameterCount:
    """Parameters of a branch in closed form, read off a whole model: `groups * (reading * width + biases) + writing * width + rest`.

    `width` is that of the residual stream.
    """

    reading: int
    biases: int
    writing: int
    rest: int

    @classmethod
    def of(cls, branch: Branch, sizes: Mapping[str, int]) -> "ParameterCount":
        """That of a branch in a model whose parameters have these `sizes`, by full name."""
        biased = [matrix for matrix in branch.reads if f"{matrix.module}.bias" in sizes]
        stream = [f"{module}.{kind}" for module in branch.norms for kind in ("weight", "bias")]
        others = [n for n in sizes if any(n == module or n.startswith(f"{module}.") for module in branch.others)]
        return cls(
            reading=sum(matrix.size(1) for matrix in branch.matrices),
            biases=sum(matrix.size(1) for matrix in biased),
            writing=sum(name in sizes for name in (f"{branch.output.module}.bias", *stream)),
            rest=sum(sizes[name] for name in others),
        )

    def parameters(self, groups: int, width: int) -> int:
        """How many there are with so many groups kept; a dropped branch has none."""
        return groups and groups * (self.reading * width + self.biases) + self.writing * width + self.rest


def _below(root: str, modules: Iterable[str]) -> tuple[str, ...]:
    return tuple(f"{root}.{module}" for module in modules)
