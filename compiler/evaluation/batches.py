"""Texts to padded batches, grouped by length so that little is computed on padding."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Encoding
from torch import Tensor

from compiler.families import Checkpoint
from compiler.families.tokenising import tokenised
from compiler.slicing import round_length

Run = Callable[[Mapping[str, Tensor]], Tensor]
"""Padded inputs to outputs [batch, values]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batches:
    """Batches of int64 [batch, tokens] tensors; `rows` says which example each line is."""

    batches: tuple[Mapping[str, Tensor], ...]
    rows: tuple[NDArray[np.int64], ...]

    def __len__(self) -> int:
        return sum(len(rows) for rows in self.rows)

    def __iter__(self) -> Iterator[Mapping[str, Tensor]]:
        return iter(self.batches)

    @property
    def tokens(self) -> int:
        """Real tokens in all batches."""
        return int(sum(int(batch["attention_mask"].sum()) for batch in self.batches))

    def outputs(self, run: Run) -> NDArray[np.float32]:
        """Outputs [examples, values] of a network, in the order of the texts."""
        return joined(self.rows, self.parts(run))

    def parts(self, run: Run) -> list[NDArray[np.float32]]:
        """Outputs of a network, batch by batch."""
        with torch.inference_mode():
            return [run(batch).float().cpu().numpy() for batch in self.batches]

    def dealt(self, every: int) -> tuple["Batches", "Batches"]:
        """One batch of so many, and the others; examples keep their numbers."""
        numbers = range(len(self.rows))
        return self._of(numbers[::every]), self._of([i for i in numbers if i % every])

    def _of(self, which: Sequence[int]) -> "Batches":
        return Batches(batches=tuple(self.batches[i] for i in which), rows=tuple(self.rows[i] for i in which))


def joined(rows: Sequence[NDArray[np.int64]], parts: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Outputs [examples, values] in the order of the texts, from those of every batch and the examples that are in it."""
    result = np.empty((sum(map(len, rows)), parts[0].shape[1]), dtype=np.float32)
    for which, part in zip(rows, parts, strict=True):
        result[which] = part
    return result


def encode(
    checkpoint: Checkpoint, texts: Sequence[tuple[str, ...]], *, max_tokens: int, batch_size: int = 32
) -> Batches:
    """Tokenise texts (one or two columns), the model's own prompt before the first; cut at `max_tokens`, padded to round lengths."""
    recipe = checkpoint.model.recipe
    prompt = recipe.prompt if recipe is not None else ""
    prompted = [(prompt + first, *rest) for first, *rest in texts]
    encoded = tokenised(checkpoint.tokenizer, prompted, max_tokens=max_tokens)
    lengths = [len(encoding.ids) for encoding in encoded]
    order = np.argsort(lengths, kind="stable")
    rows = tuple(order[i : i + batch_size] for i in range(0, len(order), batch_size))
    padded_to = [round_length(lengths[part[-1]], max_tokens) for part in rows]
    batches = tuple(
        _padded(checkpoint, [encoded[row] for row in part], length)
        for part, length in zip(rows, padded_to, strict=True)
    )
    return Batches(batches=batches, rows=rows)


def _padded(checkpoint: Checkpoint, encoded: Sequence[Encoding], length: int) -> dict[str, Tensor]:
    """Int64 [texts, length] for every input of the graph, padded on the right."""
    tokenizer = checkpoint.tokenizer
    columns = {
        "input_ids": ([e.ids for e in encoded], tokenizer.pad_token_id),
        "attention_mask": ([e.attention_mask for e in encoded], 0),
        "token_type_ids": ([e.type_ids for e in encoded], tokenizer.pad_token_type_id),
    }
    picked = {name: columns[name] for name in checkpoint.input_names}
    return {
        name: torch.tensor([[*row, *[filler] * (length - len(row))] for row in values])
        for name, (values, filler) in picked.items()
    }
