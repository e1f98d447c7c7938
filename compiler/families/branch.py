"""A residual branch: what one layer adds to its stream, as groups that can be cut and the modules that hold them.

A layer is a list of branches. Whatever cuts, counts, costs, ranks, re-solves or exports a network reads this description and
no other: a family says here, and nowhere else, how it is built.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

from profilers import Heads, attention_sizes

Piece = Literal["attention", "ffn"]

PIECES: tuple[Piece, ...] = ("attention", "ffn")
"""The branches of a layer, in the order of computation."""

StandIn = Literal["identity", "first", "second", "no_attention", "zero"]
"""identity: x -> x; first: (x, ...) -> (x, None); second: (x, y) -> y; no_attention: (x, ...) -> (0, None); zero: x -> 0.

x may also be given by the name `hidden_states`."""


class Kept(NamedTuple):
    """Groups of a branch, ascending, and where those are cut apart the slots of each: as many tuples, ascending as well."""

    groups: tuple[int, ...]
    slots: tuple[tuple[int, ...], ...] | None = None


@dataclass(frozen=True, slots=True)
class Matrix:
    """A linear module whose weight has the groups of a branch along one axis: `rows` of each group, one after another.

    A fused module holds `copies` of that, one after another: three where query, key and value are one matrix. The rows of a
    group are those of its `slots`, equally many each, where it can be cut apart: of its query heads.
    """

    module: str
    rows: int
    copies: int = 1
    slots: int = 1

    @property
    def rows_of_slot(self) -> int:
        """Rows of one slot of a group."""
        return self.rows // self.slots

    def indices(self, kept: Kept, size: int) -> list[int]:
        """The places of what is kept along an axis of `size`, ascending within each copy."""
        stride, each = size // self.copies, self.rows_of_slot
        apart = kept.slots is not None and self.slots > 1
        slots = kept.slots if kept.slots is not None and apart else [range(self.slots)] * len(kept.groups)
        starts = [
            group * self.rows + slot * each for group, some in zip(kept.groups, slots, strict=True) for slot in some
        ]
        return [copy * stride + start + row for copy in range(self.copies) for start in starts for row in range(each)]

    def size(self, kept: Heads) -> int:
        """How long the axis is with so many groups, of so many slots each."""
        a_group, a_slot = self.rows_each
        return kept.groups * (a_group + kept.queries * a_slot)

    @property
    def rows_each(self) -> tuple[int, int]:
        """Rows that a group takes whatever is kept of it, and those of each slot where it is cut apart, all copies together."""
        return (self.copies * self.rows, 0) if self.slots == 1 else (0, self.copies * self.rows_of_slot)


@dataclass(frozen=True, slots=True, kw_only=True)
class Branch:
    """One branch of a layer; module names count from the root of the model that `Architecture.branches` is of.

    `groups` are what genomes count: key-value heads, each with its query heads, or FFN units. They lie on axis 0 of
    `reads` and `tables` and on axis 1 of `output`; a table has values of each group that no stream is multiplied with.
    `entry` is the module whose input is the stream. `after` is the norm over the residual sum: a dropped branch returns its
    input, so that norm goes too; None where the stream itself has no norm. `behind` is a norm over what the branch adds, before
    it is added. `norms` and `others` go with the branch. `without` says which modules stand in when it is
    dropped. `counts` are attributes of modules, as "module.attribute", that hold a number of groups times the value, and
    `slot_counts` those that hold the number of slots of each group. `heads` are those of the whole model where groups are
    cut apart; there groups and slots follow from a size (`attention_sizes`), else a size is a number of groups.
    """

    piece: Piece
    groups: int
    entry: str
    reads: tuple[Matrix, ...]
    output: Matrix
    norms: tuple[str, ...]
    without: Mapping[str, StandIn]
    after: str | None = None
    behind: str | None = None
    others: tuple[str, ...] = ()
    tables: tuple[Matrix, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    slot_counts: tuple[str, ...] = ()
    heads: Heads | None = None

    @property
    def whole(self) -> Heads:
        """All groups, and all slots of each."""
        return self.heads or Heads(self.groups, 1)

    def extent(self, size: int) -> Heads:
        """How many groups a size stands for, and slots of each: 1 where groups are not cut apart."""
        return Heads(size, 1) if self.heads is None else attention_sizes(self.heads)[size]

    @property
    def matrices(self) -> tuple[Matrix, ...]:
        """Everything that multiplies."""
        return (*self.reads, self.output)

    @property
    def rows(self) -> tuple[Matrix, ...]:
        """Everything that has its groups on axis 0."""
        return (*self.reads, *self.tables)

    @property
    def modules(self) -> tuple[str, ...]:
        """Modules whose parameters go when every group goes."""
        return (*(matrix.module for matrix in (*self.matrices, *self.tables)), *self.norms, *self.others)

    @property
    def written(self) -> str:
        """The module whose output is added to the stream."""
        return self.behind or self.output.module

    @property
    def residual_axes(self) -> dict[str, int]:
        """By module, the axis of its weight that has residual dimensions: 1 where it reads them, else 0."""
        return {matrix.module: 1 for matrix in self.reads} | dict.fromkeys((self.output.module, *self.norms), 0)

    def below(self, root: str) -> "Branch":
        """The same branch with every module named from above, `root` being the layer."""
        return replace(
            self,
            entry=f"{root}.{self.entry}",
            reads=_matrices_below(root, self.reads),
            output=replace(self.output, module=f"{root}.{self.output.module}"),
            after=self.after and f"{root}.{self.after}",
            behind=self.behind and f"{root}.{self.behind}",
            norms=_below(root, self.norms),
            without={f"{root}.{module}": rule for module, rule in self.without.items()},
            others=_below(root, self.others),
            tables=_matrices_below(root, self.tables),
            counts={f"{root}.{attribute}": each for attribute, each in self.counts.items()},
            slot_counts=_below(root, self.slot_counts),
        )


@dataclass(frozen=True, slots=True)
class ParameterCount:
    """Parameters of a branch in closed form, read off a whole model: `rows * width + fixed + writing * width + rest`.

    `width` is that of the residual stream. `rows` are those of a group times its number, `fixed` the biases and tables; either
    has a part a slot of each group (`of_slots`) and a part a group.
    """

    reading: int
    fixed: int
    writing: int
    rest: int
    reading_of_slots: int = 0
    fixed_of_slots: int = 0

    @classmethod
    def of(cls, branch: Branch, sizes: Mapping[str, int]) -> "ParameterCount":
        """That of a branch in a model whose parameters have these `sizes`, by full name."""
        biased = [matrix for matrix in branch.reads if f"{matrix.module}.bias" in sizes]
        tables = [sizes[f"{table.module}.weight"] // branch.groups for table in branch.tables]
        stream = [f"{module}.{kind}" for module in branch.norms for kind in ("weight", "bias")]
        others = [n for n in sizes if any(n == module or n.startswith(f"{module}.") for module in branch.others)]
        (reading, of_slots), (fixed, fixed_of_slots) = _rows_a_group(branch.matrices), _rows_a_group(biased)
        return cls(
            reading=reading,
            fixed=fixed + sum(tables),
            writing=sum(name in sizes for name in (f"{branch.output.module}.bias", *stream)),
            rest=sum(sizes[name] for name in others),
            reading_of_slots=of_slots,
            fixed_of_slots=fixed_of_slots,
        )

    def parameters(self, kept: Heads, width: int) -> int:
        """How many there are with so many groups and slots kept; a dropped branch has none."""
        a_group = self.reading * width + self.fixed
        a_slot = self.reading_of_slots * width + self.fixed_of_slots
        return kept.groups and kept.groups * (a_group + kept.queries * a_slot) + self.writing * width + self.rest


def _rows_a_group(matrices: Iterable[Matrix]) -> tuple[int, int]:
    """Rows of one group in matrices where it stays whole, and of one slot of it in those where it is cut apart."""
    each = [matrix.rows_each for matrix in matrices]
    return sum(a_group for a_group, _ in each), sum(a_slot for _, a_slot in each)


def _below(root: str, modules: Iterable[str]) -> tuple[str, ...]:
    return tuple(f"{root}.{module}" for module in modules)


def _matrices_below(root: str, matrices: Iterable[Matrix]) -> tuple[Matrix, ...]:
    return tuple(replace(matrix, module=f"{root}.{matrix.module}") for matrix in matrices)
