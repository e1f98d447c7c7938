"""The executors of a run: its own threads, or the nodes of a Ray cluster."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from compiler.execution.job import Job
from compiler.execution.threads import Item, Progress, Result, at_once, in_turn, side_by_side


class Executor(ABC):
    """Does the same work for every item of a list.

    Results are those of `work` in the order of the items, the same to the last bit whichever executor was asked: a job has as
    many threads as `threads_of` says, wherever it runs.
    """

    @abstractmethod
    def each(
        self,
        work: Callable[[Item], Result],
        items: Sequence[Item],
        *,
        job: Callable[[Item, int], Job],
        parameters: int | None,
        progress: Progress = lambda _: None,
    ) -> list[Result]:
        """Return `work(item)` for every item.

        Args:
            work: Computes an item here, or reads what a job left in the store. It must not change what calls share.
            items: What to compute.
            job: The same work as data, with its number of threads, for executors that hand it to other processes.
            parameters: Size of the largest network, in weights: how many fit into memory at once depends on it. None where
                each item takes a whole machine.
            progress: Told the share that is done.

        Raises:
            ParetocError: The first error of an item; the others are given up.
        """


def threads_of(items: int, parameters: int | None) -> int:
    """Threads of each of so many jobs on networks of so many weights: those of this process, dealt out evenly."""
    together = 1 if parameters is None else max(1, at_once(items, parameters))
    return max(1, torch.get_num_threads() // together)


@dataclass(frozen=True, slots=True)
class Threads(Executor):
    """Works on several networks at once in threads of this process."""

    def each(
        self,
        work: Callable[[Item], Result],
        items: Sequence[Item],
        *,
        job: Callable[[Item, int], Job],  # noqa: ARG002  nothing leaves the process
        parameters: int | None,
        progress: Progress = lambda _: None,
    ) -> list[Result]:
        """Results in order; PyTorch's threads are dealt out among the networks at work."""
        if parameters is None:
            return in_turn(work, items, progress)
        return side_by_side(work, items, parameters=parameters, progress=progress)


@dataclass(frozen=True, slots=True)
class Serial(Executor):
    """Works on one network after another, each with the threads that it would have among the others."""

    def each(
        self,
        work: Callable[[Item], Result],
        items: Sequence[Item],
        *,
        job: Callable[[Item, int], Job],  # noqa: ARG002  nothing leaves the process
        parameters: int | None,
        progress: Progress = lambda _: None,
    ) -> list[Result]:
        """Results in order."""
        before = torch.get_num_threads()
        torch.set_num_threads(threads_of(len(items), parameters))
        try:
            return in_turn(work, items, progress)
        finally:
            torch.set_num_threads(before)
