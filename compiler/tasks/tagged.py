"""Tables of words and tags → sentences with a tag id for each word."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from compiler.data.table import Table, is_missing, name_of, shorten
from compiler.data.text_data import Labels, Split
from compiler.data.token_columns import TaggedRows, TokenColumns, read_tagged, token_columns
from compiler.tasks.entities import Scheme, breaks, repaired
from compiler.tasks.plain import read_plain
from compiler.tasks.task import Asked, Reading
from targets.errors import InputError

if TYPE_CHECKING:
    from compiler.tasks.task import Task

_SUFFIXED = re.compile(r".+[-_][BIES]")
_ORDER = {"B": 0, "I": 1, "E": 2, "L": 2, "S": 3, "U": 3}


def read_tokens(tables: Mapping[str, Table], asked: Asked, task: Task) -> Reading:
    """Sentences and the tag ids of their words, by role; texts alone for a model that is trained for the task already.

    A test split without tags is left out. InputError, with rows, as in `compiler.data.token_columns.read_tagged`, and where all
    tags are one.
    """
    train = next(iter(tables.values()))
    columns = token_columns(train, asked.text_columns, asked.label_column)
    if columns is None or (columns.tags is None and asked.label_column is not None):
        return _texts_alone(tables, asked, task)
    found, notes = {}, list[str]()
    for role, table in tables.items():
        if role == "test" and columns.tags is not None and _is_untagged(table, columns.tags):
            notes.append(f"{table.source} has no tags and is not used")
            continue
        _refuse_lacking(table, columns)
        found[role] = read_tagged(table, columns)
    names, ids, said = (None, dict[str, Labels](), list[str]())
    if columns.tags is not None:
        names = train.class_names.get(columns.tags) or _names(found.values())
        ids, said = _encoded(tables, found, names, columns)
    unused = tuple(name for name in train.columns if name not in {columns.tokens, columns.tags})
    shown = [f"words are {name_of(columns.tokens)}, tags {'none' if columns.tags is None else name_of(columns.tags)}"]
    shown += [f"columns not used: {', '.join(name or '(unnamed)' for name in unused)}"] if unused else []
    return Reading(
        task=task,
        text_columns=(columns.tokens,),
        label_column=columns.tags,
        splits={role: Split(texts=rows.texts, labels=ids.get(role)) for role, rows in found.items()},
        label_names=names,
        notes=(*shown, *notes, *said, *(note for rows in found.values() for note in rows.notes)),
        unused=unused,
        shown=tuple(shown),
        numbered=columns.tags in train.class_names,
    )


def _texts_alone(tables: Mapping[str, Table], asked: Asked, task: Task) -> Reading:
    """Texts without tags. InputError where no model says the tags, or labels of whole texts were given."""
    train = next(iter(tables.values()))
    if task.name not in asked.declared or asked.label_column is not None:
        raise InputError(
            f"{train.source} has no lists of words with lists of tags: {train.describe()}.\n"
            "Give CoNLL columns, or records with tokens and ner_tags; or texts alone with a model trained to tag."
        )
    from compiler.tasks.registry import task_named

    return replace(read_plain(tables, asked, task_named("embedding")), task=task)


def _is_untagged(table: Table, tags: str) -> bool:
    values = table.columns.get(tags)
    return values is None or all(is_missing(value) or value == [] or set(value) == {-1} for value in values)


def _refuse_lacking(table: Table, columns: TokenColumns) -> None:
    missing = [name for name in (columns.tokens, columns.tags) if name is not None and name not in table.columns]
    if missing:
        raise InputError(
            f"{table.source} lacks the column {shorten(missing[0])}, which the training data has.\n"
            f"Its columns: {table.describe()}."
        )


def _names(found: Iterable[TaggedRows]) -> tuple[str, ...]:
    """Every tag of all splits: O, then by type, in the order in which an entity has them."""
    tags = {tag for rows in found for sentence in rows.tags or () for tag in sentence}
    if any(tag != "O" for tag in tags) and all(_SUFFIXED.fullmatch(tag) for tag in tags if tag != "O"):
        example = next(tag for tag in sorted(tags) if tag != "O")
        raise InputError(
            f"Tags such as {shorten(example)} have their mark at the end.\nWrite it first: {example[-1]}-{example[:-2]}."
        )
    return tuple(sorted(tags, key=lambda tag: (tag != "O", tag[2:] or tag, _ORDER.get(tag[0], 4), tag)))


def _encoded(
    tables: Mapping[str, Table], found: Mapping[str, TaggedRows], names: tuple[str, ...], columns: TokenColumns
) -> tuple[dict[str, Labels], list[str]]:
    """Tag ids by role, objects [sentences] of lists, repaired where they break their scheme; and notes."""
    numbers = {name: i for i, name in enumerate(names)}
    of_role = {role: [[numbers[tag] for tag in tags] for tags in rows.tags or ()] for role, rows in found.items()}
    used = {tag for sentences in of_role.values() for tags in sentences for tag in tags}
    if len(used) < 2:
        source = next(iter(tables.values())).source
        raise InputError(
            f"All words of {source} ({columns.tags}) are tagged {shorten(names[used.pop()])}: there is nothing to learn.\n"
            "Give data with entities."
        )
    scheme, everything = Scheme.of(names), matrix([tags for sentences in of_role.values() for tags in sentences])
    broken = breaks(scheme, everything)
    mended = repaired(scheme, everything, broken)
    notes = [f"{len(names)} tags"]
    if not scheme.marked:
        notes.append("no tag has a B- or I- before it: words in a row with one tag are one entity")
    labels, start = dict[str, Labels](), 0
    for role, sentences in of_role.items():
        rows = slice(start, start + len(sentences))
        labels[role] = lists([mended[start + i, : len(tags)].tolist() for i, tags in enumerate(sentences)])
        if (count := int(broken[rows].sum())) > 0:
            places = [found[role].rows[i] for i in np.flatnonzero(broken[rows].any(axis=1))]
            notes.append(
                f"{count:,} tags do not follow BIO or BIOES, in the sentences at {tables[role].places(places)}: they are read as "
                "seqeval does, where a tag that continues nothing begins an entity"
            )
        start += len(sentences)
    return labels, notes


def matrix(tags: Sequence[Sequence[int]]) -> NDArray[np.int64]:
    """Tag ids [sentences, words of the longest], -1 where there is no word."""
    result = np.full((len(tags), max(map(len, tags), default=0)), -1, dtype=np.int64)
    for row, own in enumerate(tags):
        result[row, : len(own)] = own
    return result


def lists(values: Sequence[list[Any]]) -> Labels:
    """Objects [sentences], of one list each."""
    result = np.empty(len(values), dtype=object)
    result[:] = values
    return result
