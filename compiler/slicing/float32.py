"""Exact float32 products of linear layers by the library that is fastest on this processor, where no gradient is wanted.

PyTorch multiplies with what it was built with, MKL on most; on some processors oneDNN does the same product in half the time.
Without `float32_by` it is PyTorch's own, the reference arithmetic that tests compare with.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

PYTORCH, ONEDNN = "pytorch", "onednn"
_FASTER = 1.3  # than PyTorch's own, at least: else noise would decide
_TOKENS, _WIDTH, _UNITS = 512, 768, 3072  # of the product that is timed

_library = PYTORCH


class _LinearByOneDNN(TorchFunctionMode):
    """Linear layers of float32 tensors on the CPU; all other functions as they are."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Called by torch for every function."""
        if func is functional.linear and not kwargs and _is_plain(args):
            features, weight, *bias = args
            return _onednn_linear(features, weight, bias[0] if bias else None)
        return func(*args, **(kwargs or {}))


def _is_plain(args: tuple[Any, ...]) -> bool:
    """Whether oneDNN takes them as they are, and gives what PyTorch gives: it knows no gradients and no autocast."""
    tensors = [arg for arg in args if arg is not None]
    return not (torch.is_grad_enabled() or torch.is_autocast_enabled("cpu")) and all(
        tensor.dtype == torch.float32 and tensor.device.type == "cpu" and tensor.numel() for tensor in tensors
    )


def _onednn_linear(features: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    made: Tensor = torch.ops.mkldnn._linear_pointwise(features, weight, bias, "none", [], "")  # noqa: SLF001  there is no public name
    return made


def fastest_float32() -> str:
    """The library to multiply float32 with here, timed on one product of an FFN: oneDNN where it is faster by 1.3 times."""
    features, weight = (
        torch.ones(_TOKENS, _WIDTH),
        torch.ones(_UNITS, _WIDTH),
    )  # torch's random numbers stay a run's own
    try:
        with torch.inference_mode():
            ours = _least_s(lambda: functional.linear(features, weight))
            theirs = _least_s(lambda: _onednn_linear(features, weight, None))
    except (AttributeError, RuntimeError):  # not in this build of PyTorch
        return PYTORCH
    return ONEDNN if _FASTER * theirs < ours else PYTORCH


def _least_s(call: Callable[[], Any]) -> float:
    """CPU seconds of the fastest of three calls after one warm-up: what else runs on the machine does not count."""

    def timed() -> float:
        start = time.process_time()
        call()
        return time.process_time() - start

    timed()
    return min(timed() for _ in range(3))


@contextmanager
def float32_by(library: str) -> Iterator[None]:
    """Products inside `float32_products` are made by this library, in all threads, until the block is left."""
    global _library  # noqa: PLW0603  one choice for a process, as for PyTorch's own threads
    before, _library = _library, library
    try:
        yield
    finally:
        _library = before


def float32_library() -> str:
    """The library that `float32_by` names now."""
    return _library


def float32_products() -> AbstractContextManager[Any]:
    """Linear layers run in this block, by this thread, are multiplied by the library that `float32_by` names."""
    return _LinearByOneDNN() if _library == ONEDNN else nullcontext()
