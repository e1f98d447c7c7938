"""GPU runtimes without a GPU: what they ask of ONNX Runtime, what they refuse, and what they say about the device."""

import json
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from profilers import Graph, Workload, make_runtime
from profilers.health import GpuWatch
from profilers.runtimes import OutOfMemoryError
from profilers.runtimes.faults import checked, device_faults, said
from profilers.runtimes.onnx_gpu import CudaRuntime, TensorrtRuntime
from profilers.runtimes.onnx_session import BoundSession, load, session_options
from profilers.runtimes.placement import Node, attention_kernels, check_placement, ran_nodes
from profilers.runtimes.requirements import ONNX_RUNTIME, ONNX_RUNTIME_GPU, check_driver, tensorrt
from profilers.runtimes.torch_runtime import NOT_SERVING, TorchRuntime
from targets import Target
from targets.errors import TargetError
from tests.gpu_stub import CPU, CUDA, TENSORRT, FakeNvml, gpu, pose
from tests.graphs import encoder, encoder_program, huge_program

A10G = Target.parse("a10g:fp32")
ASKED = Workload(batch=2, tokens=7, precision="fp32", runtime="onnxruntime")
ATTENTION = "attention_0"


def answers(runtime, net, asked=ASKED):
    with runtime.open(net, asked) as session:
        return session.outputs()["token_embeddings"]


# --- the CUDA provider ---


def test_cuda_answers_what_the_cpu_answers_and_asks_for_a_graph_on_its_device(monkeypatch):
    expected = answers(make_runtime("onnxruntime", Target.parse("cpu")), encoder_program())
    ort = pose(monkeypatch)
    runtime = make_runtime("onnxruntime", A10G)
    np.testing.assert_array_equal(answers(runtime, encoder_program()), expected)
    checked_session, timed_session = ort.sessions
    assert checked_session == {CUDA: {"device_id": 0, "enable_cuda_graph": 0}}
    assert timed_session == {CUDA: {"device_id": 0, "enable_cuda_graph": 1}}
    assert runtime.describe()["mode"] == f"{CUDA}, CUDA graph"
    assert runtime.describe()["warnings"] == []


def test_buffers_are_made_once_and_nothing_is_bound_while_time_is_taken(monkeypatch):
    ort = pose(monkeypatch)
    with make_runtime("onnxruntime", A10G).open(encoder_program(), ASKED) as session:
        kinds = [call[0] for call in ort.calls if call[0] != "severity"]
        assert kinds == ["buffer", "input", "output", "run", "fixed output", "run", "wait"]
        assert ("buffer", "cuda", 0, (2, 7)) in ort.calls
        assert [call[1] for call in ort.calls if call[0] == "run"] == [{"gpu_graph_id": "-1"}, None], "shapes first"
        ort.calls.clear()
        session.sample(3)
    assert ort.calls == [("run", None), ("wait",)] * 3


def test_a_bound_session_answers_in_the_same_memory_every_time():
    session = load(Graph(proto=encoder(), weights={}), session_options(1), [CPU])
    inputs = encoder_program().inputs(2, 7)
    bound = BoundSession(session, inputs, ("cpu", 0))
    places = [value.data_ptr() for value in bound.binding.get_outputs()]
    bound.sample(3)
    assert [value.data_ptr() for value in bound.binding.get_outputs()] == places
    (expected,) = session.run(None, inputs)
    np.testing.assert_array_equal(bound.outputs()["token_embeddings"], expected)


def test_each_program_is_looked_into_once_per_workload(monkeypatch):
    ort = pose(monkeypatch)
    runtime, net = make_runtime("onnxruntime", A10G), encoder_program()
    for asked in (ASKED, ASKED, Workload(batch=1, tokens=3)):
        answers(runtime, net, asked)
    graphs = [session[CUDA]["enable_cuda_graph"] for session in ort.sessions]
    assert graphs == [0, 1, 1, 0, 1]


