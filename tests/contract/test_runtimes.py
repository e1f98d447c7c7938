"""What every runtime must do to be profiled: the same tiny encoder in ONNX Runtime, PyTorch and the null device.

ONNX Runtime's GPU providers are tested on a CPU that poses as a GPU: the code is theirs, the times are not.
"""

import json
from contextlib import contextmanager

import numpy as np
import pytest
import torch

from compiler.export.dense import export_dense
from compiler.export.template import make_template
from compiler.export.workbench import ModelWorkbench
from profilers import RUNTIMES, LayerSizes, Plan, Workload, interleave, make_runtime
from profilers.roofline import attention_seconds, base_seconds, ffn_seconds
from profilers.runtimes.torch_runtime import NOT_SERVING
from targets import Target
from targets.errors import InputError, TargetError
from tests.gpu_stub import pose
from tests.tiny import HEADS, LAYERS, UNITS, tiny_checkpoint

CASES = {
    "onnxruntime": ("onnxruntime", "cpu"),
    "onnxruntime on a GPU": ("onnxruntime", "a10g"),
    "tensorrt": ("tensorrt", "a10g"),
    "torch": ("torch", "cpu"),
    "null": ("null", "null"),
}
DENSE = (LayerSizes(HEADS, UNITS),) * LAYERS
STACKS = {
    "dense": DENSE,
    "uneven": (LayerSizes(3, 40), LayerSizes(1, 5), LayerSizes(2, 17)),
    "dropped": (LayerSizes(0, 9), LayerSizes(2, 0), LayerSizes(0, 0)),
    "nothing": (LayerSizes(0, 0),) * LAYERS,
}


@pytest.fixture(scope="module")
def workbench(tmp_path_factory) -> ModelWorkbench:
    checkpoint = tiny_checkpoint(tmp_path_factory.mktemp("bert"), "bert")
    proto, twin = export_dense(checkpoint)
    parameters = {name: tensor.detach().numpy() for name, tensor in twin.backbone.named_parameters()}
    template = make_template(proto, parameters, checkpoint.architecture)
    return ModelWorkbench(checkpoint, {"fp32": template})


@pytest.fixture(params=CASES.values(), ids=CASES)
def runtime(request, monkeypatch):
    name, target = request.param
    if target == "a10g":
        pose(monkeypatch)
    return make_runtime(name, Target.parse(target))


def workload(runtime, batch: int = 2, tokens: int = 7) -> Workload:
    return Workload(batch=batch, tokens=tokens, runtime=runtime.name)


def test_every_runtime_has_a_device_to_be_tested_on():
    assert {name for name, _ in CASES.values()} == set(RUNTIMES)


def test_runtime_says_its_name_and_what_its_numbers_are(runtime):
    assert runtime.name in RUNTIMES
    assert runtime.source == ("null" if runtime.name == "null" else "measured")


@pytest.mark.parametrize("stack", STACKS.values(), ids=STACKS)
@pytest.mark.parametrize("count", [1, 5])
def test_samples_are_positive_finite_floats_of_the_count_asked_for(runtime, workbench, stack, count):
    with runtime.open(workbench(stack), workload(runtime)) as session:
        samples = session.sample(count)
        again = session.sample(count)
    assert len(samples) == len(again) == count
    assert all(type(s) is float and np.isfinite(s) and s > 0 for s in samples + again)


def test_no_sample_is_asked_for_and_none_is_given(runtime, workbench):
    with runtime.open(workbench(DENSE), workload(runtime)) as session:
        assert session.sample(0) == []


def test_sessions_open_again_after_they_were_closed_and_leave_the_thread_count_alone(runtime, workbench):
    before = torch.get_num_threads()
    for threads in (1, 2):
        asked = Workload(batch=1, tokens=3, threads=threads, runtime=runtime.name)
        with runtime.open(workbench(DENSE), asked) as session:
            session.sample(1)
    assert torch.get_num_threads() == before


def test_outputs_do_not_change_from_call_to_call(runtime, workbench):
    with runtime.open(workbench(DENSE), workload(runtime)) as session:
        first = session.outputs()
        session.sample(2)
        second = session.outputs()
    assert first.keys() == second.keys()
    assert all(np.array_equal(first[name], second[name]) for name in first)


def test_a_call_of_several_lengths_is_one_of_each_and_lasts_their_mean(runtime, workbench, monkeypatch):
    lengths = (5, 2, 9)
    asked = Workload(batch=2, runtime=runtime.name, lengths=lengths)
    seconds = {}
    for tokens in lengths if runtime.source == "null" else ():
        with runtime.open(workbench(DENSE), workload(runtime, tokens=tokens)) as session:
            (seconds[tokens],) = session.sample(1)
    with runtime.open(workbench(DENSE), asked) as session:
        if runtime.source == "null":
            assert session.sample(2) == pytest.approx([np.mean(list(seconds.values()))] * 2)
            return
        assert {name: answer.shape[0] for name, answer in session.outputs().items()} == dict.fromkeys(
            session.outputs(), 2
        )
        assert session.outputs()["last_hidden_state"].shape[1] == lengths[0]
        ticks = iter([0, 1, 10, 12, 20, 26, 30, 32, 40, 44, 50, 62])
        monkeypatch.setattr("time.perf_counter", lambda: float(next(ticks)))
        assert session.sample(2) == [(1 + 2 + 6) / 3, (2 + 4 + 12) / 3]


def test_a_runtime_describes_itself_in_json(runtime, workbench):
    with runtime.open(workbench(DENSE), workload(runtime)) as session:
        session.sample(1)
    described = runtime.describe()
    assert json.loads(json.dumps(described)) == described
    assert described["mode"]
    assert described["warnings"] == ([NOT_SERVING] if runtime.name == "torch" else [])


