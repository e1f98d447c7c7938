"""Columns of texts and of one label: the reading that most tasks share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from compiler.data.columns import Columns, choose_columns
from compiler.data.labels import refuse_missing
from compiler.data.odd_labels import refuse_odd, with_decimal_points
from compiler.data.table import Table, is_missing, shorten
from compiler.data.text_data import Labels, Split
from compiler.data.texts import read_texts
from compiler.tasks.guessing import decide_task
from compiler.tasks.task import Asked, Labelled, Reading, Task
from targets.errors import InputError


def read_plain(tables: Mapping[str, Table], asked: Asked, task: Task | None = None) -> Reading:
    """The texts and labels of tables by role; for a task, which says what columns it reads and what labels are.

    Without one, the labels tell it: classes, scores, or none at all, which is what embedding models take.
    """
    needs = None if task is None else task.needs_labels
    columns = choose_columns(
        next(iter(tables.values())),
        labelled=needs,
        task="" if task is None else task.words,
        text_columns=asked.text_columns,
        label_column=asked.label_column,
    )
    tables, healed = _with_plain_labels(tables, columns.label)
    if task is not None:
        columns = task.columns_in_use(tables, columns, asked)
    tables, notes = _with_same_columns(tables, columns)
    train, said = next(iter(tables.values())), list[str]()
    if task is None:
        task, said = _told_by_labels(train, columns, asked)
    labelled = _labelled(tables, columns.label, task, chosen=asked.chosen)
    splits, changed = _read_splits(tables, columns.texts, labelled.labels)
    return Reading(
        task=task,
        text_columns=columns.texts,
        label_column=columns.label,
        splits=splits,
        label_names=labelled.names,
        notes=(*columns.notes, *healed, *notes, *said, *labelled.notes, *changed),
        unused=columns.unused,
        shown=(*columns.notes, *labelled.notes),
        numbered=labelled.names is not None and labelled.names is train.class_names.get(str(columns.label)),
    )


def _told_by_labels(train: Table, columns: Columns, asked: Asked) -> tuple[Task, list[str]]:
    from compiler.tasks.registry import task_named

    if columns.label is None:
        return task_named("embedding"), ["task inferred: embedding, because nothing is labelled"]
    refuse_missing(train, columns.label)
    refuse_odd(train, columns.label, chosen=False)
    inferred, reason = decide_task(train, columns.label, declared=asked.declared)
    return task_named(inferred), [f"task inferred: {inferred}, {reason}"]


def _labelled(tables: Mapping[str, Table], column: str | None, task: Task, *, chosen: bool) -> Labelled:
    """What a task makes of a column of labels; nothing where there is none."""
    if column is None:
        return Labelled(labels={})
    for table in tables.values():
        refuse_missing(table, column)
        refuse_odd(table, column, chosen=chosen)
    return task.label(tables, column)


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
