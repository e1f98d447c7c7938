"""PyTorch: wall clock on the CPU, device events on CUDA."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from numpy.typing import NDArray

from profilers.program import Program
from profilers.workload import Workload
from targets import Target
from targets.errors import TargetError


class _TorchSession:
    def __init__(self, module: Any, inputs: Mapping[str, Any], device: Any) -> None:
        self.module, self.inputs, self.device = module, dict(inputs), device

    def _call(self) -> Any:
        return self.module(**self.inputs)

    def sample(self, count: int) -> list[float]:
        import torch

        with torch.inference_mode():
            return self._cuda(count) if self.device.type == "cuda" else self._wall(count)

    def _wall(self, count: int) -> list[float]:
        samples = []
        for _ in range(count):
            start = time.perf_counter()
            self._call()
            samples.append(time.perf_counter() - start)
        return samples

    def _cuda(self, count: int) -> list[float]:
        import torch

        event: Any = torch.cuda.Event
        pairs = [[event(enable_timing=True) for _ in range(2)] for _ in range(count)]
        for start, end in pairs:
            start.record()
            self._call()
            end.record()
            torch.cuda.synchronize(self.device)
        return [start.elapsed_time(end) / 1000 for start, end in pairs]

    def outputs(self) -> Mapping[str, NDArray[Any]]:
        import torch

        with torch.inference_mode():
            answers = self._call()
        names = self.module.output_names
        return {name: answer.float().cpu().numpy() for name, answer in zip(names, answers, strict=True)}


class TorchRuntime:
    """Eager PyTorch with SDPA attention."""

    name = "torch"
    source = "measured"

    def __init__(self, target: Target) -> None:
        import torch

        if target.kind == "gpu" and not torch.cuda.is_available():
            raise TargetError(f"PyTorch {torch.__version__} sees no CUDA device to measure {target.name} on")
        self.device = torch.device("cuda" if target.kind == "gpu" else "cpu")

    @contextmanager
    def open(self, program: Program, workload: Workload) -> Iterator[_TorchSession]:
        """The module on the device at the workload's precision, with the thread count it will be served with."""
        import torch

        dtype = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[workload.precision]
        arrays = program.inputs(workload.batch, workload.tokens)
        inputs = {name: torch.from_numpy(array).to(self.device) for name, array in arrays.items()}
        threads = torch.get_num_threads()
        torch.set_num_threads(workload.threads)
        try:
            yield _TorchSession(program.module().to(self.device, dtype).eval(), inputs, self.device)
        finally:
            torch.set_num_threads(threads)
