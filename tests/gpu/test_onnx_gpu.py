"""ONNX Runtime's CUDA and TensorRT providers on a real GPU: right answers, whole attention, graphs, one engine each."""

import time

import numpy as np
import pytest

from compiler.export.dense import export_dense
from compiler.export.template import make_template
from compiler.export.workbench import ModelWorkbench
from profilers import LayerSizes, Workload, make_runtime
from profilers.runtimes import OutOfMemoryError
from profilers.runtimes.onnx_gpu import CudaRuntime
from profilers.runtimes.placement import UNTOLD
from targets import Target
from tests.gpu_here import gpu_runtime, gpu_target
from tests.graphs import huge_program
from tests.tiny import HEADS, LAYERS, UNITS, tiny_checkpoint

DENSE = (LayerSizes(HEADS, UNITS),) * LAYERS
STACKS = {
    "dense": DENSE,
    "uneven": (LayerSizes(3, 40), LayerSizes(1, 5), LayerSizes(2, 17)),
    "dropped": (LayerSizes(0, 9), LayerSizes(2, 0), LayerSizes(0, 0)),
}


@pytest.fixture(scope="module")
def workbench(tmp_path_factory) -> ModelWorkbench:
    checkpoint = tiny_checkpoint(tmp_path_factory.mktemp("bert"), "bert")
    proto, twin = export_dense(checkpoint)
    parameters = {name: tensor.detach().numpy() for name, tensor in twin.backbone.named_parameters()}
    return ModelWorkbench(checkpoint, {"fp32": make_template(proto, parameters, checkpoint.architecture)})


@pytest.fixture(scope="module", params=["onnxruntime", "tensorrt"])
def runtime(request):
    return gpu_runtime(request.param)


def workload(runtime, **changes) -> Workload:
    return Workload(**({"batch": 2, "tokens": 8, "precision": "fp32", "runtime": runtime.name} | changes))


@pytest.mark.parametrize("stack", STACKS.values(), ids=STACKS)
@pytest.mark.parametrize("tokens", [8, 13], ids=["a multiple of 4", "odd"])
def test_it_answers_what_the_cpu_answers(runtime, workbench, stack, tokens):
    """Matrix products may be TF32 on a GPU: ten bits."""
    cpu = make_runtime("onnxruntime", Target.parse("cpu"))
    answers = []
    for each in (cpu, runtime):
        with each.open(workbench(stack), workload(each, tokens=tokens)) as session:
            answers.append(session.outputs())
    expected, found = answers
    assert list(found) == list(expected)
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], rtol=2e-2, atol=2e-2)


def test_attention_is_whole_and_the_graph_is_captured(runtime, workbench):
    with runtime.open(workbench(DENSE), workload(runtime, tokens=16)) as session:
        assert all(0 < sample < 1 for sample in session.sample(5))
    described = runtime.describe()
    assert described["mode"] == f"{runtime.provider}, CUDA graph"
    assert described["nodes"].get("CPUExecutionProvider", 0) == 0
    assert described["gpu"]["looks"] > 0


def test_the_cuda_kernel_of_attention_is_told(workbench):
    runtime = gpu_runtime("onnxruntime")
    with runtime.open(workbench(DENSE), workload(runtime)):
        pass
    kernels = runtime.describe()["attention_kernels"]
    assert sum(kernels.values()) == LAYERS
    assert UNTOLD not in kernels


def test_a_graph_answers_what_its_kernels_answer_one_by_one(workbench):
    runtime = gpu_runtime("onnxruntime")
    answers = []
    for each in (runtime, CudaRuntime(gpu_target(), cuda_graph=False)):
        with each.open(workbench(DENSE), workload(each)) as session:
            session.sample(3)
            answers.append(session.outputs())
    for name in answers[0]:
        np.testing.assert_allclose(answers[0][name], answers[1][name], rtol=1e-2, atol=1e-2)


def test_traffic_is_a_graph_for_each_length_and_lasts_their_mean(runtime, workbench):
    alone = []
    for tokens in (8, 16):
        with runtime.open(workbench(DENSE), workload(runtime, tokens=tokens)) as session:
            alone.append(np.median(session.sample(50)))
    with runtime.open(workbench(DENSE), workload(runtime, lengths=(8, 16))) as session:
        assert np.median(session.sample(50)) == pytest.approx(np.mean(alone), rel=0.3)
        assert session.outputs()["last_hidden_state"].shape[1] == 8
    assert runtime.describe()["mode"] == f"{runtime.provider}, CUDA graph"


def test_an_engine_is_built_once(workbench):
    runtime = gpu_runtime("tensorrt")
    program, seconds = workbench(STACKS["uneven"]), []
    for _ in range(2):
        start = time.monotonic()
        with runtime.open(program, workload(runtime)):
            seconds.append(time.monotonic() - start)
    assert seconds[1] < seconds[0] / 2


def test_what_does_not_fit_is_said_and_the_next_network_runs(workbench):
    runtime = gpu_runtime("onnxruntime")
    with pytest.raises(OutOfMemoryError, match="does not fit"), runtime.open(huge_program(), workload(runtime)):
        pass
    with runtime.open(workbench(DENSE), workload(runtime)) as session:
        assert len(session.sample(2)) == 2
