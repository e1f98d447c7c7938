"""Regression: a score for each text or pair."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from compiler.data import Split
from compiler.data.labels import encode_scores
from compiler.tasks.chance import doubt_of_scores, one_score
from compiler.tasks.losses import Outputs, total
from compiler.tasks.metric import CORRELATION, Metric
from compiler.tasks.noise import pearson_values, spearman_values
from compiler.tasks.probes import gaussian
from compiler.tasks.route import RAW, Route, Tei
from compiler.tasks.scores import ScoreScale
from compiler.tasks.sequence import SequenceTask
from compiler.tasks.task import Card, Labelled

if TYPE_CHECKING:
    import torch

    from compiler.data.table import Table
    from compiler.data.text_data import Labels

Array = NDArray[Any]


def _correlation(name: str, outputs: Array, scores: Array) -> float:
    from scipy import stats

    if np.ptp(outputs) == 0 or np.ptp(scores) == 0:
        return 0.0
    return float(getattr(stats, name)(outputs[:, 0], scores).statistic)


def spearman(outputs: Array, scores: Array) -> float:
    """Spearman's rank correlation; 0 for constant outputs or scores."""
    return _correlation("spearmanr", outputs, scores)


def pearson(outputs: Array, scores: Array) -> float:
    """Pearson's correlation; 0 for constant outputs or scores."""
    return _correlation("pearsonr", outputs, scores)


def regression_loss(scores: Tensor, labels: Tensor | None, teacher: Tensor | None) -> Tensor:
    """Mean squared error of scores [lines, 1] to `labels` [lines] plus that to the teacher's scores [lines, 1]."""
    terms = []
    if teacher is not None:
        terms.append(functional.mse_loss(scores, teacher.detach()))
    if labels is not None:
        terms.append(functional.mse_loss(scores[:, 0], labels))
    return total(terms)


class Regression(SequenceTask):
    """A score for each text or pair; answers are scores [N, 1], labels scores [N]."""

    name = words = "regression"
    problem = "regression"
    route = Route(file="regression", paths=("/score",), tei=Tei(requests=RAW))
    label_type = np.float32
    metrics = (
        Metric(
            name="spearman",
            description="Spearman rank correlation",
            score=spearman,
            values=lambda outputs, scores: spearman_values(outputs[:, 0], scores),
            scale=CORRELATION,
        ),
        Metric(
            name="pearson",
            description="Pearson correlation",
            score=pearson,
            values=lambda outputs, scores: pearson_values(outputs[:, 0], scores),
            scale=CORRELATION,
        ),
    )
    card = Card(
        pipeline="text-classification",
        library="transformers",
        optimum="ORTModelForSequenceClassification",
        answers="a score",
    )

    def label_settings(self, label_names: Sequence[str] | None) -> dict[str, Any]:
        """One output, called score."""
        return super().label_settings(["score"])

    def outputs_needed(self, label_names: Sequence[str] | None, outputs: int) -> int:
        """One."""
        return 1

    def scale(self, backbone: nn.Module, labels: Labels) -> ScoreScale | None:
        """Their mean and deviation: a new head answers as they do from the first step, and steps are the same whatever their unit."""
        return ScoreScale.of(labels).of_head(backbone)

    def label(self, tables: Mapping[str, Table], column: str) -> Labelled:
        """Scores; InputError for what is no number, and where all are the same."""
        return Labelled(labels=encode_scores(tables, column))

    def dense_reference(self, answers: Array, split: Split) -> Array:
        """The dense model's scores."""
        return answers[:, 0]

    def doubt(self, metric: Metric, answers: Array, split: Split, names: Sequence[str]) -> str | None:
        """Chance, or scores that fall where the labels rise."""
        return one_score(answers) if split.labels is None else doubt_of_scores(metric, answers, split.labels)

    def loss(
        self,
        outputs: Outputs,
        mask: Tensor,
        labels: Tensor | None,
        teacher: Outputs | None,
        temperature: float,
    ) -> Tensor:
        """Squared errors to labels and to the teacher's scores."""
        return regression_loss(outputs[0], labels, None if teacher is None else teacher[0])

    def probe(
        self,
        outputs: Outputs,
        inputs: Mapping[str, Tensor],
        extras: Mapping[str, Any],
        generator: torch.Generator,
    ) -> Tensor:
        """The squared distance of scores."""
        return gaussian(outputs[0], generator)
