"""ONNX Runtime on a GPU, by its CUDA or its TensorRT provider: no copies, CUDA graphs, and no silent fallback."""

import contextlib
import ctypes
import importlib
import io
import re
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from profilers.graph import GraphSource
from profilers.health import GpuWatch
from profilers.program import Program
from profilers.runtimes.faults import device_faults, lacks_memory, said
from profilers.runtimes.interface import Session, in_turn
from profilers.runtimes.onnx_session import (
    Arrays,
    BoundSession,
    Provider,
    attentions_of,
    dimensions_of,
    load,
    package,
    profiled_run,
    session_options,
)
from profilers.runtimes.placement import CPU, CUDA, TENSORRT, UNFUSED, attention_kernels, check_placement, placed
from profilers.runtimes.requirements import ONNX_RUNTIME_GPU, check_driver, tensorrt
from profilers.workload import Workload
from targets import STATIC, Target
from targets.errors import TargetError


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    """A program at a workload, in the form that ONNX Runtime takes."""

    program: Program
    workload: Workload
    graph: GraphSource
    inputs: Arrays

    @property
    def key(self) -> tuple[Program, Workload]:
        """What tells jobs apart."""
        return self.program, self.workload


class CudaRuntime:
    """ONNX Runtime's CUDA execution provider; every program is run once under its profiler before it is timed."""

    name = "onnxruntime"
    source = "measured"
    provider = CUDA

    def __init__(self, target: Target, *, cuda_graph: bool = True) -> None:
        """TargetError where the GPU, its driver, its libraries or the package is missing or too old."""
        self.watch = GpuWatch(target)
        self.cuda_graph = cuda_graph
        self.notes: list[str] = []
        self.kernels: Counter[str] = Counter()
        self.nodes: dict[str, int] = {}
        self._checked: set[tuple[Program, Workload]] = set()
        self._require(package())

    def _require(self, ort: Any) -> None:
        ONNX_RUNTIME_GPU.check(ort.__version__)
        if self.provider not in ort.get_available_providers():
            raise TargetError(
                f"this ONNX Runtime ({ort.__version__}) is built without {self.provider}\n"
                f"install the other package: {ONNX_RUNTIME_GPU.install}"
            )
        check_driver(ort.cuda_version, self.watch.nvml)
        self._load_libraries(ort)
        missing = _missing_library(ort, self.provider)
        if missing is not None:
            raise TargetError(
                f"{self.provider} needs {missing}, which is not here\n"
                "install CUDA's libraries: pip install 'onnxruntime-gpu[cuda,cudnn]'"
            )

    def _load_libraries(self, ort: Any) -> None:
        """CUDA's libraries out of pip's packages, where ONNX Runtime does not look by itself; it prints what fails."""
        with contextlib.redirect_stdout(io.StringIO()):
            ort.preload_dlls()

    @contextmanager
    def open(self, program: Program, workload: Workload) -> Iterator[Session]:
        """A session with its buffers and, where the provider takes them, its CUDA graph on the device.

        Of several lengths each has a session, weights and all: what is captured or built is for one shape.
        """
        with device_faults(program, workload):
            graph = program.graph(workload.precision)
            sessions = [self._ready(program, graph, one) for one in workload.each]
            with self.watch:
                yield in_turn(sessions)

    def _ready(self, program: Program, graph: GraphSource, workload: Workload) -> BoundSession:
        inputs = program.inputs(workload.batch, workload.tokens)
        job = _Job(program=program, workload=workload, graph=graph, inputs=inputs)
        if job.key not in self._checked:
            self._check(job)
        return self._captured(job)

    def _check(self, job: _Job) -> None:
        nodes, log = profiled_run(job.graph, self._options(job), self._providers(job, cuda_graph=False), job.inputs)
        asked, attentions = job.workload, attentions_of(job.graph)
        check_placement(nodes, self.provider, attentions, asked.precision)
        self.nodes = placed(nodes)
        kernels = attention_kernels(log, attentions)
        self.kernels.update(kernels)
        if UNFUSED in kernels:
            self._note(f"attention over {asked.tokens} tokens in {asked.precision} runs unfused, the slowest way")
        self._checked.add(job.key)

    def _captured(self, job: _Job) -> BoundSession:
        """A session with a CUDA graph; without one, from now on, where the provider refuses the first."""
        try:
            return self._bound(job)
        except TargetError:
            raise
        except Exception as error:
            if not self.cuda_graph or lacks_memory(error):
                raise
            self.cuda_graph = False
            self._note(f"timed without CUDA graphs: {said(error)}")
        return self._bound(job)

    def _bound(self, job: _Job) -> BoundSession:
        session = load(job.graph, self._options(job), self._providers(job, cuda_graph=self.cuda_graph))
        bound = BoundSession(session, job.inputs, ("cuda", self.watch.ordinal))
        bound.run()
        return bound

    def _options(self, job: _Job) -> Any:
        """A captured graph keeps its shapes; where they are known from the start nothing is left to the CPU."""
        fixed = dimensions_of(job.graph, job.inputs) if self.cuda_graph else {}
        return session_options(job.workload.threads, fixed)

    def _providers(self, _job: _Job, *, cuda_graph: bool) -> list[Provider]:
        return [(CUDA, {"device_id": self.watch.ordinal, "enable_cuda_graph": int(cuda_graph)}), CPU]

    def _note(self, sentence: str) -> None:
        if sentence not in self.notes:
            self.notes.append(sentence)

    def describe(self) -> dict[str, Any]:
        """Provider and mode, what the GPU did meanwhile, where the nodes of the last program ran, and all attention kernels."""
        return {
            "mode": f"{self.provider}, CUDA graph" if self.cuda_graph else self.provider,
            "warnings": [*self.watch.warnings, *self.notes],
            "gpu": self.watch.seen(),
            "nodes": self.nodes,
            "attention_kernels": dict(self.kernels),
        }


