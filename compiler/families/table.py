"""The families paretoc knows: one row each, which describes the branches of a layer and what lies outside the layers.

These families are post-norm: a dropped branch returns its input, and the norm over its residual sum goes too.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from compiler.families.branch import Branch, Matrix
from targets.errors import InputError


class Sizes(NamedTuple):
    """What the branches of a layer are built from: heads, rows of a head in a projection, and FFN units."""

    heads: int
    head_size: int
    ffn_units: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """One row: the branches of a layer, named from the layer, and what reads or writes the stream outside the layers.

    Embeddings and their norm count from the encoder model, `head_input` from the model with a task head: the one matrix of
    the head that reads the encoder's output. The first of the tables is that of words.
    `embedding_projection` is there where embeddings have a size of their own.
    """

    name: str
    model_types: tuple[str, ...]
    layers: str
    branches: Callable[[Sizes], tuple[Branch, ...]]
    ffn_units_attribute: str
    embedding_tables: tuple[str, ...]
    embedding_norm: str
    head_input: str
    embedding_projection: str | None = None
    positions_after_padding: bool = False


def _bert_branches(sizes: Sizes) -> tuple[Branch, ...]:
    attention_norm, ffn_norm = "attention.output.LayerNorm", "output.LayerNorm"
    return (
        Branch(
            piece="attention",
            groups=sizes.heads,
            entry="attention.self.query",
            reads=tuple(Matrix(f"attention.self.{kind}", sizes.head_size) for kind in ("query", "key", "value")),
            output=Matrix("attention.output.dense", sizes.head_size),
            after=attention_norm,
            norms=(attention_norm,),
            without={"attention": "first"},
        ),
        Branch(
            piece="ffn",
            groups=sizes.ffn_units,
            entry="intermediate.dense",
            reads=(Matrix("intermediate.dense", 1),),
            output=Matrix("output.dense", 1),
            after=ffn_norm,
            norms=(ffn_norm,),
            without={"intermediate": "identity", "output": "second"},
        ),
    )


def _distilbert_branches(sizes: Sizes) -> tuple[Branch, ...]:
    return (
        Branch(
            piece="attention",
            groups=sizes.heads,
            entry="attention.q_lin",
            reads=tuple(Matrix(f"attention.{kind}_lin", sizes.head_size) for kind in "qkv"),
            output=Matrix("attention.out_lin", sizes.head_size),
            after="sa_layer_norm",
            norms=("sa_layer_norm",),
            without={"attention": "no_attention", "sa_layer_norm": "identity"},
        ),
        Branch(
            piece="ffn",
            groups=sizes.ffn_units,
            entry="ffn.lin1",
            reads=(Matrix("ffn.lin1", 1),),
            output=Matrix("ffn.lin2", 1),
            after="output_layer_norm",
            norms=("output_layer_norm",),
            without={"ffn": "zero", "output_layer_norm": "identity"},
        ),
    )


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
        branches=_bert_branches,
        ffn_units_attribute="intermediate_size",
        embedding_tables=tuple(f"embeddings.{kind}_embeddings" for kind in ("word", "position", "token_type")),
        embedding_norm="embeddings.LayerNorm",
        head_input=head_input,
        embedding_projection=embedding_projection,
        positions_after_padding=positions_after_padding,
    )


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
        branches=_distilbert_branches,
        ffn_units_attribute="hidden_dim",
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
