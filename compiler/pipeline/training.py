"""Training stages of a run: their options, what they depend on, and their results in the store."""

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from compiler.costing import parameter_counts
from compiler.execution import Executor, Threads, on_host
from compiler.pipeline.monitor import Monitor
from compiler.pipeline.options import Options
from compiler.pipeline.subject import Subject, as_arrays, as_tensors
from compiler.spaces import Ordering, make_space
from compiler.store import Store, key_of
from compiler.supernet import TrainingOptions, fine_tune, together, train_supernet
from compiler.supernet.checkpoints import training_log

UNIT_STEP = 8
"""FFN units between two sizes a super-network is trained at: every device's own alignment is a multiple of it."""

Parameters = Mapping[str, Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trainer:
    """Runs training stages of one run: stored results first, working folders in the store otherwise.

    `executor` does what is done for many networks alike. `log` has a row for about every hundredth of each training: stage, step, loss, learning rate, norm of the gradient.
    """

    subject: Subject
    store: Store
    options: Options
    monitor: Monitor
    executor: Executor = field(default_factory=Threads)
    log: list[dict[str, Any]] = field(default_factory=list)

    def training_options(self, **changes: Any) -> TrainingOptions:
        """The run's options of any training: nothing that only a super-network knows."""
        asked = {name: getattr(self.options, name) for name in ("seed", "epochs", "learning_rate", "accumulation")}
        asked["batch_size"] = self.options.train_batch_size or self.subject.task.batch_size
        return TrainingOptions(**{**{name: value for name, value in asked.items() if value is not None}, **changes})

    def supernet_options(self) -> TrainingOptions:
        """The run's options of super-network training."""
        names = ("strategy", "sampling", "temperature", "random_subnets")
        return self.training_options(**{name: getattr(self.options, name) for name in names})

    @property
    def dense_about(self) -> str | None:
        """What the dense model's weights depend on beside the checkpoint: its fine-tuning, where there is one."""
        return repr(self.training_options()) if self.subject.train_dense else None

    def stored(self, name: str, about: dict[str, Any], make: Callable[[], Parameters]) -> dict[str, Tensor]:
        """Tensors on the CPU by name, from the store where these were made before, or meanwhile by another process."""
        key = key_of(about)
        stored = self.store.get_arrays(name, key)
        if stored is not None:
            return as_tensors(stored)
        made = on_host(make())
        arrays = as_arrays(made)
        published = self.store.put_arrays(name, key, arrays)
        return dict(made) if published is arrays else as_tensors(published)

    def stage(self, name: str, about: dict[str, Any], train: Callable[[Path], Parameters]) -> dict[str, Tensor]:
        """The same of a training, which keeps its checkpoints in a folder of its own; `log` gets its rows."""
        key = key_of(about)
        with self.logged(name, key) as folder:
            return self.stored(name, about, lambda: train(folder))

    @contextmanager
    def logged(self, name: str, key: str) -> Iterator[Path]:
        """The working folder of a training whose result is stored inside; then its rows go to `log`, and the folder goes."""
        with self.working(name, key) as folder:
            yield folder
        self.recall(name, key, name)

    @contextmanager
    def working(self, name: str, key: str) -> Iterator[Path]:
        """The same, its rows only stored: where nothing had to be trained they are those stored before.

        Where another run does this training now, this one waits, and finds what it stored.
        """
        with self.store.working(name, key, self._waiting) as folder:
            yield folder
            rows = training_log(folder)
            if rows and rows != self.store.get(f"{name}-log", key):  # or it was killed before the folder was gone
                self.store.put(f"{name}-log", key, rows)
            shutil.rmtree(folder, ignore_errors=True)

    def _waiting(self) -> None:
        self.monitor.note("waiting for another run in this cache that does the same training")

    def recall(self, name: str, key: str, called: str) -> None:
        """Put the stored rows of a training into `log`."""
        self.log.extend({"stage": called, **row} for row in self.store.get(f"{name}-log", key) or ())

    def progress(self, fraction: float, _: str) -> None:
        """Pass a trainer's progress on."""
        self.monitor.progress(fraction)


def fine_tuned(trainer: Trainer) -> dict[str, Tensor]:
    """The dense baseline: ordinary fine-tuning on the train split."""
    subject, options = trainer.subject, trainer.training_options()
    return trainer.stage(
        "fine-tuned",
        subject.key(training=repr(options)),
        lambda folder: together(
            fine_tune,
            subject.checkpoint,
            subject.data.train,
            options=options,
            max_tokens=subject.max_tokens,
            work_dir=folder,
            progress=trainer.progress,
        ),
    )


def supernet_about(trainer: Trainer, ordering: Ordering) -> dict[str, Any]:
    """What a super-network depends on. No target is in it: one serves all of them."""
    orders = [[int(i) for i in order] for order in ordering.parts]
    return trainer.subject.key(
        training=repr(trainer.supernet_options()), space=trainer.options.space, unit_step=UNIT_STEP, cost="parameters",
        order=key_of(orders),
    )  # fmt: skip


def supernet_weights(trainer: Trainer, ordering: Ordering, start: Parameters) -> dict[str, Tensor]:
    """Train the super-network from the weights the run began with, its heads and units in this order.

    Sub-networks are drawn evenly over parameters: a latency would tie the weights to one device.
    """
    subject, options = trainer.subject, trainer.supernet_options()
    architecture = subject.checkpoint.architecture
    space = make_space(trainer.options.space, architecture, ordering=ordering, unit_step=UNIT_STEP)
    trained = {n: p.detach().clone() for n, p in subject.checkpoint.model.backbone.named_parameters()}

    def train(folder: Path) -> Parameters:
        subject.set_dense(start)
        try:
            return together(
                train_supernet,
                subject.checkpoint,
                subject.data.train,
                space=space,
                cost=partial(parameter_counts, architecture),
                options=options,
                max_tokens=subject.max_tokens,
                work_dir=folder,
                progress=trainer.progress,
            )
        finally:
            subject.set_dense(trained)

    return trainer.stage("supernet", supernet_about(trainer, ordering), train)
