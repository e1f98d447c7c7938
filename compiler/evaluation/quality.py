"""The yardstick of one run: which metric, on which examples, against what."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compiler.data import Split
from compiler.evaluation.batches import Batches, Run, encode, joined
from compiler.evaluation.metrics import METRICS, Metric, against_dense
from compiler.evaluation.noise import ONE_SIDED, SURE, standard_error
from compiler.families import Checkpoint

Array = NDArray[Any]

EVERY = 4
"""A first look is at one batch of so many: batches go by length, so that it is at short texts and long ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """One network on one split: the metric, and the task's other metrics by name.

    `values` [N] are the examples' parts in the metric (`compiler.evaluation.metrics.Metric`): of none where nothing was judged,
    of some where those were enough (`compiler.evaluation.early`).
    """

    metric: float
    others: Mapping[str, float]
    values: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0), repr=False, compare=False)

    @property
    def error(self) -> float:
        """What the search minimises: 1 - metric."""
        return 1.0 - self.metric

    @property
    def standard_error(self) -> float | None:
        """Of the metric, over examples; None where it is not known."""
        return standard_error(self.values)

    def differs(self, other: "Quality") -> bool:
        """Whether the metrics of two networks on the same examples are further apart than the examples' chance explains."""
        noise = standard_error(self.values - other.values)
        return abs(self.metric - other.metric) > SURE * (noise or 0.0)

    def margin(self, other: "Quality", share: float = 1.0) -> float:
        """What the metric is above this share of another network's, less what the examples' chance explains.

        The examples are the same, and the bound is a lower one that holds in 95 % of cases: where it is not below 0 the network keeps
        the share for sure. Without values of examples it is the plain difference.
        """
        noise = None
        if len(self.values) == len(other.values):
            noise = standard_error(self.values - share * other.values)
        return self.metric - share * other.metric - ONE_SIDED * (noise or 0.0)

    def to_json(self) -> dict[str, Any]:
        """JSON values that `from_json` turns back into the very same."""
        return {"metric": self.metric, "others": dict(self.others), "values": self.values.tolist()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Quality":
        """The inverse of `to_json`."""
        return cls(metric=data["metric"], others=data["others"], values=np.array(data["values"], dtype=np.float64))


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
        return self._score(outputs, self.reference)

    def _score(self, outputs: Array, reference: Array) -> Quality:
        if not np.isfinite(outputs).all():
            return Quality(metric=0.0, others={m.name: 0.0 for m in self.others}, values=np.zeros(len(outputs)))
        return Quality(
            metric=self.metric.score(outputs, reference),
            others={m.name: m.score(outputs, reference) for m in self.others},
            values=np.asarray(self.metric.values(outputs, reference), dtype=np.float64),
        )

    def quality(self, run: Run) -> Quality:
        """The metrics of a network."""
        return self.score(self.outputs(run))

    def looks(self, run: Run) -> Iterator[Quality]:
        """The metrics of a network at a first look, at the examples `first_rows`, then on all; each when it is asked for."""
        first, rest = self.batches.dealt(EVERY)
        parts = first.parts(run)
        yield self._score(np.concatenate(parts), self.reference[self.first_rows])
        yield self.score(joined([*first.rows, *rest.rows], [*parts, *rest.parts(run)]))

    @property
    def first_rows(self) -> NDArray[np.int64]:
        """Which examples a first look is at."""
        return np.concatenate(self.batches.dealt(EVERY)[0].rows)


def make_yardstick(
    checkpoint: Checkpoint, split: Split, metric: Metric, *, max_tokens: int, dense: Callable[[Batches], Array]
) -> Yardstick:
    """A yardstick on a split; without labels the dense model's own outputs, which `dense` gives, are the reference.

    Unlabelled classification scores agreement with the dense model's classes, regression correlation with its scores.
    """
    batches = encode(checkpoint, split.texts, max_tokens=max_tokens)
    labelled = split.labels is not None and checkpoint.task != "embedding"
    if labelled:
        assert split.labels is not None  # noqa: S101  said above
        reference: Array = split.labels
    else:
        reference = dense(batches)
        if checkpoint.task == "classification":
            reference = reference.argmax(axis=1)
        elif checkpoint.task == "regression":
            reference = reference[:, 0]
    every = [METRICS[name] for name in METRICS if METRICS[name].task == metric.task]
    others = tuple(m for m in (every if labelled else map(against_dense, every)) if m.name != metric.name)
    return Yardstick(metric=metric, others=others, batches=batches, reference=reference)
