"""What every later stage gets: texts and labels in three splits."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from compiler.data.table import Form

Labels = npt.NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Split:
    """Examples of one split.

    `texts` holds one tuple of one or two strings per example. `labels` is what the task reads [examples, ...] (int64 class ids,
    float64 scores, objects that JSON can hold), or None where there are none. `groups` [examples] are int64 numbers of what examples
    belong to, such as a query or an article: those of one are never split apart. Compare data by `TextData.sha256`: `==` is identity.
    """

    texts: tuple[tuple[str, ...], ...]
    labels: Labels | None
    groups: npt.NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, rows: npt.NDArray[np.int64]) -> Split:
        """The examples at `rows`, in that order."""
        return Split(
            texts=tuple(self.texts[row] for row in rows),
            labels=None if self.labels is None else self.labels[rows],
            groups=None if self.groups is None else self.groups[rows],
        )

    def some(self, count: int) -> Split:
        """About so many examples at most, always the same ones: whole groups, one at least."""
        if len(self) <= count:
            return self
        if self.groups is None:
            return self.take(np.sort(np.random.default_rng(0).permutation(len(self))[:count]))
        numbers, sizes = np.unique(self.groups, return_counts=True)
        order = np.random.default_rng(0).permutation(len(numbers))
        kept = order[: max(1, int((np.cumsum(sizes[order]) <= count).sum()))]
        return self.take(np.flatnonzero(np.isin(self.groups, numbers[kept])))


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFile:
    """One file, or the shards of one split, as it was read. `split` is empty where the splits were drawn here."""

    name: str
    split: str
    rows: int
    form: Form


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TextData:
    """A data set ready for training and measurement.

    Attributes:
        source: what was read, as its base name or hub name; never an absolute path.
        task: a name of `compiler.tasks.TASKS`.
        text_columns: one column, or two for pairs.
        label_column: None where nothing is labelled.
        label_names: class names by class id; None where the task has no classes.
        train: what may be learnt from.
        validation: what sub-networks are chosen on.
        test: what is only reported.
        notes: what was inferred, dropped or changed, for the report.
        sha256: of the examples of all splits, with their order, and of the label names.
        files: how each file was read.
        unused_columns: what no text or label comes from.
        shown: the notes on columns and classes, which a description says in lines of their own.
        numbered: whether the file itself numbers the classes in this order (datasets' ClassLabel).
    """

    source: str
    task: str
    text_columns: tuple[str, ...]
    label_column: str | None
    label_names: tuple[str, ...] | None
    train: Split
    validation: Split
    test: Split
    notes: tuple[str, ...]
    sha256: str
    files: tuple[SourceFile, ...] = ()
    unused_columns: tuple[str, ...] = ()
    shown: tuple[str, ...] = ()
    numbered: bool = False


def class_counts(labels: Labels, classes: int) -> npt.NDArray[np.int64]:
    """Examples of every class, by class ids [examples] or 0 and 1 [examples, classes]."""
    return labels.sum(axis=0, dtype=np.int64) if labels.ndim == 2 else np.bincount(labels, minlength=classes)


def content_sha256(splits: dict[str, Split], label_names: tuple[str, ...] | None) -> str:
    """Hex digest of the examples, independent of the file format they came in."""
    digest = hashlib.sha256(json.dumps(label_names).encode())
    for role, split in splits.items():
        digest.update(json.dumps([role, len(split)]).encode())
        for texts in split.texts:
            digest.update(json.dumps(texts).encode())
        if split.labels is not None and split.labels.dtype == object:
            digest.update(json.dumps(split.labels.tolist()).encode())
        elif split.labels is not None:
            digest.update(split.labels.dtype.str.encode() + split.labels.tobytes())
        if split.groups is not None:
            digest.update(b"groups" + split.groups.tobytes())
    return digest.hexdigest()
