"""Work on several networks at once: two threads of a CPU with a network each do more than two on one network."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

AT_ONCE = 8
MOST_PARAMETERS = 400_000_000
"""Of all networks that are worked on together, at most: each has its weights in memory, and what it computes."""

Progress = Callable[[float], None]
"""Takes the share that is done."""

Item = TypeVar("Item")
Result = TypeVar("Result")


def side_by_side(
    work: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    parameters: int,
    progress: Progress = lambda _: None,
) -> list[Result]:
    """What `work` makes of every item, in their order; calls must not change what they share. `progress` gets the share done.

    `parameters` is the size of the largest network. PyTorch's threads are dealt out evenly among the networks at work: by how
    many items there are, whatever `work` finds stored of them, so that a run which goes on where it was killed computes
    with as many. The first error ends the rest.
    """
    networks = at_once(len(items), parameters)
    if networks <= 1:
        return in_turn(work, items, progress)
    with _threads_each(torch.get_num_threads() // networks), ThreadPoolExecutor(networks) as pool:
        return _told(pool.map(work, items), len(items), progress)


def at_once(items: int, parameters: int) -> int:
    """How many of so many networks of so many weights are worked on together in this process; 0 where they are too large."""
    return min(items, torch.get_num_threads(), AT_ONCE, MOST_PARAMETERS // parameters)


def in_turn(work: Callable[[Item], Result], items: Sequence[Item], progress: Progress = lambda _: None) -> list[Result]:
    """The same, one after another."""
    return _told(map(work, items), len(items), progress)


def _told(results: Iterable[Result], count: int, progress: Progress) -> list[Result]:
    every = []
    for result in results:
        every.append(result)
        progress(len(every) / count)
    return every


@contextmanager
def _threads_each(count: int) -> Iterator[None]:
    """So many of PyTorch's threads for every thread that begins to use it."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
