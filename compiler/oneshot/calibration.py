"""One pass of the dense model over calibration text: Gram matrices of what each output projection reads."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from scipy.linalg.blas import ssyrk
from torch import Tensor, nn

from compiler.evaluation import Batches
from compiler.families import Architecture, Checkpoint
from targets.errors import InputError

PIECES = ("attention", "ffn")


@dataclass(frozen=True, slots=True, kw_only=True)
class Gram:
    """Second moments of an output projection's input, averaged over tokens, a constant 1 as its last feature.

    `matrix` is float64 [width + 1, width + 1]. `variance` is the mean variance, over features, of the residual sum
    that the projection feeds: the scale on which its loss matters to the norm that follows.
    """

    matrix: Tensor
    variance: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """Grams of every sub-block, keyed (layer, "attention" | "ffn"), and the number of tokens they were taken on."""

    grams: dict[tuple[int, str], Gram]
    tokens: int


@contextmanager
def hooked(*handles: Any) -> Iterator[None]:
    """Remove forward hooks when the block is left."""
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def with_constant(features: Tensor) -> Tensor:
    """[tokens, width] to float32 [tokens, width + 1], the last column all ones: biases are solved with the weights."""
    return torch.cat([features.float(), torch.ones(len(features), 1)], dim=1)


def products(features: Tensor) -> Tensor:
    """Features [tokens, width] times themselves, float64 [width, width]; on a CPU one triangle, in half the time."""
    if features.device.type != "cpu":
        return (features.T @ features).double()
    upper = torch.from_numpy(ssyrk(1.0, features.numpy().T))
    return (upper + upper.triu(1).T).double()


def sub_blocks(architecture: Architecture) -> dict[tuple[int, str], int]:
    """The heads or FFN units of every sub-block there is, keyed (layer, "attention" | "ffn")."""
    return {
        (layer, piece): size
        for layer, sizes in enumerate(architecture.shape)
        for piece, size in zip(PIECES, sizes, strict=True)
        if size
    }


@contextmanager
def residual_inputs(
    checkpoint: Checkpoint, keep: Callable[[Tensor], Tensor]
) -> Iterator[dict[tuple[int, str], Tensor]]:
    """What every sub-block's norm reads in the last pass of the dense model, each as `keep` has it."""
    sums: dict[tuple[int, str], Tensor] = {}

    def reader(key: tuple[int, str]) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        return lambda _, args: sums.__setitem__(key, keep(args[0]))

    handles = []
    for layer, piece in sub_blocks(checkpoint.architecture):
        norm = checkpoint.architecture.branch(layer, piece).after
        handles.append(checkpoint.model.backbone.get_submodule(norm).register_forward_pre_hook(reader((layer, piece))))
    with hooked(*handles):
        yield sums


class _Accumulator:
    """Sums over batches for one sub-block; `mask` is set before every batch."""

    def __init__(self, width: int) -> None:
        self.matrix = torch.zeros(width + 1, width + 1, dtype=torch.float64)
        self.variance = 0.0
        self.mask = torch.empty(0, dtype=torch.bool)

    def read_input(self, _: nn.Module, args: tuple[Tensor, ...]) -> None:
        features = with_constant(args[0][self.mask])
        self.matrix += products(features)

    def read_sum(self, _: nn.Module, args: tuple[Tensor, ...]) -> None:
        self.variance += float(args[0][self.mask].double().var(dim=-1, unbiased=False).sum())


def calibrate(
    checkpoint: Checkpoint, batches: Batches, progress: Callable[[float], None] = lambda _: None
) -> Calibration:
    """Run the dense model over the batches. InputError where there is too little text to calibrate on."""
    if batches.tokens < 64:
        raise InputError(
            f"only {batches.tokens} tokens of calibration text; give at least a dozen sentences with --data"
        )
    branches = {key: checkpoint.architecture.branch(*key) for key in sub_blocks(checkpoint.architecture)}
    sizes = sub_blocks(checkpoint.architecture)
    sums = {key: _Accumulator(branch.output.size(sizes[key])) for key, branch in branches.items()}
    find = checkpoint.model.backbone.get_submodule
    handles = []
    for key, accumulator in sums.items():
        handles.append(find(branches[key].output.module).register_forward_pre_hook(accumulator.read_input))
        handles.append(find(branches[key].after).register_forward_pre_hook(accumulator.read_sum))
    with hooked(*handles), torch.inference_mode():
        for i, batch in enumerate(batches):
            for accumulator in sums.values():
                accumulator.mask = batch["attention_mask"].bool()
            checkpoint.model(**batch)
            progress((i + 1) / len(batches.batches))
    tokens = batches.tokens
    grams = {key: Gram(matrix=s.matrix / tokens, variance=s.variance / tokens) for key, s in sums.items()}
    return Calibration(grams=grams, tokens=tokens)
