"""Text files without a format: one text a line, fields between tabs, fastText's labels before the text, or CoNLL's columns."""

from __future__ import annotations

import io
import re
from collections import Counter

from compiler.data.conll import is_tagged, read_conll
from compiler.data.delimited import read_delimited
from compiler.data.table import Form, Table, shorten
from targets.errors import InputError

_FASTTEXT = re.compile(r"__label__(\S+)\s+(?!__label__)(\S.*)")


def read_lines(text: str, source: str, *, header: bool | None = None) -> Table:
    """A text a line; fields where every line has the same number of tabs; labels and texts of fastText; words and tags of CoNLL."""
    if is_tagged(text):
        return read_conll(text, source)
    numbered = [(i, line.rstrip("\n")) for i, line in enumerate(io.StringIO(text, newline=None), start=1)]
    kept = [(i, line) for i, line in numbered if line.strip()]
    lines = [i for i, _ in kept]
    if kept and all(line.startswith("__label__") for _, line in kept):
        return _fasttext(kept, source)
    tabs = {line.count("\t") for _, line in kept}
    if len(tabs) == 1 and tabs != {0}:
        return read_delimited(text, source=source, tab=True, header=header)
    texts = [line for _, line in kept]
    form = Form(format="text lines")
    return Table(source=source, columns={"text": texts}, lines=lines, form=form, notes=_prefix_notes(texts, source))


def _prefix_notes(texts: list[str], source: str) -> tuple[str, ...]:
    """A note where every line starts with a word such as LOC:city, of which there are few: TREC's labels stand so."""
    words = Counter(text.split(maxsplit=1)[0] for text in texts)
    if not words or len(words) > len(texts) / 5 or not all(":" in word.strip(":") for word in words):
        return ()
    example = next(iter(words))
    note = f"{source}: every line starts with one of {len(words)} words such as {shorten(example)}, taken as a part of the text"
    return (f"{note}; if they are labels, put a tab after them",)


def _fasttext(kept: list[tuple[int, str]], source: str) -> Table:
    found = [(i, _FASTTEXT.fullmatch(line.strip())) for i, line in kept]
    wrong = next((i for i, match in found if match is None), None)
    if wrong is not None:
        raise InputError(
            f"{source} line {wrong} has not one __label__NAME and a text.\nOnly one label a row is supported."
        )
    pairs = [match.groups() for _, match in found if match is not None]
    columns = {"label": [label for label, _ in pairs], "text": [text for _, text in pairs]}
    return Table(source=source, columns=columns, lines=[i for i, _ in kept], form=Form(format="fastText"))
