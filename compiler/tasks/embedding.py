"""Sentence embeddings: a vector for each text, as near as can be to the dense model's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from compiler.data import Split
from compiler.data.columns import Columns
from compiler.data.labels import encode_scores
from compiler.data.table import Table, as_number
from compiler.tasks.losses import Outputs
from compiler.tasks.metric import CORRELATION, Metric, unit
from compiler.tasks.probes import gaussian
from compiler.tasks.route import Route, Tei
from compiler.tasks.task import Asked, Card, Labelled, Task
from compiler.tasks.vector_pairs import VectorPairs

if TYPE_CHECKING:
    import torch

Array = NDArray[Any]


def _cosines(embeddings: Array, dense: Array) -> Array:
    return np.asarray((unit(embeddings) * unit(dense)).sum(axis=1))


def mean_cosine(embeddings: Array, dense: Array) -> float:
    """Mean cosine between each embedding and the dense model's of the same text."""
    return float(_cosines(embeddings, dense).mean())


def _nearest(embeddings: Array, k: int) -> Array:
    similarity = unit(embeddings) @ unit(embeddings).T
    np.fill_diagonal(similarity, -np.inf)
    return np.argpartition(-similarity, k - 1, axis=1)[:, :k]


def _overlaps(embeddings: Array, dense: Array, k: int = 10) -> Array:
    k = min(k, len(dense) - 1)
    if k < 1:
        return np.ones(len(dense))
    ours, theirs = _nearest(embeddings, k), _nearest(dense, k)
    return np.array([len(set(a) & set(b)) / k for a, b in zip(ours, theirs, strict=True)])


def neighbour_overlap(embeddings: Array, dense: Array, k: int = 10) -> float:
    """Share of each text's k nearest neighbours (cosine, among the other texts) that both models agree on."""
    return float(_overlaps(embeddings, dense, k).mean())


def embedding_loss(outputs: Outputs, mask: Tensor, teacher: Outputs | None) -> Tensor:
    """1 - cosine of sentence embeddings, plus the mean squared error of token embeddings where the mask is 1."""
    if teacher is None:
        raise ValueError("an embedding model learns from a teacher's embeddings: got none")
    tokens, sentence = outputs
    teacher_tokens, teacher_sentence = (tensor.detach() for tensor in teacher)
    distance = 1 - functional.cosine_similarity(sentence, teacher_sentence, dim=-1).mean()
    real = mask.unsqueeze(-1).to(tokens.dtype)
    squared = ((tokens - teacher_tokens) * real).square().sum()
    return distance + squared / (real.sum() * tokens.shape[-1])


def _dimensions(checkpoint: Any) -> Mapping[str, Any]:
    """The smaller dimensions that embeddings may be cut to (none are known to be trained), and whether they have unit length."""
    recipe = checkpoint.model.recipe
    return {"DIMENSIONS": [], "NORMALIZED": recipe is not None and recipe.normalize}


class Embedding(Task):
    """A vector for each text, [N, dimensions]; the reference is always the dense model's.

    A mean cosine of 0.99 is no such share of likeness as an agreement of 99 %: embeddings turn by as much before any neighbour
    changes places. Embeddings to be like are a target in every dimension: four times the usual rate of a polish is steady, and
    one epoch at it brings all-MiniLM-L6-v2 nearer than one at the usual rate does.
    """

    name = words = "embedding"
    auto_class = "AutoModel"
    head = ""
    output_names = ("last_hidden_state", "sentence_embedding")
    needs_labels = False
    learns_from_labels = False
    pairs = False
    polish_share = 0.25
    polish_rate = 2e-4
    keep = 0.90
    route = Route(
        file="embedding",
        paths=("/embed", "/v1/embeddings", "/v1/models"),
        outputs=("sentence_embedding",),
        facts=_dimensions,
        tei=Tei(),
    )
    metrics = (
        Metric(
            name="mean_cosine",
            description="mean cosine to the dense model's embeddings",
            score=mean_cosine,
            values=_cosines,
            scale=CORRELATION,
        ),
        Metric(
            name="neighbour_overlap_at_10",
            description="share of the 10 nearest neighbours kept",
            score=neighbour_overlap,
            values=_overlaps,
        ),
    )
    card = Card(
        pipeline="sentence-similarity",
        library="sentence-transformers",
        optimum="ORTModelForFeatureExtraction",
        answers="sentence embeddings",
    )

    def metrics_of(self, *, labelled: bool) -> tuple[Metric, ...]:
        """Those that there are: they say that they are against the dense model."""
        return self.metrics

    def truncated(self, dimensions: int) -> tuple[Metric, ...]:
        """Of vectors whose first dimensions alone are kept: cosines to the dense model's cut alike, neighbours of its whole vectors."""
        cosine, overlap = self.metrics
        ending = f"of_{dimensions}_dimensions"

        def cut(answers: Array, dense: Array) -> tuple[Array, Array]:
            return answers[:, :dimensions], dense[:, :dimensions]

        return (
            replace(
                cosine,
                name=f"{cosine.name}_{ending}",
                description=f"{cosine.description}, both cut to {dimensions} dimensions",
                score=lambda answers, dense: mean_cosine(*cut(answers, dense)),
                values=lambda answers, dense: _cosines(*cut(answers, dense)),
            ),
            replace(
                overlap,
                name=f"{overlap.name}_{ending}",
                description=f"{overlap.description} by {dimensions} dimensions",
                score=lambda answers, dense: neighbour_overlap(answers[:, :dimensions], dense),
                values=lambda answers, dense: _overlaps(answers[:, :dimensions], dense),
            ),
        )

    def pairs_of(self, split: Split, columns: Sequence[str]) -> VectorPairs | None:
        """Queries with what is to be found for them, or texts with scores of their likeness."""
        return VectorPairs.of(split, columns)

    def columns_in_use(self, tables: Mapping[str, Table], columns: Columns, asked: Asked) -> Columns:
        """Without a label, except the scores of pairs, unless the user named one."""
        if columns.label is None or asked.label_column is not None:
            return columns
        values = [value for table in tables.values() for value in table.columns.get(columns.label, [None])]
        if len(columns.texts) == 2 and all(as_number(value) is not None for value in values):
            return columns
        note = f"{columns.label} is not used: embedding takes only numeric scores of pairs"
        return replace(columns, label=None, notes=(*columns.notes, note))

    def label(self, tables: Mapping[str, Table], column: str) -> Labelled:
        """Scores of pairs."""
        return Labelled(labels=encode_scores(tables, column))

    def examples(self, split: Split) -> Split:
        """Texts one by one: an embedding model reads one at a time."""
        return Split(texts=tuple((text,) for columns in split.texts for text in columns), labels=None)

    def dense_reference(self, answers: Array, split: Split) -> Array:
        """The dense model's embeddings."""
        return answers

    def loss(
        self,
        outputs: Outputs,
        mask: Tensor,
        labels: Tensor | None,
        teacher: Outputs | None,
        temperature: float,
    ) -> Tensor:
        """How far embeddings of sentences and tokens are from the teacher's."""
        return embedding_loss(outputs, mask, teacher)

    def probe(
        self,
        outputs: Outputs,
        inputs: Mapping[str, Tensor],
        extras: Mapping[str, Any],
        generator: torch.Generator,
    ) -> Tensor:
        """The squared distance of embeddings of unit length."""
        return gaussian(functional.normalize(outputs[-1], dim=-1), generator)
