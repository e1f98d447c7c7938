"""The noise of a score: the jackknife against leaving out by hand, closed forms and the bootstrap."""

import numpy as np
import pytest

from compiler.evaluation import Quality
from compiler.tasks import TASKS
from compiler.tasks.noise import standard_error

METRICS = {m.name: m for name in ("classification", "regression", "embedding") for m in TASKS[name].metrics}
N = 60
OF_MEANS = ("accuracy", "mean_cosine")
BY_LEAVING_OUT = ("accuracy", "f1", "matthews", "spearman", "pearson", "mean_cosine")
CASES = [
    (name, classes)
    for name in BY_LEAVING_OUT
    for classes in ((2, 4) if name in {"accuracy", "f1", "matthews"} else (0,))
]


def sample(name, classes, count=N, seed=0, *, ties=False):
    """Outputs that agree with the reference now and then."""
    rng = np.random.default_rng(seed)
    if classes:
        labels = rng.integers(0, classes, count)
        return rng.normal(size=(count, classes)) + 1.2 * np.eye(classes)[labels], labels
    reference = rng.normal(size=(count, 8) if name == "mean_cosine" else count)
    outputs = reference.reshape(count, -1) + rng.normal(size=(count, reference.size // count))
    return (np.round(outputs), np.round(reference)) if ties else (outputs, reference)


@pytest.mark.parametrize(("name", "classes"), CASES)
@pytest.mark.parametrize("ties", [False, True])
def test_values_are_those_of_leaving_out_one_example_after_another(name, classes, ties):
    outputs, reference = sample(name, classes, ties=ties)
    score = METRICS[name].score
    without = [score(np.delete(outputs, i, axis=0), np.delete(reference, i, axis=0)) for i in range(N)]
    expected = N * score(outputs, reference) - (N - 1) * np.array(without)
    np.testing.assert_allclose(METRICS[name].values(outputs, reference), expected, atol=1e-9)


@pytest.mark.parametrize("name", ["accuracy", "mean_cosine", "neighbour_overlap_at_10"])
def test_values_of_a_mean_are_the_examples_own(name):
    outputs, reference = sample(name, 3) if name == "accuracy" else sample("mean_cosine", 0)
    values = METRICS[name].values(outputs, reference)
    assert values.shape == (N,)
    assert values.mean() == pytest.approx(METRICS[name].score(outputs, reference))


def test_the_error_of_an_accuracy_is_the_binomial_one():
    hits = np.array([1.0] * 45 + [0.0] * 15)
    assert standard_error(hits) == pytest.approx(np.sqrt(0.75 * 0.25 / 59))
    assert standard_error(hits[:1]) is None


@pytest.mark.parametrize(("name", "classes"), CASES)
def test_the_error_is_about_that_of_the_bootstrap(name, classes):
    outputs, reference = sample(name, classes, count=400)
    rng, score = np.random.default_rng(1), METRICS[name].score
    draws = [score(outputs[rows], reference[rows]) for rows in rng.integers(400, size=(300, 400))]
    assert standard_error(METRICS[name].values(outputs, reference)) == pytest.approx(np.std(draws, ddof=1), rel=0.2)


@pytest.mark.parametrize("name", ["spearman", "pearson"])
def test_constant_outputs_have_values_without_nan(name):
    values = METRICS[name].values(np.ones((9, 1)), np.arange(9.0))
    assert np.array_equal(values, np.zeros(9))


def quality(values):
    return Quality(metric=float(np.mean(values)), others={}, values=np.asarray(values, dtype=float))


def test_networks_on_the_same_examples_are_told_apart_by_their_differences():
    """Both accuracies are uncertain by 0.03; one network that errs where the other does and ten times more is worse for sure."""
    right = np.repeat([1.0, 0.0], [160, 40])
    same_examples = right.copy()
    same_examples[:10] = 0.0
    assert quality(same_examples).differs(quality(right))
    shuffled = np.random.default_rng(0).permutation(same_examples)
    assert not quality(shuffled).differs(quality(right))
    assert not quality(right).differs(quality(right))


def test_a_quality_comes_back_from_json_as_it_was():
    before = Quality(metric=1 / 3, others={"f1": 0.1}, values=np.array([1 / 3, 1e-17, 2.0]))
    after = Quality.from_json(before.to_json())
    assert after == before
    assert after.values.tobytes() == before.values.tobytes()
