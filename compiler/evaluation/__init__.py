"""How good a sub-network is: its answers on a split, and the task's metric of them."""

from compiler.evaluation.early import outdone
from compiler.evaluation.quality import Quality, Yardstick, answers, make_yardstick

__all__ = ["Quality", "Yardstick", "answers", "make_yardstick", "outdone"]
