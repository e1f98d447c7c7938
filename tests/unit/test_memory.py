"""Memory: real processes that serve small graphs, and models fitted to processes whose memory is a known sum."""

import json
import os
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from compiler.costing import dimensions_of
from compiler.slicing import build_skeleton
from profilers import Dimensions, LayerSizes, Program, Workload
from profilers import memory as memory_module
from profilers import memory_model as model_module
from profilers.memory import GpuMemoryUse, MemoryUse, Residency, measure_gpu_memory, measure_peak_memory
from profilers.memory_model import (
    MemoryModel,
    NetworkBytes,
    Phase,
    SavingError,
    counts_of,
    fit_stacks,
    measure_memory_model,
    modelled_memory,
)
from targets import GpuState, Target
from targets import nvml as nvml_module
from targets.errors import InputError, TargetError
from targets.fingerprint import measure_fingerprint
from tests.tiny import tiny_checkpoint

MB = 10**6
DIMS = Dimensions(layers=4, heads=6, ffn_units=192, hidden_size=96, head_size=16, vocabulary=500)
ASKED = Workload(batch=2, tokens=40)
NETWORK = NetworkBytes(dimensions=DIMS, stem_parameters=100_000, workload=ASKED)
CPU, A10G = Target.parse("cpu"), Target.parse("a10g")
HERE = measure_fingerprint(Target.parse("null"))
NONE = LayerSizes(0, 0)


def random_stacks(n=12):
    rng = np.random.default_rng(3)
    return [tuple(LayerSizes(int(rng.integers(0, 7)), int(rng.integers(0, 193))) for _ in range(4)) for _ in range(n)]


CHECKS = random_stacks()


# --- one process


def write_product(path, side):
    """y = x @ w with w float32 [side, side], stored inside the file."""
    weight = numpy_helper.from_array(np.ones((side, side), dtype=np.float32), "w")
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["rows", side]) for n in ("x", "y")]
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", ends[:1], ends[1:], [weight])
    onnx.save_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10), path)
    return {"x": np.ones((2, side), dtype=np.float32)}


@pytest.mark.timeout(120)
def test_a_fresh_process_takes_what_its_weights_take(tmp_path):
    uses = {}
    for side in (256, 3072):
        inputs = write_product(tmp_path / "net.onnx", side)
        uses[side] = measure_peak_memory(tmp_path / "net.onnx", ASKED, inputs, processes=2)
    small, large = uses[256], uses[3072]
    weights = 4 * (3072**2 - 256**2)
    assert len(large.processes) == 2
    for process in (*small.processes, *large.processes):
        assert process.before_bytes <= process.before_peak_bytes <= process.loading_peak_bytes <= process.peak_bytes
        assert process.before_bytes < process.steady_bytes <= process.peak_bytes
    assert large.before_bytes == pytest.approx(small.before_bytes, rel=0.05)
    assert 0.98 * weights < large.steady_bytes - small.steady_bytes < 2.2 * weights
    assert 1.98 * weights < large.peak_bytes - small.peak_bytes < 3.2 * weights, "the file's bytes and their first copy"


# a small process of its own: what the kernel counts for a child starts with the memory of the process that forked it
WAIT = """
import os, sys
pid = os.spawnv(os.P_NOWAIT, sys.executable, [sys.executable, *sys.argv[1:]])
print("\\n", os.wait4(pid, 0)[2].ru_maxrss * 1024)
"""


def test_the_peak_is_what_the_kernel_tells_the_parent(tmp_path):
    np.savez(tmp_path / "in.npz", **write_product(tmp_path / "net.onnx", 3072))
    child = ["-c", memory_module._SERVE_ONCE, tmp_path / "net.onnx", tmp_path / "in.npz", "1", "2"]
    told, counted = subprocess.run(
        [sys.executable, "-c", WAIT, *child], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert json.loads(told)["served"]["peak"] == pytest.approx(int(counted), rel=0.02)


def test_the_process_holds_nothing_but_numpy_and_the_runtime(tmp_path):
    np.savez(tmp_path / "in.npz", **write_product(tmp_path / "net.onnx", 16))
    code = "import sys; from profilers.serve_once import main; main(); print(*sys.modules, file=sys.stderr)"
    arguments = [tmp_path / "net.onnx", tmp_path / "in.npz", "1", "1"]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stderr.split()}
    assert {"numpy", "onnxruntime"} <= loaded
    assert not loaded & {"torch", "transformers", "onnx", "scipy", "compiler", "pynvml"}


def test_a_process_that_fails_says_why(tmp_path):
    (tmp_path / "net.onnx").write_bytes(b"no graph")
    with pytest.raises(TargetError, match=r"served net.onnx ended with 1\n.*net.onnx") as refused:
        measure_peak_memory(tmp_path / "net.onnx", ASKED, {"x": np.ones(1)}, processes=1)
    assert str(refused.value).count("\n") == 1


