"""What a sandwich step costs: its four networks trained as slices, against four full passes with masks.

    python bench/slices.py --json bench/results/slices.json

Both ways train the same networks (whole, smallest, two random ones) of MiniLM on the same batch with the same losses, and end
with one optimiser step; they alternate, step by step. A mask zeroes what the slice leaves out, so a masked network computes as
much as the whole one. `ratio` is the time of a step with slices over that with masks, median over the steps; `expected` is the
encoder parameters of the four networks over those of four whole ones.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from output import write_json
from torch import Tensor, nn

from compiler.costing import parameter_counts
from compiler.data import Split, demo_data
from compiler.families import Checkpoint, load_checkpoint
from compiler.families.embedded import embedded_model
from compiler.spaces import Subnet, make_space
from compiler.supernet import SAMPLINGS, plan_step, stratified_sampler, uniform_sampler
from compiler.supernet.examples import Examples
from compiler.supernet.strategies import Plan
from compiler.supernet.trainer import SuperNetwork
from targets import Target, measure_fingerprint, usable_cpus

BATCH, TOKENS = 16, 32


@contextmanager
def masked(checkpoint: Checkpoint, subnet: Subnet) -> Iterator[None]:
    """The whole network, with zeros where the sub-network has nothing."""
    a, handles = checkpoint.architecture, []
    for layer in range(a.layers):
        for branch, kept in zip(a.branches(layer), subnet.kept(layer), strict=True):
            mask = torch.zeros(branch.output.size(branch.whole))
            mask[branch.output.indices(kept, len(mask))] = 1
            output = checkpoint.model.backbone.get_submodule(branch.output.module)
            handles.append(output.register_forward_pre_hook(_times(mask)))
    yield
    for handle in handles:
        handle.remove()


def _times(mask: Tensor) -> Callable[[Any, tuple[Tensor, ...]], tuple[Tensor]]:
    return lambda _, inputs: (inputs[0] * mask.to(inputs[0].dtype),)


class Steps:
    """Sandwich steps of MiniLM with a classifier's head, in both ways, on one batch."""

    def __init__(self, *, bf16: bool) -> None:
        self.checkpoint = load_checkpoint(str(embedded_model()), task="classification", label_names=("no", "yes"))
        self.network = SuperNetwork(self.checkpoint.model.train(), self.checkpoint.architecture)
        self.optimiser = torch.optim.AdamW(self.network.parameters(), lr=1e-5, fused=True)
        texts = tuple((" ".join(columns[0].split()),) for columns in demo_data(0).train.texts)
        examples = Examples(self.checkpoint, Split(texts=texts, labels=np.arange(len(texts)) % 2), max_tokens=TOKENS)
        self.inputs = examples.batch(np.argsort(-examples.lengths, kind="stable")[:BATCH])
        self.labels, self.bf16 = self.inputs.pop("labels"), bf16

    def seconds(self, plan: Plan, *, slices: bool) -> float:
        """One step, in seconds."""
        start = time.perf_counter()
        for turn in plan:
            if slices or turn.subnet is None:
                self._learn(turn.subnet)
            else:
                with masked(self.checkpoint, turn.subnet):
                    self._learn(None)
        self.optimiser.step()
        self.optimiser.zero_grad()
        return time.perf_counter() - start

    def _learn(self, subnet: Subnet | None) -> None:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.bf16):
            (logits,) = self.network(self.inputs, subnet)
        nn.functional.cross_entropy(logits.float(), self.labels).backward()  # type: ignore[no-untyped-call]


def expected(checkpoint: Checkpoint, plan: Plan) -> float:
    """Encoder parameters of the plan's networks over those of as many whole ones."""
    a = checkpoint.architecture
    whole = ((a.heads, a.ffn_units),) * a.layers
    shapes = [whole if turn.subnet is None else turn.subnet.shape for turn in plan]
    counts = [a.parameters(shape) - a.outside_parameters() for shape in shapes]
    return float(np.mean(counts) / counts[0])


def measure(steps: Steps, sampler: str, count: int) -> dict[str, Any]:
    """The two ways, step by step in turn; the first pair warms up."""
    checkpoint = steps.checkpoint
    space = make_space("medium", checkpoint.architecture, unit_step=16)
    cost = partial(parameter_counts, checkpoint.architecture)
    draw = uniform_sampler(space) if sampler == "uniform" else stratified_sampler(space, cost)
    plans = [plan_step("sandwich", space, draw, step=step, total_steps=count) for step in range(count + 1)]
    pairs = np.array([[steps.seconds(plan, slices=slices) for slices in (True, False)] for plan in plans])[1:]
    ratios = pairs[:, 0] / pairs[:, 1]
    low, high = np.percentile(ratios, [25, 75])
    return {
        "sampling": sampler, "steps": count, "slices_s": float(np.median(pairs[:, 0])),
        "masks_s": float(np.median(pairs[:, 1])), "ratio": float(np.median(ratios)), "quartiles": [float(low), float(high)],
        "expected": float(np.median([expected(checkpoint, plan) for plan in plans[1:]])),
    }  # fmt: skip


def main() -> None:
    """Both ways of drawing, in both precisions."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--json", type=Path, default=None)
    arguments = parser.parse_args()
    torch.set_num_threads(usable_cpus())
    record: dict[str, Any] = {
        "fingerprint": measure_fingerprint(Target.parse("cpu"), usable_cpus()).to_json(),
        "model": "all-MiniLM-L6-v2", "batch": BATCH, "tokens": TOKENS, "results": [],
    }  # fmt: skip
    for bf16, sampling in product((True, False), SAMPLINGS):
        found = measure(Steps(bf16=bf16), sampling, arguments.steps)
        record["results"].append({"precision": "bf16" if bf16 else "fp32", **found})
        write_json(arguments.json, record)
    json.dump(record, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
