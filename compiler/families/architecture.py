"""The sizes of a checkpoint and the names of its parameters, layer by layer."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, NamedTuple

from compiler.families.branch import PIECES, Branch, ParameterCount
from compiler.families.layers import Sizes
from compiler.families.table import TOKEN_HEADS, Family, family_of
from profilers import Heads, LayerSizes, Stack, are_split, attention_sizes


class StemPart(NamedTuple):
    """A parameter outside the encoder layers that has residual dimensions: along which axis, and what each of them takes."""

    parameter: str
    axis: int
    values: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """What can be cut in a checkpoint: L layers of H heads (each of `head_size`) and U FFN units.

    A head is one of keys and values, with the `queries` query heads that read it.

    Of a checkpoint that was cut before, `cut` has what is left of every layer, while L, H and U stay those of the model
    it was cut from: pieces, their costs and their graphs are of that model. `counts` has the closed forms of every layer's
    branches, in the order of computation. `stem_parameters` counts everything outside
    the encoder layers (embeddings, pooler, task head), of which `stem` has residual dimensions.
    """

    family: Family
    prefix: str
    layers: int
    heads: int
    head_size: int
    hidden_size: int
    ffn_units: int
    max_tokens: int
    vocabulary: int
    counts: tuple[tuple[ParameterCount, ...], ...]
    stem_parameters: int
    cut: Stack | None = None
    stem: tuple[StemPart, ...] = ()
    queries: int = 1

    @property
    def whole_heads(self) -> Heads:
        """Key-value heads, and query heads of each, of a layer before anything was cut."""
        return Heads(self.heads, self.queries)

    @property
    def apart(self) -> Heads | None:
        """The same where the query heads of a group are cut apart; None where only whole groups are cut."""
        return self.whole_heads if are_split(self.whole_heads) else None

    @property
    def largest(self) -> LayerSizes:
        """The sizes of a layer before anything was cut."""
        return LayerSizes(len(attention_sizes(self.whole_heads)) - 1, self.ffn_units)

    @property
    def shape(self) -> Stack:
        """(heads, FFN units) of every layer, as the checkpoint has them; heads as `attention_sizes` counts them."""
        return self.cut or (self.largest,) * self.layers

    @property
    def whole(self) -> "Architecture":
        """That of the model before anything was cut."""
        return replace(self, cut=None)

    def in_layers(self, parameter: str) -> bool:
        """Whether a parameter belongs to an encoder layer: all others are the same in every sub-network."""
        return parameter.startswith(f"{self.prefix}{self.family.layers}.")

    @property
    def word_table(self) -> str:
        """Full name of the module that words are looked up in."""
        return f"{self.prefix}{self.family.embedding_tables[0]}"

    def layer(self, layer: int) -> str:
        """Full name of one layer's module (0-based)."""
        return f"{self.prefix}{self.family.layers}.{layer}"

    def branches(self, layer: int) -> tuple[Branch, ...]:
        """The branches of one layer in the order of computation, modules by their full names."""
        return _branches(self.family, self._sizes(layer), self.layer(layer), layer)

    def branches_within(self, layer: int) -> tuple[Branch, ...]:
        """The same, modules named from the layer."""
        return self.family.branches(self._sizes(layer), layer)

    def _sizes(self, layer: int) -> Sizes:
        """Those that the branches of a layer are built from: of the whole model, but for query heads that were cut apart."""
        kept = attention_sizes(self.whole_heads)[self.shape[layer].heads]
        queries = kept.queries if self.apart and kept.queries else self.queries
        return Sizes(self.heads, self.head_size, self.ffn_units, queries, self.apart)

    @property
    def tables(self) -> frozenset[str]:
        """Parameters that hold values of groups which no stream is multiplied with."""
        branches = (branch for layer in range(self.layers) for branch in self.branches(layer))
        return frozenset(f"{table.module}.weight" for branch in branches for table in branch.tables)

    def branch(self, layer: int, piece: str) -> Branch:
        """The one of a layer that is of this piece."""
        return next(branch for branch in self.branches(layer) if branch.piece == piece)

    @property
    def restoring(self) -> str | None:
        """The module that gives a narrow network's token embeddings the dimensions of the dense model's again.

        It stands after the last layer, in the list of layers; a task head reads the narrow stream and needs none.
        """
        return None if self.prefix else f"{self.family.layers}.{self.layers}"

    @property
    def head_input(self) -> str:
        """The module of a task head that reads the stream, where networks of fewer residual dimensions can be made."""
        known = {*TOKEN_HEADS, *([self.family.stem.head_input] if self.family.stem else [])}
        names = (part.parameter.removesuffix(".weight") for part in self.stem)
        return next(name for name in names if name in known)

    def residual_axes(self) -> dict[str, int]:
        """Along which axis of a parameter the residual dimensions lie, for every one of the dense model that has them."""
        axes = {part.parameter: part.axis for part in self.stem}
        for layer in range(self.layers):
            for branch in self.branches(layer):
                for module, axis in branch.residual_axes.items():
                    axes[f"{module}.weight"] = axis
                    if axis == 0:
                        axes[f"{module}.bias"] = axis
        return axes

    def block_parameters(self, layer: int, piece: str, size: int, width: int | None = None) -> int:
        """Parameters of one branch of a layer at this size, its norms included; size 0 is no branch.

        `width` is that of the residual stream, all of the model's where it is left out: below as well.
        """
        kept = self.branch(layer, piece).extent(size)
        return self.counts[layer][PIECES.index(piece)].parameters(kept, width or self.hidden_size)

    def outside_parameters(self, width: int | None = None) -> int:
        """Parameters outside the sub-blocks: embeddings and head, and what gives a narrow network's output its size."""
        if width is None or width == self.hidden_size:
            return self.stem_parameters
        saved = (self.hidden_size - width) * sum(part.values for part in self.stem)
        restoring = (width + 1) * self.hidden_size if self.restoring else 0
        return self.stem_parameters - saved + restoring

    def parameters(self, sizes: Iterable[tuple[int, int]], width: int | None = None) -> int:
        """Parameters of a network whose layers have these (heads, FFN units): the closed form."""
        blocks = sum(
            self.block_parameters(layer, piece, size, width)
            for layer, kept in enumerate(sizes)
            for piece, size in zip(PIECES, kept, strict=True)
        )
        return self.outside_parameters(width) + blocks