def test_without_proc_memory_is_not_available(tmp_path, monkeypatch):
    monkeypatch.setattr(memory_module, "STATUS", tmp_path / "status")
    with pytest.raises(TargetError, match="memory is not available"):
        measure_peak_memory(tmp_path / "net.onnx", ASKED, {})


def test_the_worst_process_counts_figure_by_figure():
    one = Residency(before_peak_bytes=5, before_bytes=4, loading_peak_bytes=9, peak_bytes=9, steady_bytes=7)
    other = Residency(before_peak_bytes=4, before_bytes=4, loading_peak_bytes=8, peak_bytes=11, steady_bytes=11)
    use = MemoryUse(processes=(one, other))
    assert (use.before_bytes, use.loading_peak_bytes, use.peak_bytes, use.steady_bytes) == (4, 9, 11, 11)


# --- closed forms


def test_weights_are_the_parameters_of_the_sliced_network(tmp_path):
    checkpoint = tiny_checkpoint(tmp_path)
    a = checkpoint.architecture
    network = NetworkBytes(dimensions=dimensions_of(a), stem_parameters=a.stem_parameters, workload=ASKED)
    shapes = [[(a.heads, a.ffn_units)] * 3, [(1, 7), (0, 48), (2, 0)], [(0, 0)] * 3, [(3, 1), (0, 0), (4, 20)]]
    stacks = [tuple(LayerSizes(*sizes) for sizes in shape) for shape in shapes]
    counted = [sum(p.numel() for p in build_skeleton(checkpoint.model, a, s).parameters()) for s in stacks]
    assert network.weights(*counts_of(stacks)) == pytest.approx(np.multiply(counted, 4))
    in_8_bits = replace(network, workload=replace(ASKED, precision="int8"))
    assert in_8_bits.weights(*counts_of(stacks)) == pytest.approx(counted)


@pytest.mark.parametrize(
    ("layer", "values_a_token"),
    [((6, 0), 6 * (4 * 16 + 40)), ((0, 192), 3 * 192), ((6, 192), 624), ((5, 192), 576), ((0, 0), 0)],
)
def test_activations_are_those_of_the_dearest_sub_block(layer, values_a_token):
    stack = (LayerSizes(1, 3), LayerSizes(*layer), NONE, NONE) if any(layer) else (NONE,) * 4
    expected = pytest.approx([4 * 2 * 40 * values_a_token])
    assert NETWORK.activations(*counts_of([stack])) == expected
    traffic = replace(NETWORK, workload=replace(ASKED, tokens=7, lengths=(12, 40, 5)))
    assert traffic.activations(*counts_of([stack])) == expected, "the longest request decides"


def test_networks_to_fit_on_tell_weights_from_activations():
    assert np.linalg.matrix_rank(NETWORK.saved(*counts_of(fit_stacks(DIMS)))) == 2
    assert all(len(stack) == DIMS.layers for stack in fit_stacks(DIMS))


# --- the model


class Machine:
    """Processes whose memory is a known sum of the sizes in their file; `off` is what a network takes beyond it."""

    def __init__(self, monkeypatch, off=lambda _: 0):
        self.off, self.served = off, []
        monkeypatch.setattr(model_module, "measure_peak_memory", self.measure)

    def write(self, stack, path):
        path.write_text(json.dumps(stack))

    def truth(self, stack):
        """Loading and serving, in bytes."""
        weights, activations = NETWORK.weights(*counts_of([stack]))[0], NETWORK.activations(*counts_of([stack]))[0]
        return 60 * MB + 1.02 * weights, 59 * MB + 1.6 * weights + 2.5 * activations + self.off(stack)

    def measure(self, path, workload, inputs, *, processes):
        assert workload == ASKED
        assert list(inputs) == ["ids"]
        stack = tuple(LayerSizes(*sizes) for sizes in json.loads(path.read_text()))
        self.served.append((stack, processes))
        loading, serving = self.truth(stack)
        process = Residency(
            before_peak_bytes=1, before_bytes=1, loading_peak_bytes=loading, peak_bytes=max(loading, serving),
            steady_bytes=serving,
        )  # fmt: skip
        return MemoryUse(processes=(process,) * processes)

    def model(self, checks=CHECKS, **arguments):
        return measure_memory_model(CPU, NETWORK, HERE, self.write, {"ids": np.ones(1)}, checks=checks, **arguments)