def test_each_length_of_traffic_has_a_graph_of_its_own_shape(monkeypatch):
    ort = pose(monkeypatch)
    runtime = make_runtime("onnxruntime", A10G)
    with runtime.open(encoder_program(), replace(ASKED, lengths=(7, 3, 7))) as session:
        assert [made[CUDA]["enable_cuda_graph"] for made in ort.sessions] == [0, 1, 0, 1, 1], "a shape is checked once"
        assert [call[3] for call in ort.calls if call[0] == "buffer"] == [(2, 7), (2, 3), (2, 7)]
        ort.calls.clear()
        session.sample(2)
    assert ort.calls == [("run", None), ("wait",)] * 6
    assert runtime.describe()["warnings"] == []


def test_a_graph_that_the_provider_refuses_is_given_up_for_good_and_said(monkeypatch):
    text = "[ONNXRuntimeError] : 1 : FAIL : This session cannot use the graph capture feature ; GPU=0 ; hostname=secret"
    ort = pose(monkeypatch, refuses=RuntimeError(text))
    runtime = make_runtime("onnxruntime", A10G)
    for name in ("one", "two"):
        answers(runtime, encoder_program(name=name))
    assert [session[CUDA]["enable_cuda_graph"] for session in ort.sessions] == [0, 1, 0, 0, 0]
    described = runtime.describe()
    assert described["mode"] == CUDA
    assert described["warnings"] == ["timed without CUDA graphs: This session cannot use the graph capture feature"]


def test_without_memory_the_graph_is_not_to_blame(monkeypatch):
    pose(monkeypatch, refuses=RuntimeError("CUDA failure 2: out of memory ; GPU=0 ; hostname=secret"))
    runtime = make_runtime("onnxruntime", A10G)
    with pytest.raises(OutOfMemoryError, match=r"net does not fit .* batch 2, 7 tokens, fp32") as caught:
        answers(runtime, encoder_program())
    assert "secret" not in str(caught.value)
    assert runtime.cuda_graph
    answers(runtime, encoder_program())


# --- no silent fallback ---


def test_a_captured_graph_has_fixed_shapes_and_so_nothing_left_for_the_cpu(monkeypatch):
    pose(monkeypatch, placement=lambda ran, provider: CPU if ran in {"Shape", "Concat"} else provider)
    runtime = make_runtime("onnxruntime", A10G)
    expected = answers(runtime, encoder_program())
    assert runtime.describe()["nodes"] == {CUDA: 6}
    runtime = CudaRuntime(A10G, cuda_graph=False)
    np.testing.assert_array_equal(answers(runtime, encoder_program()), expected)
    assert runtime.describe()["nodes"] == {CUDA: 6, CPU: 2}
    assert runtime.describe()["mode"] == CUDA


def test_a_provider_that_did_not_start_is_refused(monkeypatch):
    pose(monkeypatch, started=False)
    with pytest.raises(TargetError, match=f"{CUDA} did not start; ONNX Runtime went on with {CPU}"):
        answers(make_runtime("onnxruntime", A10G), encoder_program())


@pytest.mark.parametrize(("op", "node"), [("Attention", ATTENTION), ("MatMul", "matmul_0"), ("Gather", "embed")])
@pytest.mark.parametrize("name", ["onnxruntime", "tensorrt"])
def test_a_node_that_fell_back_to_the_cpu_is_named(monkeypatch, name, op, node):
    pose(monkeypatch, placement=lambda ran, provider: CPU if ran == op else provider)
    runtime = make_runtime(name, A10G)
    with pytest.raises(TargetError, match=f"{op} node {node} ran on {CPU}, not on {runtime.provider}\n.*--runtime"):
        answers(runtime, encoder_program())


def test_attention_left_out_of_the_engine_is_named_though_it_ran_on_the_gpu(monkeypatch):
    pose(monkeypatch, placement=lambda ran, provider: CUDA if ran == "Attention" else provider)
    with pytest.raises(TargetError, match=f"Attention node {ATTENTION} ran on {CUDA}, not on {TENSORRT}"):
        answers(make_runtime("tensorrt", A10G), encoder_program())


