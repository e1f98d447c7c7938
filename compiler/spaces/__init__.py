"""Sub-networks and the spaces they are searched in: SMALL, MEDIUM, LAYER and LARGE of the paper, and SUBLAYER."""

from compiler.spaces.mixed import Form, MixedPrecision, SubBlock
from compiler.spaces.sampling import sample_stratified, sample_uniform
from compiler.spaces.space import SPACES, Space, make_space
from compiler.spaces.subnet import Counts, Ordering, Shape, Subnet

__all__ = [
    "SPACES",
    "Counts",
    "Form",
    "MixedPrecision",
    "Ordering",
    "Shape",
    "Space",
    "SubBlock",
    "Subnet",
    "make_space",
    "sample_stratified",
    "sample_uniform",
]
