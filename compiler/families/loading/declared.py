"""The declared form of config.json: bounds of its sizes, settings that are honoured, and settings that are refused by name."""

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import Field
from typing_extensions import TypedDict

from targets.errors import InputError
from targets.json_file import conforming

MOST_LABELS = 100_000
_FLOATS = ("float32", "float16", "bfloat16", "float64")

_Layers = Annotated[int, Field(ge=0, le=1024)]
_Heads = Annotated[int, Field(ge=1, le=1024)]
_Width = Annotated[int, Field(ge=1, le=2**17)]
_Units = Annotated[int, Field(ge=1, le=2**20)]
_Rows = Annotated[int, Field(ge=1, le=2**24)]
_Rate = Annotated[float, Field(ge=0, le=1)]
_Token = Annotated[int, Field(ge=0)] | None


class Declared(TypedDict, total=False):
    """Settings of config.json that say what a model is, with bounds; others may be there."""

    model_type: str
    architectures: list[str] | None
    hidden_size: _Width
    dim: _Width
    num_hidden_layers: _Layers
    n_layers: _Layers
    num_attention_heads: _Heads
    n_heads: _Heads
    intermediate_size: _Units
    hidden_dim: _Units
    embedding_size: _Width
    vocab_size: Annotated[int, Field(ge=2, le=2**24)]
    max_position_embeddings: _Rows
    type_vocab_size: Annotated[int, Field(ge=0, le=1024)]
    pad_token_id: _Token
    layer_norm_eps: Annotated[float, Field(gt=0, le=1)]
    initializer_range: Annotated[float, Field(ge=0, le=1000)]
    hidden_act: str
    activation: str
    hidden_dropout_prob: _Rate
    attention_probs_dropout_prob: _Rate
    dropout: _Rate
    attention_dropout: _Rate
    seq_classif_dropout: _Rate
    classifier_dropout: _Rate | None
    num_labels: Annotated[int, Field(ge=1, le=MOST_LABELS)] | None
    id2label: Annotated[dict[str, str | int | float | bool], Field(max_length=MOST_LABELS)] | None
    label2id: Annotated[dict[str, str | int], Field(max_length=MOST_LABELS)] | None
    problem_type: str | None
    dtype: str | None
    torch_dtype: str | None
    chunk_size_feed_forward: int
    return_dict: bool | None
    output_hidden_states: bool | None
    output_attentions: bool | None
    is_decoder: bool | None
    is_encoder_decoder: bool | None
    add_cross_attention: bool | None
    position_embedding_type: str | None
    pruned_heads: dict[str, list[int]] | None


_FORCED: dict[str, tuple[Any, str]] = {
    "chunk_size_feed_forward": (0, "the FFN is not computed in chunks"),
    "return_dict": (True, "outputs are read by name"),
    "output_hidden_states": (False, "hidden states are no output"),
    "output_attentions": (False, "attention weights are no output"),
    "torchscript": (False, "TorchScript plays no part"),
}
"""Settings that change how a model is called and none of its values: what they are set to, and what a note says."""

_REFUSED: dict[str, str] = {
    "is_decoder": "a decoder, whose tokens see only those before them",
    "is_encoder_decoder": "an encoder with a decoder",
    "add_cross_attention": "a decoder that attends to an encoder",
    "pruned_heads": "a model whose heads were pruned by transformers 4, which version 5 cannot load",
    "quantization_config": "a quantised model, whose weights cannot be cut",
    "per_layer_config": "a model whose layers have settings of their own",
    "fusion_config": "a model with fused modules",
    "transformers_weights": "a model whose weights have a name of their own",
}
"""Settings that change values in a way that is not supported, where they are set: what they make of a model."""


def checked_settings(raw: Any, name: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Settings of config.json that can be handed to transformers, and notes on what was set otherwise.

    InputError where a setting is of another type, out of bounds, or means what is not supported.
    """
    settings: dict[str, Any] = conforming(raw, dict[str, Any], name=name)
    conforming(settings, Declared, name=name)
    for key, what in _REFUSED.items():
        if settings.get(key):
            raise InputError(f"{name}: {key} makes it {what}; that is not supported{_instead(key, settings[key])}")
    position = settings.get("position_embedding_type") or "absolute"
    if position != "absolute":
        raise InputError(f"{name}: position_embedding_type {position!r} is not supported; supported: absolute")
    notes = list(_force(settings))
    for key in ("dtype", "torch_dtype"):
        _check_type(settings, key, name)
    _check_label_numbers(settings, name)
    return settings, tuple(notes)


def _instead(key: str, value: Any) -> str:
    if key != "quantization_config":
        return ""
    method = value.get("quant_method") if isinstance(value, Mapping) else None
    return f"\nits method is {method!r}: give the model before quantisation; --target NAME:int8 quantises here"


def _force(settings: dict[str, Any]) -> Iterator[str]:
    """Set what only says how a model is called to what is needed here; a note for each that was otherwise."""
    for key, (value, meaning) in _FORCED.items():
        if key in settings and settings[key] != value:
            yield f"config.json: {key} {str(settings[key]).lower()} is not followed: {meaning}"
            settings[key] = value


def _check_type(settings: dict[str, Any], key: str, name: str) -> None:
    if settings.get(key) is None:
        return
    settings[key] = settings[key].removeprefix("torch.")
    if settings[key] not in _FLOATS:
        raise InputError(f"{name}: {key} {settings[key]!r} is not supported; supported: {', '.join(_FLOATS)}")


def _check_label_numbers(settings: dict[str, Any], name: str) -> None:
    """InputError where keys of id2label are no numbers; names that are numbers become text."""
    names = settings.get("id2label")
    if names is None:
        return
    if odd := [key for key in names if not re.fullmatch(r"\d{1,9}", key, re.ASCII)]:
        raise InputError(f"{name}: id2label has {odd[0]!r} where the number of an output belongs")
    settings["id2label"] = {key: value if isinstance(value, str) else str(value) for key, value in names.items()}
