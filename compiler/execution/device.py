"""The device of a run for everything that learns: ranking, re-solving, gates, judging in float32, likeness, training.

It is chosen once. The model is moved there once, batches at the entrance of a stage, and what a stage gives goes back to the CPU,
where stores, keys and arrays are. Networks that are judged as they are served, and exports, stay on the CPU.
"""

import functools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ParamSpec, Self, TypeVar

import torch
from torch import Tensor, nn

from targets.errors import InputError, TargetError, printable, reason

P = ParamSpec("P")
Result = TypeVar("Result")

_FORM = re.compile(r"auto|cpu|cuda(:\d{1,3})?")
_GIB = 1 << 30


def check_device(asked: str) -> None:
    """InputError where this is no value of `--device`."""
    if not _FORM.fullmatch(asked):
        raise InputError(f"--device {printable(repr(asked), 80)} is not known; known: auto, cpu, cuda, cuda:1")


@dataclass(frozen=True, slots=True, kw_only=True)
class ComputeDevice:
    """A torch device, what it is called, and how many bytes of its memory are free of all (None: a CPU, whose memory is not counted).

    `named` says that the user chose it: then no other stands in for it.
    """

    device: torch.device
    name: str = "CPU"
    free_bytes: int | None = None
    total_bytes: int | None = None
    named: bool = False

    @classmethod
    def find(cls, asked: str) -> Self:
        """The device of a value of `--device`: of `auto` the GPU with most free memory, else the CPU.

        TargetError where the GPU that was asked for is not here.
        """
        check_device(asked)
        if asked == "cpu":
            return cls(device=torch.device("cpu"), named=True)
        gpus = _gpus() if torch.cuda.is_available() else []
        if asked == "auto":
            found = [cls._gpu(index, named=False) for index in range(len(gpus))]
            return max(found, key=lambda gpu: gpu.free_bytes or 0) if found else cls(device=torch.device("cpu"))
        index = int(asked.partition(":")[2] or 0)
        if index >= len(gpus):
            raise TargetError(
                f"--device {asked} is not here\nPyTorch sees {_seen(gpus)}\nleave --device out, or name one that is here"
            )
        return cls._gpu(index, named=True)

    @classmethod
    def _gpu(cls, index: int, *, named: bool) -> Self:
        try:
            free, total = torch.cuda.mem_get_info(index)
        except RuntimeError as error:  # no room for the context itself, or a process has the GPU for its own
            if named:
                raise TargetError(
                    f"--device cuda:{index} does not answer: {reason(error)}\nfree it, or take --device cpu"
                ) from None
            free, total = 0, 0
        name = torch.cuda.get_device_name(index)
        return cls(device=torch.device("cuda", index), name=name, free_bytes=free, total_bytes=total, named=named)

    @property
    def is_cpu(self) -> bool:
        """Whether nothing has to be moved."""
        return self.device.type == "cpu"

    @property
    def arithmetic(self) -> dict[str, str]:
        """Its part of the keys of what is computed on it: none on a CPU, so that no result of one is taken for another's."""
        return {} if self.is_cpu else {"device": self.device.type}

    def within(self, needed_bytes: int) -> "tuple[ComputeDevice, str | None]":
        """This device, or the CPU where its free memory does not hold a job of so many bytes; and what to say of it.

        TargetError where the user named it.
        """
        if self.free_bytes is None or self.total_bytes is None:
            return self, None
        if needed_bytes <= self.free_bytes:
            return self, f"ranking, re-solving and judging ran on {self.device} ({self.name})"
        short = (
            f"{self.device} ({self.name}) has {_gib(self.free_bytes)} free of {_gib(self.total_bytes)}, "
            f"and this model takes about {_gib(needed_bytes)}"
        )
        if self.named:
            raise TargetError(f"{short}\nend what else runs on it, name another --device, or take --device cpu")
        return CPU, f"ranking, re-solving and judging ran on the CPU: {short}"


CPU = ComputeDevice(device=torch.device("cpu"))


def _gib(size_bytes: int) -> str:
    return f"{size_bytes / _GIB:.1f} GiB"


def _gpus() -> list[str]:
    return [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]


def _seen(gpus: list[str]) -> str:
    """What there is in words, and why there is no GPU."""
    if gpus:
        return ", ".join(f"cuda:{index} ({name})" for index, name in enumerate(gpus)) + " and the CPU"
    if torch.version.cuda is None:
        return f"the CPU alone: PyTorch {torch.__version__} is built without CUDA"
    return f"the CPU alone: PyTorch is built for CUDA {torch.version.cuda}, and no driver answers with a GPU"


def device_of(model: nn.Module) -> torch.device:
    """Where a model's parameters are."""
    return next(model.parameters()).device


def placed(values: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    """The same with its tensors on a device; on the device that they are on already, the very same tensors."""
    return {name: value.to(device) if isinstance(value, Tensor) else value for name, value in values.items()}


def on_host(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors without their gradients' history on the CPU, for stores, digests and files."""
    return {name: tensor.detach().cpu() for name, tensor in tensors.items()}


def on_the_models_device(work: Callable[P, Result]) -> Callable[P, Result]:
    """A function of a checkpoint, or of what has one: tensors that it makes are where the model is, unless it says where."""

    @functools.wraps(work)
    def there(*args: P.args, **kwargs: P.kwargs) -> Result:
        owner: Any = args[0] if args else kwargs["checkpoint"]
        device = device_of(getattr(owner, "checkpoint", owner).model)
        if device.type == "cpu":
            return work(*args, **kwargs)
        with device:
            return work(*args, **kwargs)

    return there
