"""The families paretoc knows: one row each, which describes the branches of a layer and what lies outside the layers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from compiler.families.branch import StandIn
from compiler.families.layers import (
    Branches,
    Sizes,
    bert_layer,
    distilbert_layer,
    modernbert_layer,
    post_norm_layer,
    pre_norm_layer,
)
from compiler.families.relative_attention import adapt_deberta, adapt_mpnet
from compiler.families.relative_settings import refused_deberta, refused_mpnet
from compiler.families.remote_settings import refused_nomic_bert
from profilers import Heads, are_split
from targets.errors import InputError


@dataclass(frozen=True, slots=True, kw_only=True)
class Stem:
    """What has residual dimensions outside the layers, where networks of fewer of them can be made.

    Embeddings' norm and projection count from the encoder model, `head_input` from the model with a head for whole texts: the one
    matrix of the head that reads the encoder's output (of tokens: `TOKEN_HEADS`). `projection` is there where embeddings have a size of their own.
    """

    norm: str
    head_input: str
    projection: str | None = None


TOKEN_HEADS = ("qa_outputs", "classifier")
"""Names that transformers gives to the one matrix of a head for tokens, which reads the encoder's output itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """One row: the branches of a layer, named from the layer, and what reads or writes the stream outside the layers.

    `embedding_tables` count from the encoder model; the first is that of words. `stem` is there where residual dimensions can be
    cut. `rotary` says that attention turns queries and keys by their positions, `causal` that tokens see only those before them.
    `whole_layer` is what stands in for a layer without branches; None where its module is read for more. `adapt` changes a model of
    transformers, as soon as it is there, so that no module holds a number of heads; the source of its module ships, which therefore
    imports nothing of ours. `refuses` says why a configuration of the type is not supported, and what to do; None where it is.
    `remote_types` gives, for a type that only code in model folders has, the type of transformers with the same layers.
    `stock` are the settings with which transformers' own class builds layers of other, equal sizes; none where it cannot, or
    residual dimensions are cut. `left_out` are parameters that checkpoints hold even where their settings do not use them.
    """

    name: str
    model_types: tuple[str, ...]
    layers: str
    branches: Branches
    embedding_tables: tuple[str, ...]
    stem: Stem | None = None
    ffn_units_attribute: str = "intermediate_size"
    positions_after_padding: bool = False
    rotary: bool = False
    causal: bool = False
    whole_layer: StandIn | None = "identity"
    adapt: Callable[[Any], None] | None = None
    refuses: Callable[[Any], str | None] | None = None
    remote_types: Mapping[str, str] = field(default_factory=dict, hash=False)
    stock: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()

    @property
    def implementation(self) -> str:
        """The attention that transformers is asked for: its own where that is replaced, as it has no other."""
        return "sdpa" if self.adapt is None else "eager"

    def adapted(self, backbone: Any) -> Any:
        """The model as it is described here, after `adapt`."""
        if self.adapt is not None:
            self.adapt(backbone)
        return backbone

    def head_dim(self, config: Any) -> int | None:
        """The size of a head where a configuration sets one, and the family's class reads it; else heads divide the hidden size."""
        own: int | None = getattr(config, "head_dim", None) if "head_dim" in self.stock else None
        return own or None

    def sizes(self, config: Any) -> Sizes:
        """Those of a layer, from a transformers configuration."""
        heads = config.num_attention_heads
        groups = getattr(config, "num_key_value_heads", None) or heads
        whole = Heads(groups, heads // groups)
        return Sizes(
            heads=groups,
            head_size=self.head_dim(config) or config.hidden_size // heads,
            ffn_units=getattr(config, self.ffn_units_attribute),
            queries=whole.queries,
            apart=whole if are_split(whole) else None,
        )


_UNITS = ("intermediate_size",)
_HEADS = ("num_attention_heads", "head_dim", *_UNITS)
_GROUPS = ("num_key_value_heads", *_HEADS)
_BERT_LAYER = bert_layer("attention.self.query", "attention.self.key", "attention.self.value")
_BERT_TABLES = tuple(f"embeddings.{kind}_embeddings" for kind in ("word", "position", "token_type"))


def _bert_like(
    name: str,
    model_types: tuple[str, ...],
    *,
    head_input: str,
    projection: str | None = None,
    positions_after_padding: bool = False,
) -> Family:
    return Family(
        name=name,
        model_types=model_types,
        layers="encoder.layer",
        branches=_BERT_LAYER,
        embedding_tables=_BERT_TABLES,
        stem=Stem(norm="embeddings.LayerNorm", head_input=head_input, projection=projection),
        positions_after_padding=positions_after_padding,
    )


def _llama_like(name: str, model_types: tuple[str, ...], branches: Branches, *, causal: bool = True) -> Family:
    return Family(
        name=name,
        model_types=model_types,
        layers="layers",
        branches=branches,
        embedding_tables=("embed_tokens",),
        rotary=True,
        causal=causal,
        stock=_GROUPS,
    )


FAMILIES: tuple[Family, ...] = (
    _bert_like("bert", ("bert",), head_input="bert.pooler.dense"),
    _bert_like(
        "roberta",
        ("roberta", "xlm-roberta", "camembert"),
        head_input="classifier.dense",
        positions_after_padding=True,
    ),
    _bert_like("electra", ("electra",), head_input="classifier.dense", projection="embeddings_project"),
    Family(
        name="distilbert",
        model_types=("distilbert",),
        layers="transformer.layer",
        branches=distilbert_layer,
        embedding_tables=("embeddings.word_embeddings", "embeddings.position_embeddings"),
        stem=Stem(norm="embeddings.LayerNorm", head_input="pre_classifier"),
        ffn_units_attribute="hidden_dim",
    ),
    Family(
        name="mpnet",
        model_types=("mpnet",),
        layers="encoder.layer",
        branches=bert_layer(
            *(f"attention.attn.{name}" for name in "qkv"),
            output="attention.attn.o",
            after="attention.LayerNorm",
            tables=("attention.attn.relative_attention_bias",),
        ),
        embedding_tables=("embeddings.word_embeddings", "embeddings.position_embeddings"),
        positions_after_padding=True,
        whole_layer="first",
        adapt=adapt_mpnet,
        refuses=refused_mpnet,
    ),
    Family(
        name="deberta-v2",
        model_types=("deberta-v2",),
        layers="encoder.layer",
        branches=bert_layer(*(f"attention.self.{name}_proj" for name in ("query", "key", "value")), entry="attention"),
        embedding_tables=_BERT_TABLES,
        stock=_UNITS,
        whole_layer="first",
        adapt=adapt_deberta,
        left_out=("embeddings.position_embeddings.weight",),
        refuses=refused_deberta,
    ),
    Family(
        name="nomic_bert",
        model_types=("nomic_bert", "gte"),
        layers="layers",
        branches=post_norm_layer("gate_proj", "up_proj", output="down_proj"),
        embedding_tables=("embeddings.word_embeddings", "embeddings.token_type_embeddings"),
        rotary=True,
        stock=_HEADS,
        refuses=refused_nomic_bert,
        remote_types={"new": "gte"},
    ),
    Family(
        name="jina_embeddings_v3",
        model_types=("jina_embeddings_v3",),
        layers="layers",
        branches=post_norm_layer("fc1", output="fc2"),
        embedding_tables=("embeddings.word_embeddings", "embeddings.token_type_embeddings"),
        rotary=True,
        stock=_HEADS,
    ),
    Family(
        name="modernbert",
        model_types=("modernbert",),
        layers="layers",
        branches=modernbert_layer,
        embedding_tables=("embeddings.tok_embeddings",),
        rotary=True,
        stock=_UNITS,
        whole_layer=None,
    ),
    _llama_like("llama", ("llama", "mistral", "seed_oss"), pre_norm_layer()),
    _llama_like("qwen3", ("qwen3",), pre_norm_layer(head_norms=True)),
    _llama_like("eurobert", ("eurobert",), pre_norm_layer(), causal=False),
    _llama_like("gemma3_text", ("gemma3_text",), pre_norm_layer(head_norms=True, norms_behind=True)),
)


def supported_model_types() -> tuple[str, ...]:
    """Every `model_type` of a transformers config that a row covers, in the table's order."""
    return tuple(model_type for family in FAMILIES for model_type in family.model_types)


def family_of(model_type: str) -> Family:
    """The row for a config's `model_type`; InputError naming it and the supported ones otherwise."""
    for family in FAMILIES:
        if model_type in family.model_types:
            return family
        if model_type in family.remote_types:
            raise InputError(
                f"models of type {model_type!r} are of code in their folder, which is not run\n"
                f"transformers has them as {family.remote_types[model_type]!r}: give a checkpoint that was converted to that type"
            )
    raise InputError(
        f"models of type {model_type!r} are not supported\nsupported types: {', '.join(supported_model_types())}"
    )
