"""Attention with relative positions for any number of heads: stand-ins for transformers' own in MPNet and DeBERTa-v2.

transformers computes both step by step and reads the number of heads off the configuration. These modules have the same
parameters under the same names, read the number of heads off their weights, and call PyTorch's fused attention. The file is also
written into the modelling file of a cut network, so it needs torch alone.

A key stands `key - query` places behind its query. Values by place are [batch, heads, tokens, 2 x tokens]: place 1 - tokens first,
place tokens last.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

_MPNET_FARTHEST = 128
"""Places beyond which MPNet's buckets of relative positions are the last ones."""

_MASKED = 0.5
"""Share of the lowest float that masked values have: it swallows every score, and ONNX Runtime gives rows of the lowest another
meaning."""


class _Rows:
    """Which row of a table of relative positions belongs to a place; `rows` has those of -farthest to farthest."""

    def __init__(self, rows: list[int]) -> None:
        self.rows = rows

    def at(self, places: Tensor) -> Tensor:
        """int64 places of any shape to int64 rows. Places farther than the farthest have its row."""
        farthest = len(self.rows) // 2
        rows = torch.tensor(self.rows, device=places.device)
        return rows.index_select(0, (places.clamp(-farthest, farthest) + farthest).flatten()).view(places.shape)


def _heads_apart(values: Tensor, size: int) -> Tensor:
    """[..., rows, heads x size] to [..., heads, rows, size]."""
    return values.view(*values.shape[:-1], -1, size).transpose(-3, -2)


def _by_key(values: Tensor) -> Tensor:
    """Values by place to values by key [batch, heads, tokens, tokens]: each row starts a place earlier than the one above it.

    Views, unlike reshapes, are exported without the number of heads.
    """
    batch, _, tokens, _ = values.shape
    flat = values.contiguous().view(batch, -1, 2 * tokens * tokens)
    rows = flat[:, :, tokens - 1 : tokens - 1 + tokens * (2 * tokens - 1)].contiguous()
    return rows.view(batch, -1, tokens, 2 * tokens - 1)[:, :, :, :tokens]


def _dropout(module: nn.Module) -> float:
    """The rate of a dropout module that is to hold now."""
    return float(module.p) if module.training else 0.0  # type: ignore[arg-type]


class MPNetAttention(nn.Module):
    """In the place of MPNetSelfAttention. Its bias by relative position is a table of its own [heads, buckets].

    transformers has one table for all layers; layers that keep different heads read different columns of it. So the model has
    heads x buckets x (layers - 1) parameters more than theirs.
    """

    def __init__(self, whole: Any, shared: nn.Embedding) -> None:
        super().__init__()
        self.attention_head_size = whole.attention_head_size
        self.q, self.k, self.v, self.o, self.dropout = whole.q, whole.k, whole.v, whole.o, whole.dropout
        table = nn.Linear(shared.num_embeddings, shared.embedding_dim, bias=False, device="meta")
        table.weight = nn.Parameter(shared.weight.detach().T.clone(memory_format=torch.contiguous_format))
        self.relative_attention_bias = table
        self.train(whole.training)

    def forward(
        self, hidden_states: Tensor, attention_mask: Tensor | None, position_bias: Tensor, **_: Any
    ) -> tuple[Tensor]:
        """[batch, tokens, hidden] and a mask to add [batch, 1, tokens, tokens] to ([batch, tokens, hidden],).

        `position_bias` has the bucket of each query and key, int64 [tokens, tokens].
        """
        batch, tokens, _hidden = hidden_states.shape
        query, key, value = (_heads_apart(m(hidden_states), self.attention_head_size) for m in (self.q, self.k, self.v))
        bias = functional.embedding(position_bias, self.relative_attention_bias.weight.T).permute(2, 0, 1)[None]
        result = functional.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=bias if attention_mask is None else bias + attention_mask,
            dropout_p=_dropout(self.dropout),
        )
        return (self.o(result.transpose(1, 2).reshape(batch, tokens, -1)),)


