"""Entities in tags of words, as seqeval and conlleval read them, counted sentence by sentence.

A tag is O, or a mark and a type: B-PER begins an entity, I-PER continues one or begins one where there is none to continue, E-PER
ends one, S-PER is one alone. L and U are other names of E and S. A tag without a mark reads as one with I.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Ids = NDArray[np.int64]

O, B, I, E, S = range(5)  # noqa: E741  the field's own names
_MARKS = {"B": B, "I": I, "E": E, "S": S, "L": E, "U": S}
_TAG = re.compile(r"([BIESLU])(?:[-_](.+))?")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scheme:
    """What tags mean, by their ids: marks [tags] of `O, B, I, E, S`, and types [tags], numbers of the entities' types, 0 for O.

    `marked` says whether any tag has a mark.
    """

    marks: Ids
    types: Ids
    marked: bool

    @classmethod
    def of(cls, names: Sequence[str]) -> Scheme:
        """The scheme of tag names."""
        parts = [_parts(name) for name in names]
        numbers = {kind: i for i, kind in enumerate(dict.fromkeys(kind for mark, kind in parts if mark != O), start=1)}
        return cls(
            marks=np.array([mark for mark, _ in parts], dtype=np.int64),
            types=np.array([numbers.get(kind, 0) if mark != O else 0 for mark, kind in parts], dtype=np.int64),
            marked=any(_TAG.fullmatch(name.strip()) for name in names),
        )

    def boundaries(self, tags: Array) -> tuple[Ids, Ids, NDArray[np.bool_], NDArray[np.bool_]]:
        """Marks and types [sentences, words + 2] of tag ids [sentences, words], and where entities start and have ended before.

        The first and the last are O, outside the sentence, and so is what has an id below 0. Starts and ends [sentences, words + 1]
        are of the tags from the second on.
        """
        padded = np.pad(np.asarray(tags, dtype=np.int64), ((0, 0), (1, 1)), constant_values=-1)
        marks = np.where(padded < 0, O, self.marks[padded])
        types = np.where(padded < 0, 0, self.types[padded])
        before, now = marks[:, :-1], marks[:, 1:]
        other = types[:, :-1] != types[:, 1:]
        ended = (before == E) | (before == S)
        fresh = (now == B) | (now == S)
        starts = fresh | ((now != O) & (ended | (before == O) | other))
        ends = (before != O) & (ended | fresh | (now == O) | other)
        return marks, types, starts, ends

    def entities(self, tags: Array) -> tuple[Ids, Ids]:
        """Every entity of tag ids [sentences, words]: its sentence [entities], and a number of its place and type [entities]."""
        _, types, starts, ends = self.boundaries(tags)
        rows, first = np.nonzero(starts)
        _, last = np.nonzero(ends)
        width, kinds = types.shape[1], int(self.types.max(initial=0)) + 1
        return rows, ((rows * width + first) * width + last) * kinds + types[rows, first + 1]


def _parts(name: str) -> tuple[int, str]:
    name = name.strip()
    if name.upper() == "O":
        return O, ""
    found = _TAG.fullmatch(name)
    return (_MARKS[found[1]], found[2] or "") if found else (I, name)


def breaks(scheme: Scheme, tags: Array) -> NDArray[np.bool_]:
    """Which words of tag ids [sentences, words] have a tag that does not follow the scheme: bool [sentences, words].

    With E or S in use, entities begin with B or S and end with E or S. Else they begin with B, unless B is only used to part an
    entity from one of the same type before it (IOB1), or never.
    """
    marks, types, starts, ends = scheme.boundaries(tags)
    mark, opens = marks[:, 1:-1], starts[:, :-1]
    unopened: NDArray[np.bool_] = opens & ((mark == I) | (mark == E))
    if np.isin(scheme.marks, (E, S)).any():
        unclosed: NDArray[np.bool_] = ends[:, 1:] & ((mark == B) | (mark == I))
        return np.logical_or(unopened, unclosed)
    parting = (marks[:, :-2] != O) & (types[:, :-2] == types[:, 1:-1])
    only_parts = bool((~(mark == B) | parting).all())
    return np.zeros_like(unopened) if only_parts else unopened


def repaired(scheme: Scheme, tags: Array, broken: NDArray[np.bool_]) -> Ids:
    """Tag ids [sentences, words] whose `broken` I at the beginning of an entity are B, where there is such a tag: the entities are the same."""
    begin = np.arange(len(scheme.marks))
    for i, (mark, kind) in enumerate(zip(scheme.marks, scheme.types, strict=True)):
        found = np.flatnonzero((scheme.marks == B) & (scheme.types == kind))
        if mark == I and len(found):
            begin[i] = found[0]
    opens = scheme.boundaries(tags)[2][:, :-1]
    return np.where(broken & opens, begin[tags], tags)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Counts:
    """Counts of every sentence [sentences]: entities that are right, predicted and true."""

    right: Ids
    predicted: Ids
    true: Ids

    @classmethod
    def of(cls, predicted: Array, true: Array, scheme: Scheme) -> Counts:
        """From tag ids [sentences, words] of both, below 0 where there is no word."""
        (rows, found), (true_rows, wanted) = scheme.entities(predicted), scheme.entities(true)
        count = len(true)
        return cls(
            right=np.bincount(rows[np.isin(found, wanted)], minlength=count),
            predicted=np.bincount(rows, minlength=count),
            true=np.bincount(true_rows, minlength=count),
        )


Shares = Callable[[Array, Array, Scheme], tuple[Array, Array]]
"""Tag ids [sentences, words] that are predicted and true → each sentence's parts [sentences] of a share's two sums."""


def f1_parts(predicted: Array, true: Array, scheme: Scheme) -> tuple[Array, Array]:
    """Twice the right entities, of those predicted and those that are true."""
    counts = Counts.of(predicted, true, scheme)
    return 2 * counts.right, counts.predicted + counts.true


def precision_parts(predicted: Array, true: Array, scheme: Scheme) -> tuple[Array, Array]:
    """The right entities, of those predicted."""
    counts = Counts.of(predicted, true, scheme)
    return counts.right, counts.predicted


def recall_parts(predicted: Array, true: Array, scheme: Scheme) -> tuple[Array, Array]:
    """The right entities, of those that are true."""
    counts = Counts.of(predicted, true, scheme)
    return counts.right, counts.true


def accuracy_parts(predicted: Array, true: Array, _: Scheme) -> tuple[Array, Array]:
    """Words with the right tag, of all."""
    words = np.asarray(true) >= 0
    return ((predicted == true) & words).sum(axis=1), words.sum(axis=1)
