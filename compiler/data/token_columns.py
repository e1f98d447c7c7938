"""Tables of words and tags: which columns they are, and what stands in them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from compiler.data.names import LABEL_NAMES, TEXT_NAMES, plain
from compiler.data.table import Table, as_number, is_encodable, is_missing, name_of, shorten
from targets.errors import InputError

TOKEN_NAMES = ("tokens", "words", "token", "word", "text", "sentence")
TAG_NAMES = (
    "ner_tags", "ner", "tags", "tag", "bio_tags", "labels_ner", "labels", "label", "entities", "upos", "pos_tags", "pos", "xpos",
    "chunk_tags",
)  # fmt: skip
"""Both in order of preference."""

SPACE = re.compile(r"[ \t\n\r\f\v]+")
"""What separates words in a text."""

_JOINER = "\N{NO-BREAK SPACE}"
"""Stands for a space inside a word, so that the text of a sentence has the words that its tags are of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenColumns:
    """The columns of words and of tags; None where words have no tags."""

    tokens: str
    tags: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TaggedRows:
    """The sentences of a table that have words: as texts, their words apart by one space, and the tags of the words by name.

    `tags` is None where there are none; `rows` are their numbers in the table.
    """

    texts: tuple[tuple[str], ...]
    tags: tuple[tuple[str, ...], ...] | None
    rows: tuple[int, ...]
    notes: tuple[str, ...]


def token_error(source: str) -> InputError:
    """The refusal of tags of words where labels of whole texts were looked for."""
    return InputError(
        f"{source} labels words (named entities, parts of speech): that is token classification, which reads lists of words "
        "beside lists of tags.\nGive both with --task token_classification, or data with one label a text."
    )


def token_columns(table: Table, texts: Sequence[str] = (), label: str | None = None) -> TokenColumns | None:
    """The columns of lists of words and of their tags; None where there is no list of words.

    `texts` and `label` are what the user named: nothing else is taken then.
    """
    words = _first(table, texts or _by_preference(table, TOKEN_NAMES), (str,))
    if words is None or len(texts) > 1:
        return None
    names = (label,) if label is not None else _by_preference(table, TAG_NAMES)
    tags = _first(table, [name for name in names if name != words], (str, int))
    return TokenColumns(tokens=words, tags=tags)


def label_of_rows(table: Table) -> str | None:
    """A column that is called a label and has one value a row, where there are texts to go with it; else None."""
    by_name = {plain(name): name for name in reversed(list(table.columns))}
    single = [name for known in LABEL_NAMES if (name := by_name.get(known)) is not None and _is_single(table, name)]
    texts = [name for known in TEXT_NAMES if (name := by_name.get(known)) is not None and _is_single(table, name)]
    return single[0] if single and texts else None


def _is_single(table: Table, name: str) -> bool:
    filled = [value for value in table.columns[name] if not is_missing(value)]
    return bool(filled) and not any(isinstance(value, list | dict) for value in filled)


def _by_preference(table: Table, known: Sequence[str]) -> list[str]:
    by_name = {plain(name): name for name in reversed(list(table.columns))}
    return [by_name[name] for name in known if name in by_name]


def _first(table: Table, names: Sequence[str], kinds: tuple[type, ...]) -> str | None:
    """The first column of these whose first filled value is a list of such values."""
    for name in names:
        found = next((value for value in table.columns.get(name, ()) if value), None)
        if isinstance(found, list) and all(isinstance(each, kinds) for each in found):
            return name
    return None


