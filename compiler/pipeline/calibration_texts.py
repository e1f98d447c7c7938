"""Which texts calibrate, and which judge where nothing is labelled: no text does both."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from compiler.data import Split, TextData
from compiler.data.text_data import content_sha256
from compiler.families import Checkpoint
from compiler.tasks import encode

CALIBRATION_TEXTS = 1000
CALIBRATION_TOKENS = 16_000
"""Of the train split, at most: what heads and units are ranked on, and weights are re-solved on."""

LIKENESS_EXAMPLES = 2000
"""Of a split without labels, at most: what networks are held against the dense model on."""

RANGE_TEXTS, FEWEST_RANGE_TEXTS = 128, 16
"""What the ranges of statically quantised activations are taken on: at most, and at least."""

_OF_THE_SPLIT = ("split 70/15/15", "validation has only", "validation is ")
"""Notes on splits as they were drawn, which no longer hold once texts were dealt anew."""

_LOOKED_AT = 64  # texts that tell how long the others are


def calibration_count(checkpoint: Checkpoint, texts: Sequence[tuple[str, ...]], max_tokens: int) -> int:
    """How many of these texts calibrate: about sixteen thousand tokens of them, by the length of the first."""
    first = texts[:_LOOKED_AT]
    length = encode(checkpoint, first, max_tokens=max_tokens).tokens / len(first)
    return max(16, int(CALIBRATION_TOKENS / length))


def deal(data: TextData, checkpoint: Checkpoint, *, max_tokens: int, seed: int) -> tuple[TextData, list[str]]:
    """Data without labels that nothing is trained on: texts that do not calibrate go from train to validation; and a note.

    Validation gets `LIKENESS_EXAMPLES` at most. Train keeps what calibrates, up to half of the texts that are not test's, so
    that few texts are shared out evenly, but never fewer than ranges of activations are taken on. Splits that are large enough stay as they are.
    """
    train, validation = data.train, data.validation
    half = max((len(train) + len(validation)) // 2, FEWEST_RANGE_TEXTS)
    needed = min(max(calibration_count(checkpoint, train.texts, max_tokens), RANGE_TEXTS), CALIBRATION_TEXTS)
    judging = checkpoint.task.at_most(LIKENESS_EXAMPLES, max_tokens=max_tokens)
    moved = min(len(train) - min(needed, half), judging - len(validation))
    if moved <= 0:
        return data, []
    going, staying = _apart(train, moved, seed)
    if not len(going):
        return data, []
    left, more = train.take(staying), _joined(validation, train.take(going))
    splits = {"train": left, "validation": more, "test": data.test}
    note = f"nothing is trained: {len(left):,} texts calibrate, networks are judged on {len(more):,} others"
    notes = tuple(said for said in data.notes if not said.startswith(_OF_THE_SPLIT))
    sha256 = content_sha256(splits, data.label_names)
    return replace(data, train=left, validation=more, notes=notes, sha256=sha256), [note]


def _apart(train: Split, count: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """About so many rows to move, drawn by a seed, and the others, both ascending; groups go whole."""
    rng = np.random.default_rng(seed)
    if train.groups is None:
        order = rng.permutation(len(train))
        return np.sort(order[:count]), np.sort(order[count:])
    numbers, sizes = np.unique(train.groups, return_counts=True)
    order = rng.permutation(len(numbers))
    going = np.isin(train.groups, numbers[order[np.cumsum(sizes[order]) <= count]])
    return np.flatnonzero(going), np.flatnonzero(~going)


def _joined(first: Split, second: Split) -> Split:
    """Two splits without labels as one. Groups have numbers of their own in each split of a data set."""
    groups = None if first.groups is None or second.groups is None else np.append(first.groups, second.groups)
    return Split(texts=(*first.texts, *second.texts), labels=None, groups=groups)
