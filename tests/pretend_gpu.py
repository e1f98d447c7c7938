"""A GPU that is pretended: tensors that say they are elsewhere, have their values here, and note every copy between the two.

Unlike those of FakeTensorMode they have values, so that what depends on data (masks, orders, losses) runs as it would and can be held
against the CPU's. An operation that mixes devices raises as CUDA's do. The device is PyTorch's "lazy": a build for the CPU ends the
process where autograd meets a tensor that says cuda.
"""

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Self
from unittest.mock import patch

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

GPU = torch.device("lazy", 0)
_HOST, _AUTOCAST = torch.device("cpu"), torch.autocast
_COMPILER = Path(__file__).parents[1] / "compiler"
_COPIES = (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)
_INDEXED = {
    torch.ops.aten.index.Tensor, torch.ops.aten.index_put_.default, torch.ops.aten.index_put.default,
    torch.ops.aten._index_put_impl_.default,
}  # fmt: skip
"""Take indices that are on the host, as CUDA does: they are copied."""

_READS = (
    torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default, torch.ops.aten.masked_select.default,
    torch.ops.aten.equal.default, torch.ops.aten.is_nonzero.default,
)  # fmt: skip
"""Have the host wait for the device: one number goes back, a value or how many there are."""


class OnGpu(torch.Tensor):
    """Says that it is on the GPU; `held` has its values."""

    held: torch.Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> Self:
        made = torch.Tensor._make_wrapper_subclass(
            cls, held.shape, strides=held.stride(), storage_offset=held.storage_offset(), dtype=held.dtype, device=GPU
        )
        made.held = held
        return made

    def __deepcopy__(self, memo):
        if id(self) not in memo:
            memo[id(self)] = type(self)(self.held.detach().clone()).requires_grad_(self.requires_grad)
        return memo[id(self)]

    @property
    def data(self):
        return self.detach()

    @data.setter
    def data(self, other):
        torch.Tensor.data.__set__(self, other)
        self.held = other.held

    def tolist(self):
        return self.cpu().tolist()

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        raise AssertionError(f"{func} on a pretended GPU, outside of its block")


class PretendGpu(TorchDispatchMode):
    """Runs operations on pretended tensors by the CPU. `copies` counts (direction, place): "in", "out" or "read", and who asked."""

    def __init__(self) -> None:
        super().__init__()
        self._mode_key = torch._C._TorchDispatchModeKey.FAKE  # by it PyTorch knows not to start CUDA
        self.copies: Counter[tuple[str, str]] = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        given = [x for x in tree_flatten((args, kwargs))[0] if isinstance(x, torch.Tensor)]
        asked = kwargs.get("device")
        if func in _COPIES:
            return self._copied(func, args, kwargs)
        if func is torch.ops.aten._fused_sdp_choice.default and any(isinstance(x, OnGpu) for x in given):
            return 0  # written out: the fused kernels have other names on either device
        there = any(isinstance(x, OnGpu) for x in given)
        if there:
            self._refuse_mixed(func, given)
        if there and func in _READS:
            self.copies["read", _place()] += 1
        on_gpu = there if asked is None else torch.device(asked).type == GPU.type
        if asked is not None:
            kwargs["device"] = torch.device(asked) if torch.device(asked).type == "meta" else _HOST
        out = func(*_held(args), **_held(kwargs))
        return _wrapped(out, args) if on_gpu and func not in _READS[:1] else out

    def _copied(self, func, args, kwargs):
        source = args[1] if func is torch.ops.aten.copy_.default else args[0]
        target = args[0].device if func is torch.ops.aten.copy_.default else kwargs.get("device") or source.device
        target = torch.device(target)
        if "meta" not in (target.type, source.device.type) and target.type != source.device.type:
            self.copies["in" if target.type == GPU.type else "out", _place()] += 1
        if "device" in kwargs and target.type == GPU.type:
            kwargs["device"] = _HOST
        out = func(*_held(args), **kwargs)
        if func is torch.ops.aten.copy_.default:
            return args[0]
        return OnGpu(out) if target.type == GPU.type else out

    def _refuse_mixed(self, func, given):
        for x in given:
            index = func in _INDEXED and x.dtype in (torch.int64, torch.bool)
            if isinstance(x, OnGpu) or x.dim() == 0 or x.device.type == "meta":
                continue
            if index:
                self.copies["in", _place()] += 1
                continue
            raise RuntimeError(f"{func}: expected all tensors to be on the same device, but found a GPU and the CPU")


def _held(tree):
    return tree_map(lambda x: x.held if isinstance(x, OnGpu) else x, tree)


def _wrapped(out, args):
    """What was given comes back as itself where it was changed in place."""
    known = {id(x.held): x for x in tree_flatten(args)[0] if isinstance(x, OnGpu)}
    return tree_map(lambda x: (known[id(x)] if id(x) in known else OnGpu(x)) if isinstance(x, torch.Tensor) else x, out)


def _place() -> str:
    """The function of the compiler that asked, as `module.function`."""
    frame = sys._getframe(1)
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(_COMPILER):
            return f"{path.stem}.{frame.f_code.co_qualname.replace('.<locals>', '').split('.<')[0]}"
        frame = frame.f_back
    return "test"


@contextmanager
def pretended_gpu() -> Iterator[PretendGpu]:
    """A block with one GPU."""
    without_versions = patch("torch.inference_mode", torch.no_grad)  # wrapped tensors count theirs
    with patch("torch.autocast", _autocast), without_versions, _FromLists(), PretendGpu() as mode:
        yield mode


class _FromLists(TorchFunctionMode):
    """Tensors made of lists are made on the CPU and moved, as PyTorch does it behind the back of dispatch."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if func is not torch.tensor or kwargs.get("device") is None or torch.device(kwargs["device"]).type != GPU.type:
            return func(*args, **kwargs)
        wanted = kwargs.pop("requires_grad", False)
        return func(*args, **{**kwargs, "device": _HOST}).to(GPU).requires_grad_(wanted)


def _autocast(kind: str, *args: Any, **kwargs: Any) -> AbstractContextManager[Any]:
    """A pretended GPU has no bfloat16 to turn on or off."""
    return nullcontext() if kind == GPU.type else _AUTOCAST(kind, *args, **kwargs)