class TensorrtRuntime(CudaRuntime):
    """ONNX Runtime's TensorRT execution provider: each program's engine is built once and kept while the runtime lives.

    An engine takes 1 x 1 up to the shape that is timed, and is tuned for that. ONNX Runtime names engines after the
    graph's node names, which networks of different sizes share: each program has a folder of its own.
    """

    name = "tensorrt"
    provider = TENSORRT

    def __init__(self, target: Target, *, cuda_graph: bool = True) -> None:
        """As the CUDA provider's; TensorRT itself may be missing or too old as well."""
        self._cache = tempfile.TemporaryDirectory(prefix="paretoc-tensorrt-", ignore_cleanup_errors=True)
        self._engines: dict[tuple[Program, Workload], Path] = {}
        super().__init__(target, cuda_graph=cuda_graph)

    def _load_libraries(self, ort: Any) -> None:
        """Importing TensorRT loads its libraries, where ONNX Runtime finds them."""
        super()._load_libraries(ort)
        tensorrt(ort.cuda_version).check(_tensorrt_version())

    def _options(self, job: _Job) -> Any:
        """The engine's own range of shapes; it works them out on the GPU."""
        return session_options(job.workload.threads)

    def _providers(self, job: _Job, *, cuda_graph: bool) -> list[Provider]:
        root, precision = Path(self._cache.name), job.workload.precision
        shapes = {name: array.shape for name, array in job.inputs.items()}
        options = {
            "device_id": self.watch.ordinal,
            "trt_fp16_enable": precision == "fp16",
            "trt_bf16_enable": precision == "bf16",
            "trt_int8_enable": precision == STATIC,
            "trt_cuda_graph_enable": cuda_graph,
            "trt_engine_cache_enable": True,
            "trt_engine_cache_path": self._engines.setdefault(job.key, root / str(len(self._engines))),
            "trt_timing_cache_enable": True,
            "trt_timing_cache_path": root,
            "trt_profile_min_shapes": _listed({name: (1,) * len(shape) for name, shape in shapes.items()}),
            "trt_profile_opt_shapes": _listed(shapes),
            "trt_profile_max_shapes": _listed(shapes),
        }
        return [(TENSORRT, options), *super()._providers(job, cuda_graph=False)]


def _listed(shapes: dict[str, tuple[int, ...]]) -> str:
    """As TensorRT's provider reads shapes: `input_ids:1x128,attention_mask:1x128`."""
    return ",".join(f"{name}:{'x'.join(map(str, shape))}" for name, shape in shapes.items())


def _tensorrt_version() -> str | None:
    try:
        return str(importlib.import_module("tensorrt").__version__)
    except (ImportError, OSError):
        return None


def _missing_library(ort: Any, provider: str) -> str | None:
    """The first library that a provider needs and the system does not find, or None."""
    kind = provider.removesuffix("ExecutionProvider").lower()
    try:
        ctypes.CDLL(str(Path(ort.__file__).parent / "capi" / f"libonnxruntime_providers_{kind}.so"))
    except OSError as error:
        missing = re.match(r"(\S+): cannot open shared object file", str(error))
        return missing[1] if missing else None
    return None
