"""What models are for: one object a task, and everything that depends on it."""

from compiler.tasks.batches import IGNORED, Batches, Run, encode
from compiler.tasks.losses import Outputs
from compiler.tasks.metric import PERPLEXITY, SCALES, SHARE, Metric, Scale
from compiler.tasks.reading import read_data
from compiler.tasks.registry import TASKS, TaskName, task_named
from compiler.tasks.scores import ScoreScale
from compiler.tasks.task import Task

__all__ = [
    "IGNORED",
    "PERPLEXITY",
    "SCALES",
    "SHARE",
    "TASKS",
    "Batches",
    "Metric",
    "Outputs",
    "Run",
    "Scale",
    "ScoreScale",
    "Task",
    "TaskName",
    "encode",
    "read_data",
    "task_named",
]
