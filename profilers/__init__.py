"""What a piece of a network costs on a device, measured in the runtime that will serve it."""

from profilers.graph import Graph, GraphSource
from profilers.sizes import LayerSizes, Stack

__all__ = ["Graph", "GraphSource", "LayerSizes", "Stack"]
