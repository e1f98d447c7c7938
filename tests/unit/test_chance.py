"""A dense model that is no better than chance, answers one class, or has its labels permuted, is told from one that works."""

import numpy as np
import pytest

from compiler.data import Split
from compiler.tasks import TASKS, task_named
from compiler.tasks.chance import permuted

PLAIN = [TASKS[name] for name in ("classification", "regression", "embedding")]
METRICS = {metric.name: (task, metric) for task in PLAIN for metric in task.metrics}
NAMES = ("negative", "neutral", "positive")


def logits_of(predicted, classes=3):
    return np.eye(classes, dtype=np.float32)[predicted]


def answers(accuracy, count=300, classes=3, seed=0):
    """Labels, and predictions of which so many are right, the others any class."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(classes, size=count)
    return labels, np.where(rng.random(count) < accuracy, labels, rng.integers(classes, size=count))


def doubt(metric, outputs, labels, names):
    task, metric = METRICS[metric]
    return task.doubt(metric, outputs, Split(texts=(("a",),) * len(outputs), labels=labels), names)


def constant(name, outputs, names):
    metric = task_named(name).metric(labelled=False)
    return task_named(name).doubt(metric, outputs, Split(texts=(("a",),) * len(outputs), labels=None), names)


def said(labels, predicted, metric="accuracy", names=NAMES):
    return doubt(metric, logits_of(predicted, len(names)), labels, names)


@pytest.mark.parametrize("metric", ["accuracy", "f1", "matthews"])
@pytest.mark.parametrize("accuracy", [0.3, 0.6, 1.0])
def test_a_model_that_works_is_not_doubted(metric, accuracy):
    assert said(*answers(accuracy), metric) is None


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("classes", [2, 3, 77])
def test_guessing_is_at_chance_and_no_permutation(classes, seed):
    """The best of 77! permutations is far above chance on the examples that choose it: it is tested on others."""
    labels, predicted = answers(0.0, classes=classes, seed=seed)
    names = [f"c{i}" for i in range(classes)]
    text = said(labels, predicted, names=names)
    assert text is None or ("is at chance" in text and "permuted" not in text)
    assert permuted(predicted, labels, classes) is None


def test_most_guesses_are_found_out():
    texts = [said(*answers(0.0, seed=seed)) for seed in range(40)]
    assert sum(text is not None for text in texts) > 34


def test_exchanged_labels_are_named_with_the_remedy():
    labels, predicted = answers(0.9)
    text = said(labels, np.array([2, 1, 0])[predicted])
    right = (labels == predicted).mean()
    assert text.startswith("the dense model's classes look permuted: accuracy 0.")
    assert f"{right:.3f} if labels were renamed" in text
    assert text.endswith("give --labels negative=positive,positive=negative")


def test_a_cycle_of_classes_is_mapped_from_the_data_to_the_model():
    labels, predicted = answers(1.0)
    assert permuted((predicted + 1) % 3, labels, 3) == {0: 1, 1: 2, 2: 0}


def test_few_neighbouring_classes_taken_for_each_other_are_no_permutation():
    labels, predicted = answers(0.5)
    predicted = np.where(np.arange(300) % 5 == 0, (labels + 1) % 3, predicted)
    assert permuted(predicted, labels, 3) is None


def test_one_answer_for_everything_is_told_however_often_it_is_right():
    labels = np.array([1] * 280 + [0] * 20)
    text = said(labels, np.ones(300, dtype=int))
    assert "its answer is 'neutral' for each of 300 validation examples (accuracy 0.933)" in text
    assert said(np.ones(300, dtype=int), np.ones(300, dtype=int)) is not None, "there, always answering so is as good"


def test_what_always_answering_the_usual_class_gives_is_chance():
    rng = np.random.default_rng(3)
    labels = (rng.random(400) < 0.1).astype(int)
    predicted = (rng.random(400) < 0.1).astype(int)
    text = said(labels, predicted, names=("ham", "spam"))
    assert "always answering 'ham' gives 0.9" in text
    assert "--labels A=B" in text


def test_rare_classes_that_are_found_are_worth_something_by_a_metric_that_sees_them():
    """Half the spam is found at the price of as many errors: no better than `ham` in accuracy, far from chance by MCC."""
    labels = np.array([1] * 40 + [0] * 360)
    predicted = np.array([1] * 20 + [0] * 20 + [1] * 20 + [0] * 340)
    assert said(labels, predicted, "matthews", ("ham", "spam")) is None
    assert "is at chance" in said(labels, predicted, "accuracy", ("ham", "spam"))


@pytest.mark.parametrize("metric", ["spearman", "pearson"])
def test_scores_that_do_not_rise_with_the_labels(metric):
    rng = np.random.default_rng(0)
    labels = rng.normal(size=200)
    good = (labels + rng.normal(size=200))[:, None]
    assert doubt(metric, good, labels, ()) is None
    assert "is at chance" in doubt(metric, rng.normal(size=(200, 1)), labels, ())
    assert "falls where the labels rise" in doubt(metric, -good, labels, ())
    assert "is at chance" in doubt(metric, np.ones((200, 1)), labels, ())


def test_embeddings_are_not_looked_at():
    assert doubt("mean_cosine", np.ones((4, 3)), np.ones((4, 3)), ()) is None


def test_agreement_with_a_model_of_one_answer_says_nothing():
    """Without labels the dense model is its own reference: every network that answers nothing else agrees with it."""
    text = constant("classification", logits_of(np.ones(60, dtype=int)), NAMES)
    assert text == "the dense model answers 'neutral' to each of 60 validation texts: to agree with it says nothing"
    assert constant("classification", logits_of(np.arange(60) % 3), NAMES) is None
    assert "answers 0.5 to each of 60" in constant("regression", np.full((60, 1), 0.5), ())
    assert constant("regression", np.arange(60.0)[:, None], ()) is None
    assert constant("embedding", np.ones((60, 8)), ()) is None
