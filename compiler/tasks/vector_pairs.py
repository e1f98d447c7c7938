"""Pairs of texts that show what embeddings are good for: documents found for queries, or scores of likeness."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from compiler.data import Split
from compiler.data.names import plain
from compiler.tasks.metric import unit

Array = NDArray[Any]

K = 10
"""Documents that are looked at for a query."""

QUERIES = {"query", "question", "anchor", "claim"}
"""First columns of pairs whose second is what is to be found for it."""

_ROWS = 256  # queries at a time: memory is this many times all documents


@dataclass(frozen=True, slots=True, kw_only=True)
class VectorPairs:
    """Pairs as rows [pairs, 2] of distinct first and second texts, with a grade each.

    Of queries and documents a grade above 0 says that the document is one to find, of others it is a score of likeness.
    """

    first: tuple[str, ...]
    second: tuple[str, ...]
    rows: NDArray[np.int64]
    grades: NDArray[np.float64]
    directed: bool

    prompts: ClassVar[tuple[tuple[str, ...], tuple[str, ...]]] = (("query",), ("document", "passage"))
    """Names of a model's prompts for queries and documents."""

    @classmethod
    def of(cls, split: Split, columns: Sequence[str]) -> VectorPairs | None:
        """Those of a split; None where there are none, or nothing says what they are good for."""
        if len(columns) != 2 or not len(split):
            return None
        directed = plain(columns[0]) in QUERIES
        if split.labels is None and not directed:
            return None
        texts = [dict.fromkeys(pair[side] for pair in split.texts) for side in (0, 1)]
        places = [{text: i for i, text in enumerate(each)} for each in texts]
        rows = np.array([[place[text] for place, text in zip(places, pair, strict=True)] for pair in split.texts])
        grades = np.ones(len(split)) if split.labels is None else np.asarray(split.labels, dtype=np.float64)
        if directed and not (grades > 0).any():
            return None
        return cls(first=tuple(texts[0]), second=tuple(texts[1]), rows=rows, grades=grades, directed=directed)

    def figures(self, first: Array, second: Array, dimensions: Sequence[int] = ()) -> Mapping[str, float]:
        """Figures by name, of vectors [texts, dimensions] of both sides; and of their first so many dimensions alone.

        NDCG and recall among the ten nearest documents by cosine, of ties the first; Spearman's correlation of cosines with scores.
        """
        found = self._figures(first, second)
        for size in dimensions:
            cut = self._figures(first[:, :size], second[:, :size])
            found |= {f"{name}_of_{size}_dimensions": value for name, value in cut.items()}
        return found

    def _figures(self, first: Array, second: Array) -> dict[str, float]:
        from scipy import stats

        a, b = unit(first), unit(second)
        if not self.directed:
            cosines = (a[self.rows[:, 0]] * b[self.rows[:, 1]]).sum(axis=1)
            varies = min(np.ptp(cosines), np.ptp(self.grades)) > 0
            return {"similarity_spearman": float(stats.spearmanr(cosines, self.grades).statistic) if varies else 0.0}
        nearest = [np.argsort(-(part @ b.T), axis=1, kind="stable")[:, :K] for part in _parts(a)]
        return self._retrieval(np.concatenate(nearest))

    def _retrieval(self, nearest: NDArray[np.int64]) -> dict[str, float]:
        """NDCG with grades as gains, and recall, means over the queries that have a document to find."""
        wanted: list[dict[int, float]] = [{} for _ in self.first]
        for (query, document), grade in zip(self.rows.tolist(), self.grades.tolist(), strict=True):
            if grade > 0:
                wanted[query][document] = max(grade, wanted[query].get(document, 0.0))
        discounts = 1 / np.log2(np.arange(2, K + 2))
        ndcg, recall = [], []
        for gains, found in zip(wanted, nearest.tolist(), strict=True):
            if gains:
                got = np.array([gains.get(document, 0.0) for document in found])
                best = np.sort(list(gains.values()))[::-1][:K]
                ndcg.append(float(got @ discounts[: len(got)] / (best @ discounts[: len(best)])))
                recall.append(float((got > 0).sum() / len(gains)))
        return {f"retrieval_ndcg_at_{K}": float(np.mean(ndcg)), f"retrieval_recall_at_{K}": float(np.mean(recall))}


def _parts(vectors: Array) -> list[Array]:
    return [vectors[start : start + _ROWS] for start in range(0, len(vectors), _ROWS)]
