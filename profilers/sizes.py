"""The sizes a cost depends on: a network is a stack of layers, each with its heads and FFN units."""

from typing import NamedTuple


class LayerSizes(NamedTuple):
    """Kept heads and FFN units of one encoder layer; 0 means that sub-block is gone."""

    heads: int
    ffn_units: int


Stack = tuple[LayerSizes, ...]
"""A whole network as the profiler sees it: sizes only, never which heads or units."""
