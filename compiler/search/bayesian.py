"""Bayesian optimisation with BoTorch: a Gaussian process for every objective that is not known beforehand."""

import warnings
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from compiler.search.method import Floats
from compiler.search.modelled import Candidates, Modelled, Scale
from compiler.spaces.subnet import IntArray

_SAMPLES = 128  # of the posterior, quasi-random
_FIT_STEPS = 30  # of L-BFGS: more change predictions little and take most of the time
_AT_ONCE = 64  # candidates whose acquisition is computed together: of four objectives each meets thousands of boxes


def _inputs(candidates: Candidates, scale: Scale) -> Any:
    """Features, then the known costs where there are: a tensor [n, inputs], all near 0 to 1 as BoTorch wants them."""
    import torch

    if candidates.costs is None:
        return torch.from_numpy(candidates.features)
    return torch.from_numpy(np.hstack([candidates.features, scale.costs(candidates.costs)]))


class Bayesian(Modelled):
    """One network at a time: the candidate of the highest acquisition."""

    def choose(self, candidates: Candidates) -> IntArray:
        """Fit to everything evaluated, then screen."""
        import torch

        evaluated, objectives = self.evaluated()
        scale = Scale.of(objectives)
        outputs = torch.from_numpy(-scale.objectives(objectives))  # BoTorch maximises
        known = 0 if candidates.costs is None else candidates.costs.shape[1]
        with _one_thread():
            model = _fit(_inputs(evaluated, scale), outputs, known)
            with torch.no_grad():
                scores = self.acquisition(model, _inputs(candidates, scale), outputs)
        return candidates.genomes[[int(np.argmax(scores))]]

    @abstractmethod
    def acquisition(self, model: Any, inputs: Any, outputs: Any) -> Floats:
        """How promising inputs [n, inputs] are [n], higher is better; `outputs` [N, objectives] is what was evaluated."""


class Ehvi(Bayesian):
    """Expected hypervolume improvement (Daulton et al., 2020, arXiv 2006.05078), its logarithm (Ament et al., 2023).

    The reference point is a tenth of its range beyond the worst of the front.
    """

    def acquisition(self, model: Any, inputs: Any, outputs: Any) -> Floats:
        """By Monte Carlo over the boxes that the front leaves."""
        from botorch.acquisition.multi_objective.logei import qLogExpectedHypervolumeImprovement
        from botorch.utils.multi_objective.box_decompositions import FastNondominatedPartitioning
        from botorch.utils.multi_objective.hypervolume import infer_reference_point
        from botorch.utils.multi_objective.pareto import is_non_dominated

        reference = infer_reference_point(outputs[is_non_dominated(outputs)])
        boxes: Any = FastNondominatedPartitioning(ref_point=reference, Y=outputs)
        gain = qLogExpectedHypervolumeImprovement(
            model=model, ref_point=reference, partitioning=boxes, sampler=_sampler(model, inputs, self.rng)
        )
        return _in_chunks(gain, inputs)


class LinearScalarisation(Bayesian):
    """Expected improvement of the mean of the objectives: LS-BO of arXiv 2405.02267, with weights that never change."""

    def acquisition(self, model: Any, inputs: Any, outputs: Any) -> Floats:
        """By Monte Carlo, the logarithm (Ament et al., 2023, arXiv 2310.20708)."""
        import torch
        from botorch.acquisition.logei import qLogExpectedImprovement
        from botorch.acquisition.objective import LinearMCObjective

        weights = torch.full((outputs.shape[1],), 1 / outputs.shape[1], dtype=outputs.dtype)
        gain = qLogExpectedImprovement(
            model=model,
            best_f=(outputs @ weights).max(),
            sampler=_sampler(model, inputs, self.rng),
            objective=LinearMCObjective(weights),
        )
        return _in_chunks(gain, inputs)


class RandomScalarisation(Bayesian):
    """The optimistic bound under weights drawn anew each time (Paria et al., 2020, arXiv 1805.12168): RS-BO of arXiv 2405.02267.

    The weighted objective furthest from its best value counts (Chebyshev), which finds what lies in a hollow of the front too.
    """

    def acquisition(self, model: Any, inputs: Any, outputs: Any) -> Floats:
        """Closed form; the confidence grows with the evaluations as in section 5 of the paper."""
        posterior = model.posterior(inputs[:, None])
        mean, variance = posterior.mean[:, 0].numpy(), posterior.variance[:, 0].numpy()
        confidence = np.sqrt(0.125 * np.log(2 * len(outputs) + 1))
        weights = self.rng.dirichlet(np.ones(outputs.shape[1]))
        best: Floats = (weights * (mean + confidence * np.sqrt(variance))).min(axis=1)
        return best


@contextmanager
def _one_thread() -> Iterator[None]:
    """Matrices this small take several times as long on many threads, and the sums then depend on how many."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _fit(inputs: Any, outputs: Any, known: int) -> Any:
    """A Gaussian process for each of the first outputs; the last `known` ones are inputs, negated."""
    from botorch.models import ModelList
    from botorch.models.deterministic import GenericDeterministicModel

    modelled = outputs.shape[1] - known
    models = [_process(inputs, outputs[:, i : i + 1]) for i in range(modelled)]
    if known:
        models.append(GenericDeterministicModel(lambda x: -x[..., -known:], num_outputs=known))
    return ModelList(*models)


def _process(inputs: Any, outputs: Any) -> Any:
    from botorch.models import SingleTaskGP
    from botorch.models.transforms import Standardize
    from botorch.optim.fit import fit_gpytorch_mll_scipy
    from gpytorch.mlls import ExactMarginalLogLikelihood

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that equal outputs have no variance, that the fit was stopped
        process = SingleTaskGP(inputs, outputs, outcome_transform=Standardize(m=1))
        likelihood = ExactMarginalLogLikelihood(process.likelihood, process)
        fit_gpytorch_mll_scipy(likelihood, options={"maxiter": _FIT_STEPS})
    return process.eval()


def _sampler(model: Any, inputs: Any, rng: np.random.Generator) -> Any:
    import torch
    from botorch.sampling.get_sampler import get_sampler

    return get_sampler(model.posterior(inputs[:1]), torch.Size([_SAMPLES]), seed=int(rng.integers(2**31)))


def _in_chunks(acquisition: Any, inputs: Any) -> Floats:
    import torch

    return np.asarray(torch.cat([acquisition(chunk[:, None]) for chunk in inputs.split(_AT_ONCE)]))
