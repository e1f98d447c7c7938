"""Where a search without training starts: gates, exact allocations and evolution, at equal evaluations of MiniLM.

    python bench/gates.py --seeds 0 1 2 --json bench/results/gates.json

On sentences of stsb/train without their scores, judged by likeness to the dense embeddings on sentences of stsb/dev; latencies
are predicted by the table that ships for this model (batch 1, 128 tokens, one thread). Networks are re-solved as a search judges
them, not as they would ship. Hypervolume is that of error and relative latency, reference 1. What was ranked, learned or
evaluated is in the store: a run that was stopped goes on. `seconds` are those of a search, its gates included; where it found
something in the store they are too few.
"""

import argparse
import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from ablation import cost_model
from benchmark_data import data_folder
from output import write_json

from compiler.costing import Costs
from compiler.export import ModelWorkbench
from compiler.families.embedded import embedded_model
from compiler.pipeline import Options
from compiler.pipeline.hunt import Found, Hunt
from compiler.pipeline.learned import Learned, learn
from compiler.pipeline.monitor import SilentMonitor, Stages
from compiler.pipeline.subject import load_subject
from compiler.search import hypervolume
from compiler.spaces import Counts, make_space
from compiler.store import Store, default_root

METHODS = ("gates", "exact", "nsga2")
SPEEDUPS = (1.5, 2.0, 3.0, 4.0, 6.0)
UNIT_STEP = 16


def searched(learned: Learned, options: Options, store: Store) -> dict[str, Any]:
    """What one search found."""
    checkpoint = learned.subject.checkpoint
    space = make_space("medium", checkpoint.architecture, ordering=learned.ranking.ordering, unit_step=UNIT_STEP)
    costs = {"fp32": Costs(architecture=checkpoint.architecture, latency=cost_model())}
    hunt = Hunt(learned, space, costs, ("fp32",), ModelWorkbench(checkpoint, {}), store)
    start = time.monotonic()
    hunt.search(options, {}, SilentMonitor())
    seconds = time.monotonic() - start
    dense_s = float(costs["fp32"].latency.latency_s(Counts.of([checkpoint.architecture.shape]))[0])
    found = list(hunt.found.values())
    points = np.array([[f.quality.error, f.latency_s / dense_s] for f in found])
    return {
        "search": options.search, "seed": options.seed, "evaluated": len(found), "seconds": round(seconds, 1),
        "hypervolume": hypervolume(points, np.ones(2)),
        "picks": {f"{least}x": _pick(found, dense_s / least, dense_s) for least in SPEEDUPS},
        "front": [[round(float(x), 5) for x in point] for point in points[np.argsort(points[:, 1])]],
    }  # fmt: skip


def _pick(found: list[Found], limit_s: float, dense_s: float) -> dict[str, Any] | None:
    """The most alike of those predicted to be as fast."""
    best = max((f for f in found if f.latency_s <= limit_s), key=lambda f: f.quality.metric, default=None)
    if best is None:
        return None
    return {
        "likeness": best.quality.metric, "standard_error": best.quality.standard_error,
        "speedup": dense_s / best.latency_s, "order": [f.id for f in found].index(best.id),
        "heads": [s.heads for s in best.subnet.shape], "ffn_units": [s.ffn_units for s in best.subnet.shape],
    }  # fmt: skip


def main() -> None:
    """Every method for every seed, each as it comes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--evaluations", type=int, default=40)
    parser.add_argument("--cache", type=Path, default=None)
    parser.add_argument("--json", type=Path, default=None)
    arguments = parser.parse_args()
    store, results = Store(arguments.cache or default_root()), []
    for seed in arguments.seeds:
        options = Options(
            model=str(embedded_model()), data=data_folder("stsb"), task="embedding", effort="fast", seed=seed,
            evaluations=arguments.evaluations,
        )  # fmt: skip
        learned = learn(load_subject(options), store, options, Stages(SilentMonitor()))
        for method in arguments.methods:
            results.append(searched(learned, replace(options, search=method), store))
            sys.stderr.write(json.dumps({k: v for k, v in results[-1].items() if k != "front"}) + "\n")
            write_json(arguments.json, results)
    json.dump(results, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
