"""What computes here, each library in a process of its own: one that crashes when it is loaded must not take the rest along.

As a module it is that process: `python -m compiler.diagnosis.libraries torch`.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from compiler.diagnosis.form import Library
from profilers.peak_products import onednn_product, runtime_product, torch_product
from targets import usable_cpus
from targets.errors import printable

SIDE = 1024
MOST_S = 0.4
"""For the products of one library."""

_LIMIT_S = 60.0
_NOT_KNOWN: Library = {
    "name": "", "version": None, "flops_per_s": None, "cuda": None, "sees_gpu": None, "providers": [], "flushes_denormals": None,
    "why_not": None,
}  # fmt: skip


def read_libraries() -> list[Library]:
    """PyTorch, oneDNN in it, and ONNX Runtime: loaded, and asked for their best product on all usable processors."""
    return [library for name in ASKED for library in _asked(name)]


def _asked(name: str) -> list[Library]:
    command = [sys.executable, "-m", __name__, name]
    try:
        done = subprocess.run(command, capture_output=True, timeout=_LIMIT_S, check=False)  # noqa: S603  this module
        found = [_NOT_KNOWN | json.loads(line) for line in done.stdout.splitlines() if line.startswith(b"{")]
        reason = f"its process ended with {done.returncode}" if done.returncode else "it said nothing"
    except subprocess.TimeoutExpired:
        found, reason = [], f"no answer in {_LIMIT_S:.0f} s"
    return found or [{**_NOT_KNOWN, "name": name, "why_not": reason}]


def _torch() -> Iterator[Mapping[str, Any]]:
    import torch

    torch.set_num_threads(usable_cpus())
    yield {
        "name": "torch", "version": torch.__version__, "cuda": torch.version.cuda, "sees_gpu": torch.cuda.is_available(),
        "flops_per_s": _rate(torch_product(SIDE, torch.device("cpu"), torch.float32)),
        "flushes_denormals": float(torch.full((64,), 1e-40).mul(1.0)[7]) == 0.0,
    }  # fmt: skip
    with torch.inference_mode():
        product = onednn_product(SIDE)
        yield {"name": "oneDNN", "flops_per_s": None if product is None else _rate(product)}


def _onnxruntime() -> Iterator[Mapping[str, Any]]:
    import onnxruntime

    product = runtime_product(SIDE, usable_cpus())
    yield {
        "name": "onnxruntime", "version": onnxruntime.__version__, "providers": onnxruntime.get_available_providers(),
        "flops_per_s": None if product is None else _rate(product),
    }  # fmt: skip


def _rate(call: Callable[[], Any]) -> float:
    """Operations a second of the fastest call, within the time that one library has."""
    call()
    start, best = time.perf_counter(), float("inf")
    while time.perf_counter() - start < MOST_S:
        before = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - before)
    return 2 * SIDE**3 / best


ASKED: Mapping[str, Callable[[], Iterator[Mapping[str, Any]]]] = {"torch": _torch, "onnxruntime": _onnxruntime}


def answer(name: str) -> None:
    """One line of JSON for each thing that the library can say of itself."""
    said = False
    try:
        for found in ASKED[name]():
            print(json.dumps(found), flush=True)  # noqa: T201  this is the answer
            said = True
    except Exception as error:  # noqa: BLE001  whatever a library raises when it is loaded is what is asked for
        if not said:
            why = printable(f"{type(error).__name__}: {error}".split("\n", 1)[0], 160)
            print(json.dumps({"name": name, "why_not": why}), flush=True)  # noqa: T201


if __name__ == "__main__":
    answer(sys.argv[1])