def test_a_clock_that_goes_backwards_is_refused(runtime, workbench, monkeypatch):
    ticks = iter(range(1000, 0, -1))
    with runtime.open(workbench(DENSE), workload(runtime)) as session:
        monkeypatch.setattr("time.perf_counter", lambda: float(next(ticks)))
        if runtime.source == "null":
            session.sample(1)
            return
        with pytest.raises(TargetError, match="went backwards"):
            session.sample(1)


class _Watched:
    """A runtime that remembers every list of samples it gave."""

    def __init__(self, inner) -> None:
        self.inner, self.name, self.source = inner, inner.name, inner.source
        self.given: list[list[list[float]]] = []

    @contextmanager
    def open(self, program, asked):
        with self.inner.open(program, asked) as session:
            self.given.append([])
            yield _WatchedSession(session, self.given[-1])


class _WatchedSession:
    def __init__(self, session, given) -> None:
        self.session, self.given = session, given

    def sample(self, count):
        self.given.append(self.session.sample(count))
        return list(self.given[-1])


def test_warm_up_runs_are_never_samples(runtime, workbench):
    watched = _Watched(runtime)
    plan = Plan(min_rounds=1, max_rounds=1, block_s=0.0, min_turns=4, warmup=3)
    program = workbench(STACKS["uneven"])
    series = interleave([program], workbench(DENSE), watched, workload(runtime), plan=plan, seed=0)
    reference, own = watched.given
    assert [len(samples) for samples in (reference[0], own[0])] == [3, 3]
    (block,) = series[program.name].blocks
    assert [list(turn) for turn in block.turns_s] == [samples[1:] for samples in own[1:]], "the first finds cold caches"
    assert [[sample] for sample in block.reference_s] == [samples[1:] for samples in reference[2:]]
    assert len(block.turns_s) == 4
    assert all(block.turns_s)


@pytest.mark.parametrize("stack", STACKS.values(), ids=STACKS)
@pytest.mark.parametrize(("batch", "tokens"), [(1, 1), (2, 7), (3, 64)])
def test_onnxruntime_answers_what_torch_answers(workbench, stack, batch, tokens):
    answers = []
    for name in ("onnxruntime", "torch"):
        runtime = make_runtime(name, Target.parse("cpu"))
        with runtime.open(workbench(stack), workload(runtime, batch, tokens)) as session:
            answers.append(session.outputs())
    ort, eager = answers
    assert list(ort) == list(eager) == ["last_hidden_state", "sentence_embedding"]
    for name in ort:
        assert ort[name].shape == eager[name].shape
        np.testing.assert_allclose(ort[name], eager[name], rtol=1e-5, atol=1e-5)


def test_null_is_the_roofline_in_closed_form_on_any_target(workbench):
    asked = Workload(batch=3, tokens=11, runtime="null")
    for name in ("null", "a10g"):
        target = Target.parse(f"{name}:fp32")
        dims = workbench.dimensions
        for stack in STACKS.values():
            expected = base_seconds(target, asked, dims)
            for heads, units in stack:
                expected += attention_seconds(target, asked, dims, heads) + ffn_seconds(target, asked, dims, units)
            with make_runtime("null", target).open(workbench(stack), asked) as session:
                assert session.sample(3) == pytest.approx([expected] * 3, rel=1e-12)


def test_null_by_hand(workbench):
    """1 token, 1 head of 8 columns, hidden 32: moving 4·32·8 weights and 4·32 + 8·8 values outweighs the arithmetic."""
    asked = Workload(batch=1, tokens=1, runtime="null")
    stack = (LayerSizes(1, 0), LayerSizes(0, 0), LayerSizes(0, 0))
    call, stem, attention = 10e-6, 8 * 32 * 4 / 100e9, (4 * 32 * 8 + 4 * 32 + 8 * 8) * 4 / 100e9
    with make_runtime("null", Target.parse("null")).open(workbench(stack), asked) as session:
        assert session.sample(1) == pytest.approx([call + stem + attention], rel=1e-12)


def test_null_builds_no_graph_and_no_module(workbench):
    bare = ModelWorkbench(workbench.checkpoint, {})
    with make_runtime("null", Target.parse("null")).open(bare(DENSE), Workload(runtime="null")) as session:
        assert session.outputs() == {}


def test_unknown_runtime_lists_the_names():
    with pytest.raises(InputError, match="unknown runtime 'tvm'") as caught:
        make_runtime("tvm", Target.parse("cpu"))
    assert all(name in str(caught.value) for name in RUNTIMES)


def test_a_gpus_provider_answers_what_the_cpus_answers(workbench, monkeypatch):
    plain = make_runtime("onnxruntime", Target.parse("cpu"))
    with plain.open(workbench(STACKS["uneven"]), workload(plain)) as session:
        expected = session.outputs()
    pose(monkeypatch)
    for name in ("onnxruntime", "tensorrt"):
        posing = make_runtime(name, Target.parse("a10g"))
        with posing.open(workbench(STACKS["uneven"]), workload(posing)) as session:
            answers = session.outputs()
        assert list(answers) == list(expected)
        for output in answers:
            np.testing.assert_allclose(answers[output], expected[output], rtol=1e-5, atol=1e-6)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
@pytest.mark.parametrize("name", ["onnxruntime", "tensorrt"])
def test_onnxruntime_refuses_a_gpu_that_is_not_here(name):
    with pytest.raises(TargetError, match="NVIDIA driver"):
        make_runtime(name, Target.parse("a10g"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_torch_refuses_a_gpu_that_is_not_here():
    with pytest.raises(TargetError, match="no CUDA device"):
        make_runtime("torch", Target.parse("a10g"))
