"""One-shot: optimal brain surgeon and reconstruction against brute force."""

import contextlib
from functools import partial
from itertools import combinations

import numpy as np
import pytest
import torch

from compiler.oneshot import Reconstructor, calibrate, rank_sub_blocks, reconstruct, sensitivities
from compiler.oneshot.calibration import GramSum, upper_products
from compiler.oneshot.importance import rank_groups
from compiler.oneshot.reconstruction import RIDGE, one_batch, residual_sums, resolve
from compiler.slicing import SubnetRunner
from compiler.spaces import Subnet
from compiler.tasks import encode
from profilers import LayerSizes
from targets.errors import InputError
from tests.tiny import HEADS, LAYERS, UNITS, WORDS, tiny_checkpoint


def problem(seed: int, width: int = 6, outputs: int = 4, rows: int = 300):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, width)) @ rng.normal(size=(width, width)) + rng.normal(size=width)
    x = np.column_stack([x, np.ones(rows)])
    return x, rng.normal(size=(outputs, width))


def actual_loss(x, weight, kept_columns, metric=None) -> float:
    """Least squares on the kept columns and the constant, by numpy."""
    wanted = x[:, :-1] @ weight.T
    inputs = x[:, [*kept_columns, x.shape[1] - 1]]
    solution = np.linalg.lstsq(inputs, wanted, rcond=None)[0]
    errors = wanted - inputs @ solution
    return float(np.einsum("ni,ij,nj", errors, np.eye(len(weight)) if metric is None else metric, errors) / len(x))


def rank(x, weight, group: int, metric=None):
    given = None if metric is None else torch.from_numpy(metric)
    return rank_groups(torch.from_numpy(weight), torch.from_numpy(x.T @ x / len(x)), group, metric=given)


def random_metric(seed: int, outputs: int = 4):
    root = np.random.default_rng(seed).normal(size=(outputs, outputs)) * [10, 1, 0.1, 0.1]
    return root.T @ root + 1e-3 * np.eye(outputs)


def columns(groups, size: int) -> list[int]:
    return [g * size + i for g in sorted(groups) for i in range(size)]


@pytest.fixture
def undamped(monkeypatch):
    monkeypatch.setattr("compiler.oneshot.importance.DAMPING", 1e-10)


@pytest.mark.parametrize("group", [1, 2])
@pytest.mark.parametrize("seed", range(5))
def test_first_removal_is_the_best_and_losses_are_the_actual_least_squares_errors(undamped, seed, group):  # noqa: ARG001
    x, weight = problem(seed)
    for metric in (None, random_metric(seed)):
        order, losses, errors = rank(x, weight, group, metric)
        groups = len(order)
        assert sorted(order) == list(range(groups))
        kept = [columns(some, group) for some in combinations(range(groups), groups - 1)]
        best = min(kept, key=lambda some: actual_loss(x, weight, some, metric))
        assert columns(order[:-1], group) == best
        for k in range(groups + 1):
            some = columns(order[:k], group)
            assert losses[k] == pytest.approx(actual_loss(x, weight, some, metric), rel=1e-4, abs=1e-6)
            assert errors[k] == pytest.approx(actual_loss(x, weight, some), rel=1e-4, abs=1e-6)
        assert (np.diff(losses) <= 1e-9).all()


def test_singular_gram_works_and_a_copy_costs_nothing():
    x, weight = problem(0)
    x[:, 3] = x[:, 1]
    x[:, 5] = 0
    order, losses, _ = rank(x, weight, 1)
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
    ordering, ranked = rank_sub_blocks(checkpoint, calibration, sensitivities(checkpoint, batches))
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


@pytest.fixture
def fp32(monkeypatch):
    monkeypatch.setattr("compiler.oneshot.reconstruction.bf16_where_it_is", contextlib.nullcontext)


def resolved(checkpoint, batch):
    subnet = Subnet.of([(0, 2)] * LAYERS, [range(0, UNITS, 2)] * (LAYERS - 1) + [()])
    sums = residual_sums(checkpoint, batch)
    return sums, reconstruct(
        checkpoint, subnet, SubnetRunner(checkpoint.model, checkpoint.architecture).parameters(subnet), batch, sums
    )


def test_padding_changes_nothing(tiny, fp32):  # noqa: ARG001
    checkpoint, batches, _ = tiny
    batch = one_batch(batches, checkpoint)
    pad = {"input_ids": checkpoint.tokenizer.pad_token_id, "attention_mask": 0, "token_type_ids": 0}
    padded = {name: torch.nn.functional.pad(values, (0, 7), value=pad[name]) for name, values in batch.items()}
    (sums, weights), (sums_padded, weights_padded) = resolved(checkpoint, batch), resolved(checkpoint, padded)
    for key, wanted in sums.items():
        torch.testing.assert_close(sums_padded[key], wanted)
    for name, wanted in weights.items():
        torch.testing.assert_close(weights_padded[name], wanted, rtol=1e-3, atol=1e-3)


def test_bf16_solves_what_fp32_solves(tiny, monkeypatch):
    checkpoint, batches, _ = tiny
    batch = one_batch(batches, checkpoint)
    solved = []
    for enabled in (False, True):
        arithmetic = partial(torch.autocast, dtype=torch.bfloat16, enabled=enabled)
        monkeypatch.setattr(
            "compiler.oneshot.reconstruction.bf16_where_it_is", lambda device, a=arithmetic: a(device.type)
        )
        solved.append(resolved(checkpoint, batch)[1])
    for name, wanted in solved[0].items():
        assert solved[1][name].dtype == torch.float32
        assert float((solved[1][name] - wanted).norm()) <= 0.03 * float(wanted.norm()), name


