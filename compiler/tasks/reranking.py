"""Reranking: a score for each pair of a query and a candidate, by which the candidates of a query are put in order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from compiler.data import Split
from compiler.data.columns import Columns, choose_columns
from compiler.data.queries import (
    holds_grades,
    is_query_text,
    query_column,
    query_groups,
    read_grades,
    repeats_queries,
)
from compiler.data.table import Table, as_number
from compiler.tasks.chance import one_score, surely_better
from compiler.tasks.guessing import infer_task
from compiler.tasks.losses import Outputs, total
from compiler.tasks.metric import Metric, against_dense
from compiler.tasks.noise import spearman_values
from compiler.tasks.plain import read_plain
from compiler.tasks.probes import gaussian
from compiler.tasks.rank_metrics import JUDGED, average_precision, judged, mean_of, ndcg, of_queries, reciprocal_rank
from compiler.tasks.regression import spearman
from compiler.tasks.route import Route, Tei
from compiler.tasks.sequence import SequenceTask
from compiler.tasks.task import Asked, Card, Labelled, Reading, undecided
from targets.errors import InputError

if TYPE_CHECKING:
    import torch

Array = NDArray[Any]

NDCG, MRR, MAP = map(of_queries, (ndcg, reciprocal_rank, average_precision))


def ranking_loss(scores: Tensor, grades: Tensor | None, teacher: Tensor | None) -> Tensor:
    """Binary cross-entropy of scores [lines, 1], as logits, to `grades` [lines] of 0 to 1, plus their squared error to a teacher's.

    It is the loss that sentence-transformers trains its rerankers with; the squared error keeps a trained head's unit.
    """
    terms = []
    if teacher is not None:
        terms.append(functional.mse_loss(scores, teacher.detach()))
    if grades is not None:
        terms.append(functional.binary_cross_entropy_with_logits(scores[:, 0], grades))
    return total(terms)


class Reranking(SequenceTask):
    """A score for each pair; answers are scores [pairs, 1], labels grades [pairs] from 0 on, groups the numbers of queries.

    A unit of its metrics is a query. Those without a relevant candidate are in none: no order of theirs is right or wrong.
    """

    name = words = "reranking"
    problem = "regression"
    route = Route(
        file="reranking",
        paths=("/rerank", "/v1/rerank", "/v2/rerank"),
        example='{"query": "a question", "texts": ["a text", "another one"]}',
        tei=Tei(),
    )
    label_type = np.float32
    needs_labels = None
    grouped = True
    units = "queries"
    metrics = (
        Metric(
            name="ndcg_at_10", description="NDCG@10 of queries (linear gain)", score=mean_of(NDCG), values=NDCG
        ),
        Metric(
            name="mrr_at_10", description="reciprocal rank of the first relevant in 10", score=mean_of(MRR), values=MRR
        ),
        Metric(name="map", description="mean average precision of queries", score=mean_of(MAP), values=MAP),
    )  # fmt: skip
    card = Card(
        pipeline="text-ranking",
        library="transformers",
        optimum="ORTModelForSequenceClassification",
        answers="a score of relevance",
    )

    # Loading

    def label_settings(self, label_names: Sequence[str] | None) -> dict[str, Any]:
        """One output, called score: it starts near 0, which as a logit is even odds."""
        return super().label_settings(["score"])

    def outputs_needed(self, label_names: Sequence[str] | None, outputs: int) -> int:
        """One."""
        return 1

    # Data

    def recognises(self, table: Table, asked: Asked) -> str | None:
        """Pairs of graded relevance under a column of query ids, or such pairs for a head of one output.

        InputError where pairs of repeated queries may as well be for another task.
        """
        if asked.declared and self.name not in asked.declared:
            return None
        pairs = _pairs(table, asked)
        graded = pairs is not None and pairs.label is not None and holds_grades(table, pairs.label)
        if pairs is None or not (graded or (pairs.label is None and asked.declared)):
            return None
        if (column := query_column(table)) is not None:
            return f"{column} says which pairs are of one query"
        return self._by_texts(table, pairs, asked.declared)

    def _by_texts(self, table: Table, pairs: Columns, declared: Sequence[str]) -> str | None:
        query = pairs.texts[0]
        if not repeats_queries(table, query) or not (declared or is_query_text(query)):
            return None
        why = f"{query} repeats texts"
        if declared == (self.name,):
            return f"the model is for it and {why}"
        grades = [as_number(value) for value in table.columns[pairs.label]] if pairs.label is not None else []
        whole = all(grade is None or grade.is_integer() for grade in grades)
        if declared and is_query_text(query) and whole:
            return f"the model's head has one output and {why}"
        other = "regression" if declared else infer_task(table.columns[str(pairs.label)], str(pairs.label))
        because = "the model's head has one output" if declared else f"of the values of {pairs.label}"
        raise undecided(table.source, {self.name: why, other: because})

    def read(self, tables: Mapping[str, Table], asked: Asked) -> Reading:
        """Pairs, their grades if they have any, and their queries.

        InputError, with lines, for grades below 0, for single texts, and where there is nothing to put in order.
        """
        reading = read_plain(tables, asked, self)
        if len(reading.text_columns) != 2:
            raise InputError(
                f"Reranking needs pairs of a query and a candidate; found the texts {reading.text_columns[0]} alone.\n"
                "Name both columns with --text-columns QUERY,CANDIDATE."
            )
        column = query_column(next(iter(tables.values())))
        used = {role: table for role, table in tables.items() if role in reading.splits}
        groups = query_groups(used, column, reading.text_columns)
        splits = {role: replace(split, groups=groups[role]) for role, split in reading.splits.items()}
        told = [note for role, split in splits.items() for note in _told(split, tables[role].source)]
        return replace(reading, splits=splits, notes=(*reading.notes, *told))

    def columns_in_use(self, tables: Mapping[str, Table], columns: Columns, asked: Asked) -> Columns:
        """With that of query ids."""
        column = query_column(next(iter(tables.values())))
        return columns if column is None else columns.using(column)

    def label(self, tables: Mapping[str, Table], column: str) -> Labelled:
        """Grades; InputError where all are the same."""
        labels = {role: read_grades(table, column) for role, table in tables.items()}
        train = next(iter(labels.values()))
        if len(train) and np.ptp(train) == 0:
            raise InputError(
                f"All grades ({column}) are {train[0]:g}: there is nothing to learn.\nName another column with --label-column."
            )
        return Labelled(labels=labels)

    def examples(self, split: Split) -> Split:
        """With grades of 0 to 1."""
        return split if split.labels is None else replace(split, labels=split.labels / (split.labels.max() or 1.0))

    # Judging

    def reference(self, split: Split) -> Array:
        """Grades and queries (`JUDGED`). InputError where no query has a relevant candidate."""
        assert split.labels is not None  # noqa: S101  it is asked for labelled splits
        made = _reference(split, split.labels, np.zeros(len(split)))
        if not judged(made).any():
            raise InputError(
                f"None of {len(np.unique(made['query'])):,} queries that networks are judged on has a relevant candidate.\n"
                "Give more queries, or a file of their own for each split."
            )
        return made

    def dense_reference(self, answers: Array, split: Split) -> Array:
        """Grades by the dense model's order: one over the rank of a candidate of its query, of equal scores the mean rank."""
        from scipy.stats import rankdata

        assert split.groups is not None  # noqa: S101  data of this task
        scores, grades = answers[:, 0].astype(np.float64), np.zeros(len(split))
        for rows in _rows_of(split.groups):
            grades[rows] = 1 / rankdata(-scores[rows])
        return _reference(split, grades, scores)

    def metrics_of(self, *, labelled: bool) -> tuple[Metric, ...]:
        """Without labels NDCG against the dense model's order, and the rank correlation with its scores."""
        if labelled:
            return self.metrics
        spearman_with_dense = Metric(
            name="spearman",
            description="Spearman rank correlation of scores",
            score=lambda answers, reference: spearman(answers, reference["score"]),
            values=lambda answers, reference: spearman_values(answers[:, 0], reference["score"]),
        )
        return (against_dense(self.metrics[0]), against_dense(spearman_with_dense))

    def doubt(self, metric: Metric, answers: Array, split: Split, names: Sequence[str]) -> str | None:
        """A figure that a random order has too, or scores that fall where the grades rise."""
        if split.labels is None:
            return one_score(answers)
        reference = self.reference(split)
        random = metric.values(np.zeros_like(answers), reference)
        gained, figure = metric.values(answers, reference) - random, metric.score(answers, reference)
        if surely_better(gained, float(gained.mean())):
            return None
        falls = surely_better(-gained, -float(gained.mean()))
        return (
            f"the dense model {'falls where the grades rise' if falls else 'is at chance'}: {metric.name} {figure:.3f} on "
            f"{len(gained):,} validation queries, where a random order has {random.mean():.3f}; check that grades are of relevance, "
            "0 for none"
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
        """Cross-entropy to grades as chances, and squared errors to the teacher's scores."""
        return ranking_loss(outputs[0], labels, None if teacher is None else teacher[0])

    def probe(
        self,
        outputs: Outputs,
        inputs: Mapping[str, Tensor],
        extras: Mapping[str, Any],
        generator: torch.Generator,
    ) -> Tensor:
        """The squared distance of scores."""
        return gaussian(outputs[0], generator)


def _pairs(table: Table, asked: Asked) -> Columns | None:
    """The columns of a table of pairs; None where it is none."""
    try:
        columns = choose_columns(table, text_columns=asked.text_columns, label_column=asked.label_column)
    except InputError:
        return None
    return columns if len(columns.texts) == 2 else None


def _rows_of(groups: Array) -> list[Array]:
    """The rows of every query."""
    order = np.argsort(groups, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(groups[order])) + 1)


def _reference(split: Split, grades: Array, scores: Array) -> Array:
    made = np.zeros(len(split), dtype=JUDGED)
    made["grade"], made["query"], made["score"] = grades, split.groups, scores
    return made


def _told(split: Split, source: str) -> list[str]:
    """Notes on the queries of a table. InputError where none has two candidates."""
    assert split.groups is not None  # noqa: S101  it was just grouped
    rows = _rows_of(split.groups)
    if max(map(len, rows)) < 2:
        raise InputError(
            f"{source} has one candidate for each of {len(rows):,} queries: there is nothing to put in order.\n"
            "Give candidates of one query with its text or its query_id repeated."
        )
    sizes = " to ".join(map(str, sorted({min(map(len, rows)), max(map(len, rows))})))
    notes = [f"{source}: {len(rows):,} queries of {sizes} candidates"]
    if split.labels is None:
        return notes
    without = sum(not (split.labels[own] > 0).any() for own in rows)
    if without:
        notes.append(f"{source}: {without:,} queries have no relevant candidate and are in no metric")
    if split.labels.min() > 0:
        notes.append(f"{source}: no grade is 0, so that every candidate is relevant to MRR and MAP")
    return notes
