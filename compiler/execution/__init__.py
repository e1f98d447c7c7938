"""Who does the jobs of a run, and the compute device that learning happens on."""

from compiler.execution.device import (
    CPU,
    ComputeDevice,
    check_device,
    device_of,
    on_host,
    on_the_models_device,
    placed,
)
from compiler.execution.executor import Executor, Serial, Threads, threads_of
from compiler.execution.job import Job
from compiler.execution.threads import Item, Progress, Result, in_turn, side_by_side

__all__ = [
    "CPU",
    "ComputeDevice",
    "Executor",
    "Item",
    "Job",
    "Progress",
    "Result",
    "Serial",
    "Threads",
    "check_device",
    "device_of",
    "in_turn",
    "on_host",
    "on_the_models_device",
    "placed",
    "side_by_side",
    "threads_of",
]
