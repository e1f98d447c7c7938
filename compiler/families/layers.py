"""How layers are built: the branches of one layer by the kind of its architecture, modules named from the layer.

Three kinds serve all families: BERT's, post-norm with modules of self-attention; one with `self_attn` and `mlp`, its norms
behind the residual sums; and one with its norms before the branches, or before and behind them.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import NamedTuple

from compiler.families.branch import Branch, Matrix
from profilers import Heads


class Sizes(NamedTuple):
    """What the branches of a layer are built from.

    `heads` are key-value heads, each with `queries` query heads that read it; `head_size` are the rows of one in a projection.
    `apart` are the heads of the whole model where the query heads of a group are cut apart.
    """

    heads: int
    head_size: int
    ffn_units: int
    queries: int = 1
    apart: Heads | None = None

    def query_heads(self, module: str) -> Matrix:
        """A matrix with the rows of every query head of a group."""
        return Matrix(module, self.queries * self.head_size, slots=1 if self.apart is None else self.queries)


Branches = Callable[[Sizes, int], tuple[Branch, ...]]
"""The branches of a layer, in the order of computation, from its sizes and its number (0-based)."""


def bert_layer(
    *projections: str,
    output: str = "attention.output.dense",
    entry: str | None = None,
    after: str | None = None,
    tables: tuple[str, ...] = (),
) -> Branches:
    """BERT's layer; `projections` are its query, key and value, `entry` what first reads the stream, `after` attention's norm.

    `tables` have one row a head.
    """
    norm = after or output.replace("dense", "LayerNorm")
    return partial(_bert_branches, projections, output, entry or projections[0], norm, tables)


def _bert_branches(
    projections: tuple[str, ...], output: str, entry: str, norm: str, tables: tuple[str, ...], sizes: Sizes, _: int
) -> tuple[Branch, ...]:
    return (
        Branch(
            piece="attention",
            groups=sizes.heads,
            entry=entry,
            reads=tuple(Matrix(projection, sizes.head_size) for projection in projections),
            output=Matrix(output, sizes.head_size),
            after=norm,
            norms=(norm,),
            tables=tuple(Matrix(table, 1) for table in tables),
            without={"attention": "first"},
        ),
        Branch(
            piece="ffn",
            groups=sizes.ffn_units,
            entry="intermediate.dense",
            reads=(Matrix("intermediate.dense", 1),),
            output=Matrix("output.dense", 1),
            after="output.LayerNorm",
            norms=("output.LayerNorm",),
            without={"intermediate": "identity", "output": "second"},
        ),
    )


def distilbert_layer(sizes: Sizes, _: int) -> tuple[Branch, ...]:
    """DistilBERT's layer: that of BERT under other names."""
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


def post_norm_layer(*reads: str, output: str) -> Branches:
    """`self_attn` and `mlp`, each with a norm over its residual sum; `reads` and `output` are the matrices of the FFN."""
    return partial(_post_norm_branches, reads, output)


def _post_norm_branches(reads: tuple[str, ...], output: str, sizes: Sizes, _: int) -> tuple[Branch, ...]:
    return (
        Branch(
            piece="attention",
            groups=sizes.heads,
            entry="self_attn.q_proj",
            reads=_projections("self_attn", sizes),
            output=Matrix("self_attn.o_proj", sizes.head_size),
            after="post_attention_layernorm",
            norms=("post_attention_layernorm",),
            without={"self_attn": "no_attention", "post_attention_layernorm": "identity"},
        ),
        Branch(
            piece="ffn",
            groups=sizes.ffn_units,
            entry="mlp",
            reads=tuple(Matrix(f"mlp.{name}", 1) for name in reads),
            output=Matrix(f"mlp.{output}", 1),
            after="post_mlp_layernorm",
            norms=("post_mlp_layernorm",),
            without={"mlp": "zero", "post_mlp_layernorm": "identity"},
        ),
    )


def _projections(module: str, sizes: Sizes) -> tuple[Matrix, ...]:
    """Query, key and value, the query with the rows of every query head of a group."""
    shared = (Matrix(f"{module}.{kind}_proj", sizes.head_size) for kind in "kv")
    return sizes.query_heads(f"{module}.q_proj"), *shared


def pre_norm_layer(*, head_norms: bool = False, norms_behind: bool = False) -> Branches:
    """Llama's layer: norms before the branches, an FFN with a gate, query heads that share key-value heads.

    `head_norms` says that queries and keys have norms of their own, `norms_behind` that what a branch adds has one.
    """
    return partial(_pre_norm_branches, head_norms, norms_behind)


def _pre_norm_branches(head_norms: bool, norms_behind: bool, sizes: Sizes, _: int) -> tuple[Branch, ...]:
    before_ffn = "pre_feedforward_layernorm" if norms_behind else "post_attention_layernorm"
    attention = Branch(
        piece="attention",
        groups=sizes.heads,
        entry="input_layernorm",
        reads=_projections("self_attn", sizes),
        output=sizes.query_heads("self_attn.o_proj"),
        norms=("input_layernorm",),
        others=("self_attn.q_norm", "self_attn.k_norm") if head_norms else (),
        without={"self_attn": "no_attention", "input_layernorm": "identity"},
        slot_counts=("self_attn.num_key_value_groups",) if sizes.apart else (),
        heads=sizes.apart,
    )
    ffn = Branch(
        piece="ffn",
        groups=sizes.ffn_units,
        entry=before_ffn,
        reads=(Matrix("mlp.gate_proj", 1), Matrix("mlp.up_proj", 1)),
        output=Matrix("mlp.down_proj", 1),
        norms=(before_ffn,),
        without={"mlp": "zero", before_ffn: "identity"},
    )
    if not norms_behind:
        return attention, ffn
    return _with_norm(attention, "post_attention_layernorm"), _with_norm(ffn, "post_feedforward_layernorm")


def _with_norm(branch: Branch, behind: str) -> Branch:
    """The branch with a norm over what it adds."""
    return replace(branch, behind=behind, norms=(*branch.norms, behind), without={**branch.without, behind: "identity"})


def modernbert_layer(sizes: Sizes, layer: int) -> tuple[Branch, ...]:
    """ModernBERT's layer: norms before the branches, query, key and value in one matrix, and an FFN's gate with its values.

    The first layer's attention has no norm: it reads what that of the embeddings wrote.
    """
    return (
        Branch(
            piece="attention",
            groups=sizes.heads,
            entry="attn_norm",
            reads=(Matrix("attn.Wqkv", sizes.head_size, copies=3),),
            output=Matrix("attn.Wo", sizes.head_size),
            norms=("attn_norm",) if layer else (),
            without={"attn": "no_attention", "attn_norm": "identity"},
        ),
        Branch(
            piece="ffn",
            groups=sizes.ffn_units,
            entry="mlp_norm",
            reads=(Matrix("mlp.Wi", 1, copies=2),),
            output=Matrix("mlp.Wo", 1),
            norms=("mlp_norm",),
            without={"mlp": "zero", "mlp_norm": "identity"},
        ),
    )
