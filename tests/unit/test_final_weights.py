"""Weights that networks ship with: made, stored and read back, never held together."""

import gc
import weakref

import pytest
import torch

from compiler.pipeline import Options
from compiler.pipeline.monitor import SilentMonitor
from compiler.pipeline.ranking import rank
from compiler.pipeline.subject import load_subject
from compiler.pipeline.training import Trainer
from compiler.pipeline.weights import Resolved
from compiler.slicing import slice_parameters
from compiler.spaces import Subnet
from compiler.store import DiskStore
from tests.cli import classes, write_rows
from tests.tiny import save_tiny

KEPT = [(Subnet.of([[0, head], [], [1]], [[1, 5, 40], [unit], []]), 1.0) for head in (1, 2, 3) for unit in (0, 7)]


@pytest.fixture(scope="module", params=["fast", "balanced"])
def subject(tmp_path_factory, request):
    root = tmp_path_factory.mktemp("final")
    rows = write_rows(root / "classes.csv", classes())
    model = save_tiny(root / "encoder")
    options = Options(model=str(model), data=str(rows), task="embedding", effort=request.param, seq_len=32)
    return load_subject(options)


def make(subject, root, epochs=1.0):
    options = Options(model="", epochs=epochs)
    trainer = Trainer(subject=subject, store=DiskStore(root), options=options, monitor=SilentMonitor())
    return Resolved(trainer, rank(trainer))


def same(ours, theirs):
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_finished_weights_are_not_kept_in_memory(subject, tmp_path, monkeypatch):
    weights = make(subject, tmp_path / "store")
    monkeypatch.setattr("compiler.pipeline.weights.BYTES_AT_ONCE", 1)
    alive, most = weakref.WeakSet(), []
    corrected = weights.corrected

    def watched(subnet, share=1.0):
        parameters = corrected(subnet, share)
        alive.add(next(iter(parameters.values())))
        gc.collect()
        most.append(len(alive))
        return parameters

    monkeypatch.setattr(weights, "corrected", watched)
    weights.finish(KEPT)
    at_work = max(2, torch.get_num_threads())
    assert len(most) >= len(KEPT)
    assert max(most) <= at_work + 1
    gc.collect()
    assert len(alive) <= 1


def test_they_are_read_back_as_they_were_made_here_or_by_a_run_before(subject, tmp_path):
    weights = make(subject, tmp_path / "store")
    weights.finish(KEPT[:3])
    first = [weights.final(*kept) for kept in KEPT[:3]]
    again = make(subject, tmp_path / "store")
    again.finish(KEPT[2::-1])
    assert all(same(ours, again.final(*kept)) for ours, kept in zip(first, KEPT[:3], strict=True))
    assert again.trainer.log == weights.trainer.log
    assert bool(again.trainer.log) == weights.polishes


def test_a_polished_network_is_not_the_corrected_one_and_a_fast_run_ships_that(subject, tmp_path):
    weights = make(subject, tmp_path / "store")
    (subnet, share) = KEPT[0]
    weights.finish([KEPT[0]])
    assert same(weights.final(subnet, share), weights.corrected(subnet, share)) is (subject.effort == "fast")
    sliced = slice_parameters(weights.dense, subject.checkpoint.architecture, subnet)
    assert not same(weights.final(subnet, share), sliced)


@pytest.mark.parametrize(("asked", "most", "epochs"), [(None, 10_000_000, 1.25), (None, 10, None), (4.0, 10, 1.0)])
def test_a_polish_of_much_data_sees_a_part_of_it(subject, tmp_path, monkeypatch, asked, most, epochs):
    monkeypatch.setattr("compiler.pipeline.weights.POLISHED_EXAMPLES", most)
    weights = make(subject, tmp_path, asked)
    sentences = len(subject.data.train) * len(subject.data.train.texts[0])
    assert weights._polish_options().epochs == (epochs or most / sentences)
