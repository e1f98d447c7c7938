"""Sub-networks and the spaces they are searched in: SMALL, MEDIUM, LAYER and LARGE of the paper, SUBLAYER and WIDTH."""

from compiler.spaces.mixed import Form, MixedPrecision, SubBlock
from compiler.spaces.query_heads import QueryHeads, QueryOrder
from compiler.spaces.registry import OF_FULL_WIDTH, SPACES, make_space
from compiler.spaces.sampling import sample_stratified, sample_uniform
from compiler.spaces.space import Space
from compiler.spaces.subnet import Counts, Ordering, Shape, Subnet

__all__ = [
    "OF_FULL_WIDTH",
    "SPACES",
    "Counts",
    "Form",
    "MixedPrecision",
    "Ordering",
    "QueryHeads",
    "QueryOrder",
    "Shape",
    "Space",
    "SubBlock",
    "Subnet",
    "make_space",
    "sample_stratified",
    "sample_uniform",
]
