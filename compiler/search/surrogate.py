"""Evolution on a cheap predictor, a diverse few of its best really evaluated, then fitted again."""

from typing import Any

import numpy as np

from compiler.search.front import hypervolume, is_nondominated, ranked
from compiler.search.method import Floats
from compiler.search.modelled import Candidates, Modelled
from compiler.spaces.subnet import IntArray

_GENERATIONS = 6
_SURVIVORS = 64
_BATCH = 4


class SurrogateSearch(Modelled):
    """Surrogate-assisted evolution: thousands of offspring are screened for every few networks that are evaluated.

    After each fit a population evolves on predicted objectives for some generations. Of its best those are asked for that
    together add most to the hypervolume. What is known of the objectives is not predicted.
    """

    def choose(self, candidates: Candidates) -> IntArray:
        """A few, each from another place of the predicted front."""
        evaluated, objectives = self.evaluated()
        predict = _Predictor(evaluated, objectives)
        best = _survivors(candidates, predict)
        for _ in range(_GENERATIONS - 1):
            best = _survivors(_joined(best, self.candidates(best.genomes)), predict)
        return best.genomes[_most_gained(objectives, predict(best), _BATCH)]


class _Predictor:
    """Ridge regression on roots of the features and their products.

    Roots, since what the first head or unit brings is more than what the last does; products, since sub-blocks make up for
    each other or do not.
    """

    def __init__(self, evaluated: Candidates, objectives: Floats) -> None:
        from sklearn.linear_model import RidgeCV
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import PolynomialFeatures

        unknown = objectives if evaluated.costs is None else objectives[:, :1]
        self.model: Any = make_pipeline(PolynomialFeatures(2), RidgeCV(alphas=np.logspace(-4, 2, 7)))
        self.model.fit(np.sqrt(evaluated.features), unknown)

    def __call__(self, candidates: Candidates) -> Floats:
        """Objectives [n, objectives], predicted or known."""
        predicted = self.model.predict(np.sqrt(candidates.features)).reshape(len(candidates.genomes), -1)
        return predicted if candidates.costs is None else np.hstack([predicted, candidates.costs])


def _most_gained(known: Floats, predicted: Floats, count: int) -> list[int]:
    """Indices of at most `count` predicted points that together add hypervolume to the known ones, chosen one by one.

    What was chosen leaves its neighbours little to add, so that the choice is diverse. The reference point is a tenth of its
    range beyond the worst that is known.
    """
    reference = known.max(axis=0) + 0.1 * np.ptp(known, axis=0)
    front, chosen = known, list[int]()
    for _ in range(min(count, len(predicted))):
        front = front[is_nondominated(front)]
        gains = [
            -1.0 if i in chosen else hypervolume(np.vstack([front, p]), reference) for i, p in enumerate(predicted)
        ]
        chosen.append(int(np.argmax(gains)))
        front = np.vstack([front, predicted[chosen[-1]]])
    return chosen


def _survivors(candidates: Candidates, predict: _Predictor) -> Candidates:
    return candidates.take(ranked(predict(candidates))[:_SURVIVORS])


def _joined(some: Candidates, others: Candidates) -> Candidates:
    """Both, each genome once."""
    genomes = np.concatenate([some.genomes, others.genomes])
    _, first = np.unique(genomes, axis=0, return_index=True)
    costs = None if some.costs is None or others.costs is None else np.concatenate([some.costs, others.costs])
    return Candidates(genomes, np.concatenate([some.features, others.features]), costs).take(np.sort(first))
