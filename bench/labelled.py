"""Labelled data, end to end: the dense metric and the test metric of what each minimum speed-up picks on validation.

    python bench/labelled.py trec mrpc stsb banking77 --epochs 3 --json bench/results/labelled.json

Data come from $PARETOC_DATA (default ../shared/data). The model is the pre-trained MiniLM; the dense baseline is its
ordinary fine-tuning for the same epochs. Test is only reported, never chosen on. Results are written after every task.
"""

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmark_data import data_folder
from output import write_json
from rich.console import Console

from compiler.cli.console import ConsoleMonitor
from compiler.families.embedded import embedded_model
from compiler.pipeline import Options, compile_model

SPEEDUPS = (1.5, 2.0, 3.0)
METRICS = {"mrpc": "f1", "cola": "matthews"}


def picks(front: Mapping[str, Any], speedups: Sequence[float] = SPEEDUPS) -> dict[str, Any]:
    """For each minimum speed-up, the candidate with the least validation error among those measured at least as fast."""
    chosen: dict[str, Any] = {}
    for least in speedups:
        fast = [c for c in front["candidates"] if c["speedup"] is not None and c["speedup"] >= least]
        best = min(fast, key=lambda c: c["error"], default=None)
        chosen[f"{least}x"] = None if best is None else {
            "id": best["id"],
            "speedup": best["speedup"],
            "speedup_interval": best["speedup_interval"],
            "precision": best["precision"],
            "validation": best["metric"]["validation"],
            "test": best["metric"]["test"],
            "others": best["metric"]["others"],
            "grid": best["grid"],
        }  # fmt: skip
    return chosen


def run(task: str, arguments: argparse.Namespace, monitor: ConsoleMonitor) -> dict[str, Any]:
    """Compile for one data set and sum up."""
    data = data_folder(task)
    start = time.monotonic()
    options = Options(
        model=str(embedded_model()), data=data, effort="thorough", epochs=arguments.epochs,
        metric=METRICS.get(task), winners=arguments.winners, out=arguments.out / task, cache=arguments.cache,
        evaluations=arguments.evaluations, accept_noisy_table=True, seed=arguments.seed,
    )  # fmt: skip
    front = compile_model(options, monitor)
    return {
        "task": task,
        "metric": front["metric"]["name"],
        "dense": front["dense"]["metric"],
        "picks": picks(front),
        "table": front["table"],
        "epochs": arguments.epochs,
        "seed": arguments.seed,
        "seconds": round(time.monotonic() - start),
        "timings_s": front["timings_s"],
        "fingerprint": front["target"]["fingerprint"],
        "data": front["data"],
    }


def main() -> None:
    """Parse, run each task, write after each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tasks", nargs="+")
    parser.add_argument("--epochs", type=float, default=3)
    parser.add_argument("--winners", type=int, default=6)
    parser.add_argument("--evaluations", type=int, default=None)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("out/labelled"))
    parser.add_argument("--cache", type=Path, default=None)
    parser.add_argument("--json", type=Path, default=Path("bench/results/labelled.json"))
    arguments = parser.parse_args()
    results = json.loads(arguments.json.read_text(encoding="utf-8")) if arguments.json.is_file() else {}
    for task in arguments.tasks:
        with ConsoleMonitor(Console(stderr=True)) as monitor:
            results[task] = run(task, arguments, monitor)
        write_json(arguments.json, results)
        json.dump(results[task], sys.stdout, indent=1)


if __name__ == "__main__":
    main()
