"""Traffic, end to end: latencies predicted for requests of many lengths, and those of the finished files replaying them.

    python bench/traffic.py --json bench/results/traffic.json

all-MiniLM-L6-v2 compiled without training for the lengths of STS-B's own sentences: the objective is the expected latency, and
with --percentile p99 that of the length which 99 % do not exceed. Every winner's file is then timed on lengths that stand
for the traffic, in turn. Latencies are held against each other as ratios to the dense model's, predicted and measured.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from benchmark_data import data_folder
from output import write_json
from rich.console import Console
from scipy.stats import spearmanr

from compiler.cli.console import ConsoleMonitor
from compiler.families.embedded import embedded_model
from compiler.pipeline import Options, compile_model


def replay(percentile: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """One compilation under traffic: how far predictions were from the replay."""
    data = data_folder("stsb")
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as out, ConsoleMonitor(Console(stderr=True)) as monitor:
        front = compile_model(
            Options(
                model=str(embedded_model()), data=data, task="embedding", effort="fast", traffic="data",
                percentile=percentile, batch=arguments.batch, evaluations=arguments.evaluations,
                winners=arguments.winners, cache=arguments.cache, out=Path(out), accept_noisy_table=True,
            ),
            monitor,
        )  # fmt: skip
    dense = front["dense"]
    rows = [
        {
            "id": net["id"],
            "predicted_ms": net["predicted"]["latency_ms"], "measured_ms": net["measured"]["latency_ms"]["p50"],
            "predicted_speedup": dense["predicted"]["latency_ms"] / net["predicted"]["latency_ms"],
            "speedup": net["speedup"], "speedup_interval": net["speedup_interval"],
        }
        for net in front["candidates"]
    ]  # fmt: skip
    off = np.array([row["speedup"] / row["predicted_speedup"] - 1 for row in rows])
    return {
        "percentile": percentile, "batch": arguments.batch, "workload": front["workload"], "nets": len(rows),
        "mape": float(np.abs(off).mean()), "max": float(np.abs(off).max()),
        "spearman": float(spearmanr([r["speedup"] for r in rows], [r["predicted_speedup"] for r in rows]).statistic),
        "table": front["table"], "networks": rows, "seconds": round(time.monotonic() - start, 1),
        "timings_s": front["timings_s"], "fingerprint": front["target"]["fingerprint"],
    }  # fmt: skip


def main() -> None:
    """Each percentile asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--percentile", nargs="+", default=["p50", "p99"], choices=["p50", "p90", "p99"])
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--evaluations", type=int, default=24)
    parser.add_argument("--winners", type=int, default=10)
    parser.add_argument("--cache", type=Path, default=None)
    parser.add_argument("--json", type=Path, default=None)
    arguments = parser.parse_args()
    results = []
    for percentile in arguments.percentile:
        results.append(replay(percentile, arguments))
        write_json(arguments.json, results)
    json.dump(
        [{k: v for k, v in r.items() if k not in {"networks", "fingerprint"}} for r in results], sys.stdout, indent=1
    )


if __name__ == "__main__":
    main()
