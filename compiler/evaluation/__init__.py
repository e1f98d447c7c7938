"""How good a sub-network is: its outputs on a split, and the task's metric of them."""

from compiler.evaluation.batches import Batches, Run, encode
from compiler.evaluation.chance import constant, doubt
from compiler.evaluation.early import outdone
from compiler.evaluation.metrics import METRICS, Metric, default_metric
from compiler.evaluation.quality import Quality, Yardstick, make_yardstick

__all__ = [
    "METRICS",
    "Batches",
    "Metric",
    "Quality",
    "Run",
    "Yardstick",
    "constant",
    "default_metric",
    "doubt",
    "encode",
    "make_yardstick",
    "outdone",
]
