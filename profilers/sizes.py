"""The sizes a cost depends on: a network is a stack of layers, each with its heads and FFN units."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class LayerSizes(NamedTuple):
    """Kept heads and FFN units of one encoder layer; 0 means that sub-block is gone."""

    heads: int
    ffn_units: int


Stack = tuple[LayerSizes, ...]
"""A whole network as the profiler sees it: sizes only, never which heads or units."""


def random_stack(rng: np.random.Generator, heads: Sequence[int], units: Sequence[int], layers: int) -> Stack:
    """Sub-blocks kept with one probability, sizes up to one limit: anything between one block and all of them."""
    keep, limit = rng.random(2)

    def draw(sizes: Sequence[int]) -> int:
        return int(rng.choice(sizes[: int(limit * len(sizes)) + 1])) if rng.random() < keep else 0

    return tuple(LayerSizes(draw(heads), draw(units)) for _ in range(layers))
