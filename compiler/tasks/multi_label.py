"""Multi-label classification: any number of labels for a text or a pair, each with a sigmoid of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from compiler.data import Split
from compiler.data.columns import choose_columns, is_labelling, label_by_name
from compiler.data.label_sets import (
    encode_sets,
    flag_columns,
    holds_lists,
    separator_of,
    with_flags_joined,
    with_names,
)
from compiler.data.names import describes_rows, is_identifier
from compiler.data.table import Table, name_of, shorten
from compiler.tasks.chance import surely_better
from compiler.tasks.label_metrics import (
    given,
    macro_f1,
    macro_values,
    mean_average_precision,
    micro_f1,
    micro_values,
    precision_values,
)
from compiler.tasks.losses import Outputs, distilled_labels, total
from compiler.tasks.metric import Metric
from compiler.tasks.plain import read_plain
from compiler.tasks.probes import bernoulli
from compiler.tasks.route import RAW, Route, Tei, labels
from compiler.tasks.sequence import SequenceTask
from compiler.tasks.task import Asked, Card, Labelled, Reading
from targets.errors import InputError

if TYPE_CHECKING:
    import torch

    from compiler.data.text_data import Labels

Array = NDArray[Any]


def multi_label_loss(logits: Tensor, labels: Tensor | None, teacher: Tensor | None, temperature: float) -> Tensor:
    """Binary cross-entropy to `labels` [rows, labels] of 0 and 1, plus `distilled_labels`. ValueError without any target."""
    terms = []
    if teacher is not None:
        terms.append(distilled_labels(logits, teacher, temperature))
    if labels is not None:
        terms.append(functional.binary_cross_entropy_with_logits(logits, labels))
    return total(terms)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Form:
    """Where labels stand: how every table is made one with a column of tuples, that column, why, and a note."""

    column: str
    made: Callable[[Table], Table]
    why: str
    note: str


class MultiLabel(SequenceTask):
    """Any number of labels for each text or pair; answers are logits [N, labels], labels are int8 of the same shape, 0 or 1."""

    name = "multi_label"
    words = "multi-label classification"
    problem = "multi_label_classification"
    route = Route(
        file="multi_label",
        paths=("/classify",),
        facts=labels,
        tei=Tei(requests=RAW, note="Its scores are then logits, of which whoever asks takes the sigmoid. "),
    )
    label_type = np.float32
    decides = True
    metrics = (
        Metric(name="micro_f1", description="F1 of all labels of all texts", score=micro_f1, values=micro_values),
        Metric(name="macro_f1", description="mean F1 of the labels", score=macro_f1, values=macro_values),
        Metric(
            name="mean_average_precision",
            description="mean average precision of the labels",
            score=mean_average_precision,
            values=precision_values,
        ),
    )
    card = Card(
        pipeline="text-classification",
        library="transformers",
        optimum="ORTModelForSequenceClassification",
        answers="logits of the labels, each for a sigmoid of its own",
    )

    # Data

    def recognises(self, table: Table, asked: Asked) -> str | None:
        """Lists of labels, several columns of 0 and 1, or any labels for a head that is of this task alone."""
        if asked.declared and self.name not in asked.declared:
            return None
        form = self._form(table, asked)
        return None if form is None else form.why

    def read(self, tables: Mapping[str, Table], asked: Asked) -> Reading:
        """Texts and which labels each has. InputError, with lines, for what is no label and for labels that training lacks."""
        train = next(iter(tables.values()))
        form = self._form(train, asked) or _of_content(train, asked, self.words)
        made = {role: form.made(table) for role, table in tables.items()}
        reading = read_plain(made, replace(asked, label_column=form.column), self)
        return replace(reading, notes=(form.note, *reading.notes), shown=(form.note, *reading.shown))

    def _form(self, table: Table, asked: Asked) -> _Form | None:
        flags = _flags(table, asked)
        if flags:
            column = ", ".join(flags)
            return _Form(
                column=column,
                made=lambda each: with_flags_joined(each, flags, column),
                why=f"{len(flags)} columns hold 0 and 1",
                note=f"labels are the columns {', '.join(map(name_of, flags))}",
            )
        alone = asked.chosen or asked.declared == (self.name,)
        column = asked.label_column or label_by_name(table, asked.text_columns) or (_only_list(table) if alone else "")
        if column not in table.columns:
            return None
        if holds_lists(table, column):
            return _of_names(table, column, f"{column} holds lists")
        return _of_names(table, column, "the model gives any number of labels") if alone else None

    def label(self, tables: Mapping[str, Table], column: str) -> Labelled:
        """Labels of every row (`compiler.data.label_sets.encode_sets`)."""
        labels, names = encode_sets(tables, column)
        train = next(iter(labels.values()))
        told = [f"{len(names)} labels, {train.sum() / len(train):.2f} a text"]
        if without := int((train.sum(axis=1) == 0).sum()):
            told.append(f"{without:,} of {len(train):,} texts have no label")
        return Labelled(labels=labels, names=names, notes=tuple(told))

    def renumbered(self, labels: Labels, ids: NDArray[np.int64], count: int) -> Labels:
        """Columns in another order; labels that the data never name are on no example."""
        made = np.zeros((len(labels), count), dtype=labels.dtype)
        made[:, ids] = labels
        return made

    # Judging

    def dense_reference(self, answers: Array, split: Split) -> Array:
        """The labels that the dense model gives."""
        return given(answers).astype(np.int8)

    def decisions(self, answers: Array) -> NDArray[np.int64]:
        """One on each label of each text: the label's number where it is given, else one beyond all labels."""
        return self.decided(given(answers))

    def decided(self, reference: Array) -> NDArray[np.int64]:
        """The same by 0 and 1 [texts, labels]."""
        labels = reference.shape[1]
        return np.where(reference > 0, np.arange(labels), labels)

    def doubt(self, metric: Metric, answers: Array, split: Split, names: Sequence[str]) -> str | None:
        """Labels no better than the most frequent ones, or all, for every text; the same labels for each."""
        if split.labels is None:
            return _one_set(answers, names)
        usual = _usual(split.labels, metric)
        constant = _always(usual, len(answers))
        gained = metric.values(answers, split.labels) - metric.values(constant, split.labels)
        figure, chance = (metric.score(each, split.labels) for each in (answers, constant))
        if surely_better(gained, figure - chance):
            return None
        always = _listed([str(name) for name, often in zip(names, usual, strict=True) if often])
        return (
            f"the dense model is at chance: {metric.name} {figure:.3f} on {len(answers):,} validation examples, where always "
            f"giving {always} has {chance:.3f}; check that the names of labels mean what the model was trained on, or train longer"
        )

    # Learning

    def loss(
        self,
        outputs: Outputs,
        mask: Tensor,
        labels: Tensor | None,
        teacher: Outputs | None,
        temperature: float,
    ) -> Tensor:
        """Cross-entropy of every label, and the divergence from the teacher's softened ones."""
        return multi_label_loss(outputs[0], labels, None if teacher is None else teacher[0], temperature)

    def probe(
        self,
        outputs: Outputs,
        inputs: Mapping[str, Tensor],
        extras: Mapping[str, Any],
        generator: torch.Generator,
    ) -> Tensor:
        """Twice the Kullback-Leibler divergence of all labels' predictions, to first order."""
        return bernoulli(outputs[0], generator)


