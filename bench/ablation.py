"""What each step brings: STS-B test Spearman of all-MiniLM-L6-v2 at equal predicted latency.

    python bench/ablation.py --seeds 0 1 2 --json bench/results/ablation.json

Steps: the same share of every layer, heads and units by importance; re-solved layer after layer; sizes allocated by the
exact front of the modelled loss; the search below that latency from there; its networks distilled from the dense model, all in
one job. Calibrated on, and polished with, sentences of stsb/train without their scores. Of the loss models that a run starts
from, and of the networks a search keeps, the one more like the dense model on sentences of stsb/dev is taken. Beside it: how
modelled loss ranks fifty random networks, against their likeness on stsb/dev.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from benchmark_data import data_folder
from output import write_json
from scipy.stats import spearmanr
from search_loops import UNIT_STEP, make_loop, prepare
from stsb_embeddings import SpearmanOfCosine

from compiler.families.embedded import embedded_model
from compiler.oneshot import exact_front
from compiler.pipeline import Options
from compiler.pipeline.choice import choose
from compiler.pipeline.limits import MARGIN
from compiler.pipeline.monitor import SilentMonitor
from compiler.pipeline.search_loop import dense_subnet
from compiler.pipeline.seeds import LOCAL_SHARES, Groups, allocated
from compiler.pipeline.training import Parameters
from compiler.slicing import slice_parameters
from compiler.spaces import Counts, Subnet, sample_stratified
from compiler.spaces.space import Medium
from compiler.store import DiskStore, Store, default_root
from compiler.tasks import read_data
from profilers import LayerSizes

SPEEDUPS = (1.5, 2.0, 3.0, 4.0)
NETS = 50
EVALUATIONS = 40
Net = tuple[Subnet, Parameters]


class Ablation:
    """One seed: what a run learns of the model, and every step's networks and weights."""

    def __init__(self, seed: int, store: Store) -> None:
        self.options = Options(
            model=str(embedded_model()), data=data_folder("stsb"), task="embedding", effort="balanced", search="exact",
            evaluations=EVALUATIONS, seed=seed,
        )  # fmt: skip
        self.learned, bench = prepare(self.options, store)
        self.checkpoint = self.learned.subject.checkpoint
        self.weights, self.ranking = self.learned.weights, self.learned.ranking
        self.loop = make_loop(self.learned, bench, ("fp32",), store)
        space = self.loop.shapes
        assert isinstance(space, Medium)  # noqa: S101  `make_loop` says so
        self.space, self.groups, self.cost = space, Groups.of(space), self.loop.pricing.costs["fp32"].latency
        self.test = SpearmanOfCosine(self.checkpoint, read_data(data_folder("stsb")).test)

    def likeness(self, net: Net) -> float:
        """Mean cosine to the dense embeddings, as a run judges networks without labels."""
        subnet, parameters = net
        return self.learned.search.quality(self.loop.judge.run(subnet, parameters, self.loop.forms[0])).metric

    def latency_s(self, subnet: Subnet) -> float:
        """Predicted."""
        return float(self.cost.latency_s(Counts.of([subnet.shape]))[0])

    def uniform(self, budget_s: float) -> Subnet:
        """The largest network of one share of every layer within a latency."""
        a = self.checkpoint.architecture
        shapes = [
            (LayerSizes(max(1, round(share * a.heads)), UNIT_STEP * max(1, round(share * a.ffn_units / UNIT_STEP))),)
            * a.layers
            for share in np.linspace(0.02, 1, 99)
        ]
        seconds = self.cost.latency_s(Counts.of(shapes))
        return Subnet.first(shapes[int(np.flatnonzero(seconds <= budget_s)[-1])], self.space.ordering)

    def allocated(self, budget_s: float, share: float) -> Subnet:
        """The sizes that lose least within a latency, by one loss model."""
        widest = self.cost.head_workspace_s * int(self.space.heads.max())
        widest += self.cost.unit_workspace_s * int(self.space.units.max())
        budgets_s = np.array([budget_s - self.cost.base_s - widest])
        losses = self.groups.losses(self.ranking.losses(share))
        return self.space.subnet(allocated(losses, self.cost, self.groups, budgets_s)[0])

    def searched(self, budget_s: float) -> list[Subnet]:
        """What a search below a latency keeps, which aims a little below its limit."""
        limits = {"latency": budget_s / MARGIN}
        self.loop.found.clear()
        front = self.loop.search(self.options, limits, SilentMonitor())
        return [found.subnet for found in choose(front, limits, 3)]

    def untrained(self, budget_s: float) -> dict[str, Net]:
        """The network of every step but the last within a latency."""
        uniform, weights = self.uniform(budget_s), self.weights
        allocated = [self.allocated(budget_s, share) for share in LOCAL_SHARES]
        return {
            "importance": (uniform, slice_parameters(weights.dense, self.checkpoint.architecture, uniform)),
            "reconstruction": (uniform, weights.corrected(uniform)),
            "allocation": self._most_alike(allocated),
            "search": self._most_alike(self.searched(budget_s)),
        }

    def _most_alike(self, subnets: list[Subnet]) -> Net:
        return max(((subnet, self.weights.corrected(subnet)) for subnet in subnets), key=self.likeness)

    def polished(self, subnets: list[Subnet]) -> list[Net]:
        """The same networks, distilled together."""
        self.weights.finish([(subnet, 1.0) for subnet in subnets])
        return [(subnet, self.weights.final(subnet)) for subnet in subnets]

    def told(self, net: Net) -> dict[str, Any]:
        """What a network is, and how good it is on dev and on test."""
        subnet = net[0]
        return {
            "heads": [s.heads for s in subnet.shape], "ffn_units": [s.ffn_units for s in subnet.shape],
            "predicted_ms": self.latency_s(subnet) * 1e3, "likeness": self.likeness(net), "spearman": self.test(*net),
        }  # fmt: skip

    def correlation(self) -> dict[str, float]:
        """Rank correlation of modelled loss and 1 - likeness, over random networks of all latencies."""
        rng = np.random.default_rng(self.options.seed)
        subnets = [
            self.space.subnet(genome) for genome in sample_stratified(self.space, rng, NETS, self.cost.latency_s)
        ]
        real = [1 - self.likeness((subnet, self.weights.searched(subnet))) for subnet in subnets]
        found = {}
        for share in LOCAL_SHARES:
            lost = self.ranking.losses(share)
            total = [
                sum(lost[i, "attention"][s.heads] + lost[i, "ffn"][s.ffn_units] for i, s in enumerate(net.shape))
                for net in subnets
            ]
            found[f"local {share}"] = float(spearmanr(total, real).statistic)
        return found

    def allocation_s(self) -> float:
        """How long the whole exact front of one loss model takes."""
        start = time.monotonic()
        exact_front(
            self.groups.losses(self.ranking.losses(0.0)), self.groups.seconds(self.cost),
            charge=self.cost.mask_s, charged=self.space.layers,
        )  # fmt: skip
        return time.monotonic() - start


def one_seed(seed: int, store: Store) -> dict[str, Any]:
    """Everything that one seed gives."""
    run = Ablation(seed, store)
    dense = dense_subnet(run.space)
    dense_s = run.latency_s(dense)
    nets = {f"{speedup}x": run.untrained(dense_s / speedup) for speedup in SPEEDUPS}
    polished = run.polished([steps["search"][0] for steps in nets.values()])
    for steps, net in zip(nets.values(), polished, strict=True):
        steps["polish"] = net
    return {
        "seed": seed, "calibration_tokens": run.ranking.batches.tokens, "dense": run.test(dense, run.weights.dense),
        "allocation_s": round(run.allocation_s(), 3), "rank_correlation": run.correlation(),
        "speedups": {speedup: {step: run.told(net) for step, net in steps.items()} for speedup, steps in nets.items()},
    }  # fmt: skip


def main() -> None:
    """Each seed, as it comes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--cache", type=Path, default=None)
    parser.add_argument("--json", type=Path, default=None)
    arguments = parser.parse_args()
    store, results = DiskStore(arguments.cache or default_root()), []
    for seed in arguments.seeds:
        results.append(one_seed(seed, store))
        write_json(arguments.json, results)
    json.dump(results, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