def real_profile(tmp_path, layers: int = 2):
    options = session_options(1)
    options.enable_profiling = True
    options.profile_file_prefix = str(tmp_path / "nodes")
    session = load(Graph(proto=encoder(layers), weights={}), options, [CPU])
    session.run(None, encoder_program().inputs(2, 7))
    return json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))


def test_a_real_profile_lists_every_node_with_its_provider_and_types(tmp_path):
    nodes = ran_nodes(real_profile(tmp_path))
    assert Counter(node.op for node in nodes) == {
        "Gather": 1, "Attention": 2, "MatMul": 2, "Shape": 1, "Concat": 1, "Reshape": 1,
    }  # fmt: skip
    assert {node.provider for node in nodes} == {CPU}
    attention = next(node for node in nodes if node.name == ATTENTION)
    assert attention.inputs == (("float", [2, 7, 8]),) * 3
    assert {node.op for node in nodes if not node.computes} == {"Shape", "Concat"}
    check_placement(nodes, CPU, 2, "fp32")


@pytest.mark.parametrize(
    ("provider", "attentions", "precision", "message"),
    [
        (CUDA, 2, "fp32", f"Gather node embed ran on {CPU}, not on {CUDA}"),
        (CPU, 3, "fp32", f"2 of 3 Attention nodes ran on {CPU}: it has no kernel"),
        (CPU, 2, "fp16", "Attention node attention_0 ran on float numbers, fp16 was asked for"),
    ],
)
def test_a_real_profile_of_something_else_is_refused(tmp_path, provider, attentions, precision, message):
    nodes = ran_nodes(real_profile(tmp_path))
    with pytest.raises(TargetError, match=message):
        check_placement(nodes, provider, attentions, precision)


def test_attention_that_onnx_runtime_fused_itself_is_no_fault(tmp_path):
    """Of graphs that spell attention out, older opsets and other exporters, ONNX Runtime makes Attention nodes."""
    check_placement(ran_nodes(real_profile(tmp_path)), CPU, 0, "fp32")


def test_attention_nodes_are_counted_in_the_graph_and_not_by_the_sizes_of_the_network(monkeypatch):
    """A file of the user's has no sizes, and where attention is spelt out there is no node to look for."""
    pose(monkeypatch)
    runtime = make_runtime("onnxruntime", A10G)
    answers(runtime, replace(encoder_program(), stack=()))
    assert runtime.describe()["attention_kernels"] == {"not told": 2}


def test_a_profile_of_shapes_alone_is_no_run_on_the_gpu():
    shape = Node("shape", "Shape", CPU, (("int64", [2, 7]),), (("int64", [1]),))
    with pytest.raises(TargetError, match=re.escape(f"fell back to {CPU} (1 nodes)")):
        check_placement([shape], TENSORRT, 0, "fp32")


def test_half_numbers_are_what_an_engine_makes_of_a_float_graph_itself(monkeypatch):
    pose(monkeypatch)
    half = Workload(batch=2, tokens=7, precision="fp16")
    with pytest.raises(TargetError, match="fp16 was asked for"):
        answers(make_runtime("onnxruntime", A10G), encoder_program(), half)
    assert answers(make_runtime("tensorrt", A10G), encoder_program(), half).shape == (2, 56)


LOG = """[V:onnxruntime] ONNX Attention: using Memory Efficient Attention (batch=1, q_seq=128, total_seq=128, past=no)
[V:onnxruntime] ONNX Attention: using Flash Attention (batch=1, q_seq=128, total_seq=128, past=no)
[V:onnxruntime] ONNX Attention: using Memory Efficient Attention (batch=1, q_seq=128, total_seq=128, past=no)
[V:onnxruntime] Attention: using unified unfused path (is_gqa=0, head_size=64, softcap=0)
"""


