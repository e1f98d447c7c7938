"""The families paretoc knows: one row each, names only.

A row says where one encoder layer keeps its parts, relative to the layer, and which modules stand in when a sub-block
is dropped. A dropped sub-block returns its input; these families are post-norm, so the norm after it goes too.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from targets.errors import InputError

StandIn = Literal["identity", "first", "second", "no_attention", "zero"]
"""identity: x -> x; first: (x, ...) -> (x, None); second: (x, y) -> y; no_attention: (x, ...) -> (0, None); zero: x -> 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """One row: the names of a family's parts inside one encoder layer, and of what reads or writes its stream outside.

    Embeddings and their norm count from the encoder model, `head_input` from the model with a task head: the one matrix of
    the head that reads the encoder's output. The first of the tables is that of words.
    `embedding_projection` is there where embeddings have a size of their own.
    """

    name: str
    model_types: tuple[str, ...]
    layers: str
    query: str
    key: str
    value: str
    attention_output: str
    attention_norm: str
    ffn_input: str
    ffn_output: str
    ffn_norm: str
    ffn_units_attribute: str
    without_attention: Mapping[str, StandIn]
    without_ffn: Mapping[str, StandIn]
    embedding_tables: tuple[str, ...]
    embedding_norm: str
    head_input: str
    embedding_projection: str | None = None
    positions_after_padding: bool = False

    @property
    def residual_axes(self) -> dict[str, int]:
        """By module of a layer, the axis of its weight that has residual dimensions: 1 where it reads them, else 0."""
        return {getattr(self, part): axis for part, axis in _AXES.items()}


def _bert_like(
    name: str,
    model_types: tuple[str, ...],
    *,
    head_input: str,
    embedding_projection: str | None = None,
    positions_after_padding: bool = False,
) -> Family:
    return Family(
        name=name,
        model_types=model_types,
        layers="encoder.layer",
        query="attention.self.query",
        key="attention.self.key",
        value="attention.self.value",
        attention_output="attention.output.dense",
        attention_norm="attention.output.LayerNorm",
        ffn_input="intermediate.dense",
        ffn_output="output.dense",
        ffn_norm="output.LayerNorm",
        ffn_units_attribute="intermediate_size",
        without_attention={"attention": "first"},
        without_ffn={"intermediate": "identity", "output": "second"},
        embedding_tables=tuple(f"embeddings.{kind}_embeddings" for kind in ("word", "position", "token_type")),
        embedding_norm="embeddings.LayerNorm",
        head_input=head_input,
        embedding_projection=embedding_projection,
        positions_after_padding=positions_after_padding,
    )


# Along which axis of its weight a module of a layer has residual dimensions: 1 where it reads them, 0 where it writes them.
_AXES = {
    "query": 1,
    "key": 1,
    "value": 1,
    "attention_output": 0,
    "attention_norm": 0,
    "ffn_input": 1,
    "ffn_output": 0,
    "ffn_norm": 0,
}

FAMILIES: tuple[Family, ...] = (
    _bert_like("bert", ("bert",), head_input="bert.pooler.dense"),
    _bert_like(
        "roberta",
        ("roberta", "xlm-roberta", "camembert"),
        head_input="classifier.dense",
        positions_after_padding=True,
    ),
    _bert_like("electra", ("electra",), head_input="classifier.dense", embedding_projection="embeddings_project"),
    Family(
        name="distilbert",
        model_types=("distilbert",),
        layers="transformer.layer",
        query="attention.q_lin",
        key="attention.k_lin",
        value="attention.v_lin",
        attention_output="attention.out_lin",
        attention_norm="sa_layer_norm",
        ffn_input="ffn.lin1",
        ffn_output="ffn.lin2",
        ffn_norm="output_layer_norm",
        ffn_units_attribute="hidden_dim",
        without_attention={"attention": "no_attention", "sa_layer_norm": "identity"},
        without_ffn={"ffn": "zero", "output_layer_norm": "identity"},
        embedding_tables=("embeddings.word_embeddings", "embeddings.position_embeddings"),
        embedding_norm="embeddings.LayerNorm",
        head_input="pre_classifier",
    ),
)


def supported_model_types() -> tuple[str, ...]:
    """Every `model_type` of a transformers config that a row covers, in the table's order."""
    return tuple(model_type for family in FAMILIES for model_type in family.model_types)


def family_of(model_type: str) -> Family:
    """The row for a config's `model_type`; InputError naming it and the supported ones otherwise."""
    for family in FAMILIES:
        if model_type in family.model_types:
            return family
    raise InputError(
        f"models of type {model_type!r} are not supported\nsupported types: {', '.join(supported_model_types())}"
    )
