"""Settings of MPNet and DeBERTa-v2 under which a model is not supported, read off a transformers configuration."""

from typing import Any

_PADDING = 1
_BUCKETS = 32
_MOST_POSITIONS = 2**16


def refused_mpnet(config: Any) -> str | None:
    """Why an MPNet is not supported: transformers fixes two numbers that its configuration states."""
    if config.pad_token_id != _PADDING:
        return f"pad_token_id is {config.pad_token_id}: transformers counts an MPNet's positions from {_PADDING} on"
    if config.relative_attention_num_buckets < _BUCKETS:
        return (
            f"relative_attention_num_buckets is {config.relative_attention_num_buckets}: transformers reads {_BUCKETS}"
        )
    return None


def refused_deberta(config: Any) -> str | None:
    """Why a DeBERTa-v2 is not supported: it must have relative positions of both kinds, projected with the layers' own matrices."""
    kinds, heads = set(config.pos_att_type or ()), config.num_attention_heads
    size = getattr(config, "attention_head_size", config.hidden_size // heads)
    wanted = {
        "relative_attention": (config.relative_attention, True),
        "share_att_key": (getattr(config, "share_att_key", False), True),
        "pos_att_type": (sorted(kinds), ["c2p", "p2c"]),
        "conv_kernel_size": (max(getattr(config, "conv_kernel_size", 0), 0), 0),
        "attention_head_size": (size, config.hidden_size // heads),
    }
    for name, (found, supported) in wanted.items():
        if found != supported:
            return f"{name} is {found}; supported: {supported}"
    return _refused_positions(config)


def _refused_positions(config: Any) -> str | None:
    """The same of the sizes of its relative positions: a table of them must end where distances do."""
    most, buckets = getattr(config, "max_relative_positions", -1), getattr(config, "position_buckets", -1)
    most = config.max_position_embeddings if most < 1 else most
    if most > _MOST_POSITIONS:
        return f"max_relative_positions is {most:,}: {_MOST_POSITIONS:,} are the most"
    if buckets > 0 and (buckets % 2 or buckets // 2 >= most - 1):
        return f"position_buckets is {buckets}: supported are even numbers below {2 * most - 2}"
    return None
