"""The dense all-MiniLM-L6-v2 as paretoc writes it, against Optimum's export and ONNX Runtime's own optimiser.

    python bench/dense_export.py --optimum-python VENV/bin/python --json bench/results/dense_export.json

VENV holds optimum-onnx and sentence-transformers; --optimum takes a file that they wrote before. Every file computes both
outputs, tokens and sentence, and is held against PyTorch first. Then all are timed in one run, each in turns with one
session of our `model.onnx`, which is timed so itself. A figure is a file's time over that of ours: above 1 it is slower; with
a 95 % interval over the blocks of both.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from output import write_json

from compiler.export import ModelWorkbench
from compiler.export.dense import example_inputs
from compiler.export.files import write_graph
from compiler.export.parity import TOLERANCES, compare, in_float64, odd_inputs
from compiler.families import Checkpoint, load_checkpoint
from compiler.families.embedded import embedded_model
from compiler.pipeline.graphs import find_templates
from compiler.spaces import Subnet
from compiler.store import DiskStore, default_root
from profilers import Plan, Series, Workload, interleave, make_runtime
from profilers.onnx_file import read_onnx_file
from targets import Target, measure_fingerprint

REFERENCE = "paretoc, opset 23"

_OPTIMUM = """
import sys
from importlib.metadata import version
from optimum.exporters.onnx import main_export
model, folder = sys.argv[1:]
main_export(model, folder, task="feature-extraction", library_name="sentence_transformers", do_validation=False)
print(" ".join(f"{name} {version(name)}" for name in ("optimum-onnx", "transformers", "torch")))
"""


def ours(checkpoint: Checkpoint, opset: int, path: Path) -> Path:
    """Our file of the dense model."""
    bench = ModelWorkbench(checkpoint, find_templates(checkpoint, DiskStore(default_root()), ("fp32",), opset))
    dense = Subnet.first(bench.dimensions.dense, bench.ordering)
    write_graph(bench.graph(dense, bench.dense, "fp32"), path)
    return path


def torchscript(checkpoint: Checkpoint, path: Path) -> Path:
    """Torch's older export, attention spelt out as ONNX Runtime's fusions know it."""
    model: Any = checkpoint.model
    model.backbone.set_attn_implementation("eager")
    inputs = example_inputs(checkpoint)
    axes = {0: "batch", 1: "tokens"}
    torch.onnx.export(
        model, (inputs,), str(path), dynamo=False, opset_version=17, input_names=list(inputs),
        output_names=list(model.output_names), dynamic_axes=dict.fromkeys(inputs, axes),
    )  # fmt: skip
    model.backbone.set_attn_implementation("sdpa")
    return path


def optimised(source: Path, checkpoint: Checkpoint, level: int, path: Path) -> tuple[Path, Mapping[str, int]]:
    """A file after ONNX Runtime's transformer optimiser, and which fused operators it holds."""
    from onnxruntime.transformers.optimizer import optimize_model

    sizes = checkpoint.architecture
    hidden = sizes.heads * sizes.head_size
    model = optimize_model(str(source), "bert", num_heads=sizes.heads, hidden_size=hidden, opt_level=level)
    model.save_model_to_file(str(path))
    return path, {name: count for name, count in model.get_fused_operator_statistics().items() if count}


