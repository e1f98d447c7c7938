"""The yardstick of one run: which metric, on which examples, against what."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from compiler.data import Split
from compiler.evaluation.beside import Beside
from compiler.evaluation.changes import Changes, changes, tokens_of
from compiler.execution import on_host, placed
from compiler.families import Checkpoint
from compiler.tasks import SCALES, SHARE, Batches, Metric, Run, Scale, Task
from compiler.tasks.noise import ONE_SIDED, SURE, standard_error

Array = NDArray[Any]

EVERY = 4
"""A first look is at one batch of so many: batches go by length, so that it is at short texts and long ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """One network on one split: the metric, and the task's other metrics by name.

    `values` [units] are the units' parts in the metric (`compiler.tasks.Metric`): of none where nothing was judged, of some where
    those were enough (`compiler.evaluation.early`).
    """

    metric: float
    others: Mapping[str, float]
    values: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0), repr=False, compare=False)
    scale: Scale = SHARE

    @property
    def error(self) -> float:
        """What the search minimises."""
        return self.scale.error(self.metric)

    @property
    def standard_error(self) -> float | None:
        """Of the error, over units; None where it is not known."""
        return standard_error(self.values)

    @property
    def deviation(self) -> float | None:
        """The same of the metric itself."""
        noise = self.standard_error
        return None if noise is None else self.scale.deviation(self.metric, noise)

    def differs(self, other: "Quality") -> bool:
        """Whether two networks on the same examples are further apart than the examples' chance explains."""
        noise = standard_error(self.values - other.values)
        return abs(self.scale.margin(self.metric, 1.0, other.metric)) > SURE * (noise or 0.0)

    def keeps(self, other: "Quality", share: float) -> bool:
        """Whether the metric is at least this share of another network's."""
        return self.scale.keeps(self.metric, share, other.metric)

    def margin(self, other: "Quality", share: float = 1.0) -> float:
        """What is to spare until the metric is no longer this share of another network's, less what the examples' chance explains.

        The examples are the same, and the bound is a lower one that holds in 95 % of cases: where it is not below 0 the network keeps
        the share for sure. Without values of examples it is the plain difference.
        """
        noise = None
        if len(self.values) == len(other.values):
            weight = share if self.scale.higher_is_better else 1.0
            noise = standard_error(self.values - weight * other.values)
        return self.scale.margin(self.metric, share, other.metric) - ONE_SIDED * (noise or 0.0)

    def to_json(self) -> dict[str, Any]:
        """JSON values that `from_json` turns back into the very same."""
        scale = {} if self.scale is SHARE else {"scale": self.scale.name}
        return {"metric": self.metric, "others": dict(self.others), "values": self.values.tolist(), **scale}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Quality":
        """The inverse of `to_json`."""
        values, scale = np.array(data["values"], dtype=np.float64), SCALES[data.get("scale", SHARE.name)]
        return cls(metric=data["metric"], others=data["others"], values=values, scale=scale)


