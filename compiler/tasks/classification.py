"""Classification of a text or a pair: one class each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from compiler.data import Split
from compiler.data.labels import encode_classes
from compiler.tasks.chance import doubt_of_classes, one_answer
from compiler.tasks.losses import Outputs, classification_loss
from compiler.tasks.metric import CORRELATION, Metric, against_dense, by_confusion
from compiler.tasks.probes import fisher
from compiler.tasks.route import Route, Tei, labels
from compiler.tasks.sequence import SequenceTask
from compiler.tasks.task import Card, Labelled

if TYPE_CHECKING:
    import torch

    from compiler.data.table import Table

Array = NDArray[Any]

AGREEMENT = "agreement"
"""Accuracy without labels: the share of texts that get the dense model's class."""


def _hits(logits: Array, labels: Array) -> Array:
    return np.asarray(logits.argmax(axis=1) == labels, dtype=np.float64)


def accuracy(logits: Array, labels: Array) -> float:
    """Share of examples whose largest logit is the label's."""
    return float(_hits(logits, labels).mean())


def f1(logits: Array, labels: Array) -> float:
    """F1 of class 1 with two classes, macro F1 otherwise."""
    from sklearn.metrics import f1_score

    average = "binary" if logits.shape[1] == 2 else "macro"
    return float(f1_score(labels, logits.argmax(axis=1), average=average, zero_division=0))


def matthews(logits: Array, labels: Array) -> float:
    """Matthews correlation coefficient; 0 where all answers or all labels are one class."""
    from sklearn.metrics import matthews_corrcoef

    predicted = logits.argmax(axis=1)
    if min(np.ptp(predicted), np.ptp(labels)) == 0:
        return 0.0
    return float(matthews_corrcoef(labels, predicted))


class Classification(SequenceTask):
    """One of several classes for each text or pair; answers are logits [N, classes], labels class ids."""

    name = words = "classification"
    problem = "single_label_classification"
    route = Route(file="classification", paths=("/classify",), facts=labels, tei=Tei())
    decides = True
    metrics = (
        Metric(name="accuracy", description="share of correct classes", score=accuracy, values=_hits),
        Metric(name="f1", description="F1 (of class 1, or macro)", score=f1, values=by_confusion(f1)),
        Metric(
            name="matthews",
            description="Matthews correlation",
            score=matthews,
            values=by_confusion(matthews),
            scale=CORRELATION,
        ),
    )
    card = Card(
        pipeline="text-classification",
        library="transformers",
        optimum="ORTModelForSequenceClassification",
        answers="logits of the classes",
    )

    def label(self, tables: Mapping[str, Table], column: str) -> Labelled:
        """Class ids; the first table defines the classes (`compiler.data.labels.encode_classes`)."""
        labels, names = encode_classes(tables, column)
        return Labelled(labels=labels, names=names, notes=(f"{len(names)} classes",))

    def metrics_of(self, *, labelled: bool) -> tuple[Metric, ...]:
        """Without labels accuracy is called agreement."""
        if labelled:
            return self.metrics
        first = replace(self.metrics[0], name=AGREEMENT, description="share of texts that get the dense model's class")
        return (first, *map(against_dense, self.metrics[1:]))

    def dense_reference(self, answers: Array, split: Split) -> Array:
        """The dense model's classes."""
        return np.asarray(answers.argmax(axis=1))

    def decisions(self, answers: Array) -> NDArray[np.int64]:
        """The class of each example [N, 1]."""
        return np.asarray(answers.argmax(axis=1)[:, None])

    def decided(self, reference: Array) -> NDArray[np.int64]:
        """That of its label, or of the dense model."""
        return np.asarray(reference[:, None])

    def doubt(self, metric: Metric, answers: Array, split: Split, names: Sequence[str]) -> str | None:
        """Chance, one answer for all, or labels that look permuted."""
        if split.labels is None:
            return one_answer(answers, names)
        return doubt_of_classes(metric, answers, split.labels.astype(np.int64), [str(name) for name in names])

    def loss(
        self,
        outputs: Outputs,
        mask: Tensor,
        labels: Tensor | None,
        teacher: Outputs | None,
        temperature: float,
    ) -> Tensor:
        """Cross-entropy, and the divergence from the teacher's softened logits."""
        return classification_loss(outputs[0], labels, None if teacher is None else teacher[0], temperature)

    def probe(
        self,
        outputs: Outputs,
        inputs: Mapping[str, Tensor],
        extras: Mapping[str, Any],
        generator: torch.Generator,
    ) -> Tensor:
        """Twice the Kullback-Leibler divergence of predictions, to first order."""
        return fisher(outputs[0], generator)
