"""One pass of the dense model over calibration text: Gram matrices of what each output projection reads."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from scipy.linalg.blas import ssyrk
from torch import Tensor, nn

from compiler.execution import on_the_models_device
from compiler.families import PIECES, Architecture, Branch, Checkpoint
from compiler.slicing import float32_products
from compiler.tasks import Batches
from targets.errors import InputError

_COLUMNS = 512  # of a Gram matrix are added at a time: their part above the diagonal


@dataclass(frozen=True, slots=True, kw_only=True)
class Gram:
    """Second moments of an output projection's input, averaged over tokens, a constant 1 as its last feature.

    `matrix` is float64 [width + 1, width + 1]. `variance` is the mean variance, over features, of the residual sum
    that the projection feeds (of its own output where a norm stands behind that): the scale on which its loss matters.
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


def upper_products(features: Tensor, into: Tensor | None = None) -> Tensor:
    """Features [tokens, width] times themselves, float32 [width, width], of which the upper triangle counts: half the work.

    `into` is what an earlier call gave for features of this width; it is overwritten.
    """
    if features.device.type != "cpu":
        return features.T @ features
    held = {} if into is None else {"c": into.numpy(), "overwrite_c": 1}
    return torch.from_numpy(ssyrk(1.0, features.numpy().T, **held))


class GramSum:
    """Sum over batches of features times themselves, in float64; each batch's products are float32."""

    def __init__(self, width: int) -> None:
        self._upper = torch.zeros(width, width, dtype=torch.float64).T  # columns lie together, as BLAS leaves them
        self._batch: Tensor | None = None

    def add(self, features: Tensor) -> None:
        """Features of one batch, float32 [tokens, width]."""
        self._batch = upper_products(features, self._batch)
        for begin in range(0, len(self._upper), _COLUMNS):
            columns = slice(begin, begin + _COLUMNS)
            self._upper[: columns.stop, columns] += self._batch[: columns.stop, columns]

    def matrix(self) -> Tensor:
        """The sum, float64 [width, width]."""
        upper = self._upper.triu()
        return upper + upper.triu(1).T


def sub_blocks(architecture: Architecture) -> dict[tuple[int, str], int]:
    """The size of every sub-block there is, keyed (layer, "attention" | "ffn")."""
    return {
        (layer, piece): size
        for layer, sizes in enumerate(architecture.shape)
        for piece, size in zip(PIECES, sizes, strict=True)
        if size
    }


def stream_of(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor:
    """The stream among the arguments of a branch's `entry` or of a layer."""
    stream: Tensor = args[0] if args else kwargs["hidden_states"]
    return stream


def _each_branch(checkpoint: Checkpoint) -> Iterator[tuple[tuple[int, str], Branch, nn.Module]]:
    """Key, description and output projection of every branch there is."""
    for key in sub_blocks(checkpoint.architecture):
        branch = checkpoint.architecture.branch(*key)
        yield key, branch, checkpoint.model.backbone.get_submodule(branch.output.module)


@contextmanager
def output_projections(checkpoint: Checkpoint) -> Iterator[dict[tuple[int, str], Tensor]]:
    """What every branch's output projection gives in the last pass of the dense model."""
    given: dict[tuple[int, str], Tensor] = {}

    def reader(key: tuple[int, str]) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        return lambda _, __, output: given.__setitem__(key, output)

    with hooked(*(module.register_forward_hook(reader(key)) for key, _, module in _each_branch(checkpoint))):
        yield given


@contextmanager
def aims(checkpoint: Checkpoint, keep: Callable[[tuple[int, str], Tensor], None]) -> Iterator[None]:
    """Hands over what each branch should reach in the last pass of the dense model: `keep(key, values)`.

    That is its residual sum, so that a network's own stream is taken off it; where a norm stands behind the output
    projection, what that gives.
    """
    streams: dict[tuple[int, str], Tensor] = {}

    def enter(key: tuple[int, str]) -> Callable[..., None]:
        return lambda _, args, kwargs: streams.__setitem__(key, stream_of(args, kwargs))

    def leave(key: tuple[int, str], added: bool) -> Callable[..., None]:
        return lambda _, __, output: keep(key, output + streams.pop(key) if added else output)

    handles = []
    for key, branch, module in _each_branch(checkpoint):
        added = branch.behind is None
        if added:
            entry = checkpoint.model.backbone.get_submodule(branch.entry)
            handles.append(entry.register_forward_pre_hook(enter(key), with_kwargs=True))
        handles.append(module.register_forward_hook(leave(key, added)))
    with hooked(*handles):
        yield


class _Accumulator:
    """Sums over batches for one sub-block; `mask` is set before every batch."""

    def __init__(self, width: int) -> None:
        self.gram = GramSum(width + 1)
        self.variance = 0.0
        self.mask = torch.empty(0, dtype=torch.bool)

    def read_input(self, _: nn.Module, args: tuple[Tensor, ...]) -> None:
        self.gram.add(with_constant(args[0][self.mask]))

    def read_aim(self, aim: Tensor) -> None:
        self.variance += float(aim[self.mask].double().var(dim=-1, unbiased=False).sum())


@on_the_models_device
def calibrate(
    checkpoint: Checkpoint, batches: Batches, progress: Callable[[float], None] = lambda _: None
) -> Calibration:
    """Run the dense model over the batches. InputError where there is too little text to calibrate on."""
    if batches.tokens < 64:
        raise InputError(
            f"only {batches.tokens} tokens of calibration text; give at least a dozen sentences with --data"
        )
    found = {key: (branch, module) for key, branch, module in _each_branch(checkpoint)}
    sizes = sub_blocks(checkpoint.architecture)
    sums = {key: _Accumulator(branch.output.size(branch.extent(sizes[key]))) for key, (branch, _) in found.items()}
    inputs = [found[key][1].register_forward_pre_hook(accumulator.read_input) for key, accumulator in sums.items()]

    def keep(key: tuple[int, str], aim: Tensor) -> None:
        sums[key].read_aim(aim)

    with hooked(*inputs), aims(checkpoint, keep), torch.inference_mode(), float32_products():
        for i, batch in enumerate(batches):
            for accumulator in sums.values():
                accumulator.mask = batch["attention_mask"].bool()
            checkpoint.model(**batch)
            progress((i + 1) / len(batches.batches))
    tokens = batches.tokens
    grams = {key: Gram(matrix=s.gram.matrix() / tokens, variance=s.variance / tokens) for key, s in sums.items()}
    return Calibration(grams=grams, tokens=tokens)
