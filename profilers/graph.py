"""An ONNX graph in memory, its weights beside it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """A serialised ModelProto whose large initialisers are declared external, and their arrays by name.

    Handing a runtime the arrays avoids copying them through a file: opening a session takes half the time.
    """

    proto: bytes
    weights: Mapping[str, NDArray[Any]]


GraphSource = Graph | Path
"""A graph in memory, or the file that ships."""
