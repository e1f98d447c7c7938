"""Networks of fewer residual dimensions: which dimensions matter, and what is left corrected for those that are gone.

A narrow network's norms see fewer values, so their outputs have other means and scales than the dense model's: each kept
dimension's scale and shift are fitted again. Whatever reads the stream (projections, a head, the map back to the dense
model's embeddings) is solved by least squares to give from what is left what it gave from all.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from compiler.families import Architecture, Branch, Checkpoint
from compiler.families.table import TOKEN_HEADS, Stem
from compiler.oneshot.calibration import hooked, stream_of, sub_blocks
from compiler.spaces import Subnet
from compiler.spaces.subnet import IntArray

Key = tuple[int, str]
EMBEDDED: Key = (-1, "embedding")
"""Beside the keys of sub-blocks: what the first layer reads."""


def residual_order(sums: Mapping[Key, Tensor], sensitivity: Mapping[Key, Tensor]) -> IntArray:
    """Residual dimensions by importance, the most important first: int64 [hidden].

    A dimension that is gone is off by what it varies around its mean, which biases make up for. So it counts for its
    variance times what an error there costs at the output (`sensitivities`), summed over all residual sums.
    """
    importance = sum(sensitivity[key].diagonal() * sums[key].double().var(dim=0) for key in sensitivity)
    assert isinstance(importance, Tensor)  # noqa: S101  there is no network without a sub-block
    return np.argsort(-importance.cpu().numpy(), kind="stable").astype(np.int64)


@contextmanager
def first_read(checkpoint: Checkpoint, keep: Callable[[Key, Tensor], None]) -> Iterator[None]:
    """Hands over under EMBEDDED what the dense model's first layer reads in its last pass: `keep(EMBEDDED, values)`."""

    def hook(_: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        keep(EMBEDDED, stream_of(args, kwargs))

    layer = checkpoint.model.backbone.get_submodule(checkpoint.architecture.layer(0))
    with hooked(layer.register_forward_pre_hook(hook, with_kwargs=True)):
        yield


def fit_norm(module: nn.LayerNorm, features: Tensor, wanted: Tensor) -> None:
    """Scale and shift of each dimension by least squares: features and what they should become, [tokens, width] each."""
    scaled = nn.functional.layer_norm(features.float(), module.normalized_shape, eps=module.eps)
    mean, aim = scaled.mean(dim=0), wanted.mean(dim=0)
    variance = scaled.var(dim=0, unbiased=False).clamp(min=1e-12)
    slope = ((scaled - mean) * (wanted - aim)).mean(dim=0) / variance
    module.weight.data, module.bias.data = slope, aim - slope * mean


def _stem_of(architecture: Architecture) -> Stem:
    assert architecture.family.stem is not None  # noqa: S101  others have no such networks
    return architecture.family.stem


def _norm_of(branch: Branch) -> str:
    """The norm that writes the stream after a branch."""
    assert branch.after is not None  # noqa: S101  families with a stem are post-norm
    return branch.after


class Narrowing:
    """Hooks that correct a narrow network while it runs on calibration text, where it reads its stream and in its norms.

    `sums` are the dense model's residual sums on the same real tokens, and what its first layer reads. `resolve` fits a
    linear module to features [tokens, in] and what they should become [tokens, out].
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        subnet: Subnet,
        mask: Tensor,
        sums: Mapping[Key, Tensor],
        resolve: Callable[[nn.Linear, Tensor, Tensor], None],
    ) -> None:
        assert subnet.residual is not None  # noqa: S101  the caller knows that it is narrow
        self.checkpoint, self.subnet, self.mask, self.sums, self.resolve = checkpoint, subnet, mask, sums, resolve
        self.kept = list(subnet.residual)
        blocks = list(sub_blocks(checkpoint.architecture))
        self.previous = dict(zip(blocks, [EMBEDDED, *blocks], strict=False))
        self.last = blocks[-1]

    def _written(self, key: Key) -> Tensor:
        """What the dense model has in its stream after a sub-block's norm: [real tokens, hidden]."""
        if key == EMBEDDED:
            return self.sums[key]
        return self._dense(_norm_of(self.checkpoint.architecture.branch(*key)), self.sums[key])

    def _dense(self, module: str, inputs: Tensor) -> Tensor:
        """What one of the dense model's own modules makes of its inputs."""
        made: Tensor = self.checkpoint.model.backbone.get_submodule(module)(inputs)
        return made

    def before(self, backbone: nn.Module) -> list[Any]:
        """Hooks on norms, which run before what else reads a norm's output."""
        a, handles = self.checkpoint.architecture, []
        stem = f"{a.prefix}{_stem_of(a).norm}"
        norms = {stem: EMBEDDED} if any(part.parameter == f"{stem}.weight" for part in a.stem) else {}
        for layer, sizes in enumerate(self.subnet.shape):
            branches = zip(a.branches(layer), sizes, strict=True)
            norms |= {_norm_of(branch): (layer, branch.piece) for branch, kept in branches if kept}
        for name, key in norms.items():
            handles.append(backbone.get_submodule(name).register_forward_pre_hook(self._norm(key)))
        return handles

    def _norm(self, key: Key) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def hook(module: nn.Module, args: tuple[Tensor, ...]) -> None:
            assert isinstance(module, nn.LayerNorm)  # noqa: S101  every branch names its norms
            with torch.autocast(args[0].device.type, enabled=False):
                fit_norm(module, args[0][self.mask], self._written(key)[:, self.kept])

        return hook

    def readers(self, backbone: nn.Module) -> list[Any]:
        """Hooks on what reads the stream, before or after padding was taken out."""
        a, find, handles = self.checkpoint.architecture, backbone.get_submodule, []
        for layer in range(a.layers):
            for branch, kept in zip(a.branches(layer), self.subnet.kept(layer), strict=True):
                if kept.groups:
                    rows = branch.reads[0].indices(kept, branch.reads[0].size(branch.whole))
                    same = {matrix.module: find(matrix.module) for matrix in branch.reads}
                    hook = self._reader(same, rows, self.previous[layer, branch.piece], self.mask)
                    handles.append(find(branch.entry).register_forward_pre_hook(hook))
        return [*handles, *self.end(backbone)]

    def end(self, backbone: nn.Module) -> list[Any]:
        """Hooks on what reads the last layer's output: the head, or what gives it the dense model's size."""
        a, find = self.checkpoint.architecture, backbone.get_submodule
        if a.restoring is None:
            lengths, name = self.mask.sum(dim=1), a.head_input
            of_all = name in TOKEN_HEADS
            read = (self.mask, None) if of_all else (None, lengths.cumsum(dim=0) - lengths)
            hook = self._reader({name: find(name)}, None, self.last, *read)
            return [find(name).register_forward_pre_hook(hook)]

        def restore(module: nn.Module, args: tuple[Tensor, ...]) -> None:
            assert isinstance(module, nn.Linear)  # noqa: S101  it is a Restoring
            with torch.autocast(args[0].device.type, enabled=False):
                self.resolve(module, args[0][self.mask], self._written(self.last))

        return [find(a.restoring).register_forward_pre_hook(restore)]

    def _reader(
        self,
        modules: Mapping[str, nn.Module],
        rows: list[int] | None,
        key: Key,
        mask: Tensor | None = None,
        tokens: Tensor | None = None,
    ) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        """Fits modules that read one stream, that after `key`, to the rows of the dense ones that are kept.

        `mask` says which tokens of the input are real, where padding is still among them; `tokens` which of the real ones are read.
        """

        def hook(_: nn.Module, args: tuple[Tensor, ...]) -> None:
            with torch.autocast(args[0].device.type, enabled=False):
                padded = mask is not None and args[0].shape[:-1] == mask.shape
                features = args[0][mask] if padded else args[0]
                stream = self._written(key) if tokens is None else self._written(key)[tokens]
                for name, module in modules.items():
                    assert isinstance(module, nn.Linear)  # noqa: S101  every branch is made of linear layers
                    wanted = self._dense(name, stream)
                    self.resolve(module, features, wanted if rows is None else wanted[:, rows])

        return hook
