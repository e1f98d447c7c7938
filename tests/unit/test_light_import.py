"""Importing is light: no runtime, no CUDA context and no network until something is asked for."""

import json
import subprocess
import sys

import pytest

PROBE = """
import importlib, json, pkgutil, socket, sys, time
connected = []
def connect(self, address):
    connected.append(str(address))
    raise OSError("no network while importing")
socket.socket.connect = connect
start = time.perf_counter()
for name in {roots!r}:
    package = importlib.import_module(name)
    if {whole!r}:
        for module in pkgutil.walk_packages(package.__path__, name + "."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)
torch = sys.modules.get("torch")
print(json.dumps({{
    "seconds": time.perf_counter() - start,
    "modules": sorted({{name.partition(".")[0] for name in sys.modules}}),
    "cuda": bool(torch and torch.cuda.is_initialized()),
    "connected": connected,
}}))
"""


def probe(*roots, whole=False):
    code = PROBE.format(roots=roots, whole=whole)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_importing_the_compiler_takes_less_than_a_second():
    assert probe("compiler")["seconds"] < 1


@pytest.mark.parametrize("package", ["torch", "transformers", "onnx", "onnxruntime", "datasets", "optimum"])
def test_importing_the_packages_leaves_the_heavy_ones_alone(package):
    assert package not in probe("compiler", "profilers", "targets")["modules"]


def test_the_lowest_floor_does_without_numpy():
    assert "numpy" not in probe("targets")["modules"]


@pytest.mark.timeout(120)
def test_no_module_imports_a_runtime_or_starts_cuda_or_reads_the_network():
    found = probe("compiler", "profilers", "targets", whole=True)
    assert "onnxruntime" not in found["modules"]
    assert not found["cuda"]
    assert found["connected"] == []
