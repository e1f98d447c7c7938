"""The declared form of config.json: bounds of its sizes, settings that are honoured, and settings that are refused by name."""

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import Field
from typing_extensions import TypedDict

from compiler.families.table import FAMILIES, family_of
from targets.errors import InputError
from targets.json_file import conforming

MOST_LABELS = 100_000
_FLOATS = ("float32", "float16", "bfloat16", "float64")

_Layers = Annotated[int, Field(ge=0, le=1024)]
_Layer = Annotated[int, Field(ge=1, le=1024)]
_Heads = Annotated[int, Field(ge=1, le=1024)]
_Width = Annotated[int, Field(ge=1, le=2**17)]
_Units = Annotated[int, Field(ge=1, le=2**20)]
_Rows = Annotated[int, Field(ge=1, le=2**24)]
_Rate = Annotated[float, Field(ge=0, le=1)]
_Token = Annotated[int, Field(ge=0)] | None
_Epsilon = Annotated[float, Field(gt=0, le=1)]
_Window = Annotated[int, Field(ge=1, le=2**24)]
_Theta = Annotated[float, Field(ge=1, le=1e12)]


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
    bos_token_id: _Token | list[int]
    eos_token_id: _Token | list[int]
    layer_norm_eps: _Epsilon
    norm_eps: _Epsilon
    rms_norm_eps: _Epsilon
    num_key_value_heads: _Heads | None
    head_dim: _Heads | None
    attention_bias: bool | None
    mlp_bias: bool | None
    norm_bias: bool | None
    rope_theta: _Theta | None
    global_rope_theta: _Theta | None
    local_rope_theta: _Theta | None
    rope_local_base_freq: _Theta | None
    rope_parameters: dict[str, Any] | None
    rope_scaling: dict[str, Any] | None
    partial_rotary_factor: Annotated[float, Field(gt=0, le=1)] | None
    sliding_window: _Window | None
    use_sliding_window: bool | None
    max_window_layers: _Layers | None
    sliding_window_pattern: _Layer | None
    layer_types: Annotated[list[str], Field(max_length=1024)] | None
    global_attn_every_n_layers: _Layer
    local_attention: Annotated[int, Field(ge=2, le=2**24)]
    query_pre_attn_scalar: Annotated[float, Field(gt=0, le=2**20)]
    use_bidirectional_attention: bool | None
    tie_word_embeddings: bool | None
    use_cache: bool | None
    initializer_range: Annotated[float, Field(ge=0, le=1000)]
    hidden_act: str
    hidden_activation: str | None
    activation: str
    classifier_activation: str
    classifier_pooling: str
    hidden_dropout_prob: _Rate
    attention_probs_dropout_prob: _Rate
    dropout: _Rate
    attention_dropout: _Rate | None
    seq_classif_dropout: _Rate
    classifier_dropout: _Rate | None
    embedding_dropout: _Rate
    mlp_dropout: _Rate
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
    "attn_logit_softcapping": "a model whose attention scores are soft-capped",
    "alibi": "a model with ALiBi, whose attention scores fall with distance",
    "alibi_starting_size": "a model with ALiBi, whose attention scores fall with distance",
    "lora_adaptations": "a model with an adapter for each task, which are not merged",
    "transformers_weights": "a model whose weights have a name of their own",
}
"""Settings that change values in a way that is not supported, where they are set: what they make of a model."""


def checked_settings(raw: Any, name: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Settings of config.json that can be handed to transformers, and notes on what was set otherwise.

    InputError where a setting is of another type, out of bounds, or means what is not supported.
    """
    settings: dict[str, Any] = conforming(raw, dict[str, Any], name=name)
    conforming(settings, Declared, name=name)
    family = family_of(settings["model_type"]) if "model_type" in settings else None
    for key, what in _REFUSED.items():
        if settings.get(key) and not (key == "is_decoder" and family is not None and family.causal):
            raise InputError(f"{name}: {key} makes it {what}; that is not supported{_instead(key, settings[key])}")
    _refuse_experts(settings, name)
    _check_positions(settings, name, rotary=family is not None and family.rotary)
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


def _refuse_experts(settings: Mapping[str, Any], name: str) -> None:
    """InputError where layers have several FFNs, of which each token takes some."""
    for key in ("num_experts", "num_local_experts", "n_routed_experts"):
        count = settings.get(key)
        if isinstance(count, int) and count > 1 and (settings.get("moe_every_n_layers") or 1) > 0:
            raise InputError(
                f"{name}: {key} makes it a mixture of {count} experts; that is not supported\n"
                "give a dense model: one whose layers have one FFN each"
            )


def _check_positions(settings: Mapping[str, Any], name: str, *, rotary: bool) -> None:
    """InputError where positions are of another kind than transformers' class of the type has."""
    position = settings.get("position_embedding_type") or "absolute"
    if position == "absolute" or (rotary and position in _ROTARY):
        return
    other = ""
    if position in _ROTARY:
        types = [each for family in FAMILIES if family.rotary and not family.causal for each in family.model_types]
        other = f"\ntypes of transformers with rotary positions: {', '.join(types)}: give a checkpoint of one of them"
    raise InputError(f"{name}: position_embedding_type {position!r} is not supported; supported: absolute{other}")


_ROTARY = ("rotary", "rope")
"""What code in model folders calls rotary positions, which a family has or has not."""


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
