"""The examples of a training run, and the order in which they are seen: a pure function of the seed."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad

from compiler.data import Split
from compiler.families import Checkpoint
from compiler.tasks.batches import IGNORED, round_length
from targets.errors import InputError

IntArray = NDArray[np.int64]

_CHUNK = 256
_BATCHES_PER_POOL = 50


class PlannedBatch(NamedTuple):
    """The rows of a batch, and the epoch (0-based) that it is of."""

    rows: IntArray
    epoch: int


class Examples:
    """The lines of a split (`compiler.tasks.Batches`) and their labels; a batch of any is padded to the longest, in round numbers.

    What a task draws of a line (`Task.drawn`) is a pure function of the seed, the epoch and the line.
    """

    def __init__(self, checkpoint: Checkpoint, split: Split, *, max_tokens: int, seed: int = 0) -> None:
        if not len(split):
            raise InputError("no examples to train on: the training split is empty")
        task, tokenizer = checkpoint.task, checkpoint.tokenizer
        encoded = task.encode(checkpoint, task.examples(split), max_tokens=max_tokens, batch_size=_CHUNK)
        lines = [each for rows, part in zip(encoded.rows, encoded.each(), strict=True) for each in _lines(rows, *part)]
        lines.sort(key=lambda line: line[0])
        self._tokens = [tokens for _, tokens, _ in lines]
        labels = [label for _, _, label in lines if label is not None]
        self._labels = torch.stack(labels) if labels else None
        self._padding = {
            "input_ids": tokenizer.pad_token_id, "token_type_ids": tokenizer.pad_token_type_id, "labels": IGNORED
        }  # fmt: skip
        self._max_tokens = max_tokens
        self._reader, self._task, self._seed = checkpoint, task, seed

    def __len__(self) -> int:
        return len(self._tokens)

    @property
    def lengths(self) -> IntArray:
        """Tokens of every example."""
        return np.array([len(tokens["input_ids"]) for tokens in self._tokens], dtype=np.int64)

    def renumbered(self) -> Tensor:
        """Number the words anew, by those that there are: int64 [words], the old numbers, ascending.

        Padding keeps its number, by which models tell it, and so do the few before it.
        """
        first = torch.arange(self._padding["input_ids"] + 1)
        words: Tensor = torch.unique(torch.cat([first, *(tokens["input_ids"] for tokens in self._tokens)]))
        for tokens in self._tokens:
            tokens["input_ids"] = torch.searchsorted(words, tokens["input_ids"].contiguous())
        return words

    def batch(self, rows: IntArray, epoch: int = 0) -> dict[str, Tensor]:
        """Int64 [rows, length] per input name, and "labels" [rows, ...] or [rows, length] where there are any, as an epoch has them."""
        picked = [self._line(int(row), epoch) for row in rows]
        length = round_length(max(len(tokens["input_ids"]) for tokens in picked), self._max_tokens)
        batch = {
            name: torch.stack(
                [
                    pad(tokens[name], (0, length - len(tokens[name])), value=self._padding.get(name, 0))
                    for tokens in picked
                ]
            )
            for name in picked[0]
        }
        if self._labels is not None:
            batch["labels"] = self._labels[torch.from_numpy(np.asarray(rows))]
        return batch

    def _line(self, row: int, epoch: int) -> Mapping[str, Tensor]:
        if not self._task.draws:
            return self._tokens[row]
        return self._task.drawn(self._reader, self._tokens[row], np.random.default_rng([self._seed, epoch, row]))


def _lines(
    rows: IntArray, batch: Mapping[str, Tensor], extras: Mapping[str, Any]
) -> Iterator[tuple[int, dict[str, Tensor], Tensor | None]]:
    """The example, tokens and label of every line of a batch; labels of tokens are among these, and words that labels are drawn of."""
    of_lines, of_tokens, words = extras.get("labels"), extras.get("token_labels"), extras.get("words")
    columns = dict(batch) if of_tokens is None else {**batch, "labels": of_tokens}
    for line, (row, length) in enumerate(zip(rows, batch["attention_mask"].sum(dim=1).tolist(), strict=True)):
        tokens = {name: tensor[line, :length] for name, tensor in columns.items()}
        if words is not None:
            tokens["words"] = torch.from_numpy(words[line])
        yield int(row), tokens, None if of_lines is None else of_lines[line]


def own_rows(rows: IntArray, rank: int, ranks: int) -> tuple[IntArray, float]:
    """A rank's rows of a batch, and the weight of their mean loss: the weighted means of all ranks average to the batch's.

    A rank for which none is left takes the first with weight 0, since it must take part in every exchange of gradients.
    """
    own = rows[rank::ranks]
    return (own, len(own) * ranks / len(rows)) if len(own) else (rows[:1], 0.0)


def plan_batches(lengths: IntArray, *, batch_size: int, epochs: float, seed: int) -> list[PlannedBatch]:
    """Every batch of a whole run, in order.

    Each epoch is a permutation; within pools of 50 batches examples of similar length go together, and batches are
    then shuffled. A fraction of an epoch is its first batches.
    """
    per_epoch = -(-len(lengths) // batch_size)
    wanted = max(1, round(epochs * per_epoch))
    batches: list[PlannedBatch] = []
    while len(batches) < wanted:
        epoch = len(batches) // per_epoch
        rng = np.random.default_rng([seed, epoch])
        batches += [PlannedBatch(rows, epoch) for rows in _one_epoch(lengths, batch_size, rng)]
    return batches[:wanted]


def _one_epoch(lengths: IntArray, batch_size: int, rng: np.random.Generator) -> list[IntArray]:
    order = rng.permutation(len(lengths))
    pool = batch_size * _BATCHES_PER_POOL
    pools = [order[start : start + pool] for start in range(0, len(order), pool)]
    batches = []
    for rows in pools:
        grouped = rows[np.argsort(lengths[rows], kind="stable")]
        batches += [grouped[start : start + batch_size] for start in range(0, len(grouped), batch_size)]
    return [batches[i] for i in rng.permutation(len(batches))]