class DebertaAttention(nn.Module):
    """In the place of DisentangledSelfAttention, where positions are projected with the queries' and keys' own matrices.

    To the product of query and key it adds those of the query with the key's relative position and of the key with the query's.
    """

    def __init__(self, whole: Any) -> None:
        super().__init__()
        self.attention_head_size = whole.attention_head_size
        self.scale = 1 / float(torch.tensor(3 * self.attention_head_size, dtype=torch.float32, device="cpu").sqrt())
        self.query_proj, self.key_proj, self.value_proj = whole.query_proj, whole.key_proj, whole.value_proj
        self.dropout, self.pos_dropout = whole.dropout, whole.pos_dropout
        self.train(whole.training)

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor,
        *_: Any,
        relative_pos: tuple[Tensor, Tensor],
        rel_embeddings: Tensor,
        **__: Any,
    ) -> tuple[Tensor, None]:
        """[batch, tokens, hidden] and a mask, 1 where a key counts, to ([batch, tokens, heads x head size], None).

        `relative_pos` has the rows of `rel_embeddings` [positions, hidden] by place: those that queries read, then keys.
        """
        batch, tokens, _hidden = hidden_states.shape
        size = self.attention_head_size
        query, key, value = (
            _heads_apart(m(hidden_states), size) for m in (self.query_proj, self.key_proj, self.value_proj)
        )
        positions = self.pos_dropout(rel_embeddings)[None]  # axes of a stream: a graph then has its matrices once
        by_query = _heads_apart(self.key_proj(positions), size).index_select(2, relative_pos[0])
        by_key = _heads_apart(self.query_proj(positions), size).index_select(2, relative_pos[1])
        bias = _by_key(query @ by_query.transpose(-1, -2)) + _by_key(key @ by_key.transpose(-1, -2)).transpose(-1, -2)
        bias = (bias * self.scale).masked_fill(~attention_mask.bool(), _MASKED * torch.finfo(bias.dtype).min)
        result = functional.scaled_dot_product_attention(
            query, key, value, attn_mask=bias, dropout_p=_dropout(self.dropout), scale=self.scale
        )
        return result.transpose(1, 2).reshape(batch, tokens, -1), None


class _MPNetBuckets(_Rows):
    """In the place of `MPNetEncoder.compute_position_bias`."""

    def __call__(self, hidden_states: Tensor) -> Tensor:
        """From a stream [batch, tokens, hidden]: int64 [tokens, tokens]."""
        tokens = torch.arange(hidden_states.shape[1], device=hidden_states.device)
        return self.at(tokens[None, :] - tokens[:, None])


class _DebertaRows(_Rows):
    """In the place of `DebertaV2Encoder.get_rel_pos`."""

    def __call__(self, hidden_states: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
        """From a stream [batch, tokens, hidden]: int64 [2 x tokens] by place, the rows that queries read and those that keys read."""
        tokens = hidden_states.shape[1]
        places = torch.arange(1 - tokens, tokens + 1, device=hidden_states.device)
        return self.at(places), self.at(-places)


def adapt_mpnet(backbone: Any) -> None:
    """Replace the attention of every layer of transformers' MPNet, in place; the shared bias becomes a table a layer."""
    encoder = backbone.base_model.encoder
    with torch.device("cpu"):
        places = torch.arange(-_MPNET_FARTHEST, _MPNET_FARTHEST + 1)
        buckets = encoder.relative_position_bucket(places).tolist()
    for layer in encoder.layer:
        layer.attention.attn = MPNetAttention(layer.attention.attn, encoder.relative_attention_bias)
    del encoder.relative_attention_bias
    encoder.compute_position_bias = _MPNetBuckets(buckets)


def adapt_deberta(backbone: Any) -> None:
    """Replace the attention of every layer of transformers' DeBERTa-v2, in place."""
    encoder = backbone.base_model.encoder
    positions, farthest = encoder.layer[0].attention.self.pos_ebd_size, encoder.max_relative_positions
    with torch.device("cpu"):
        one, many = torch.empty(1, 1, 1), torch.empty(1, farthest + 1, 1)
        before, behind = encoder.get_rel_pos(one, many).flatten(), encoder.get_rel_pos(many, one).flatten()
        buckets = torch.cat([before.flip(0), behind[1:]])
        rows = (positions + buckets).clamp(0, 2 * positions - 1).tolist()
    for layer in encoder.layer:
        layer.attention.self = DebertaAttention(layer.attention.self)
    encoder.get_rel_pos = _DebertaRows(rows)
