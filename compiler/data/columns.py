"""Which columns are texts and which is the label: by what the user says, then by name, then by content."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from compiler.data.names import (
    LABEL_NAMES,
    PAIR_NAMES,
    TEXT_NAMES,
    are_twins,
    describes_rows,
    is_identifier,
    is_known,
    plain,
)
from compiler.data.odd_labels import is_date
from compiler.data.questions import question_error
from compiler.data.table import Table, as_number, is_missing, name_of, shorten
from compiler.data.token_columns import token_error
from targets.errors import InputError

_SPACED_SHARE = 0.5
_REPEATED_SHARE = 0.1
_LABEL_WORDS = 4
_WEAK = "title"
"""A text where it is the only one; beside others it is their heading."""

_TOKEN_TAGS = {"ner_tags", "pos_tags", "chunk_tags", "tags", "ner", "tokens", "upos", "labels_ner", "bio_tags"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """The columns in use, and those that are not. `notes` says what was inferred."""

    texts: tuple[str, ...]
    label: str | None
    notes: tuple[str, ...]
    unused: tuple[str, ...] = ()

    def using(self, name: str) -> Columns:
        """The same where a column that is no text and no label is in use as well."""
        rest = tuple(other for other in self.unused if other != name)
        kept = tuple(note for note in self.notes if note not in _unused_notes(self.unused))
        return replace(self, unused=rest, notes=(*kept, *_unused_notes(rest)))


def choose_columns(
    table: Table,
    *,
    labelled: bool | None = None,
    task: str = "",
    text_columns: Sequence[str] | None = None,
    label_column: str | None = None,
) -> Columns:
    """Choose the text columns and the label column of `table`.

    `labelled` says whether the task reads labels, where it is known; `task` is what messages call it.
    Raises InputError, with the columns and an example of each, for names that are not there, for texts that are
    numbers, and where several choices are as good as each other.
    """
    given = tuple(text_columns or ())
    _refuse_other_tasks(table, given, label_column, labelled=labelled)
    _refuse_unknown(table, [*given, *([label_column] if label_column is not None else [])])
    _refuse_misuse(given, label_column)
    _refuse_untextual(table, given)
    label = label_column or label_by_name(table, given)
    texts = given or _infer_texts(table, label)
    if label is None and labelled is not False:
        label = _label_by_content(table, texts)
    if label is None and labelled:
        raise InputError(
            f"{table.source} has no label column, which {task} needs: {table.describe()}.\n"
            "Name it with --label-column, or pass --task embedding.",
        )
    unused = tuple(name for name in table.columns if name not in texts and name != label)
    notes = _notes(texts, label, unused, given=given, label_column=label_column)
    return Columns(texts=texts, label=label, notes=notes, unused=unused)


def _notes(
    texts: tuple[str, ...],
    label: str | None,
    unused: tuple[str, ...],
    *,
    given: tuple[str, ...],
    label_column: str | None,
) -> tuple[str, ...]:
    notes = []
    if not given:
        notes.append(f"text columns inferred: {', '.join(texts)}")
    if label_column is None:
        notes.append(f"label column inferred: {label}" if label is not None else "no label column was found")
    return (*notes, *_unused_notes(unused))


def _unused_notes(unused: tuple[str, ...]) -> tuple[str, ...]:
    return (f"columns not used: {', '.join(name or '(unnamed)' for name in unused)}",) if unused else ()


def _refuse_unknown(table: Table, names: Sequence[str]) -> None:
    for name in names:
        if name not in table.columns:
            raise InputError(f"{table.source} has no column {shorten(name)}.\nIts columns: {table.describe()}.")


def _refuse_misuse(texts: tuple[str, ...], label: str | None) -> None:
    if len(texts) > 2 or len(set(texts)) < len(texts):
        raise InputError(f"--text-columns takes one column or two different ones; got {', '.join(texts)}.")
    if label is not None and label in texts:
        raise InputError(f"The column {shorten(label)} is named both as a text and as the label.\nName another one.")


def _refuse_untextual(table: Table, names: Sequence[str]) -> None:
    for name in names:
        values = [value for value in table.columns[name] if not is_missing(value)]
        wrong = next((value for value in values if not isinstance(value, str)), None)
        if values and (wrong is not None or _numeric(values)):
            example = values[0] if wrong is None else wrong
            raise InputError(
                f"The column {shorten(name)} of {table.source} does not hold texts: it has {shorten(example)}.\n"
                f"Choose text columns with --text-columns: {table.describe()}.",
            )


def label_by_name(table: Table, texts: tuple[str, ...]) -> str | None:
    """The column that is called a label and has values, if there is one."""
    by_name = {plain(name): name for name in reversed(list(table.columns)) if name not in texts}
    found = [by_name[name] for name in LABEL_NAMES if name in by_name]
    usable = [name for name in found if any(not is_missing(value) for value in table.columns[name])]
    return usable[0] if usable else None


def _infer_texts(table: Table, label: str | None) -> tuple[str, ...]:
    found = [name for name in table.columns if name != label and _is_textual(table.columns[name], name)]
    prose = [name for name in found if not _is_repeated(table.columns[name], name)]
    found = prose or found
    if len(found) > 1:
        found = _prefer_known(found, named=table.header is not False)
    if len(found) == 1 or (len(found) == 2 and _is_known_pair(found, named=table.header is not False)):
        return tuple(found)
    what = "several columns of texts" if found else "no column of texts"
    remedy = "Name one, or the two of a pair, with --text-columns A,B." if found else "Name one with --text-columns."
    raise InputError(f"{_title(table)} has {what}: {table.describe()}.\n{remedy}")


def _prefer_known(names: list[str], *, named: bool) -> list[str]:
    """A pair of known names, else twins where there are no others, else the column that is called a text."""
    by_name = {plain(name): name for name in reversed(names)}
    for first, second in PAIR_NAMES:
        if first in by_name and second in by_name:
            return [by_name[first], by_name[second]]
    if len(names) == 2 and _is_known_pair(names, named=named):
        return names
    known = [by_name[name] for name in TEXT_NAMES if name in by_name and name != _WEAK]
    return known[:1] or names


def _is_known_pair(names: list[str], *, named: bool) -> bool:
    """Whether two columns are a pair by their names; the names column_1 and column_2 are ours, and show nothing."""
    first, second = names
    return (plain(first), plain(second)) in PAIR_NAMES or (named and are_twins(first, second))


def _refuse_other_tasks(table: Table, given: tuple[str, ...], label: str | None, *, labelled: bool | None) -> None:
    """InputError, by name, for data of tasks that are not supported, unless the user says what to take of them."""
    if given or label is not None or labelled is False:
        return
    for name, values in table.columns.items():
        first = next((value for value in values if value is not None), None)
        if isinstance(first, dict) and "answer_start" in first:
            raise question_error(table.source)
        if isinstance(first, list) and plain(name) in _TOKEN_TAGS:
            raise token_error(table.source)


def _is_textual(values: Sequence[Any], name: str) -> bool:
    filled = [value for value in values if not is_missing(value)]
    if not filled or is_identifier(name) or not all(isinstance(value, str) for value in filled) or _numeric(filled):
        return False
    spaced = sum(_is_spaced(value) for value in filled)
    return spaced >= _SPACED_SHARE * len(filled) or (is_known(name) and plain(name) not in LABEL_NAMES)


def _is_spaced(value: str) -> bool:
    head = value[:1000].strip()
    return any(mark.isspace() for mark in head) and any(mark.isalpha() for mark in head)


def _is_repeated(values: Sequence[Any], name: str) -> bool:
    """Whether a column of short phrases is rather one of class names ("card arrival")."""
    if is_known(name) or len(values) < 20 or len(set(values)) > _REPEATED_SHARE * len(values):
        return False
    return all(len(value.split()) <= _LABEL_WORDS for value in set(values) if isinstance(value, str))


def _title(table: Table) -> str:
    return f"{table.source} (no header found)" if table.header is False else table.source


def _label_by_content(table: Table, texts: tuple[str, ...]) -> str | None:
    rest = [name for name in table.columns if name not in texts and not is_identifier(name)]
    candidates = [name for name in rest if is_labelling(table.columns[name])]
    found = [name for name in candidates if not describes_rows(name)]
    if candidates and not found:
        raise InputError(
            f"Does {name_of(candidates[0])} label the texts of {table.source}, or say where they come from?\n"
            "Pass --label-column with the label, or --task embedding.",
        )
    if len(found) > 1:
        likely = min(found, key=lambda name: len(set(table.columns[name])))
        raise InputError(
            f"{_title(table)} has several columns that could be the label: {table.describe()}.\n"
            f"Name it with --label-column (for example {likely}), or pass --task embedding.",
        )
    return found[0] if found else None


def is_labelling(values: Sequence[Any]) -> bool:
    """Whether every row has a value, and the values are classes or scores rather than the names of rows."""
    if any(is_missing(value) or isinstance(value, list | dict) for value in values) or all(map(is_date, values)):
        return False
    distinct = len({str(value) for value in values})
    return distinct > 1 and (distinct <= len(values) / 2 or _are_scores(values))


def _are_scores(values: Sequence[Any]) -> bool:
    numbers = [as_number(value) for value in values]
    return None not in numbers and any(number is not None and not number.is_integer() for number in numbers)


def _numeric(values: Sequence[Any]) -> bool:
    return all(as_number(value) is not None for value in values)
