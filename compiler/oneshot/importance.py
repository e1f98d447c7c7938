"""Structured optimal brain surgeon: which heads and units to drop, and what is lost when the rest make up for them.

For a linear map W with inputs of Gram matrix G, removing the inputs S and re-solving the others raises the squared
error by tr(W_S (G^-1_SS)^-1 W_S^T) (Hassibi, Stork, "Second order derivatives for network pruning", NIPS 1992; in
groups: Kurtic et al., "ZipLM", NeurIPS 2023). The least costly group goes first, then G^-1 and W are updated.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from compiler.families import Checkpoint
from compiler.oneshot.calibration import PIECES, Calibration, output_modules
from compiler.spaces import Ordering
from compiler.spaces.subnet import IntArray

DAMPING = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class SubBlock:
    """One sub-block ranked.

    `order` is groups by importance (int64, most important first), `losses[k]` the relative squared error with the k most
    important kept and re-solved; `losses[0]` is the whole sub-block gone.
    """

    order: IntArray
    losses: np.ndarray


def damped(gram: Tensor) -> Tensor:
    """The Gram matrix with a small multiple of its mean diagonal added: singular ones become solvable."""
    width = len(gram) - 1
    ridge = DAMPING * gram.diagonal()[:width].mean().clamp(min=1e-12)
    added = torch.full((width + 1,), float(ridge), dtype=gram.dtype)
    added[-1] = 1e-9
    return gram + torch.diag(added)


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


def rank_groups(weight: Tensor, gram: Tensor, group: int, *, steps: int = 64) -> tuple[IntArray, np.ndarray]:
    """Order groups of `group` consecutive inputs by structured OBS.

    `weight` is [outputs, groups * group], `gram` [groups * group + 1] squared. Returns the groups, most important first,
    and the squared error per token with k groups kept, float64 [groups + 1]. At most `steps` removals are made, several
    groups at a time where there are more groups.
    """
    groups = weight.shape[1] // group
    chunk = max(1, groups // steps)
    inverse = torch.linalg.inv(damped(gram))
    weight = torch.cat([weight.double(), torch.zeros(len(weight), 1, dtype=torch.float64)], dim=1)
    alive = torch.ones(groups, dtype=torch.bool)
    removed: list[int] = []
    losses = np.zeros(groups + 1)
    total = 0.0
    while len(removed) < groups:
        count = min(chunk, groups - len(removed))
        gone = torch.topk(_scores(weight, inverse, group, alive), count, largest=False).indices
        columns = (gone[:, None] * group + torch.arange(group)).flatten()
        part = weight[:, columns]
        rows = inverse[columns]
        update = torch.linalg.solve(rows[:, columns], rows)
        start, total = total, total + float((part * torch.linalg.solve(rows[:, columns], part.T).T).sum())
        weight.addmm_(part, update, alpha=-1)
        inverse.addmm_(rows.T, update, alpha=-1)
        weight[:, columns] = 0
        alive[gone] = False
        left = groups - len(removed)
        losses[left - count : left + 1] = np.linspace(total, start, count + 1)
        removed.extend(gone.tolist())
    return np.array(removed[::-1], dtype=np.int64), losses


def rank_sub_blocks(
    checkpoint: Checkpoint, calibration: Calibration
) -> tuple[Ordering, dict[tuple[int, str], SubBlock]]:
    """Importance order of every layer's heads and units, and what each size loses.

    Losses are relative to the variance of the residual sum the sub-block feeds, so that they compare across layers.
    """
    a = checkpoint.architecture
    ranked = {}
    for layer in range(a.layers):
        for piece in PIECES:
            projection = output_modules(checkpoint, layer)[piece][0]
            gram = calibration.grams[layer, piece]
            group = a.head_size if piece == "attention" else 1
            weight = checkpoint.model.backbone.get_parameter(f"{projection}.weight").detach()
            order, losses = rank_groups(weight, gram.matrix, group)
            scale = max(gram.variance, 1e-12) * len(weight)
            ranked[layer, piece] = SubBlock(order=order, losses=losses / scale)
    ordering = Ordering(
        heads=tuple(ranked[layer, "attention"].order for layer in range(a.layers)),
        units=tuple(ranked[layer, "ffn"].order for layer in range(a.layers)),
    )
    return ordering, ranked
