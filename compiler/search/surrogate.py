"""Evolution on a cheap predictor, a diverse few of its best really evaluated, then fitted again."""

from typing import Any

import numpy as np

from compiler.search.front import hypervolume, is_nondominated, ranked
from compiler.search.method import Floats, first_rows
from compiler.search.modelled import Candidates, Modelled, Scale
from compiler.spaces.subnet import IntArray

_GENERATIONS = 6
_SURVIVORS = 64
_BATCH = 4
_DIGITS = 9  # of scaled objectives


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
        return best.genomes[_most_gained(predict.scale.objectives(objectives), predict(best), _BATCH)]


class _Predictor:
    """Ridge regression on roots of the features and their products.

    Roots, since what the first head or unit brings is more than what the last does; products, since sub-blocks make up for
    each other or do not. Objectives are scaled to the range of what was evaluated, and so far rounded that networks which differ in
    the order of their layers alone are not told apart by how a processor rounds.
    """

    def __init__(self, evaluated: Candidates, objectives: Floats) -> None:
        from sklearn.linear_model import RidgeCV
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import PolynomialFeatures

        self.scale = Scale.of(objectives)
        unknown = self.scale.objectives(objectives)[:, : None if evaluated.costs is None else 1]
        self.model: Any = make_pipeline(PolynomialFeatures(2), RidgeCV(alphas=np.logspace(-4, 2, 7)))
        self.model.fit(np.sqrt(evaluated.features), unknown)

    def __call__(self, candidates: Candidates) -> Floats:
        """Scaled objectives [n, objectives], predicted or known."""
        predicted = self.model.predict(np.sqrt(candidates.features)).reshape(len(candidates.genomes), -1)
        if candidates.costs is not None:
            predicted = np.hstack([predicted, self.scale.costs(candidates.costs)])
        return np.asarray(np.round(predicted, _DIGITS))


def _most_gained(known: Floats, predicted: Floats, count: int) -> list[int]:
    """Indices of at most `count` predicted points that together add hypervolume to the known ones, chosen one by one.

    What was chosen leaves its neighbours little to add, so that the choice is diverse. Objectives are scaled; the reference point
    lies a tenth beyond the worst known. Of points that add as much the first is taken.
    """
    reference, front, chosen = np.full(known.shape[1], 1.1), known, list[int]()
    for _ in range(min(count, len(predicted))):
        front = front[is_nondominated(front)]
        gains = np.round([hypervolume(np.vstack([front, point]), reference) for point in predicted], _DIGITS)
        gains[chosen] = -1.0
        chosen.append(int(np.argmax(gains)))
        front = np.vstack([front, predicted[chosen[-1]]])
    return chosen


def _survivors(candidates: Candidates, predict: _Predictor) -> Candidates:
    return candidates.take(ranked(predict(candidates))[:_SURVIVORS])


def _joined(some: Candidates, others: Candidates) -> Candidates:
    """Both, each genome once."""
    genomes = np.concatenate([some.genomes, others.genomes])
    costs = None if some.costs is None or others.costs is None else np.concatenate([some.costs, others.costs])
    return Candidates(genomes, np.concatenate([some.features, others.features]), costs).take(first_rows(genomes))