@dataclass(frozen=True, slots=True, kw_only=True)
class Yardstick:
    """Scores networks on one split against labels, or against the dense model where there are none.

    `beside` has figures of finished networks that no search looks at.
    """

    task: Task
    metric: Metric
    others: tuple[Metric, ...]
    batches: Batches
    reference: Array
    beside: Beside | None = None

    def outputs(self, run: Run) -> NDArray[np.float32]:
        """A network's answers on the split."""
        return answers(self.task, self.batches, run)

    def score(self, outputs: Array) -> Quality:
        """The metrics of answers [examples, values]; answers that are not finite score as the worst possible."""
        return self._score(outputs, self.reference)

    def _score(self, outputs: Array, reference: Array) -> Quality:
        scale = self.metric.scale
        if not np.isfinite(outputs).all():
            others = {m.name: m.scale.worst for m in self.others}
            units = len(self.metric.values(np.nan_to_num(outputs, posinf=0.0, neginf=0.0), reference))
            return Quality(metric=scale.worst, others=others, values=np.zeros(units), scale=scale)
        return Quality(
            metric=self.metric.score(outputs, reference),
            others={m.name: m.score(outputs, reference) for m in self.others},
            values=np.asarray(self.metric.values(outputs, reference), dtype=np.float64),
            scale=scale,
        )

    def quality(self, run: Run) -> Quality:
        """The metrics of a network."""
        return self.score(self.outputs(run))

    def judged(self, run: Run) -> tuple[Quality, NDArray[np.int64] | None]:
        """The metrics of a network, and what it decided (`Task.decisions`)."""
        outputs = self.outputs(run)
        quality = self.score(outputs)
        if self.beside is not None:
            quality = replace(quality, others={**quality.others, **self.beside.figures(run)})
        return quality, self.task.decisions(outputs)

    def changes(self, decisions: NDArray[np.int64], dense: NDArray[np.int64], names: Sequence[str]) -> Changes:
        """What a network decides otherwise than the dense model; `names` are those of the classes."""
        right, tokens = self.task.decided(self.reference), tokens_of(self.batches)
        return changes(decisions, dense, right, names=names, tokens=tokens)

    def looks(self, run: Run) -> Iterator[Quality]:
        """The metrics of a network at a first look, at the units `first_rows`, then on all; each when it is asked for.

        Where lines of one unit may be in any batch, the first look is at all.
        """
        if self.task.grouped:
            whole = self.quality(run)
            yield from (whole, whole)
            return
        first, rest = self.batches.dealt(EVERY)
        parts = _parts(self.task, first, run)
        yield self._score(np.concatenate(parts), self.reference[self.first_rows])
        yield self.score(self.task.joined([*first.rows, *rest.rows], [*parts, *_parts(self.task, rest, run)]))

    @property
    def first_rows(self) -> Any:
        """Which units a first look is at: int64 [units], or all."""
        return slice(None) if self.task.grouped else np.concatenate(self.batches.dealt(EVERY)[0].rows)


def answers(task: Task, batches: Batches, run: Run) -> NDArray[np.float32]:
    """What a task keeps of a network's outputs [examples, values]."""
    return task.joined(batches.rows, _parts(task, batches, run))


def _parts(task: Task, batches: Batches, run: Run) -> list[NDArray[np.float32]]:
    with torch.inference_mode():
        return [_answered(task, run(inputs), inputs, extras) for inputs, extras in batches.each()]


def _answered(
    task: Task, judged: Tensor, inputs: Mapping[str, Tensor], extras: Mapping[str, Any]
) -> NDArray[np.float32]:
    """Answers are made where the network's outputs are: they may be as many as all words."""
    return task.answers(judged, placed(inputs, judged.device), placed(extras, judged.device))


def guided(checkpoint: Checkpoint, batches: Batches) -> Batches:
    """Batches with what the task needs of the dense model's outputs beside their extras (`Task.guide`)."""
    task, model = checkpoint.task, checkpoint.model
    if not task.guides:
        return batches
    with torch.inference_mode():
        return batches.with_extras(
            [
                on_host(task.guide(task.judged(model(**inputs)), inputs, extras))
                for inputs, extras in batches.on(checkpoint.device).each()
            ]
        )


def make_yardstick(
    checkpoint: Checkpoint,
    split: Split,
    metric: Metric,
    *,
    max_tokens: int,
    dense: Callable[[Batches], Array],
    more: Sequence[Metric] = (),
    beside: Beside | None = None,
) -> Yardstick:
    """A yardstick on a split; without labels the dense model's own answers, which `dense` gives, are the reference.

    `more` are metrics beside those of the task.
    """
    task = checkpoint.task
    batches = guided(checkpoint, task.encode(checkpoint, split, max_tokens=max_tokens))
    labelled = split.labels is not None and task.learns_from_labels
    reference = task.reference(split) if labelled else task.dense_reference(dense(batches), split)
    names = checkpoint.label_names if task.head and not task.pretrained_head else ()
    metric = task.bound(metric, names)
    every = (*task.metrics_of(labelled=labelled), *more)
    others = tuple(task.bound(m, names) for m in every if m.name != metric.name)
    return Yardstick(task=task, metric=metric, others=others, batches=batches, reference=reference, beside=beside)
