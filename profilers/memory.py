"""What a network takes of memory while it is served: on the CPU in fresh processes, on a GPU as its driver tells.

What ONNX Runtime's CPU provider does on Linux, seen with 1.32 and all-MiniLM-L6-v2:

- Loading reads the whole file, then copies weight after weight and frees what it copied. It peaks at all weights plus
  the largest one (a vocabulary's), the same to 0.5 MB in every process. At batch 1 that is the peak of the process.
- Serving holds the weights of matrix products in the order its kernels want. What their first copies freed, the C
  library may keep, or not: up to as much again as the layers' weights (28 of 43 MB, in some processes and not in others).
- The first call grows the arena, the second adds the block that memory planning has laid out by then; neither is ever
  given back. From a few sequences on that is the peak.

A limit has to hold for every process, so the worst of several is what is reported.
"""

import gc
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from profilers.program import Program
from profilers.runtimes import Runtime
from profilers.serve_once import STATUS
from profilers.workload import Workload
from targets import Nvml, Target, open_nvml, present
from targets.errors import TargetError

PROCESSES = 5
_CALLS = 4
_SERVE_ONCE = "from profilers.serve_once import main; main()"


@dataclass(frozen=True, slots=True, kw_only=True)
class Residency:
    """Resident bytes of one process that loaded a network and served it.

    Attributes:
        before_peak_bytes: Peak before the network was loaded: interpreter, numpy and ONNX Runtime.
        before_bytes: What was resident at that moment.
        loading_peak_bytes: Peak until the network was loaded.
        peak_bytes: Peak of the whole process.
        steady_bytes: What stays resident while it serves.
    """

    before_peak_bytes: int
    before_bytes: int
    loading_peak_bytes: int
    peak_bytes: int
    steady_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryUse:
    """A network's memory in several fresh processes; every figure is the worst of them."""

    processes: tuple[Residency, ...]

    @property
    def before_bytes(self) -> int:
        """Resident before the network was loaded."""
        return max(process.before_bytes for process in self.processes)

    @property
    def loading_peak_bytes(self) -> int:
        """Peak until the network was loaded."""
        return max(process.loading_peak_bytes for process in self.processes)

    @property
    def steady_bytes(self) -> int:
        """Resident while it serves."""
        return max(process.steady_bytes for process in self.processes)

    @property
    def peak_bytes(self) -> int:
        """Peak of the whole process: what a limit has to allow."""
        return max(process.peak_bytes for process in self.processes)


def measure_peak_memory(
    model: Path, workload: Workload, inputs: Mapping[str, NDArray[Any]], *, processes: int = PROCESSES
) -> MemoryUse:
    """Serve an ONNX file on the CPU in so many fresh processes, one after the other; about a second each.

    Raises:
        TargetError: This is not Linux, or a process failed; the message ends in what it said last.
    """
    if not STATUS.exists():
        raise TargetError("memory is not available: that of a process is read from Linux's /proc")
    with tempfile.TemporaryDirectory() as folder:
        feed = Path(folder) / "inputs.npz"
        np.savez(feed, **dict(inputs))  # type: ignore[arg-type]  # the stub takes every keyword for allow_pickle
        return MemoryUse(processes=tuple(_serve(model, feed, workload.threads) for _ in range(processes)))


def _serve(model: Path, feed: Path, threads: int) -> Residency:
    command = [sys.executable, "-P", "-c", _SERVE_ONCE, str(model), str(feed), str(threads), str(_CALLS)]
    imports_as_here = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, env=imports_as_here, capture_output=True, text=True, check=False)  # noqa: S603  ours
    if done.returncode:
        said = done.stderr.strip().splitlines() or ["it said nothing: was it killed for the memory it took?"]
        raise TargetError(
            f"memory is not available: a process that served {model.name} ended with {done.returncode}\n{said[-1]}"
        )
    told = json.loads(done.stdout)
    return Residency(
        before_peak_bytes=told["before"]["peak"],
        before_bytes=told["before"]["now"],
        loading_peak_bytes=told["loaded"]["peak"],
        peak_bytes=told["served"]["peak"],
        steady_bytes=told["served"]["now"],
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuMemoryUse:
    """A network's memory on a GPU. A field is None where nothing tells it.

    Attributes:
        allocator_peak_bytes: Peak of PyTorch's allocator: weights and activations. None in another runtime.
        process_bytes: This process on the GPU, by NVML: context, kernels and cached blocks included. None in most
            containers, where the driver knows the process under another number.
        growth_bytes: How much more of the GPU was in use, by anyone, than before the network was loaded.
    """

    allocator_peak_bytes: int | None
    process_bytes: int | None
    growth_bytes: int | None

    @property
    def taken_bytes(self) -> int:
        """The process on the GPU, else by how much the GPU's memory in use has grown. TargetError where neither is told."""
        for told in (self.process_bytes, self.growth_bytes):
            if told is not None:
                return told
        raise TargetError("memory is not available: NVML tells neither this process's nor the GPU's")


def measure_gpu_memory(
    runtime: Runtime, program: Program, workload: Workload, target: Target, nvml: Nvml | None = None
) -> GpuMemoryUse:
    """Load a network on a GPU, serve it and look, while it is loaded. TargetError where the GPU is not here.

    Of a workload of several lengths the longest is served: it is what memory must hold.
    """
    nvml = open_nvml() if nvml is None else nvml
    if workload.runtime == "torch":
        _give_back()
    presence = present(target, nvml)
    if presence.gpu is None or presence.cuda_ordinal is None:
        raise TargetError(f"memory is not available: {presence.reason}")
    if workload.runtime == "torch":
        _forget_peak(presence.cuda_ordinal)
    asked = replace(program.asked(workload), tokens=max(workload.lengths, default=workload.tokens), lengths=())
    with runtime.open(program, asked) as session:
        session.sample(_CALLS)
        served = nvml.state(presence.gpu.index)
    before_bytes, after_bytes = presence.gpu.memory_used_bytes, served.memory_used_bytes
    return GpuMemoryUse(
        allocator_peak_bytes=_allocator_peak_bytes(presence.cuda_ordinal) if workload.runtime == "torch" else None,
        process_bytes=served.process_memory_bytes,
        growth_bytes=None if before_bytes is None or after_bytes is None else after_bytes - before_bytes,
    )


def measure_taken_bytes(
    file: Path,
    program: Program,
    inputs: Mapping[str, NDArray[Any]],
    runtime: Runtime,
    workload: Workload,
    target: Target,
    *,
    processes: int = PROCESSES,
) -> int:
    """What a served ONNX file takes on its device: a process's peak on a CPU, GPU memory on a GPU. TargetError as there."""
    if target.kind == "gpu":
        return measure_gpu_memory(runtime, program, workload, target).taken_bytes
    if workload.runtime != "onnxruntime":
        raise TargetError(
            f"memory is not available: on a CPU it is measured in ONNX Runtime, not in {workload.runtime}"
        )
    return measure_peak_memory(file, workload, inputs, processes=processes).peak_bytes


def _give_back() -> None:
    """PyTorch keeps the memory of networks that are gone, in which the next one would have its place unseen."""
    import torch

    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        gc.collect()
        torch.cuda.empty_cache()


def _forget_peak(ordinal: int) -> None:
    import torch

    torch.cuda.reset_peak_memory_stats(ordinal)


def _allocator_peak_bytes(ordinal: int) -> int:
    import torch

    return torch.cuda.max_memory_allocated(ordinal)
