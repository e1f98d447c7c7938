"""Texts to padded batches, grouped by length so that little is computed on padding."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Encoding
from torch import Tensor

from compiler.execution import placed
from compiler.tasks.tokenising import tokenised

Run = Callable[[Mapping[str, Tensor]], Tensor]
"""Padded inputs to what is judged of a network's outputs [batch, ...] (`compiler.tasks.Task.judged`)."""

IGNORED = -100
"""The label of a token that has none, as in PyTorch's cross-entropy."""

_OF_EXAMPLES = 2
"""Dimensions of what is judged of examples; of tokens it has more."""


class Reader(Protocol):
    """A model's side of encoding: its tokenizer, the tensors that it takes, and the prompt before every text."""

    @property
    def tokenizer(self) -> Any:
        """A fast tokenizer of transformers."""

    @property
    def input_names(self) -> tuple[str, ...]:
        """Of the tensors that the model takes."""

    @property
    def prompt(self) -> str:
        """What stands before every text; mostly nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batches:
    """Batches of int64 [lines, tokens] tensors.

    A line is what the network reads at once: an example, or one of several windows on a long one. `rows` says which example each
    line is of. `extras` has, for every batch, what the task reads beside a network's outputs: "labels" [lines, ...] or "token_labels"
    [lines, tokens] where examples have any, and what else its `encode` put there, one value a line.
    """

    batches: tuple[Mapping[str, Tensor], ...]
    rows: tuple[NDArray[np.int64], ...]
    extras: tuple[Mapping[str, Any], ...] = ()

    def __len__(self) -> int:
        return len({int(row) for rows in self.rows for row in rows}) if self.extras else sum(map(len, self.rows))

    def __iter__(self) -> Iterator[Mapping[str, Tensor]]:
        return iter(self.batches)

    @property
    def tokens(self) -> int:
        """Real tokens in all batches."""
        return int(sum(int(batch["attention_mask"].sum()) for batch in self.batches))

    def each(self) -> Iterator[tuple[Mapping[str, Tensor], Mapping[str, Any]]]:
        """Every batch with its extras."""
        return zip(self.batches, self.extras or ({},) * len(self.batches), strict=True)

    def with_extras(self, more: Sequence[Mapping[str, Any]]) -> "Batches":
        """The same with these beside the extras of every batch."""
        return replace(self, extras=tuple({**mine, **own} for (_, mine), own in zip(self.each(), more, strict=True)))

    def outputs(self, run: Run) -> NDArray[np.float32]:
        """Outputs of a network: [examples, values] in the order of the texts, or of tokens [real tokens, values], batch by batch."""
        parts = self.parts(run)
        if parts[0].ndim > _OF_EXAMPLES:
            masks = [batch["attention_mask"].bool().numpy() for batch in self.batches]
            return np.concatenate([part[mask] for part, mask in zip(parts, masks, strict=True)])
        return joined(self.rows, parts)

    def parts(self, run: Run) -> list[NDArray[np.float32]]:
        """Outputs of a network, batch by batch."""
        with torch.inference_mode():
            return [run(batch).float().cpu().numpy() for batch in self.batches]

    def on(self, device: torch.device) -> "Batches":
        """The same with all tensors on a device."""
        moved = [tuple(placed(each, device) for each in all_) for all_ in (self.batches, self.extras)]
        return replace(self, batches=moved[0], extras=moved[1])

    def dealt(self, every: int) -> tuple["Batches", "Batches"]:
        """One batch of so many, and the others; examples keep their numbers."""
        numbers = range(len(self.rows))
        return self._of(numbers[::every]), self._of([i for i in numbers if i % every])

    def _of(self, which: Sequence[int]) -> "Batches":
        return Batches(
            batches=tuple(self.batches[i] for i in which),
            rows=tuple(self.rows[i] for i in which),
            extras=tuple(self.extras[i] for i in which) if self.extras else (),
        )


def joined(rows: Sequence[NDArray[np.int64]], parts: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Outputs [examples, values] in the order of the texts, from those of every batch and the examples that are in it."""
    result = np.empty((sum(map(len, rows)), *parts[0].shape[1:]), dtype=np.float32)
    for which, part in zip(rows, parts, strict=True):
        result[which] = part
    return result


