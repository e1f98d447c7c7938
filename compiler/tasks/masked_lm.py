"""Masked language models: words that were hidden, from those around them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any
from zlib import crc32

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Encoding
from torch import Tensor

from compiler.data import Split
from compiler.tasks.batches import IGNORED, Batches, Reader
from compiler.tasks.language import AGAINST_DENSE, LanguageTask, accuracy, label_array, perplexity
from compiler.tasks.route import Route
from compiler.tasks.task import Card
from targets.errors import InputError

HIDDEN = 0.15
"""Share of a text's tokens that are hidden, one at least (Devlin et al., arXiv 1810.04805)."""


def _mask(checkpoint: Any) -> Mapping[str, Any]:
    return {"MASK_TOKEN": checkpoint.tokenizer.mask_token}


class MaskedLM(LanguageTask):
    """The tokens of a text behind its mask tokens.

    Which ones are hidden depends on the text alone where networks are judged: they are the same for all. In training others are hidden in
    every epoch. Each is replaced by the mask token: no random words, and none left as it is.
    """

    name = "masked_lm"
    words = "masked language modelling"
    auto_class = "AutoModelForMaskedLM"
    head = "MaskedLM"
    other_heads = ("PreTraining",)
    draws = True
    route = Route(file="masked_lm", paths=("/score",), facts=_mask)
    metrics = (
        perplexity("exponential of the mean loss of hidden tokens, 15 % of a text, in nats"),
        accuracy("share of hidden tokens that are the likeliest"),
        *AGAINST_DENSE,
    )
    card = Card(
        pipeline="fill-mask",
        library="transformers",
        optimum="ORTModelForMaskedLM",
        answers="logits of the word at every place",
    )

    def targets(self, encoding: Encoding, text: str) -> NDArray[Any]:
        """The ids of the hidden tokens."""
        return _hidden(label_array(encoding), np.random.default_rng(crc32(text.encode())))

    def of_lines(self, encoded: Sequence[Encoding], texts: Sequence[str]) -> dict[str, Sequence[Any]]:
        """With them all words that may be hidden, which each epoch of a training draws from."""
        return {**super().of_lines(encoded, texts), "words": [label_array(encoding) for encoding in encoded]}

    def prepared(self, split: Split, reader: Reader, *, max_tokens: int) -> Split:
        """Documents in blocks. InputError where the tokenizer has no mask token."""
        if reader.tokenizer.mask_token_id is None:
            raise InputError(
                f"{self.words} hides words behind a mask token, and the tokenizer has none\n"
                "use the tokenizer that the model was trained with"
            )
        return super().prepared(split, reader, max_tokens=max_tokens)

    def encode(self, reader: Reader, split: Split, *, max_tokens: int, batch_size: int = 32) -> Batches:
        """Batches in which the words to be predicted are hidden."""
        whole = super().encode(reader, split, max_tokens=max_tokens, batch_size=batch_size)
        mask = reader.tokenizer.mask_token_id

        def hidden(inputs: Mapping[str, Any], labels: Any) -> dict[str, Any]:
            return {**inputs, "input_ids": inputs["input_ids"].masked_fill(labels != IGNORED, mask)}

        return replace(whole, batches=tuple(hidden(inputs, extras["token_labels"]) for inputs, extras in whole.each()))

    def drawn(self, reader: Reader, tokens: Mapping[str, Tensor], rng: np.random.Generator) -> dict[str, Tensor]:
        """A line with other words hidden: those of "words", which is left out."""
        words = tokens["words"]
        labels = torch.from_numpy(_hidden(words.numpy(), rng))
        ids = torch.where(words == IGNORED, tokens["input_ids"], words)
        inputs = {name: tensor for name, tensor in tokens.items() if name != "words"}
        return inputs | {
            "input_ids": ids.masked_fill(labels != IGNORED, reader.tokenizer.mask_token_id), "labels": labels
        }  # fmt: skip


def _hidden(words: NDArray[Any], rng: np.random.Generator) -> NDArray[Any]:
    """The words to be predicted, int64 [tokens]: a share of those that may be hidden; `IGNORED` elsewhere."""
    places = np.flatnonzero(words != IGNORED)
    if not len(places):
        return words
    count = max(1, round(HIDDEN * len(places)))
    hidden = rng.choice(places, count, replace=False)
    labels = np.full_like(words, IGNORED)
    labels[hidden] = words[hidden]
    return labels
