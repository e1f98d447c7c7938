"""A search problem whose optimum is known: errors and costs that add up over sub-blocks."""

import numpy as np

from compiler.costing import parameter_counts
from compiler.families import Architecture
from compiler.families.architecture import StemPart
from compiler.families.branch import ParameterCount
from compiler.families.table import family_of
from compiler.oneshot import exact_front
from compiler.search import hypervolume, make_method
from compiler.spaces import sample_stratified, sample_uniform


def bert_counts(head_size: int, layers: int) -> tuple[tuple[ParameterCount, ...], ...]:
    """Parameters of BERT's branches: projections with biases, a norm of scale and shift after each."""
    return ((ParameterCount(4 * head_size, 3 * head_size, 3, 0), ParameterCount(2, 1, 3, 0)),) * layers


SIZES = Architecture(
    family=family_of("bert"),
    prefix="",
    layers=6,
    heads=4,
    head_size=8,
    hidden_size=32,
    ffn_units=24,
    max_tokens=64,
    vocabulary=100,
    counts=bert_counts(8, 6),
    stem_parameters=1000,
    stem=(StemPart("embeddings.word_embeddings.weight", 1, 0),),
)


def cost(counts):
    return parameter_counts(SIZES, counts)


def error(counts) -> np.ndarray:
    """Later layers matter more, each with falling returns: the best net of a size is very uneven. Width matters to all."""
    weight = 1.5 ** np.arange(SIZES.layers)
    kept = np.sqrt(counts.heads / SIZES.heads) + np.sqrt(counts.units / SIZES.ffn_units)
    narrow = 0.0 if counts.widths is None else 1 - counts.widths / SIZES.hidden_size
    return 2 - (kept * weight).sum(axis=1) / weight.sum() + narrow


def known(space, genomes) -> np.ndarray:
    """The costs alone, as a run knows them beforehand."""
    return (cost(space.counts(genomes)) / cost(space.counts(space.largest[None])))[:, None]


def objectives(space, genomes) -> np.ndarray:
    return np.column_stack([error(space.counts(genomes)) / 2, known(space, genomes)])


def make(name, space, *, seed=0, sampler="stratified", **options):
    return make_method(name, space, samplers(space)[sampler], seed=seed, **options)


def samplers(space):
    return {
        "uniform": lambda rng, n: sample_uniform(space, rng, n),
        "stratified": lambda rng, n: sample_stratified(space, rng, n, cost),
    }


def search(method, space, judge=objectives, *, evaluations: int):
    """Genomes and objectives of the first so many evaluations."""
    asked, told = [], []
    while sum(map(len, asked)) < evaluations:
        genomes = method.ask()
        assert len(genomes) >= 1
        values = judge(space, genomes)
        method.tell(genomes, values)
        asked.append(genomes)
        told.append(values)
    return np.concatenate(asked)[:evaluations], np.concatenate(told)[:evaluations]


def finished(method, space, *, trainings: int):
    """Objectives of what was trained to the end, when so many full trainings pay for everything.

    A promoted network pays what it had not yet; a short training shows an error that is too large, for each by another amount.
    """
    had: dict[tuple[int, ...], float] = {}
    spent, found = 0.0, []
    while True:
        genomes = method.ask()
        values, shown = objectives(space, genomes), []
        for genome, value in zip(genomes, values, strict=True):
            before = had.get(tuple(genome), 0.0)
            spent += method.share - before * (before < method.share)
            if spent > trainings + 1e-9:
                return np.array(found)
            had[tuple(genome)] = method.share
            found += [value] if method.share == 1 else []
            excess = 0.01 * (1 / method.share - 1) * np.random.default_rng(genome).random()
            shown.append(value + np.array([excess, 0.0]))
        method.tell(genomes, np.array(shown))


def knapsack():
    """The error and cost above as losses and costs of every layer's options, attention first."""
    weight = 1.5 ** np.arange(SIZES.layers)
    losses, costs = [], []
    for piece, size in (("attention", SIZES.heads), ("ffn", SIZES.ffn_units)):
        for layer, w in enumerate(weight / weight.sum()):
            losses.append(w * (1 - np.sqrt(np.arange(size + 1) / size)) / 2)
            costs.append(np.array([float(SIZES.block_parameters(layer, piece, k)) for k in range(size + 1)]))
    return losses, costs


def ideal_volume(medium) -> float:
    """Of the best front, by dynamic programming: an oracle that knows nothing of searches."""
    return hypervolume(objectives(medium, exact_front(*knapsack()).options), np.array([1.0, 1.0]))
