"""Whether the dense model of a run is better than chance, found before anything is searched."""

from typing import Any

import torch
from numpy.typing import NDArray

from compiler.evaluation import Batches, doubt, encode
from compiler.pipeline.training import Trainer


def dense_outputs(trainer: Trainer, name: str, batches: Batches) -> NDArray[Any]:
    """What is scored of the dense model on batches of a split, from the store where it was run on them before."""
    subject = trainer.subject
    about = subject.key(split=name, examples=len(batches), dense=trainer.dense_about)
    stored = trainer.stored("dense", about, lambda: {"outputs": torch.from_numpy(subject.dense_outputs(batches))})
    return stored["outputs"].numpy()


def dense_doubt(trainer: Trainer) -> str | None:
    """Why the dense model is not to be trusted on the labels that it is judged by, in words; None where it is or where there are none.

    Embeddings have no labels, and a dense model whose own answers are the reference is never wrong.
    """
    subject = trainer.subject
    split = subject.search_split()
    if split.labels is None or subject.checkpoint.task == "embedding":
        return None
    batches = encode(subject.checkpoint, split.texts, max_tokens=subject.max_tokens)
    names = subject.checkpoint.label_names if subject.checkpoint.task == "classification" else ()
    return doubt(subject.metric, dense_outputs(trainer, "labelled", batches), split.labels, names)
