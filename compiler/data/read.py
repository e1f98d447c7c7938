"""A file, folder or hub data set → texts and labels in three splits, and a note on everything that was inferred."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from compiler.data.columns import Columns, choose_columns
from compiler.data.encodings import check_encoding
from compiler.data.labels import encode_classes, encode_scores, refuse_missing
from compiler.data.names import QUERY_NAMES, plain
from compiler.data.odd_labels import refuse_odd, with_decimal_points
from compiler.data.rare import rare_class_notes
from compiler.data.sources import ALL, display_name, read_source
from compiler.data.splits import split_off
from compiler.data.table import Table, as_number, is_missing, shorten
from compiler.data.task import decide_task
from compiler.data.text_data import TASKS, Labels, SourceFile, Split, TextData, content_sha256
from compiler.data.texts import read_texts
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
    declared: str | None = None,
    seed: int = 0,
    validation_fraction: float = 0.3,
) -> TextData:
    """Read a data set and split it.

    Args:
        source: a CSV, TSV, JSON, JSON lines, Parquet, Arrow or plain-text file, a folder of train, dev and test files or
            one that `datasets` saved, or a hub data set as NAME or NAME:CONFIG.
        task: classification, regression, embedding, or auto to infer it.
        text_columns: one column, or two for pairs; inferred when None.
        label_column: inferred when None.
        encoding: of text files; UTF-8 when None.
        header: whether the first line of CSV and TSV files names the columns; inferred when None.
        declared: classification or regression, where the head of the model was trained for it: numbers are read as that.
        seed: of the splits that are drawn here.
        validation_fraction: share of the training data that becomes validation where dev or test is missing; a single
            file is split 70/15/15.

    Raises InputError, in one or two lines, for everything about the source or the options that cannot be used.
    """
    _check_options(task, validation_fraction)
    check_encoding(encoding)
    tables = read_source(source, encoding=encoding, header=header)
    train = next(iter(tables.values()))
    columns = choose_columns(train, task=task, text_columns=text_columns, label_column=label_column)
    tables, healed_notes = _with_plain_labels(tables, columns.label)
    train = next(iter(tables.values()))
    if task == "embedding" and label_column is None:
        columns = _without_class_label(tables, columns)
    tables, notes = _with_same_columns(tables, columns)
    chosen = task != "auto"
    task, task_notes = _decide_task(task, train, columns, declared)
    labels, label_names, label_notes = _encode(tables, columns.label, task, chosen=chosen)
    given, split_notes = _read_splits(tables, columns.texts, labels)
    splits, drawn_notes = _three(given, seed=seed, validation_fraction=validation_fraction)
    notes += _ranking_notes(columns, label_names)
    rare_notes = rare_class_notes(splits, label_names, train, labels.get(next(iter(tables))))
    reader_notes = [note for table in tables.values() for note in table.notes]
    inferred = (*columns.notes, *healed_notes, *notes, *task_notes, *label_notes, *split_notes, *drawn_notes)
    return TextData(
        source=display_name(source),
        task=task,
        text_columns=columns.texts,
        label_column=columns.label,
        label_names=label_names,
        **splits,
        notes=tuple(printable(note) for note in (*rare_notes, *reader_notes, *inferred)),
        sha256=content_sha256(splits, label_names),
        files=tuple(_source_file(role, table) for role, table in tables.items()),
        unused_columns=columns.unused,
        shown=(*columns.notes, *label_notes),
        numbered=label_names is not None and label_names is train.class_names.get(str(columns.label)),
    )


def _ranking_notes(columns: Columns, label_names: tuple[str, ...] | None) -> list[str]:
    """A note where pairs with labels belong to queries: answers are ranked there, and here each is classified alone."""
    groups = [name for name in columns.unused if plain(name) in QUERY_NAMES]
    if not groups or label_names is None or len(columns.texts) != 2:
        return []
    return [f"{groups[0]} groups the pairs: ranking (MRR, NDCG) is not supported yet, each pair is classified alone"]


def _source_file(role: str, table: Table) -> SourceFile:
    split = "" if role == ALL else role
    return SourceFile(name=printable(table.source), split=split, rows=len(table), form=table.form)


def _check_options(task: str, validation_fraction: float) -> None:
    if task not in {"auto", *TASKS}:
        raise InputError(f"There is no task {shorten(task)}.\nUse auto, {', '.join(TASKS)}.")
    if not 0 < validation_fraction < 1:
        raise InputError(f"The validation fraction is {validation_fraction}.\nUse a number between 0 and 1.")


def _with_plain_labels(tables: Mapping[str, Table], label: str | None) -> tuple[dict[str, Table], list[str]]:
    """The tables with decimal points in their labels, and without the list around a single label."""
    changed, notes = dict(tables), []
    for role, table in tables.items():
        values = table.columns.get(label) if label is not None else None
        if values is None:
            continue
        if all(isinstance(value, list) and len(value) == 1 for value in values):
            changed[role] = replace(table, columns={**table.columns, str(label): [value[0] for value in values]})
            notes.append(f"{table.source}: {label} holds lists of one label each, which were taken out of them")
        elif (numbers := with_decimal_points(values)) is not None:
            changed[role] = replace(table, columns={**table.columns, str(label): numbers})
            notes.append(f"{table.source}: {label} is written with decimal commas")
    return changed, notes


def _without_class_label(tables: Mapping[str, Table], columns: Columns) -> Columns:
    """Embedding models use no label, except the scores of pairs."""
    if columns.label is None:
        return columns
    values = [value for table in tables.values() for value in table.columns.get(columns.label, [None])]
    if len(columns.texts) == 2 and all(as_number(value) is not None for value in values):
        return columns
    note = f"{columns.label} is not used: embedding takes only numeric scores of pairs"
    return replace(columns, label=None, notes=(*columns.notes, note))


def _with_same_columns(tables: Mapping[str, Table], columns: Columns) -> tuple[dict[str, Table], list[str]]:
    """The tables that have the columns in use; a test split without labels is left out."""
    kept, notes = {}, []
    for role, table in tables.items():
        if role == "test" and columns.label is not None and _is_unlabelled(table, columns.label):
            notes.append(f"{table.source} has no labels and is not used")
            continue
        needed = [*columns.texts, *([columns.label] if columns.label is not None else [])]
        missing = [name for name in needed if name not in table.columns]
        if missing:
            raise InputError(
                f"{table.source} lacks the column {shorten(missing[0])}, which the training data has.\n"
                f"Its columns: {table.describe()}.",
            )
        kept[role] = table
    return kept, notes


def _is_unlabelled(table: Table, label: str) -> bool:
    """Without the column, with nothing in it, or with the hub's -1 in all of it."""
    values = table.columns.get(label)
    if values is None or all(map(is_missing, values)):
        return True
    return label in table.class_names and all(value in {-1, None} for value in values)


