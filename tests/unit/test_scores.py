"""The scale of regression scores: where a head's last layer is, and that training does not depend on the labels' unit."""

import copy

import numpy as np
import pytest

from compiler.families import load_checkpoint
from compiler.supernet import TrainingOptions, fine_tune, polish
from compiler.tasks import ScoreScale
from tests.tiny import save_tiny, some_batches, tiny_checkpoint
from tests.training import MAX_TOKENS, SMALL_SUBNET, TEXTS, run_supernet, split

MODEL_TYPES = ("bert", "roberta", "xlm-roberta", "camembert", "electra", "distilbert")
STANDARD = np.random.default_rng(2).normal(size=len(TEXTS))
SCALE = ScoreScale(300.0, 40.0)
SCORES = np.array([260.0, 340.0])


def scores(checkpoint, parameters=None):
    """What a network, with these weights where there are any, answers to fifty texts."""
    network = copy.deepcopy(checkpoint.model)
    if parameters is not None:
        network.backbone.load_state_dict(parameters, strict=False)
    return some_batches(checkpoint).outputs(lambda inputs: network(**inputs)[-1])[:, 0]


def test_the_scale_of_labels_is_their_mean_and_deviation():
    labels = np.array([1.0, 2.0, 6.0])
    scale = ScoreScale.of(labels)
    assert (scale.mean, scale.deviation) == (3, pytest.approx(np.std(labels)))
    assert scale.standard(labels) * scale.deviation + scale.mean == pytest.approx(labels)
    assert ScoreScale.of(np.array([7.0, 7.0])) == ScoreScale(7.0, 1.0)
    assert ScoreScale.of(np.array([1.0, np.nan, 3.0])) == ScoreScale(2.0, 1.0)


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_a_head_gives_its_scores_a_scale_and_takes_it_back(tmp_path, model_type):
    checkpoint = tiny_checkpoint(tmp_path, model_type, task="regression")
    before = scores(checkpoint)
    SCALE.give(checkpoint.model.backbone)
    assert scores(checkpoint) == pytest.approx(300 + 40 * before, rel=1e-5)
    with SCALE.taken([checkpoint.model.backbone]):
        assert scores(checkpoint) == pytest.approx(before, abs=1e-4)
    assert scores(checkpoint) == pytest.approx(300 + 40 * before, rel=1e-5)


def test_a_classifier_has_no_score_to_move(classifier):
    with pytest.raises(ValueError, match="one score"):
        SCALE.give(classifier.model.backbone)


def test_a_new_head_answers_as_the_labels_do_and_a_trained_one_as_it_was_trained(tmp_path):
    folder = save_tiny(tmp_path / "encoder")
    fresh = load_checkpoint(str(folder), task="regression", labels=SCORES)
    assert scores(fresh) == pytest.approx(np.full(50, 300), abs=3 * 40)
    assert fresh.digest != load_checkpoint(str(folder), task="regression").digest
    folder = save_tiny(tmp_path / "regressor", labels=1)
    trained = load_checkpoint(str(folder), task="regression", labels=SCORES)
    assert trained.digest == load_checkpoint(str(folder), task="regression").digest


def tuned(checkpoint, labels, folder):
    options = TrainingOptions(batch_size=4, epochs=1, bf16=False, dropout=0.0)
    return fine_tune(
        checkpoint,
        split(TEXTS, labels),
        options=options,
        max_tokens=MAX_TOKENS,
        work_dir=folder,
        progress=lambda *_: None,
    )


def polished(checkpoint, labels, folder):
    from compiler.slicing import slice_parameters

    dense = {name: p.detach() for name, p in checkpoint.model.backbone.named_parameters()}
    (parameters,) = polish(
        checkpoint, dense, [SMALL_SUBNET], [slice_parameters(dense, checkpoint.architecture, SMALL_SUBNET)],
        split=split(TEXTS, labels), options=TrainingOptions(batch_size=4, epochs=1, bf16=False, dropout=0.0),
        max_tokens=MAX_TOKENS, work_dir=folder, progress=lambda *_: None,
    )  # fmt: skip
    return {name: parameters[name] for name in parameters if name.startswith("classifier")}


def shared(checkpoint, labels, folder):
    return run_supernet(checkpoint, folder, labels=labels, strategy="full", dropout=0.0)


@pytest.mark.parametrize("train", [tuned, shared])
def test_training_is_the_same_on_whatever_scale_the_labels_are(regressor, tmp_path, train):
    unit = ScoreScale.of(STANDARD)
    plain = copy.deepcopy(regressor)
    unit.give(plain.model.backbone)
    other = copy.deepcopy(plain)
    SCALE.give(other.model.backbone)
    expected = scores(plain, train(plain, STANDARD, tmp_path / "plain"))
    found = scores(other, train(other, 300 + 40 * STANDARD, tmp_path / "other"))
    assert not np.allclose(expected, scores(plain), atol=1e-4), "it learned nothing"
    assert found == pytest.approx(300 + 40 * expected, abs=40 * 1e-3)


def test_a_polished_head_learns_on_whatever_scale_too(regressor, tmp_path):
    other = copy.deepcopy(regressor)
    SCALE.give(other.model.backbone)
    head = polished(regressor, STANDARD, tmp_path / "plain")
    found = polished(other, 300 + 40 * STANDARD, tmp_path / "other")
    assert found["classifier.weight"] == pytest.approx(40 * head["classifier.weight"], abs=40 * 1e-3)
    assert found["classifier.bias"] == pytest.approx(300 + 40 * head["classifier.bias"], abs=40 * 1e-3)
