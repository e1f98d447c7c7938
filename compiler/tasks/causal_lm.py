"""Causal language models: every word from those before it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding

from compiler.tasks.batches import IGNORED
from compiler.tasks.language import AGAINST_DENSE, LanguageTask, accuracy, label_array, perplexity
from compiler.tasks.route import Route
from compiler.tasks.task import Card


class CausalLM(LanguageTask):
    """The next word at every place of a text. The graph has no cache: it reads a whole text at once, as scoring and prefill do."""

    name = "causal_lm"
    words = "causal language modelling"
    auto_class = "AutoModelForCausalLM"
    head = "CausalLM"
    causal = embeds_as_well = True
    route = Route(file="causal_lm", paths=("/score",))
    metrics = (
        perplexity("exponential of the mean loss of the next token, each in a block of its own, in nats"),
        accuracy("share of tokens that are the likeliest after those before them"),
        *AGAINST_DENSE,
    )
    card = Card(
        pipeline="text-generation",
        library="transformers",
        optimum="ORTModelForCausalLM",
        answers="logits of the next token at every place",
        optimum_arguments=", use_cache=False",
        limits=(
            "The ONNX graph has no cache of keys and values: it reads whole texts, for scoring and as a prefill. transformers generates.",
        ),
    )

    def targets(self, encoding: Encoding, text: str) -> NDArray[Any]:
        """The next token's id, but for special tokens that the tokenizer puts there."""
        return np.append(label_array(encoding)[1:], IGNORED)
