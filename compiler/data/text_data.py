"""What every later stage gets: texts and labels in three splits."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from compiler.data.table import Form

TASKS = ("classification", "regression", "embedding")

Labels = npt.NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Split:
    """Examples of one split.

    `texts` holds one tuple of one or two strings per example. `labels` is int64 class ids, float64 scores, or None
    where there are none; its length is that of `texts`. Compare data by `TextData.sha256`: `==` is identity.
    """

    texts: tuple[tuple[str, ...], ...]
    labels: Labels | None

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, rows: npt.NDArray[np.int64]) -> Split:
        """The examples at `rows`, in that order."""
        return Split(
            texts=tuple(self.texts[row] for row in rows),
            labels=None if self.labels is None else self.labels[rows],
        )


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
        task: classification, regression or embedding.
        text_columns: one column, or two for pairs.
        label_column: None where nothing is labelled.
        label_names: class names by class id; None unless the task is classification.
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


def content_sha256(splits: dict[str, Split], label_names: tuple[str, ...] | None) -> str:
    """Hex digest of the examples, independent of the file format they came in."""
    digest = hashlib.sha256(json.dumps(label_names).encode())
    for role, split in splits.items():
        digest.update(json.dumps([role, len(split)]).encode())
        for texts in split.texts:
            digest.update(json.dumps(texts).encode())
        if split.labels is not None:
            digest.update(split.labels.dtype.str.encode() + split.labels.tobytes())
    return digest.hexdigest()