@lru_cache(maxsize=4096)
def _branches(family: Family, sizes: Sizes, root: str, layer: int) -> tuple[Branch, ...]:
    return tuple(branch.below(root) for branch in family.branches(sizes, layer))


def _stem(model: Any, family: Family, prefix: str) -> Iterator[StemPart]:
    """What reads or writes the residual stream outside the layers, of what the model has."""
    if family.stem is None:
        return
    found = dict(model.named_parameters())
    readers = [f"{name}.weight" for name in (family.stem.head_input, *TOKEN_HEADS)]
    reader = [name for name in readers if name in found][:1]
    if prefix and not reader:  # another head, which reads the stream elsewhere
        return
    projection = f"{prefix}{family.stem.projection}"
    writers = {f"{prefix}{table}.weight": 1 for table in family.embedding_tables}
    writers |= {f"{prefix}{family.stem.norm}.{kind}": 0 for kind in ("weight", "bias")}
    if f"{projection}.weight" in found:
        writers = {f"{projection}.{kind}": 0 for kind in ("weight", "bias")}
    for name, axis in {**writers, **dict.fromkeys(reader, 1)}.items():
        if name in found:
            yield StemPart(name, axis, found[name].numel() // found[name].shape[axis])


def _normalised(config: Any) -> Any:
    """The configuration under the names of Optimum's normalised form; its own where Optimum does not know the type."""
    from optimum.utils import NormalizedConfigManager, NormalizedTextConfig

    known = NormalizedConfigManager._conf  # noqa: SLF001  it has no public question
    return known.get(config.model_type, NormalizedTextConfig)(config)


def architecture_of(model: Any) -> Architecture:
    """Read the sizes off a loaded transformers model."""
    config = model.config
    family, named = family_of(config.model_type), _normalised(config)
    base = model.base_model
    prefix = "" if base is model else f"{model.base_model_prefix}."
    parameters = {name: parameter.numel() for name, parameter in model.named_parameters()}
    sizes = family.sizes(config)
    root = f"{prefix}{family.layers}."
    counts = tuple(
        tuple(ParameterCount.of(branch, parameters) for branch in _branches(family, sizes, f"{root}{layer}", layer))
        for layer in range(named.num_layers)
    )
    first_position = config.pad_token_id + 1 if family.positions_after_padding else 0
    return Architecture(
        family=family,
        prefix=prefix,
        layers=named.num_layers,
        heads=sizes.heads,
        queries=sizes.queries,
        head_size=sizes.head_size,
        hidden_size=named.hidden_size,
        ffn_units=sizes.ffn_units,
        max_tokens=config.max_position_embeddings - first_position,
        vocabulary=config.vocab_size,
        counts=counts,
        stem_parameters=sum(n for name, n in parameters.items() if not name.startswith(root)),
        stem=tuple(_stem(model, family, prefix)),
    )
