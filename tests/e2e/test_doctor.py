"""`compile doctor`: the machine on one screen and as JSON, and what is wrong with it with what to do."""

import getpass
import json
import os
import platform
from pathlib import Path

import pytest

from compiler.diagnosis import diagnose, screen
from compiler.diagnosis.form import Diagnosis
from compiler.diagnosis.libraries import read_libraries
from compiler.diagnosis.problems import find_problems
from targets.json_file import conforming, parse_json
from tests.cli import call


@pytest.fixture(scope="module")
def healthy():
    """This machine without its peaks."""
    return diagnose(peaks=False)


def test_json_has_the_declared_form_and_says_nothing_of_the_user():
    done = call("doctor", "--json", "--no-peaks", "--cache", Path.home() / ".cache" / "some-cache")
    assert done.code == 0, done.err
    found = parse_json(done.out.encode(), name="doctor")
    conforming(found, Diagnosis, name="doctor")
    assert found["cache"]["folder"] == "~/.cache/some-cache"
    assert str(Path.home()) + "/" not in done.out
    assert platform.node() not in done.out or len(platform.node()) < 4
    assert getpass.getuser() == "root" or getpass.getuser() not in done.out


def test_each_library_says_its_best_product():
    done = call("doctor", "--json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    rates = {library["name"]: library["flops_per_s"] for library in found["libraries"]}
    assert {"torch", "onnxruntime"} <= set(rates)
    assert all(1e8 < rate < 1e14 for rate in rates.values())
    assert "CPUExecutionProvider" in next(x["providers"] for x in found["libraries"] if x["name"] == "onnxruntime")


def test_it_fits_on_one_screen(healthy):
    many = [{"severity": "warning", "what": "w" * 90, "remedy": f"do {i} " * 40} for i in range(50)]
    for found in (healthy, {**healthy, "problems": many}):
        lines = screen(found)
        assert len(lines) <= 40
        assert max(map(len, lines)) <= 100
    assert any("more: compile doctor --json" in line for line in lines)


def test_it_makes_no_cache(tmp_path):
    assert call("doctor", "--no-peaks", "--cache", tmp_path / "none" / "cache").code == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("versions", "said"),
    [
        ({"onnxruntime": None, "onnxruntime-gpu": None}, "ONNX Runtime is missing"),
        ({"onnxruntime-gpu": "1.25"}, "both installed"),
        ({"transformers": "4.40.0"}, "transformers is 4.40.0"),
        ({"scipy": None}, "scipy is missing"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_is_not_installed_as_asked_for_is_exit_3(monkeypatch, versions, said):
    from compiler.diagnosis import packages

    before = packages.installed
    monkeypatch.setattr(packages, "installed", lambda name: versions.get(name, before(name)))
    done = call("doctor", "--no-peaks")
    assert done.code == 3
    assert said in done.err
    assert "pip" in done.err
    assert len(done.message) == 3
    assert said in done.out


def test_a_cache_that_cannot_be_written_is_exit_3(tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    for folder in (tmp_path / "file", Path("/proc/paretoc")):
        done = call("doctor", "--no-peaks", "--cache", folder)
        assert done.code == 3
        assert "cannot be written" in done.err


def test_a_probe_that_fails_is_named_and_the_rest_is_told(monkeypatch):
    def broken():
        raise RuntimeError("the driver is \x1b[31mgone\nfor good")

    monkeypatch.setattr("compiler.diagnosis.probes.read_devices", broken)
    done = call("doctor", "--no-peaks")
    assert done.code == 0
    assert "devices could not be read: RuntimeError: the driver is \\x1b[31mgone" in " ".join(done.out.split())
    assert "processor" in done.out
    assert "\x1b" not in done.out


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "ended with -11"),
        ("raise OSError('libmkl.so is lost')", "libmkl.so is lost"),
    ],
    ids=["crash", "error"],
)
def test_a_library_that_cannot_be_loaded_takes_nothing_along(monkeypatch, tmp_path, healthy, code, said):
    (tmp_path / "torch.py").write_text(code, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{Path.cwd()}")
    libraries = {library["name"]: library for library in read_libraries()}
    assert said in libraries["torch"]["why_not"]
    assert libraries["onnxruntime"]["flops_per_s"] > 0
    problems = find_problems({**healthy, "libraries": list(libraries.values())})
    assert problems[0]["severity"] == "error"
    assert "torch cannot be loaded" in problems[0]["what"]


GPU = {
    "name": "NVIDIA A10G",
    "memory_total_bytes": 2**34,
    "memory_used_bytes": 0,
    "throttle_reasons": [],
    "other_processes": 0,
    "mig": False,
}
TORCH = {
    "name": "torch", "version": "2.9", "flops_per_s": 1e11, "cuda": "13.0", "sees_gpu": False, "providers": [], "flushes_denormals": False,
    "why_not": None,
}  # fmt: skip
WITH_GPU = {"targets": ["a10g"], "gpus": [GPU], "driver": "535", "cuda": "12.2", "why_none": None}
PROBLEMS = {
    "built for CUDA 13.0, does not see the GPU (driver: CUDA 12.2)": {"devices": WITH_GPU, "libraries": [TORCH]},
    "built without CUDA": {"devices": WITH_GPU, "libraries": [{**TORCH, "cuda": None}]},
    "no GPU is here": {"libraries": [TORCH]},
    "ONNX Runtime does not use it": {
        "devices": WITH_GPU, "libraries": [{**TORCH, "name": "onnxruntime", "providers": ["CPUExecutionProvider"]}],
    },
    "flushed to zero": {"libraries": [{**TORCH, "flushes_denormals": True}]},
    "MIG slices": {"devices": {**WITH_GPU, "gpus": [{**GPU, "mig": True}]}},
    "for 2 other processes": {"devices": {**WITH_GPU, "gpus": [{**GPU, "other_processes": 2}]}},
    "held down: hardware slowdown": {"devices": {**WITH_GPU, "gpus": [{**GPU, "throttle_reasons": ["hardware slowdown"]}]}},
    "0.5 GiB are free": {"out_free_bytes": 2**29},
    "1.0 GiB of memory": {"memory": {"total_bytes": 2**34, "available_bytes": 2**33, "limit_bytes": 2**30}},
    "2 of 64 processors are usable": {"processor": {"count": 64, "usable": 2}},
    "granted 1.5 processors and sees 8": {"processor": {"count": 8, "usable": 8, "quota": 1.5}},
    "powersave": {"processor": {"governor": "powersave"}},
    "no AVX2": {"processor": {"instruction_sets": ["fma"]}},
    "OMP_NUM_THREADS is no whole number": {"processor": {"omp_threads": "many"}},
    "7.0 of 2 processors are busy": {"system": {"load": 7.0}, "processor": {"usable": 2}},
    "the kernel's clock is hpet": {"system": {"clock_source": "hpet"}},
    "the hub is switched off": {"system": {"offline": True}},
    "encoding is ascii": {"system": {"encoding": "ascii"}},
    "paretoc-trace-x.txt": {"traces": ["paretoc-trace-x.txt"]},
}  # fmt: skip


@pytest.mark.parametrize("said", PROBLEMS)
def test_what_spoils_runs_or_numbers_is_named_with_a_remedy(healthy, said):
    changed = {
        name: {**healthy[name], **value} if isinstance(value, dict) and name != "devices" else value
        for name, value in PROBLEMS[said].items()
    }
    base = {**healthy, "devices": {**healthy["devices"], "gpus": []}, "traces": []}
    named = [problem for problem in find_problems({**base, **changed}) if said in problem["what"]]
    assert len(named) == 1
    assert named[0]["remedy"]
    assert named[0]["severity"] in {"warning", "note"}
    quiet = {**base, "system": {**base["system"], "load": 0.0, "offline": False}}
    assert not any(said in problem["what"] for problem in find_problems(quiet))
