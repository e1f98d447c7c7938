"""Fewer shapes of matrix products: in bfloat16 on a CPU each new one is compiled, which takes longer than a small product.

oneDNN generates code for a shape the first time and keeps it for the last thousand or so. Sub-networks with sizes of their own in
every layer, on batches of every length, meet new ones all the time: of a step on short sentences that was a quarter.
"""

from collections.abc import Mapping

from torch import Tensor
from torch.nn import functional

from compiler.families import Architecture

_UNITS = 128


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


def round_length(tokens: int) -> int:
    """To so many tokens a batch is padded: a multiple of 4, from 32 on of 8, from 64 on of 16, and so on."""
    step = max(4, (1 << tokens.bit_length()) // 8)
    return -(-tokens // step) * step
