"""Without training: importance, reconstruction and allocation from a little calibration text."""

from compiler.oneshot.allocation import Front, allocate, exact_front
from compiler.oneshot.calibration import Calibration, calibrate
from compiler.oneshot.constrained import Allocation, Constraint, allocate_constrained
from compiler.oneshot.gates import learn_sizes
from compiler.oneshot.importance import SubBlock, ordering_of, rank_sub_blocks
from compiler.oneshot.narrowing import residual_order
from compiler.oneshot.reconstruction import Reconstructor, reconstruct, restore_output
from compiler.oneshot.sensitivity import sensitivities

__all__ = [
    "Allocation",
    "Calibration",
    "Constraint",
    "Front",
    "Reconstructor",
    "SubBlock",
    "allocate",
    "allocate_constrained",
    "calibrate",
    "exact_front",
    "learn_sizes",
    "ordering_of",
    "rank_sub_blocks",
    "reconstruct",
    "residual_order",
    "restore_output",
    "sensitivities",
]
