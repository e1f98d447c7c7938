"""Sizes and positions that a configuration says, held against each other and against the model that transformers makes of it."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

from pydantic import Field
from torch import nn
from typing_extensions import TypedDict

from compiler.families.table import family_of
from targets.errors import InputError
from targets.json_file import conforming

ROTARY = ("default", "linear", "llama3", "yarn")
"""Kinds of rotary positions whose frequencies are the same for texts of every length."""

LAYERS = ("full_attention", "sliding_attention")
"""Kinds of attention layers, of `layer_types`."""

_Factor = Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)]


class _Rotary(TypedDict, total=False):
    rope_type: str
    rope_theta: Annotated[float, Field(ge=1, le=1e12, allow_inf_nan=False)]
    factor: _Factor
    original_max_position_embeddings: Annotated[int, Field(ge=1, le=2**24)]
    low_freq_factor: _Factor
    high_freq_factor: _Factor
    beta_fast: _Factor | None
    beta_slow: _Factor | None
    attention_factor: _Factor | None
    partial_rotary_factor: Annotated[float, Field(gt=0, le=1)]


def check_sizes(config: Any, settings: Mapping[str, Any], name: str) -> None:
    """InputError where sizes of a configuration do not fit each other; `settings` are those of its file."""
    if config.num_hidden_layers == 0:
        raise InputError(f"{name}: num_hidden_layers is 0: there is no layer to cut")
    heads, own = config.num_attention_heads, settings.get("head_dim")
    derived = getattr(config, "head_dim", None) in (None, config.hidden_size // heads)
    if own is None and derived and config.hidden_size % heads:
        raise InputError(f"{name}: hidden_size {config.hidden_size} is no multiple of {heads} attention heads")
    family = family_of(config.model_type)
    if own is not None and family.rotary and not family.head_dim(config) and own * heads != config.hidden_size:
        raise InputError(
            f"{name}: head_dim {own} in config.json, {config.model_type} makes it {config.hidden_size // heads}"
        )
    groups = getattr(config, "num_key_value_heads", None) or heads
    if heads % groups:
        raise InputError(f"{name}: {heads} attention heads are no multiple of num_key_value_heads {groups}")
    pad = config.pad_token_id
    if pad is not None and pad >= config.vocab_size:
        raise InputError(f"{name}: pad_token_id {pad} is outside the vocabulary of {config.vocab_size:,}")


def check_positions(config: Any, name: str) -> None:
    """InputError where positions are of a kind that is not supported, or none is left for tokens."""
    family = family_of(config.model_type)
    if family.positions_after_padding:
        _check_counted(config, name)
    if family.rotary:
        _check_rotary(config, name)
    kinds = getattr(config, "layer_types", None) or ()
    if odd := next((kind for kind in kinds if kind not in LAYERS), None):
        raise InputError(f"{name}: layer_types has {odd!r}; supported: {', '.join(LAYERS)}")


def _check_counted(config: Any, name: str) -> None:
    """InputError where a family counts positions from the padding id on, and there is none or nothing is left."""
    if config.pad_token_id is None:
        raise InputError(f"{name}: pad_token_id is missing, from which {config.model_type} counts positions")
    if config.max_position_embeddings <= config.pad_token_id + 2:
        raise InputError(
            f"{name}: {config.max_position_embeddings} positions, counted from pad_token_id {config.pad_token_id} on: "
            "none is left for tokens"
        )


def _check_rotary(config: Any, name: str) -> None:
    """InputError where frequencies depend on the text, or a number that they are made of is out of bounds."""
    for parameters in _rotary(config):
        form = conforming(dict(parameters), _Rotary, name=f"{name}: rope_parameters")
        kind = form.get("rope_type", "default")
        if kind not in ROTARY:
            advice = ""
            if kind == "dynamic":
                advice = "\ntake it out where no text is longer than the model was trained on: it changes nothing there"
            raise InputError(
                f"{name}: rotary positions of type {kind!r} are not supported: a graph has the same ones for every text; "
                f"supported: {', '.join(ROTARY)}{advice}"
            )


def _rotary(config: Any) -> Iterator[Mapping[str, Any]]:
    """Parameters of rotary positions: one set, or one for each kind of layers."""
    parameters = getattr(config, "rope_parameters", None) or {}
    inner = [value for key, value in parameters.items() if key in LAYERS and value is not None]
    yield from inner or [parameters]


def check_layers(skeleton: nn.Module, config: Any, name: str) -> None:
    """InputError where matrices of a layer have other sizes than the configuration's heads and FFN units give them."""
    family, weights = family_of(config.model_type), dict(skeleton.named_parameters())
    root = "" if skeleton.base_model is skeleton else f"{skeleton.base_model_prefix}."
    for module, axis, size in _matrices(config):
        shape = weights[f"{root}{family.layers}.0.{module}.weight"].shape
        if shape[axis] != size:
            raise InputError(
                f"{name}: {module} of {config.model_type} holds {shape[axis]} values of its heads or FFN units, by the settings "
                f"they are {size}{other_head_size(f'.{module}.weight', shape, config)}"
            )


def other_head_size(parameter: str, shape: Sequence[int], config: Any) -> str:
    """A line on the size of heads where that explains the shape of a matrix; empty where it does not, or none is declared."""
    declared: int = getattr(config, "head_dim", None) or 0
    for module, axis, size in _matrices(config) if declared else ():
        if parameter.endswith(f".{module}.weight") and size % declared == 0 and len(shape) > axis:
            each, rest = divmod(shape[axis], size // declared)
            if not rest and each != declared:
                return f"\nhead_dim {declared} in config.json, {module.rpartition('.')[2]} makes it {each}"
    return ""


def _matrices(config: Any) -> Iterator[tuple[str, int, int]]:
    """Matrices of a layer: module, the axis that has heads or FFN units, and its length."""
    family = family_of(config.model_type)
    for branch in family.branches(family.sizes(config), 0):
        for matrix, axis in (*((read, 0) for read in branch.reads), (branch.output, 1)):
            yield matrix.module, axis, matrix.size(branch.whole)
