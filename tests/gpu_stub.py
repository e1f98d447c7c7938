"""A GPU machine that is not there: a driver with the GPUs it is told, and ONNX Runtime whose GPU providers are the CPU."""

import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

from targets import GpuState

CPU, CUDA, TENSORRT = "CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"


class FakeNvml:
    """A driver; `states` are handed out one by one, the last one for ever."""

    def __init__(self, *states: GpuState, driver: str = "580.95.05") -> None:
        self.states, self.driver = list(states or [GPU]), driver

    def driver_version(self):
        return self.driver

    def cuda_version(self):
        return "13.0"

    def device_count(self):
        return 1

    def state(self, _index):
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        if isinstance(state, Exception):
            raise state
        return state


GPU = GpuState(
    index=0,
    name="NVIDIA A10G",
    uuid="GPU-0aaa",
    sm_clock_mhz=1695,
    sm_clock_max_mhz=1710,
    throttle_reasons=(),
    other_processes=(),
    mig=False,
)


def gpu(**changes) -> GpuState:
    return replace(GPU, **changes)


class PosingOrt(SimpleNamespace):
    """The installed onnxruntime under the name of its GPU package: records what a GPU would be asked.

    `placement(node, provider)` says where a node is reported to have run; `refuses` is raised by the first session that
    asks for a CUDA graph, `log` is what the native library writes while it runs.
    """

    def __init__(self, **changes) -> None:
        import onnxruntime as ort

        defaults = {
            "cuda_version": "13.0",
            "__version__": "1.31.1",
            "__file__": ort.__file__,
            "SessionOptions": ort.SessionOptions,
            "RunOptions": _RunOptions,
            "OrtValue": self,
            "real": ort,
            "providers": [TENSORRT, CUDA, CPU],
            "started": True,
            "placement": lambda _, provider: provider,
            "refuses": None,
            "log": "",
            "calls": [],
            "sessions": [],
        }
        super().__init__(**(defaults | changes))

    def get_available_providers(self):
        return self.providers

    def preload_dlls(self):
        print("Failed to load libcufft.so.12")

    def set_default_logger_severity(self, level):
        self.calls.append(("severity", level))

    def ortvalue_from_numpy(self, array, device="cpu", index=0):
        if device != "cpu":
            self.calls.append(("buffer", device, index, array.shape))
        return self.real.OrtValue.ortvalue_from_numpy(array)

    def InferenceSession(self, graph, options, providers, enable_fallback):  # noqa: N802
        assert enable_fallback == 0
        names = [p if isinstance(p, str) else p[0] for p in providers]
        asked = dict(p for p in providers if not isinstance(p, str))
        self.sessions.append(asked)
        graphs = any(asked.get(name, {}).get(key) for name, key in GRAPH_OPTIONS.items())
        if self.refuses is not None and graphs:
            error, self.refuses = self.refuses, None
            raise error
        session = self.real.InferenceSession(graph, options, providers=[CPU])
        return _PosingSession(self, session, names if self.started else [CPU])


GRAPH_OPTIONS = {CUDA: "enable_cuda_graph", TENSORRT: "trt_cuda_graph_enable"}


class _RunOptions:
    def __init__(self) -> None:
        self.entries = {}

    def add_run_config_entry(self, key, value):
        self.entries[key] = value


class _PosingSession:
    def __init__(self, ort, session, names) -> None:
        self.ort, self.session, self.names = ort, session, names

    def get_providers(self):
        return self.names

    def get_outputs(self):
        return self.session.get_outputs()

    def io_binding(self):
        return _PosingBinding(self.ort, self.session.io_binding())

    def run(self, names, feed):
        os.write(2, self.ort.log.encode())
        return self.session.run(names, feed)

    def run_with_iobinding(self, binding, options=None):
        self.ort.calls.append(("run", None if options is None else options.entries))
        self.session.run_with_iobinding(binding.binding)

    def end_profiling(self):
        path = Path(self.session.end_profiling())
        events = json.loads(path.read_text())
        for event in events:
            if event["cat"] == "Node":
                args = event["args"]
                args["provider"] = self.ort.placement(args["op_name"], self.names[0])
        if self.names[0] == TENSORRT:
            events = [_engine(events), *(e for e in events if e["cat"] == "Node" and e["args"]["provider"] != TENSORRT)]
        path.write_text(json.dumps(events))
        return str(path)


def _engine(events):
    """What TensorRT's provider shows of all the nodes it took: one."""
    last = next(e for e in reversed(events) if e["cat"] == "Node")
    args = last["args"] | {"op_name": "TRTKernel_graph_main_graph_1_0", "provider": TENSORRT}
    return last | {"name": "TRTKernel_graph_main_graph_1_0_0_kernel_time", "args": args}


class _PosingBinding:
    def __init__(self, ort, binding) -> None:
        self.ort, self.binding = ort, binding

    def bind_ortvalue_input(self, name, value):
        self.ort.calls.append(("input", name))
        self.binding.bind_ortvalue_input(name, value)

    def bind_output(self, name, device, index):
        self.ort.calls.append(("output", name, device, index))
        self.binding.bind_output(name)

    def bind_ortvalue_output(self, name, value):
        self.ort.calls.append(("fixed output", name))
        self.binding.bind_ortvalue_output(name, value)

    def synchronize_outputs(self):
        self.ort.calls.append(("wait",))
        self.binding.synchronize_outputs()

    def get_outputs(self):
        return self.binding.get_outputs()


def pose(monkeypatch, nvml=None, **changes) -> PosingOrt:
    """Make this machine one with a GPU until the test ends."""
    ort = PosingOrt(**changes)
    nvml = FakeNvml() if nvml is None else nvml
    monkeypatch.setattr("profilers.health.open_nvml", lambda: nvml)
    monkeypatch.setattr("profilers.runtimes.onnx_gpu.ctypes", SimpleNamespace(CDLL=lambda _: None))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setitem(sys.modules, "onnxruntime", ort)
    monkeypatch.setitem(sys.modules, "tensorrt", SimpleNamespace(__version__="10.14.1.48"))
    return ort
