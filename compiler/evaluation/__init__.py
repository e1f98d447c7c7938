"""How good a sub-network is: its answers on a split, and the task's metric of them."""

from compiler.evaluation.beside import Beside
from compiler.evaluation.changes import Changes
from compiler.evaluation.early import outdone
from compiler.evaluation.quality import Quality, Yardstick, answers, make_yardstick

__all__ = ["Beside", "Changes", "Quality", "Yardstick", "answers", "make_yardstick", "outdone"]
