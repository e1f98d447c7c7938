"""Who does the jobs of a run: threads of its process, or the nodes of a cluster."""

from compiler.execution.executor import Executor, Serial, Threads, threads_of
from compiler.execution.job import Job
from compiler.execution.threads import Item, Progress, Result, in_turn, side_by_side

__all__ = [
    "Executor",
    "Item",
    "Job",
    "Progress",
    "Result",
    "Serial",
    "Threads",
    "in_turn",
    "side_by_side",
    "threads_of",
]
