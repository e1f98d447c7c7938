"""How wrong cost tables are: sub-networks of all spaces that they never saw, measured end to end in the same run.

    python bench/tables.py --models minilm --batch 1 --tokens 32 128 --threads 1 --precision fp32,int8 --nets 60

Models are shapes: costs do not depend on the values of weights. Each cell is one profile of its own; its figures, the
control beside them (a straight line through operations) and every network measured go into the JSON. With --tables the
tables themselves are written, too, one file a model, as they can ship in targets/costs. With --cache a benchmark that
was killed goes on where it was, and with --recorded beside it the samples taken before are fitted and scored once more.
With --target a10g --runtime torch --precision fp16 tables are of a GPU; they say that PyTorch is not what serves.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict, replace
from itertools import product
from pathlib import Path
from typing import Any

import generated
from output import write_json

from compiler.export import ModelWorkbench
from compiler.families import load_checkpoint
from compiler.families.embedded import embedded_model
from compiler.pipeline.device import Device, find_here
from compiler.pipeline.graphs import find_templates
from compiler.pipeline.measuring import StoreRecorder, about_samples, measure_here
from compiler.pipeline.options import Options
from compiler.store import DiskStore, Store, default_root, key_of
from profilers import CostTable, Plan, Program, Runtime, Session, Workload
from profilers.runtimes import OutOfMemoryError
from targets.errors import InputError

RANDOM: dict[str, tuple[str, dict[str, Any]]] = {
    "tiny": (
        "bert",
        {
            "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 256,
            "vocab_size": 4096,
        },
    ),
    "minilm-shape": (
        "bert",
        {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536},
    ),
    "bert-base": ("bert", {}),
    "roberta-base": ("roberta", {"vocab_size": 50265, "max_position_embeddings": 514, "type_vocab_size": 1}),
    "roberta-large": (
        "roberta",
        {
            "vocab_size": 50265, "max_position_embeddings": 514, "type_vocab_size": 1, "hidden_size": 1024,
            "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096,
        },
    ),
    "mpnet-base": ("mpnet", {}),
    "modernbert-base": ("modernbert", {}),
    "deberta-v3-base": (
        "deberta-v2",
        {
            "vocab_size": 128100, "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12,
            "intermediate_size": 3072, "type_vocab_size": 0, "relative_attention": True, "max_relative_positions": -1,
            "position_buckets": 256, "norm_rel_ebd": "layer_norm", "share_att_key": True, "pos_att_type": ["p2c", "c2p"],
            "position_biased_input": False,
        },
    ),
    "qwen3-embedding-0.6b": (
        "qwen3",
        {
            "vocab_size": 151669, "hidden_size": 1024, "num_hidden_layers": 28, "num_attention_heads": 16,
            "num_key_value_heads": 8, "head_dim": 128, "intermediate_size": 3072, "tie_word_embeddings": True,
            "pad_token_id": 0, "bos_token_id": 101, "eos_token_id": 102,
        },
    ),
    "embeddinggemma-300m": (
        "gemma3_text",
        {
            "vocab_size": 262144, "hidden_size": 768, "num_hidden_layers": 24, "num_attention_heads": 3,
            "num_key_value_heads": 1, "head_dim": 256, "intermediate_size": 1152, "query_pre_attn_scalar": 256,
            "sliding_window": 512, "max_position_embeddings": 2048, "use_bidirectional_attention": True,
            "layer_types": (["sliding_attention"] * 5 + ["full_attention"]) * 4,
        },
    ),
    "smollm2-135m": (
        "llama",
        {
            "vocab_size": 49152, "hidden_size": 576, "num_hidden_layers": 30, "num_attention_heads": 9,
            "num_key_value_heads": 3, "head_dim": 64, "intermediate_size": 1536, "max_position_embeddings": 8192,
            "tie_word_embeddings": True, "pad_token_id": 0, "bos_token_id": 101, "eos_token_id": 102,
        },
    ),
}  # fmt: skip
"""Shapes of published models by transformers' own defaults, and one for rehearsals; their weights are random."""


def model_folder(name: str, root: Path) -> Path:
    """A folder with the model: MiniLM's own, or random weights in a published shape with MiniLM's tokenizer.

    Without the demo's package the tokenizer is one of made-up words, which fits BERT's types alone.
    """
    if name == "minilm":
        return embedded_model()
    from transformers import AutoConfig, AutoModel, AutoTokenizer

    kind, changes = RANDOM[name]
    folder = root / name
    config = AutoConfig.for_model(kind, **changes)
    AutoModel.from_config(config).save_pretrained(folder)  # type: ignore[no-untyped-call]
    try:
        tokens = AutoTokenizer.from_pretrained(embedded_model())
    except InputError:
        if kind != "bert":
            raise
        tokens = generated.tokenizer()
    tokens.save_pretrained(folder)
    return folder


class Recorded:
    """A runtime that times nothing: blocks that were not recorded are left out, as if the device could not hold them."""

    def __init__(self, runtime: Runtime) -> None:
        self.name, self.source, self.describe = runtime.name, runtime.source, runtime.describe

    def open(self, program: Program, workload: Workload) -> AbstractContextManager[Session]:
        """Always OutOfMemoryError."""
        raise OutOfMemoryError(f"{program.name} was not recorded under {workload}")


