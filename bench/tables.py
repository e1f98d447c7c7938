"""How wrong cost tables are: sub-networks of all spaces that they never saw, measured end to end in the same run.

    python bench/tables.py --models minilm --batch 1 --tokens 32 128 --threads 1 --precision fp32,int8 --nets 60

Models are shapes: costs do not depend on the values of weights. Each cell is one profile of its own; its figures, the
control beside them (a straight line through operations) and every network measured go into the JSON.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, replace
from itertools import product
from pathlib import Path
from typing import Any

from compiler.export import ModelWorkbench
from compiler.families import load_checkpoint
from compiler.families.embedded import embedded_model
from compiler.pipeline.costs import check_shapes, find_device
from compiler.pipeline.graphs import find_templates
from compiler.pipeline.options import Options
from compiler.store import Store, default_root
from profilers import Plan, measure_table

RANDOM = {
    "bert-base": ("bert", {}),
    "roberta-base": ("roberta", {"vocab_size": 50265, "max_position_embeddings": 514, "type_vocab_size": 1}),
}
"""Shapes of published models by transformers' own defaults; their weights are random."""


def model_folder(name: str, root: Path) -> Path:
    """A folder with the model: MiniLM's own, or random weights in a published shape with MiniLM's tokenizer."""
    if name == "minilm":
        return embedded_model()
    from transformers import AutoConfig, AutoModel, AutoTokenizer

    kind, changes = RANDOM[name]
    folder = root / name
    config = AutoConfig.for_model(kind, **changes)
    AutoModel.from_config(config).save_pretrained(folder)  # type: ignore[no-untyped-call]
    AutoTokenizer.from_pretrained(embedded_model()).save_pretrained(folder)
    return folder


def cell(bench: ModelWorkbench, options: Options, nets: int) -> Iterator[dict[str, Any]]:
    """The tables of one workload, one a precision: their errors, their sizes, and every check network."""
    device = find_device(options)
    assert device.runtime is not None  # noqa: S101  a device that is not here was refused
    checks = check_shapes(bench.checkpoint.architecture, device.target.size_alignment, options.seed, nets)
    for workload in (replace(device.workload, precision=p) for p in device.precisions):
        plan = replace(Plan(), time_cap_s=60.0 + nets)
        table = measure_table(
            device.target, bench.dimensions, workload, device.runtime, bench, device.fingerprint,
            checks=checks, plan=plan, seed=options.seed,
        )  # fmt: skip
        assert table.error is not None  # noqa: S101  it has check networks
        yield {
            "workload": workload.to_json(), "error": asdict(table.error), "seconds": round(table.seconds, 1),
            "entries": len(table.entries), "checks": list(table.checks), "fingerprint": device.fingerprint.to_json(),
        }  # fmt: skip


def main() -> None:
    """Profile every cell, print as they come."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=["minilm"], choices=["minilm", *RANDOM])
    parser.add_argument("--batch", type=int, nargs="+", default=[1])
    parser.add_argument("--tokens", type=int, nargs="+", default=[128])
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--nets", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, default=None)
    arguments = parser.parse_args()
    precisions = tuple(arguments.precision.split(","))
    results: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as root:
        for name in arguments.models:
            checkpoint = load_checkpoint(str(model_folder(name, Path(root))), task="embedding")
            bench = ModelWorkbench(checkpoint, find_templates(checkpoint, Store(default_root()), precisions))
            for batch, tokens, threads in product(arguments.batch, arguments.tokens, arguments.threads):
                options = Options(
                    model=name, precisions=precisions, batch=batch, seq_len=tokens, threads=threads, seed=arguments.seed
                )
                for row in cell(bench, options, arguments.nets):
                    results.append({"model": name, **row})
                    error = row["error"]
                    sys.stderr.write(f"{name} {row['workload']} {error} {row['seconds']} s\n")
                    if arguments.json is not None:
                        arguments.json.parent.mkdir(parents=True, exist_ok=True)
                        arguments.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    json.dump(
        [{k: v for k, v in row.items() if k not in {"checks", "fingerprint"}} for row in results], sys.stdout, indent=1
    )


if __name__ == "__main__":
    main()
