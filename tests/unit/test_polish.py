"""Sub-networks distilled side by side: closer to their teacher, and none in another's way."""

import numpy as np
import pytest
import torch

from compiler.slicing import SubnetRunner, slice_parameters
from compiler.spaces import make_space
from compiler.supernet import TrainingOptions, polish
from compiler.supernet.examples import Examples
from compiler.tasks.embedding import embedding_loss
from tests.training import LABELS, MAX_TOKENS, SMALL_SUBNET, TEXTS, sentences, split


def embedding_error(checkpoint, subnet, parameters):
    batch = Examples(checkpoint, split(sentences(40, seed=9), None), max_tokens=MAX_TOKENS).batch(np.arange(40))
    runner = SubnetRunner(checkpoint.model, checkpoint.architecture)
    with torch.no_grad():
        return float(
            embedding_loss(runner(subnet, batch, parameters), batch["attention_mask"], checkpoint.model(**batch))
        )


def test_polish_brings_a_subnet_closer_to_its_teacher(embedder, tmp_path):
    dense = dict(embedder.model.backbone.named_parameters())
    sliced = slice_parameters(dense, embedder.architecture, SMALL_SUBNET)
    before = {name: tensor.detach().clone() for name, tensor in sliced.items()}
    options = TrainingOptions(epochs=12, learning_rate=3e-3, batch_size=8, bf16=False)
    (polished,) = polish(
        embedder, dense, [SMALL_SUBNET], [sliced], split=split(sentences(120)), options=options,
        max_tokens=MAX_TOKENS, work_dir=tmp_path, progress=lambda *_: None,
    )  # fmt: skip
    assert {name: tensor.shape for name, tensor in polished.items()} == {n: t.shape for n, t in sliced.items()}
    assert all(torch.equal(sliced[name], tensor) for name, tensor in before.items())
    assert embedding_error(embedder, SMALL_SUBNET, polished) < 0.7 * embedding_error(embedder, SMALL_SUBNET, sliced)


def test_polish_takes_labels_too_and_refuses_parameters_of_another_network(classifier, tmp_path):
    dense = dict(classifier.model.backbone.named_parameters())
    sliced = slice_parameters(dense, classifier.architecture, SMALL_SUBNET)
    common = {
        "options": TrainingOptions(epochs=1, batch_size=10, bf16=False), "max_tokens": MAX_TOKENS,
        "work_dir": tmp_path / "run", "progress": lambda *_: None,
    }  # fmt: skip
    (with_labels,) = polish(classifier, dense, [SMALL_SUBNET], [sliced], split=split(TEXTS, LABELS), **common)
    common["work_dir"] = tmp_path / "other"
    (without,) = polish(classifier, dense, [SMALL_SUBNET], [sliced], split=split(TEXTS), **common)
    assert not torch.equal(with_labels["classifier.weight"], without["classifier.weight"])
    with pytest.raises(ValueError, match="do not fit"):
        polish(classifier, dense, [SMALL_SUBNET], [dense], split=split(TEXTS), **common)


def test_polished_side_by_side_each_ends_as_if_it_were_alone(classifier, tmp_path):
    """Gradients above the clipping norm, and of different size: none may slow another."""
    dense = dict(classifier.model.backbone.named_parameters())
    space = make_space("medium", classifier.architecture, unit_step=1)
    subnets = [SMALL_SUBNET, space.subnet(space.largest)]
    sliced = [slice_parameters(dense, classifier.architecture, subnet) for subnet in subnets]
    common = {
        "options": TrainingOptions(epochs=1, batch_size=10, bf16=False, dropout=0.0, learning_rate=1e-3),
        "split": split(TEXTS, LABELS), "max_tokens": MAX_TOKENS, "progress": lambda *_: None,
    }  # fmt: skip
    together = polish(classifier, dense, subnets, sliced, work_dir=tmp_path / "both", **common)
    for row, subnet in enumerate(subnets):
        (alone,) = polish(classifier, dense, [subnet], [sliced[row]], work_dir=tmp_path / str(row), **common)
        assert any(not torch.equal(alone[name], sliced[row][name]) for name in alone)
        for name, tensor in alone.items():
            torch.testing.assert_close(together[row][name], tensor, rtol=1e-5, atol=1e-6)