def _decide_task(task: str, train: Table, columns: Columns, declared: str | None) -> tuple[str, list[str]]:
    if task != "auto":
        return task, []
    if columns.label is None:
        return "embedding", ["task inferred: embedding, because nothing is labelled"]
    refuse_missing(train, columns.label)
    refuse_odd(train, columns.label, chosen=False)
    inferred, reason = decide_task(train, columns.label, declared=declared)
    return inferred, [f"task inferred: {inferred}, {reason}"]


def _encode(
    tables: Mapping[str, Table],
    column: str | None,
    task: str,
    *,
    chosen: bool,
) -> tuple[dict[str, Labels], tuple[str, ...] | None, list[str]]:
    """Labels by role, class names, notes."""
    if column is None:
        return {}, None, []
    for table in tables.values():
        refuse_missing(table, column)
        refuse_odd(table, column, chosen=chosen)
    if task == "classification":
        labels, names = encode_classes(tables, column)
        return labels, names, [f"{len(names)} classes"]
    return encode_scores(tables, column), None, []


def _read_splits(
    tables: Mapping[str, Table],
    columns: tuple[str, ...],
    labels: Mapping[str, Labels],
) -> tuple[dict[str, Split], list[str]]:
    splits: dict[str, Split] = {}
    notes: list[str] = []
    for role, table in tables.items():
        texts, changed = read_texts(table, columns)
        splits[role] = Split(texts=texts, labels=labels.get(role))
        notes.extend(changed)
    return splits, notes


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
