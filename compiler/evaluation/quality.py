"""The yardstick of one run: which metric, on which examples, against what."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compiler.data import Split
from compiler.evaluation.batches import Batches, Run, encode
from compiler.evaluation.metrics import METRICS, Metric
from compiler.families import Checkpoint

Array = NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """One network on one split: the metric, and the task's other metrics by name."""

    metric: float
    others: Mapping[str, float]

    @property
    def error(self) -> float:
        """What the search minimises: 1 - metric."""
        return 1.0 - self.metric


@dataclass(frozen=True, slots=True, kw_only=True)
class Yardstick:
    """Scores networks on one split against labels, or against the dense model where there are none."""

    metric: Metric
    others: tuple[Metric, ...]
    batches: Batches
    reference: Array

    def outputs(self, run: Run) -> NDArray[np.float32]:
        """A network's outputs on the split."""
        return self.batches.outputs(run)

    def score(self, outputs: Array) -> Quality:
        """The metrics of outputs [examples, values]; outputs that are not finite score as the worst possible."""
        if not np.isfinite(outputs).all():
            return Quality(metric=0.0, others={m.name: 0.0 for m in self.others})
        return Quality(
            metric=self.metric.score(outputs, self.reference),
            others={m.name: m.score(outputs, self.reference) for m in self.others},
        )

    def quality(self, run: Run) -> Quality:
        """The metrics of a network."""
        return self.score(self.outputs(run))


def make_yardstick(checkpoint: Checkpoint, split: Split, metric: Metric, *, max_tokens: int, dense: Run) -> Yardstick:
    """A yardstick on a split; without labels the dense model's own outputs are the reference.

    Unlabelled classification scores agreement with the dense model's classes, regression correlation with its scores.
    """
    batches = encode(checkpoint, split.texts, max_tokens=max_tokens)
    if split.labels is not None and checkpoint.task != "embedding":
        reference: Array = split.labels
    else:
        reference = batches.outputs(dense)
        if checkpoint.task == "classification":
            reference = reference.argmax(axis=1)
        elif checkpoint.task == "regression":
            reference = reference[:, 0]
    others = tuple(m for m in METRICS.values() if m.task == metric.task and m.name != metric.name)
    return Yardstick(metric=metric, others=others, batches=batches, reference=reference)
