"""The sizes of a checkpoint and the names of its parameters, layer by layer."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from compiler.families.table import Family, family_of
from profilers import LayerSizes, Stack


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerNames:
    """Names of one encoder layer's modules, from the root of the transformers model."""

    layer: str
    query: str
    key: str
    value: str
    attention_output: str
    attention_norm: str
    ffn_input: str
    ffn_output: str
    ffn_norm: str

    @property
    def attention(self) -> tuple[str, ...]:
        """Modules whose parameters go when every head goes."""
        return (self.query, self.key, self.value, self.attention_output, self.attention_norm)

    @property
    def ffn(self) -> tuple[str, ...]:
        """Modules whose parameters go when every FFN unit goes."""
        return (self.ffn_input, self.ffn_output, self.ffn_norm)


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """What can be cut in a checkpoint: L layers of H heads (each of `head_size`) and U FFN units.

    Of a checkpoint that was cut before, `cut` has what is left of every layer, while L, H and U stay those of the model
    it was cut from: pieces, their costs and their graphs are of that model. `stem_parameters` counts everything outside
    the encoder layers (embeddings, pooler, task head).
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
    stem_parameters: int
    cut: Stack | None = None

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

    def names(self, layer: int) -> LayerNames:
        """Full module names of one layer (0-based)."""
        root = f"{self.prefix}{self.family.layers}.{layer}"
        row = self.family
        return LayerNames(
            layer=root,
            query=f"{root}.{row.query}",
            key=f"{root}.{row.key}",
            value=f"{root}.{row.value}",
            attention_output=f"{root}.{row.attention_output}",
            attention_norm=f"{root}.{row.attention_norm}",
            ffn_input=f"{root}.{row.ffn_input}",
            ffn_output=f"{root}.{row.ffn_output}",
            ffn_norm=f"{root}.{row.ffn_norm}",
        )

    def attention_parameters(self, heads: int) -> int:
        """Parameters of an attention sub-block with this many heads, its norm included; 0 heads is no sub-block."""
        if heads == 0:
            return 0
        width = heads * self.head_size
        return 3 * (self.hidden_size + 1) * width + (width + 1) * self.hidden_size + 2 * self.hidden_size

    def ffn_parameters(self, units: int) -> int:
        """Parameters of an FFN sub-block with this many units, its norm included; 0 units is no sub-block."""
        if units == 0:
            return 0
        return (self.hidden_size + 1) * units + (units + 1) * self.hidden_size + 2 * self.hidden_size

    def parameters(self, sizes: Iterable[tuple[int, int]]) -> int:
        """Parameters of a network whose layers have these (heads, FFN units): the closed form."""
        blocks = sum(self.attention_parameters(h) + self.ffn_parameters(u) for h, u in sizes)
        return self.stem_parameters + blocks


def architecture_of(model: object) -> Architecture:
    """Read the sizes off a loaded transformers model (Optimum's normalised config names them)."""
    from optimum.utils import NormalizedConfigManager

    config = model.config  # type: ignore[attr-defined]
    family = family_of(config.model_type)
    sizes = NormalizedConfigManager.get_normalized_config_class(config.model_type)(config)
    base = model.base_model  # type: ignore[attr-defined]
    prefix = "" if base is model else f"{model.base_model_prefix}."  # type: ignore[attr-defined]
    layer_root = f"{prefix}{family.layers}."
    stem = sum(p.numel() for n, p in model.named_parameters() if not n.startswith(layer_root))  # type: ignore[attr-defined]
    first_position = config.pad_token_id + 1 if family.positions_after_padding else 0
    return Architecture(
        family=family,
        prefix=prefix,
        layers=sizes.num_layers,
        heads=sizes.num_attention_heads,
        head_size=sizes.hidden_size // sizes.num_attention_heads,
        hidden_size=sizes.hidden_size,
        ffn_units=getattr(config, family.ffn_units_attribute),
        max_tokens=config.max_position_embeddings - first_position,
        vocabulary=config.vocab_size,
        stem_parameters=stem,
    )
