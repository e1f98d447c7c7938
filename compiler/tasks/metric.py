"""Figures of quality: how answers become one, how far it can be trusted, and what is an error in it."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compiler.tasks.noise import Score, by_kind

Array = NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """Which way a figure is better, and what is minimised in its place.

    Attributes:
        name: in front.json and the store.
        higher_is_better: for reports.
        error: of a figure, to be minimised; units' parts in it add up like errors.
        figure: the inverse of `error`.
        worst: the figure of outputs that are not finite.
    """

    name: str
    higher_is_better: bool
    error: Callable[[float], float]
    figure: Callable[[float], float]
    worst: float

    def kept(self, figure: float, other: float) -> float | None:
        """Share of another figure that this one keeps: of a perplexity, the other's share of it; None where that says nothing.

        Where lower is better it is the ratio of two likelihoods of a token.
        """
        if self.higher_is_better:
            return figure / other if other > 0 else None
        if min(figure, other) < self.figure(0.0):
            return None
        return math.exp(min(self.error(other) - self.error(figure), _LARGEST))

    def keeps(self, figure: float, share: float, other: float) -> bool:
        """Whether a figure is at least this share of another."""
        if self.higher_is_better:
            return figure >= share * other
        return share <= 0 or self.margin(figure, share, other) >= -_ROUNDING

    def margin(self, figure: float, share: float, other: float) -> float:
        """How much of an error there is to spare until a figure no longer keeps this share of another."""
        if self.higher_is_better:
            return figure - share * other
        return self.error(other) - self.error(figure) - math.log(share)

    def least(self, share: float, other: float) -> float:
        """The worst figure that still keeps this share of another."""
        if self.higher_is_better:
            return share * other
        return self.figure(self.error(other) - math.log(share)) if share > 0 else math.inf

    def deviation(self, figure: float, of_error: float) -> float:
        """The standard error of a figure, from that of its error, to first order."""
        if self.higher_is_better:
            return of_error
        error = self.error(figure)
        return (self.figure(error + of_error) - self.figure(error - of_error)) / 2

    def behind(self, figure: float, difference: float, seen: float) -> float:
        """The figure whose error is higher by a difference; not below 0 unless what was seen is."""
        if self.higher_is_better:
            return max(figure - difference, min(seen, 0.0))
        return self.figure(self.error(figure) + difference)


_ROUNDING = 1e-12
_LARGEST = 27.6  # its exponential is below what a front may hold


def exponential(error: float) -> float:
    """The perplexity of a mean loss, bounded so that it is a number."""
    return math.exp(min(error, _LARGEST))


SHARE = Scale(name="share", higher_is_better=True, error=lambda s: 1.0 - s, figure=lambda e: 1.0 - e, worst=0.0)
"""Accuracy and its kind: 1 is perfect, and the error is what is missing."""

CORRELATION = replace(SHARE, name="correlation", worst=-1.0)
"""The same of a figure that is below 0 where answers are worse than none."""

PERPLEXITY = Scale(name="perplexity", higher_is_better=False, error=math.log, figure=exponential, worst=1e12)
"""The exponential of a mean loss, which is the error."""

DIVERGENCE = Scale(name="divergence", higher_is_better=False, error=float, figure=float, worst=1e9)
"""A loss in nats: 0 is perfect."""

SCALES = {scale.name: scale for scale in (SHARE, CORRELATION, PERPLEXITY, DIVERGENCE)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A figure of quality and the error that is minimised for it (`Scale.error`).

    `score(answers, reference)` takes what `Task.answers` makes of a network's outputs, and the labels, or what the dense model
    answered. `values` gives each unit's part in it [units]: an example's, or that of what the task judges as one (a query with its
    candidates). Their mean is the score (where lower is better, less its error), to first order, and their spread says how uncertain
    it is (`compiler.tasks.noise`).
    """

    name: str
    description: str
    score: Callable[[Array, Array], float]
    values: Callable[[Array, Array], Array]
    scale: Scale = SHARE


def by_confusion(score: Score) -> Callable[[Array, Array], Array]:
    """Values of what depends on the counts of (class, prediction) alone, from logits [N, classes] and class ids [N]."""
    return lambda logits, labels: by_kind(score, logits, labels, labels * logits.shape[1] + logits.argmax(axis=1))


def against_dense(metric: Metric) -> Metric:
    """A metric whose reference is the dense model's own answers, under a name that says so."""
    described = f"{metric.description}, against the dense model's own answers"
    return replace(metric, name=f"{metric.name}_with_dense", description=described)


def unit(vectors: Array) -> Array:
    """Vectors [N, dimensions] of length 1; those of length 0 stay."""
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12))
