"""Dropout by bytes against what dropout is: a rate, an expectation, a gradient, and PyTorch's own everywhere else."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from compiler.supernet import TrainingOptions, dropout, fine_tune
from compiler.supernet.dropout import ByteDropout
from tests.tiny import tiny_checkpoint
from tests.training import split


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def dropped(values, rate):
    with ByteDropout():
        return functional.dropout(values, rate)


@pytest.mark.parametrize("rate", [0.1, 0.25, 0.5, 0.9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_place_is_dropped_at_the_rate_and_the_expectation_is_kept(rate, dtype):
    count, nearest = 1_000_000, round(rate * 256) / 256
    values = dropped(torch.ones(count, dtype=dtype), rate).float()
    kept = values > 0
    assert values[kept].unique().tolist() == [pytest.approx(1 / (1 - nearest), rel=4e-3)]
    by_byte = (~kept).view(-1, 8).double().mean(0)  # of the eight bytes of a draw
    assert torch.allclose(by_byte, torch.full((8,), nearest).double(), atol=5 * (nearest / (count / 8)) ** 0.5)
    assert (~kept).double().mean() == pytest.approx(nearest, abs=5 * (nearest / count) ** 0.5)


@pytest.mark.parametrize("distance", [1, 2, 8, 384])
def test_places_are_dropped_independently(distance):
    kept = (dropped(torch.ones(1_000_000), 0.5) > 0).double() - 0.5
    assert abs(float((kept[distance:] * kept[:-distance]).mean()) / 0.25) < 0.005


def test_the_gradient_is_that_of_what_was_kept():
    values = torch.randn(7, 5, 3, requires_grad=True)  # no whole number of draws
    out = dropped(values, 0.25)
    out.sum().backward()
    assert torch.equal(values.grad != 0, out != 0)
    assert torch.allclose(values.grad * values.detach(), out.detach())
    assert 0 < int((out == 0).sum()) < out.numel()


def test_the_global_generator_decides():
    first = dropped(torch.ones(100), 0.5)
    assert not torch.equal(dropped(torch.ones(100), 0.5), first)
    torch.manual_seed(0)
    assert torch.equal(dropped(torch.ones(100), 0.5), first)


@pytest.mark.parametrize("rate", [0.0, 0.001, 0.999, 1.0])
def test_rates_that_bytes_cannot_tell_from_none_or_all_are_pytorchs(rate):
    ours = dropped(torch.ones(10_000), rate)
    torch.manual_seed(0)
    assert torch.equal(ours, functional.dropout(torch.ones(10_000), rate))


def test_outside_training_and_outside_the_block_nothing_changes():
    module, values = nn.Dropout(0.5), torch.randn(100)
    with ByteDropout():
        ours = module(values)
        assert torch.equal(module.eval()(values), values)
    torch.manual_seed(0)
    theirs = module.train()(values)
    assert not torch.equal(theirs, ours)
    torch.manual_seed(0)
    assert torch.equal(functional.dropout(values, 0.5), theirs)


def test_training_draws_them_for_states_and_for_attention(tmp_path, monkeypatch):
    drawn, draw = [], dropout._random_bytes
    monkeypatch.setattr(dropout, "_random_bytes", lambda shape: drawn.append(len(shape)) or draw(shape))
    monkeypatch.setattr("compiler.supernet.training.has_bf16", lambda *_: True)  # attention is written out
    checkpoint = tiny_checkpoint(tmp_path / "model", task="classification")
    fine_tune(
        checkpoint, split([("some words",)] * 4, [0, 1, 0, 1]), options=TrainingOptions(epochs=1, batch_size=4),
        max_tokens=16, work_dir=tmp_path / "work", progress=lambda *_: None,
    )  # fmt: skip
    layers = checkpoint.architecture.layers
    assert drawn.count(4) == layers, "attention's weights"
    assert drawn.count(3) == 1 + 2 * layers, "the embedding, and two states a layer"
    assert drawn.count(2) == 1, "the head"
