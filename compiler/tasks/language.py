"""Language models: what masked and causal ones share. The text itself is the reference."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Encoding
from torch import Tensor

from compiler.data import Split
from compiler.data.table import is_missing
from compiler.tasks.batches import IGNORED, Batches, Reader, batched
from compiler.tasks.blocks import FEWEST_ARTICLES, documents, in_blocks, titles
from compiler.tasks.losses import Outputs
from compiler.tasks.metric import DIVERGENCE, PERPLEXITY, Metric, Scale, exponential
from compiler.tasks.plain import read_plain
from compiler.tasks.task import Asked, Reading, Task
from compiler.tasks.tokenising import tokenised
from compiler.tasks.words import VALUES_OF_BATCH, Sums, fisher_of_words, likeliest, loss, sums
from targets.errors import InputError

if TYPE_CHECKING:
    from compiler.data.columns import Columns
    from compiler.data.table import Table

Array = NDArray[Any]

TOKENS_OF_EXAMPLE = 16
"""Tokens of a sentence, about: limits on examples, which are sentences elsewhere, are so many tokens here."""


def _mean(answers: Array, part: str) -> float:
    """A sum of all lines over the number of scored tokens, from answers [lines, sums]."""
    whole = dict(zip(Sums._fields, answers.astype(np.float64).sum(axis=0), strict=True))
    return float(whole[part] / whole["tokens"])


def _values(answers: Array, part: str, sign: float) -> Array:
    """Each line's part in a mean over tokens [lines]: a ratio of two sums, to first order; `sign` is -1 of losses."""
    own = dict(zip(Sums._fields, answers.astype(np.float64).T, strict=True))
    mean = _mean(answers, part)
    return np.asarray(sign * (mean + (own[part] - mean * own["tokens"]) / own["tokens"].mean()))


def _metric(
    name: str,
    description: str,
    part: str,
    scale: Scale | None = None,
    figure: Callable[[float], float] = float,
) -> Metric:
    sign = {} if scale is None else {"scale": scale}
    return Metric(
        name=name,
        description=description,
        score=lambda answers, _: figure(_mean(answers, part)),
        values=lambda answers, _: _values(answers, part, 1.0 if scale is None else -1.0),
        **sign,
    )


def perplexity(description: str) -> Metric:
    """The exponential of the mean loss."""
    return _metric("perplexity", description, "loss", PERPLEXITY, exponential)


def accuracy(description: str) -> Metric:
    """The share of scored tokens that the likeliest word is."""
    return _metric("accuracy", description, "hits")


AGAINST_DENSE = (
    _metric("agreement", "share of scored tokens whose likeliest word is the dense model's", "agreements"),
    _metric(
        "kl", "nats a scored token from the dense model's chances, a lower bound: all but its 64 likeliest words count as one",
        "divergence", DIVERGENCE,
    ),
)  # fmt: skip


