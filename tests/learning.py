"""What learns, on the device of a checkpoint's model: ranking, re-solving and judging, for tests that hold one device against another."""

from contextlib import nullcontext
from dataclasses import replace

import torch

from compiler.data import Split
from compiler.evaluation import answers, make_yardstick
from compiler.evaluation.quality import guided
from compiler.execution import on_host, placed
from compiler.oneshot import Reconstructor, calibrate, rank_sub_blocks, reconstruct, sensitivities
from compiler.oneshot.reconstruction import one_batch, residual_sums
from compiler.slicing import SubnetRunner, slice_parameters
from compiler.spaces import Subnet
from profilers import LayerSizes
from tests.tiny import some_batches

SHAPE = (LayerSizes(2, 24), LayerSizes(0, 48), LayerSizes(3, 0))


def in_float32(monkeypatch) -> None:
    """Passes that re-solve or open gates do so without bfloat16, which rounds otherwise on every device."""
    for module in ("reconstruction", "gates"):
        monkeypatch.setattr(f"compiler.oneshot.{module}.bf16_where_it_is", nullcontext)


def without_chance(monkeypatch) -> None:
    """A classifier's covectors are of its likeliest class: one drawn by chances may be another by the last bit of a sum."""
    monkeypatch.setattr("compiler.tasks.probes.drawn_from", lambda chances, _: chances.argmax(dim=1))


def ranked(checkpoint):
    """Batches, the calibration, the order of what is least important, and each sub-block's losses."""
    batches = guided(checkpoint, some_batches(checkpoint)).on(checkpoint.device)
    calibration = calibrate(checkpoint, batches)
    ordering, blocks = rank_sub_blocks(checkpoint, calibration, sensitivities(checkpoint, batches))
    return batches, calibration, ordering, blocks


def subnet_of(ordering) -> Subnet:
    return Subnet.first(SHAPE, ordering)


def grams_of(calibration):
    return {str(key): gram.matrix for key, gram in calibration.grams.items()}


def moved(calibration, device):
    """A calibration with its Gram matrices on a device."""
    grams = {key: replace(gram, matrix=gram.matrix.to(device)) for key, gram in calibration.grams.items()}
    return replace(calibration, grams=grams)


def resolved(checkpoint, subnet, batches, calibration):
    """Parameters of a sub-network by Gram matrices alone, and solved again with what its layers really get."""
    start = Reconstructor(checkpoint, calibration).parameters(subnet)
    batch = one_batch(batches, checkpoint)
    return start, reconstruct(checkpoint, subnet, start, batch, residual_sums(checkpoint, batch))


def judged(checkpoint, subnet):
    """The quality of a sliced network, held against the dense one's answers."""
    task = checkpoint.task
    split = Split(texts=tuple((f"the film was {word}",) for word in ("good", "bad", "warm", "cold")), labels=None)
    dense = dict(checkpoint.model.backbone.named_parameters())
    parameters = on_host(slice_parameters(dense, checkpoint.architecture, subnet))
    runner = SubnetRunner(checkpoint.model, checkpoint.architecture)

    def run(inputs):
        return task.judged(runner(subnet, placed(inputs, checkpoint.device), placed(parameters, checkpoint.device)))

    def dense_answers(batches):
        return answers(task, batches, lambda inputs: task.judged(checkpoint.model(**placed(inputs, checkpoint.device))))

    yardstick = make_yardstick(checkpoint, split, task.metric(labelled=False), max_tokens=32, dense=dense_answers)
    return yardstick.quality(run)


def near(found, expected, tolerance=1e-4) -> None:
    """Tensors by name, of any device, are those on the CPU."""
    found = on_host(found)
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.allclose(found[name], tensor.detach(), atol=tolerance, rtol=tolerance), name
