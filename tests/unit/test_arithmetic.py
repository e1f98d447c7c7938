"""Which arithmetic a processor is given: bfloat16 only where it has instructions for it, float32 where a solve depends on it."""

import pytest
import torch

from compiler.slicing import bf16_where_it_is, has_bf16


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
