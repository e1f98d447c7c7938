"""Metrics against scikit-learn, scipy, brute force and examples by hand."""

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sk

from compiler.tasks import TASKS, task_named
from compiler.tasks.classification import f1, matthews
from compiler.tasks.embedding import mean_cosine, neighbour_overlap
from compiler.tasks.regression import pearson, spearman
from targets.errors import InputError

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_classification_equals_scikit_learn(classes):
    logits, labels = RNG.normal(size=(80, classes)), RNG.integers(0, classes, 80)
    predicted = logits.argmax(1)
    assert task_named("classification").metric("accuracy").score(logits, labels) == pytest.approx(
        sk.accuracy_score(labels, predicted)
    )
    average = "binary" if classes == 2 else "macro"
    assert f1(logits, labels) == pytest.approx(sk.f1_score(labels, predicted, average=average))
    assert matthews(logits, labels) == pytest.approx(sk.matthews_corrcoef(labels, predicted))


def test_classification_by_hand():
    logits = np.array([[2.0, 1.0], [0.0, 1.0], [0.0, 3.0], [5.0, 1.0]])  # 0 1 1 0
    labels = np.array([0, 1, 0, 1])
    assert task_named("classification").metric("accuracy").score(logits, labels) == 0.5
    assert f1(logits, labels) == 0.5
    assert matthews(logits, labels) == 0
    assert f1(logits[:1], labels[:1]) == 0


@pytest.mark.parametrize("score", [pearson, spearman])
def test_constant_scores_are_no_nan(score):
    assert score(np.array([[1.0], [2.0], [4.0]]), np.array([3.0, 3.0, 3.0])) == 0


def test_regression_equals_scipy_and_constant_outputs_score_zero():
    outputs, scores = RNG.normal(size=(50, 1)), RNG.normal(size=50)
    assert spearman(outputs, scores) == pytest.approx(stats.spearmanr(outputs[:, 0], scores).statistic)
    assert pearson(outputs, scores) == pytest.approx(stats.pearsonr(outputs[:, 0], scores).statistic)
    assert spearman(np.array([[1.0], [4.0], [9.0]]), np.array([1, 2, 3])) == pytest.approx(1)
    assert spearman(np.ones((5, 1)), np.arange(5)) == pearson(np.ones((5, 1)), np.arange(5)) == 0


def test_mean_cosine_by_hand():
    dense = np.array([[1.0, 0.0], [0.0, 2.0]])
    assert mean_cosine(dense * 7, dense) == pytest.approx(1)
    assert mean_cosine(np.array([[0.0, 1.0], [0.0, 1.0]]), dense) == pytest.approx(0.5)
    assert mean_cosine(np.zeros((2, 2)), dense) == 0


def nearest(embeddings, row: int, k: int) -> set[int]:
    def cosine(other):
        a, b = embeddings[row], embeddings[other]
        return a @ b / np.linalg.norm(a) / np.linalg.norm(b)

    return set(sorted((i for i in range(len(embeddings)) if i != row), key=cosine, reverse=True)[:k])


@pytest.mark.parametrize("k", [1, 3, 10, 29])
def test_neighbour_overlap_equals_brute_force(k):
    a = RNG.normal(size=(30, 6))
    b = a + RNG.normal(size=a.shape)
    expected = np.mean([len(nearest(a, i, k) & nearest(b, i, k)) / k for i in range(30)])
    assert neighbour_overlap(a, b, k) == pytest.approx(expected)
    assert neighbour_overlap(a, a, k) == 1


def test_neighbour_overlap_of_few_texts():
    assert neighbour_overlap(np.ones((1, 4)), np.ones((1, 4))) == 1
    assert neighbour_overlap(RNG.normal(size=(4, 3)), RNG.normal(size=(4, 3))) == 1  # all three others


def test_metrics_leave_their_inputs_alone():
    a, b = RNG.normal(size=(12, 3)), RNG.normal(size=(12, 3))
    before = a.copy(), b.copy()
    neighbour_overlap(a, b)
    mean_cosine(a, b)
    assert np.array_equal(a, before[0])
    assert np.array_equal(b, before[1])


def test_default_metric_of_each_task_and_what_does_not_fit():
    for task in TASKS.values():
        assert task.metric() is task.metrics[0]
    assert task_named("classification").metric("f1").name == "f1"
    with pytest.raises(InputError, match="known: accuracy, f1, matthews"):
        task_named("classification").metric("pearson")


def test_without_labels_a_metric_never_has_the_name_of_one_against_labels():
    learned = [task for task in TASKS.values() if task.learns_from_labels and task.needs_labels]
    named = {metric.name for task in learned for metric in task.metrics}
    for task in learned:
        for known in task.metrics:
            metric = task.metric(known.name, labelled=False)
            assert metric.name not in named
            assert "dense model's" in metric.description
            assert "correct" not in metric.description
            assert task.metric(metric.name, labelled=False).name == metric.name
    assert task_named("classification").metric(labelled=False).name == "agreement"
    assert task_named("embedding").metric(labelled=False) is task_named("embedding").metrics[0]
    with pytest.raises(InputError, match="accuracy"):
        task_named("classification").metric("agreement")


def test_the_help_of_the_command_names_every_task():
    from compiler.cli.help import TASKS_HELP

    assert set(TASKS) | {"auto"} == set(TASKS_HELP.replace(" or ", ", ").split(", "))
