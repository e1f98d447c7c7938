"""What each step without training brings: STS-B test Spearman of all-MiniLM-L6-v2 at equal predicted latency.

    python bench/ablation.py --seeds 0 1 2 --json bench/results/ablation.json

Steps: the same share of every layer, heads and units by importance; re-solved layer after layer; sizes allocated by the
exact front of the modelled loss. (Search and polish come on top: `bench/oneshot.py`.) Calibrated on sentences of stsb/train
without their scores. Of the loss models that a run starts from, the one whose network is more like the dense model on sentences of
stsb/dev is taken. Beside it: how modelled loss ranks fifty random networks, against their likeness on stsb/dev.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from benchmark_data import data_folder
from output import write_json
from scipy.stats import spearmanr
from stsb_embeddings import SpearmanOfCosine
from torch import Tensor

from compiler.costing import CostModel
from compiler.data import Split, TextData, read_data
from compiler.evaluation import default_metric, encode, make_yardstick
from compiler.families import Checkpoint, load_checkpoint
from compiler.families.embedded import embedded_model
from compiler.oneshot import (
    Reconstructor,
    calibrate,
    exact_front,
    rank_sub_blocks,
    reconstruct,
    sensitivities,
)
from compiler.oneshot.reconstruction import one_batch, residual_sums
from compiler.pipeline.ranking import Ranking
from compiler.pipeline.seeds import LOCAL_SHARES, Groups, allocated
from compiler.slicing import SubnetRunner, slice_parameters
from compiler.spaces import Counts, Subnet, make_space, sample_stratified
from compiler.spaces.space import Medium
from profilers import CostTable, LayerSizes, Workload
from targets.presence import shipped_files

SPEEDUPS = (1.5, 2.0, 3.0, 4.0)
NETS = 50
Parameters = Mapping[str, Tensor]


def cost_model(precision: str = "fp32") -> CostModel:
    """The shipped table of this model at batch 1, 128 tokens, one thread."""
    workload = Workload(batch=1, tokens=128, threads=1, precision=precision, runtime="onnxruntime")
    (file,) = (file for file in shipped_files("cpu") if file.name == "cpu-minilm.json")
    table = CostTable.read(Path(str(file)))
    return CostModel.of(table.under([workload]), workload)


Likeness = Callable[[Subnet, Parameters], float]
"""Mean cosine of a sub-network's embeddings to the dense ones."""


def likeness(checkpoint: Checkpoint, sentences: Sequence[tuple[str, ...]]) -> Likeness:
    """On some sentences, as a run judges networks without labels."""
    runner = SubnetRunner(checkpoint.model, checkpoint.architecture)
    yardstick = make_yardstick(
        checkpoint, Split(texts=tuple(sentences), labels=None), default_metric("embedding", None), max_tokens=128,
        dense=lambda batches: batches.outputs(lambda inputs: checkpoint.model(**inputs)[-1]),
    )  # fmt: skip
    return lambda subnet, weights: yardstick.quality(lambda inputs: runner(subnet, inputs, weights)[-1]).metric


class OneShot:
    """One seed: calibration, ranking, and every step's weights."""

    def __init__(self, checkpoint: Checkpoint, sentences: Sequence[tuple[str, ...]], seed: int) -> None:
        rng = np.random.default_rng(seed)
        batches = encode(checkpoint, [sentences[i] for i in rng.permutation(len(sentences))[:1000]], max_tokens=128)
        self.checkpoint, self.architecture = checkpoint, checkpoint.architecture
        calibration = calibrate(checkpoint, batches)
        ordering, blocks = rank_sub_blocks(checkpoint, calibration, sensitivities(checkpoint, batches, seed=seed))
        self.ranking = Ranking(batches=batches, calibration=calibration, ordering=ordering, blocks=blocks)
        self.reconstructor = Reconstructor(checkpoint, calibration)
        batch = one_batch(batches, checkpoint)
        self.batch, self.sums = batch, residual_sums(checkpoint, batch)
        space = make_space("medium", self.architecture, ordering=ordering, unit_step=16)
        assert isinstance(space, Medium)  # noqa: S101  by that name
        self.space = space

    def sliced(self, subnet: Subnet) -> Parameters:
        """Cut, nothing re-solved."""
        return slice_parameters(self.reconstructor.dense, self.architecture, subnet)

    def resolved(self, subnet: Subnet) -> Parameters:
        """Re-solved as `--effort fast` ships it."""
        start = self.reconstructor.parameters(subnet)
        return reconstruct(self.checkpoint, subnet, start, self.batch, self.sums)

    def uniform(self, cost: CostModel, budget_s: float) -> Subnet:
        """The largest network of one share of every layer within a latency."""
        a = self.architecture
        shapes = [
            (LayerSizes(max(1, round(share * a.heads)), max(16, round(share * a.ffn_units / 16) * 16)),) * a.layers
            for share in np.linspace(0.02, 1, 99)
        ]
        seconds = cost.latency_s(Counts.of(shapes))
        return Subnet.first(shapes[int(np.flatnonzero(seconds <= budget_s)[-1])], self.space.ordering)

    def allocated(self, cost: CostModel, budget_s: float, share: float) -> Subnet:
        """The sizes that lose least within a latency, by one loss model."""
        groups = Groups.of(self.space)
        budgets_s = np.array([budget_s - cost.base_s - self.widest(cost)])
        return self.space.subnet(allocated(groups.losses(self.ranking.losses(share)), cost, groups, budgets_s)[0])

    def widest(self, cost: CostModel) -> float:
        """The most that scratch space takes."""
        heads, units = int(self.space.heads.max()), int(self.space.units.max())
        return cost.head_workspace_s * heads + cost.unit_workspace_s * units


