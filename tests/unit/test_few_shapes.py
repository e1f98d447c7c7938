"""Fewer shapes of products: the networks and the gradients stay what they were."""

import copy

import numpy as np
import pytest
import torch

from compiler.slicing import build_skeleton, run_with, slice_parameters
from compiler.spaces import Subnet
from compiler.supernet import trainer
from compiler.supernet.examples import Examples
from compiler.supernet.few_shapes import round_length, with_round_units
from tests.tiny import tiny_checkpoint
from tests.training import LABELS, MAX_TOKENS, TEXTS

SUBNET = Subnet.of([[0, 2], [], [1]], [[1, 5, 40], [3], []])


class Cosine(torch.nn.Module):
    """An activation that is not 0 at 0."""

    def forward(self, values):
        return values.cos()


def test_a_round_length_is_the_next_of_few():
    lengths = [round_length(tokens) for tokens in range(1, 513)]
    assert all(0 <= length - tokens <= max(3, tokens / 4) for tokens, length in enumerate(lengths, start=1))
    assert np.mean([length / tokens for tokens, length in enumerate(lengths[31:], start=32)]) < 1.1
    assert sorted(set(lengths[:128])) == [*range(4, 33, 4), 40, 48, 56, 64, 80, 96, 112, 128]
    assert all(round_length(length) == length for length in lengths)


@pytest.mark.parametrize("longest", [10, 18, 19, 32])
def test_batches_are_padded_to_round_lengths_but_no_further_than_the_model_goes(classifier, longest):
    examples = Examples(classifier, TEXTS, LABELS, max_tokens=longest, few_lengths=True)
    exact = Examples(classifier, TEXTS, LABELS, max_tokens=longest)
    lengths = set()
    for row in range(30):
        batch, expected = examples.batch(np.array([row])), exact.batch(np.array([row]))
        tokens = expected["input_ids"].shape[1]
        assert batch["input_ids"].shape[1] == max(tokens, min(longest, round_length(tokens)))
        assert batch["attention_mask"].sum() == tokens
        assert (batch["input_ids"][:, tokens:] == classifier.tokenizer.pad_token_id).all()
        assert all(torch.equal(batch[name][:, :tokens], expected[name]) for name in ("input_ids", "attention_mask"))
        lengths.add(batch["input_ids"].shape[1])
    assert lengths <= {8, 12, 16, longest}


@pytest.mark.parametrize("family", ["bert", "roberta", "electra", "distilbert"])
@pytest.mark.parametrize("activation", [None, Cosine()])
def test_round_units_change_neither_outputs_nor_gradients(tmp_path, family, activation):
    checkpoint = tiny_checkpoint(tmp_path, family, task="classification")
    network, architecture = (
        build_skeleton(checkpoint.model, checkpoint.architecture, SUBNET.shape),
        checkpoint.architecture,
    )
    for module in list(network.modules()) if activation else ():
        for name in ("intermediate_act_fn", "activation"):
            if callable(getattr(module, name, None)):
                setattr(module, name, activation)
    start = slice_parameters(dict(checkpoint.model.backbone.named_parameters()), architecture, SUBNET)
    inputs = Examples(checkpoint, TEXTS[:6], LABELS[:6], max_tokens=MAX_TOKENS).batch(np.arange(6))
    labels = inputs.pop("labels")
    found = {}
    for rounded in (False, True):
        own = {name: p.detach().double().requires_grad_() for name, p in start.items()}
        used = with_round_units(own, architecture) if rounded else own
        (logits,) = run_with(network.double().eval(), used, inputs)
        loss = torch.nn.functional.cross_entropy(logits, labels)
        found[rounded] = (
            logits,
            dict(zip(own, torch.autograd.grad(loss, list(own.values()), allow_unused=True), strict=True)),
        )
    sizes = {len(used[f"{architecture.names(layer).ffn_input}.weight"]) for layer in (0, 1)}
    assert sizes == {128}
    torch.testing.assert_close(found[True][0], found[False][0], rtol=1e-12, atol=1e-12)
    for name, gradient in found[False][1].items():
        if gradient is not None:
            torch.testing.assert_close(found[True][1][name], gradient, rtol=1e-9, atol=1e-12, msg=name)


def test_super_network_and_students_run_round_networks_only_where_asked(steady_classifier, monkeypatch):
    architecture, sizes = steady_classifier.architecture, []
    linear = torch.nn.functional.linear
    monkeypatch.setattr(torch.nn.functional, "linear", lambda x, w, b=None: sizes.append(len(w)) or linear(x, w, b))
    inputs = Examples(steady_classifier, TEXTS[:4], LABELS[:4], max_tokens=MAX_TOKENS).batch(np.arange(4))
    inputs.pop("labels")
    student = copy.deepcopy(steady_classifier.model)
    logits = {}
    for few in (False, True):
        for model in (
            trainer.SuperNetwork(steady_classifier.model, architecture, few_shapes=few).eval(),
            trainer.Students([SUBNET], [_sliced(student, steady_classifier)], architecture, few_shapes=few).eval(),
        ):
            sizes.clear()
            logits[few, type(model)] = model(inputs, SUBNET)[0]
            assert (128 in sizes) == few
            assert (3 in sizes[:-1]) != few
    first, *others = logits.values()
    for other in others:
        torch.testing.assert_close(other, first)


def _sliced(network, checkpoint):
    skeleton = build_skeleton(network, checkpoint.architecture, SUBNET.shape)
    sliced = slice_parameters(dict(network.backbone.named_parameters()), checkpoint.architecture, SUBNET)
    skeleton.backbone.load_state_dict(sliced, strict=False, assign=True)
    return skeleton
