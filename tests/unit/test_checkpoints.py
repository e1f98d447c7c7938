"""Checkpoints of a training: no pickles, and one that is damaged counts as absent."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from compiler.supernet import trainer
from compiler.supernet.checkpoints import LIST, MODEL, last_checkpoint, seal, training_log
from tests.training import run_supernet


class Killed(Exception):  # noqa: N818  it stands for a signal
    pass


@pytest.fixture(scope="module")
def trained(classifier, tmp_path_factory):
    """The folder of a training that was killed after step 5, with a checkpoint of step 4, and how it ends undisturbed."""
    root = tmp_path_factory.mktemp("checkpoints")
    steps = {"whole": 0, "killed": 5}
    ends = {}
    with pytest.MonkeyPatch.context() as patch:
        for name, last in steps.items():

            def progress(_, text, last=last):
                step = int(text.split()[1])
                patch.setattr(trainer, "CHECKPOINT_SECONDS", 0 if step % 4 == 3 else 1e9)
                if step == last:
                    raise Killed

            try:
                ends[name] = run_supernet(classifier, root / name, strategy="random", progress=progress)
            except Killed:
                assert [path.name for path in (root / name).iterdir()] == ["checkpoint-4"]
    return root / "killed", ends["whole"]


def goes_on(classifier, folder):
    seen = []
    ends = run_supernet(classifier, folder, strategy="random", progress=lambda _, text: seen.append(text))
    return int(seen[0].split()[1]), ends


def test_no_file_of_a_checkpoint_is_a_pickle(trained):
    names = {path.name for path in (trained[0] / "checkpoint-4").iterdir()}
    assert {path.rpartition(".")[2] for path in names} == {"json", "safetensors"}
    assert json.loads((trained[0] / "checkpoint-4" / LIST).read_text())["files"].keys() == names - {LIST}


def test_a_training_goes_on_from_its_checkpoint_to_the_same_bits(classifier, trained, tmp_path):
    step, ends = goes_on(classifier, shutil.copytree(trained[0], tmp_path / "run"))
    assert step == 5
    assert all(torch.equal(ends[name], tensor) for name, tensor in trained[1].items())
    assert [row["step"] for row in training_log(tmp_path / "run")] == list(range(1, 9))


def cut(path):
    path.write_bytes(path.read_bytes()[:-7])


def other_shapes(path):
    tensors = load_file(path)
    name = next(name for name, tensor in tensors.items() if tensor.ndim == 2)
    save_file({**tensors, name: torch.zeros(2, 2)}, path)
    seal(path.parent)


DAMAGE = {
    "no list": lambda folder: (folder / LIST).unlink(),
    "half a list": lambda folder: cut(folder / LIST),
    "a list of nothing": lambda folder: (folder / LIST).write_text('{"schema": 1, "files": {}}'),
    "a list of another form": lambda folder: (folder / LIST).write_text('{"schema": 1, "files": [1]}'),
    "a deep list": lambda folder: (folder / LIST).write_text("[" * 100_000),
    "half the weights": lambda folder: cut(folder / MODEL),
    "no weights": lambda folder: (folder / MODEL).unlink(),
    "no optimiser": lambda folder: (folder / "optimiser.safetensors").unlink(),
    "half an optimiser": lambda folder: cut(folder / "optimiser.safetensors"),
    "half a schedule": lambda folder: cut(folder / "schedule.json"),
    "other state": lambda folder: (folder / "trainer_state.json").write_text("[]"),
    "other shapes": lambda folder: other_shapes(folder / MODEL),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_checkpoint_counts_as_absent(trained, tmp_path, damage):
    run = shutil.copytree(trained[0], tmp_path / "run")
    shapes = {name: tuple(t.shape) for name, t in load_file(run / "checkpoint-4" / MODEL).items()}
    assert last_checkpoint(run, shapes) == run / "checkpoint-4"
    DAMAGE[damage](run / "checkpoint-4")
    older = shutil.copytree(trained[0] / "checkpoint-4", run / "checkpoint-2")
    assert last_checkpoint(run, shapes) == older
    assert not (run / "checkpoint-4").exists()
    shutil.rmtree(older)
    assert last_checkpoint(run, shapes) is None
    assert training_log(run) == []


def test_a_training_whose_checkpoint_is_damaged_begins_again_and_ends_with_the_same_bits(classifier, trained, tmp_path):
    run = shutil.copytree(trained[0], tmp_path / "run")
    cut(run / "checkpoint-4" / "optimiser.safetensors")
    step, ends = goes_on(classifier, run)
    assert step == 1
    assert all(torch.equal(ends[name], tensor) for name, tensor in trained[1].items())
