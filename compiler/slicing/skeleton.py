"""Networks without weights: what the slicer's output runs in."""

import copy
import threading
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from compiler.families import Architecture, Branch, TaskModel
from compiler.families.branch import StandIn
from compiler.slicing.few_shapes import shapes_are_dear, with_round_units
from compiler.slicing.slicer import slice_parameters
from compiler.spaces import Shape, Subnet
from profilers import Heads, LayerSizes


class _StandIn(nn.Module):
    """Takes the place of a dropped module and computes nothing."""

    def __init__(self, rule: Callable[..., Any]) -> None:
        super().__init__()
        self.rule = rule

    def forward(self, *args: Any, hidden_states: Tensor | None = None, **_: Any) -> Any:
        return self.rule(*(args or (hidden_states,)))


class Restoring(nn.Linear):
    """Stands after the last layer of a narrow network: its stream to token embeddings of the dense model's size."""

    def forward(self, input: Tensor, *_: Any, **__: Any) -> Tensor:  # noqa: A002  the name that torch gives it
        """[batch, tokens, width] to [batch, tokens, hidden]; what a layer is given besides plays no part."""
        return super().forward(input)


_RULES: dict[StandIn, Callable[..., Any]] = {
    "identity": lambda x, *_: x,
    "first": lambda x, *_: (x, None),
    "second": lambda _, y: y,
    "no_attention": lambda x, *_: (torch.zeros((), dtype=x.dtype, device=x.device), None),
    "zero": lambda x, *_: torch.zeros((), dtype=x.dtype, device=x.device),
}


def _drop(backbone: nn.Module, branch: Branch) -> None:
    for module, rule in branch.without.items():
        backbone.set_submodule(module, _StandIn(_RULES[rule]))


def _resize(backbone: nn.Module, name: str, *, out_features: int | None = None, in_features: int | None = None) -> None:
    old = backbone.get_submodule(name)
    assert isinstance(old, nn.Linear)  # noqa: S101  every branch is made of linear layers
    new = nn.Linear(
        in_features or old.in_features,
        out_features or old.out_features,
        bias=old.bias is not None,
        device=old.weight.device,
        dtype=old.weight.dtype,
    )
    backbone.set_submodule(name, new)


def _shrink(backbone: nn.Module, branch: Branch, kept: Heads) -> None:
    for matrix in branch.rows:
        _resize(backbone, matrix.module, out_features=matrix.size(kept))
    _resize(backbone, branch.output.module, in_features=branch.output.size(kept))
    _count(backbone, branch, kept)


def _count(backbone: nn.Module, branch: Branch, kept: Heads) -> None:
    """Give attributes that hold numbers of groups, or of slots, what is kept."""
    numbers = {attribute: each * kept.groups for attribute, each in branch.counts.items()}
    for attribute, number in {**numbers, **dict.fromkeys(branch.slot_counts, kept.queries)}.items():
        module, _, name = attribute.rpartition(".")
        setattr(backbone.get_submodule(module), name, number)


def _shrink_layer(backbone: nn.Module, architecture: Architecture, layer: int, kept: LayerSizes) -> None:
    whole = architecture.family.whole_layer
    if whole is not None and not any(kept):
        backbone.set_submodule(architecture.layer(layer), _StandIn(_RULES[whole]))
        return
    for branch, size, most in zip(architecture.branches(layer), kept, architecture.largest, strict=True):
        if size == 0:
            _drop(backbone, branch)
        elif size < most:
            _shrink(backbone, branch, branch.extent(size))


def with_restoring(dense: TaskModel, architecture: Architecture) -> TaskModel:
    """A copy that ends as narrow networks do, in a map onto its own dimensions: the identity. Not for a task head."""
    assert architecture.restoring is not None  # noqa: S101  the caller knows that it gives token embeddings
    twin, size = copy.deepcopy(dense), architecture.hidden_size
    last = Restoring(size, size)
    nn.init.eye_(last.weight)
    nn.init.zeros_(last.bias)
    _append(twin.backbone, architecture, last)
    return twin


def _append(backbone: nn.Module, architecture: Architecture, last: Restoring) -> None:
    layers = backbone.get_submodule(architecture.family.layers)
    assert isinstance(layers, nn.ModuleList)  # noqa: S101  every family keeps its layers in one
    layers.append(last)


def _narrowed(module: nn.Module, axis: int, width: int) -> nn.Module:
    """The same module over fewer residual dimensions; `axis` is that along which its weight has them."""
    weight: Tensor = module.weight  # type: ignore[assignment]
    like: dict[str, Any] = {"device": weight.device, "dtype": weight.dtype}
    if isinstance(module, nn.LayerNorm):
        return nn.LayerNorm(width, eps=module.eps, **like)
    if isinstance(module, nn.Embedding):
        return nn.Embedding(module.num_embeddings, width, padding_idx=module.padding_idx, **like)
    assert isinstance(module, nn.Linear)  # noqa: S101  every row of the families table names one of the three
    read, written = (module.in_features, width) if axis == 0 else (width, module.out_features)
    return nn.Linear(read, written, bias=module.bias is not None, **like)