def cell(bench: ModelWorkbench, device: Device, arguments: argparse.Namespace, store: Store) -> Iterator[CostTable]:
    """The tables of one workload, one a precision; with --recorded, of samples in the store alone, if it has them all.

    A table's seconds are those of every run that has measured for it to the end.
    """
    assert device.runtime is not None  # noqa: S101  a device that is not here was refused
    if arguments.recorded:
        device = replace(device, runtime=Recorded(device.runtime))
    nets, seed = arguments.nets, arguments.seed
    plan = Plan(min_rounds=arguments.rounds, block_s=arguments.block_s, time_cap_s=0.0)
    for workload in (replace(device.workload, precision=p) for p in device.precisions):
        about = about_samples(device, workload, bench, seed)
        key = key_of([about, nets])
        spent_s = store.get("seconds", key)
        if arguments.recorded and spent_s is None:
            continue
        table = measure_here(
            device, workload, bench, seed=seed, check_nets=nets, plan=plan, check_rounds=arguments.check_rounds,
            recorder=StoreRecorder(store, about), progress=lambda _: None,
        )  # fmt: skip
        if not arguments.recorded:
            spent_s = (spent_s or 0.0) + table.seconds
            store.put("seconds", key, spent_s)
        yield replace(table, seconds=spent_s)


def figures(table: CostTable) -> dict[str, Any]:
    """What the JSON says of the table of one workload: its error, its size, and every check network."""
    ((workload, error),) = table.errors.items()
    return {
        "workload": workload.to_json(), "error": asdict(error), "seconds": round(table.seconds, 1),
        "entries": len(table.entries), "warnings": table.how["warnings"], "checks": list(table.checks), "fingerprint": table.fingerprint.to_json(),
    }  # fmt: skip


def cells(name: str, bench: ModelWorkbench, arguments: argparse.Namespace, store: Store) -> Iterator[CostTable]:
    """The tables of one model, a workload each."""
    precisions = tuple(arguments.precision.split(","))
    for batch, tokens, threads in product(arguments.batch, arguments.tokens, arguments.threads):
        options = Options(
            model=name, target=arguments.target, runtime=arguments.runtime, precisions=precisions, batch=batch,
            seq_len=tokens, threads=threads,
        )  # fmt: skip
        yield from cell(bench, find_here(options), arguments, store)


def _earlier(path: Path | None) -> dict[str, dict[str, Any]]:
    """Results of earlier runs, by model and workload."""
    rows = json.loads(path.read_text(encoding="utf-8")) if path is not None and path.exists() else []
    return {str([row["model"], row["workload"]]): row for row in rows}


def _add(tables: list[CostTable], path: Path) -> None:
    """Write the tables together with what the file says of other workloads."""
    new = {workload for table in tables for workload in table.workloads()}
    if path.exists():
        before = CostTable.read(path)
        tables = [before.under([workload for workload in before.workloads() if workload not in new]), *tables]
    CostTable.merge(tables).write(path)


def main() -> None:
    """Profile every cell, print as they come."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=["minilm"], choices=["minilm", *RANDOM])
    parser.add_argument("--batch", type=int, nargs="+", default=[1])
    parser.add_argument("--tokens", type=int, nargs="+", default=[128])
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    parser.add_argument("--target", default="cpu")
    parser.add_argument("--runtime", default=None, help="the target's own if left out")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--nets", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=2, help="blocks of each network that is fitted")
    parser.add_argument("--check-rounds", type=int, default=6, help="blocks of each that is not")
    parser.add_argument("--block-s", type=float, default=Plan().block_s, help="seconds of a block")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, default=None, help="file of results; cells it holds already are replaced")
    parser.add_argument(
        "--tables", type=Path, default=None, help="folder for a table of each model, to add to likewise"
    )
    parser.add_argument("--cache", type=Path, default=None, help="where samples are kept (nowhere if left out)")
    parser.add_argument("--recorded", action="store_true", help="time nothing: score the samples in --cache")
    arguments = parser.parse_args()
    if arguments.recorded and arguments.cache is None:
        parser.error("--recorded needs the --cache that the samples were kept in")
    results = _earlier(arguments.json)
    with tempfile.TemporaryDirectory() as root:
        store = DiskStore(arguments.cache or Path(root) / "cache")
        for name in arguments.models:
            checkpoint = load_checkpoint(str(model_folder(name, Path(root))), task="embedding")
            templates = find_templates(checkpoint, DiskStore(default_root()), arguments.precision.split(","))
            tables: list[CostTable] = []
            for table in cells(name, ModelWorkbench(checkpoint, templates), arguments, store):
                tables.append(table)
                row = {"model": name, **figures(table)}
                results[str([name, row["workload"]])] = row
                sys.stderr.write(f"{name} {row['workload']} {row['error']} {row['seconds']} s\n")
                write_json(arguments.json, list(results.values()))
            if arguments.tables is not None and tables:
                arguments.tables.mkdir(parents=True, exist_ok=True)
                _add(tables, arguments.tables / f"{arguments.target}-{name}.json")
    short = [{k: v for k, v in row.items() if k not in {"checks", "fingerprint"}} for row in results.values()]
    json.dump(short, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
