"""Evolution on a cheap predictor, a diverse few of its best really evaluated, then fitted again."""

from typing import Any

import numpy as np

from compiler.search.front import ranked
from compiler.search.method import Floats
from compiler.search.modelled import Candidates, Modelled
from compiler.spaces.subnet import IntArray

_GENERATIONS = 6
_SURVIVORS = 64
_BATCH = 4


class SurrogateSearch(Modelled):
    """Surrogate-assisted evolution: thousands of offspring are screened for every few networks that are evaluated.

    After each fit a population evolves on predicted objectives for some generations. Of its best predicted front, networks far
    from each other are asked for. What is known of the objectives is not predicted.
    """

    def choose(self, candidates: Candidates) -> IntArray:
        """A few, spread over the predicted front."""
        predict = _Predictor(*self.evaluated())
        best = _survivors(candidates, predict)
        for _ in range(_GENERATIONS - 1):
            best = _survivors(_joined(best, self.candidates(best.genomes)), predict)
        return best.genomes[:_BATCH]


class _Predictor:
    """The mean of ridge regression, which sees trends, and randomised trees, which see what is uneven about them."""

    def __init__(self, evaluated: Candidates, objectives: Floats) -> None:
        from sklearn.ensemble import ExtraTreesRegressor
        from sklearn.linear_model import RidgeCV

        self.objectives = objectives[:, : 1 if evaluated.costs is not None else None]
        self.models: list[Any] = [
            RidgeCV(alphas=np.logspace(-4, 2, 7)),
            ExtraTreesRegressor(n_estimators=50, random_state=0),
        ]
        for model in self.models:
            model.fit(_inputs(evaluated.features), self.objectives)

    def __call__(self, candidates: Candidates) -> Floats:
        """Objectives [n, objectives], predicted or known."""
        inputs = _inputs(candidates.features)
        shape = (len(inputs), self.objectives.shape[1])
        predicted = np.mean([model.predict(inputs).reshape(shape) for model in self.models], axis=0)
        return predicted if candidates.costs is None else np.hstack([predicted, candidates.costs])


def _inputs(features: Floats) -> Floats:
    """Roots beside the features: what the first head or unit brings is more than what the last does."""
    return np.hstack([features, np.sqrt(features)])


def _survivors(candidates: Candidates, predict: _Predictor) -> Candidates:
    return candidates.take(ranked(predict(candidates))[:_SURVIVORS])


def _joined(some: Candidates, others: Candidates) -> Candidates:
    """Both, each genome once."""
    genomes = np.concatenate([some.genomes, others.genomes])
    _, first = np.unique(genomes, axis=0, return_index=True)
    costs = None if some.costs is None or others.costs is None else np.concatenate([some.costs, others.costs])
    return Candidates(genomes, np.concatenate([some.features, others.features]), costs).take(np.sort(first))