def _narrow(backbone: nn.Module, architecture: Architecture, width: int) -> None:
    kept = {name for name, _ in backbone.named_parameters()}
    for name, axis in architecture.residual_axes().items():
        module, _, kind = name.rpartition(".")
        if kind == "weight" and name in kept:
            backbone.set_submodule(module, _narrowed(backbone.get_submodule(module), axis, width))
    if architecture.restoring is not None:
        _append(backbone, architecture, Restoring(width, architecture.hidden_size, device="meta"))


def sharing_weights(model: TaskModel) -> TaskModel:
    """A copy with the very same parameters, for hooks that nobody else is to see."""
    twin: TaskModel = copy.deepcopy(model, {id(parameter): parameter for parameter in model.parameters()})
    return twin


def build_skeleton(dense: TaskModel, architecture: Architecture, shape: Shape, width: int | None = None) -> TaskModel:
    """A network of this shape on the meta device: modules and sizes, no weights, buffers as in the dense model.

    Dropped sub-blocks return their input. Names of what is kept are those of the dense model, layer numbers included.
    `width` is that of its residual stream, the dense model's where it is left out.
    """
    memo: dict[int, Any] = {}
    for parameter in dense.parameters():
        memo[id(parameter)] = nn.Parameter(torch.empty_like(parameter, device="meta"), requires_grad=False)
    skeleton = copy.deepcopy(dense, memo)
    for layer, kept in enumerate(shape):
        _shrink_layer(skeleton.backbone, architecture, layer, kept)
    if width is not None:
        _narrow(skeleton.backbone, architecture, width)
    return skeleton


class _Skeletons(threading.local):
    """Skeletons of one thread: while a network runs, its skeleton holds its weights."""

    def __init__(self, build: Callable[..., TaskModel], cached: int) -> None:
        self.get = lru_cache(cached)(build)


class SubnetRunner:
    """Runs sub-networks of a dense model as slices, with autograd if wanted; several threads may.

    Attention reads the number of heads off the weights, in transformers or here (`Family.adapt`), so one skeleton serves every
    sub-network that drops the same sub-blocks and is as wide; they are kept for the next call.
    """

    def __init__(self, dense: TaskModel, architecture: Architecture, *, cached: int = 64) -> None:
        self.dense = dense
        self.architecture = architecture
        self._skeletons = _Skeletons(self._build, cached)

    def _build(self, pattern: tuple[tuple[bool, bool], ...], width: int | None) -> TaskModel:
        full = self.architecture.largest
        shape = tuple(LayerSizes(*(most * there for most, there in zip(full, layer, strict=True))) for layer in pattern)
        return build_skeleton(self.dense, self.architecture, shape, width)

    def parameters(self, subnet: Subnet) -> dict[str, Tensor]:
        """The sliced parameters of a sub-network, under the backbone's names."""
        return slice_parameters(dict(self.dense.backbone.named_parameters()), self.architecture, subnet)

    def _count(self, skeleton: TaskModel, shape: Shape) -> None:
        """Numbers of query heads a group, which attention does not read off its weights."""
        if self.architecture.apart is None:
            return
        for layer, sizes in enumerate(shape):
            if sizes.heads:
                branch = self.architecture.branch(layer, "attention")
                _count(skeleton.backbone, branch, branch.extent(sizes.heads))

    def __call__(
        self, subnet: Subnet, inputs: Mapping[str, Tensor], parameters: Mapping[str, Tensor] | None = None
    ) -> tuple[Tensor, ...]:
        """Task outputs of a sub-network for a padded batch; `parameters` replaces the sliced weights where given.

        Dropout follows the dense model's training flag.
        """
        pattern = tuple((bool(h), bool(u)) for h, u in subnet.shape)
        skeleton = self._skeletons.get(pattern, subnet.width)
        skeleton.train(self.dense.training)
        self._count(skeleton, subnet.shape)
        weights = self.parameters(subnet) if parameters is None else parameters
        return run_with(skeleton, self.architecture, weights, inputs)


def run_with(
    network: nn.Module, architecture: Architecture, parameters: Mapping[str, Tensor], inputs: Mapping[str, Tensor]
) -> tuple[Tensor, ...]:
    """Task outputs of a network for a padded batch, with these parameters of its backbone instead of its own."""
    weights = with_round_units(parameters, architecture) if shapes_are_dear() else parameters
    state = {f"backbone.{name}": tensor for name, tensor in weights.items()}
    outputs: tuple[Tensor, ...] = torch.func.functional_call(network, state, kwargs=dict(inputs))
    return outputs
