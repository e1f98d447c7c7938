"""Fewer shapes of matrix products: in bfloat16 on a CPU each new one is compiled, which takes longer than a small product.

oneDNN generates code for a shape the first time and keeps it for the last thousand or so. Sub-networks with sizes of their own in
every layer, on batches of every length, meet new ones all the time: that was a third of a training step on short sentences.
"""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

from compiler.families import Architecture

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
        names = architecture.names(layer)
        kept = rounded.get(f"{names.ffn_input}.weight")
        missing = 0 if kept is None else -len(kept) % _UNITS
        if missing:
            for name, place in {
                f"{names.ffn_input}.weight": (0, 0, 0, missing),
                f"{names.ffn_input}.bias": (0, missing),
                f"{names.ffn_output}.weight": (0, missing),
            }.items():
                if name in rounded:
                    rounded[name] = functional.pad(rounded[name], place)
    return rounded


def cast_once(parameters: Mapping[str, Tensor], architecture: Architecture) -> dict[str, Tensor]:
    """What an autocast would make of the layers' matrices at every batch, for networks that see many and learn nothing."""
    if not shapes_are_dear():
        return dict(parameters)
    cast = with_round_units(parameters, architecture)
    for layer in range(architecture.layers):
        for module in architecture.names(layer).products:
            cast.update(
                {name: cast[name].to(torch.bfloat16) for name in (f"{module}.weight", f"{module}.bias") if name in cast}
            )
    return cast


def round_length(tokens: int, most: int) -> int:
    """To so many tokens, `most` at most, a batch is padded: a multiple of 4, from 32 on of 8, from 64 on of 16, and so on."""
    step = max(4, (1 << tokens.bit_length()) // 8)
    return min(-(-tokens // step) * step, most)
