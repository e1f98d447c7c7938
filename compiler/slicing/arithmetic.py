"""bfloat16, for networks that are judged or fitted and not shipped."""

import platform
from contextlib import AbstractContextManager
from typing import Any

import torch

from compiler.execution import CPU
from compiler.slicing.float32 import float32_products


def has_bf16(device: torch.device = CPU.device) -> bool:
    """Whether a device multiplies matrices of bfloat16 itself.

    On x86 with AVX-512 oneDNN says yes where it only imitates them, four times as slow as float32: there the instructions count.
    """
    if device.type != "cpu":
        return torch.cuda.is_available() and bool(torch.cuda.is_bf16_supported())
    if platform.machine() in ("x86_64", "AMD64"):
        return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())  # noqa: SLF001
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())  # noqa: SLF001  there is no public question


def bf16_where_it_is(device: torch.device = CPU.device) -> AbstractContextManager[Any]:
    """Autocast to bfloat16, up to twice as fast; where the device would only imitate it, the fastest float32.

    Weights stay as they are, and so do norms and sums. MiniLM's embeddings turn by a cosine of 1e-5.
    """
    if not has_bf16(device):
        return float32_products()
    return torch.autocast(device.type, torch.bfloat16)
