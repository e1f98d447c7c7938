"""PyTorch: wall clock on the CPU, device events on CUDA."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

from numpy.typing import NDArray

from profilers.health import GpuWatch
from profilers.program import Program
from profilers.runtimes.faults import checked, device_faults, lacks_memory, said
from profilers.runtimes.interface import Session, in_turn
from profilers.runtimes.requirements import check_driver
from profilers.workload import Workload
from targets import Target, open_nvml
from targets.errors import TargetError

_WARM_UP = 3

NOT_SERVING = "timed in PyTorch, which is not the runtime that serves the exported files: there they take other times"
"""Stands in every table and every run whose times are PyTorch's."""


class _TorchSession:
    """`call` runs the network once and returns its answers."""

    def __init__(self, call: Callable[[], Any], names: Sequence[str], device: Any) -> None:
        self.call, self.names, self.device = call, names, device

    def sample(self, count: int) -> list[float]:
        import torch

        with torch.inference_mode():
            return checked(self._cuda(count) if self.device.type == "cuda" else self._wall(count))

    def _wall(self, count: int) -> list[float]:
        samples = []
        for _ in range(count):
            start = time.perf_counter()
            self.call()
            samples.append(time.perf_counter() - start)
        return samples

    def _cuda(self, count: int) -> list[float]:
        import torch

        event: Any = torch.cuda.Event
        pairs = [[event(enable_timing=True) for _ in range(2)] for _ in range(count)]
        for start, end in pairs:
            start.record()
            self.call()
            end.record()
            torch.cuda.synchronize(self.device)
        return [start.elapsed_time(end) / 1000 for start, end in pairs]

    def outputs(self) -> Mapping[str, NDArray[Any]]:
        import torch

        with torch.inference_mode():
            answers = self.call()
        return {name: answer.float().cpu().numpy() for name, answer in zip(self.names, answers, strict=True)}


class TorchRuntime:
    """PyTorch with SDPA attention: eager on a CPU, on a GPU a CUDA graph of one call."""

    name = "torch"
    source = "measured"

    def __init__(self, target: Target, *, cuda_graph: bool = True) -> None:
        """TargetError where the GPU is not here or this PyTorch cannot use it."""
        import torch

        self.watch: GpuWatch | None = None
        self.device = torch.device("cpu")
        self.cuda_graph = cuda_graph and target.kind == "gpu"
        self.notes: list[str] = []
        if target.kind == "gpu":
            _require_cuda(target)
            self.watch = GpuWatch(target)
            self.device = torch.device("cuda", self.watch.ordinal)

    @contextmanager
    def open(self, program: Program, workload: Workload) -> Iterator[Session]:
        """The module on the device at the workload's precision, with the thread count it will be served with.

        On a GPU every length has a CUDA graph.
        """
        import torch

        threads = torch.get_num_threads()
        torch.set_num_threads(workload.threads)
        try:
            with device_faults(program, workload), self._on_device():
                module = self._placed(program, workload)
                calls = [self._call(partial(module, **self._inputs(program, one))) for one in workload.each]
                with self.watch or nullcontext():
                    yield in_turn([_TorchSession(call, module.output_names, self.device) for call in calls])
        finally:
            torch.set_num_threads(threads)

    def _on_device(self) -> Any:
        import torch

        return torch.cuda.device(self.device) if self.device.type == "cuda" else nullcontext()

    def _placed(self, program: Program, workload: Workload) -> Any:
        import torch

        dtype = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[workload.precision]

        def there(tensor: Any) -> Any:
            """Moved first: given both at once, PyTorch converts on the CPU, half a second for BERT-base."""
            moved = tensor.to(self.device)
            return moved.to(dtype) if tensor.is_floating_point() else moved

        return program.module()._apply(there).eval()  # noqa: SLF001  what `to` calls, tensor by tensor

    def _inputs(self, program: Program, workload: Workload) -> dict[str, Any]:
        import torch

        arrays = program.inputs(workload.batch, workload.tokens)
        return {name: torch.from_numpy(array).to(self.device) for name, array in arrays.items()}

    def _call(self, eager: Callable[[], Any]) -> Callable[[], Any]:
        """The call as a CUDA graph; eager, from now on, where the network cannot be captured."""
        if not self.cuda_graph:
            return eager
        try:
            return _captured(eager)
        except RuntimeError as error:
            if lacks_memory(error):
                raise
            self.cuda_graph = False
            self.notes.append(f"timed without CUDA graphs: {said(error)}")
            return eager

    def describe(self) -> dict[str, Any]:
        """Eager or CUDA graph, and what the GPU did meanwhile."""
        if self.watch is None:
            return {"mode": "eager", "warnings": [NOT_SERVING]}
        return {
            "mode": "CUDA graph" if self.cuda_graph else "eager",
            "warnings": [*self.watch.warnings, *self.notes, NOT_SERVING],
            "gpu": self.watch.seen(),
        }


def _captured(call: Callable[[], Any]) -> Callable[[], Any]:
    """One call recorded as a CUDA graph: playing it launches all its kernels at once, its tensors stay where they are."""
    import torch

    make_stream: Any = torch.cuda.Stream
    stream = make_stream()
    with torch.inference_mode():
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UP):
                call()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            answers = call()

    def replay() -> Any:
        graph.replay()
        return answers

    return replay


def _require_cuda(target: Target) -> None:
    """TargetError where this PyTorch has no CUDA, or none that the driver here serves."""
    import torch

    if torch.version.cuda is None:
        raise TargetError(
            f"PyTorch {torch.__version__} sees no CUDA device to measure {target.name} on: it is built without CUDA\n"
            "install one that is: https://pytorch.org/get-started"
        )
    check_driver(torch.version.cuda, open_nvml())
    if not torch.cuda.is_available():
        raise TargetError(f"PyTorch {torch.__version__} sees no CUDA device to measure {target.name} on")