def test_the_kernels_of_attention_are_read_from_the_log(monkeypatch, capfd):
    kernels = {"Memory Efficient Attention": 2, "Flash Attention": 1, "unified unfused path": 1}
    assert attention_kernels(LOG, 4) == kernels
    assert attention_kernels(LOG, 6) == kernels | {"not told": 2}
    assert attention_kernels("", 0) == {}
    ort = pose(monkeypatch, log=LOG)
    runtime = make_runtime("onnxruntime", A10G)
    answers(runtime, encoder_program())
    assert runtime.describe()["attention_kernels"] == kernels
    assert [call[1] for call in ort.calls if call[0] == "severity"] == [0, 2]
    assert runtime.describe()["warnings"] == ["attention over 7 tokens in fp32 runs unfused, the slowest way"]
    assert capfd.readouterr() == ("", ""), "neither the log nor what preloading prints is the user's"


# --- TensorRT ---


def test_tensorrt_is_told_precision_shapes_and_where_its_engines_are(monkeypatch):
    ort = pose(monkeypatch)
    runtime = make_runtime("tensorrt", A10G)
    answers(runtime, encoder_program(), Workload(batch=2, tokens=7, precision="fp16"))
    options = ort.sessions[1][TENSORRT]
    assert {key: options[key] for key in options if "path" not in key} == {
        "device_id": 0,
        "trt_fp16_enable": True,
        "trt_bf16_enable": False,
        "trt_int8_enable": False,
        "trt_cuda_graph_enable": True,
        "trt_engine_cache_enable": True,
        "trt_timing_cache_enable": True,
        "trt_profile_min_shapes": "input_ids:1x1",
        "trt_profile_opt_shapes": "input_ids:2x7",
        "trt_profile_max_shapes": "input_ids:2x7",
    }
    assert list(ort.sessions[1]) == [TENSORRT, CUDA], "CUDA takes what an engine cannot"


def test_programs_share_tactics_but_never_engines(monkeypatch):
    ort = pose(monkeypatch)
    runtime = make_runtime("tensorrt", A10G)
    small, large = encoder_program(1, name="same"), encoder_program(2, name="same")
    for net in (small, large, small):
        answers(runtime, net)
    first, second = ({s[TENSORRT]["trt_engine_cache_path"] for s in ort.sessions[i : i + 2]} for i in (0, 2))
    assert len(first) == len(second) == 1, "checked and timed with one engine"
    assert first.isdisjoint(second)
    assert {ort.sessions[4][TENSORRT]["trt_engine_cache_path"]} == first
    assert len({s[TENSORRT]["trt_timing_cache_path"] for s in ort.sessions}) == 1


def test_the_profiler_may_show_an_engine_as_one_node(monkeypatch):
    pose(monkeypatch)
    runtime = make_runtime("tensorrt", A10G)
    answers(runtime, encoder_program())
    assert runtime.describe()["nodes"] == {TENSORRT: 1}


# --- versions ---


@pytest.mark.parametrize(
    ("requirement", "good", "bad"),
    [
        (ONNX_RUNTIME, ["1.23", "1.23.2", "1.100.0", "2.0"], ["1.22.9", "1.3", None]),
        (ONNX_RUNTIME_GPU, ["1.25.0", "1.31.1"], ["1.24.4"]),
        (tensorrt("13.0"), ["10.14.1.48", "10.15"], ["10.13.3", "9.3", "11.4.0.106", None]),
    ],
)
def test_versions_are_compared_as_numbers(requirement, good, bad):
    for version in good:
        requirement.check(version)
    for version in bad:
        with pytest.raises(TargetError, match=f"found {version or 'none'}\ninstall it: pip") as caught:
            requirement.check(version)
        assert requirement.minimum in str(caught.value)
        assert caught.value.exit_code == 3