def _of_names(table: Table, column: str, why: str) -> _Form:
    lists = holds_lists(table, column)
    separator = None if lists else separator_of(table.columns[column])
    written = (
        "lists of names" if lists else "one name each" if separator is None else f"names separated by {separator!r}"
    )
    return _Form(
        column=column,
        made=lambda each: with_names(each, column, separator),
        why=why,
        note=f"labels are {written} in {name_of(column)}",
    )


def _only_list(table: Table) -> str:
    """The one column of lists of labels, if there is one."""
    found = [name for name in table.columns if holds_lists(table, name)]
    return found[0] if len(found) == 1 else ""


def _of_content(table: Table, asked: Asked, task: str) -> _Form:
    """Names in the column that is a label by its values. InputError where there is none."""
    columns = choose_columns(
        table, labelled=True, task=task, text_columns=asked.text_columns, label_column=asked.label_column
    )
    return _of_names(table, str(columns.label), "it is called a label")


def _flags(table: Table, asked: Asked) -> tuple[str, ...]:
    """The columns of 0 and 1 that the user names, or that there are where no other column is a label.

    InputError where one of several names is no column.
    """
    if asked.label_column is not None:
        names = tuple(dict.fromkeys(part.strip() for part in asked.label_column.split(",")))
        if asked.label_column in table.columns or len(names) < 2:
            return ()
        unknown = [name for name in names if name not in table.columns]
        if unknown:
            raise InputError(
                f"{table.source} has no column {shorten(unknown[0])}.\nIts columns: {table.describe()}."
            )  # fmt: skip
        return names
    found = tuple(name for name in flag_columns(table) if name not in asked.text_columns)
    called = label_by_name(table, asked.text_columns)
    if asked.declared or asked.chosen:
        return found if len(found) > 1 and (called is None or called in found) else ()
    return found if called is None and _are_labels(table, found, asked.text_columns) else ()


def _are_labels(table: Table, flags: Sequence[str], texts: Sequence[str]) -> bool:
    """Whether several columns of 0 and 1 vary, and no other column could be a label: one alone is a classification."""
    varying = [name for name in flags if len({str(value) for value in table.columns[name]}) > 1]
    others = [name for name in table.columns if name not in flags and name not in texts]
    candidates = [name for name in others if not is_identifier(name) and not describes_rows(name)]
    return len(varying) > 1 and not any(is_labelling(table.columns[name]) for name in candidates)


def _usual(labels: Array, metric: Metric) -> Array:
    """Which labels [labels], given to every example, score best: those of the best micro F1, or all."""
    counts = labels.sum(axis=0, dtype=np.int64)
    order = np.argsort(-counts, kind="stable")
    scores = 2 * np.cumsum(counts[order]) / (np.arange(1, len(order) + 1) * len(labels) + counts.sum())
    frequent = np.isin(np.arange(len(order)), order[: int(scores.argmax()) + 1])
    return max(frequent, np.ones_like(frequent), key=lambda each: metric.score(_always(each, len(labels)), labels))


def _always(given_labels: Array, count: int) -> Array:
    """Logits [examples, labels] that give every example these labels."""
    return np.broadcast_to(np.where(given_labels, 1.0, -1.0), (count, len(given_labels)))


def _one_set(answers: Array, names: Sequence[str]) -> str | None:
    """What is wrong with a model whose own labels are the reference, where they are the same for every text; else None."""
    sets = given(answers)
    if (sets != sets[0]).any():
        return None
    labels = _listed([str(name) for name, there in zip(names, sets[0], strict=True) if there])
    return f"the dense model gives {labels} to each of {len(sets):,} validation texts: to agree with it says nothing"


def _listed(names: Sequence[str], most: int = 4) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(repr, names[:most])) + more if names else "no label"
