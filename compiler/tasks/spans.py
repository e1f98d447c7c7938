"""Spans of a text as answers to questions: the best one by two logits a token, and SQuAD's exact match and F1."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

LONGEST = 30
"""Tokens of an answer, at most: that of SQuAD's reference implementations."""

START, END, SCORE, NULL = range(4)
"""Columns of answers [.., 4]: first character, the one after the last, the span's score, and the score of no answer."""

_NO_SPAN = np.float32(-1e30)

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


@lru_cache(maxsize=65536)
def normalised(text: str) -> str:
    """Text in lower case without punctuation, English articles and surplus space: what SQuAD's evaluation compares."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def overlap(answer: str, gold: str) -> float:
    """F1 of the normalised words of two texts; where one has none, whether neither has."""
    ours, theirs = normalised(answer).split(), normalised(gold).split()
    if not ours or not theirs:
        return float(ours == theirs)
    common = sum((Counter(ours) & Counter(theirs)).values())
    return 2 * common / (len(ours) + len(theirs))


def same(answer: str, gold: str) -> float:
    """1 where two texts are the same after `normalised`, else 0."""
    return float(normalised(answer) == normalised(gold))


def golds(texts: Sequence[str]) -> list[str]:
    """Answers that count: those with a word, or the empty text where none has, which is the answer that there is none."""
    return [text for text in texts if normalised(text)] or [""]


def best_spans(logits: Array, offsets: Array) -> NDArray[np.float32]:
    """Best span of every window [windows, 4]: characters of its start and end, its score, and the score of no answer.

    `logits` are those of start and end [windows, tokens, 2], `offsets` the characters [windows, tokens, 2] of every token of the
    context, -1 elsewhere. A span starts and ends in the context and has `LONGEST` tokens at most; its score is the sum of its two
    logits. The first token's stands for no answer. A window without finite logits has the score NaN.
    """
    lines, tokens = np.arange(len(logits)), logits.shape[1]
    outside = offsets[..., 0] < 0
    starts, ends = (np.where(outside, _NO_SPAN, logits[..., side]) for side in (0, 1))
    best, first, last = np.full(len(logits), 2 * _NO_SPAN), np.zeros_like(lines), np.zeros_like(lines)
    for length in range(min(LONGEST, tokens)):
        scores = starts[:, : tokens - length] + ends[:, length:]
        at = scores.argmax(axis=1)
        better = scores[lines, at] > best
        best, first = np.where(better, scores[lines, at], best), np.where(better, at, first)
        last = np.where(better, at + length, last)
    best = np.where(np.isfinite(logits).all(axis=(1, 2)), best, np.nan)
    none = best <= _NO_SPAN / 2
    span = [np.where(none, 0, offsets[lines, at, side]) for side, at in ((0, first), (1, last))]
    return np.stack([*span, best, logits[:, 0].sum(axis=1)], axis=1).astype(np.float32)


def best_windows(rows: Array, found: Array) -> NDArray[np.float32]:
    """Answers [examples, 4] from those of windows [windows, 4]: the span of the best, the lowest score of no answer."""
    order = np.lexsort((-np.nan_to_num(found[:, SCORE], nan=np.inf), rows))
    first = np.unique(rows[order], return_index=True)[1]
    best = found[order[first]]
    best[:, NULL] = np.minimum.reduceat(found[order, NULL], first)
    return np.asarray(best, dtype=np.float32)


def spelt(answers: Array, contexts: Sequence[str], *, none_allowed: bool) -> list[str]:
    """Texts of answers [examples, 4]; empty where there is none: where that is allowed, by its score being the higher (threshold 0)."""
    return [
        "" if none_allowed and row[NULL] > row[SCORE] else context[int(row[START]) : int(row[END])]
        for row, context in zip(answers, contexts, strict=True)
    ]
