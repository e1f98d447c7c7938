"""The tokenizer of a model folder, held against the configuration: mismatches are healed by a stated rule, or refused."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field
from typing_extensions import TypedDict

from compiler.families.loading.library import label_of, quiet_transformers, refusing
from compiler.families.table import family_of
from targets.errors import InputError
from targets.json_file import conforming, read_bytes, read_json

_VOCABULARIES = ("tokenizer.json", "vocab.txt", "vocab.json", "sentencepiece.bpe.model", "spiece.model")
_MOST_BYTES = 128 * 2**20
_SETTINGS = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
_NEVER = ("init_inputs", "vocab", "merges", "tokenizer_object", "gguf_file")
"""Settings under which a tokenizer would open a file of any name."""

FEWEST_TOKENS = 4


class _Settings(TypedDict, total=False):
    model_max_length: Annotated[float, Field(ge=FEWEST_TOKENS)] | None
    padding_side: str
    truncation_side: str
    tokenizer_class: str | None
    model_input_names: list[str]


def load_tokenizer(folder: Path, config: Any) -> tuple[Any, tuple[str, ...]]:
    """The tokenizer, brought in line with the configuration, and notes on what was changed.

    InputError where there is none, it cannot be loaded or has no fast form, or does not fit the configuration.
    """
    _check_files(folder)
    tokenizer = _loaded(folder, config)
    _check_vocabulary(tokenizer, config, folder)
    return tokenizer, (
        *_heal_padding(tokenizer, config, folder),
        *_heal_sides(tokenizer, folder),
        *_heal_inputs(tokenizer, config),
        *_special_notes(tokenizer),
    )


def _check_files(folder: Path) -> None:
    """InputError where no vocabulary is there, or a file of the tokenizer is damaged, too large, or leads out of the folder."""
    name = label_of(folder)
    vocabularies = [part for part in _VOCABULARIES if (folder / part).exists()]
    if not vocabularies:
        raise InputError(f"{name}: no tokenizer in the model folder (looked for {', '.join(_VOCABULARIES)})")
    for part in vocabularies:
        read_bytes(folder / part, name=f"{name}/{part}", most_bytes=_MOST_BYTES)
    settings = {part: read_json(folder / part, name=f"{name}/{part}") for part in _SETTINGS if (folder / part).exists()}
    for part, values in settings.items():
        conforming(values, dict[str, Any], name=f"{name}/{part}")
    own = settings.get("tokenizer_config.json", {})
    conforming(own, _Settings, name=f"{name}/tokenizer_config.json")
    if odd := next((key for key in _NEVER if own.get(key)), None):
        raise InputError(f"{name}/tokenizer_config.json: {odd} is no setting that is read from a file")


def _loaded(folder: Path, config: Any) -> Any:
    import transformers

    name = label_of(folder)
    with quiet_transformers(), refusing(folder, "the tokenizer cannot be loaded"):
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            folder, config=config, trust_remote_code=False, local_files_only=True
        )
    if not tokenizer.is_fast:
        raise InputError(
            f"{name}: {type(tokenizer).__name__} is a tokenizer of Python code alone, which no server runs\n"
            "save one with tokenizer.json beside the model"
        )
    return tokenizer


def _check_vocabulary(tokenizer: Any, config: Any, folder: Path) -> None:
    """InputError where a token has an id that the model does not embed: more tokens, or a vocabulary with gaps."""
    if len(tokenizer) > config.vocab_size:
        raise InputError(
            f"{label_of(folder)}: the tokenizer has {len(tokenizer):,} tokens, the model embeds {config.vocab_size:,}\n"
            "resize the model's embeddings or use the tokenizer it was trained with"
        )
    vocabulary = tokenizer.get_vocab()
    token = max(vocabulary, key=vocabulary.__getitem__, default=None)
    if token is None:
        raise InputError(f"{label_of(folder)}: the tokenizer has no tokens")
    if vocabulary[token] >= config.vocab_size:
        raise InputError(
            f"{label_of(folder)}: the tokenizer gives {token!r} the id {vocabulary[token]:,}, the model embeds "
            f"{config.vocab_size:,}\nuse the tokenizer it was trained with"
        )


def _heal_padding(tokenizer: Any, config: Any, folder: Path) -> Iterator[str]:
    """Settle the token that fills batches. InputError where none can, or positions would be counted from another one.

    Without one it is that of `pad_token_id` in the configuration, else the end-of-text token, else the unknown one. A causal
    model's configuration is given the same one: its head reads the last token that is no padding.
    """
    name, family = label_of(folder), family_of(config.model_type)
    counted = family.positions_after_padding
    if tokenizer.pad_token_id is None:
        declared = None if config.pad_token_id is None else tokenizer.convert_ids_to_tokens(config.pad_token_id)
        choices = [declared] if counted else [declared, tokenizer.eos_token, tokenizer.sep_token, tokenizer.unk_token]
        chosen = next((token for token in choices if token is not None), None)
        if chosen is None:
            raise InputError(
                f"{name}: the tokenizer has no pad token, and config.json's pad_token_id is none of its tokens"
            )
        tokenizer.pad_token = chosen
        yield f"the tokenizer has no pad token: {chosen} fills batches, and the mask hides it"
    if tokenizer.pad_token_id == config.pad_token_id:
        return
    if counted:
        raise InputError(
            f"{name}: the tokenizer pads with {tokenizer.pad_token_id}, config.json says pad_token_id {config.pad_token_id}, "
            f"from which {config.model_type} counts positions\nuse the tokenizer it was trained with"
        )
    if family.causal:
        if config.pad_token_id is not None:
            yield (
                f"the tokenizer pads with id {tokenizer.pad_token_id}, config.json says {config.pad_token_id}: it is the "
                "tokenizer's here, by which a head finds the last token of a text"
            )
        config.pad_token_id = tokenizer.pad_token_id
    elif config.pad_token_id is not None:
        yield (
            f"the tokenizer pads with id {tokenizer.pad_token_id}, config.json says {config.pad_token_id}: the mask hides either"
        )


def _heal_sides(tokenizer: Any, folder: Path) -> Iterator[str]:
    """Pad on the right: these models count positions from the first place, and heads read it. Truncation is as declared."""
    for side in ("padding_side", "truncation_side"):
        if getattr(tokenizer, side) not in {"left", "right"}:
            raise InputError(
                f"{label_of(folder)}: the tokenizer's {side} is {getattr(tokenizer, side)!r}: left or right"
            )
    if tokenizer.padding_side == "left":
        tokenizer.padding_side = tokenizer.init_kwargs["padding_side"] = "right"
        yield "the tokenizer pads on the left: it pads on the right here, where positions of tokens do not move"


def _heal_inputs(tokenizer: Any, config: Any) -> Iterator[str]:
    """Let the tokenizer give what the model reads: ids, a mask, and token types where the model has a table for them."""
    given = list(tokenizer.model_input_names)
    names = ["input_ids", *(name for name in given if name != "input_ids")]
    if "attention_mask" not in names:
        names.append("attention_mask")
    if set(names) != set(given):
        yield f"the tokenizer gives {', '.join(given) or 'nothing'}: it gives {', '.join(names)} here"
    tables = family_of(config.model_type).embedding_tables
    has_types = any("token_type" in table for table in tables) and getattr(config, "type_vocab_size", 1) > 0
    if "token_type_ids" in names and not has_types:
        names.remove("token_type_ids")
        yield f"the tokenizer's token types are left out: {config.model_type} has none"
    if set(names) != set(given):
        tokenizer.model_input_names = tokenizer.init_kwargs["model_input_names"] = names


def _special_notes(tokenizer: Any) -> Iterator[str]:
    """A note where the tokenizer names a first token and puts none around a text."""
    if tokenizer.cls_token is not None and tokenizer.backend_tokenizer.num_special_tokens_to_add(is_pair=False) == 0:
        yield f"the tokenizer does not put its {tokenizer.cls_token} before texts; it is followed as it is"
