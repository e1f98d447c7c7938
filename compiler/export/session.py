"""Run a graph as it will be served, on the inputs PyTorch gets: how a quantised network is judged."""

from collections.abc import Mapping

import torch
from torch import Tensor

from compiler.evaluation.batches import Run
from profilers import GraphSource
from profilers.runtimes.onnx_runtime import open_session


def graph_run(source: GraphSource, threads: int) -> Run:
    """Runs a graph under ONNX Runtime and returns what is scored: its last output."""
    session = open_session(source, threads)

    def run(inputs: Mapping[str, Tensor]) -> Tensor:
        outputs = session.run(None, {name: tensor.numpy() for name, tensor in inputs.items()})
        return torch.from_numpy(outputs[-1])

    return run
