"""Sizes of a network as settings of a transformers configuration: each layer's own, and the model's where all are equal."""

import copy
import inspect
from collections.abc import Mapping
from typing import Any

from compiler.families import PIECES, Checkpoint, family_of
from compiler.families.branch import Piece
from compiler.spaces import Shape
from profilers import attention_sizes
from targets.errors import InputError

_HEADS, _GROUPS, _UNITS = "num_attention_heads", "num_key_value_heads", "intermediate_size"
_SKIP: dict[Piece, str] = {"attention": "attention", "ffn": "mlp"}
"""How transformers' `per_layer_config` says that a layer has no such branch."""


def settings_of(checkpoint: Checkpoint, piece: Piece, size: int) -> dict[str, int]:
    """The settings that say the size of a branch."""
    if piece == "ffn":
        return {_UNITS: size}
    kept = attention_sizes(checkpoint.architecture.whole_heads)[size]
    heads = {_HEADS: kept.query_heads}
    return heads if getattr(checkpoint.config, _GROUPS, None) is None else {**heads, _GROUPS: kept.groups}


def described(checkpoint: Checkpoint, piece: Piece) -> tuple[str, str, str | None]:
    """The word of `skip` for a branch, the setting that is its number of groups, and that of slots where groups are cut apart."""
    if piece == "ffn":
        return _SKIP[piece], _UNITS, None
    architecture = checkpoint.architecture
    size = _HEADS if architecture.queries == 1 else _GROUPS
    return _SKIP[piece], size, None if architecture.apart is None else _HEADS


def describe_layers(checkpoint: Checkpoint, shape: Shape) -> list[dict[str, Any]]:
    """What each layer of a network keeps, in the words of transformers' `per_layer_config`."""
    layers = []
    for sizes in shape:
        kept = dict(zip(PIECES, sizes, strict=True))
        own: dict[str, Any] = {
            name: value
            for piece, size in kept.items()
            if size
            for name, value in settings_of(checkpoint, piece, size).items()
        }
        skip = [_SKIP[piece] for piece, size in kept.items() if not size]
        layers.append(own | ({"skip": skip} if skip else {}))
    return layers


def lacks_pooler(checkpoint: Checkpoint) -> bool:
    """Whether transformers' class makes a pooler, unless told otherwise, that the network does without: embeddings pool over tokens."""
    asked = inspect.signature(type(checkpoint.model.backbone)).parameters.get("add_pooling_layer")
    return not checkpoint.task.head and asked is not None and bool(asked.default)


def stock_settings(checkpoint: Checkpoint, shape: Shape) -> dict[str, int] | None:
    """The settings that make a network transformers' own class, other than the dense model's; empty for the whole network.

    None where layers are unequal, one lacks a branch, the family's configuration cannot say it, or the class has a pooler whose
    weights are gone.
    """
    architecture = checkpoint.architecture
    if not architecture.family.stock or lacks_pooler(checkpoint) or len(set(shape)) != 1 or not all(shape[0]):
        return None
    sizes: dict[str, int] = {}
    for piece, size, dense in zip(PIECES, shape[0], architecture.largest, strict=True):
        if size == dense:
            continue
        sizes |= settings_of(checkpoint, piece, size)
        if piece == "attention":
            sizes["head_dim"] = architecture.head_size
    if set(sizes) - set(architecture.family.stock):
        return None
    return sizes if _is_valid(checkpoint.config, sizes) else None


def _is_valid(config: Any, settings: Mapping[str, int]) -> bool:
    """Whether the configuration's class takes them: some want the hidden size to be a multiple of the heads."""
    from huggingface_hub.errors import StrictDataclassError

    try:
        type(config).from_dict(config.to_dict() | settings)
    except (StrictDataclassError, ValueError):
        return False
    return True


def plain_config(config: Any) -> Any:
    """A copy of a configuration that names no code and no layers of ours."""
    plain = copy.deepcopy(config)
    for name in ("subnet", "auto_map"):
        if hasattr(plain, name):
            delattr(plain, name)
    return plain


def dense_sizes(checkpoint: Checkpoint, settings: Mapping[str, int]) -> dict[str, int]:
    """What the dense model's configuration has instead of a stock form's settings; the size of a head is the same in both."""
    return {name: getattr(checkpoint.config, name) for name in settings if name != "head_dim"}


def dense_config(config: Any, sizes: Mapping[str, int], name: str) -> Any:
    """The configuration of the model that a network was cut from; `sizes` are what `dense_sizes` gave.

    InputError where one is no setting of a stock form of the family; `name` is what the message calls their file.
    """
    stock = family_of(config.model_type).stock
    if odd := next((size for size in sizes if size not in stock), None):
        raise InputError(f"{name} is damaged: {odd!r} is no size of {config.model_type}")
    dense = plain_config(config)
    for setting, value in sizes.items():
        setattr(dense, setting, value)
    return dense
