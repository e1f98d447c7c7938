"""One trial run of tokenizer and model at load: a few texts through both, before anything longer is begun."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from compiler.families.architecture import Architecture
from compiler.families.loading.library import label_of, refusing
from compiler.families.task_model import TaskModel
from compiler.tasks.tokenising import unchanged
from targets.errors import InputError

TEXTS = (
    "",
    "a",
    "The film was great; the food was not: 3.5 of 10.",
    "naïve café, 北京の天気, 안녕하세요, مرحبا 🙂👩‍👩‍👧",
    "good bad water stone early light " * 40,
)
MOST_TOKENS = 64
"""Longest batch that the model is tried on: its parts are the same at every length."""

_SAME = 1e-6
_OF_TEXTS = 2  # axes of what is said of a text, and not of each of its tokens


def try_run(
    folder: Path,
    model: TaskModel,
    tokenizer: Any,
    architecture: Architecture,
    *,
    max_tokens: int,
    must_differ: bool = True,
) -> tuple[str, ...]:
    """Notes on what was seen.

    InputError where token ids, masks, lengths or token types are outside what the model takes, or outputs are not finite.
    `must_differ` also refuses a model that answers every text with the same values. Neither tokenizer, model nor torch's
    generator are changed.
    """
    name = label_of(folder)
    if max_tokens < 1:
        raise InputError(f"{name}: the longest text that model and tokenizer take has {max_tokens} tokens")
    with unchanged(tokenizer), refusing(folder, "the tokenizer cannot be used"):
        encodings = list(_encodings(tokenizer, max_tokens, pairs=model.recipe is None))
    types = _token_types(model)
    for encoding in encodings:
        _check_encoding(encoding, architecture, types, max_tokens, name)
    batches = [_own_words(architecture, tokenizer), *(_cut(encoding, tokenizer) for encoding in encodings)]
    outputs = [_outputs(model, batch, folder) for batch in batches if batch["input_ids"].numel()]
    if must_differ and _all_equal(outputs[0]):
        raise InputError(
            f"{name}: the model answers texts of different tokens with the same values\n"
            "its weights are zero, constant or damaged"
        )
    return tuple(_last_token_notes(model, tokenizer, encodings)) if outputs[0].ndim == _OF_TEXTS else ()


def _last_token_notes(
    model: TaskModel, tokenizer: Any, encodings: Sequence[Mapping[str, Sequence[int]]]
) -> Iterator[str]:
    """A note, or none, where a head that looks for the last token of a text takes that for padding."""
    pad = tokenizer.pad_token_id
    if model.recipe is None and model.causal and any(encoding["input_ids"][-1:] == [pad] for encoding in encodings):
        yield (
            f"texts end with {tokenizer.pad_token}, which also fills batches: the head reads the token before it, as in "
            "transformers"
        )


def _encodings(tokenizer: Any, max_tokens: int, *, pairs: bool) -> Iterator[Mapping[str, list[int]]]:
    for text in TEXTS:
        yield tokenizer(text, truncation=True, max_length=max_tokens)
    if pairs:
        yield tokenizer(TEXTS[2], TEXTS[3], truncation=True, max_length=max_tokens)


def _token_types(model: TaskModel) -> int | None:
    return getattr(model.backbone.config, "type_vocab_size", None)


def _check_encoding(
    encoding: Mapping[str, Sequence[int]], architecture: Architecture, types: int | None, most: int, name: str
) -> None:
    ids, mask, kinds = encoding["input_ids"], encoding["attention_mask"], encoding.get("token_type_ids", ())
    if len(ids) > most:
        raise InputError(f"{name}: the tokenizer gives {len(ids)} tokens where {most} are the most")
    if any(not 0 <= i < architecture.vocabulary for i in ids):
        raise InputError(
            f"{name}: the tokenizer gives the id {max(ids):,}, the model embeds {architecture.vocabulary:,}\n"
            "use the tokenizer it was trained with"
        )
    if set(mask) - {1} or len(mask) != len(ids):
        raise InputError(f"{name}: the tokenizer masks tokens of a text that is not padded")
    if types is not None and any(not 0 <= kind < types for kind in kinds):
        raise InputError(
            f"{name}: the tokenizer gives the token type {max(kinds)}, config.json says type_vocab_size {types}\n"
            "use the tokenizer it was trained with"
        )


def _cut(encoding: Mapping[str, Sequence[int]], tokenizer: Any) -> dict[str, Tensor]:
    names = [name for name in ("input_ids", "attention_mask", "token_type_ids") if name in tokenizer.model_input_names]
    return {name: torch.tensor([list(encoding[name])[:MOST_TOKENS]]) for name in names if name in encoding}


def _own_words(architecture: Architecture, tokenizer: Any) -> dict[str, Tensor]:
    """Three sequences of different tokens from all over the vocabulary: words of a text may all be unknown to it."""
    length = min(16, architecture.max_tokens)
    usable = torch.arange(architecture.vocabulary)
    usable = usable[usable != tokenizer.pad_token_id]
    places = torch.arange(length) % max(len(usable), 1)
    spread = torch.linspace(0, len(usable) - 1, length).long()
    ids = torch.stack([usable[spread], usable[places], usable[-1 - places]])
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if "token_type_ids" in tokenizer.model_input_names:
        batch["token_type_ids"] = torch.zeros_like(ids)
    return batch


def _outputs(model: TaskModel, batch: Mapping[str, Tensor], folder: Path) -> Tensor:
    """What is scored of a batch [texts, values]. InputError where it is not finite, or the model does not run."""
    with torch.inference_mode(), refusing(folder, "the model does not run on a text"):
        outputs = model(**batch)
    if not all(bool(torch.isfinite(output).all()) for output in outputs):
        raise InputError(
            f"{label_of(folder)}: the model's outputs on a text of {batch['input_ids'].shape[1]} tokens are not finite\n"
            "its weights overflow, or are damaged"
        )
    scored: Tensor = outputs[-1]
    return scored


def _all_equal(outputs: Tensor) -> bool:
    """Whether outputs [texts, values] are the same for every text, but for rounding."""
    return bool((outputs - outputs[0]).abs().max() <= _SAME * outputs.abs().max())
