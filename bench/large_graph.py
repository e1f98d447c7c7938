"""A graph beyond 2 GB: Qwen3-Embedding-0.6B's shape in float32 through export, files, parity, checkpoint and reload.

    python bench/large_graph.py --json bench/results/large_graph.json

Random weights, MiniLM's tokenizer. The dense network and one cut network are written; the dense one's weights lie beside its file.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from output import write_json
from tables import model_folder

from compiler.export import (
    ModelWorkbench,
    check_graph,
    compare_with_fresh_export,
    load_sliced,
    make_template,
    write_artifact,
)
from compiler.export.dense import export_dense
from compiler.export.files import parts_of
from compiler.families import load_checkpoint
from compiler.slicing import SubnetRunner
from compiler.spaces import Subnet
from compiler.tasks import encode

TEXTS = [("A small train climbs to the market.",), ("Stone, glass and early light.",)]


def _timed(record: dict[str, Any], name: str, work: Callable[[], Any]) -> Any:
    start = time.monotonic()
    done = work()
    record[f"{name}_s"] = round(time.monotonic() - start, 1)
    return done


def measure(root: Path, shape: str) -> dict[str, Any]:
    """Seconds of every step, bytes and parity of both files, and how far the reloaded networks are off."""
    record: dict[str, Any] = {"shape": shape}
    checkpoint = load_checkpoint(str(model_folder(shape, root)), task="embedding", pooling="lasttoken")
    a = checkpoint.architecture
    proto, twin = _timed(record, "export", lambda: export_dense(checkpoint))
    parameters = {name: tensor.detach().numpy() for name, tensor in twin.backbone.named_parameters()}
    bench = ModelWorkbench(checkpoint, {"fp32": make_template(proto, parameters, a)})
    del proto, twin, parameters
    runner, real = SubnetRunner(checkpoint.model, a), encode(checkpoint, TEXTS, max_tokens=32)
    half = Subnet.of([range(a.heads // 2)] * a.layers, [range(a.ffn_units // 2)] * a.layers)
    for name, subnet in (("dense", Subnet.first(a.shape, bench.ordering)), ("half", half)):
        weights = runner.parameters(subnet)
        writing = partial(write_artifact, root / name, bench, subnet, weights, real, {})
        artifact = _timed(record, f"{name}_write", writing)
        check_graph(artifact.path)
        (inputs,) = real.batches
        with torch.inference_mode():
            again = load_sliced(root / name).model(**inputs)[-1]
            off = float((again - runner(subnet, inputs, weights)[-1]).abs().max())
        record[name] = {
            "bytes": {part.name: part.stat().st_size for part in parts_of(artifact.path)}, "parity_error": artifact.parity_error,
            "attention_nodes": artifact.attention_nodes, "reload_error": off,
        }  # fmt: skip
    record["fresh_export_error"] = _timed(
        record, "fresh_export", lambda: compare_with_fresh_export(bench, half, runner.parameters(half))
    )
    return record


def main() -> None:
    """Measure in a temporary folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", default="qwen3-embedding-0.6b")
    parser.add_argument("--json", type=Path, default=None)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        record = measure(Path(root), arguments.shape)
    write_json(arguments.json, record)
    print(record)


if __name__ == "__main__":
    main()
