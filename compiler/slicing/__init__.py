"""The one slicer: parameters of a dense model and a sub-network to smaller parameters, and a skeleton that runs them."""

from compiler.slicing.skeleton import SubnetRunner, build_skeleton
from compiler.slicing.slicer import slice_parameters

__all__ = ["SubnetRunner", "build_skeleton", "slice_parameters"]
