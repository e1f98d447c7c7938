"""Structured optimal brain surgeon: which heads and units to drop, and what is lost when the rest make up for them.

For a linear map W with inputs of Gram matrix G, removing the inputs S and re-solving the others raises the squared
error by tr(W_S (G^-1_SS)^-1 W_S^T) (Hassibi, Stork, "Second order derivatives for network pruning", NIPS 1992; in
groups: Kurtic et al., "ZipLM", NeurIPS 2023). The least costly group goes first, then G^-1 and W are updated. What an
error costs is counted at the network's output (`compiler.oneshot.sensitivity`): the re-solved weights are the same.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from compiler.execution import on_the_models_device
from compiler.families import PIECES, Architecture, Branch, Checkpoint, Kept
from compiler.oneshot.calibration import Calibration, sub_blocks
from compiler.spaces import Ordering, QueryOrder
from compiler.spaces.subnet import IntArray
from profilers import Heads, attention_sizes

DAMPING = 1e-3
CARRIED = 0.8
"""Of the groups that matrices have, those alive at least: what is gone is then left out, half of all the work."""

_SENSITIVITY_DAMPING = 0.1  # of the mean diagonal: it is estimated from a few thousand tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class SubBlock:
    """One sub-block ranked.

    `order` is groups by importance (int64, most important first). With the k most important kept and re-solved,
    `losses[k]` is the squared error at the network's output to first order, `local[k]` the squared error of the sub-block
    relative to the variance of the residual sum it feeds. At 0 the whole sub-block is gone. Where query heads are cut apart,
    `slots` orders those of every group (int64 [groups, queries]), and k counts the model's `attention_sizes`: infinity where the
    sub-block is too small for a size.
    """

    order: IntArray
    losses: np.ndarray
    local: np.ndarray
    slots: IntArray | None = None


_GONE = SubBlock(order=np.zeros(0, dtype=np.int64), losses=np.zeros(1), local=np.zeros(1))
"""What a network cut before no longer has: there is nothing to order and nothing to lose."""


class Removal(NamedTuple):
    """Groups by importance, int64 [groups], and with k of them kept the `losses[k]` and squared `errors[k]` a token."""

    order: IntArray
    losses: np.ndarray
    errors: np.ndarray


def damping(gram: Tensor) -> Tensor:
    """What is added to a Gram matrix's diagonal, a small multiple of its mean: singular ones become solvable."""
    width = len(gram) - 1
    ridge = DAMPING * gram.diagonal()[:width].mean().clamp(min=1e-12)
    added = torch.full((width + 1,), float(ridge), dtype=gram.dtype)
    added[-1] = 1e-9
    return added


def damped(gram: Tensor) -> Tensor:
    """The Gram matrix with its damping."""
    return gram + torch.diag(damping(gram))


def _scores(weight: Tensor, inverse: Tensor, group: int, alive: Tensor) -> Tensor:
    """Error added by removing each group alone: float64 [groups], inf where it is gone already."""
    groups = len(alive)
    if group == 1:
        scores = weight[:, :groups].square().sum(dim=0) / inverse.diagonal()[:groups].clamp(min=1e-30)
    else:
        scores = torch.full((groups,), torch.inf, dtype=torch.float64)
        for g in torch.nonzero(alive).flatten().tolist():
            rows = slice(g * group, (g + 1) * group)
            part = weight[:, rows]
            scores[g] = (part * torch.linalg.solve(inverse[rows, rows], part.T).T).sum()
    return torch.where(alive, scores, torch.inf)


def columns_of(groups: Tensor, group: int) -> Tensor:
    """Inputs of groups of `group` consecutive ones each, int64 [groups * group]."""
    return (groups.reshape(-1, 1) * group + torch.arange(group)).flatten()


