"""How much an error inside the network matters at its output: one backward pass over a little calibration text.

To first order a small error e of what a sub-block adds moves the network's output by J e. The matrix E[JᵀJ] weighs such
errors: of embeddings it is the Gauss-Newton matrix of their squared distance, of a classifier the Fisher matrix of its
own predictions (Martens, "New insights and perspectives on the natural gradient method", JMLR 2020). Labels are not
needed.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from compiler.execution import on_the_models_device
from compiler.families import Checkpoint
from compiler.oneshot.calibration import output_projections, sub_blocks
from compiler.tasks import Batches

SENSITIVITY_TOKENS = 4_000


def _spread(batches: Batches, tokens: int) -> list[tuple[Mapping[str, Tensor], Mapping[str, Any]]]:
    """Batches of every length, so many tokens in all, as far as they go."""
    step = max(1, batches.tokens // tokens)
    return list(batches.each())[step // 2 :: step]


@on_the_models_device
def sensitivities(
    checkpoint: Checkpoint, batches: Batches, *, seed: int = 0, tokens: int = SENSITIVITY_TOKENS
) -> dict[tuple[int, str], Tensor]:
    """For every sub-block, keyed (layer, "attention" | "ffn"), float64 [hidden, hidden]: what its output projection's errors count, a token.

    An error matrix E [tokens, hidden] of a sub-block costs trace(E S Eᵀ) at the output: squared distance of embeddings of
    unit length or of scores, twice the Kullback-Leibler divergence of a classifier's predictions.
    """
    generator = torch.Generator("cpu").manual_seed(seed)
    keys = list(sub_blocks(checkpoint.architecture))
    found = {key: torch.zeros((), dtype=torch.float64) for key in keys}

    count = 0
    with output_projections(checkpoint) as given, torch.enable_grad():
        for batch, extras in _spread(batches, tokens):
            probe = checkpoint.task.probe(checkpoint.model(**batch), batch, extras, generator)
            gradients = torch.autograd.grad(probe, [given[key] for key in keys])
            mask = batch["attention_mask"].bool()
            for key, gradient in zip(keys, gradients, strict=True):
                real = gradient[mask]
                found[key] = found[key] + (real.T @ real).double()
            count += int(mask.sum())
    return {key: total / count for key, total in found.items()}
