"""The sizes of a checkpoint and the names of its parameters, layer by layer."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from compiler.families.branch import Branch, ParameterCount
from compiler.families.table import Family, Sizes, family_of
from profilers import LayerSizes, Stack


class StemPart(NamedTuple):
    """A parameter outside the encoder layers that has residual dimensions: along which axis, and what each of them takes."""

    parameter: str
    axis: int
    values: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """What can be cut in a checkpoint: L layers of H heads (each of `head_size`) and U FFN units.

    Of a checkpoint that was cut before, `cut` has what is left of every layer, while L, H and U stay those of the model
    it was cut from: pieces, their costs and their graphs are of that model. `stem_parameters` counts everything outside
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
    attention: ParameterCount
    ffn: ParameterCount
    stem_parameters: int
    cut: Stack | None = None
    stem: tuple[StemPart, ...] = ()

    @property
    def shape(self) -> Stack:
        """(heads, FFN units) of every layer, as the checkpoint has them."""
        return self.cut or (LayerSizes(self.heads, self.ffn_units),) * self.layers

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
        return tuple(branch.below(self.layer(layer)) for branch in self.branches_of_a_layer)

    @property
    def branches_of_a_layer(self) -> tuple[Branch, ...]:
        """The same of any layer, modules named from the layer."""
        return self.family.branches(Sizes(self.heads, self.head_size, self.ffn_units))

    def branch(self, layer: int, piece: str) -> Branch:
        """The one of a layer that is of this piece."""
        return next(branch for branch in self.branches(layer) if branch.piece == piece)

    @property
    def restoring(self) -> str | None:
        """The module that gives a narrow network's token embeddings the dimensions of the dense model's again.

        It stands after the last layer, in the list of layers; a task head reads the narrow stream and needs none.
        """
        return None if self.prefix else f"{self.family.layers}.{self.layers}"

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

    def attention_parameters(self, heads: int, width: int | None = None) -> int:
        """Parameters of an attention sub-block with this many heads, its norm included; 0 heads is no sub-block.

        `width` is that of the residual stream, all of the model's where it is left out: in the next two as well.
        """
        return self.attention.parameters(heads, width or self.hidden_size)

    def ffn_parameters(self, units: int, width: int | None = None) -> int:
        """Parameters of an FFN sub-block with this many units, its norm included; 0 units is no sub-block."""
        return self.ffn.parameters(units, width or self.hidden_size)

    def outside_parameters(self, width: int | None = None) -> int:
        """Parameters outside the sub-blocks: embeddings and head, and what gives a narrow network's output its size."""
        if width is None or width == self.hidden_size:
            return self.stem_parameters
        saved = (self.hidden_size - width) * sum(part.values for part in self.stem)
        restoring = (width + 1) * self.hidden_size if self.restoring else 0
        return self.stem_parameters - saved + restoring

    def parameters(self, sizes: Iterable[tuple[int, int]], width: int | None = None) -> int:
        """Parameters of a network whose layers have these (heads, FFN units): the closed form."""
        blocks = sum(self.attention_parameters(h, width) + self.ffn_parameters(u, width) for h, u in sizes)
        return self.outside_parameters(width) + blocks


def _stem(model: Any, family: Family, prefix: str) -> Iterator[StemPart]:
    """What reads or writes the residual stream outside the layers, of what the model has."""
    found = dict(model.named_parameters())
    projection = f"{prefix}{family.embedding_projection}"
    writers = {f"{prefix}{table}.weight": 1 for table in family.embedding_tables}
    writers |= {f"{prefix}{family.embedding_norm}.{kind}": 0 for kind in ("weight", "bias")}
    if f"{projection}.weight" in found:
        writers = {f"{projection}.{kind}": 0 for kind in ("weight", "bias")}
    for name, axis in {**writers, f"{family.head_input}.weight": 1}.items():
        if name in found:
            yield StemPart(name, axis, found[name].numel() // found[name].shape[axis])


def architecture_of(model: Any) -> Architecture:
    """Read the sizes off a loaded transformers model (Optimum's normalised config names them)."""
    from optimum.utils import NormalizedConfigManager

    config = model.config
    family = family_of(config.model_type)
    sizes = NormalizedConfigManager.get_normalized_config_class(config.model_type)(config)
    base = model.base_model
    prefix = "" if base is model else f"{model.base_model_prefix}."
    parameters = {name: parameter.numel() for name, parameter in model.named_parameters()}
    heads, head_size = sizes.num_attention_heads, sizes.hidden_size // sizes.num_attention_heads
    ffn_units = getattr(config, family.ffn_units_attribute)
    first = f"{prefix}{family.layers}.0"
    attention, ffn = (
        ParameterCount.of(branch.below(first), parameters)
        for branch in family.branches(Sizes(heads, head_size, ffn_units))
    )
    first_position = config.pad_token_id + 1 if family.positions_after_padding else 0
    return Architecture(
        family=family,
        prefix=prefix,
        layers=sizes.num_layers,
        heads=heads,
        head_size=head_size,
        hidden_size=sizes.hidden_size,
        ffn_units=ffn_units,
        max_tokens=config.max_position_embeddings - first_position,
        vocabulary=config.vocab_size,
        attention=attention,
        ffn=ffn,
        stem_parameters=sum(n for name, n in parameters.items() if not name.startswith(f"{prefix}{family.layers}.")),
        stem=tuple(_stem(model, family, prefix)),
    )
