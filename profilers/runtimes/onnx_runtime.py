"""ONNX Runtime on the CPU: the graphs that ship, in the runtime that will serve them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from profilers.program import Program
from profilers.runtimes.faults import device_faults
from profilers.runtimes.interface import Runtime, Session, in_turn
from profilers.runtimes.onnx_gpu import CudaRuntime
from profilers.runtimes.onnx_session import HostSession, open_session, package
from profilers.runtimes.placement import CPU
from profilers.workload import Workload
from targets import Target

__all__ = ["CpuRuntime", "onnx_runtime", "open_session"]


class CpuRuntime:
    """ONNX Runtime's CPU execution provider."""

    name = "onnxruntime"
    source = "measured"

    def __init__(self) -> None:
        """TargetError where the package is missing or too old."""
        package()

    @contextmanager
    def open(self, program: Program, workload: Workload) -> Iterator[Session]:
        """A session with its own thread pool, whatever lengths it is asked, gone when the context is left."""
        with device_faults(program, workload):
            session = open_session(program.graph(workload.precision), workload.threads)
            try:
                yield in_turn([HostSession(session, program.inputs(one.batch, one.tokens)) for one in workload.each])
            finally:
                del session

    def describe(self) -> dict[str, Any]:
        """The provider; a CPU is not watched."""
        return {"mode": CPU, "warnings": []}


def onnx_runtime(target: Target) -> Runtime:
    """ONNX Runtime on the target: its CUDA provider where that is a GPU."""
    return CudaRuntime(target) if target.kind == "gpu" else CpuRuntime()