def read_tagged(table: Table, columns: TokenColumns) -> TaggedRows:
    """Words and tags of every sentence; sentences without a word, and words without a character, are left out and noted.

    InputError, with the row, for words and tags of different number, words that are no strings, tags that are no names, and where
    no sentence has a word.
    """
    tokens = table.columns[columns.tokens]
    tags = None if columns.tags is None else list(_tags(table, columns.tags))
    lists = [_words(table, columns.tokens, row) for row in range(len(tokens))]
    if tags is not None:
        _refuse_unequal(table, columns, lists, tags)
    real = [[i for i, word in enumerate(words) if SPACE.sub("", word)] for words in lists]
    rows = tuple(row for row, kept in enumerate(real) if kept)
    if not rows:
        raise InputError(f"No row of {table.source} has a word in {name_of(columns.tokens)}.\nGive lists of words.")
    return TaggedRows(
        texts=tuple((" ".join(_clean(lists[row][i]) for i in real[row]),) for row in rows),
        tags=None if tags is None else tuple(tuple(tags[row][i] for i in real[row]) for row in rows),
        rows=rows,
        notes=tuple(_notes(table, lists, real)),
    )


def _words(table: Table, column: str, row: int) -> list[str]:
    words = table.columns[column][row]
    odd = (
        words if not isinstance(words, list | None) else next((w for w in words or () if not isinstance(w, str)), None)
    )
    if odd is not None:
        raise InputError(
            f"{table.place(row)}: the words ({name_of(column)}) are {shorten(odd)}, not a list of strings.\n"
            "Write each word as a string."
        )
    return words or []


def _tags(table: Table, column: str) -> Iterator[Sequence[str]]:
    """The tags of every row by name; those of a file that numbers them by the names that it gives."""
    names = table.class_names.get(column)
    if names is None and all(as_number(tag) is not None for tags in table.columns[column] for tag in _list(tags)):
        raise InputError(
            f"{table.source} numbers the tags ({name_of(column)}) of its words, and does not say what the numbers mean: "
            "token classification needs names.\nWrite tags as B-PER and O, or save the data set as Parquet with its ClassLabel names."
        )
    for row, tags in enumerate(table.columns[column]):
        yield [_tag(table, column, row, tag, names) for tag in _list(tags)]


def _list(tags: Any) -> Sequence[Any]:
    return tags if isinstance(tags, list) else () if tags is None else (tags,)


def _tag(table: Table, column: str, row: int, tag: Any, names: tuple[str, ...] | None) -> str:
    if isinstance(tag, str) and tag.strip():
        return tag.strip()
    if names is not None and isinstance(tag, int) and 0 <= tag < len(names):
        return names[tag]
    known = "" if names is None else f" of 0 to {len(names) - 1}"
    raise InputError(
        f"{table.place(row)}: {shorten(tag)} in {name_of(column)} is no tag{known}.\nGive every word a tag."
    )


def _refuse_unequal(
    table: Table, columns: TokenColumns, lists: Sequence[list[str]], tags: Sequence[Sequence[str]]
) -> None:
    unequal = [row for row, (words, own) in enumerate(zip(lists, tags, strict=True)) if len(words) != len(own)]
    if unequal:
        row = unequal[0]
        raise InputError(
            f"{table.places(unequal)}: {len(lists[row])} words ({name_of(columns.tokens)}) and {len(tags[row])} tags "
            f"({name_of(str(columns.tags))}).\nGive every word one tag."
        )


def _clean(word: str) -> str:
    return SPACE.sub(_JOINER, word.strip(" \t\n\r\f\v")).encode(errors="replace").decode()


def _notes(table: Table, lists: Sequence[list[str]], real: Sequence[list[int]]) -> Iterator[str]:
    empty = [row for row, kept in enumerate(real) if not kept]
    if empty:
        yield f"{len(empty)} sentences without a word are left out: {table.places(empty)}"
    blank = [row for row, (words, kept) in enumerate(zip(lists, real, strict=True)) if kept and len(kept) < len(words)]
    if blank:
        yield f"words without a character are left out, with their tags: {table.places(blank)}"
    wrong = [row for row, words in enumerate(lists) if not all(map(is_encodable, words))]
    if wrong:
        yield f"words with characters that UTF-8 cannot hold were rid of them: {table.places(wrong)}"