def encode(
    reader: Reader,
    texts: Sequence[tuple[str, ...]],
    *,
    max_tokens: int,
    batch_size: int = 32,
    extras: Mapping[str, Sequence[Any]] | None = None,
) -> Batches:
    """Tokenise texts (one or two columns), the model's own prompt before the first; cut at `max_tokens`, padded to round lengths.

    `extras` are those of `batched`, one value a text.
    """
    prompted = [(reader.prompt + first, *rest) for first, *rest in texts]
    encoded = tokenised(reader.tokenizer, prompted, max_tokens=max_tokens)
    return batched(reader, encoded, max_tokens=max_tokens, batch_size=batch_size, extras=extras)


def batched(
    reader: Reader,
    encoded: Sequence[Encoding],
    *,
    max_tokens: int,
    batch_size: int = 32,
    rows: NDArray[np.int64] | None = None,
    extras: Mapping[str, Sequence[Any]] | None = None,
) -> Batches:
    """Batches of lines of like lengths, padded to round lengths.

    Args:
        reader: the model's side.
        encoded: every line.
        max_tokens: what no line and no padding goes beyond.
        batch_size: lines of a batch.
        rows: which example each line is of; itself, where left out.
        extras: values by name, one a line. "labels", each a number or an array of one shape, become a tensor [lines, ...];
            "token_labels", int64 with one value a token, one [lines, tokens], padded with `IGNORED`; others become tuples.
    """
    lengths = [len(encoding.ids) for encoding in encoded]
    order = np.argsort(lengths, kind="stable")
    parts = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
    padded_to = [round_length(lengths[part[-1]], max_tokens) for part in parts]
    sized = list(zip(parts, padded_to, strict=True))
    return Batches(
        batches=tuple(_padded(reader, [encoded[line] for line in part], length) for part, length in sized),
        rows=tuple(part if rows is None else rows[part] for part in parts),
        extras=tuple(_extras(extras, part, length) for part, length in sized) if extras else (),
    )


def round_length(tokens: int, most: int) -> int:
    """To so many tokens, `most` at most, a batch is padded: a multiple of 4, from 32 on of 8, from 64 on of 16, and so on."""
    step = max(4, (1 << tokens.bit_length()) // 8)
    return min(-(-tokens // step) * step, most)


def _padded(reader: Reader, encoded: Sequence[Encoding], length: int) -> dict[str, Tensor]:
    """Int64 [lines, length] for every input of the graph, padded on the right."""
    tokenizer = reader.tokenizer
    columns = {
        "input_ids": ([e.ids for e in encoded], tokenizer.pad_token_id),
        "attention_mask": ([e.attention_mask for e in encoded], 0),
        "token_type_ids": ([e.type_ids for e in encoded], tokenizer.pad_token_type_id),
    }
    picked = {name: columns[name] for name in reader.input_names}
    return {
        name: torch.tensor([[*row, *[filler] * (length - len(row))] for row in values])
        for name, (values, filler) in picked.items()
    }


def _extras(extras: Mapping[str, Sequence[Any]], lines: NDArray[np.int64], length: int) -> dict[str, Any]:
    """Those of the lines of one batch."""
    picked: dict[str, Any] = {name: tuple(values[line] for line in lines) for name, values in extras.items()}
    if "labels" in picked:
        picked["labels"] = torch.from_numpy(np.stack(picked["labels"]))
    if "token_labels" in picked:
        own = [np.pad(each, (0, length - len(each)), constant_values=IGNORED) for each in picked["token_labels"]]
        picked["token_labels"] = torch.from_numpy(np.stack(own))
    return picked
