"""Whether the dense model of a run is better than chance, found before anything is searched."""

from typing import Any

import torch
from numpy.typing import NDArray

from compiler.pipeline.training import Trainer
from compiler.tasks import Batches


def dense_outputs(trainer: Trainer, name: str, batches: Batches) -> NDArray[Any]:
    """What is scored of the dense model on batches of a split, from the store where it was run on them before."""
    subject = trainer.subject
    about = subject.key(split=name, examples=len(batches), dense=trainer.dense_about)
    stored = trainer.stored("dense", about, lambda: {"outputs": torch.from_numpy(subject.dense_outputs(batches))})
    return stored["outputs"].numpy()


def dense_doubt(trainer: Trainer) -> str | None:
    """Why the dense model is not to be trusted, in words; None where it is (`compiler.tasks.Task.doubt`)."""
    subject, split = trainer.subject, trainer.subject.search_split()
    if not subject.task.learns_from_labels:
        return None
    batches = subject.task.encode(subject.checkpoint, split, max_tokens=subject.max_tokens)
    names = subject.data.label_names or subject.checkpoint.label_names
    return subject.task.doubt(subject.metric, dense_outputs(trainer, "search", batches), split, names)
