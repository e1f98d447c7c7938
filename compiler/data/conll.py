"""CoNLL files: a word and its tag a line, sentences apart by separator lines."""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from compiler.data.table import Form, Table, shorten
from targets.errors import InputError

_TAG = re.compile(r"(?:O|[BIESLU]-\S+)")
_TAGGED_SHARE = 0.9
_READ_LINES = 2000
_DOCUMENT = "-DOCSTART-"


class _Line(NamedTuple):
    number: int
    text: str
    fields: list[str]


def is_tagged(text: str) -> bool:
    """Whether the lines of a text are words with tags of entities in their last column."""
    lines = text[:1_000_000].splitlines()[:_READ_LINES]
    filled = [fields for line in lines if (fields := line.split()) and not line.startswith(("#", _DOCUMENT))]
    tags = [fields[-1] for fields in filled if len(fields) > 1 and _TAG.fullmatch(fields[-1])]
    return len(tags) >= max(_TAGGED_SHARE * len(filled), 2) and any(tag != "O" for tag in tags)


def read_conll(text: str, source: str) -> Table:
    """A sentence a row: columns `tokens` and `tags`, lists of strings; a row's line is that of its first word.

    Fields are separated by tabs where every line with words has one, else by any spaces. The first column holds the words, or the
    second where the first numbers them; the last holds the tags. Lines without a character that is no space, and -DOCSTART-, end a
    sentence; comments start with #. InputError, with its line, for a line of another number of fields.
    """
    lines = [_Line(i, line, []) for i, line in enumerate(io.StringIO(text, newline=None), start=1)]
    filled = [line for line in lines if line.text.strip() and not line.text.startswith((_DOCUMENT, "#"))]
    tabs = bool(filled) and all("\t" in line.text for line in filled)
    width = Counter(len(_fields(line.text, tabs=tabs)) for line in filled).most_common(1)
    if not width or width[0][0] < 2:
        raise InputError(
            f"{source} has no words with a tag behind each.\nWrite a word, a tab and its tag on each line."
        )
    columns = width[0][0]
    sentences = list(_sentences(lines, source, columns, tabs=tabs))
    place = 1 if columns > 2 and all(_are_numbered(sentence) for sentence in sentences) else 0
    unused = [str(i + 1) for i in range(columns - 1) if i != place]
    notes = (f"{source}: words are column {place + 1}, tags the last of {columns}; not used: {', '.join(unused)}",)
    return Table(
        source=source,
        columns={
            "tokens": [[line.fields[place].strip() for line in sentence] for sentence in sentences],
            "tags": [[line.fields[-1].strip() for line in sentence] for sentence in sentences],
        },
        lines=[sentence[0].number for sentence in sentences],
        notes=notes if unused else (),
        form=Form(format="CoNLL", separator="\t" if tabs else " "),
    )


def _fields(text: str, *, tabs: bool) -> list[str]:
    return text.rstrip("\r\n").split("\t") if tabs else text.split()


def _sentences(lines: Sequence[_Line], source: str, columns: int, *, tabs: bool) -> Iterator[list[_Line]]:
    sentence: list[_Line] = []
    for line in lines:
        if not line.text.strip() or line.text.startswith(_DOCUMENT):
            if sentence:
                yield sentence
            sentence = []
            continue
        fields = _fields(line.text, tabs=tabs)
        if line.text.startswith("#") and (len(fields) != columns or not _TAG.fullmatch(fields[-1].strip())):
            continue
        if len(fields) != columns or not fields[-1].strip():
            raise InputError(
                f"{source} line {line.number} has {len(fields)} fields, {shorten(line.text)}; the others have {columns}, "
                "the last of them a tag.\nGive every word its tag, and leave a line empty after each sentence."
            )
        sentence.append(line._replace(fields=fields))
    if sentence:
        yield sentence


def _are_numbered(sentence: Sequence[_Line]) -> bool:
    """Whether the first column counts the words."""
    return [line.fields[0] for line in sentence] == [str(i) for i in range(1, len(sentence) + 1)]
