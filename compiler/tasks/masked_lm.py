"""Masked language models: words that were hidden, from those around them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding

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
    """The tokens of a text behind its mask tokens. Which ones are hidden depends on the text alone: they are the same for all networks.

    Each is replaced by the mask token: no random words, and none left as it is.
    """

    name = "masked_lm"
    words = "masked language modelling"
    auto_class = "AutoModelForMaskedLM"
    head = "MaskedLM"
    other_heads = ("PreTraining",)
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
        own = label_array(encoding)
        places = np.flatnonzero(own != IGNORED)
        if not len(places):
            return own
        count = max(1, round(HIDDEN * len(places)))
        hidden = np.random.default_rng(crc32(text.encode())).choice(places, count, replace=False)
        labels = np.full_like(own, IGNORED)
        labels[hidden] = own[hidden]
        return labels

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
