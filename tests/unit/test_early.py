"""A first look at a network: what it stops, what it never does, and what it estimates."""

import numpy as np
import pytest
import torch

from compiler.evaluation import Quality, Yardstick, early, outdone
from compiler.evaluation.quality import EVERY
from compiler.tasks import TASKS, Batches

METRICS = {metric.name: metric for metric in TASKS["classification"].metrics}
N, BATCH = 1000, 32


def yardstick(reference, metric="accuracy"):
    """Examples in batches of 32, in an order that is not their own; a network is the table of its outputs."""
    rows = np.random.default_rng(5).permutation(len(reference))
    parts = tuple(rows[i : i + BATCH] for i in range(0, len(rows), BATCH))
    batches = Batches(batches=tuple({"rows": torch.from_numpy(part)} for part in parts), rows=parts)
    return Yardstick(
        task=TASKS["classification"],
        metric=METRICS[metric],
        others=(METRICS["f1"],),
        batches=batches,
        reference=reference,
    )


class Network:
    """Outputs by example, and how many examples were asked for."""

    def __init__(self, outputs):
        self.outputs, self.seen = torch.from_numpy(outputs), 0

    def __call__(self, inputs):
        self.seen += len(inputs["rows"])
        return self.outputs[inputs["rows"]]


def labels(count=N):
    return np.random.default_rng(0).integers(0, 2, count)


def classifier(reference, right, seed):
    """Right with this probability, on examples of its own."""
    hit = np.random.default_rng(seed).random(len(reference)) < right
    return np.eye(2)[np.where(hit, reference, 1 - reference)]


def first_look(stick, network):
    return next(stick.looks(network))


def test_both_looks_together_judge_every_example_once():
    reference = labels()
    stick, network = yardstick(reference), Network(classifier(reference, 0.8, 1))
    looks = stick.looks(network)
    first = next(looks)
    assert network.seen == len(first.values) == len(stick.first_rows) < N / EVERY + BATCH
    assert first.metric == pytest.approx(
        METRICS["accuracy"].score(network.outputs.numpy()[stick.first_rows], reference[stick.first_rows])
    )
    whole = next(looks)
    assert network.seen == len(whole.values) == N
    assert whole == stick.quality(network)
    assert np.array_equal(whole.values, stick.quality(network).values)


def test_a_much_worse_network_is_outdone_and_its_metric_estimated():
    reference = labels()
    stick = yardstick(reference)
    rival = stick.quality(Network(classifier(reference, 0.9, 1)))
    worse = Network(classifier(reference, 0.6, 2))
    short = outdone(stick, first_look(stick, worse), rival)
    assert short is not None
    assert worse.seen == len(short.values) < N
    assert short.metric == pytest.approx(stick.quality(worse).metric, abs=0.1)
    assert short.metric < rival.metric
    assert outdone(stick, first_look(stick, Network(classifier(reference, 0.9, 1))), rival) is None, "itself"
    assert outdone(stick, first_look(stick, Network(classifier(reference, 0.95, 3))), rival) is None, "better"


def test_an_estimate_uses_that_errors_are_shared():
    """Two networks that err on the same examples: what is seen says little of either, and all of their difference."""
    reference = labels()
    stick = yardstick(reference)
    hard = np.random.default_rng(1).random(N) < 0.3
    good = np.eye(2)[np.where(hard, 1 - reference, reference)]
    also = np.random.default_rng(2).random(N) < 0.15
    bad = np.eye(2)[np.where(hard | also, 1 - reference, reference)]
    rival, worse = stick.quality(Network(good)), Network(bad)
    first = first_look(stick, worse)
    short = outdone(stick, first, rival)
    assert short is not None
    truth = stick.quality(worse).metric
    behind_seen = float((rival.values - stick.quality(worse).values)[stick.first_rows].mean())
    assert short.metric == pytest.approx(rival.metric - behind_seen)
    assert abs(short.metric - truth) < 0.05


@pytest.mark.parametrize("metric", ["accuracy", "f1", "matthews"])
def test_equals_are_hardly_ever_called_outdone(metric):
    """The best of five equals is the rival of another: chance made it the best, and the bar is above that."""
    reference = labels()
    stick = yardstick(reference, metric)
    wrong = 0
    for trial in range(20):
        others = [stick.quality(Network(classifier(reference, 0.8, 1000 * trial + i))) for i in range(5)]
        rival = max(others, key=lambda quality: quality.metric)
        wrong += (
            outdone(stick, first_look(stick, Network(classifier(reference, 0.8, 1000 * trial + 99))), rival) is not None
        )
    assert wrong == 0


def test_after_a_few_examples_nothing_is_beyond_doubt():
    reference = labels(early.FEWEST * EVERY - BATCH * EVERY)
    stick = yardstick(reference)
    rival, worst = (stick.quality(Network(classifier(reference, right, 1))) for right in (1.0, 0.0))
    assert len(stick.first_rows) < early.FEWEST
    assert rival.metric - worst.metric == 1.0
    assert outdone(stick, first_look(stick, Network(classifier(reference, 0.0, 1))), rival) is None


def test_an_estimate_is_no_accuracy_below_nothing():
    reference = labels()
    stick = yardstick(reference)
    hits = np.zeros(N)
    hits[stick.first_rows] = 1.0  # the rival is right where it was seen, and only there
    rival = Quality(metric=float(hits.mean()), others={}, values=hits)
    short = outdone(stick, first_look(stick, Network(classifier(reference, 0.0, 1))), rival)
    assert short is not None
    assert short.metric == 0.0


def test_outputs_that_are_not_numbers_are_outdone():
    reference = labels()
    stick = yardstick(reference)
    rival = stick.quality(Network(classifier(reference, 0.9, 1)))
    short = outdone(stick, first_look(stick, Network(np.full((N, 2), np.nan))), rival)
    assert short is not None
    assert short.metric == pytest.approx(0.0, abs=0.1)
