"""Search methods without training, at equal evaluations of all-MiniLM-L6-v2, structure alone and with the precision.

    python bench/searches.py --seeds 0 1 2 --json bench/results/searches.json
    python bench/searches.py --precision fp32,int8 --seeds 0 1 2 --json bench/results/searches_joint.json
    python bench/searches.py --min-speedup 2 3 4 --seeds 0 1 2 --json bench/results/searches_limited.json

On sentences of stsb/train without their scores, judged by likeness to the dense embeddings on sentences of stsb/dev; latencies
are predicted by the table that ships for this model (batch 1, 128 tokens, one thread). Networks are judged as a search judges them,
not as they would ship. Asked for a speed-up, each is a search of its own, below that limit. Hypervolume is that of error and the logarithm of relative latency, reference `REFERENCE` and 1. What
was ranked, learned or evaluated is in the store: a run that was stopped goes on. `seconds` are those of a search, its gates
included; where it found something in the store they are too few. `found` has of every network the precision, the relative
latency, the error and the examples it was judged on.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from benchmark_data import data_folder
from output import write_json
from search_loops import make_loop, prepare

from compiler.export import ModelWorkbench
from compiler.families.embedded import embedded_model
from compiler.pipeline import Options
from compiler.pipeline.learned import Learned
from compiler.pipeline.monitor import SilentMonitor
from compiler.pipeline.networks import Evaluated
from compiler.search import hypervolume
from compiler.spaces import Counts
from compiler.store import DiskStore, Store, default_root

METHODS = ("exact", "surrogate", "nsga2", "local", "random")
SPEEDUPS = (1.5, 2.0, 3.0, 4.0, 6.0)
AFTER = (16, 24, 32, 40, 60, 80)
REFERENCE = 0.3
"""Of the error: a mean cosine of 0.7, below which embeddings are of little use."""


def searched(
    learned: Learned, bench: ModelWorkbench, options: Options, store: Store, least: float | None = None
) -> dict[str, Any]:
    """What one search found, all of it or what is so much faster than the dense model at least."""
    precisions, dense = options.precisions or ("fp32",), learned.subject.checkpoint.architecture.shape
    loop = make_loop(learned, bench, precisions, store)
    dense_s = float(loop.pricing.costs["fp32"].latency.latency_s(Counts.of([dense]))[0])
    start = time.monotonic()
    loop.search(options, {} if least is None else {"latency": dense_s / least}, SilentMonitor())
    seconds = time.monotonic() - start
    found = list(loop.found.values())
    return {
        "search": options.search, "seed": options.seed, "precision": ",".join(precisions), "min_speedup": least,
        "evaluated": len(found),
        "seconds": round(seconds, 1),
        "hypervolume": {str(n): _volume(found[:n], dense_s) for n in AFTER if n <= (options.evaluations or 0)},
        "picks": {f"{x}x": _pick(found, dense_s / x, dense_s) for x in SPEEDUPS if x >= (least or 0)},
        "found": [
            [f.precision, round(f.latency_s / dense_s, 5), round(f.quality.error, 5), len(f.quality.values)] for f in found
        ],
    }  # fmt: skip


def _volume(found: Sequence[Evaluated], dense_s: float) -> float:
    points = np.array([[f.quality.error, np.log(f.latency_s / dense_s)] for f in found])
    return round(hypervolume(points, np.array([REFERENCE, 0.0])), 5)


def _pick(found: Sequence[Evaluated], limit_s: float, dense_s: float) -> dict[str, Any] | None:
    """The most alike of those predicted to be as fast."""
    best = max((f for f in found if f.latency_s <= limit_s), key=lambda f: f.quality.metric, default=None)
    if best is None:
        return None
    return {
        "likeness": best.quality.metric, "standard_error": best.quality.standard_error, "precision": best.precision,
        "speedup": dense_s / best.latency_s, "order": [f.id for f in found].index(best.id),
        "heads": [s.heads for s in best.subnet.shape], "ffn_units": [s.ffn_units for s in best.subnet.shape],
    }  # fmt: skip


def main() -> None:
    """Every method for every seed, each as it comes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", default=METHODS, help="gates, which learn for minutes, where named")
    parser.add_argument("--precision", default="fp32", help="searched together: fp32,int8")
    parser.add_argument("--min-speedup", type=float, nargs="+", default=[None], help="each a search of its own")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--evaluations", type=int, default=40)
    parser.add_argument("--cache", type=Path, default=None)
    parser.add_argument("--json", type=Path, default=None)
    arguments = parser.parse_args()
    store, results = DiskStore(arguments.cache or default_root()), []
    for seed in arguments.seeds:
        options = Options(
            model=str(embedded_model()), data=data_folder("stsb"), task="embedding", effort="fast", seed=seed,
            evaluations=arguments.evaluations, precisions=tuple(arguments.precision.split(",")),
        )  # fmt: skip
        learned, bench = prepare(options, store)
        for method, least in product(arguments.methods, arguments.min_speedup):
            results.append(searched(learned, bench, replace(options, search=method), store, least))
            sys.stderr.write(json.dumps({k: v for k, v in results[-1].items() if k != "found"}) + "\n")
            write_json(arguments.json, results)
    json.dump(results, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