def test_a_sum_of_products_is_that_of_numpy_and_of_each_batch_alone(monkeypatch):
    monkeypatch.setattr("compiler.oneshot.calibration._COLUMNS", 4)  # 9 columns in three parts
    batches = [np.random.default_rng(i).normal(size=(50 - i, 9)).astype(np.float32) for i in range(3)]
    made, alone = GramSum(9), torch.zeros(9, 9, dtype=torch.float64)
    for features in map(torch.from_numpy, batches):
        made.add(features)
        upper = upper_products(features).triu()
        alone += (upper + upper.triu(1).T).double()
    assert torch.equal(made.matrix(), alone)
    wanted = sum(features.T.astype(np.float64) @ features for features in batches)
    np.testing.assert_allclose(made.matrix().numpy(), wanted, rtol=1e-5, atol=1e-5)


def correlated(width: int = 96, tokens: int = 2000, outputs: int = 8):
    """Features of a condition like those of an FFN, all of one sign and some far larger than others, and what to give of them."""
    rng = np.random.default_rng(0)
    mixed = rng.normal(size=(tokens, width)) @ rng.normal(size=(width, width)) * np.geomspace(3, 0.03, width)
    features = np.maximum(mixed, 0) + 0.1
    return features, features @ rng.normal(size=(width, outputs)) + rng.normal(size=outputs)


def solved_in(dtype, features, wanted):
    """The weight that `resolve` finds where features are rounded to a type first."""
    module = torch.nn.Linear(features.shape[1], wanted.shape[1])
    torch.nn.init.zeros_(module.weight)
    torch.nn.init.zeros_(module.bias)
    with torch.no_grad():
        resolve(module, torch.from_numpy(features).to(dtype).float(), torch.from_numpy(wanted).float())
    return module.weight.detach().double().numpy()


def test_solves_are_float64s_from_float32_products_and_not_from_bf16():
    """Why Gram matrices are never taken of bfloat16: rounded features move the solution by more than ten times the bound."""
    features, wanted = correlated()
    x = np.column_stack([features, np.ones(len(features))])
    gram = x.T @ x
    penalty = np.full(len(gram), RIDGE * gram.diagonal()[:-1].mean())
    penalty[-1] = 1e-6
    exact = np.linalg.solve(gram + np.diag(penalty), x.T @ wanted).T[:, :-1]
    bound = 1e-4 * np.linalg.norm(exact)
    assert np.linalg.norm(solved_in(torch.float32, features, wanted) - exact) < bound
    assert np.linalg.norm(solved_in(torch.bfloat16, features, wanted) - exact) > 10 * bound


def test_too_little_text_is_refused(tiny):
    with pytest.raises(InputError, match="tokens of calibration text"):
        calibrate(tiny[0], encode(tiny[0], [("good film",)], max_tokens=8))


def encoded(checkpoint, n: int = 60):
    rng = np.random.default_rng(1)
    texts = [(" ".join(rng.choice(WORDS, int(rng.integers(3, 20)))),) for _ in range(n)]
    return encode(checkpoint, texts, max_tokens=32)


def moved(checkpoint, batches, layer: int, piece: str, size: float, seed: int, distance) -> float:
    """What a small random error of every token of a sub-block does to the output, summed over the texts."""
    generator = torch.Generator().manual_seed(seed)
    norm = checkpoint.model.backbone.get_submodule(checkpoint.architecture.branch(layer, piece).after)
    total = 0.0
    with torch.no_grad():
        for batch in batches:
            before = checkpoint.model(**batch)[-1]
            handle = norm.register_forward_pre_hook(
                lambda _, args: (args[0] + size * torch.randn(args[0].shape, generator=generator),)
            )
            total += float(distance(before, checkpoint.model(**batch)[-1]))
            handle.remove()
    return total / batches.tokens / size**2


def squared_distance(before, after):
    unit = torch.nn.functional.normalize
    return (unit(before, dim=-1) - unit(after, dim=-1)).double().square().sum()


def twice_divergence(before, after):
    log_p, log_q = before.double().log_softmax(-1), after.double().log_softmax(-1)
    return 2 * (log_p.exp() * (log_p - log_q)).sum()


@pytest.mark.parametrize(("task", "distance"), [("embedding", squared_distance), ("classification", twice_divergence)])
def test_sensitivity_is_what_small_errors_do_to_the_output(tmp_path, task, distance):
    checkpoint = tiny_checkpoint(tmp_path, "bert", task=task)
    batches = encoded(checkpoint)
    drawn = [sensitivities(checkpoint, batches, seed=seed, tokens=10**9) for seed in range(20)]
    for layer, piece in ((0, "attention"), (0, "ffn"), (LAYERS - 1, "attention")):
        expected = np.mean([float(one[layer, piece].trace()) for one in drawn])
        actual = np.mean([moved(checkpoint, batches, layer, piece, 1e-2, seed, distance) for seed in range(20)])
        assert expected == pytest.approx(actual, rel=0.15), (layer, piece)


def test_sensitivity_needs_few_texts_of_every_length_and_leaves_no_gradients(tiny):
    checkpoint, batches, _ = tiny
    few, again, many = (
        sensitivities(checkpoint, batches, tokens=n) for n in (batches.tokens // 3, batches.tokens // 3, 10**9)
    )
    for key, matrix in few.items():
        assert torch.equal(matrix, again[key])
        assert 0.5 < float(matrix.trace() / many[key].trace()) < 2
    assert all(parameter.grad is None for parameter in checkpoint.model.parameters())
