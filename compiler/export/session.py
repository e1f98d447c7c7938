"""Run a graph as it will be served, on the inputs PyTorch gets: how a quantised network is judged."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from compiler.tasks import Outputs, Run
from profilers import GraphSource
from profilers.runtimes.onnx_runtime import open_session


def graph_run(
    source: GraphSource, threads: int, judged: Callable[[Outputs], Tensor] = lambda outputs: outputs[-1]
) -> Run:
    """Runs a graph under ONNX Runtime and returns what is scored of its outputs: the last, where nothing else is said."""
    session = open_session(source, threads)

    def run(inputs: Mapping[str, Tensor]) -> Tensor:
        outputs = session.run(None, {name: tensor.numpy() for name, tensor in inputs.items()})
        return judged(tuple(map(torch.from_numpy, outputs)))

    return run
