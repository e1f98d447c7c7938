"""Everything that learns runs where the model is: on a pretended GPU, which refuses to mix devices and counts copies."""

import copy
from functools import partial

import numpy as np
import pytest
import torch

from compiler.data import Split
from compiler.execution import CPU, ComputeDevice, on_host, placed
from compiler.oneshot import Reconstructor
from compiler.oneshot.gates import GatedNetwork, gates_of
from compiler.pipeline.learner import learning_bytes
from compiler.slicing import build_skeleton, slice_parameters
from compiler.spaces import make_space
from compiler.supernet.examples import Examples, PlannedBatch, plan_batches
from compiler.supernet.strategies import Turn
from compiler.supernet.trainer import Students, SubnetTrainer
from compiler.supernet.training import TrainingOptions, _assign, _Run, _set_dropout
from compiler.tasks.probes import drawn_from
from targets.errors import InputError, TargetError
from tests.learning import grams_of, in_float32, judged, moved, near, ranked, resolved, subnet_of, without_chance
from tests.pretend_gpu import GPU, pretended_gpu
from tests.tiny import some_batches, tiny_checkpoint

RANKING = {
    ("in", "device.placed"): "batches, once",
    ("in", "probes.gaussian"): "random numbers, drawn on the CPU",
    ("in", "probes.drawn_from"): "random numbers, drawn on the CPU",
    ("in", "importance.rank_groups"): "how many inputs there are",
    ("out", "importance.rank_groups"): "losses and order of what goes, step by step",
    ("out", "importance._scores"): "which heads are left",
    ("out", "device.on_host"): "Gram matrices, for the store",
}
RESOLVING = {
    ("in", "slicer._take"): "which rows are kept",
    ("in", "reconstruction.Reconstructor._solve_uncached"): "which inputs are kept",
}
JUDGING = {
    ("in", "device.placed"): "inputs and weights",
    ("in", "slicer._take"): "which rows are kept",
    ("out", "device.on_host"): "weights, where the store has them",
    ("out", "task.Task.answers"): "answers",
}
GATES = {
    **RESOLVING,
    ("in", "device.placed"): "inputs",
    ("in", "gates.GatedNetwork._projection"): "which inputs are kept",
    ("in", "gates.GatedNetwork.gradient"): "openings",
    ("out", "gates.GatedNetwork.__call__"): "openings",
    ("out", "gates.GatedNetwork.gradient"): "the gradient of the openings",
}
POLISH = {
    ("in", "trainer.SubnetTrainer.training_step"): "a batch",
    ("in", "slicer._take"): "which rows are kept",
    ("out", "device.on_host"): "gradients, for this test",
}
"""The copies between the CPU and the GPU that a stage may make, by direction and by who asks, and of what."""


def may_copy(gpu, known):
    assert {key for key in gpu.copies if key[0] != "read"} <= set(known), gpu.copies


@pytest.fixture(params=["embedding", "classification"], scope="module")
def checkpoint(request, tmp_path_factory):
    return tiny_checkpoint(tmp_path_factory.mktemp(request.param), task=request.param)


@pytest.fixture
def fp32(monkeypatch):
    in_float32(monkeypatch)


def test_ranking(checkpoint, monkeypatch):
    without_chance(monkeypatch)
    _, calibration, _, blocks = ranked(checkpoint)
    with pretended_gpu() as gpu:
        there = checkpoint.on(GPU)
        gpu.copies.clear()
        _, found, _, there_blocks = ranked(there)
        grams = on_host(grams_of(found))
    near(grams, grams_of(calibration))
    for key, block in blocks.items():
        assert there_blocks[key].local == pytest.approx(block.local, rel=1e-3, abs=1e-9)
    may_copy(gpu, RANKING)


def test_resolving(checkpoint, fp32):  # noqa: ARG001
    batches, calibration, ordering, _ = ranked(checkpoint)
    subnet = subnet_of(ordering)
    expected = resolved(checkpoint, subnet, batches, calibration)
    with pretended_gpu() as gpu:
        there, batches, calibration = checkpoint.on(GPU), batches.on(GPU), moved(calibration, GPU)
        gpu.copies.clear()
        found = resolved(there, subnet, batches, calibration)
        may_copy(gpu, RESOLVING)
        for own, other in zip(found, expected, strict=True):
            near(own, other, 1e-2)


def test_judging(checkpoint):
    subnet = subnet_of(ranked(checkpoint)[2])
    expected = judged(checkpoint, subnet)
    with pretended_gpu() as gpu:
        there = checkpoint.on(GPU)
        gpu.copies.clear()
        found = judged(there, subnet)
        may_copy(gpu, JUDGING)
    assert found.metric == pytest.approx(expected.metric, rel=1e-4)


def test_gates(checkpoint, fp32):  # noqa: ARG001
    _, calibration, ordering, _ = ranked(checkpoint)
    space = make_space("medium", checkpoint.architecture, ordering=ordering, unit_step=8)
    inputs = dict(next(iter(some_batches(checkpoint))))

    def gradient(checkpoint, calibration):
        gates = gates_of(space)
        network = GatedNetwork(checkpoint, space, gates, Reconstructor(checkpoint, calibration).parameters)
        own = placed(inputs, checkpoint.device)
        return network.gradient(np.full(len(gates), 0.7), (own, lambda outputs: outputs[-1].square().sum()))

    expected = gradient(checkpoint, calibration)
    with pretended_gpu() as gpu:
        there, calibration = checkpoint.on(GPU), moved(calibration, GPU)
        gpu.copies.clear()
        assert gradient(there, calibration) == pytest.approx(expected, rel=1e-2, abs=1e-4)
        may_copy(gpu, GATES)


