"""How long one candidate takes to evaluate: MiniLM on a thousand sentences, as a search without training does it.

    python bench/evaluation.py --json bench/results/evaluation.json

Twelve networks spread evenly over parameters, the dense one among them. Each has its output projections re-solved, runs on
a thousand sentences of sst2/train and is scored with the noise of its score. What is stored is not evaluated again, so that this
is what a search pays for a network that it has never seen.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from benchmark_data import data_folder
from output import write_json

from compiler.costing import parameter_counts
from compiler.data import Split
from compiler.evaluation import make_yardstick
from compiler.families import load_checkpoint
from compiler.families.embedded import embedded_model
from compiler.oneshot import Reconstructor, calibrate
from compiler.slicing import SubnetRunner
from compiler.spaces import Subnet, make_space, sample_stratified
from compiler.tasks import encode, read_data, task_named
from targets import Target, measure_fingerprint, usable_cpus

SENTENCES, CALIBRATION, NETS = 1000, 500, 12


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """What it gives, and its seconds."""
    start = time.perf_counter()
    result = work()
    return result, time.perf_counter() - start


def main() -> None:
    """Evaluate every network once, after one that is not counted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, default=Path("bench/results/evaluation.json"))
    arguments = parser.parse_args()
    checkpoint = load_checkpoint(str(embedded_model()), task="embedding")
    texts = read_data(data_folder("sst2"), task="embedding").train.texts
    judged, calibrated = texts[:SENTENCES], texts[SENTENCES : SENTENCES + CALIBRATION]
    yardstick = make_yardstick(
        checkpoint, Split(texts=judged, labels=None), task_named("embedding").metric(), max_tokens=128,
        dense=lambda batches: batches.outputs(lambda inputs: checkpoint.model(**inputs)[-1]),
    )  # fmt: skip
    reconstructor = Reconstructor(checkpoint, calibrate(checkpoint, encode(checkpoint, calibrated, max_tokens=128)))
    runner = SubnetRunner(checkpoint.model, checkpoint.architecture)

    def evaluate(subnet: Subnet) -> dict[str, Any]:
        weights, solving_s = timed(lambda: reconstructor.parameters(subnet))
        outputs, running_s = timed(lambda: yardstick.outputs(lambda inputs: runner(subnet, inputs, weights)[-1]))
        quality, scoring_s = timed(lambda: yardstick.score(outputs))
        return {
            "heads": [s.heads for s in subnet.shape], "ffn_units": [s.ffn_units for s in subnet.shape],
            "metric": quality.metric, "standard_error": quality.standard_error, "solving_s": solving_s,
            "running_s": running_s, "scoring_s": scoring_s, "seconds": solving_s + running_s + scoring_s,
        }  # fmt: skip

    space = make_space("medium", checkpoint.architecture, unit_step=16)
    genomes = sample_stratified(
        space, np.random.default_rng(0), NETS - 1, lambda counts: parameter_counts(checkpoint.architecture, counts)
    )
    evaluate(space.subnet(space.middle))
    nets = [evaluate(space.subnet(genome)) for genome in (space.largest, *genomes)]
    seconds = [net["seconds"] for net in nets]
    record = {
        "sentences": SENTENCES, "tokens": yardstick.batches.tokens, "threads": usable_cpus(),
        "median_s": float(np.median(seconds)), "max_s": max(seconds), "nets": nets,
        "fingerprint": measure_fingerprint(Target.parse("cpu"), usable_cpus()).to_json(),
    }  # fmt: skip
    write_json(arguments.json, record)
    json.dump(record, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
