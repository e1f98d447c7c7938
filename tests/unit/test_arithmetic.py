"""Which arithmetic a processor is given: bfloat16 only where it has instructions for it, float32 where a solve depends on it."""

import pytest
import torch
from torch import nn

from compiler.pipeline import workplace
from compiler.slicing import bf16_where_it_is, fastest_float32, float32, float32_by, float32_products, has_bf16
from compiler.store import DiskStore


@pytest.fixture
def processor(monkeypatch):
    """Sets what the processor says of itself; oneDNN claims bfloat16 on all of them."""

    def says(machine, *, avx512_bf16=False, amx=False, onednn=True):
        monkeypatch.setattr("torch.cuda.is_available", lambda: False)
        monkeypatch.setattr("platform.machine", lambda: machine)
        monkeypatch.setattr("torch.cpu._is_avx512_bf16_supported", lambda: avx512_bf16)
        monkeypatch.setattr("torch.cpu._is_amx_tile_supported", lambda: amx)
        monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: onednn)

    return says


def test_bf16_that_is_only_imitated_is_none(processor):
    """An Ice Lake server has AVX-512 and no bfloat16: its products took 4.4 times as long as those of float32."""
    processor("x86_64")
    assert not has_bf16()
    with bf16_where_it_is():
        assert torch.mm(torch.ones(2, 2), torch.ones(2, 2)).dtype == torch.float32


@pytest.mark.parametrize("instructions", [{"avx512_bf16": True}, {"amx": True}])
def test_bf16_of_x86_is_used(processor, instructions):
    processor("x86_64", **instructions)
    assert has_bf16()
    with bf16_where_it_is():
        assert torch.mm(torch.ones(2, 2), torch.ones(2, 2)).dtype == torch.bfloat16


@pytest.mark.parametrize("onednn", [True, False])
def test_elsewhere_onednn_is_asked(processor, onednn):
    processor("aarch64", onednn=onednn)
    assert has_bf16() == onednn


def layers():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(48, 96), nn.GELU(), nn.Linear(96, 24, bias=False)), torch.randn(5, 7, 48)


def exact(network, features):
    with torch.no_grad():
        return network.double()(features.double())


@pytest.fixture
def by_onednn(monkeypatch):
    """The shapes of what oneDNN multiplied."""
    shapes, multiply = [], float32._onednn_linear
    monkeypatch.setattr(float32, "_onednn_linear", lambda x, *rest: shapes.append(tuple(x.shape)) or multiply(x, *rest))
    return shapes


@pytest.mark.parametrize("library", [float32.PYTORCH, float32.ONEDNN])
def test_either_library_is_within_float32s_rounding_of_float64(library, by_onednn):
    network, features = layers()
    with float32_by(library), float32_products(), torch.inference_mode():
        made = network(features)
    assert made.dtype == torch.float32
    assert by_onednn == ([(5, 7, 48), (5, 7, 96)] if library == float32.ONEDNN else [])
    wanted = exact(network, features)
    assert float((made - wanted).norm()) < 1e-6 * float(wanted.norm())


def test_gradients_other_types_and_what_is_outside_are_pytorchs(by_onednn):
    network, features = layers()
    with float32_by(float32.ONEDNN):
        with float32_products():
            network(features).sum().backward()
            with torch.inference_mode():
                network.double()(features.double())
                with torch.autocast("cpu", torch.bfloat16):
                    assert network.float()(features).dtype == torch.bfloat16
        with torch.inference_mode():
            network(features)
    with float32_products(), torch.inference_mode():
        network(features)
    assert by_onednn == []


@pytest.mark.parametrize(
    ("ours", "theirs", "chosen"), [(2.0, 1.0, "onednn"), (1.2, 1.0, "pytorch"), (1.0, 2.0, "pytorch")]
)
def test_onednn_is_taken_where_it_is_surely_faster(monkeypatch, ours, theirs, chosen):
    told = iter([ours, theirs])
    monkeypatch.setattr(float32, "_least_s", lambda _: next(told))
    assert fastest_float32() == chosen


def test_a_pytorch_without_onednn_multiplies_itself(monkeypatch):
    def missing(*_):
        raise AttributeError("'_OpNamespace' 'mkldnn' object has no attribute '_linear_pointwise'")

    monkeypatch.setattr(float32, "_onednn_linear", missing)
    assert fastest_float32() == float32.PYTORCH


def test_the_choice_is_timed_once_kept_and_left_behind(monkeypatch, tmp_path):
    timed = []
    monkeypatch.setattr(workplace, "fastest_float32", lambda: timed.append(1) or float32.ONEDNN)
    store, state = DiskStore(tmp_path), torch.get_rng_state()
    for _ in range(2):
        with workplace._arithmetic(store):
            assert float32._library == float32.ONEDNN
        assert float32._library == float32.PYTORCH
    assert timed == [1]
    fastest_float32()
    assert torch.equal(torch.get_rng_state(), state), "a run draws what it drew without"
