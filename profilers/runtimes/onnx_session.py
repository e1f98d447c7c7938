"""One ONNX Runtime session: opened, fed, timed, and asked where its nodes ran."""

import json
import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO

from numpy.typing import NDArray

from profilers.graph import GraphSource
from profilers.runtimes.faults import checked
from profilers.runtimes.placement import ATTENTION, CPU, Node, ran_nodes
from profilers.runtimes.requirements import ONNX_RUNTIME
from targets.errors import TargetError

Arrays = Mapping[str, NDArray[Any]]
Provider = str | tuple[str, Mapping[str, Any]]
_VERBOSE, _WARNING, _ERROR = 0, 2, 3


def package() -> Any:
    """The onnxruntime module; TargetError where it is missing or too old."""
    try:
        import onnxruntime
    except ImportError as error:
        raise TargetError(f"ONNX Runtime is not installed ({error})\ninstall it: {ONNX_RUNTIME.install}") from None
    ONNX_RUNTIME.check(onnxruntime.__version__)
    return onnxruntime


def open_session(source: GraphSource, threads: int) -> Any:
    """An InferenceSession on the CPU provider with this many intra-op threads, all optimisations on."""
    return load(source, session_options(threads), [CPU])


def session_options(threads: int, fixed: Mapping[str, int] = MappingProxyType({})) -> Any:
    """Options of a session with this many intra-op threads, which rest between calls, and these dimensions fixed.

    Threads that spin on after a call take the cores from whoever runs next: with two live sessions of two threads each,
    first calls took twice as long; at rest they cost nothing, and a session alone is as fast.
    """
    options = package().SessionOptions()
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _ERROR
    for name, size in fixed.items():
        options.add_free_dimension_override_by_name(name, size)
    return options


def _graph_of(source: GraphSource) -> Any:
    """The graph of a file, without the weights beside it, or of bytes."""
    import onnx

    if isinstance(source, Path):
        return onnx.load_model(source, load_external_data=False).graph
    return onnx.load_model_from_string(source.proto).graph


def attentions_of(source: GraphSource) -> int:
    """How many Attention nodes a graph has: none where attention is spelt out."""
    return sum(node.op_type == ATTENTION for node in _graph_of(source).node)


def dimensions_of(source: GraphSource, inputs: Arrays) -> dict[str, int]:
    """The dimensions that a graph names, such as batch and tokens, at the sizes these inputs give them."""
    return {
        dimension.dim_param: size
        for value in _graph_of(source).input
        if value.name in inputs
        for dimension, size in zip(value.type.tensor_type.shape.dim, inputs[value.name].shape, strict=True)
        if dimension.dim_param
    }


def load(source: GraphSource, options: Any, providers: Sequence[Provider]) -> Any:
    """An InferenceSession on these providers. TargetError where ONNX Runtime went on without the first of them."""
    ort = package()
    graph: str | bytes = str(source) if isinstance(source, Path) else source.proto
    if not isinstance(source, Path):
        arrays = dict(source.weights)
        values = [ort.OrtValue.ortvalue_from_numpy(array) for array in arrays.values()]
        options.add_external_initializers(list(arrays), values)
    session = ort.InferenceSession(graph, options, providers=providers, enable_fallback=0)
    first = providers[0] if isinstance(providers[0], str) else providers[0][0]
    if session.get_providers()[0] != first:
        raise TargetError(
            f"{first} did not start; ONNX Runtime went on with {', '.join(session.get_providers())}\n"
            "its log above says why: a driver, CUDA or cuDNN that it was not built for"
        )
    return session


class HostSession:
    """Inputs and outputs in host memory, as a CPU is served."""

    def __init__(self, session: Any, inputs: Arrays) -> None:
        self.session, self.feed = session, dict(inputs)

    def sample(self, count: int) -> list[float]:
        """Seconds of `count` calls by the wall clock."""
        run, feed, clock = self.session.run, self.feed, time.perf_counter
        samples = []
        for _ in range(count):
            start = clock()
            run(None, feed)
            samples.append(clock() - start)
        return checked(samples)

    def outputs(self) -> Arrays:
        """What the graph answers, by output name."""
        names = [output.name for output in self.session.get_outputs()]
        return dict(zip(names, self.session.run(None, self.feed), strict=True))


class BoundSession:
    """Inputs and outputs stay in device memory at fixed addresses, which a captured graph needs: nothing is copied."""

    def __init__(self, session: Any, inputs: Arrays, device: tuple[str, int]) -> None:
        """`device` is ONNX Runtime's name and number of it. The first run finds the shapes of the outputs."""
        value = package().OrtValue.ortvalue_from_numpy
        self.session, self.binding = session, session.io_binding()
        self.names = [output.name for output in session.get_outputs()]
        for name, array in inputs.items():
            self.binding.bind_ortvalue_input(name, value(array, *device))
        for name in self.names:
            self.binding.bind_output(name, *device)
        session.run_with_iobinding(self.binding, _uncaptured())
        for name, buffer in zip(self.names, self.binding.get_outputs(), strict=True):
            self.binding.bind_ortvalue_output(name, buffer)

    def run(self) -> None:
        """One call, finished when it returns."""
        self.session.run_with_iobinding(self.binding)
        self.binding.synchronize_outputs()

    def sample(self, count: int) -> list[float]:
        """Seconds of `count` calls by the wall clock, each until the device has finished."""
        run, clock = self.run, time.perf_counter
        samples = []
        for _ in range(count):
            start = clock()
            run()
            samples.append(clock() - start)
        return checked(samples)

    def outputs(self) -> Arrays:
        """What the graph answers, by output name."""
        self.run()
        return {name: value.numpy() for name, value in zip(self.names, self.binding.get_outputs(), strict=True)}


def _uncaptured() -> Any:
    options = package().RunOptions()
    options.add_run_config_entry("gpu_graph_id", "-1")
    return options


def profiled_run(
    source: GraphSource, options: Any, providers: Sequence[Provider], inputs: Arrays
) -> tuple[list[Node], str]:
    """The nodes of one run in a session of its own, and what it logged."""
    with tempfile.TemporaryDirectory() as folder:
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "nodes")
        session = load(source, options, providers)
        log = _verbose_run(session, inputs)
        profile = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    return ran_nodes(profile), log


def _verbose_run(session: Any, inputs: Arrays) -> str:
    """What ONNX Runtime logs in one run at its most talkative."""
    ort = package()
    ort.set_default_logger_severity(_VERBOSE)
    try:
        with _native_stderr() as file:
            session.run(None, dict(inputs))
            file.seek(0)
            return file.read().decode(errors="replace")
    finally:
        ort.set_default_logger_severity(_WARNING)


@contextmanager
def _native_stderr() -> Iterator[BinaryIO]:
    """What the process writes to its standard error, from C++ too, in a file instead."""
    kept = os.dup(2)
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 2)
        try:
            yield file
        finally:
            os.dup2(kept, 2)
            os.close(kept)
