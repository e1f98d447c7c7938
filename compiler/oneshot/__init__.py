"""Without training: importance, reconstruction and allocation from one pass over calibration text."""

from compiler.oneshot.allocation import allocate
from compiler.oneshot.calibration import Calibration, calibrate
from compiler.oneshot.importance import SubBlock, rank_sub_blocks
from compiler.oneshot.reconstruction import Reconstructor, reconstruct

__all__ = [
    "Calibration",
    "Reconstructor",
    "SubBlock",
    "allocate",
    "calibrate",
    "rank_sub_blocks",
    "reconstruct",
]