@pytest.mark.parametrize(
    ("cuda", "driver", "enough"),
    [
        ("12.8", "525.60.13", True),
        ("12.8", "470.199.02", False),
        ("13.0", "570.124.06", False),
        ("13.0", "580.65.06", True),
        ("14.1", "570.124.06", False),
        ("12.8", None, False),
    ],
    ids=str,
)
def test_a_driver_serves_the_cuda_versions_of_its_age(cuda, driver, enough):
    nvml = FakeNvml(driver=driver)
    if enough:
        check_driver(cuda, nvml)
        return
    with pytest.raises(TargetError, match=f"CUDA {cuda} needs .* found {driver or 'none'}\n"):
        check_driver(cuda, nvml)


def test_a_cuda_older_than_all_that_are_served_is_named():
    with pytest.raises(TargetError, match=r"CUDA 12 or newer is needed, this package is built with 11\.8\n"):
        check_driver("11.8", FakeNvml())


MISSING = {
    "no GPU": ({"nvml": FakeNvml(gpu(name="Tesla T4"))}, "a10g is not here: NVML sees Tesla T4"),
    "old package": ({"__version__": "1.24.4"}, "ONNX Runtime with CUDA 1.25 or newer is needed, found 1.24.4\ninstall"),
    "CPU package": ({"providers": [CPU]}, "built without CUDAExecutionProvider\ninstall the other package: pip"),
    "old driver": ({"nvml": FakeNvml(driver="570.1")}, "CUDA 13.0 needs an NVIDIA driver 580 or newer, found 570.1"),
}


@pytest.mark.parametrize(("changes", "message"), MISSING.values(), ids=MISSING)
def test_what_is_missing_is_said_before_anything_runs(monkeypatch, changes, message):
    ort = pose(monkeypatch, **changes)
    with pytest.raises(TargetError, match=message) as caught:
        make_runtime("onnxruntime", A10G)
    assert str(caught.value).count("\n") <= 1
    assert ort.sessions == []


@pytest.mark.parametrize("runtime", [CudaRuntime, TensorrtRuntime])
def test_a_missing_library_is_named(monkeypatch, runtime):
    def refuse(_):
        raise OSError("libcublasLt.so.13: cannot open shared object file: No such file or directory")

    pose(monkeypatch)
    monkeypatch.setattr("profilers.runtimes.onnx_gpu.ctypes", SimpleNamespace(CDLL=refuse))
    with pytest.raises(TargetError, match=f"{runtime.provider} needs libcublasLt.so.13.*\n.*pip install"):
        runtime(A10G)


@pytest.mark.parametrize(("version", "found"), [(None, "none"), ("10.13.0.35", "10.13.0.35"), ("11.4.0", "11.4.0")])
def test_tensorrt_itself_must_be_there_and_of_the_right_age(monkeypatch, version, found):
    pose(monkeypatch)
    module = None if version is None else SimpleNamespace(__version__=version)
    monkeypatch.setitem(__import__("sys").modules, "tensorrt", module)
    with pytest.raises(
        TargetError, match=f"TensorRT 10.14 or newer, below 11 is needed, found {found}\n.*tensorrt-cu13"
    ):
        make_runtime("tensorrt", A10G)


# --- the GPU's health ---


def watched(*states):
    watch = GpuWatch(A10G, FakeNvml(gpu(), gpu(), *states))
    for _ in states:
        watch.look()
    return watch


def test_a_healthy_gpu_gives_no_warning_and_its_clocks():
    watch = GpuWatch(A10G, FakeNvml(gpu(), gpu(), gpu(sm_clock_mhz=210), gpu(sm_clock_mhz=1710)))
    with watch:
        pass
    assert watch.warnings == []
    assert watch.seen() == {"looks": 2, "clock_reasons": {}, "sm_clock_mhz": [210, 1710]}


@pytest.mark.parametrize(
    "reason",
    ["hardware slowdown", "software thermal slowdown", "hardware thermal slowdown", "hardware power brake"],
)
def test_a_throttled_gpu_is_said(reason):
    watch = watched(gpu(throttle_reasons=(reason,)), gpu(throttle_reasons=("idle", reason)), gpu())
    (warning,) = watch.warnings
    assert f"NVIDIA A10G was held back ({reason}) in 2 of 3 looks" in warning


