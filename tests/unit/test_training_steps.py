"""One step of super-network training against separately computed gradients."""

import copy
from functools import partial

import numpy as np
import pytest
import torch
from torch.nn import functional

from compiler.slicing import SubnetRunner
from compiler.spaces import Subnet, make_space
from compiler.supernet import TrainingOptions, trainer, training
from compiler.supernet.examples import Examples, PlannedBatch
from compiler.tasks.losses import classification_loss
from tests.tiny import HEADS, LAYERS, UNITS
from tests.training import LABELS, MAX_TOKENS, TEXTS, plan, run_supernet, split


def make_trainer(checkpoint, folder, strategy, *, accumulation=1, temperature=10.0, bf16=False, random_subnets=2):
    space = make_space("medium", checkpoint.architecture)
    examples = Examples(checkpoint, split(TEXTS, LABELS), max_tokens=MAX_TOKENS)
    options = TrainingOptions(bf16=bf16, accumulation=accumulation)
    run = training._Run(checkpoint, split(TEXTS, LABELS), options, MAX_TOKENS, folder, lambda *_: None)
    made = trainer.SubnetTrainer(
        model=trainer.SuperNetwork(copy.deepcopy(checkpoint.model), checkpoint.architecture),
        arguments=run._arguments(10), examples=examples, batches=[PlannedBatch(np.arange(6), 0)],
        planner=lambda step: plan(strategy, space, step=step, random_subnets=random_subnets),
        loss=partial(checkpoint.task.loss, temperature=temperature), teacher=None, progress=lambda *_: None,
    )  # fmt: skip
    made.current_gradient_accumulation_steps = accumulation
    return made


@pytest.fixture
def bf16_by_any_means(monkeypatch):
    """bfloat16 imitated where the processor has none: slow, and the same code."""
    if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        pytest.skip("oneDNN does not even imitate bfloat16 on this processor")
    monkeypatch.setattr("compiler.supernet.training.has_bf16", lambda *_: True)


FIRST_SIX = (np.arange(6),)


def gradients(network):
    return {n: torch.zeros_like(p) if p.grad is None else p.grad.clone() for n, p in network.named_parameters()}


def step_gradients(checkpoint, folder, strategy, *, batches=FIRST_SIX, **options):
    made = make_trainer(checkpoint, folder, strategy, accumulation=len(batches), **options)
    for rows in batches:
        made.training_step(made.model, made._own_part(PlannedBatch(rows, 0)))
    return gradients(made.model.network)


@pytest.mark.parametrize("strategy", ["sandwich", "full"])
def test_a_sandwich_steps_gradient_is_the_sum_of_separate_gradients(steady_classifier, tmp_path, strategy):
    ours = step_gradients(steady_classifier, tmp_path, strategy)
    space = make_space("medium", steady_classifier.architecture)
    batch = Examples(steady_classifier, split(TEXTS, LABELS), max_tokens=MAX_TOKENS).batch(np.arange(6))
    labels = batch.pop("labels")
    expected = {name: torch.zeros_like(gradient) for name, gradient in ours.items()}
    everything = Subnet.of([range(HEADS)] * LAYERS, [range(UNITS)] * LAYERS)
    with torch.no_grad():
        (teacher,) = steady_classifier.model(**batch)
    for i, subnet in enumerate([everything, *(turn.subnet for turn in plan("sandwich", space, step=0)[1:])]):
        network = copy.deepcopy(steady_classifier.model)
        (logits,) = SubnetRunner(network, steady_classifier.architecture)(subnet, batch)
        classification_loss(logits, labels, teacher if strategy == "full" and i else None, 10.0).backward()
        for name, gradient in gradients(network).items():
            expected[name] += gradient
    for name, gradient in ours.items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-4, atol=1e-5, msg=name)


def test_accumulated_gradients_are_those_of_one_larger_batch(steady_classifier, tmp_path):
    whole = step_gradients(steady_classifier, tmp_path / "a", "sandwich", batches=[np.arange(6)])
    halves = step_gradients(steady_classifier, tmp_path / "b", "sandwich", batches=[np.arange(3), np.arange(3, 6)])
    for name, gradient in whole.items():
        torch.testing.assert_close(halves[name], gradient, rtol=1e-4, atol=1e-5, msg=name)


def test_temperature_and_number_of_random_subnets_change_the_gradient(steady_classifier, tmp_path):
    base = step_gradients(steady_classifier, tmp_path, "full")
    for options in ({"temperature": 2.0}, {"random_subnets": 1}):
        other = step_gradients(steady_classifier, tmp_path, "full", **options)
        assert any(not torch.allclose(other[name], base[name], rtol=1e-3) for name in base), options
    sandwich = step_gradients(steady_classifier, tmp_path, "sandwich")
    hotter = step_gradients(steady_classifier, tmp_path, "sandwich", temperature=2.0)
    assert all(torch.equal(sandwich[name], hotter[name]) for name in sandwich)


@pytest.mark.usefixtures("bf16_by_any_means")
def test_bf16_really_computes_in_bf16_on_this_cpu(steady_classifier, tmp_path):
    seen = {}
    for bf16 in (False, True):
        made = make_trainer(steady_classifier, tmp_path, "full", bf16=bf16)
        for name in ("pooler.dense", "encoder.layer.0.intermediate.dense"):
            linear = made.model.network.backbone.base_model.get_submodule(name)
            linear.register_forward_hook(lambda _, __, out, bf16=bf16: seen.setdefault(bf16, set()).add(out.dtype))
        model = made.accelerator.prepare_model(made.model)
        made.training_step(model, made._own_part(PlannedBatch(np.arange(6), 0)))
        assert {p.grad.dtype for p in made.model.parameters() if p.grad is not None} == {torch.float32}
        assert model(_inputs(made))[0].dtype == torch.float32
    assert seen == {False: {torch.float32}, True: {torch.bfloat16}}


@pytest.mark.usefixtures("bf16_by_any_means")
@pytest.mark.parametrize(("bf16", "longest", "fused"), [(True, 128, False), (True, 8, True), (False, 128, True)])
def test_attention_of_short_texts_is_written_out_in_bf16(classifier, tmp_path, monkeypatch, bf16, longest, fused):
    calls, kernel = [], functional.scaled_dot_product_attention
    monkeypatch.setattr(functional, "scaled_dot_product_attention", lambda *a, **k: calls.append(1) or kernel(*a, **k))
    monkeypatch.setattr(training, "WRITTEN_OUT_TOKENS", longest)
    run_supernet(classifier, tmp_path, bf16=bf16)
    assert bool(calls) == fused
    assert classifier.model.backbone.config._attn_implementation == "sdpa"


@pytest.mark.usefixtures("bf16_by_any_means")
def test_attention_written_out_has_the_gradient_of_the_fused_kernel(steady_classifier, tmp_path):
    flat = {}
    for bf16, written_out in ((False, False), (True, False), (True, True)):
        made = make_trainer(steady_classifier, tmp_path, "full", bf16=bf16)
        if written_out:
            training._write_attention_out(made.model)
        made.training_step(made.accelerator.prepare_model(made.model), made._own_part(PlannedBatch(np.arange(6), 0)))
        flat[bf16, written_out] = torch.cat([g.flatten() for g in gradients(made.model.network).values()])
    exact = flat[False, False]
    fused, ours = (float((flat[True, way] - exact).norm() / exact.norm()) for way in (False, True))
    assert ours < max(1.5 * fused, 0.01)


def _inputs(made):
    return {name: tensor for name, tensor in made.examples.batch(np.arange(2)).items() if name != "labels"}
