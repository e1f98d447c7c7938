"""Without labels: a sentence embedder compiled on sentences of stsb/train, judged by STS-B test Spearman of cosine.

    python bench/oneshot.py --effort fast --seeds 0 1 2 --json bench/results/oneshot.json
    python bench/oneshot.py --min-speedup 1.5 2 3 4 --winners 4 --seeds 0 1 2 --json bench/results/oneshot_asked.json

The model is all-MiniLM-L6-v2 unless --model names another. No score is seen before the end: networks are chosen by likeness to the dense embeddings on sentences of stsb/dev. For each
minimum speed-up the most alike of those measured at least as fast is taken; or each is asked for in a run of its own. The interval of a
pick's share of the dense figure is a paired bootstrap over the test pairs.
"""

import argparse
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from benchmark_data import data_folder
from numpy.typing import NDArray
from output import write_json
from rich.console import Console
from scipy.stats import spearmanr

from compiler.cli.console import ConsoleMonitor
from compiler.data import Split
from compiler.export import graph_run
from compiler.families import load_checkpoint
from compiler.families.embedded import embedded_model
from compiler.pipeline import Options, compile_model
from compiler.pipeline.options import Budgets
from compiler.tasks import Batches, encode, read_data
from targets import usable_cpus

SPEEDUPS = (1.5, 2.0, 3.0, 4.0, 5.0, 6.0)
Array = NDArray[Any]


class PairTest:
    """Cosine of each pair of a split, by an ONNX file."""

    def __init__(self, split: Split, model: str) -> None:
        checkpoint = load_checkpoint(model, task="embedding")
        self.scores = split.labels
        self.sides: list[Batches] = [
            encode(checkpoint, [(pair[i],) for pair in split.texts], max_tokens=128) for i in (0, 1)
        ]

    def cosines(self, file: Path) -> Array:
        """One cosine a pair."""
        run = graph_run(file, usable_cpus())
        a, b = (e / np.linalg.norm(e, axis=1, keepdims=True) for e in (side.outputs(run) for side in self.sides))
        return np.asarray((a * b).sum(axis=1))

    def spearman(self, cosines: Array, rows: Array | None = None) -> float:
        """Spearman times 100, of all pairs or of some."""
        rows = np.arange(len(cosines)) if rows is None else rows
        assert self.scores is not None  # noqa: S101  STS-B has scores
        return float(spearmanr(cosines[rows], self.scores[rows]).statistic) * 100

    def kept(self, cosines: Array, dense: Array, draws: int = 1000) -> list[float]:
        """95 % interval of the share of the dense figure that is kept."""
        rng = np.random.default_rng(0)
        samples = [rng.integers(len(dense), size=len(dense)) for _ in range(draws)]
        shares = [self.spearman(cosines, rows) / self.spearman(dense, rows) for rows in samples]
        return [float(x) for x in np.percentile(shares, [2.5, 97.5])]


def _row(candidate: Mapping[str, Any], out: Path, test: PairTest, dense: Array) -> dict[str, Any]:
    cosines = test.cosines(out / candidate["artifact"]["path"])
    return {
        "id": candidate["id"],
        "precision": candidate["precision"],
        "shape": candidate["shape"],
        "speedup": candidate["speedup"],
        "speedup_interval": candidate["speedup_interval"],
        "likeness": candidate["metric"]["validation"],
        "spearman": test.spearman(cosines),
        "kept": test.spearman(cosines) / test.spearman(dense),
        "kept_interval": test.kept(cosines, dense),
        "grid": candidate["grid"],
    }


def compiled(seed: int, out: Path, arguments: argparse.Namespace, least: float | None, monitor: ConsoleMonitor) -> Any:
    """The front of one run, asked to be so much faster at least where that is given."""
    return compile_model(
        Options(
            model=arguments.model, data=data_folder("stsb"), task="embedding", effort=arguments.effort, seed=seed, out=out,
            winners=arguments.winners, evaluations=arguments.evaluations, search=arguments.search,
            precisions=tuple(arguments.precision.split(",")), cache=arguments.cache, accept_noisy_table=True,
            budgets=Budgets(min_speedup=least),
        ),
        monitor,
    )  # fmt: skip


def run(seed: int, arguments: argparse.Namespace, monitor: ConsoleMonitor) -> dict[str, Any]:
    """Compile once, or once for each speed-up that is asked for; then open the test split."""
    out, start = arguments.out / f"{arguments.effort}-{seed}", time.monotonic()
    places = {least: out if least is None else out / f"{least}x" for least in arguments.min_speedup}
    fronts = {least: compiled(seed, place, arguments, least, monitor) for least, place in places.items()}
    seconds = time.monotonic() - start
    test = PairTest(read_data(data_folder("stsb")).test, arguments.model)
    first, front = next(iter(fronts.items()))
    dense = test.cosines(places[first] / front["dense"]["artifact"]["path"])
    rows = {
        least: [_row(c, places[least], test, dense) for c in found["candidates"] if least is None or c["id"] == found["best"]]
        for least, found in fronts.items()
    }  # fmt: skip
    return {
        "model": Path(arguments.model).name, "seed": seed, "effort": arguments.effort, "search": front["search"], "precision": arguments.precision,
        "seconds": round(seconds, 1), "timings_s": front["timings_s"], "dense": test.spearman(dense),
        "table": front["table"], "picks": _picks(rows), "candidates": rows.get(None, []),
        "fingerprint": front["target"]["fingerprint"],
    }  # fmt: skip


def _picks(rows: Mapping[float | None, list[dict[str, Any]]]) -> dict[str, Any]:
    """The most alike at each minimum speed-up, or what a run that was asked for one chose."""
    if None not in rows:
        return {f"{least}x": best for least, (best,) in rows.items()}
    fast = {least: [r for r in rows[None] if r["speedup"] >= least] for least in SPEEDUPS}
    return {f"{least}x": max(some, key=lambda r: r["likeness"], default=None) for least, some in fast.items()}


def main() -> None:
    """Parse, run each seed, write after each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=str(embedded_model()), help="a model folder")
    parser.add_argument("--effort", default="fast")
    parser.add_argument("--search", default="auto")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--winners", type=int, default=10)
    parser.add_argument("--evaluations", type=int, default=None)
    parser.add_argument(
        "--min-speedup", type=float, nargs="+", default=[None], help="one run for each, and what it chose"
    )
    parser.add_argument("--out", type=Path, default=Path("out/oneshot"))
    parser.add_argument("--cache", type=Path, default=None)
    parser.add_argument("--json", type=Path, default=None)
    arguments = parser.parse_args()
    results: list[dict[str, Any]] = []
    for seed in arguments.seeds:
        with ConsoleMonitor(Console(stderr=True)) as monitor:
            results.append(run(seed, arguments, monitor))
        write_json(arguments.json, results)
    json.dump(results, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