@pytest.mark.parametrize("reason", ["idle", "application clocks", "software power cap", "display clocks"])
def test_how_every_gpu_runs_is_recorded_and_no_warning(reason):
    watch = watched(gpu(throttle_reasons=(reason,)))
    assert watch.warnings == []
    assert watch.seen()["clock_reasons"] == {reason: 1}


HIDDEN = 2**22 + 1  # above the largest process id of Linux: what a container is told of the host


@pytest.mark.parametrize(
    ("pids", "shared"),
    [((), False), ((1,), True), ((HIDDEN,), False), ((HIDDEN, HIDDEN + 1), True), ((1, HIDDEN), True)],
)
def test_a_shared_gpu_is_said_but_not_for_this_process_seen_from_outside(pids, shared):
    watch = watched(gpu(other_processes=pids), gpu())
    assert bool(watch.warnings) == shared
    if shared:
        assert "other processes were on NVIDIA A10G in 1 of 2 looks" in watch.warnings[0]


def test_a_board_that_reports_nothing_is_no_trouble():
    nothing = gpu(throttle_reasons=None, other_processes=None, sm_clock_mhz=None, mig=None)
    watch = watched(nothing)
    assert (watch.warnings, watch.seen()["sm_clock_mhz"]) == ([], [])


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (gpu(mig=True), "cut into MIG slices"),
        (gpu(uuid="GPU-1bbb"), "not the NVIDIA A10G any more"),
        (TargetError("GPU 0 does not answer (GPU is lost)"), "GPU 0 does not answer"),
    ],
)
def test_a_gpu_that_turns_into_something_else_stops_the_measurement(monkeypatch, state, message):
    with pytest.raises(TargetError, match=message):
        watched(state)
    pose(monkeypatch, nvml=FakeNvml(gpu(), gpu(), gpu(), state))
    runtime = make_runtime("onnxruntime", A10G)
    with pytest.raises(TargetError, match=message), runtime.open(encoder_program(), ASKED) as session:
        session.sample(1)


def test_slices_are_refused_from_the_start():
    with pytest.raises(TargetError, match="a slice is not a a10g"):
        GpuWatch(A10G, FakeNvml(gpu(mig=True)))


def test_a_lost_gpu_is_an_error_of_ours():
    import pynvml

    from targets.nvml import _DriverNvml

    def lost(_):
        raise pynvml.NVMLError_GpuIsLost

    driver = _DriverNvml(SimpleNamespace(nvmlDeviceGetHandleByIndex=lost, NVMLError=pynvml.NVMLError))
    with pytest.raises(TargetError, match=r"GPU 3 does not answer \(.+\)\n"):
        driver.state(3)


def test_what_the_watch_saw_is_in_the_runtimes_description(monkeypatch):
    hot = gpu(throttle_reasons=("hardware thermal slowdown",))
    pose(monkeypatch, nvml=FakeNvml(gpu(), gpu(), gpu(), hot))
    runtime = make_runtime("onnxruntime", A10G)
    answers(runtime, encoder_program())
    described = runtime.describe()
    assert "hardware thermal slowdown" in described["warnings"][0]
    assert described["gpu"]["looks"] == 2
    assert json.loads(json.dumps(described)) == described


# --- faults ---

NO_MEMORY = [
    "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 22.00 GiB",
    "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Failed to allocate memory for requested buffer of size 8796093022208",
    "Available memory of 1024 is smaller than requested bytes of 4096",
    "CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED ; GPU=0 ; hostname=secret",
    "std::bad_alloc",
    "[defaultAllocator.cpp::allocate::31] Error Code 1: Cuda Runtime (out of memory)",
    "Error Code 2: OutOfMemory (Requested size was 2147483648 bytes.)",
]


