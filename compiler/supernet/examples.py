"""The examples of a training run, and the order in which they are seen: a pure function of the seed."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad

from compiler.evaluation import encode
from compiler.families import Checkpoint
from compiler.slicing import round_length
from targets.errors import InputError

IntArray = NDArray[np.int64]

_CHUNK = 256
_BATCHES_PER_POOL = 50


class Examples:
    """Tokenised texts and their labels; a batch of any rows is padded to the longest of them, in round numbers.

    Embedding models embed each text by itself, so a pair gives them two examples.
    """

    def __init__(
        self, checkpoint: Checkpoint, texts: Sequence[tuple[str, ...]], labels: NDArray[Any] | None, *, max_tokens: int
    ) -> None:
        if not texts:
            raise InputError("no examples to train on: the training split is empty")
        if checkpoint.task == "embedding":
            texts, labels = [(text,) for columns in texts for text in columns], None
        encoded = encode(checkpoint, texts, max_tokens=max_tokens, batch_size=_CHUNK)
        self._tokens: list[dict[str, Tensor]] = [{} for _ in texts]
        for rows, batch in zip(encoded.rows, encoded.batches, strict=True):
            lengths = batch["attention_mask"].sum(dim=1).tolist()
            for line, (row, length) in enumerate(zip(rows, lengths, strict=True)):
                self._tokens[row] = {name: tensor[line, :length] for name, tensor in batch.items()}
        tokenizer = checkpoint.tokenizer
        self._padding = {"input_ids": tokenizer.pad_token_id, "token_type_ids": tokenizer.pad_token_type_id}
        self._labels = None if labels is None else _label_tensor(labels, checkpoint.task)
        self._max_tokens = max_tokens

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

    def batch(self, rows: IntArray) -> dict[str, Tensor]:
        """Int64 [rows, length] per input name, and "labels" [rows] where there are any."""
        picked = [self._tokens[row] for row in rows]
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


def own_rows(rows: IntArray, rank: int, ranks: int) -> tuple[IntArray, float]:
    """A rank's rows of a batch, and the weight of their mean loss: the weighted means of all ranks average to the batch's.

    A rank for which none is left takes the first with weight 0, since it must take part in every exchange of gradients.
    """
    own = rows[rank::ranks]
    return (own, len(own) * ranks / len(rows)) if len(own) else (rows[:1], 0.0)


def _label_tensor(labels: NDArray[Any], task: str) -> Tensor:
    return torch.from_numpy(np.array(labels, dtype=np.int64 if task == "classification" else np.float32))


def plan_batches(lengths: IntArray, *, batch_size: int, epochs: float, seed: int) -> list[IntArray]:
    """The rows of every batch of a whole run, in order.

    Each epoch is a permutation; within pools of 50 batches examples of similar length go together, and batches are
    then shuffled. A fraction of an epoch is its first batches.
    """
    per_epoch = -(-len(lengths) // batch_size)
    wanted = max(1, round(epochs * per_epoch))
    batches: list[IntArray] = []
    while len(batches) < wanted:
        rng = np.random.default_rng([seed, len(batches) // per_epoch])
        batches += _one_epoch(lengths, batch_size, rng)
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
