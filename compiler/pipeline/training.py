"""Training stages of a run: their options, what they depend on, and their results in the store."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from compiler.costing import parameter_counts
from compiler.pipeline.monitor import Monitor
from compiler.pipeline.options import Options
from compiler.pipeline.subject import Subject, as_arrays, as_tensors
from compiler.spaces import Ordering, make_space
from compiler.store import Store, key_of
from compiler.supernet import TrainingOptions, fine_tune, train_supernet

UNIT_STEP = 8
"""FFN units between two sizes a super-network is trained at: every device's own alignment is a multiple of it."""

Parameters = Mapping[str, Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trainer:
    """Runs training stages of one run: stored results first, working folders in the store otherwise."""

    subject: Subject
    store: Store
    options: Options
    monitor: Monitor

    def training_options(self, **changes: Any) -> TrainingOptions:
        """The run's training options."""
        epochs = self.options.epochs
        values: dict[str, Any] = {"seed": self.options.seed, "strategy": self.options.strategy}
        return TrainingOptions(**{**values, **({} if epochs is None else {"epochs": epochs}), **changes})

    @property
    def dense_about(self) -> str | None:
        """What the dense model's weights depend on beside the checkpoint: its fine-tuning, where there is one."""
        return repr(self.training_options()) if self.subject.train_dense else None

    def stored(self, name: str, about: dict[str, Any], make: Callable[[], Parameters]) -> dict[str, Tensor]:
        """Tensors by name, from the store where these very ones were made before."""
        key = key_of(about)
        stored = self.store.get_arrays(name, key)
        if stored is not None:
            return as_tensors(stored)
        made = make()
        self.store.put_arrays(name, key, as_arrays(made))
        return dict(made)

    def stage(self, name: str, about: dict[str, Any], train: Callable[[Path], Parameters]) -> dict[str, Tensor]:
        """The same of a training, which keeps its checkpoints in a folder of its own."""
        return self.stored(name, about, lambda: train(self.store.folder(name, key_of(about))))

    def progress(self, fraction: float, _: str) -> None:
        """Pass a trainer's progress on."""
        self.monitor.progress(fraction)


def fine_tuned(trainer: Trainer) -> dict[str, Tensor]:
    """The dense baseline: ordinary fine-tuning on the train split."""
    subject, options = trainer.subject, trainer.training_options()
    return trainer.stage(
        "fine-tuned",
        subject.key(training=repr(options)),
        lambda folder: fine_tune(
            subject.checkpoint,
            subject.data.train.texts,
            subject.data.train.labels,
            options=options,
            max_tokens=subject.max_tokens,
            work_dir=folder,
            progress=trainer.progress,
        ),
    )


def supernet_about(trainer: Trainer, ordering: Ordering) -> dict[str, Any]:
    """What a super-network depends on. No target is in it: one serves all of them."""
    orders = [[int(i) for i in order] for order in (*ordering.heads, *ordering.units)]
    return trainer.subject.key(
        training=repr(trainer.training_options()), space=trainer.options.space, unit_step=UNIT_STEP, cost="parameters",
        order=key_of(orders),
    )  # fmt: skip


def supernet_weights(trainer: Trainer, ordering: Ordering, start: Parameters) -> dict[str, Tensor]:
    """Train the super-network from the weights the run began with, in the importance order of the dense model.

    Sub-networks are drawn evenly over parameters: a latency would tie the weights to one device.
    """
    subject, options = trainer.subject, trainer.training_options()
    architecture = subject.checkpoint.architecture
    space = make_space(trainer.options.space, architecture, ordering=ordering, unit_step=UNIT_STEP)
    trained = {n: p.detach().clone() for n, p in subject.checkpoint.model.backbone.named_parameters()}

    def train(folder: Path) -> Parameters:
        subject.set_dense(start)
        try:
            return train_supernet(
                subject.checkpoint,
                subject.data.train.texts,
                subject.data.train.labels,
                space=space,
                cost=lambda counts: parameter_counts(architecture, counts),
                options=options,
                max_tokens=subject.max_tokens,
                work_dir=folder,
                progress=trainer.progress,
            )
        finally:
            subject.set_dense(trained)

    return trainer.stage("supernet", supernet_about(trainer, ordering), train)
