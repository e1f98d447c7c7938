"""Predictions of words, scored a few positions at a time: logits of a whole batch take gigabytes."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from compiler.tasks.batches import IGNORED
from compiler.tasks.probes import drawn_from

LIKELIEST = 64
"""Words whose chances are kept of the dense model at each scored position; the others count together."""

VALUES_AT_ONCE = 2**24
"""Logits that are turned into chances at once: 64 MiB."""

VALUES_OF_BATCH = 2**26
"""Logits of a batch, at most, unless one line has more: 256 MiB."""

_TINY = 1e-9


class Sums(NamedTuple):
    """What is kept of a line: sums over its scored positions, and how many these are.

    `loss` is in nats, `hits` counts where the likeliest word is the right one, `divergence` is from the dense model's chances, in
    nats, and `agreements` counts where both models' likeliest words are the same.
    """

    loss: Tensor
    tokens: Tensor
    hits: Tensor
    divergence: Tensor
    agreements: Tensor


def scored(labels: Tensor) -> Tensor:
    """Places (line, position) that have a label, int64 [places, 2], line by line."""
    return (labels != IGNORED).nonzero()


def _log_chances(logits: Tensor, places: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Parts of the places, and float32 [part, words] logarithms of chances there."""
    rows = max(1, VALUES_AT_ONCE // logits.shape[-1])
    for start in range(0, len(places), rows):
        part = slice(start, start + rows)
        line, position = places[part].unbind(dim=1)
        yield part, functional.log_softmax(logits[line, position].float(), dim=-1)


def likeliest(logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """At each scored place of logits [lines, tokens, words], the dense model's likeliest words: "words" int32 and "log_chances" [places, k]."""
    count = min(LIKELIEST, logits.shape[-1])
    found = [chances.topk(count, dim=-1) for _, chances in _log_chances(logits, scored(labels))]
    if not found:
        return {"words": torch.zeros(0, count, dtype=torch.int32), "log_chances": torch.zeros(0, count)}
    return {
        "words": torch.cat([top.indices for top in found]).int(),
        "log_chances": torch.cat([top.values for top in found]),
    }


def sums(logits: Tensor, labels: Tensor, dense: Mapping[str, Any]) -> Sums:
    """The sums of every line [lines], from logits [lines, tokens, words], labels [lines, tokens] and what `likeliest` kept."""
    places = scored(labels)
    found = torch.zeros(len(Sums._fields), len(labels), dtype=torch.float64, device=logits.device)
    for part, chances in _log_chances(logits, places):
        line, right = places[part, 0], labels[places[part, 0], places[part, 1]]
        words, theirs, best = dense["words"][part].long(), dense["log_chances"][part], chances.argmax(dim=-1)
        values = Sums(
            loss=-chances.gather(1, right[:, None])[:, 0],
            tokens=torch.ones(len(right), device=logits.device),
            hits=best == right,
            divergence=_divergence(theirs, chances.gather(1, words)),
            agreements=best == words[:, 0],
        )
        found.index_add_(1, line, torch.stack([value.double() for value in values]))
    return Sums(*found)


def _divergence(theirs: Tensor, ours: Tensor) -> Tensor:
    """Kullback-Leibler divergence [places] of chances over the kept words and all others together, from their logarithms [places, k].

    It is a lower bound of that over all words: to count several together hides how they differ (Cover, Thomas, "Elements of
    Information Theory", 2006, the log sum inequality).
    """
    left, right = theirs.double().exp(), ours.double().exp()
    rest, other = ((1 - chances.sum(dim=-1)).clamp(min=_TINY) for chances in (left, right))
    among = (left * (theirs.double() - ours.double())).sum(dim=-1)
    return (among + rest * (rest / other).log()).clamp(min=0)


def loss(logits: Tensor, mask: Tensor, labels: Tensor | None, teacher: Tensor | None, temperature: float) -> Tensor:
    """Mean cross-entropy of labelled places plus T² times the mean divergence from the teacher's softened chances at real tokens.

    Logits are [lines, tokens, words]. ValueError where there are neither labels nor a teacher.
    """
    if labels is None and teacher is None:
        raise ValueError("neither labels nor a teacher to learn from")
    found: Tensor = _ByLine.apply(logits, mask.bool(), labels, teacher, temperature)  # type: ignore[no-untyped-call]
    return found


class _ByLine(torch.autograd.Function):
    """`loss`, whose gradient is taken with it, a line at a time: all chances of a batch are several times its logits."""

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, real: Tensor, labels: Tensor | None, teacher: Tensor | None, temperature: float
    ) -> Tensor:
        labelled = 1 if labels is None else max(1, int((labels != IGNORED).sum()))
        total = logits.new_zeros((), dtype=torch.float32)
        gradient = torch.empty_like(logits) if ctx.needs_input_grad[0] else None
        for line, values in enumerate(logits):
            given = (None if labels is None else labels[line], None if teacher is None else teacher[line])
            with torch.set_grad_enabled(gradient is not None):
                own = values.detach().requires_grad_(gradient is not None)
                entropy, divergence = _line_loss(own, real[line], *given, temperature)
                value = entropy / labelled + divergence / max(1, int(real.sum()))
            total += value.detach()
            if gradient is not None:
                (gradient[line],) = torch.autograd.grad(value, own)
        ctx.gradient = gradient
        return total

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> Any:
        gradient, ctx.gradient = ctx.gradient, None  # in place: it is as large as the logits
        return gradient.mul_(upstream), None, None, None, None


def _line_loss(
    logits: Tensor, real: Tensor, labels: Tensor | None, teacher: Tensor | None, temperature: float
) -> tuple[Tensor, Tensor]:
    """Sums over a line [tokens, words]: cross-entropy, and divergence from the teacher."""
    logits, zero = logits.float(), logits.new_zeros((), dtype=torch.float32)
    own = zero if labels is None else functional.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="sum")
    if teacher is None:
        return own, zero
    softened = functional.log_softmax(logits[real] / temperature, dim=-1)
    target = functional.log_softmax(teacher[real].float() / temperature, dim=-1)
    return own, temperature**2 * functional.kl_div(softened, target, reduction="sum", log_target=True)


def fisher_of_words(logits: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
    """A scalar whose gradient at each scored place is the score of a word drawn from the chances there (`probes.fisher`).

    The cross-entropy of drawn words has that gradient, and no covector of all logits is made.
    """
    total = logits.new_zeros(())
    for line, own in enumerate(logits.unbind()):
        places = (labels[line] != IGNORED).nonzero()[:, 0]
        if len(places):
            rows = own[places]
            drawn = drawn_from(rows.detach().softmax(dim=-1), generator)
            total = total + functional.cross_entropy(rows, drawn, reduction="sum")
    return total
