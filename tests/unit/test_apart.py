"""Sub-networks trained on their own, rung by rung: nothing is trained twice, and where a run was killed does not matter."""

import numpy as np
import pytest
import torch

from compiler.data import Split
from compiler.pipeline import Options
from compiler.pipeline.monitor import SilentMonitor
from compiler.pipeline.subject import load_subject
from compiler.pipeline.training import Trainer
from compiler.pipeline.weights import Apart
from compiler.search import SHARES
from compiler.slicing import SubnetRunner, slice_parameters
from compiler.spaces import Subnet
from compiler.store import DiskStore
from compiler.supernet import TrainingOptions, train_alone
from targets.errors import InputError
from tests.cli import classes, write_rows
from tests.tiny import save_tiny, tiny_checkpoint

SUBNET = Subnet.of([[0, 2], [], [1]], [[1, 5, 40], [3], []])
EPOCHS = 2.0


@pytest.fixture(scope="module")
def subject(tmp_path_factory):
    root = tmp_path_factory.mktemp("apart")
    rows = write_rows(root / "classes.csv", classes())
    model = save_tiny(root / "encoder")
    return load_subject(Options(model=str(model), data=str(rows), effort="thorough", search="mo-asha", seq_len=32))


@pytest.fixture
def weights(subject, tmp_path):
    return make(subject, tmp_path / "store")


def make(subject, root, **changes):
    options = Options(model="", search="mo-asha", **{"epochs": EPOCHS, **changes})
    trainer = Trainer(subject=subject, store=DiskStore(root), options=options, monitor=SilentMonitor())
    start = {n: p.detach().clone() for n, p in subject.checkpoint.model.backbone.named_parameters()}
    return Apart(trainer, None, start)


@pytest.fixture
def trained(monkeypatch):
    """The sub-network and the epochs of every training that takes place."""
    done = []

    def spy(checkpoint, subnet, parameters, **named):
        done.append((subnet, named["options"].epochs))
        return train_alone(checkpoint, subnet, parameters, **named)

    monkeypatch.setattr("compiler.pipeline.weights.train_alone", spy)
    return done


def same(ours, theirs):
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_every_rung_trains_what_the_one_below_has_not(weights, trained):
    for share in SHARES:
        weights.searched(SUBNET, share)
    assert [subnet for subnet, _ in trained] == [SUBNET] * 3
    assert np.cumsum([epochs for _, epochs in trained]) == pytest.approx([EPOCHS * share for share in SHARES])


def test_what_was_trained_is_not_trained_again(weights, subject, tmp_path, trained):
    before = weights.searched(SUBNET, SHARES[1])
    trained.clear()
    assert same(before, weights.searched(SUBNET, SHARES[1]))
    assert same(before, make(subject, tmp_path / "store").corrected(SUBNET, SHARES[1]))
    assert trained == []


def test_rung_after_rung_gives_what_the_top_gives_at_once(weights, subject, tmp_path):
    """A run whose lower rungs are gone from the store ends with the same bits."""
    for share in SHARES:
        climbed = weights.searched(SUBNET, share)
    assert same(climbed, make(subject, tmp_path / "other").searched(SUBNET, SHARES[-1]))


def test_the_lowest_rung_is_a_training_of_the_slice(weights, subject, tmp_path):
    start = slice_parameters(weights.start, subject.checkpoint.architecture, SUBNET)
    expected = train_alone(
        subject.checkpoint, SUBNET, start, split=subject.data.train,
        options=TrainingOptions(epochs=EPOCHS * SHARES[0], seed=0), max_tokens=subject.max_tokens,
        work_dir=tmp_path / "work", progress=lambda *_: None,
    )  # fmt: skip
    ours = weights.searched(SUBNET, SHARES[0])
    assert same(ours, expected)
    assert not same(ours, start)


@pytest.mark.parametrize("changes", [{"seed": 1}, {"epochs": 9.0}])
def test_weights_of_another_seed_or_length_are_others(weights, subject, tmp_path, changes):
    other = make(subject, tmp_path / "store", **changes)
    assert other.about != weights.about
    assert not same(other.searched(SUBNET, SHARES[0]), weights.searched(SUBNET, SHARES[0]))


def test_what_is_kept_ships_as_it_was_trained_and_its_losses_are_logged(weights):
    kept = (SUBNET, SHARES[1])
    weights.finish([kept])
    assert same(weights.final(*kept), weights.corrected(*kept))
    weights.log(*kept, "n004")
    stages = list(dict.fromkeys(row["stage"] for row in weights.trainer.log))
    assert stages == ["n004 to 0.222 epochs", "n004 to 0.667 epochs"]
    assert all(np.isfinite(row["loss"]) for row in weights.trainer.log)


def test_training_learns_the_labels(subject, tmp_path):
    """More of it fits the examples better."""

    def loss(parameters):
        rows = subject.data.train
        inputs = subject.checkpoint.tokenizer([t[0] for t in rows.texts], padding=True, return_tensors="pt")
        run = SubnetRunner(subject.checkpoint.model, subject.checkpoint.architecture)
        with torch.inference_mode():
            logits = run(SUBNET, {name: inputs[name] for name in subject.checkpoint.input_names}, parameters)[-1]
        return float(torch.nn.functional.cross_entropy(logits, torch.from_numpy(rows.labels)))

    long = make(subject, tmp_path / "long", epochs=90.0)
    assert loss(long.searched(SUBNET, SHARES[1])) < loss(long.searched(SUBNET, SHARES[0])) < loss(long._cut(SUBNET))


def test_without_labels_nothing_can_be_trained_alone(tmp_path):
    checkpoint = tiny_checkpoint(tmp_path / "encoder")
    with pytest.raises(InputError, match=r"without a teacher needs .* labels"):
        train_alone(
            checkpoint, SUBNET, {}, split=Split(texts=(("a film",),), labels=None), options=TrainingOptions(), max_tokens=8,
            work_dir=tmp_path / "work", progress=lambda *_: None,
        )  # fmt: skip