@pytest.mark.parametrize("message", NO_MEMORY)
def test_every_way_of_saying_that_memory_ran_out(message):
    caught = pytest.raises(OutOfMemoryError, match=r"net does not fit .*\n.*--batch, --seq-len")
    with caught as error, device_faults(encoder_program(), ASKED):
        raise RuntimeError(message)
    assert error.value.exit_code == 3


def test_a_cpu_that_runs_out_of_memory_says_so_itself():
    for name in ("onnxruntime", "torch"):
        opened = make_runtime(name, Target.parse("cpu")).open(huge_program(), ASKED)
        with pytest.raises(OutOfMemoryError, match="huge does not fit"), opened as session:
            session.sample(1)


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        (
            "CUDA failure 719: unspecified launch failure ; GPU=0 ; hostname=secret ; file=x",
            "unspecified launch failure",
        ),
        ("CUDA error: device-side assert triggered\nCUDA kernel errors might be", "device-side assert triggered"),
        ("CUDNN failure 5000: CUDNN_STATUS_EXECUTION_FAILED ; hostname=secret", "EXECUTION_FAILED"),
    ],
)
def test_a_device_that_fails_in_the_middle_is_an_error_of_ours(message, shown):
    with pytest.raises(TargetError, match=shown) as caught, device_faults(encoder_program(), ASKED):
        raise RuntimeError(message)
    assert not isinstance(caught.value, OutOfMemoryError)
    assert "secret" not in str(caught.value)


def test_a_bug_stays_a_bug():
    with pytest.raises(KeyError), device_faults(encoder_program(), ASKED):
        raise KeyError("input_ids")


def test_errors_are_quoted_without_code_and_host():
    assert (
        said(RuntimeError("[ONNXRuntimeError] : 1 : FAIL : no capture ; GPU=0 ; hostname=secret\nmore")) == "no capture"
    )
    assert said(RuntimeError()) == ""


@pytest.mark.parametrize("sample", [-0.5, float("nan"), float("inf")])
def test_a_clock_that_goes_backwards_is_refused(sample):
    with pytest.raises(TargetError, match="went backwards\n"):
        checked([0.1, sample, 0.1])
    assert checked([0.0, 0.1]) == [0.0, 0.1]


# --- CUDA graphs of PyTorch ---


def test_a_network_that_cannot_be_captured_is_timed_eagerly_and_it_is_said(monkeypatch):
    def refuse(_):
        raise RuntimeError("CUDA error: operation not permitted when stream is capturing\nmore")

    monkeypatch.setattr("profilers.runtimes.torch_runtime._captured", refuse)
    runtime = TorchRuntime(Target.parse("cpu"))
    runtime.watch, runtime.cuda_graph = GpuWatch(A10G, FakeNvml()), True
    with runtime.open(encoder_program(), ASKED) as session:
        assert session.outputs()["y"].shape == (2, 7)
    described = runtime.describe()
    assert described["mode"] == "eager"
    assert described["warnings"] == [
        "timed without CUDA graphs: CUDA error: operation not permitted when stream is capturing",
        NOT_SERVING,
    ]


def test_a_captured_network_is_played_and_not_called(monkeypatch):
    calls = []

    def record(call):
        calls.append("captured")
        answer = call()
        return lambda: calls.append("played") or answer

    monkeypatch.setattr("profilers.runtimes.torch_runtime._captured", record)
    runtime = TorchRuntime(Target.parse("cpu"))
    runtime.watch, runtime.cuda_graph = GpuWatch(A10G, FakeNvml()), True
    with runtime.open(encoder_program(), ASKED) as session:
        session.sample(2)
    assert calls == ["captured", "played", "played"]
    assert runtime.describe()["mode"] == "CUDA graph"


def test_without_memory_capturing_is_not_to_blame(monkeypatch):
    def refuse(_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr("profilers.runtimes.torch_runtime._captured", refuse)
    runtime = TorchRuntime(Target.parse("cpu"))
    runtime.cuda_graph = True
    with pytest.raises(OutOfMemoryError), runtime.open(encoder_program(), ASKED):
        pass
    assert runtime.cuda_graph
