"""Devices that fail while they are measured: lost, too small, on a clock that goes backwards, or without their runtime."""

import json
import sys
from contextlib import contextmanager

import pytest

from profilers import CostTable
from profilers.runtimes.faults import checked, device_faults
from profilers.runtimes.null import NullRuntime
from profilers.runtimes.registry import RUNTIMES
from tests.cli import call, write_texts
from tests.graphs import encoder
from tests.tiny import HEADS, LAYERS, UNITS, save_tiny

LOST = "CUDA failure 999: unknown error ; GPU=0 ; hostname=a1b2c3 ; file=cuda_call.cc"


class Failing(NullRuntime):
    """The null device behind what guards real ones; `fault(program, opened)` is raised or returned by every call."""

    def __init__(self, target, fault) -> None:
        super().__init__(target)
        self.fault, self.opened = fault, 0

    @contextmanager
    def open(self, program, workload):
        self.opened += 1
        with device_faults(program, workload), super().open(program, workload) as session:
            yield _Session(self, program, session)


class _Session:
    def __init__(self, runtime, program, session) -> None:
        self.runtime, self.program, self.session = runtime, program, session

    def sample(self, count):
        wrong = self.runtime.fault(self.program, self.runtime.opened)
        return checked([wrong] * count) if wrong is not None else self.session.sample(count)


def lost_after(count):
    def fault(_, opened):
        if opened > count:
            raise RuntimeError(LOST)

    return fault


def too_small(program, _):
    """Memory for all networks but those with every head and every unit in all layers."""
    if program.stack == ((HEADS, UNITS),) * LAYERS:
        raise MemoryError


def backwards(_, opened):
    return -0.002 if opened > 3 else None


class Place:
    """A tiny model and one way of asking for it."""

    def __init__(self, root) -> None:
        self.root, self.model, self.texts = root, save_tiny(root / "model"), write_texts(root / "texts.txt")

    def run(self, name, *flags, target="null"):
        return call(
            self.model, "--data", self.texts, "--target", target, "--seq-len", 32, "--evaluations", 12, "--winners", 2,
            "--cache", self.root / f"{name}-cache", "--out", self.root / name, "--quiet", *flags,
        )  # fmt: skip

    def front(self, name):
        front = json.loads((self.root / name / "front.json").read_text(encoding="utf-8"))
        del front["timings_s"], front["table"]["seconds"]
        return front

    def profile(self, output):
        return call("profile", "--target", "null", "--model", self.model, "--seq-len", 32, "-o", output)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        root = tmp_path_factory.mktemp("failing")
        patch.setenv("PARETOC_CACHE", str(root / "profiles"))
        patch.setattr("compiler.pipeline.stages.export.compare_with_fresh_export", lambda *_: 0.0)
        yield Place(root)


@pytest.fixture
def device(monkeypatch):
    """Puts a fault into the null device; None mends it."""

    def put(fault):
        monkeypatch.setitem(RUNTIMES, "null", NullRuntime if fault is None else lambda target: Failing(target, fault))

    return put


def refused(done, code, *words):
    assert done.code == code, done.err
    assert 1 <= len(done.message) <= 2, done.err
    for word in words:
        assert word in " ".join(done.message)


def test_a_run_whose_device_was_lost_goes_on_where_it_was(place, device):
    device(None)
    assert place.run("whole").code == 0
    device(lost_after(20))
    refused(place.run("lost"), 3, "the GPU failed while", "CUDA failure 999: unknown error")
    blocks = set((place.root / "lost-cache" / "blocks").iterdir())
    assert blocks
    device(None)
    assert place.run("lost").code == 0
    assert blocks < set((place.root / "lost-cache" / "blocks").iterdir())
    assert place.front("lost") == place.front("whole")


def test_a_profile_whose_device_was_lost_leaves_no_table(place, device):
    device(lost_after(20))
    refused(place.profile(place.root / "lost.json"), 3, "the GPU failed while", "run again")
    assert not (place.root / "lost.json").exists()


def test_a_network_that_is_too_large_is_left_out_of_a_table_and_said(place, device):
    device(too_small)
    path = place.root / "small.json"
    done = place.profile(path)
    assert done.code == 0, done.err
    assert "warning: 1 network did not fit into the device's memory" in done.err
    (row,) = CostTable.read(path).how["too_large"]
    assert (row["heads"], row["ffn_units"], row["tokens"]) == ([HEADS] * LAYERS, [UNITS] * LAYERS, 32)


def test_a_model_that_is_too_large_is_refused_before_it_is_searched(place, device):
    device(too_small)
    refused(place.run("large"), 3, "the whole model does not fit into the memory of null at batch 1", "--seq-len")
    assert not (place.root / "large-cache" / "evaluated").exists()


def test_a_clock_that_goes_backwards_is_said(place, device):
    device(backwards)
    refused(place.run("clock"), 3, "-2.000 ms by the clock of this machine, which went backwards")
    refused(place.profile(place.root / "clock.json"), 3, "which went backwards")


@pytest.mark.parametrize("flags", [(), ("--precision", "fp32,int8")])
def test_without_onnx_runtime_the_line_that_installs_it_is_given(place, monkeypatch, flags):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    words = ("ONNX Runtime is not installed", "pip install 'paretoc[cpu]'")
    refused(place.run("bare", *flags, target="cpu"), 3, *words)
    refused(
        call("profile", "--target", "cpu", "--model", place.model, "-o", place.root / "bare.json", *flags), 3, *words
    )
    file = place.root / "encoder.onnx"
    file.write_bytes(encoder())
    refused(call("bench", file), 3, *words)
    refused(place.run("absent", "--accept-modelled", target="a10g:fp16"), 3, *words)
