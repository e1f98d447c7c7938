"""How sentence-transformers' Transformer module reads texts: its settings under all names that they have had."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from compiler.families.module_settings import refuse_unknown, settings, wanted
from targets.errors import InputError

FILES = tuple(
    f"sentence_{kind}_config.json"
    for kind in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)
"""Names of the file, in the order in which they are looked for: the first one that says anything counts."""

_RENAMED = {"model_args": "model_kwargs", "tokenizer_args": "processor_kwargs", "config_args": "config_kwargs"}
_NO_MEANING = (
    "attn_implementation", "torch_dtype", "dtype", "low_cpu_mem_usage", "device_map", "use_safetensors", "cache_dir", "token",
    "local_files_only", "trust_remote_code", "revision", "use_fast", "use_cache", "add_pooling_layer", "subfolder",
)  # fmt: skip
"""Arguments of loading that change where or how fast a model computes, or what is not read of it."""
_OUTPUTS = {
    "feature-extraction": ("token_embeddings", "last_hidden_state"),
    "sequence-classification": ("scores", "logits"),
}
"""What a task gives, and which output of the model that is."""

_FIXED: dict[str, tuple[Any, ...]] = {
    "query_length": (None,),
    "document_length": (None,),
    "query_expansion": (None,),
    "tokenizer_name_or_path": (None,),
}
"""Settings that have one supported value each."""
_KNOWN = (
    *_FIXED, "transformer_task", "module_output_name", *_RENAMED, *_RENAMED.values(), "max_seq_length", "do_lower_case", "modality_config", "processing_kwargs",
    "unpad_inputs",
)  # fmt: skip


def read_transformer(folder: Path, task: str = "feature-extraction") -> dict[str, Any]:
    """`max_tokens`, `lower_case` and `truncation_side` of a recipe. InputError names what is not supported.

    Padding needs no setting: it is put on the right, where no answer depends on it.
    """
    config = next(filter(None, (settings(folder / name, _KNOWN) for name in FILES)), {})
    name, output = _OUTPUTS[task]
    for key, values in {**_FIXED, "transformer_task": (task,), "module_output_name": (name,)}.items():
        if config.get(key, values[0]) not in values:
            raise InputError(f"the Transformer module sets {key} = {config[key]!r}, which is not supported")
    _check_modalities(config, output)
    arguments = {new: config.get(old, config.get(new)) or {} for old, new in _RENAMED.items()}
    for name, honoured in (("model_kwargs", ()), ("config_kwargs", ()), ("processor_kwargs", _TOKENIZER)):
        given = wanted(arguments, name, dict[str, Any], {})
        refuse_unknown(given, {*_NO_MEANING, *honoured}, f"{name} of the Transformer module")
    tokenizer = arguments["processor_kwargs"]
    limits = (
        _text_call(config).get("max_length"), tokenizer.get("model_max_length"),
        wanted(config, "max_seq_length", int | None, None),
    )  # fmt: skip
    return {
        "max_tokens": _positive(next((limit for limit in limits if limit is not None), None)),
        "lower_case": bool(wanted(config, "do_lower_case", bool, False)),
        "truncation_side": _side(tokenizer.get("truncation_side")),
    }


_TOKENIZER = ("model_max_length", "padding_side", "truncation_side")


def _positive(limit: Any) -> int | None:
    if limit is None:
        return None
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
        raise InputError(
            f"the maximum length of the Transformer module is {limit!r}, it must be a whole number above 0"
        )
    return limit


def _side(side: Any) -> str | None:
    if side not in (None, "left", "right"):
        raise InputError(f"the Transformer module sets truncation_side = {side!r}, it must be left or right")
    return None if side is None else str(side)


def _check_modalities(config: Mapping[str, Any], wanted_output: str) -> None:
    """InputError unless texts go through the model's forward to that output, and nothing else goes anywhere."""
    modalities = wanted(config, "modality_config", dict[str, Any] | None, None)
    if modalities is None:
        return
    text = modalities.get("text")
    output = text.get("method_output_name") if isinstance(text, dict) else None
    if set(modalities) != {"text"} or output not in (wanted_output, [wanted_output]) or text.get("method") != "forward":
        raise InputError(f"the Transformer module sets modality_config = {modalities!r}, which is not supported")


def _text_call(config: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of the tokenizer's call that mean something: the maximum length."""
    calls = wanted(config, "processing_kwargs", dict[str, dict[str, Any]] | None, None) or {}
    refuse_unknown(calls, ("text", "common"), "processing_kwargs of the Transformer module")
    call = {**calls.get("text", {}), **calls.get("common", {})}
    plain = ("max_length", "truncation", "padding", "pad_to_multiple_of", "return_tensors", "add_special_tokens")
    refuse_unknown(call, plain, "processing_kwargs of the Transformer module")
    truncation, special = call.get("truncation", True), call.get("add_special_tokens", True)
    if truncation not in (True, "longest_first", "only_first") or special is not True:
        raise InputError("the Transformer module does not truncate, or adds no special tokens: that is not supported")
    return call
