"""Sub-blocks that 8 bits cost far more than the others: they may stay in fp32."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from compiler.execution import on_host
from compiler.export import ModelWorkbench, graph_run
from compiler.families import Architecture
from compiler.pipeline.learned import Learned
from compiler.spaces import Ordering, SubBlock, Subnet
from compiler.store import Store, key_of
from profilers import Graph
from targets import usable_cpus

SUFFERS = 0.02
"""Of the variance of a network's outputs: where 8 bits cost less, no sub-block suffers."""

_SHARE, _TIMES_EVEN = 0.25, 3
_MOST = 0.25

Exceptions = tuple[SubBlock, ...]
Progress = Callable[[float], None]


def choose_exceptions(loss: Callable[[Exceptions], float], blocks: Sequence[SubBlock]) -> Exceptions:
    """The sub-blocks that suffer, by what the network loses with some of them in fp32.

    Each is tried alone, and those that help most are taken together, one by one, while each takes away a quarter of what is
    left, and three times its even share; a quarter of all sub-blocks at most. Whether a network with these exceptions is worth
    its time is not decided here: the search holds both against each other.
    """
    left = whole = loss(())
    if whole < SUFFERS:
        return ()
    kept_of_it = 1 - max(_SHARE, _TIMES_EVEN / len(blocks))
    alone = {block: loss((block,)) for block in blocks}
    chosen: Exceptions = ()
    for block in sorted(blocks, key=lambda b: alone[b])[: max(int(_MOST * len(blocks)), 1)]:
        found = alone[block] if not chosen else loss((*chosen, block))
        if left < SUFFERS or found > kept_of_it * left:
            break
        chosen, left = (*chosen, block), found
    return tuple(sorted(chosen))


def find_exceptions(
    learned: Learned, bench: ModelWorkbench, precision: str, store: Store, progress: Progress = lambda _: None
) -> Exceptions:
    """Those of a model at a precision, found on the whole network and the bench's texts; from the store where known."""
    texts, task = bench.texts, bench.checkpoint.task
    assert texts is not None  # noqa: S101  where something is quantised there are texts
    architecture = learned.subject.checkpoint.architecture
    key = key_of([learned.about, "exceptions", precision, len(texts), SUFFERS])
    stored = store.get("exceptions", key)
    if stored is None:
        full = Subnet.first(architecture.shape, Ordering.by_index(architecture.shape, architecture.apart))
        parameters = on_host(learned.weights.dense)

        def outputs(graph: Graph) -> NDArray[np.float32]:
            run = graph_run(graph, usable_cpus(), task.judged)
            return texts.outputs(lambda inputs: task.sample(run(inputs), inputs))

        exact = outputs(bench.graph(full, parameters, "fp32"))
        graphs, blocks = bench.graphs(full, parameters, precision), _blocks(architecture)
        done = 0

        def loss(exceptions: Exceptions) -> float:
            nonlocal done
            done += 1
            progress(min(done / (1 + len(blocks)), 1.0))
            return unexplained(exact, outputs(graphs(exceptions)))

        stored = store.put("exceptions", key, [list(block) for block in choose_exceptions(loss, blocks)])
    return tuple(SubBlock(*block) for block in stored)


def _blocks(architecture: Architecture) -> list[SubBlock]:
    """All that the network has."""
    found: list[SubBlock] = []
    for layer, sizes in enumerate(architecture.shape):
        found += [SubBlock(layer, "attention")] * bool(sizes.heads) + [SubBlock(layer, "ffn")] * bool(sizes.ffn_units)
    return found


def unexplained(exact: NDArray[np.float32], coarse: NDArray[np.float32]) -> float:
    """Share of the variance of outputs [examples, values] that others of the same examples do not explain; lower is better."""
    off = float(((coarse - exact) ** 2).sum())
    return off / max(float(((exact - exact.mean(axis=0)) ** 2).sum()), float(np.finfo(np.float32).tiny))