class LanguageTask(Task):
    """Chances of words at scored places of texts [lines, tokens, words].

    Documents are cut into blocks as long as the network reads at once. Answers are sums over a block's scored places
    (`compiler.tasks.words.Sums`) [blocks, 5]: logits are dropped batch by batch.
    """

    pretrained_head = True
    needs_labels = False
    learns_from_labels = False
    guides = True
    word_outputs = True
    batch_size = 8
    keep = 0.9

    @abstractmethod
    def targets(self, encoding: Encoding, text: str) -> Array:
        """The words to be predicted, int64 [tokens]; `IGNORED` where none is."""

    def read(self, tables: Mapping[str, Table], asked: Asked) -> Reading:
        """One column of texts, each a document; the lines of a text file are running text. InputError for pairs."""
        tables = {role: _without_blanks(table) for role, table in tables.items()}
        reading = read_plain(tables, asked, self)
        if len(reading.text_columns) > 1:
            raise InputError(
                f"{self.words} reads one text at a time, and {' and '.join(reading.text_columns)} are two columns\n"
                "name one with --text-columns"
            )
        splits, notes = dict(reading.splits), list[str]()
        for role, table in tables.items():
            lines = [text for (text,) in splits[role].texts]
            if table.form.format == "text lines" or titles(lines) >= FEWEST_ARTICLES:
                texts, note = documents(lines)
                splits[role] = Split(texts=tuple((text,) for text in texts), labels=None)
                notes.append(f"{table.source}: {note}")
        return replace(reading, splits=splits, notes=(*reading.notes, *notes), shown=(*reading.shown, *notes))

    def columns_in_use(self, tables: Mapping[str, Table], columns: Columns, asked: Asked) -> Columns:
        """Without labels. InputError where the user named some."""
        if asked.label_column is not None:
            raise InputError(f"{self.words} needs no labels: the text is what is predicted\nleave --label-column out")
        if columns.label is None:
            return columns
        notes = (note for note in columns.notes if not note.startswith(("label column", "columns not used")))
        unused = (*columns.unused, columns.label)
        return replace(columns, label=None, unused=unused, notes=(*notes, f"columns not used: {', '.join(unused)}"))

    def prepared(self, split: Split, reader: Reader, *, max_tokens: int) -> Split:
        """Documents in blocks. InputError where no text has a word to predict."""
        blocks = in_blocks(reader.tokenizer, split, max_tokens=max_tokens)
        encoded = tokenised(reader.tokenizer, blocks.texts, max_tokens=max_tokens)
        targets = [self.targets(*pair) for pair in zip(encoded, (text for (text,) in blocks.texts), strict=True)]
        kept = np.array([row for row, labels in enumerate(targets) if (labels >= 0).any()], dtype=np.int64)
        if not len(kept):
            raise InputError(f"no text has a word to predict: {len(split)} are too short\ngive longer texts")
        return blocks.take(kept)

    def at_most(self, examples: int, *, max_tokens: int) -> int:
        """Blocks of as many tokens as so many sentences have."""
        return max(1, examples * TOKENS_OF_EXAMPLE // max_tokens)

    def lines_at_once(self, reader: Reader, *, max_tokens: int) -> int:
        """As many as `VALUES_OF_BATCH` logits are of."""
        return min(32, max(1, VALUES_OF_BATCH // (len(reader.tokenizer) * max_tokens)))

    def encode(self, reader: Reader, split: Split, *, max_tokens: int, batch_size: int = 32) -> Batches:
        """Batches whose logits fit into memory, with the words to be predicted as "token_labels"."""
        encoded = tokenised(reader.tokenizer, split.texts, max_tokens=max_tokens)
        longest = max((len(encoding.ids) for encoding in encoded), default=1)
        lines = self.lines_at_once(reader, max_tokens=longest)
        return batched(
            reader,
            encoded,
            max_tokens=max_tokens,
            batch_size=min(batch_size, lines),
            extras=self.of_lines(encoded, [text for text, *_ in split.texts]),
        )

    def of_lines(self, encoded: Sequence[Encoding], texts: Sequence[str]) -> dict[str, Sequence[Any]]:
        """What batches have beside their inputs, a value a line: the words to be predicted."""
        return {"token_labels": [self.targets(*pair) for pair in zip(encoded, texts, strict=True)]}

    def guide(self, judged: Tensor, inputs: Mapping[str, Tensor], extras: Mapping[str, Any]) -> Mapping[str, Any]:
        """The dense model's likeliest words at every scored place."""
        return likeliest(judged, extras["token_labels"])

    def answers(self, judged: Tensor, inputs: Mapping[str, Tensor], extras: Mapping[str, Any]) -> NDArray[np.float32]:
        """Sums over the scored places of each line [lines, 5]."""
        return torch.stack(sums(judged, extras["token_labels"], extras), dim=1).float().cpu().numpy()

    def metrics_of(self, *, labelled: bool) -> tuple[Metric, ...]:
        """The same always: the text is there."""
        return self.metrics

    def dense_reference(self, answers: Array, split: Split) -> Array:
        """Nothing: answers hold what they were held against."""
        return np.zeros(len(answers))

    def loss(
        self,
        outputs: Outputs,
        mask: Tensor,
        labels: Tensor | None,
        teacher: Outputs | None,
        temperature: float,
    ) -> Tensor:
        """Cross-entropy of the words to be predicted, and the divergence from the teacher at every real token."""
        return loss(outputs[0], mask, labels, None if teacher is None else teacher[0], temperature)

    def probe(
        self,
        outputs: Outputs,
        inputs: Mapping[str, Tensor],
        extras: Mapping[str, Any],
        generator: torch.Generator,
    ) -> Tensor:
        """Twice the divergence of the chances at scored places, to first order."""
        return fisher_of_words(outputs[0], extras["token_labels"], generator)


def _without_blanks(table: Table) -> Table:
    """A table without rows that hold nothing: the empty lines of running text."""
    filled = [
        row for row, values in enumerate(zip(*table.columns.values(), strict=True)) if not all(map(is_missing, values))
    ]
    if len(filled) == len(table):
        return table
    return replace(
        table,
        columns={name: [values[row] for row in filled] for name, values in table.columns.items()},
        lines=None if table.lines is None else [table.lines[row] for row in filled],
    )


def label_array(encoding: Encoding) -> Array:
    """The ids of a line, int64 [tokens], without those of the tokenizer's special tokens."""
    return np.where(np.array(encoding.special_tokens_mask, dtype=bool), IGNORED, np.array(encoding.ids, dtype=np.int64))
