"""One-shot: optimal brain surgeon and reconstruction against brute force."""

from itertools import combinations

import numpy as np
import pytest
import torch

from compiler.evaluation import encode
from compiler.oneshot import Reconstructor, calibrate, rank_sub_blocks, reconstruct
from compiler.oneshot.importance import rank_groups
from compiler.oneshot.reconstruction import one_batch, residual_sums
from compiler.slicing import SubnetRunner
from compiler.spaces import Subnet
from profilers import LayerSizes
from targets.errors import InputError
from tests.tiny import HEADS, LAYERS, UNITS, WORDS, tiny_checkpoint


def problem(seed: int, width: int = 6, outputs: int = 4, rows: int = 300):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, width)) @ rng.normal(size=(width, width)) + rng.normal(size=width)
    x = np.column_stack([x, np.ones(rows)])
    return x, rng.normal(size=(outputs, width))


def actual_loss(x, weight, kept_columns) -> float:
    """Least squares on the kept columns and the constant, by numpy."""
    wanted = x[:, :-1] @ weight.T
    inputs = x[:, [*kept_columns, x.shape[1] - 1]]
    solution = np.linalg.lstsq(inputs, wanted, rcond=None)[0]
    return float(((wanted - inputs @ solution) ** 2).sum() / len(x))


def rank(x, weight, group: int):
    return rank_groups(torch.from_numpy(weight), torch.from_numpy(x.T @ x / len(x)), group)


def columns(groups, size: int) -> list[int]:
    return [g * size + i for g in sorted(groups) for i in range(size)]


@pytest.fixture
def undamped(monkeypatch):
    monkeypatch.setattr("compiler.oneshot.importance.DAMPING", 1e-10)


@pytest.mark.parametrize("group", [1, 2])
@pytest.mark.parametrize("seed", range(5))
def test_first_removal_is_the_best_and_losses_are_the_actual_least_squares_errors(undamped, seed, group):  # noqa: ARG001
    x, weight = problem(seed)
    order, losses = rank(x, weight, group)
    groups = len(order)
    assert sorted(order) == list(range(groups))
    best = min(combinations(range(groups), groups - 1), key=lambda s: actual_loss(x, weight, columns(s, group)))
    assert set(order[:-1]) == set(best)
    for k in range(groups + 1):
        assert losses[k] == pytest.approx(actual_loss(x, weight, columns(order[:k], group)), rel=1e-4, abs=1e-6)
    assert (np.diff(losses) <= 1e-9).all()


def test_singular_gram_works_and_a_copy_costs_nothing():
    x, weight = problem(0)
    x[:, 3] = x[:, 1]
    x[:, 5] = 0
    order, losses = rank(x, weight, 1)
    assert np.isfinite(losses).all()
    assert set(order[-2:]) in ({5, 3}, {5, 1})
    assert losses[4] < 0.01 * losses[0]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    checkpoint = tiny_checkpoint(tmp_path_factory.mktemp("bert"), "bert")
    rng = np.random.default_rng(0)
    texts = [(" ".join(rng.choice(WORDS, int(rng.integers(3, 20)))),) for _ in range(150)]
    batches = encode(checkpoint, texts, max_tokens=32)
    return checkpoint, batches, calibrate(checkpoint, batches)


def test_reconstruction_lowers_the_output_error(tiny):
    checkpoint, batches, calibration = tiny
    ordering, ranked = rank_sub_blocks(checkpoint, calibration)
    assert len(ranked) == 2 * LAYERS
    assert sorted(ordering.heads[0]) == list(range(HEADS))
    assert sorted(ordering.units[0]) == list(range(UNITS))
    subnet = Subnet.first((LayerSizes(3, 32),) * LAYERS, ordering)
    runner, batch = SubnetRunner(checkpoint.model, checkpoint.architecture), one_batch(batches, checkpoint)
    with torch.no_grad():
        dense = checkpoint.model(**batch)[-1]
        plain = runner.parameters(subnet)
        solved = Reconstructor(checkpoint, calibration).parameters(subnet)
        in_pass = reconstruct(checkpoint, subnet, plain, batch, residual_sums(checkpoint, batch))
        errors = [float((runner(subnet, batch, p)[-1] - dense).square().mean()) for p in (plain, solved, in_pass)]
    assert {n: p.shape for n, p in in_pass.items()} == {n: p.shape for n, p in plain.items()}
    assert errors[1] < 0.9 * errors[0]
    assert errors[2] < 0.9 * errors[0]


def test_too_little_text_is_refused(tiny):
    with pytest.raises(InputError, match="tokens of calibration text"):
        calibrate(tiny[0], encode(tiny[0], [("good film",)], max_tokens=8))
