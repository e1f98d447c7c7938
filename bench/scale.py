"""The whole fast path on larger models: how long every stage takes, and the most memory that its process held.

    python bench/scale.py bert-base roberta-large --json bench/results/scale.json

Published shapes with random weights: neither the time nor the memory depends on the values, and no figure of quality is
read. Each model is compiled in a process of its own, from a folder to verified files, with nothing kept from before.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmark_data import data_folder
from output import write_json
from tables import RANDOM, model_folder


def compiled(name: str, winners: int) -> dict[str, Any]:
    """One model, with --effort fast on this machine."""
    with tempfile.TemporaryDirectory() as root:
        place = Path(root)
        command = [
            sys.executable, "-m", "compiler", str(model_folder(name, place)), "--data", data_folder("stsb"), "--task", "embedding",
            "--effort", "fast", "--target", "cpu", "--winners", str(winners), "--cache", str(place / "cache"),
            "--out", str(place / "out"), "--accept-noisy-table", "--quiet",
        ]  # fmt: skip
        start = time.monotonic()
        subprocess.run(command, check=True)
        seconds = time.monotonic() - start
        front = json.loads((place / "out" / "front.json").read_text(encoding="utf-8"))
    return {
        "model": name, "parameters": front["model"]["parameters"], "seconds": round(seconds, 1),
        "peak_bytes": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024, "timings_s": front["timings_s"],
        "table": front["table"], "nets": len(front["candidates"]),
        "speedups": sorted(net["speedup"] for net in front["candidates"]),
        "dense_ms": front["dense"]["measured"]["latency_ms"], "fingerprint": front["target"]["fingerprint"],
    }  # fmt: skip


def main() -> None:
    """Each model, the smallest first: the peak is that of the largest process so far."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="+", choices=["minilm", *RANDOM])
    parser.add_argument("--winners", type=int, default=8)
    parser.add_argument("--json", type=Path, default=None)
    arguments = parser.parse_args()
    results = []
    for name in sorted(arguments.models, key=["minilm", *RANDOM].index):
        results.append(compiled(name, arguments.winners))
        write_json(arguments.json, results)
    json.dump(results, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
