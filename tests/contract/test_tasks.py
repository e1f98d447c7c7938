"""What every task promises, asked of each with a file of examples and a tiny model: a new one needs a writer of that file."""

import pickle
from functools import cache

import numpy as np
import pytest
import torch

from compiler.data import Split
from compiler.evaluation import Beside, answers, make_yardstick
from compiler.evaluation.changes import tokens_of
from compiler.evaluation.quality import guided
from compiler.families import load_checkpoint
from compiler.supernet.examples import Examples
from compiler.tasks import TASKS, read_data, task_named
from tests.task_data import WRITERS
from tests.tiny import randomise, save_tiny

TOKENS = 32
ONE_BY_ONE = 12
"""Examples that are run alone as well."""


class Place:
    """A task with its examples, a tiny model, and what that answers."""

    def __init__(self, task, folder):
        self.task = task
        self.data = read_data(str(WRITERS[task.name](folder)), task=task.name)
        kind = "llama" if task.auto_class == "AutoModelForCausalLM" else "bert"
        head = {"task": task.name} if task.pretrained_head else {}
        save_tiny(folder / "model", kind, num_hidden_layers=1, **head)
        self.checkpoint = load_checkpoint(str(folder / "model"), task=task.name, label_names=self.data.label_names)
        randomise(self.checkpoint.model, seed=1)
        self.names = self.data.label_names or (self.checkpoint.label_names if task.head else ())
        self.train = task.prepared(self.data.train, self.checkpoint, max_tokens=TOKENS)
        self.split = task.examples(self.train)
        self.batches = task.encode(self.checkpoint, self.split, max_tokens=TOKENS)
        self.yardstick = cache(self._yardstick)

    def run(self, inputs):
        return self.task.judged(self.checkpoint.model(**inputs))

    def _yardstick(self, *, labelled):
        texts, groups = self.split.texts, self.split.groups
        split = self.split if labelled else Split(texts=texts, labels=None, groups=groups)
        return make_yardstick(
            self.checkpoint, split, self.task.metric(labelled=split.labels is not None), max_tokens=TOKENS,
            dense=lambda batches: answers(self.task, batches, self.run),
        )  # fmt: skip


@pytest.fixture(scope="module", params=list(TASKS))
def place(request, tmp_path_factory):
    return Place(TASKS[request.param], tmp_path_factory.mktemp(request.param))


def test_there_is_one_object_a_task_and_a_route_for_it(place):
    task = place.task
    assert pickle.loads(pickle.dumps(task)) is task is task_named(task.name)  # noqa: S301  our own object
    assert repr(task) == task.name
    names = [metric.name for labelled in (True, False) for metric in task.metrics_of(labelled=labelled)]
    assert len(set(names)) == len(names) or not task.learns_from_labels
    assert all(metric.description for metric in task.metrics)


def test_batches_hold_every_example_once_or_in_windows(place):
    rows = np.concatenate(place.batches.rows)
    assert set(rows.tolist()) == set(range(len(place.split)))
    assert len(place.batches) == len(place.split)
    assert (tokens_of(place.batches) > 0).all()
    for inputs, _ in place.batches.each():
        assert set(inputs) == set(place.checkpoint.input_names)
        assert inputs["input_ids"].shape[1] <= TOKENS


@pytest.mark.parametrize("labelled", [True, False])
def test_a_metric_is_made_of_its_units_parts(place, labelled):
    stick = place.yardstick(labelled=labelled)
    with torch.inference_mode():
        first, whole = stick.looks(place.run)
    assert len(first.values) <= len(whole.values)
    assert np.isfinite(whole.error)
    assert whole.standard_error is None or whole.standard_error >= 0
    looked = whole.values[stick.first_rows]
    assert looked.shape == first.values.shape
    if not labelled and place.task.learns_from_labels:
        outputs = stick.outputs(place.run)
        best = {m.name: m.score(outputs, stick.reference) for m in (stick.metric, *stick.others)}
        assert best[stick.metric.name] == pytest.approx(1.0), "the dense model is like itself"


def test_answers_do_not_depend_on_the_batch(place):
    few = place.split.take(np.arange(min(ONE_BY_ONE, len(place.split))))
    sizes = ({"batch_size": 1}, {})
    both = [place.task.encode(place.checkpoint, few, max_tokens=TOKENS, **size) for size in sizes]
    one, many = (answers(place.task, guided(place.checkpoint, batches), place.run) for batches in both)
    assert len(both[1].batches) < len(both[0].batches)
    np.testing.assert_allclose(one, many, atol=1e-3)


def test_decisions_of_the_dense_model_agree_with_themselves(place):
    if not place.task.decides:
        pytest.skip("decides on no classes")
    stick = place.yardstick(labelled=False)
    _, decisions = stick.judged(place.run)
    found = stick.changes(decisions, decisions, place.names)
    assert (found.flips, found.decisions > 0) == (0, True)
    assert all(group.drop == 0 and group.dense == 1 for group in (*found.classes, *found.lengths))


def test_a_loss_teaches_and_a_perfect_pupil_has_nothing_to_learn_of_a_teacher(place):
    task, model = place.task, place.checkpoint.model
    examples = Examples(place.checkpoint, place.train, max_tokens=TOKENS)
    batch = examples.batch(np.arange(6))
    labels = batch.pop("labels", None)
    outputs = model(**batch)
    mask, teacher = batch["attention_mask"], tuple(tensor.detach() for tensor in outputs)
    assert abs(float(task.loss(outputs, mask, None, teacher, 2.0).detach())) < 1e-4
    with pytest.raises(ValueError, match="teacher"):
        task.loss(outputs, mask, None, None, 2.0)
    if labels is not None and task.learns_from_labels:
        loss = task.loss(outputs, mask, labels, None, 2.0)
        loss.backward()
        assert torch.isfinite(loss)
        assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())
        model.zero_grad()


def test_a_probe_is_a_scalar_of_random_sign_that_weights_have_a_part_in(place):
    inputs, extras = next(iter(place.batches.each()))
    values = []
    for seed in range(2):
        generator = torch.Generator().manual_seed(seed)
        probe = place.task.probe(place.checkpoint.model(**inputs), inputs, extras, generator)
        probe.backward()
        assert probe.dim() == 0
        assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in place.checkpoint.model.parameters())
        place.checkpoint.model.zero_grad()
        values.append(float(probe.detach()))
    assert values[0] != values[1]


def test_outputs_that_are_not_finite_are_the_worst(place):
    stick = place.yardstick(labelled=True)
    with np.errstate(invalid="ignore"):
        outputs = stick.outputs(place.run)
        broken = stick.score(np.full_like(outputs, np.nan))
    assert broken.error >= stick.score(outputs).error


def test_what_is_looked_at_beside_is_of_embeddings_alone(place):
    pairs = place.task.pairs_of(Split(texts=(("a", "b"),), labels=None), ("query", "passage"))
    assert (pairs is not None) == (place.task.name == "embedding")
    if pairs is not None:
        assert Beside.of(place.checkpoint, pairs, max_tokens=TOKENS).figures(place.run)["retrieval_recall_at_10"] == 1
