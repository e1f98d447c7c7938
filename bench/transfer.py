"""Cost tables carried over with ten samples: to another thread count, batch, length, precision or device.

    python bench/transfer.py --json bench/results/transfer.json

MiniLM in ONNX Runtime on this CPU. The base (one thread, batch 1, 128 tokens, fp32) is profiled in full. Each pair
then times ten chosen networks and twenty it never saw under a new workload, in one interleaved run. The bar: a root
mean square error below half of that of the base table times one constant.
"""

import argparse
import json
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from output import write_json
from scipy.stats import spearmanr

from compiler.export import ModelWorkbench
from compiler.families import load_checkpoint
from compiler.families.embedded import embedded_model
from compiler.pipeline.device import Device, find_here
from compiler.pipeline.graphs import find_templates
from compiler.pipeline.measuring import check_shapes, measure_here
from compiler.pipeline.options import Options
from compiler.store import DiskStore, default_root
from profilers import CostTable, LayerSizes, Plan, Workload, roofline_table
from profilers.transfer import SAMPLES, TransferError, measure_transfer
from targets import Target

PAIRS: Mapping[str, Mapping[str, Any]] = {
    "threads": {"threads": 2},
    "batch": {"batch": 8},
    "tokens": {"seq_len": 32},
    "int8": {"target": "cpu:int8"},
}
QUICK = Plan(min_rounds=1, max_rounds=1, block_s=0.0)


def device(**changes: Any) -> tuple[Device, Workload]:
    """The device as a pair asks for it, and its workload at the precision asked."""
    found = find_here(Options(model="", **changes))
    return found, next(w for w in found.workloads if w.precision == found.precisions[-1])


def measured(bench: ModelWorkbench, plan: Plan, seed: int) -> tuple[CostTable, Workload]:
    """The base table, in full."""
    found, workload = device()
    table = measure_here(found, workload, bench, seed=seed, plan=plan, progress=progress("base"))
    return table, workload


def carried_over(
    name: str,
    changes: Mapping[str, Any],
    base: tuple[CostTable, Workload],
    bench: ModelWorkbench,
    *,
    plan: Plan,
    samples: int,
    seed: int,
) -> dict[str, Any]:
    """One pair: the table's published error, and what one constant would have given."""
    found, workload = device(**changes)
    assert found.runtime is not None  # noqa: S101  a device that is not here was refused
    checks = check_shapes(bench.checkpoint.architecture, found.target.size_alignment, seed)
    table, error = measure_transfer(
        *base, found.target, bench.dimensions, workload, found.runtime, bench, found.fingerprint,
        count=samples, checks=checks, plan=plan, seed=seed, progress=progress(name),
    )  # fmt: skip
    assert table.error is not None  # noqa: S101  it has check networks
    return {
        "pair": name,
        "target": table.target,
        "device": found.fingerprint.device_name,
        "workload": workload.to_json(),
        "seconds": round(table.seconds, 1),
        "published": asdict(table.error),
        "transfer": asdict(error),
        "ratio": ratios(error),
        "bar_met": max(ratios(error).values()) < 0.5,
    }


def ratios(error: TransferError) -> dict[str, float]:
    """The error over that of the base times one constant: of relative errors and of seconds."""
    return {"relative": error.rmse / error.scaled_rmse, "seconds": error.rmse_s / error.scaled_rmse_s}


def datasheet(base: CostTable, workload: Workload) -> dict[str, Any]:
    """How far the catalogue's facts alone are off on the base's check networks: what no sample at all gives."""
    modelled = roofline_table(Target.parse(base.target), base.dimensions, workload, base.fingerprint)
    stacks = [tuple(map(LayerSizes, check["heads"], check["ffn_units"])) for check in base.checks]
    predicted = np.array([modelled.predict(stack, workload).value for stack in stacks])
    measured = np.array([check["measured_s"] for check in base.checks])
    off, scaled = predicted / measured - 1, predicted * np.median(measured / predicted) / measured - 1
    return {
        "check_nets": len(stacks),
        "mean_of_measured": float(1 + off.mean()),
        "mape": float(np.abs(off).mean()),
        "mape_times_one_constant": float(np.abs(scaled).mean()),
        "spearman": float(spearmanr(predicted, measured).statistic),
    }


def progress(name: str) -> Any:
    """Says on stderr how far a profile is."""

    def say(fraction: float) -> None:
        sys.stderr.write(f"\r{name}: {fraction:4.0%}")

    return say


def main() -> None:
    """Profile the base, carry it over, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", default="threads,batch,tokens,int8", help=f"some of {','.join(PAIRS)}")
    parser.add_argument("--gpu", default=None, help="also from this CPU to the GPU of that name, which must be here")
    parser.add_argument("--samples", type=int, default=SAMPLES)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="one short round: does it run? its figures are no figures")
    parser.add_argument("--json", type=Path, default=None)
    arguments = parser.parse_args()
    plan = QUICK if arguments.quick else Plan()
    checkpoint = load_checkpoint(str(embedded_model()), task="embedding")
    pairs = {name: PAIRS[name] for name in arguments.pairs.split(",")}
    pairs |= {"gpu": {"target": arguments.gpu}} if arguments.gpu else {}
    precisions = {device(**changes)[1].precision for changes in pairs.values()}
    bench = ModelWorkbench(checkpoint, find_templates(checkpoint, DiskStore(default_root()), precisions))
    base = measured(bench, plan, arguments.seed)
    assert base[0].error is not None  # noqa: S101  it has check networks
    record = {
        "command": "python bench/transfer.py",
        "fingerprint": base[0].fingerprint.to_json(),
        "seed": arguments.seed,
        "plan": asdict(plan),
        "roofline": datasheet(base[0], base[1]),
        "base": {"workload": base[1].to_json(), "seconds": round(base[0].seconds, 1), **asdict(base[0].error)},
        "pairs": [
            carried_over(name, changes, base, bench, plan=plan, samples=arguments.samples, seed=arguments.seed)
            for name, changes in pairs.items()
        ],
    }
    write_json(arguments.json, record)
    sys.stdout.write(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
