"""Metrics by name, from scikit-learn and scipy. Outputs in, one figure out; higher is better in all of them."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compiler.evaluation.noise import Score, by_kind, pearson_values, spearman_values
from targets.errors import InputError

Array = NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A figure of quality, higher is better; the error that is minimised is 1 - score.

    `score(outputs, reference)` takes logits [N, classes] and class ids [N], scores [N, 1] and scores [N], or embeddings
    [N, hidden] and the dense model's [N, hidden]. `values` gives each example's part in it [N]: their mean is the score, to
    first order, and their spread says how uncertain it is (`compiler.evaluation.noise`).
    """

    name: str
    task: str
    description: str
    score: Callable[[Array, Array], float]
    values: Callable[[Array, Array], Array]


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


def _by_confusion(score: Score) -> Callable[[Array, Array], Array]:
    """Values of what depends on the counts of (class, prediction) alone."""
    return lambda logits, labels: by_kind(score, logits, labels, labels * logits.shape[1] + logits.argmax(axis=1))


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


def _unit(embeddings: Array) -> Array:
    return np.asarray(embeddings / np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), 1e-12))


def _cosines(embeddings: Array, dense: Array) -> Array:
    return np.asarray((_unit(embeddings) * _unit(dense)).sum(axis=1))


def mean_cosine(embeddings: Array, dense: Array) -> float:
    """Mean cosine between each embedding and the dense model's of the same text."""
    return float(_cosines(embeddings, dense).mean())


def _nearest(embeddings: Array, k: int) -> Array:
    similarity = _unit(embeddings) @ _unit(embeddings).T
    np.fill_diagonal(similarity, -np.inf)
    return np.argpartition(-similarity, k - 1, axis=1)[:, :k]


def _overlaps(embeddings: Array, dense: Array, k: int = 10) -> Array:
    k = min(k, len(dense) - 1)
    if k < 1:
        return np.ones(len(dense))
    ours, theirs = _nearest(embeddings, k), _nearest(dense, k)
    return np.array([len(set(a) & set(b)) / k for a, b in zip(ours, theirs, strict=True)])


def neighbour_overlap(embeddings: Array, dense: Array, k: int = 10) -> float:
    """Share of each text's k nearest neighbours (cosine, among the other texts) that both models agree on."""
    return float(_overlaps(embeddings, dense, k).mean())


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric(
            name="accuracy", task="classification", description="share of correct classes", score=accuracy, values=_hits
        ),
        Metric(
            name="f1",
            task="classification",
            description="F1 (of class 1, or macro)",
            score=f1,
            values=_by_confusion(f1),
        ),
        Metric(
            name="matthews",
            task="classification",
            description="Matthews correlation",
            score=matthews,
            values=_by_confusion(matthews),
        ),
        Metric(
            name="spearman",
            task="regression",
            description="Spearman rank correlation",
            score=spearman,
            values=lambda outputs, scores: spearman_values(outputs[:, 0], scores),
        ),
        Metric(
            name="pearson",
            task="regression",
            description="Pearson correlation",
            score=pearson,
            values=lambda outputs, scores: pearson_values(outputs[:, 0], scores),
        ),
        Metric(
            name="mean_cosine",
            task="embedding",
            description="mean cosine to the dense model's embeddings",
            score=mean_cosine,
            values=_cosines,
        ),
        Metric(
            name="neighbour_overlap_at_10",
            task="embedding",
            description="share of the 10 nearest neighbours kept",
            score=neighbour_overlap,
            values=_overlaps,
        ),
    )
}

AGREEMENT = "agreement"
"""Accuracy without labels: the share of texts that get the dense model's class."""


def against_dense(metric: Metric) -> Metric:
    """A metric whose reference is the dense model's own answers, under a name that says so.

    Embeddings are always held against the dense model's, and their metrics say it already.
    """
    if metric.task == "embedding":
        return metric
    if metric.name == "accuracy":
        return replace(metric, name=AGREEMENT, description="share of texts that get the dense model's class")
    described = f"{metric.description}, against the dense model's own answers"
    return replace(metric, name=f"{metric.name}_with_dense", description=described)


_DEFAULT = {"classification": "accuracy", "regression": "spearman", "embedding": "mean_cosine"}


def default_metric(task: str, name: str | None = None, *, labelled: bool = True) -> Metric:
    """The task's metric, or the named one; without labels it is against the dense model. InputError lists those of the task."""
    known = {m.name: m if labelled else against_dense(m) for m in METRICS.values() if m.task == task}
    if not labelled:
        known |= {m.name: m for m in known.values()}
    if name is not None and name not in known:
        raise InputError(f"metric {name!r} does not fit a {task} task; known: {', '.join(known)}")
    return known[name or _DEFAULT[task]]
