"""A file, folder or hub data set → texts and labels in three splits, and a note on everything that was inferred."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from compiler.data.encodings import check_encoding
from compiler.data.rare import rare_class_notes
from compiler.data.sources import ALL, display_name, read_source
from compiler.data.splits import split_off
from compiler.data.table import Table
from compiler.data.text_data import Labels, SourceFile, Split, TextData, content_sha256
from compiler.tasks.plain import read_plain
from compiler.tasks.registry import TASKS, task_named
from compiler.tasks.task import Asked, Reading, undecided
from targets.errors import InputError, printable

_SINGLE_FILE_HELD_OUT = 0.3
_LEAST_EXAMPLES = 3
_FEW_EXAMPLES = 100


def read_data(
    source: str,
    *,
    task: str = "auto",
    text_columns: Sequence[str] | None = None,
    label_column: str | None = None,
    encoding: str | None = None,
    header: bool | None = None,
    declared: Sequence[str] = (),
    seed: int = 0,
    validation_fraction: float = 0.3,
) -> TextData:
    """Read a data set and split it.

    Args:
        source: a CSV, TSV, JSON, JSON lines, Parquet, Arrow or plain-text file, a folder of train, dev and test files or
            one that `datasets` saved, or a hub data set as NAME or NAME:CONFIG.
        task: a name of `TASKS`, or auto to infer it.
        text_columns: one column, or two for pairs; inferred when None.
        label_column: inferred when None.
        encoding: of text files; UTF-8 when None.
        header: whether the first line of CSV and TSV files names the columns; inferred when None.
        declared: names of the tasks that the head of the model may have been trained for: numbers are read as that.
        seed: of the splits that are drawn here.
        validation_fraction: share of the training data that becomes validation where dev or test is missing; a single
            file is split 70/15/15.

    Raises InputError, in one or two lines, for everything about the source or the options that cannot be used.
    """
    if task != "auto":
        task_named(task)
    if not 0 < validation_fraction < 1:
        raise InputError(f"The validation fraction is {validation_fraction}.\nUse a number between 0 and 1.")
    check_encoding(encoding)
    tables = read_source(source, encoding=encoding, header=header)
    asked = Asked(
        text_columns=tuple(text_columns or ()),
        label_column=label_column,
        declared=tuple(declared),
        chosen=task != "auto",
    )
    reading = task_named(task).read(tables, asked) if asked.chosen else _recognised(tables, asked)
    splits, drawn_notes = _three(dict(reading.splits), seed=seed, validation_fraction=validation_fraction)
    train = next(iter(tables.values()))
    rare_notes = rare_class_notes(splits, reading.label_names, train, _classes_of(reading))
    reader_notes = [note for table in tables.values() for note in table.notes]
    return TextData(
        source=display_name(source),
        task=reading.task.name,
        text_columns=reading.text_columns,
        label_column=reading.label_column,
        label_names=reading.label_names,
        **splits,
        notes=tuple(printable(note) for note in (*rare_notes, *reader_notes, *reading.notes, *drawn_notes)),
        sha256=content_sha256(splits, reading.label_names),
        files=tuple(_source_file(role, table) for role, table in tables.items()),
        unused_columns=reading.unused,
        shown=reading.shown,
        numbered=reading.numbered,
    )


def _recognised(tables: Mapping[str, Table], asked: Asked) -> Reading:
    """What data show by their columns, else by their labels. InputError where two tasks fit them equally well."""
    train = next(iter(tables.values()))
    found = {name: why for name, task in TASKS.items() if (why := task.recognises(train, asked)) is not None}
    if len(found) > 1:
        raise undecided(train.source, found)
    if not found:
        return read_plain(tables, asked)
    ((name, why),) = found.items()
    reading = task_named(name).read(tables, asked)
    return replace(reading, notes=(f"task inferred: {name}, because {why}", *reading.notes))


def _classes_of(reading: Reading) -> Labels | None:
    """Class ids [N] of the training examples, where each has one, or which labels each has [N, labels]."""
    labels = next(iter(reading.splits.values())).labels
    return labels if labels is not None and (labels.dtype.str[1:], labels.ndim) in {("i8", 1), ("i1", 2)} else None


def _source_file(role: str, table: Table) -> SourceFile:
    split = "" if role == ALL else role
    return SourceFile(name=printable(table.source), split=split, rows=len(table), form=table.form)


def _three(given: dict[str, Split], *, seed: int, validation_fraction: float) -> tuple[dict[str, Split], list[str]]:
    """Train, validation and test from what there is (GLUE's protocol: without test, dev is the test set)."""
    train = given[ALL] if ALL in given else given["train"]
    validation, test = given.get("validation"), given.get("test")
    drawn = f"drawn with seed {seed}" + ("" if train.labels is None else _stratified(train.labels))
    notes = []
    if test is None and validation is not None:
        notes.append("there is no labelled test file: dev is the test set")
        test, validation = validation, None
    _refuse_few(train)
    if test is None:
        train, held = split_off(train, fraction=_SINGLE_FILE_HELD_OUT, seed=seed)
        validation, test = split_off(held, fraction=0.5, seed=seed)
        notes.append(f"split 70/15/15, {drawn}")
    elif validation is None:
        train, validation = split_off(train, fraction=validation_fraction, seed=seed)
        notes.append(f"validation is {validation_fraction:.0%} of the training data, {drawn}")
    splits = {"train": train, "validation": validation, "test": test}
    return splits, notes + _warnings(splits)


def _stratified(labels: Labels) -> str:
    return ", stratified by class" if labels.dtype == np.int64 else ""


def _refuse_few(train: Split) -> None:
    if len(train) < _LEAST_EXAMPLES:
        raise InputError(
            f"There are only {len(train)} examples to learn from; three splits need {_LEAST_EXAMPLES} at least.\n"
            "Give more data: a few hundred examples make the results mean something.",
        )


def _warnings(splits: Mapping[str, Split]) -> list[str]:
    """Notes on what makes the figures weaker than they look."""
    seen = set(splits["train"].texts)
    notes = []
    for role in ("validation", "test"):
        repeated = sum(texts in seen for texts in splits[role].texts)
        if repeated:
            notes.append(f"{repeated} of {len(splits[role])} {role} examples also occur in train")
        if len(splits[role]) < _FEW_EXAMPLES:
            notes.append(f"{role} has only {len(splits[role])} examples: small differences cannot be seen")
    return notes
