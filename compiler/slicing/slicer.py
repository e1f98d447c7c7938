"""Parameters and a sub-network to smaller parameters: the only code that cuts.

A pure, differentiable function on a parameter dictionary. Training runs it under autograd, evaluation without, export
saves what it returns.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from compiler.families import Architecture, Branch, Kept
from compiler.spaces import Subnet


def _take(tensor: Tensor, index: Sequence[int], dim: int) -> Tensor:
    """Rows or columns of a tensor; a view where they are the first k, the tensor itself where they are all."""
    size = tensor.shape[dim]
    if len(index) == size:
        return tensor
    if index[-1] == len(index) - 1:
        return tensor.narrow(dim, 0, len(index))
    return tensor.index_select(dim, torch.tensor(index, device=tensor.device))


def slice_parameters(parameters: Mapping[str, Tensor], architecture: Architecture, subnet: Subnet) -> dict[str, Tensor]:
    """Smaller parameters under the same names; those of dropped sub-blocks are absent.

    A kept group of a branch (a head, an FFN unit) keeps its rows of every matrix that reads the stream and its columns of the
    output projection, or those of its query heads that are kept. A kept residual dimension keeps its place in all that reads or writes the stream: embeddings,
    projections, norms, the head's input; a norm is then one over fewer dimensions. Without a head the output has all dimensions again, 0 where one is gone. Gradients flow from the result
    into `parameters`.
    """
    sliced = dict(parameters)
    assert (subnet.queries is None) == (architecture.apart is None)  # noqa: S101  else its sizes count something else
    for layer in range(architecture.layers):
        for branch, kept in zip(architecture.branches(layer), subnet.kept(layer), strict=True):
            if kept.groups:
                _cut(sliced, branch, kept)
            else:
                _drop(sliced, branch)
    if subnet.residual is not None:
        _narrow(sliced, architecture, subnet.residual)
    return sliced


def _narrow(sliced: dict[str, Tensor], architecture: Architecture, residual: Sequence[int]) -> None:
    for name, axis in architecture.residual_axes().items():
        if name in sliced:
            sliced[name] = _take(sliced[name], residual, axis)
    if architecture.restoring is not None:
        like, size = next(iter(sliced.values())), architecture.hidden_size
        places = torch.zeros(size, len(residual), dtype=like.dtype, device=like.device)
        places[residual, range(len(residual))] = 1
        sliced[f"{architecture.restoring}.weight"] = places
        sliced[f"{architecture.restoring}.bias"] = torch.zeros_like(places[:, 0])


def _cut(sliced: dict[str, Tensor], branch: Branch, kept: Kept) -> None:
    for matrix in branch.rows:
        for kind in ("weight", "bias"):
            name = f"{matrix.module}.{kind}"
            if name in sliced:
                sliced[name] = _take(sliced[name], matrix.indices(kept, len(sliced[name])), 0)
    name = f"{branch.output.module}.weight"
    sliced[name] = _take(sliced[name], branch.output.indices(kept, sliced[name].shape[1]), 1)


def _drop(sliced: dict[str, Tensor], branch: Branch) -> None:
    for module in branch.modules:
        for kind in ("weight", "bias"):
            sliced.pop(f"{module}.{kind}", None)