def rank_groups(weight: Tensor, gram: Tensor, group: int, *, metric: Tensor | None = None, steps: int = 64) -> Removal:
    """Order groups of `group` consecutive inputs by structured OBS.

    `weight` is [outputs, groups * group], `gram` [groups * group + 1] squared, `metric` [outputs] squared what an error of
    the outputs costs (the identity if left out). At most `steps` removals are made, several groups at a time where there
    are more groups.
    """
    outputs, groups = len(weight), weight.shape[1] // group
    here, chunk = torch.arange(groups), max(1, groups // steps)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(damped(gram)))
    weight = torch.cat([weight.double(), torch.zeros(outputs, 1, dtype=torch.float64)], dim=1)
    root = torch.eye(outputs, dtype=torch.float64) if metric is None else torch.linalg.cholesky(metric).T
    weight = torch.cat([root @ weight, weight])
    alive = torch.ones(groups, dtype=torch.bool)
    removed: list[int] = []
    lost = np.zeros((2, groups + 1))
    total = np.zeros(2)
    while len(removed) < groups:
        count = min(chunk, groups - len(removed))
        gone = torch.topk(_scores(weight[:outputs], inverse, group, alive), count, largest=False).indices
        columns = columns_of(gone, group)
        part = weight[:, columns]
        rows = inverse[columns]
        update = torch.linalg.solve(rows[:, columns], rows)
        added = (part * torch.linalg.solve(rows[:, columns], part.T).T).sum(dim=1)
        start, total = total, total + added.reshape(2, outputs).sum(dim=1).cpu().numpy()
        weight.addmm_(part, update, alpha=-1)
        inverse.addmm_(rows.T, update, alpha=-1)
        weight[:, columns] = 0
        alive[gone] = False
        left = groups - len(removed)
        lost[:, left - count : left + 1] = np.linspace(total, start, count + 1, axis=1)
        removed.extend(here[gone].tolist())
        if int(alive.sum()) < CARRIED * len(alive):
            columns = torch.cat([columns_of(alive.nonzero(), group), torch.tensor([len(alive) * group])])
            weight, inverse = weight[:, columns], inverse[columns][:, columns]
            here, alive = here[alive], alive[alive]
    return Removal(np.array(removed[::-1], dtype=np.int64), *lost)


def _damped_metric(sensitivity: Tensor) -> Tensor:
    level = sensitivity.diagonal().mean().clamp(min=1e-12)
    return sensitivity + torch.eye(len(sensitivity), dtype=sensitivity.dtype) * _SENSITIVITY_DAMPING * level


@on_the_models_device
def rank_sub_blocks(
    checkpoint: Checkpoint, calibration: Calibration, sensitivity: Mapping[tuple[int, str], Tensor]
) -> tuple[Ordering, dict[tuple[int, str], SubBlock]]:
    """Importance order of every layer's heads and units, and what each size loses."""
    a = checkpoint.architecture
    ranked: dict[tuple[int, str], SubBlock] = {(layer, piece): _GONE for layer in range(a.layers) for piece in PIECES}
    if a.apart is not None:
        gone = replace(_GONE, slots=np.zeros((0, 0), dtype=np.int64))
        ranked |= {(layer, "attention"): gone for layer in range(a.layers)}
    for layer, piece in sub_blocks(a):
        branch, gram = a.branch(layer, piece), calibration.grams[layer, piece]
        weight = checkpoint.model.backbone.get_parameter(f"{branch.output.module}.weight").detach()
        metric = _damped_metric(sensitivity[layer, piece])
        removal = rank_groups(weight, gram.matrix, branch.output.rows, metric=metric)
        slots = None
        if branch.heads is not None:
            removal, slots = _cut_apart(removal, weight, gram.matrix, branch, metric)
        scale = max(gram.variance, 1e-12) * len(weight)
        ranked[layer, piece] = SubBlock(
            order=removal.order, losses=removal.losses, local=removal.errors / scale, slots=slots
        )
    return ordering_of(ranked, a), ranked


def ordering_of(ranked: Mapping[tuple[int, str], SubBlock], architecture: Architecture) -> Ordering:
    """The importance order of every layer's heads and units, and of query heads where those are cut apart."""
    attention, ffn = ([ranked[layer, piece] for layer in range(architecture.layers)] for piece in PIECES)
    queries = None
    if architecture.apart is not None:
        slots = tuple(block.slots for block in attention if block.slots is not None)
        queries = QueryOrder(whole=architecture.apart, slots=slots)
    return Ordering(
        heads=tuple(block.order for block in attention), units=tuple(block.order for block in ffn), queries=queries
    )


def _cut_apart(
    groups: Removal, weight: Tensor, gram: Tensor, branch: Branch, metric: Tensor
) -> tuple[Removal, IntArray]:
    """The removal of groups with a loss for every size of the model's attention, and the query heads by importance in each.

    Query heads are ordered as they go when any of the layer may; what a size loses is that of the very heads it leaves.
    """
    assert branch.heads is not None  # noqa: S101  the caller asked
    output, count = branch.output, len(groups.order)
    single = rank_groups(weight, gram, output.rows_of_slot, metric=metric).order
    slots = np.array([single[single // output.slots == group] % output.slots for group in range(count)])
    root, inverse = torch.linalg.cholesky(metric).T, torch.cholesky_inverse(torch.linalg.cholesky(damped(gram)))
    both = torch.cat([root @ weight.double(), weight.double()])
    lost = np.full((2, len(attention_sizes(branch.heads))), np.inf)
    for size, kept in enumerate(attention_sizes(branch.heads)):
        if kept.groups <= count and kept.queries <= output.slots:
            stay = Kept(*_first(groups.order, slots, kept))
            gone = np.setdiff1d(np.arange(weight.shape[1]), output.indices(stay, weight.shape[1]))
            lost[:, size] = _removed(both, inverse, torch.tensor(gone))
    return Removal(groups.order, *lost), slots


def _first(order: IntArray, slots: IntArray, kept: Heads) -> tuple[tuple[int, ...], tuple[tuple[int, ...], ...]]:
    groups = tuple(int(group) for group in order[: kept.groups])
    return groups, tuple(tuple(int(slot) for slot in slots[group][: kept.queries]) for group in groups)


def _removed(both: Tensor, inverse: Tensor, gone: Tensor) -> np.ndarray:
    """Losses in two metrics [2] of the inputs that are gone, the others re-solved."""
    part = both[:, gone]
    added = (part * torch.linalg.solve(inverse[gone][:, gone], part.T).T).sum(dim=1)
    return np.asarray(added.reshape(2, -1).sum(dim=1).cpu().numpy())