def test_the_model_recovers_a_machine_that_keeps_to_its_form(monkeypatch):
    machine = Machine(monkeypatch)
    model = machine.model()
    truth = np.array([machine.truth(stack) for stack in CHECKS])
    assert len(set(np.argmax(truth, axis=1))) == 2, "loading is the peak of some and serving that of others"
    assert model.peak_bytes(*counts_of(CHECKS)) == pytest.approx(truth.max(axis=1))
    assert model.steady_bytes(*counts_of(CHECKS)) == pytest.approx(truth[:, 1])
    assert model.loading.per_activation_byte == 0
    for error in (model.peak_error, model.steady_error):
        assert error.check_nets == len(CHECKS)
        assert error.max_of_dense < 1e-9


def test_the_error_is_that_of_networks_it_never_saw(monkeypatch):
    fitted = {DIMS.dense, *fit_stacks(DIMS)}
    model = Machine(monkeypatch, off=lambda stack: 0 if stack in fitted else -10 * MB).model()
    dense = Machine(monkeypatch).truth(DIMS.dense)[1]
    assert model.steady_error.max_of_dense == pytest.approx(10 * MB / dense)
    savings = [dense - check["measured_steady_bytes"] for check in model.checks]
    assert model.steady_error.mape == pytest.approx(np.mean([10 * MB / saving for saving in savings]))
    assert [check["predicted_steady_bytes"] - check["measured_steady_bytes"] for check in model.checks] == (
        pytest.approx([10 * MB] * len(CHECKS))
    )


def test_every_network_is_measured_once_and_the_dense_one_in_twice_as_many_processes(monkeypatch):
    machine, told = Machine(monkeypatch), []
    model = machine.model(checks=[DIMS.dense, *CHECKS], processes=3, progress=told.append)
    assert machine.served == [(DIMS.dense, 6), *((s, 3) for s in (*fit_stacks(DIMS), *CHECKS))]
    assert len(model.checks) == len(CHECKS), "the dense network saves nothing against itself"
    assert told == sorted(told)
    assert told[-1] == 1


def test_no_checks_no_error(monkeypatch):
    model = Machine(monkeypatch).model(checks=[])
    assert (model.peak_error, model.steady_error, model.checks) == (None, None, ())


def test_no_network_is_predicted_to_take_more_for_being_smaller():
    saved = np.array([[10.0, 1.0], [20.0, 8.0], [30.0, 2.0]]) * MB
    phase = Phase.fit(100 * MB, 100 * MB - saved @ np.array([2.0, -0.5]), saved)
    assert phase.per_activation_byte == 0
    assert 0 < phase.per_weight_byte < 2
    assert phase.predict(np.zeros((1, 2))) == pytest.approx([100 * MB]), "the dense network is met exactly"


def test_saving_error_by_hand():
    error = SavingError.of(100.0, np.array([52.0, 80.0, 94.0]), np.array([50.0, 75.0, 97.0]))
    assert (error.check_nets, error.saving_nets) == (3, 2)
    assert error.mape == pytest.approx((2 / 50 + 5 / 25) / 2)
    assert error.max == pytest.approx(0.2)
    assert error.max_of_dense == pytest.approx(0.05)
    assert SavingError.of(100.0, np.array([98.0]), np.array([99.0])).mape is None


def test_a_modelled_number_says_so(monkeypatch):
    modelled = modelled_memory(A10G, NETWORK, HERE)
    weights, activations = NETWORK.weights(*counts_of(CHECKS)), NETWORK.activations(*counts_of(CHECKS))
    assert modelled.peak_bytes(*counts_of(CHECKS)) == pytest.approx(weights + activations)
    assert modelled.estimate(CHECKS[0]).source == "roofline"
    null = modelled_memory(A10G, replace(NETWORK, workload=replace(ASKED, runtime="null")), HERE)
    assert null.estimate(CHECKS[0]).source == "null"
    measured = Machine(monkeypatch).model(checks=[])
    assert measured.estimate(CHECKS[0]).source == "interpolated"
    assert measured.estimate(CHECKS[0]).value == measured.peak_bytes(*counts_of(CHECKS[:1]))[0]


# --- what is read back, and what is refused


def test_json_round_trip(monkeypatch):
    model = Machine(monkeypatch).model()
    back = MemoryModel.from_json(json.loads(json.dumps(model.to_json())))
    assert back == replace(model, seconds=back.seconds)
    assert list(back.peak_bytes(*counts_of(CHECKS))) == list(model.peak_bytes(*counts_of(CHECKS)))
    unchecked = modelled_memory(CPU, replace(NETWORK, workload=replace(ASKED, lengths=(40, 9))), HERE)
    assert MemoryModel.from_json(unchecked.to_json()) == unchecked


