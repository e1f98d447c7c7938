"""Running text for language models: documents told apart, and cut into blocks as long as a model reads at once."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from tokenizers import Encoding

from compiler.data import Split
from compiler.tasks.tokenising import unchanged

_HEADING = re.compile(r"\s*= (?!=)\S.* =\s*")
"""An article's title in WikiText."""

_LONGEST_DOCUMENT, _LONGEST_PASSAGE = 50_000, 8_000
"""Characters of a document, and of a passage of text that has no headings, at most: splits are drawn over them."""

_FEWEST, FEWEST_ARTICLES = 20, 3
"""Passages of a short text, about, and articles of a text that is split by them."""

Lines = Sequence[str]


def titles(lines: Lines) -> int:
    """How many lines are titles of articles."""
    return sum(_HEADING.fullmatch(line) is not None for line in lines)


def documents(lines: Lines) -> tuple[tuple[str, ...], str]:
    """Lines of running text, joined to documents, and a note on what they are: articles by their titles, else passages."""
    count = titles(lines)
    if count >= FEWEST_ARTICLES:
        return tuple(
            _joined(lines, _LONGEST_DOCUMENT, titled=True)
        ), f"running text: {count} articles, told by their titles"
    longest = min(_LONGEST_PASSAGE, sum(map(len, lines)) // _FEWEST)
    passages = tuple(_joined(lines, longest, titled=False))
    return (
        passages,
        f"running text without titles of articles: {len(lines):,} lines are read as {len(passages):,} passages",
    )


def _joined(lines: Lines, longest: int, *, titled: bool) -> Iterator[str]:
    """Documents of so many characters, or one line more; with `titled` each title begins one."""
    gathered, size = list[str](), 0
    for line in lines:
        if gathered and (size >= longest or (titled and _HEADING.fullmatch(line))):
            yield "\n".join(gathered)
            gathered, size = [], 0
        gathered.append(line)
        size += len(line)
    if gathered:
        yield "\n".join(gathered)


def in_blocks(tokenizer: Any, split: Split, *, max_tokens: int) -> Split:
    """Documents cut between words into texts of `max_tokens` tokens at most; `groups` number the documents.

    A block is a text of its own: it gets the tokenizer's special tokens, and nothing before it is seen.
    """
    room = max_tokens - tokenizer.num_special_tokens_to_add()
    texts = [text for (text,) in split.texts]
    with unchanged(tokenizer) as backend:
        backend.no_truncation()
        backend.no_padding()
        encoded = backend.encode_batch(texts, add_special_tokens=False)
    blocks = [list(_blocks(text, encoding, room)) for text, encoding in zip(texts, encoded, strict=True)]
    return Split(
        texts=tuple((block,) for found in blocks for block in found),
        labels=None,
        groups=np.repeat(np.arange(len(blocks)), list(map(len, blocks))),
    )


def _blocks(text: str, encoding: Encoding, room: int) -> Iterator[str]:
    offsets, start = encoding.offsets, 0
    while start < len(offsets):
        end = min(start + room, len(offsets))
        if end < len(offsets):
            begins = (place for place in range(end, start, -1) if _begins_word(text, offsets[place][0]))
            end = next(begins, end)
        last = offsets[end][0] if end < len(offsets) else len(text)
        block = text[offsets[start][0] : last].rstrip(" ")
        if block:
            yield block
        start = end


def _begins_word(text: str, place: int) -> bool:
    return text[place].isspace() or text[place - 1].isspace()
