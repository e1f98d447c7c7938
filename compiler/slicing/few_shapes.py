"""Fewer shapes of matrix products: in bfloat16 on a CPU each new one is compiled, which takes longer than a small product.

oneDNN generates code for a shape the first time and keeps it for the last thousand or so. Sub-networks with sizes of their own in
every layer, on batches of every length, meet new ones all the time: that was a third of a training step on short sentences.
"""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

from compiler.families import Architecture, Matrix

_UNITS = 128


def shapes_are_dear() -> bool:
    """Whether products are of bfloat16 here, inside an autocast, and on a CPU."""
    return torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") is torch.bfloat16


def with_round_units(parameters: Mapping[str, Tensor], architecture: Architecture) -> dict[str, Tensor]:
    """The same network with FFNs of a multiple of 128 units: those it lacks are rows of zeros, and columns, which add nothing.

    Gradients flow through into `parameters`. Exact whatever the activation: what a unit without weights says, nobody reads.
    """
    rounded = dict(parameters)
    for layer in range(architecture.layers):
        branch = architecture.branch(layer, "ffn")
        name = f"{branch.output.module}.weight"
        missing = -rounded[name].shape[1] % _UNITS if name in rounded else 0
        if missing:
            rounded[name] = functional.pad(rounded[name], (0, missing))
            for matrix in branch.reads:
                for part in (f"{matrix.module}.weight", f"{matrix.module}.bias"):
                    if part in rounded:
                        rounded[part] = _with_rows(rounded[part], matrix, missing)
    return rounded


def _with_rows(tensor: Tensor, matrix: Matrix, missing: int) -> Tensor:
    """The rows of a matrix, or its bias, with so many rows of zeros behind every copy."""
    copies = tensor.reshape(matrix.copies, -1, *tensor.shape[1:])
    return functional.pad(copies, (*(0, 0) * (copies.dim() - 2), 0, missing)).flatten(0, 1)


def cast_once(parameters: Mapping[str, Tensor], architecture: Architecture) -> dict[str, Tensor]:
    """What an autocast would make of the layers' matrices at every batch, for networks that see many and learn nothing."""
    if not shapes_are_dear():
        return dict(parameters)
    cast = with_round_units(parameters, architecture)
    for layer in range(architecture.layers):
        modules = [matrix.module for branch in architecture.branches(layer) for matrix in branch.matrices]
        names = [f"{module}.{kind}" for module in modules for kind in ("weight", "bias")]
        cast |= {name: cast[name].to(torch.bfloat16) for name in names if name in cast}
    return cast
