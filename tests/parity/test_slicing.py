"""Masked equals sliced in networks of fewer residual dimensions; `tests/contract/test_families.py` has all others.

The oracle gates residual dimensions as well as heads, units and sub-blocks. A norm over fewer dimensions is not the limit of one over all, so
the oracle's norms are written out: mean and variance of what is kept.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch

from compiler.costing import parameter_counts
from compiler.families import Checkpoint
from compiler.slicing import SubnetRunner, build_skeleton, slice_parameters
from compiler.spaces import Ordering, Subnet, make_space, sample_stratified, sample_uniform
from tests.oracle import Masked
from tests.tiny import HEADS, HIDDEN, LAYERS, MODEL_TYPES, UNITS, VOCABULARY, tiny_checkpoint


@pytest.fixture(scope="module", params=MODEL_TYPES)
def checkpoint(request, tmp_path_factory) -> Checkpoint:
    task = "classification" if request.param in {"bert", "distilbert"} else "embedding"
    loaded = tiny_checkpoint(tmp_path_factory.mktemp(request.param), request.param, task=task)
    loaded.model.double()
    return loaded


def batch(checkpoint: Checkpoint, seed: int = 0) -> dict[str, torch.Tensor]:
    rng = np.random.default_rng(seed)
    ids = torch.from_numpy(rng.integers(5, VOCABULARY, (3, 11)))
    mask = torch.ones_like(ids)
    mask[1, 4:] = 0
    mask[2, 1:] = 0
    ids[mask == 0] = checkpoint.tokenizer.pad_token_id
    inputs = {"input_ids": ids, "attention_mask": mask, "token_type_ids": torch.zeros_like(ids)}
    return {name: inputs[name] for name in checkpoint.input_names}


def orderings(seed: int) -> Ordering:
    rng = np.random.default_rng(seed)
    return Ordering(
        heads=tuple(rng.permutation(HEADS) for _ in range(LAYERS)),
        units=tuple(rng.permutation(UNITS) for _ in range(LAYERS)),
    )


def subnets(checkpoint: Checkpoint, space_name: str) -> list[Subnet]:
    rng = np.random.default_rng(3)
    space = make_space(space_name, checkpoint.architecture, ordering=orderings(5))
    genomes = np.concatenate(
        [
            np.stack([space.largest, space.smallest, space.middle]),
            sample_uniform(space, rng, 3),
            sample_stratified(space, rng, 6, lambda counts: (counts.heads.sum(1) + counts.units.sum(1)).astype(float)),
        ]
    )
    return [space.subnet(genome) for genome in genomes]


CORNERS = [
    Subnet.of([[], [0, 2], [1]], [[1, 5, 40], [], [7]]),
    Subnet.of([[3], [], [0, 1, 2, 3]], [[], [], range(UNITS)]),
    Subnet.of([[], [], []], [[], [], []]),
    Subnet.of([[0], [0], []], [[0], [47], [3]]),
]


NARROW = [
    replace(CORNERS[0], residual=(0, 3, 4, 7, 9, 20, 21, 31)),
    replace(CORNERS[1], residual=tuple(range(24))),
    replace(CORNERS[2], residual=tuple(range(0, 32, 2))),
    replace(CORNERS[3], residual=(5, 6)),
    Subnet.of([range(HEADS)] * LAYERS, [range(UNITS)] * LAYERS, range(1, HIDDEN)),
]


def compare(checkpoint: Checkpoint, subnet: Subnet) -> None:
    inputs = batch(checkpoint)
    with torch.no_grad():
        sliced = SubnetRunner(checkpoint.model, checkpoint.architecture)(subnet, inputs)
        with Masked(checkpoint, subnet) as masked:
            expected = masked(**inputs)
    for ours, theirs in zip(sliced, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


def test_masked_equals_sliced_in_the_space_of_widths(checkpoint):
    for subnet in subnets(checkpoint, "width"):
        compare(checkpoint, subnet)


@pytest.mark.parametrize("subnet", NARROW)
def test_masked_equals_sliced_where_blocks_layers_and_dimensions_are_dropped(checkpoint, subnet):
    compare(checkpoint, subnet)


def test_the_oracle_can_fail(checkpoint):
    inputs = batch(checkpoint)
    with torch.no_grad(), Masked(checkpoint, CORNERS[0]) as masked:
        gated = masked(**inputs)
    other = SubnetRunner(checkpoint.model, checkpoint.architecture)(CORNERS[3], inputs)
    assert not torch.allclose(gated[-1], other[-1], rtol=1e-3)


def test_a_norm_over_fewer_dimensions_is_not_the_norm_over_all(checkpoint):
    with torch.no_grad():
        narrow = SubnetRunner(checkpoint.model, checkpoint.architecture)(NARROW[4], batch(checkpoint))
        dense = checkpoint.model(**batch(checkpoint))
    assert not torch.allclose(narrow[-1], dense[-1], rtol=1e-3)


def test_token_embeddings_keep_their_size(checkpoint):
    outputs = SubnetRunner(checkpoint.model, checkpoint.architecture)(NARROW[0], batch(checkpoint))
    if checkpoint.model.recipe is not None:
        gone = sorted(set(range(HIDDEN)) - set(NARROW[0].residual))
        assert outputs[0].shape[-1] == outputs[1].shape[-1] == HIDDEN
        assert outputs[0][..., gone].eq(0).all()
    else:
        assert len(outputs) == 1


@pytest.mark.parametrize("subnet", NARROW)
def test_gradients_through_the_slicer_equal_gradients_through_the_mask(checkpoint, subnet):
    inputs = batch(checkpoint)
    weights = torch.randn(1000, dtype=torch.float64, generator=torch.Generator().manual_seed(1))

    def gradients(run):
        checkpoint.model.zero_grad()
        output = run()[-1].flatten()
        (output * weights[: len(output)]).sum().backward()
        return {n: p.grad.clone() if p.grad is not None else torch.zeros_like(p)
                for n, p in checkpoint.model.backbone.named_parameters()}  # fmt: skip

    ours = gradients(lambda: SubnetRunner(checkpoint.model, checkpoint.architecture)(subnet, inputs))
    with Masked(checkpoint, subnet) as masked:
        theirs = gradients(lambda: masked(**inputs))
    assert any(g.abs().max() > 1e-3 for g in theirs.values())
    for name, gradient in ours.items():
        torch.testing.assert_close(gradient, theirs[name], rtol=1e-8, atol=1e-9, msg=name)


@pytest.mark.parametrize("subnet", NARROW)
def test_parameter_count_equals_the_closed_form(checkpoint, subnet):
    a = checkpoint.architecture
    sliced = slice_parameters(dict(checkpoint.model.backbone.named_parameters()), a, subnet)
    total = sum(tensor.numel() for tensor in sliced.values())
    assert total == a.parameters(subnet.shape, subnet.width)
    assert [total] == parameter_counts(a, subnet.counts).tolist()


@pytest.mark.parametrize("subnet", NARROW)
def test_skeleton_has_exactly_the_sliced_parameters(checkpoint, subnet):
    sliced = slice_parameters(dict(checkpoint.model.backbone.named_parameters()), checkpoint.architecture, subnet)
    skeleton = build_skeleton(checkpoint.model, checkpoint.architecture, subnet.shape, subnet.width)
    shapes = {name: tuple(p.shape) for name, p in skeleton.backbone.named_parameters()}
    assert shapes == {name: tuple(tensor.shape) for name, tensor in sliced.items()}
