"""How good an order of candidates is: one figure for each query, by the definitions of trec_eval.

Gains of NDCG are linear, as in trec_eval, pytrec_eval (which BEIR uses) and scikit-learn. A candidate of any grade above 0 is relevant
to MRR and MAP. Candidates with one score are in no order: their figure is the mean over all of theirs (McSherry, Najork, "Computing
information retrieval performance measures efficiently in the presence of tied scores", ECIR 2008), so that nothing depends on the
order of a file, and equal scores for all give what a random order does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

CUT = 10
"""Places that count for NDCG and MRR."""

JUDGED = np.dtype([("grade", np.float64), ("query", np.int64), ("score", np.float64)])
"""A reference, one for each candidate: its grade, its query's number and, where the dense model graded it, that model's score."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Order:
    """Candidates by query, the highest score first; `tie` numbers runs of one score within a query, and all but it are [candidates].

    `before` counts candidates of the query ahead of the run, `size` those in it, `hits` the relevant ones in it, `hits_before` those
    ahead; `place` is from 1 on within the run.
    """

    query: Array
    grade: Array
    tie: Array
    before: Array
    size: Array
    hits: Array
    hits_before: Array
    place: Array

    @classmethod
    def of(cls, scores: Array, reference: Array) -> _Order:
        """Of scores [candidates] and a reference of `JUDGED` [candidates]; queries are numbered anew from 0 on."""
        _, query = np.unique(reference["query"], return_inverse=True)
        order = np.lexsort((-scores, query))
        query, grade, score = query[order], reference["grade"][order], scores[order]
        new_query = np.append(True, query[1:] != query[:-1])
        new_tie = new_query | np.append(True, score[1:] != score[:-1])
        tie, row = np.cumsum(new_tie) - 1, np.arange(len(query))
        first_of_query, first_of_tie = row[new_query][query], row[new_tie][tie]
        relevant = grade > 0
        ahead: Array = np.cumsum(relevant) - relevant
        return cls(
            query=query,
            grade=grade,
            tie=tie,
            before=first_of_tie - first_of_query,
            size=np.bincount(tie)[tie],
            hits=np.bincount(tie, relevant)[tie],
            hits_before=ahead[first_of_tie] - ahead[first_of_query],
            place=row - first_of_tie + 1,
        )

    @property
    def rank(self) -> Array:
        """From 1 on within the query; inside a run of one score it is one order of many."""
        return self.before + self.place

    def sums(self, values: Array) -> Array:
        """Of values [candidates]: [queries]."""
        return np.bincount(self.query, values)

    def in_tie(self, values: Array) -> Array:
        """The mean of values [candidates] over the run that each is in [candidates]."""
        return (np.bincount(self.tie, values) / np.bincount(self.tie))[self.tie]


def _gains(scores: Array, reference: Array) -> Array:
    order = _Order.of(scores, reference)
    discounts = np.where(order.rank <= CUT, 1 / np.log2(order.rank + 1), 0.0)
    return order.sums(order.grade * order.in_tie(discounts))


def ndcg(scores: Array, reference: Array) -> Array:
    """NDCG@10 [queries], all of which have a relevant candidate."""
    return _gains(scores, reference) / _gains(reference["grade"], reference)


def reciprocal_rank(scores: Array, reference: Array) -> Array:
    """One over the rank of the first relevant candidate [queries]; 0 where that is beyond the tenth."""
    order = _Order.of(scores, reference)
    decides = (order.hits > 0) & (order.hits_before == 0) & (order.rank <= CUT)
    return order.sums(np.where(decides, _first_is_here(order) / order.rank, 0.0))


def _first_is_here(order: _Order) -> Array:
    """How likely the first relevant candidate of a run is at each of its places, in a random order [candidates]."""
    from scipy.special import gammaln

    def orders(places: Array, relevant: Array) -> Array:
        """The logarithm of how many ways there are to place them."""
        return np.asarray(gammaln(places + 1) - gammaln(relevant + 1) - gammaln(places - relevant + 1))

    after, others = order.size - order.place, np.maximum(order.hits - 1, 0)
    likely = np.exp(orders(after, np.minimum(others, after)) - orders(order.size, order.hits))
    return np.where(others <= after, likely, 0.0)


def average_precision(scores: Array, reference: Array) -> Array:
    """Mean precision at the ranks of the relevant candidates [queries], all of which have one."""
    order = _Order.of(scores, reference)
    others = (order.place - 1) * (order.hits - 1) / np.maximum(order.size - 1, 1)
    precision = (order.hits_before + 1 + others) / order.rank
    return order.sums(order.hits / order.size * precision) / order.sums(order.grade > 0)


def judged(reference: Array) -> Array:
    """Which candidates are of a query that has a relevant one [candidates]: only those can be ranked rightly or wrongly."""
    _, query = np.unique(reference["query"], return_inverse=True)
    return np.asarray((np.bincount(query, reference["grade"] > 0) > 0)[query])


def of_queries(figure: Callable[[Array, Array], Array]) -> Callable[[Array, Array], Array]:
    """Values [queries] of a metric of scores [candidates, 1]; queries without a relevant candidate are left out."""

    def values(answers: Array, reference: Array) -> Array:
        rows = judged(reference)
        return figure(answers[rows, 0].astype(np.float64), reference[rows])

    return values


def mean_of(values: Callable[[Array, Array], Array]) -> Callable[[Array, Array], float]:
    """The metric whose values these are."""
    return lambda answers, reference: float(values(answers, reference).mean())