def _broken(*path, value=None, drop=False):
    data = modelled_memory(CPU, NETWORK, HERE).to_json()
    place = data
    for key in path[:-1]:
        place = place[key]
    if drop:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return data


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        ([], "not a paretoc memory model"),
        (_broken("kind", value="paretoc cost table"), "not a paretoc memory model"),
        (_broken("schema", value=0), "schema 0, this version reads 1"),
        (_broken("source", value="guessed"), "'guessed' is none of"),
        (_broken("loading", "per_weight_byte", value=-1.0), "a phase cannot have"),
        (_broken("serving", "dense_bytes", value=float("nan")), "a phase cannot have"),
        (_broken("serving", "dense_bytes", value="much"), "damaged"),
        (_broken("serving", "dense_bytes", drop=True), "damaged"),
        (_broken("network", "dimensions", "heads", drop=True), "damaged"),
        (_broken("network", "workload", value=[]), "damaged"),
        (_broken("peak_error", value={"mape": 0.1}), "damaged"),
        (_broken("fingerprint", "isa", drop=True), "not a fingerprint"),
    ],
)
def test_what_is_no_model_is_refused(data, complaint):
    with pytest.raises(InputError, match=complaint):
        MemoryModel.from_json(data, "x.json")


# --- a GPU that is not there


class Driver:
    """One GPU, before and while the runtime holds a network on it."""

    def __init__(self, runtime, before, loaded=None):
        self.runtime, self.before, self.loaded = runtime, before, loaded or before

    def device_count(self):
        return 1

    def state(self, _index):
        return self.loaded if self.runtime.log[-1:] == ["sample 4"] else self.before


class Runtime:
    def __init__(self):
        self.log, self.asked = [], []

    @contextmanager
    def open(self, _program, workload):
        self.asked.append(workload)
        self.log.append("open")
        yield SimpleNamespace(sample=lambda count: self.log.append(f"sample {count}"))
        self.log.append("close")


def not_built(*_):
    pytest.fail("nothing is built")


PROGRAM = Program(name="n", stack=DIMS.dense, dimensions=DIMS, graph=not_built, module=not_built, inputs=not_built)


def gpu(**changes):
    return GpuState(**({"index": 0, "name": "NVIDIA A10G", "mig": False} | changes))


@pytest.fixture
def cuda(monkeypatch):
    import torch

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    runtime = Runtime()
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda i: runtime.log.append(f"forget {i}"))
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda _: 300 * MB)
    return runtime


def test_a_gpu_is_looked_at_while_the_network_is_loaded(cuda):
    loaded = gpu(memory_used_bytes=1400 * MB, process_memory_bytes=800 * MB)
    driver = Driver(cuda, gpu(memory_used_bytes=500 * MB, process_memory_bytes=100 * MB), loaded)
    use = measure_gpu_memory(cuda, PROGRAM, replace(ASKED, runtime="torch"), A10G, driver)
    assert use == GpuMemoryUse(allocator_peak_bytes=300 * MB, process_bytes=800 * MB, growth_bytes=900 * MB)
    assert cuda.log == ["forget 0", "open", "sample 4", "close"]


def test_of_traffic_a_gpu_holds_the_longest(cuda):
    measure_gpu_memory(cuda, PROGRAM, replace(ASKED, lengths=(12, 40, 5)), A10G, Driver(cuda, gpu()))
    assert cuda.asked == [replace(ASKED, tokens=40, lengths=())]


def test_only_pytorchs_own_networks_need_its_allocator(cuda, monkeypatch):
    """ONNX Runtime's GPU package beside a PyTorch without CUDA."""
    import torch

    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", not_built)
    loaded = gpu(process_memory_bytes=800 * MB)
    use = measure_gpu_memory(cuda, PROGRAM, replace(ASKED, runtime="onnxruntime"), A10G, Driver(cuda, gpu(), loaded))
    assert (use.allocator_peak_bytes, use.process_bytes) == (None, 800 * MB)


def test_what_a_gpu_does_not_tell_is_none(cuda):
    use = measure_gpu_memory(cuda, PROGRAM, ASKED, A10G, Driver(cuda, gpu()))
    assert use == GpuMemoryUse(allocator_peak_bytes=None, process_bytes=None, growth_bytes=None)


def test_a_gpu_that_is_not_here_is_refused(cuda):
    with pytest.raises(TargetError, match="memory is not available: NVML sees Tesla T4"):
        measure_gpu_memory(cuda, PROGRAM, ASKED, A10G, Driver(cuda, gpu(name="Tesla T4")))
    assert cuda.log == []


@pytest.mark.parametrize(("pid", "used", "expected"), [("own", 7 * MB, 7 * MB), ("own", None, None), (1, 9 * MB, None)])
def test_the_driver_tells_this_process_from_others(pid, used, expected):
    own = os.getpid()
    running = [SimpleNamespace(pid=own if pid == "own" else pid, usedGpuMemory=used)]
    binding = SimpleNamespace(nvmlDeviceGetComputeRunningProcesses=lambda _: running)
    assert nvml_module._DriverNvml(binding)._process_memory_bytes(0) == expected
