"""What a training step takes, and what it would take without one of its savings, or without any.

    python bench/training.py --json bench/results/training.json

A step of a super-network of MiniLM (strategy full) on MRPC, and one that polishes ten of its sub-networks on the sentences of
STS-B, in batches of 32. Every run has a process of its own, since a process that met a shape of product before keeps its code.
The ways run in turns, `--rounds` times; of a run the mean of the second half of its `--steps` counts, of the rounds the median.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from benchmark_data import data_folder
from output import write_json

from compiler.cli.main import ENVIRONMENT
from compiler.costing import parameter_counts
from compiler.families import Checkpoint, load_checkpoint
from compiler.families.embedded import embedded_model
from compiler.slicing import skeleton, slice_parameters
from compiler.spaces import make_space, sample_uniform
from compiler.supernet import TrainingOptions, examples, polish, train_supernet, training
from compiler.tasks import read_data
from targets import Target, measure_fingerprint, usable_cpus

POLISHED = 10


@contextmanager
def every_shape(_: Checkpoint) -> Iterator[None]:
    """FFNs and batches of every size, and as much room for their code as oneDNN has by itself."""
    with (
        patch.object(skeleton, "with_round_units", lambda parameters, _: parameters),
        patch.object(examples, "round_length", lambda tokens, _: tokens),
    ):
        yield


SAVINGS: dict[str, Callable[[Checkpoint], AbstractContextManager[Any]]] = {
    "fused attention": lambda _: patch.object(training, "WRITTEN_OUT_TOKENS", 0),
    "PyTorch's dropout": lambda _: patch.object(training, "ByteDropout", nullcontext),
    "every shape": every_shape,
    "whole table": lambda checkpoint: patch.object(
        examples.Examples, "renumbered", lambda _: torch.arange(checkpoint.architecture.vocabulary)
    ),
}
"""What trains with PyTorch's own, or all that there is, instead."""

WAYS = {"as it is": (), **{name: (name,) for name in SAVINGS}, "all four": tuple(SAVINGS)}

Run = Callable[[Path, Callable[[float, str], None]], Any]


@contextmanager
def in_the_way(way: str, checkpoint: Checkpoint) -> Iterator[None]:
    """Training with one of its savings left out, or all."""
    with ExitStack() as stack:
        for name in WAYS[way]:
            stack.enter_context(SAVINGS[name](checkpoint))
        yield


def supernet_run(steps: int) -> tuple[Checkpoint, Run]:
    """Super-network training on pairs of sentences."""
    data = read_data(data_folder("mrpc"))
    checkpoint = load_checkpoint(str(embedded_model()), task="classification", label_names=data.label_names)
    space, train = make_space("medium", checkpoint.architecture), data.train
    options = TrainingOptions(epochs=32 * steps / len(train))
    cost = partial(parameter_counts, checkpoint.architecture)
    return checkpoint, lambda folder, progress: train_supernet(
        checkpoint, train, space=space, cost=cost, options=options, max_tokens=128,
        work_dir=folder, progress=progress,
    )  # fmt: skip


def polish_run(steps: int) -> tuple[Checkpoint, Run]:
    """Distillation of random sub-networks on single sentences."""
    train = read_data(data_folder("stsb"), task="embedding").train
    checkpoint = load_checkpoint(str(embedded_model()), task="embedding")
    space = make_space("medium", checkpoint.architecture)
    subnets = [space.subnet(genome) for genome in sample_uniform(space, np.random.default_rng(0), POLISHED)]
    dense = {name: parameter.detach() for name, parameter in checkpoint.model.backbone.named_parameters()}
    starts = [slice_parameters(dense, checkpoint.architecture, subnet) for subnet in subnets]
    options = TrainingOptions(epochs=32 * steps / sum(map(len, train.texts)), dropout=0.0)
    return checkpoint, lambda folder, progress: polish(
        checkpoint, dense, subnets, starts, split=train, options=options, max_tokens=128,
        work_dir=folder, progress=progress,
    )  # fmt: skip


RUNS = {"super-network": supernet_run, "polish": polish_run}


def seconds_a_step(kind: str, way: str, steps: int) -> float:
    """Of one run, once half of it is over."""
    ends: list[float] = []
    checkpoint, run = RUNS[kind](steps)
    with tempfile.TemporaryDirectory() as folder, in_the_way(way, checkpoint):
        run(Path(folder), lambda *_: ends.append(time.perf_counter()))
    return float(np.mean(np.diff(ends)[steps // 2 :]))


def in_a_process(kind: str, way: str, steps: int) -> float:
    """The same, measured in a process that has done nothing else."""
    environment = {**os.environ, **ENVIRONMENT}
    if "every shape" in WAYS[way]:
        del environment["ONEDNN_PRIMITIVE_CACHE_CAPACITY"]
    command = [sys.executable, __file__, "--one", kind, way, "--steps", str(steps)]
    return float(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    """Both trainings in every way, in turns; networks that are polished have no dropout."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one", nargs=2, default=None, metavar=("KIND", "WAY"), help="a single run, in this process")
    parser.add_argument("--json", type=Path, default=None)
    arguments = parser.parse_args()
    torch.set_num_threads(usable_cpus())
    if arguments.one:
        kind, way = arguments.one
        print(seconds_a_step(kind, way, arguments.steps))
        return
    found: dict[str, Any] = {}
    for kind in RUNS:
        times: dict[str, list[float]] = {way: [] for way in WAYS}
        for _ in range(arguments.rounds):
            for way, measured in times.items():
                measured.append(in_a_process(kind, way, arguments.steps))
        found[kind] = {way: float(np.median(measured)) for way, measured in times.items()}
        found[f"{kind}, rounds"] = times
    fingerprint = measure_fingerprint(Target.parse("cpu"), usable_cpus()).to_json()
    write_json(arguments.json, {"threads": usable_cpus(), "seconds_a_step": found, "fingerprint": fingerprint})
    json.dump(found, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