def steps(shot: OneShot, cost: CostModel, budget_s: float, like: Likeness, test: SpearmanOfCosine) -> dict[str, Any]:
    """Likeness on dev and Spearman on test of each step within a latency."""
    uniform = shot.uniform(cost, budget_s)
    allocations = [shot.allocated(cost, budget_s, share) for share in LOCAL_SHARES]
    nets = [(net, shot.resolved(net)) for net in allocations]
    ways = {
        "importance": (uniform, shot.sliced(uniform)),
        "reconstruction": (uniform, shot.resolved(uniform)),
        "allocation": max(nets, key=lambda net: like(*net)),
    }
    return {
        name: {
            "heads": [s.heads for s in net[0].shape], "ffn_units": [s.ffn_units for s in net[0].shape],
            "predicted_ms": float(cost.latency_s(Counts.of([net[0].shape]))[0]) * 1e3,
            "likeness": like(*net), "spearman": test(*net),
        }
        for name, net in ways.items()
    }  # fmt: skip


def correlation(shot: OneShot, cost: CostModel, like: Likeness, seed: int) -> dict[str, float]:
    """Rank correlation of modelled loss and 1 - likeness, over random networks of all latencies."""
    genomes = sample_stratified(shot.space, np.random.default_rng(seed), NETS, cost.latency_s)
    subnets = [shot.space.subnet(genome) for genome in genomes]
    real = [1 - like(subnet, shot.reconstructor.parameters(subnet)) for subnet in subnets]
    found = {}
    for share in LOCAL_SHARES:
        modelled = shot.ranking.losses(share)
        total = [
            sum(modelled[i, "attention"][s.heads] + modelled[i, "ffn"][s.ffn_units] for i, s in enumerate(net.shape))
            for net in subnets
        ]
        found[f"local {share}"] = float(spearmanr(total, real).statistic)
    return found


def one_seed(checkpoint: Checkpoint, data: TextData, seed: int) -> dict[str, Any]:
    """Everything that one seed gives."""
    train, dev = ([(text,) for pair in split.texts for text in pair] for split in (data.train, data.validation))
    cost, a = cost_model(), checkpoint.architecture
    dense = tuple(LayerSizes(a.heads, a.ffn_units) for _ in range(a.layers))
    dense_s = float(cost.latency_s(Counts.of([dense]))[0])
    shot, test = OneShot(checkpoint, list(dict.fromkeys(train)), seed), SpearmanOfCosine(checkpoint, data.test)
    like = likeness(checkpoint, list(dict.fromkeys(dev))[:400])
    groups = Groups.of(shot.space)
    start = time.monotonic()
    exact_front(
        groups.losses(shot.ranking.losses(0.0)), groups.seconds(cost), charge=cost.mask_s, charged=shot.space.layers
    )
    allocation_s = time.monotonic() - start
    return {
        "seed": seed, "calibration_tokens": shot.ranking.batches.tokens,
        "dense": test(shot.space.subnet(shot.space.largest), shot.reconstructor.dense),
        "allocation_s": round(allocation_s, 3), "rank_correlation": correlation(shot, cost, like, seed),
        "speedups": {f"{s}x": steps(shot, cost, dense_s / s, like, test) for s in SPEEDUPS},
    }  # fmt: skip


def main() -> None:
    """Each seed, as it comes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--json", type=Path, default=None)
    arguments = parser.parse_args()
    data = read_data(data_folder("stsb"))
    checkpoint = load_checkpoint(str(embedded_model()), task="embedding")
    results = []
    for seed in arguments.seeds:
        results.append(one_seed(checkpoint, data, seed))
        write_json(arguments.json, results)
    json.dump(results, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
