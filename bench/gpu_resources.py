"""Memory and energy of a GPU by NVML: a model in a published shape, and the networks of a half, a quarter and an eighth of its sizes.

    python bench/gpu_resources.py --models minilm-shape bert-base --target a10g --precision fp16 --json build/resources.json

What a device cannot tell is written with the reason: on a GPU that ends in an error, on a CPU it is expected.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from output import write_json
from tables import RANDOM, model_folder

from compiler.export import ModelWorkbench
from compiler.families import load_checkpoint
from compiler.pipeline.device import Device, find_here
from compiler.pipeline.graphs import find_templates
from compiler.pipeline.options import Options
from compiler.store import DiskStore, default_root
from profilers import Dimensions, LayerSizes, Program, Stack
from profilers.energy import measure_energy, open_meter
from profilers.memory import measure_gpu_memory
from targets.errors import TargetError


def networks(dims: Dimensions) -> dict[str, Stack]:
    """The dense network and three smaller ones, by name."""
    sizes = {f"1/{n}": LayerSizes(*(max(size // n, 1) for size in dims.largest)) for n in (1, 2, 4, 8)}
    return {name: (each,) * dims.layers for name, each in sizes.items()}


def told(measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What was measured, or why it could not be."""
    try:
        return measure()
    except TargetError as error:
        return {"not_available": str(error)}


def memory(device: Device, program: Program) -> dict[str, Any]:
    """Bytes on the GPU. TargetError where nothing tells them."""
    assert device.runtime is not None  # noqa: S101  a device that is not here was refused
    use = measure_gpu_memory(device.runtime, program, device.workload, device.target)
    return {**asdict(use), "taken_bytes": use.taken_bytes}


def energy(device: Device, program: Program, idle_s: float) -> dict[str, Any]:
    """Joules a call and the power before. TargetError where the device has no counter."""
    assert device.runtime is not None  # noqa: S101  a device that is not here was refused
    meter = open_meter(device.target)
    with device.runtime.open(program, program.asked(device.workload)) as session:
        use = measure_energy(lambda: session.sample(1), meter, updates=20, idle_s=idle_s)
    return {**asdict(use), "joules_per_call": use.joules_per_call, "power_w": use.joules / use.seconds}


def rows(name: str, bench: ModelWorkbench, device: Device, idle_s: float) -> Iterator[dict[str, Any]]:
    """One a network: first all memory, then all energy, so that the idle power is not that of a GPU just used."""
    programs = {size: bench(stack) for size, stack in networks(bench.dimensions).items()}
    bytes_of = {size: told(lambda p=program: memory(device, p)) for size, program in programs.items()}  # type: ignore[misc]
    for size, program in programs.items():
        joules = told(lambda p=program: energy(device, p, idle_s))  # type: ignore[misc]
        yield {
            "model": name, "sizes": size, "workload": device.workload.to_json(), "memory": bytes_of[size],
            "energy": joules,
        }  # fmt: skip


def main() -> int:
    """Measure, write as they come; 3 where a GPU does not tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=list(RANDOM), default=["minilm-shape", "bert-base"])
    parser.add_argument("--target", default="cpu")
    parser.add_argument("--runtime", default="torch")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--idle-s", type=float, default=1.0, help="over which the power before is taken")
    parser.add_argument("--json", type=Path, default=None)
    asked = parser.parse_args()
    found: list[dict[str, Any]] = []
    for name in asked.models:
        options = Options(
            model=name, target=asked.target, runtime=asked.runtime, precisions=(asked.precision,), batch=asked.batch,
            seq_len=asked.tokens,
        )  # fmt: skip
        device = find_here(options)
        device = replace(device, workload=replace(device.workload, precision=asked.precision))
        with tempfile.TemporaryDirectory() as root:
            checkpoint = load_checkpoint(str(model_folder(name, Path(root))), task="embedding")
        templates = find_templates(checkpoint, DiskStore(default_root()), [asked.precision])
        for row in rows(name, ModelWorkbench(checkpoint, templates), device, asked.idle_s):
            found.append(row)
            write_json(asked.json, found)
    sys.stdout.write(json.dumps(found, indent=1) + "\n")
    silent = any("not_available" in row[what] for row in found for what in ("memory", "energy"))
    return 3 if silent and asked.target not in ("cpu", "null") else 0


if __name__ == "__main__":
    sys.exit(main())
