"""Search methods against each other, without a model: hypervolume at equal evaluations on a problem made up for it.

    python bench/search_methods.py --seeds 5 --json bench/results/search_methods.json

The network is as large as MiniLM's encoder. A sub-block keeps the importance of the heads or units it keeps, which falls from the
first to the last as it does in trained networks; the error is a product over layers, so it is no sum, and the worst layer counts
extra. Costs are parameters, with more objectives also the widest sub-block and the mean width. Hypervolume is that of all
networks evaluated, every objective between 0 and 1, reference 1. Methods that model objectives are told the costs, as `compile`
does, unless --costs-unknown. `ask_s` is the mean time that a method takes itself, an ask and a tell together.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from output import write_json

from compiler.costing import parameter_counts
from compiler.families import Architecture
from compiler.families.branch import ParameterCount
from compiler.families.table import family_of
from compiler.search import AROUND_SEEDS, METHODS, hypervolume, make_method
from compiler.search.method import Known
from compiler.spaces import Ordering, make_space, sample_stratified
from compiler.spaces.subnet import IntArray

Floats = NDArray[np.float64]


def architecture(layers: int, hidden: int) -> Architecture:
    """MiniLM's encoder at (6, 384), BERT-base's at (12, 768)."""
    return Architecture(
        family=family_of("bert"), prefix="", layers=layers, heads=12, head_size=hidden // 12, hidden_size=hidden,
        ffn_units=4 * hidden, max_tokens=512, vocabulary=30522, stem_parameters=0,
        counts=((ParameterCount(4 * hidden // 12, 3 * hidden // 12, 3, 0), ParameterCount(2, 1, 3, 0)),) * layers,
    )  # fmt: skip


class Problem:
    """Errors and costs of genomes, all between 0 and 1."""

    def __init__(self, name: str, sizes: Architecture, objectives: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        orders = [[rng.permutation(n) for _ in range(sizes.layers)] for n in (sizes.heads, sizes.ffn_units)]
        ordering = Ordering(heads=tuple(orders[0]), units=tuple(orders[1]))
        self.space = make_space(name, sizes, ordering=ordering, unit_step=1 if name == "large" else 16)
        self.sizes, self.objectives = sizes, objectives
        self.importance = [self._importance(some) for some in orders]
        self.weight = rng.dirichlet(np.ones(sizes.layers)) * 2

    @staticmethod
    def _importance(orders: Sequence[IntArray]) -> Floats:
        """[layers, n], each layer's adding up to 1: the first by order e^3 times the last."""
        falling = np.exp(-3 * np.argsort(np.stack(orders), axis=1) / len(orders[0]))
        return np.asarray(falling / falling.sum(axis=1, keepdims=True))

    def _kept(self, genome: IntArray) -> Floats:
        """The importance that each layer keeps [layers], of attention and FFN alike."""
        subnet = self.space.subnet(genome)
        parts = zip(self.importance, (subnet.heads, subnet.units), strict=True)
        shares = [[layer[list(kept)].sum() for layer, kept in zip(all_, some, strict=True)] for all_, some in parts]
        return np.asarray(np.mean(shares, axis=0))

    def error(self, genomes: IntArray) -> Floats:
        """[n]: 0 of the whole network, near 1 of none."""
        kept = np.stack([self._kept(genome) for genome in genomes])
        return np.asarray(1 - np.exp(-self.weight * (1 - kept)).prod(axis=1) * (0.4 + 0.6 * kept.min(axis=1)))

    def costs(self, genomes: IntArray) -> Floats:
        """[n, objectives - 1], relative to the whole network."""
        counts = self.space.counts(genomes)
        total = parameter_counts(self.sizes, counts)
        widest = np.maximum(counts.heads / self.sizes.heads, counts.units / self.sizes.ffn_units)
        whole = parameter_counts(self.sizes, self.space.counts(self.space.largest[None]))
        every = np.stack([total / whole, widest.max(axis=1), widest.mean(axis=1)], axis=1)
        return np.asarray(every[:, : self.objectives - 1])

    def __call__(self, genomes: IntArray) -> Floats:
        """[n, objectives]."""
        return np.column_stack([self.error(genomes), self.costs(genomes)])

    def sample(self, rng: np.random.Generator, n: int) -> IntArray:
        """Spread over the whole range of parameters, as a run draws them."""
        return sample_stratified(self.space, rng, n, lambda counts: parameter_counts(self.sizes, counts))


def run(method: str, problem: Problem, seed: int, evaluations: int, known: Known | None) -> tuple[float, float]:
    """Hypervolume of one search, and seconds of its own for each time that it was asked and told."""
    search = make_method(method, problem.space, problem.sample, seed=seed, known=known)
    found: list[Floats] = []
    spent_s = 0.0
    while (left := evaluations - sum(map(len, found))) > 0:
        start = time.perf_counter()
        genomes = search.ask()[:left]
        asked = time.perf_counter()
        found.append(problem(genomes))
        told = time.perf_counter()
        search.tell(genomes, found[-1])
        spent_s += time.perf_counter() - told + asked - start
    return hypervolume(np.concatenate(found), np.ones(problem.objectives)), spent_s / len(found)


def record(method: str, space: str, arguments: Any) -> dict[str, Any]:
    """A method in a space, over the seeds; each seed is a problem of its own."""
    sizes = architecture(12, 768) if arguments.bert_base else architecture(6, 384)
    problems = [Problem(space, sizes, arguments.objectives, seed) for seed in range(arguments.seeds)]
    runs = np.array(
        [
            run(method, problem, seed, arguments.evaluations, None if arguments.costs_unknown else problem.costs)
            for seed, problem in enumerate(problems)
        ]
    )
    return {
        "space": space, "variables": len(problems[0].space.lower), "method": method,
        "evaluations": arguments.evaluations, "objectives": arguments.objectives, "seeds": arguments.seeds,
        "costs_known": not arguments.costs_unknown,
        "hypervolume": runs[:, 0].mean(), "sd": runs[:, 0].std(ddof=1) if len(runs) > 1 else None,
        "ask_s": runs[:, 1].mean(),
    }  # fmt: skip


def main() -> None:
    """Every method in every space, each as it comes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--methods", nargs="+", default=[name for name in METHODS if name not in (*AROUND_SEEDS, "mo-asha")]
    )
    parser.add_argument("--spaces", nargs="+", default=["small", "medium", "large"])
    parser.add_argument("--objectives", type=int, default=2, choices=(2, 3, 4))
    parser.add_argument("--evaluations", type=int, default=100)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--costs-unknown", action="store_true", help="costs are modelled like the error")
    parser.add_argument("--bert-base", action="store_true", help="twelve layers of BERT-base's size")
    parser.add_argument("--json", type=Path, default=None)
    arguments = parser.parse_args()
    records = []
    for space, method in product(arguments.spaces, arguments.methods):
        records.append(record(method, space, arguments))
        print(json.dumps(records[-1]), file=sys.stderr, flush=True)
        write_json(arguments.json, records)
    json.dump(records, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
