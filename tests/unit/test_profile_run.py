"""The benchmark that tells where a run's time goes."""

import importlib
import time
from pathlib import Path

import pytest
import torch

BENCH = Path(__file__).parents[2] / "bench"


@pytest.fixture
def profile_run(monkeypatch):
    """The benchmark, imported as it runs: beside its siblings."""
    monkeypatch.syspath_prepend(str(BENCH))
    return importlib.import_module("profile_run")


@pytest.mark.parametrize(
    ("kind", "stage", "function"),
    [
        ("products", "search", "<built-in method torch._C._nn.linear>"),
        ("products", "rank", "<built-in method torch.addmm>"),
        ("products", "train", "<method 'run_backward' of 'torch._C._EngineBase' objects>"),
        ("solves", "rank", "<built-in method torch.cholesky_solve>"),
        ("solves", "rank", "<built-in method torch._C._linalg.linalg_solve>"),
        ("tensors", "rank", "<method 'index_select' of 'torch._C.TensorBase' objects>"),
        ("runtime", "final weights", "<built-in method onnxruntime.capi.onnxruntime_pybind11_state.run>"),
        ("timing", "measure artefacts", "<built-in method onnxruntime.capi.onnxruntime_pybind11_state.run>"),
        ("waiting", "profile", "<method 'poll' of 'select.poll' objects>"),
        ("waiting", "profile", "<built-in method time.sleep>"),
        ("python", "load", "<built-in method builtins.isinstance>"),
    ],
)  # fmt: skip
def test_built_in_functions_tell_their_kind(profile_run, kind, stage, function):
    assert profile_run.kind_of(stage, ("~", 0, function)) == kind


def test_each_stage_has_its_own_time(profile_run):
    profiles, factors = profile_run.StageProfiles(cpu=False), torch.rand(256, 256)
    profiles.stage("rank")
    for _ in range(20):
        torch.mm(factors, factors)
    profiles.stage("profile")
    time.sleep(0.05)
    profiles.end()
    seconds = profiles.seconds()
    assert list(seconds) == ["rank", "profile"]
    assert seconds["rank"]["products"] > 0
    assert seconds["profile"]["waiting"] >= 0.05 > seconds["rank"].get("waiting", 0.0)
    assert profiles.largest("profile", 1)[0]["function"].endswith("<built-in method time.sleep>")
    lines = profile_run.table_of(seconds).splitlines()
    assert lines[0].startswith("| stage | all | products | solves |")
    assert lines[-1].startswith("| all |")
