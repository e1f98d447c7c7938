"""Weights corrected for what was removed: every output projection re-solved by least squares.

`Reconstructor` solves each sub-block on the dense model's Gram matrix: cheap, for judging many networks.
`reconstruct` goes layer after layer on the network's own activations and also makes up for the error it has already
accumulated: for the networks that are kept.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from compiler.execution import on_the_models_device
from compiler.families import PIECES, Branch, Checkpoint, Kept, TaskModel
from compiler.families.tied import assign
from compiler.oneshot.calibration import (
    Calibration,
    aims,
    hooked,
    stream_of,
    sub_blocks,
    upper_products,
    with_constant,
)
from compiler.oneshot.importance import damping
from compiler.oneshot.narrowing import EMBEDDED, Narrowing, first_read
from compiler.slicing import bf16_where_it_is, build_skeleton, float32_products, sharing_weights, slice_parameters
from compiler.spaces import Subnet
from compiler.tasks import Batches

RIDGE = 1e-2
RESOLVED_TOKENS = 16_000
"""Calibration tokens that `reconstruct` sees. Half of them take half the time, and cost MiniLM's networks 0.2 to 0.5 points of
Spearman on stsb/dev at 2x to 4x, though likeness to the dense model on other sentences was no lower."""

SOLVED_BYTES = 1 << 30
"""Of solved projections, kept for the candidates to come: about as much, the mean one being half of the largest."""

_COVERED = 95
_ROWS = 32


class Reconstructor:
    """Corrected weights of any sub-network from the dense model's Gram matrices."""

    def __init__(self, checkpoint: Checkpoint, calibration: Calibration) -> None:
        self.checkpoint = checkpoint
        self.dense = {n: p.detach() for n, p in checkpoint.model.backbone.named_parameters()}
        self.grams = {key: gram.matrix.float() for key, gram in calibration.grams.items()}
        largest = max((checkpoint.architecture.hidden_size * len(gram) * 4 for gram in self.grams.values()), default=1)
        self._solve = lru_cache(maxsize=2 * SOLVED_BYTES // largest)(self._solve_uncached)

    @on_the_models_device
    def _solve_uncached(self, layer: int, piece: str, kept: Kept) -> tuple[Tensor, Tensor | None]:
        """Weight [hidden, kept width] and bias [hidden] of an output projection that reads the kept inputs only.

        Where it has no bias, none is solved.
        """
        output = self.checkpoint.architecture.branch(layer, piece).output
        weight, bias = self.dense[f"{output.module}.weight"], self.dense.get(f"{output.module}.bias")
        gram = self.grams[layer, piece]
        constant = torch.tensor([], dtype=torch.int64) if bias is None else torch.tensor([len(gram) - 1])
        columns = torch.cat([torch.tensor(output.indices(kept, weight.shape[1])), constant])
        rows = gram[columns]
        rows[torch.arange(len(columns)), columns] += damping(gram)[columns]
        wanted = rows[:, :-1] @ weight.T
        factor = torch.linalg.cholesky(rows[:, columns])
        solution = torch.cholesky_solve(wanted, factor)
        if bias is None:
            return solution.T.contiguous(), None
        return solution[:-1].T.contiguous(), bias + solution[-1]

    def parameters(self, subnet: Subnet) -> dict[str, Tensor]:
        """Sliced parameters with every partly kept sub-block re-solved."""
        a = self.checkpoint.architecture
        sliced = slice_parameters(self.dense, a, subnet)
        for (layer, piece), size in sub_blocks(a).items():
            at = PIECES.index(piece)
            if 0 < subnet.shape[layer][at] < size:
                projection = a.branch(layer, piece).output.module
                weight, bias = self._solve(layer, piece, subnet.kept(layer)[at])
                sliced[f"{projection}.weight"] = weight
                if bias is not None:
                    sliced[f"{projection}.bias"] = bias
        return sliced


def one_batch(batches: Batches, checkpoint: Checkpoint, tokens: int = RESOLVED_TOKENS) -> Mapping[str, Tensor]:
    """Texts of every length, about so many tokens in all, as one batch: sub-blocks are solved while the network runs.

    The longest twentieth of them is cut to the length of the rest: padding to it would double the work and more.
    """
    features = [dict(zip(batch, rows, strict=True)) for batch in batches for rows in zip(*batch.values(), strict=True)]
    features = features[:: max(1, round(batches.tokens / tokens))]
    length = int(np.percentile([int(f["attention_mask"].sum()) for f in features], _COVERED, method="higher"))
    pad = {"input_ids": checkpoint.tokenizer.pad_token_id, "attention_mask": 0, "token_type_ids": 0}
    return {name: torch.stack([_fit(f[name], length, pad[name]) for f in features]) for name in checkpoint.input_names}


def _fit(row: Tensor, length: int, pad: int) -> Tensor:
    return nn.functional.pad(row, (0, length - len(row)), value=pad) if len(row) < length else row[:length]


@on_the_models_device
def residual_sums(
    checkpoint: Checkpoint, batch: Mapping[str, Tensor], *, narrow: bool = False
) -> dict[tuple[int, str], Tensor]:
    """What each branch of the dense model reaches (`aims`), float32 [real tokens, hidden]: the targets of `reconstruct`.

    For networks that are `narrow` as well, what its first layer reads is there under EMBEDDED. The model itself is left alone:
    other threads may copy it.
    """
    checkpoint = replace(checkpoint, model=sharing_weights(checkpoint.model))
    keys = [*sub_blocks(checkpoint.architecture), *([EMBEDDED] if narrow else [])]
    parts: dict[tuple[int, str], list[Tensor]] = {key: [] for key in keys}
    mask = torch.empty(0, dtype=torch.bool)

    def keep(key: tuple[int, str], values: Tensor) -> None:
        parts[key].append(values[mask].float())

    with (
        aims(checkpoint, keep),
        first_read(checkpoint, keep) if narrow else nullcontext(),
        torch.inference_mode(),
        float32_products(),
    ):
        for rows in _in_parts(batch):
            mask = rows["attention_mask"].bool()
            checkpoint.model(**rows)
    return {key: torch.cat(some) for key, some in parts.items()}


def _in_parts(batch: Mapping[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    """The texts of a batch in order, a few at a time, each few as long as its longest."""
    lengths = batch["attention_mask"].sum(dim=1)
    for start in range(0, len(lengths), _ROWS):
        rows = slice(start, start + _ROWS)
        length = int(lengths[rows].max())
        yield {name: values[rows, :length] for name, values in batch.items()}


def resolve(module: nn.Linear, features: Tensor, wanted: Tensor) -> None:
    """Least squares for weight and, where there is one, bias together, drawn towards the present weights by a small ridge."""
    biased = module.bias is not None
    inputs = with_constant(features) if biased else features.float()
    present = torch.cat([module.weight, module.bias[:, None]], dim=1) if biased else module.weight
    gram = upper_products(inputs).T.double()  # its lower triangle, all that Cholesky reads
    penalty = RIDGE * gram.diagonal()[: features.shape[1]].mean().expand(len(gram)).clone()
    if biased:
        penalty[-1] = 1e-6
    gram.diagonal().add_(penalty)
    aim = (inputs.T @ wanted).double() + penalty[:, None] * present.T
    updated = torch.cholesky_solve(aim, torch.linalg.cholesky(gram)).T.float()
    module.weight.data = updated[:, : features.shape[1]].contiguous()
    if biased:
        module.bias.data = updated[:, -1].contiguous()


class _Unpadded:
    """Keeps padding out of modules that compute each token alone: projections and FFNs, most of what a network computes.

    A projection that reads something else too (DeBERTa's relative positions) does so as it is.
    """

    def __init__(self, mask: Tensor) -> None:
        self.mask = mask

    def around(self, first: nn.Module, last: nn.Module) -> list[Any]:
        """Hooks that take padding out of what `first` reads and put it into what `last` gives."""
        taken_out = False

        def enter(_: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor] | None:
            nonlocal taken_out
            taken_out = args[0].shape[:-1] == self.mask.shape
            return (args[0][self.mask],) if taken_out else None

        def leave(_: nn.Module, __: tuple[Tensor, ...], output: Tensor) -> Tensor:
            if not taken_out:
                return output
            whole = output.new_zeros(*self.mask.shape, output.shape[-1])
            whole[self.mask] = output
            return whole

        return [first.register_forward_pre_hook(enter), last.register_forward_hook(leave)]


class _InPass:
    """Re-solves each output projection at the moment the network reaches it, on all calibration tokens at once."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        mask: Tensor,
        sums: Mapping[tuple[int, str], Tensor],
        residual: tuple[int, ...] | None,
    ) -> None:
        self.checkpoint, self.mask, self.sums = checkpoint, mask, sums
        self.kept: slice | list[int] = slice(None) if residual is None else list(residual)
        self.stream = torch.empty(0)

    def enter(self, _: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        self.stream = stream_of(args, kwargs)

    def solve(self, key: tuple[int, str], branch: Branch) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def hook(module: nn.Module, args: tuple[Tensor, ...]) -> None:
            assert isinstance(module, nn.Linear)  # noqa: S101  every branch is made of linear layers
            wanted = self.sums[key][:, self.kept]
            with torch.autocast(args[0].device.type, enabled=False):
                resolve(module, args[0], wanted - self.stream[self.mask] if branch.behind is None else wanted)

        return hook


@on_the_models_device
def reconstruct(
    checkpoint: Checkpoint,
    subnet: Subnet,
    parameters: Mapping[str, Tensor],
    batch: Mapping[str, Tensor],
    sums: Mapping[tuple[int, str], Tensor],
) -> dict[str, Tensor]:
    """Parameters of a sub-network, re-solved layer after layer on its own activations.

    `parameters` are its sliced weights, `batch` the calibration text as one batch, `sums` the dense model's residual
    sums on it. Each projection is fitted to what the dense model had at that point, minus the network's own residual. In a
    narrow network norms and whatever else reads the stream are fitted on the way, too (`compiler.oneshot.narrowing`).
    """
    a, model, mask = checkpoint.architecture, _filled(checkpoint, subnet, parameters), batch["attention_mask"].bool()
    run, unpadded = _InPass(checkpoint, mask, sums, subnet.residual), _Unpadded(mask)
    find, handles = model.backbone.get_submodule, list[Any]()
    narrowing = None if subnet.residual is None else Narrowing(checkpoint, subnet, mask, sums, resolve)
    if narrowing is not None:
        handles += narrowing.before(model.backbone)
    for layer, sizes in enumerate(subnet.shape):
        for branch, kept in zip(a.branches(layer), sizes, strict=True):
            if kept:
                entry, output = find(branch.entry), find(branch.output.module)
                handles.append(entry.register_forward_pre_hook(run.enter, with_kwargs=True))
                if branch.piece == "ffn":
                    handles += unpadded.around(entry, output)
                else:
                    reading = [find(name) for name in dict.fromkeys(matrix.module for matrix in branch.reads)]
                    handles += [hook for one in (*reading, output) for hook in unpadded.around(one, one)]
                handles.append(output.register_forward_pre_hook(run.solve((layer, branch.piece), branch)))
    if narrowing is not None:
        handles += narrowing.readers(model.backbone)
    return _fitted(model, batch, handles)


def _filled(checkpoint: Checkpoint, subnet: Subnet, parameters: Mapping[str, Tensor]) -> TaskModel:
    """A network of its own with copies of these parameters: they will change."""
    model = build_skeleton(checkpoint.model, checkpoint.architecture, subnet.shape, subnet.width)
    assign(model.backbone, {n: t.clone() for n, t in parameters.items()})
    return model


def _fitted(model: TaskModel, batch: Mapping[str, Tensor], handles: Sequence[Any]) -> dict[str, Tensor]:
    """Its parameters after one pass in which the hooks have fitted them."""
    with hooked(*handles), torch.no_grad(), bf16_where_it_is(batch["attention_mask"].device):
        model(**batch)
    return {name: parameter.detach() for name, parameter in model.backbone.named_parameters()}


@on_the_models_device
def restore_output(
    checkpoint: Checkpoint,
    subnet: Subnet,
    parameters: Mapping[str, Tensor],
    batch: Mapping[str, Tensor],
    sums: Mapping[tuple[int, str], Tensor],
) -> dict[str, Tensor]:
    """Parameters of a narrow embedding network, the map to the dense model's embeddings fitted and all else as it was.

    Arguments are those of `reconstruct`.
    """
    model = _filled(checkpoint, subnet, parameters)
    narrowing = Narrowing(checkpoint, subnet, batch["attention_mask"].bool(), sums, resolve)
    return _fitted(model, batch, narrowing.end(model.backbone))
