"""The one slicer: parameters of a dense model and a sub-network to smaller parameters, and a skeleton that runs them."""

from compiler.slicing.arithmetic import bf16_where_it_is, has_bf16
from compiler.slicing.few_shapes import cast_once, with_round_units
from compiler.slicing.float32 import fastest_float32, float32_by, float32_library, float32_products
from compiler.slicing.skeleton import Restoring, SubnetRunner, build_skeleton, run_with, sharing_weights, with_restoring
from compiler.slicing.slicer import slice_parameters

__all__ = [
    "Restoring",
    "SubnetRunner",
    "bf16_where_it_is",
    "build_skeleton",
    "cast_once",
    "fastest_float32",
    "float32_by",
    "float32_library",
    "float32_products",
    "has_bf16",
    "run_with",
    "sharing_weights",
    "slice_parameters",
    "with_restoring",
    "with_round_units",
]