def test_a_step_of_a_polish(checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr("torch.cuda.set_device", lambda _: None)
    ordering = ranked(checkpoint)[2]
    subnet = subnet_of(ordering)
    split = Split(texts=tuple((f"the film was {word}",) for word in ("good", "bad", "warm", "cold")), labels=None)

    def stepped(checkpoint, folder):
        parameters = slice_parameters(
            dict(checkpoint.model.backbone.named_parameters()), checkpoint.architecture, subnet
        )
        network = build_skeleton(checkpoint.model, checkpoint.architecture, subnet.shape)
        _assign(network, parameters)
        run = _Run(checkpoint, split, TrainingOptions(bf16=False, dropout=0.0), 32, folder, lambda *_: None)
        _set_dropout(network, 0.0)
        examples = Examples(checkpoint, split, max_tokens=32)
        trainer = SubnetTrainer(
            model=Students([subnet], [network], checkpoint.architecture), arguments=run._arguments(1), examples=examples,
            batches=plan_batches(examples.lengths, batch_size=4, epochs=1, seed=0),
            planner=lambda _: (Turn(subnet=subnet, role="learn"),), loss=partial(checkpoint.task.loss, temperature=2.0),
            teacher=copy.deepcopy(checkpoint.model), progress=lambda *_: None,
        )  # fmt: skip
        trainer.current_gradient_accumulation_steps = 1
        with torch.enable_grad():
            loss = trainer.training_step(trainer.model, trainer._own_part(PlannedBatch(np.arange(4), 0)))
        return float(loss), on_host({n: p.grad for n, p in network.backbone.named_parameters() if p.grad is not None})

    loss, gradients = stepped(checkpoint, tmp_path / "cpu")
    with pretended_gpu() as gpu:
        there = checkpoint.on(GPU)
        gpu.copies.clear()
        found, found_gradients = stepped(there, tmp_path / "gpu")
        may_copy(gpu, POLISH)
    assert found == pytest.approx(loss, rel=1e-4)
    near(found_gradients, gradients, 1e-3)


def test_a_product_of_two_devices_is_refused():
    with pretended_gpu() as gpu:
        there = torch.ones(2, 2).to(GPU)
        with pytest.raises(RuntimeError, match="same device"):
            torch.mm(there, torch.ones(2, 2))
        assert gpu.copies == {("in", "test"): 1}


@pytest.mark.parametrize("asked", ["gpu", "cuda:", "cuda:x", "CPU", "", "cuda:1000"])
def test_a_device_that_is_none_is_refused(asked):
    with pytest.raises(InputError, match=r"--device .* is not known; known: auto, cpu"):
        ComputeDevice.find(asked)


@pytest.fixture
def gpus(monkeypatch):
    """GPUs by their free and whole bytes."""

    def are(*memory):
        monkeypatch.setattr("torch.cuda.is_available", lambda: bool(memory))
        monkeypatch.setattr("torch.cuda.device_count", lambda: len(memory))
        monkeypatch.setattr("torch.cuda.get_device_name", lambda index: f"board {index}")
        monkeypatch.setattr("torch.cuda.mem_get_info", lambda index: memory[index])

    return are


def test_without_a_gpu_auto_is_the_cpu_and_cuda_is_refused(gpus):
    gpus()
    assert ComputeDevice.find("auto").within(1 << 40)[0].is_cpu
    with pytest.raises(TargetError, match="--device cuda is not here\nPyTorch sees the CPU alone") as raised:
        ComputeDevice.find("cuda")
    assert raised.value.exit_code == 3


def test_a_gpu_that_is_not_there_is_told_with_those_that_are(gpus):
    gpus((1, 2))
    with pytest.raises(TargetError, match=r"--device cuda:3 is not here\nPyTorch sees cuda:0 \(board 0\) and the CPU"):
        ComputeDevice.find("cuda:3")


def test_auto_takes_the_gpu_with_most_room_and_falls_back_where_that_is_too_little(gpus):
    gpus((2 << 30, 80 << 30), (5 << 30, 80 << 30))
    found = ComputeDevice.find("auto")
    assert str(found.device) == "cuda:1"
    assert found.within(4 << 30) == (found, "ranking, re-solving and judging ran on cuda:1 (board 1)")
    other, note = found.within(6 << 30)
    assert other is CPU
    assert "board 1) has 5.0 GiB free of 80.0 GiB, and this model takes about 6.0 GiB" in note


def test_a_named_gpu_whose_memory_others_hold_is_refused_with_the_numbers(gpus):
    gpus((1 << 30, 80 << 30))
    with pytest.raises(TargetError, match=r"has 1.0 GiB free of 80.0 GiB, and this model takes about 6.0 GiB"):
        ComputeDevice.find("cuda").within(6 << 30)


def test_results_of_a_gpu_have_keys_of_their_own():
    assert CPU.arithmetic == {}
    assert ComputeDevice(device=torch.device("cuda", 1)).arithmetic == {"device": "cuda"}


def test_training_takes_more_memory_than_looking(checkpoint):
    looking, training = (learning_bytes(checkpoint, max_tokens=32, trains=trains) for trains in (False, True))
    assert 2 << 30 < looking < training


def test_classes_drawn_elsewhere_follow_their_chances():
    with pretended_gpu():
        chances = torch.tensor([[0.2, 0.5, 0.3]]).expand(4000, 3)
        drawn = drawn_from(chances.to(GPU), torch.Generator().manual_seed(0)).cpu()
    assert (torch.bincount(drawn) / 4000).tolist() == pytest.approx([0.2, 0.5, 0.3], abs=0.03)
