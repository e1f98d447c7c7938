"""ONNX Runtime on the CPU: the graphs that ship, in the runtime that will serve them."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from profilers.graph import GraphSource
from profilers.program import Program
from profilers.workload import Workload
from targets import Target
from targets.errors import TargetError


def _package() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise TargetError(f"ONNX Runtime is not installed ({error})\ninstall it: pip install 'paretoc[cpu]'") from None
    return onnxruntime


def open_session(source: GraphSource, threads: int) -> Any:
    """An InferenceSession on the CPU provider with this many intra-op threads, all optimisations on."""
    ort = _package()
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    providers = ["CPUExecutionProvider"]
    if isinstance(source, Path):
        return ort.InferenceSession(str(source), options, providers=providers)
    arrays = dict(source.weights)
    values = [ort.OrtValue.ortvalue_from_numpy(array) for array in arrays.values()]
    options.add_external_initializers(list(arrays), values)
    return ort.InferenceSession(source.proto, options, providers=providers)


class _OrtSession:
    def __init__(self, session: Any, inputs: Mapping[str, NDArray[Any]]) -> None:
        self.session = session
        self.feed = dict(inputs)

    def sample(self, count: int) -> list[float]:
        run, feed, clock = self.session.run, self.feed, time.perf_counter
        samples = []
        for _ in range(count):
            start = clock()
            run(None, feed)
            samples.append(clock() - start)
        return samples

    def outputs(self) -> Mapping[str, NDArray[Any]]:
        names = [output.name for output in self.session.get_outputs()]
        return dict(zip(names, self.session.run(None, self.feed), strict=True))


class OnnxRuntime:
    """ONNX Runtime's CPU execution provider."""

    name = "onnxruntime"
    source = "measured"

    def __init__(self, target: Target) -> None:
        if target.kind != "cpu":
            raise TargetError(
                f"measuring {target.name} with ONNX Runtime's CUDA provider is not supported yet\n"
                "measure it with --runtime torch"
            )
        _package()

    @contextmanager
    def open(self, program: Program, workload: Workload) -> Iterator[_OrtSession]:
        """A session with its own thread pool, gone when the context is left."""
        session = open_session(program.graph(), workload.threads)
        try:
            yield _OrtSession(session, program.inputs(workload.batch, workload.tokens))
        finally:
            del session
