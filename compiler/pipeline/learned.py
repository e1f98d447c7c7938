"""What a run learns of a model on its data before any device has a say: weights to search with, and yardsticks."""

from dataclasses import dataclass
from typing import Any

from compiler.data import Split
from compiler.evaluation import Yardstick
from compiler.execution import Executor, Threads
from compiler.pipeline.dense_check import dense_doubt, dense_outputs
from compiler.pipeline.monitor import Stages
from compiler.pipeline.options import Options
from compiler.pipeline.ranking import Ranking, rank
from compiler.pipeline.subject import Subject, detached
from compiler.pipeline.training import Parameters, Trainer, fine_tuned, supernet_weights
from compiler.pipeline.weights import Apart, Resolved, Shared, Weights
from compiler.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Learned:
    """One for all targets. `search` scores candidates on validation or a part of it, the others finished networks.

    `doubt` says why the dense model is not to be trusted, where it is not (`compiler.pipeline.dense_check`).
    """

    subject: Subject
    weights: Weights
    search: Yardstick
    validation: Yardstick
    test: Yardstick
    doubt: str | None = None

    @property
    def ranking(self) -> Ranking:
        """Importance order, and the loss of every size."""
        return self.weights.ranking

    @property
    def splits(self) -> dict[str, Yardstick]:
        """What finished networks are judged on, by name."""
        return {"validation": self.validation, "test": self.test}

    @property
    def about(self) -> dict[str, Any]:
        """What the quality of a candidate depends on, beside its heads, units and precision."""
        return self.subject.key(examples=len(self.search.batches), weights=self.weights.about)


def learn(
    subject: Subject, store: Store, options: Options, stages: Stages, executor: Executor | None = None
) -> Learned:
    """Fine-tune, rank and train a super-network, as far as the run goes; what was done before comes from the store."""
    trainer = Trainer(
        subject=subject, store=store, options=options, monitor=stages.monitor, executor=executor or Threads()
    )
    start = {n: p.clone() for n, p in detached(dict(subject.checkpoint.model.backbone.named_parameters())).items()}
    if subject.train_dense:
        with stages("fine-tune dense model"):
            subject.set_dense(fine_tuned(trainer))
    doubt = dense_doubt(trainer)
    if doubt is not None and subject.train_dense:  # else it was said before the profile
        stages.monitor.note(doubt)
    with stages("rank heads and units"):
        ranking = rank(trainer)
    weights = _weights(trainer, ranking, start, stages)
    with stages("score dense model"):
        return Learned(
            subject=subject,
            weights=weights,
            search=_yardstick(trainer, "search", subject.search_split()),
            validation=_yardstick(trainer, "validation", subject.final_split()),
            test=_yardstick(trainer, "test", subject.data.test),
            doubt=doubt,
        )


def _weights(trainer: Trainer, ranking: Ranking, start: Parameters, stages: Stages) -> Weights:
    """Where sub-networks get theirs; `start` is what the run began with."""
    if trainer.subject.effort != "thorough":
        return Resolved(trainer, ranking)
    if trainer.options.search == "mo-asha":
        return Apart(trainer, ranking, start)
    with stages("train super-network"):
        return Shared(trainer, ranking, supernet_weights(trainer, ranking.ordered(trainer.options.order), start))


def _yardstick(trainer: Trainer, name: str, split: Split) -> Yardstick:
    """The yardstick on a split; the dense model's outputs come from the store where it was run on them before."""
    finished = None if name == "search" else name
    return trainer.subject.yardstick(split, lambda batches: dense_outputs(trainer, name, batches), finished)
