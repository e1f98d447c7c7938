"""What it saves to stop judging hopeless networks after a first look, and what it costs: searches with it and without.

    python bench/early_stop.py stsb --seeds 0 1 2 --json bench/results/early_stop.json

STS-B's sentences without their scores, as embeddings are compiled; the others with MiniLM fine-tuned on them (`--models`, of
`bench/finetuned.py`), judged by their labels. Each method searches twice with nothing evaluated before, once judging every
network on all validation examples, in turns which comes first. `share` is of the examples that this takes; hypervolume is that
of error and the logarithm of relative latency, up to what the worst network errs that both ways found.
"""

import argparse
import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from benchmark_data import data_folder
from labelled import METRICS
from output import write_json
from search_loops import prepare
from searches import searched

from compiler.evaluation import early
from compiler.families.embedded import embedded_model
from compiler.pipeline import Options
from compiler.search import hypervolume
from compiler.store import DiskStore, Store, default_root

SEARCHES = ("exact", "surrogate", "nsga2", "random")
WAYS = ("whole", "early")


def compared(options: Options, order: tuple[str, ...], store: Store, methods: tuple[str, ...]) -> list[dict[str, Any]]:
    """Every method on one task and seed, in both ways."""
    learned, bench = prepare(options, store)
    examples, found = len(learned.search.batches), []
    for method in methods:
        runs = {}
        for way in order:
            fewest = examples if way == "whole" else early.FEWEST
            with tempfile.TemporaryDirectory() as empty, patch.object(early, "FEWEST", fewest):
                runs[way] = searched(learned, bench, replace(options, search=method), DiskStore(Path(empty)))
        found.append({"search": method, "examples": examples, **_figures(runs, examples)})
    return found


def _figures(runs: dict[str, Any], examples: int) -> dict[str, Any]:
    points = {way: np.array([[error, np.log(latency)] for _, latency, error, _ in runs[way]["found"]]) for way in WAYS}
    reference = np.array([min(points[way][:, 0].max() for way in WAYS), 0.0])
    judged = [judged for *_, judged in runs["early"]["found"]]
    return {
        "seconds": {way: runs[way]["seconds"] for way in WAYS},
        "stopped": sum(number < examples for number in judged), "evaluated": len(judged),
        "share": sum(judged) / examples / len(judged),
        "hypervolume": {way: round(hypervolume(points[way], reference), 5) for way in WAYS},
    }  # fmt: skip


def main() -> None:
    """Task after task, seed after seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="+")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--searches", nargs="+", default=SEARCHES)
    parser.add_argument("--models", type=Path, default=Path("out/finetuned-models"))
    parser.add_argument("--cache", type=Path, default=None)
    parser.add_argument("--json", type=Path, default=None)
    arguments = parser.parse_args()
    store, results = DiskStore(arguments.cache or default_root()), []
    for task in arguments.tasks:
        labelled = task != "stsb"
        options = Options(
            model=str(arguments.models / task if labelled else embedded_model()), data=data_folder(task), effort="fast",
            task="auto" if labelled else "embedding", metric=METRICS.get(task) if labelled else None, evaluations=40,
        )  # fmt: skip
        for seed in arguments.seeds:
            order = WAYS if seed % 2 else WAYS[::-1]
            for row in compared(replace(options, seed=seed), order, store, tuple(arguments.searches)):
                results.append({"task": task, "seed": seed, **row})
                sys.stderr.write(json.dumps(results[-1]) + "\n")
            write_json(arguments.json, results)
    json.dump(results, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
