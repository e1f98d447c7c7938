"""Memory of a process that serves all-MiniLM-L6-v2: savings against the dense network, predicted and measured.

    python bench/memory.py --json bench/results/memory.json

For each workload a model is fitted to the dense network and three others, then held against sub-networks of every space
that it never saw. Each network is served in fresh processes; the worst of them counts. Other load does not disturb it.
Weights stand inside the ONNX file, as paretoc ships them, or in a file beside it, which ONNX Runtime maps.
"""

import argparse
import json
import sys
import tempfile
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

import onnx
from output import write_json

from compiler.export.files import inline
from compiler.export.workbench import ModelWorkbench
from compiler.families import load_checkpoint
from compiler.families.embedded import embedded_model
from compiler.pipeline.graphs import find_templates
from compiler.pipeline.measuring import check_shapes
from compiler.store import DiskStore, default_root
from profilers import Graph, Stack, Workload
from profilers.memory import measure_peak_memory
from profilers.memory_model import NetworkBytes, measure_memory_model
from targets import Target, measure_fingerprint


class Files:
    """Writes sub-networks of the embedded model as ONNX files, their weights inside or beside."""

    def __init__(self, precision: str, weights: str) -> None:
        checkpoint = load_checkpoint(str(embedded_model()), task="embedding")
        self.architecture, self.precision, self.weights = checkpoint.architecture, precision, weights
        self.bench = ModelWorkbench(checkpoint, find_templates(checkpoint, DiskStore(default_root()), [precision]))

    def write(self, stack: Stack, path: Path) -> None:
        """The sub-network of these sizes that keeps the first heads and units."""
        graph = self.bench(stack).graph(self.precision)
        assert isinstance(graph, Graph)  # noqa: S101  a stack has no file yet
        onnx.save_model(
            inline(graph), path, save_as_external_data=self.weights == "beside", location=f"{path.name}.data"
        )

    def processes(self, workload: Workload, count: int) -> list[dict[str, Any]]:
        """The dense network's processes one by one."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "dense.onnx"
            self.write(self.bench.dimensions.dense, path)
            inputs = self.bench.inputs(workload.batch, workload.tokens)
            return [asdict(p) for p in measure_peak_memory(path, workload, inputs, processes=count).processes]


def result(files: Files, workload: Workload, checks: int, processes: int, seed: int) -> dict[str, Any]:
    """The model of one workload with its error, and what single processes of the dense network took."""
    target = Target.parse(f"cpu:{workload.precision}")
    network = NetworkBytes(
        dimensions=files.bench.dimensions, stem_parameters=files.architecture.stem_parameters, workload=workload
    )
    model = measure_memory_model(
        target,
        network,
        measure_fingerprint(target, workload.threads),
        files.write,
        files.bench.inputs(workload.batch, workload.tokens),
        checks=check_shapes(files.architecture, target.size_alignment, seed, checks),
        processes=processes,
        progress=lambda share: print(f"{share:.0%}", file=sys.stderr),
    )
    return {"weights": files.weights, "model": model.to_json(), "dense_processes": files.processes(workload, processes)}


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workloads", nargs="+", default=["1x128", "8x128", "4x512"], help="batch x tokens")
    parser.add_argument("--weights", nargs="+", default=["inside", "beside"], choices=["inside", "beside"])
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--checks", type=int, default=12)
    parser.add_argument("--processes", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, default=None)
    arguments = parser.parse_args()
    sizes = [[int(size) for size in text.split("x")] for text in arguments.workloads]
    asked = [Workload(batch=b, tokens=t, precision=arguments.precision) for b, t in sizes]
    layouts = [Files(arguments.precision, weights) for weights in arguments.weights]
    record = {
        "command": "python bench/memory.py",
        "versions": {name: metadata.version(name) for name in ("onnxruntime", "numpy", "paretoc")},
        "seed": arguments.seed,
        "processes": arguments.processes,
        "results": [
            result(files, workload, arguments.checks, arguments.processes, arguments.seed)
            for files in layouts
            for workload in asked
        ],
    }
    write_json(arguments.json, record)
    sys.stdout.write(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
