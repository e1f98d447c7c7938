"""What a network changes for whom: answers that flip against the dense model, and what each class and each length loses."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compiler.tasks import Batches
from compiler.tasks.noise import standard_error

Decisions = NDArray[np.int64]
"""Classes that were decided on [examples, decisions]; -1 where an example has fewer decisions than others."""

NONE = -1

TELLING = 20
"""Decisions of a class, at least, for its drop to be held against a budget: of fewer, one is 5 % and more."""

_LENGTHS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Decisions of one kind, and the shares of them that the dense model and the network have right.

    `standard_error` is that of their difference, over decisions; None where one decision, or none, tells nothing.
    """

    name: str
    count: int
    dense: float
    network: float
    standard_error: float | None

    @property
    def drop(self) -> float:
        """Share of the decisions that the network loses; below 0 where it gains."""
        return self.dense - self.network

    def to_json(self) -> dict[str, Any]:
        """JSON values by name."""
        shares = {"dense": self.dense, "network": self.network, "drop": self.drop}
        return {"name": self.name, "count": self.count, **shares, "standard_error": self.standard_error}


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """How one network's decisions differ from the dense model's on a split.

    `flips` is the share of decisions that are others; `classes` are those by the right class (the dense model's own, where nothing is
    labelled), `lengths` by tokens of the example, shortest first.
    """

    decisions: int
    flips: float
    standard_error: float | None
    classes: tuple[Group, ...]
    lengths: tuple[Group, ...]

    @property
    def worst_class(self) -> Group | None:
        """The class that loses most, of those with enough decisions to tell (`TELLING`)."""
        return max((group for group in self.classes if group.count >= TELLING), key=lambda g: g.drop, default=None)

    def to_json(self) -> dict[str, Any]:
        """JSON values by name."""
        return {
            "decisions": self.decisions,
            "flips": self.flips,
            "standard_error": self.standard_error,
            "classes": [group.to_json() for group in self.classes],
            "lengths": [group.to_json() for group in self.lengths],
        }


def tokens_of(batches: Batches) -> NDArray[np.int64]:
    """Tokens [examples] of every example, all its lines together."""
    found = np.zeros(len(batches), dtype=np.int64)
    for rows, batch in zip(batches.rows, batches, strict=True):
        np.add.at(found, rows, batch["attention_mask"].sum(dim=1).numpy())
    return found


def changes(
    network: Decisions, dense: Decisions, right: Decisions, *, names: Sequence[str], tokens: NDArray[np.int64]
) -> Changes:
    """Compare decisions [examples, decisions] of a network with the dense model's.

    `right` are the labels', or again the dense model's; `names` those of the classes, of which decisions may have more: what is no
    class of its own has no name. `tokens` [examples] are lengths.
    """
    made = right != NONE
    flipped = (network != dense)[made].astype(float)
    length = np.broadcast_to(tokens[:, None], right.shape)[made]
    hits = [(each == right)[made] for each in (dense, network)]
    classes = [(name, right[made] == number) for number, name in enumerate(names)]
    return Changes(
        decisions=int(made.sum()),
        flips=float(flipped.mean()) if len(flipped) else 0.0,
        standard_error=standard_error(flipped),
        classes=tuple(_group(name, where, *hits) for name, where in classes if where.any()),
        lengths=tuple(_group(name, where, *hits) for name, where in _by_length(length)),
    )


def _group(name: str, where: NDArray[np.bool_], dense: NDArray[np.bool_], network: NDArray[np.bool_]) -> Group:
    ours, theirs = network[where].astype(float), dense[where].astype(float)
    return Group(
        name=name,
        count=int(where.sum()),
        dense=float(theirs.mean()),
        network=float(ours.mean()),
        standard_error=standard_error(theirs - ours),
    )


def _by_length(length: NDArray[np.int64]) -> list[tuple[str, NDArray[np.bool_]]]:
    """About equally many decisions each, by tokens; fewer groups where many have one length."""
    if not len(length):
        return []
    highs = np.unique(np.quantile(length, np.arange(1, _LENGTHS + 1) / _LENGTHS, method="lower")).astype(int).tolist()
    lows = [int(length.min()), *(high + 1 for high in highs[:-1])]
    return [
        (f"{low} to {high} tokens" if low < high else f"{low} tokens", (length >= low) & (length <= high))
        for low, high in zip(lows, highs, strict=True)
    ]