def by_optimum(python: Path, folder: Path) -> tuple[Path, str]:
    """Optimum's file, and the versions that wrote it."""
    command = [str(python), "-I", "-c", _OPTIMUM, str(embedded_model()), str(folder)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return folder / "model.onnx", done.stdout.splitlines()[-1]


def check(path: Path, checkpoint: Checkpoint) -> float:
    """Largest difference from PyTorch; VerificationError where it is too large. Optimum's file has no token types."""
    names = [value.name for value in onnx.load(path, load_external_data=False).graph.input]
    inputs = odd_inputs(names, checkpoint.architecture, checkpoint.tokenizer.pad_token_id)
    model = checkpoint.model
    return compare(path, lambda given: model(**given), in_float64(model), inputs, TOLERANCES["fp32"])


def ratio(series: Series, ours: Series, seed: int = 0) -> tuple[float, tuple[float, float]]:
    """Time over ours, and its 95 % bootstrap interval: medians over blocks, those of the two files drawn apart."""
    rng = np.random.default_rng(seed)
    times = [1 / np.array(one.ratio_to_reference()) for one in (series, ours)]
    above, below = (np.median(rng.choice(t, size=(2000, len(t))), axis=1) for t in times)
    low, high = np.percentile(above / below, [2.5, 97.5])
    return float(np.median(times[0]) / np.median(times[1])), (float(low), float(high))


def figures(series: Series, ours: Series) -> dict[str, Any]:
    """One file in one cell."""
    found, interval = ratio(series, ours)
    return {"latency_ms": series.median_s * 1e3, "ratio": found, "interval": interval, "blocks": len(series.blocks)}


def cells(files: Mapping[str, Path], arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Every cell of the grid."""
    target = Target.parse("cpu")
    runtime = make_runtime("onnxruntime", target)
    programs = [read_onnx_file(path, name).program() for name, path in files.items()]
    reference = next(program for program in programs if program.name == REFERENCE)
    plan = Plan(min_rounds=arguments.rounds, max_rounds=arguments.rounds, time_cap_s=0.0)
    for batch, tokens, threads in product(arguments.batch, arguments.tokens, arguments.threads):
        asked = Workload(batch=batch, tokens=tokens, threads=threads, precision="fp32", runtime="onnxruntime")
        found = interleave(programs, reference, runtime, asked, plan=plan, seed=arguments.seed)
        yield {
            "batch": batch, "tokens": tokens, "threads": threads,
            "files": {name: figures(series, found[REFERENCE]) for name, series in found.items()},
            "fingerprint": measure_fingerprint(target, threads).to_json(),
        }  # fmt: skip


def _earlier(path: Path | None) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path is not None and path.exists() else {"cells": []}


def _cell(row: Mapping[str, Any]) -> Sequence[int]:
    return [row[name] for name in ("batch", "tokens", "threads")]


def build(checkpoint: Checkpoint, arguments: argparse.Namespace, root: Path) -> dict[str, dict[str, Any]]:
    """Every file by name: where it is, and what is worth telling of it."""
    plain = torchscript(checkpoint, root / "torchscript.onnx")
    files: dict[str, dict[str, Any]] = {
        REFERENCE: {"path": ours(checkpoint, 23, root / "opset23.onnx")},
        "paretoc, opset 17": {"path": ours(checkpoint, 17, root / "opset17.onnx")},
    }
    for level in (1, 99):
        path, fused = optimised(plain, checkpoint, level, root / f"optimised{level}.onnx")
        files[f"ONNX Runtime's optimiser, level {level}"] = {"path": path, "fused": fused}
    if arguments.optimum_python:
        path, versions = by_optimum(arguments.optimum_python, root / "optimum")
        files["Optimum"] = {"path": path, "versions": versions}
    elif arguments.optimum:
        files["Optimum"] = {"path": arguments.optimum}
    return files


def main() -> None:
    """Write the files, check them, time them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--optimum-python", type=Path, default=None, help="of an environment that can export")
    parser.add_argument("--optimum", type=Path, default=None, help="a file of Optimum's")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--tokens", type=int, nargs="+", default=[32, 128])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=10, help="blocks of each file")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, default=None, help="folder to leave the files in")
    parser.add_argument("--json", type=Path, default=None, help="file of results; cells it holds already are replaced")
    arguments = parser.parse_args()
    results = _earlier(arguments.json)
    with tempfile.TemporaryDirectory() as root:
        place = arguments.keep or Path(root)
        place.mkdir(parents=True, exist_ok=True)
        checkpoint = load_checkpoint(str(embedded_model()), task="embedding")
        files = build(checkpoint, arguments, place)
        for name, about in files.items():
            about["parity_error"] = check(about["path"], checkpoint)
            sys.stderr.write(f"{name}: {about}\n")
        results["files"] = {name: {k: v for k, v in about.items() if k != "path"} for name, about in files.items()}
        for row in cells({name: about["path"] for name, about in files.items()}, arguments):
            results["cells"] = [r for r in results["cells"] if _cell(r) != _cell(row)] + [row]
            sys.stderr.write(
                f"{_cell(row)} { ({n: (round(f['ratio'], 3), f['interval']) for n, f in row['files'].items()}) }\n"
            )
            write_json(arguments.json, results)
    json.dump(results, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
