"""The runtimes by name."""

from collections.abc import Callable

from profilers.runtimes.interface import Runtime
from profilers.runtimes.null import NullRuntime
from profilers.runtimes.onnx_gpu import TensorrtRuntime
from profilers.runtimes.onnx_runtime import onnx_runtime
from profilers.runtimes.torch_runtime import TorchRuntime
from targets import Target
from targets.errors import InputError

RUNTIMES: dict[str, Callable[[Target], Runtime]] = {
    "onnxruntime": onnx_runtime,
    "tensorrt": TensorrtRuntime,
    "torch": TorchRuntime,
    "null": NullRuntime,
}


def make_runtime(name: str, target: Target) -> Runtime:
    """The named runtime on a target. InputError lists the known names; TargetError where something is missing."""
    if name not in RUNTIMES:
        raise InputError(f"unknown runtime {name!r}; known: {', '.join(RUNTIMES)}")
    return RUNTIMES[name](target)
