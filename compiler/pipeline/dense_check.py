"""Whether the dense model of a run is better than chance, found before anything is searched."""

from typing import Any

import torch
from numpy.typing import NDArray

from compiler.evaluation import Batches, constant, doubt, encode
from compiler.pipeline.training import Trainer


def dense_outputs(trainer: Trainer, name: str, batches: Batches) -> NDArray[Any]:
    """What is scored of the dense model on batches of a split, from the store where it was run on them before."""
    subject = trainer.subject
    about = subject.key(split=name, examples=len(batches), dense=trainer.dense_about)
    stored = trainer.stored("dense", about, lambda: {"outputs": torch.from_numpy(subject.dense_outputs(batches))})
    return stored["outputs"].numpy()


def dense_doubt(trainer: Trainer) -> str | None:
    """Why the dense model is not to be trusted, in words; None where it is. Embeddings are not looked at.

    Without labels its own answers are the reference: they are never wrong, and of no use where all are the same.
    """
    subject, split = trainer.subject, trainer.subject.search_split()
    task = subject.checkpoint.task
    if task == "embedding":
        return None
    batches = encode(subject.checkpoint, split.texts, max_tokens=subject.max_tokens)
    outputs = dense_outputs(trainer, "search", batches)
    names = subject.checkpoint.label_names if task == "classification" else ()
    return (
        constant(task, outputs, names) if split.labels is None else doubt(subject.metric, outputs, split.labels, names)
    )
