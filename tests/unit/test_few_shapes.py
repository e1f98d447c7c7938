"""Fewer shapes of products: the networks and the gradients stay what they were."""

import numpy as np
import pytest
import torch

from compiler.slicing import SubnetRunner, build_skeleton, run_with, slice_parameters
from compiler.slicing.few_shapes import cast_once, with_round_units
from compiler.supernet import trainer
from compiler.supernet.examples import Examples
from compiler.tasks import encode
from compiler.tasks.batches import round_length
from tests.tiny import tiny_checkpoint
from tests.training import LABELS, MAX_TOKENS, SMALL_SUBNET, TEXTS, split


class Cosine(torch.nn.Module):
    """An activation that is not 0 at 0."""

    def forward(self, values):
        return values.cos()


def test_a_round_length_is_the_next_of_few():
    lengths = [round_length(tokens, 1000) for tokens in range(1, 513)]
    assert all(0 <= length - tokens <= max(3, tokens / 4) for tokens, length in enumerate(lengths, start=1))
    assert np.mean([length / tokens for tokens, length in enumerate(lengths[31:], start=32)]) < 1.1
    assert sorted(set(lengths[:128])) == [*range(4, 33, 4), 40, 48, 56, 64, 80, 96, 112, 128]
    assert all(round_length(length, 1000) == length for length in lengths)


@pytest.mark.parametrize("longest", [10, 18, 19, 32])
def test_batches_are_padded_to_round_lengths_but_no_further_than_the_model_goes(classifier, longest):
    examples = Examples(classifier, split(TEXTS, LABELS), max_tokens=longest)
    alone = encode(classifier, TEXTS, max_tokens=longest, batch_size=1)
    encoded = {int(rows[0]): batch for batch, rows in zip(alone.batches, alone.rows, strict=True)}
    for row in range(30):
        expected = classifier.tokenizer(*TEXTS[row], truncation=True, max_length=longest)["input_ids"]
        length = round_length(len(expected), longest)
        assert len(expected) <= length <= longest
        for batch in (examples.batch(np.array([row])), encoded[row]):
            assert batch["input_ids"].tolist() == [
                expected + [classifier.tokenizer.pad_token_id] * (length - len(expected))
            ]
            assert batch["attention_mask"].tolist() == [[1] * len(expected) + [0] * (length - len(expected))]


@pytest.mark.parametrize("family", ["bert", "roberta", "electra", "distilbert"])
@pytest.mark.parametrize("activation", [None, Cosine()])
def test_round_units_change_neither_outputs_nor_gradients(tmp_path, family, activation):
    checkpoint = tiny_checkpoint(tmp_path, family, task="classification")
    network, architecture = (
        build_skeleton(checkpoint.model, checkpoint.architecture, SMALL_SUBNET.shape),
        checkpoint.architecture,
    )
    for module in list(network.modules()) if activation else ():
        for name in ("intermediate_act_fn", "activation"):
            if callable(getattr(module, name, None)):
                setattr(module, name, activation)
    start = slice_parameters(dict(checkpoint.model.backbone.named_parameters()), architecture, SMALL_SUBNET)
    inputs = Examples(checkpoint, split(TEXTS[:6], LABELS[:6]), max_tokens=MAX_TOKENS).batch(np.arange(6))
    labels = inputs.pop("labels")
    found = {}
    for rounded in (False, True):
        own = {name: p.detach().double().requires_grad_() for name, p in start.items()}
        used = with_round_units(own, architecture) if rounded else own
        (logits,) = run_with(network.double().eval(), architecture, used, inputs)
        loss = torch.nn.functional.cross_entropy(logits, labels)
        found[rounded] = (
            logits,
            dict(zip(own, torch.autograd.grad(loss, list(own.values()), allow_unused=True), strict=True)),
        )
    sizes = {len(used[f"{architecture.branch(layer, 'ffn').entry}.weight"]) for layer in (0, 1)}
    assert sizes == {128}
    torch.testing.assert_close(found[True][0], found[False][0], rtol=1e-12, atol=1e-12)
    for name, gradient in found[False][1].items():
        if gradient is not None:
            torch.testing.assert_close(found[True][1][name], gradient, rtol=1e-9, atol=1e-12, msg=name)


def test_networks_are_round_in_an_autocast_to_bf16_and_nowhere_else(steady_classifier, monkeypatch):
    architecture, sizes = steady_classifier.architecture, []
    linear = torch.nn.functional.linear
    monkeypatch.setattr(torch.nn.functional, "linear", lambda x, w, b=None: sizes.append(len(w)) or linear(x, w, b))
    inputs = Examples(steady_classifier, split(TEXTS[:4], LABELS[:4]), max_tokens=MAX_TOKENS).batch(np.arange(4))
    inputs.pop("labels")
    supernet = trainer.SuperNetwork(steady_classifier.model, architecture).eval()
    students = trainer.Students([SMALL_SUBNET], [_sliced(steady_classifier)], architecture).eval()
    for dtype, few in ((None, False), (torch.float16, False), (torch.bfloat16, True)):
        logits = []
        for model in (supernet, students):
            sizes.clear()
            with torch.no_grad(), torch.autocast("cpu", dtype, enabled=dtype is not None):
                logits.append(model(inputs, SMALL_SUBNET)[0])
            assert (128 in sizes) == few
            assert (len(SMALL_SUBNET.units[0]) in sizes[:-1]) != few
        assert torch.equal(*logits)


def test_matrices_cast_once_are_what_the_autocast_makes_of_them(steady_classifier):
    architecture = steady_classifier.architecture
    own = _weights(steady_classifier)
    inputs = Examples(steady_classifier, split(TEXTS[:4], LABELS[:4]), max_tokens=MAX_TOKENS).batch(np.arange(4))
    inputs.pop("labels")
    runner = SubnetRunner(steady_classifier.model, architecture)
    assert all(cast_once(own, architecture)[name] is tensor for name, tensor in own.items()), "outside of one"
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        cast = cast_once(own, architecture)
        (expected,), (ours,) = runner(SMALL_SUBNET, inputs, own), runner(SMALL_SUBNET, inputs, cast)
    assert torch.equal(ours, expected)
    kinds = {name: tensor.dtype for name, tensor in cast.items()}
    assert kinds[f"{architecture.branch(0, 'ffn').entry}.weight"] == torch.bfloat16
    assert {kinds[name] for name in kinds if "embeddings" in name or "LayerNorm" in name} == {torch.float32}


def _sliced(checkpoint):
    skeleton = build_skeleton(checkpoint.model, checkpoint.architecture, SMALL_SUBNET.shape)
    skeleton.backbone.load_state_dict(_weights(checkpoint), strict=False, assign=True)
    return skeleton


def _weights(checkpoint):
    dense = {name: p.detach() for name, p in checkpoint.model.backbone.named_parameters()}
    return slice_parameters(dense, checkpoint.architecture, SMALL_SUBNET)
