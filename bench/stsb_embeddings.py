"""STS-B as a test of embeddings cut without training: Spearman of cosine against score, every layer cut alike.

    python bench/stsb_embeddings.py --json bench/results/stsb_embeddings.json

Calibrated on sentences of stsb/train with no scores; the test split is only reported. Four ways to cut each shape: the
first heads and units by index, the most important ones, those re-solved on the dense model's Gram matrices, and those
re-solved layer after layer on the network's own activations (what `--effort fast` ships).
"""

import argparse
import json
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

import numpy as np
from benchmark_data import data_folder
from output import write_json
from scipy.stats import spearmanr
from torch import Tensor

from compiler.data import Split
from compiler.families import Checkpoint, load_checkpoint
from compiler.families.embedded import embedded_model
from compiler.oneshot import Reconstructor, calibrate, rank_sub_blocks, reconstruct, sensitivities
from compiler.oneshot.reconstruction import one_batch, residual_sums
from compiler.slicing import SubnetRunner
from compiler.spaces import Ordering, Subnet
from compiler.tasks import encode, read_data
from profilers import LayerSizes

SHAPES = ((12, 1536), (12, 768), (6, 768), (4, 384), (3, 384))


class SpearmanOfCosine:
    """Scores a sub-network on the sentence pairs of a split."""

    def __init__(self, checkpoint: Checkpoint, split: Split) -> None:
        self.runner = SubnetRunner(checkpoint.model, checkpoint.architecture)
        self.scores = split.labels
        self.sides = [encode(checkpoint, [(pair[i],) for pair in split.texts], max_tokens=128) for i in (0, 1)]

    def __call__(self, subnet: Subnet, parameters: Mapping[str, Tensor] | None) -> float:
        """Spearman times 100."""
        sides = [side.outputs(lambda inputs: self.runner(subnet, inputs, parameters)[-1]) for side in self.sides]
        a, b = (side / np.linalg.norm(side, axis=1, keepdims=True) for side in sides)
        return float(spearmanr((a * b).sum(axis=1), self.scores).statistic) * 100


def main() -> None:
    """Cut, score, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sentences", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, default=None)
    arguments = parser.parse_args()
    data = read_data(data_folder("stsb"))
    checkpoint = load_checkpoint(str(embedded_model()), task="embedding")
    sentences = [(text,) for pair in data.train.texts for text in pair]
    rows = np.random.default_rng(arguments.seed).permutation(len(sentences))[: arguments.sentences]
    batches = encode(checkpoint, [sentences[row] for row in rows], max_tokens=128)
    calibration = calibrate(checkpoint, batches)
    ordering, _ = rank_sub_blocks(checkpoint, calibration, sensitivities(checkpoint, batches))
    solver, batch = Reconstructor(checkpoint, calibration), one_batch(batches, checkpoint)
    sums, score = residual_sums(checkpoint, batch), SpearmanOfCosine(checkpoint, data.test)
    a = checkpoint.architecture
    by_index = Ordering.by_index(a.shape)
    results = []
    for heads, units in SHAPES:
        shape = (LayerSizes(heads, units),) * a.layers
        subnet = Subnet.first(shape, ordering)
        solved = solver.parameters(subnet)
        results.append({
            "heads": heads,
            "ffn_units": units,
            "parameters": a.parameters(shape),
            "by_index": score(Subnet.first(shape, by_index), None),
            "by_importance": score(subnet, None),
            "solved_on_dense": score(subnet, solved),
            "solved_in_sequence": score(subnet, reconstruct(checkpoint, subnet, solved, batch, sums)),
        })  # fmt: skip
    record = {
        "command": "python bench/stsb_embeddings.py",
        "versions": {name: metadata.version(name) for name in ("torch", "transformers", "paretoc")},
        "seed": arguments.seed,
        "calibration": {"sentences": arguments.sentences, "tokens": batches.tokens},
        "spearman_x100": results,
    }
    write_json(arguments.json, record)
    sys.stdout.write(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
