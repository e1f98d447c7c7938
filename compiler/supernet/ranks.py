"""Training on several processes (`torchrun`): one leads a run, the others wait and take part in each of its trainings.

Only the leader measures, searches and writes. What the others need of a training they are sent: its arguments.
"""

import gc
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar

from torch import distributed

from targets.errors import InputError

Result = TypeVar("Result")

_PATIENCE = timedelta(days=7)  # a leader may search for long between two trainings


def follows() -> bool:
    """Whether another process leads the run that this one is part of."""
    return _number("RANK", 0) > 0


def _number(name: str, alone: int) -> int:
    """A whole number that torchrun puts into the environment; `alone` without it. InputError for anything else."""
    value = os.environ.get(name)
    if value is None:
        return alone
    if not (value.isascii() and value.isdecimal() and len(value) < 7):
        raise InputError(
            f"{name} in the environment is {value!r}, expected a whole number as torchrun sets it\nunset it"
        )
    lacking = [other for other in _BY_TORCHRUN if other not in os.environ]
    if lacking and int(value) != alone:
        raise InputError(
            f"{name} is set in the environment and {lacking[0]} is not\nstart with torchrun, or unset {name}"
        )
    return int(value)


_BY_TORCHRUN = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@contextmanager
def leading() -> Iterator[None]:
    """A run whose trainings use all processes that torchrun started; without it, this one alone."""
    if _number("WORLD_SIZE", 1) == 1:
        yield
        return
    distributed.init_process_group(timeout=_PATIENCE)
    try:
        yield
    finally:
        if distributed.is_initialized():
            _share(None)
            _leave()


def follow() -> None:
    """Take part in every training of the run until it ends, and end this process with it.

    At once: gloo's threads do not always survive the interpreter's own way of ending, and abort.
    """
    distributed.init_process_group(timeout=_PATIENCE)
    while (training := _share(None)) is not None:
        training(progress=lambda *_: None)
    _leave()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _leave() -> None:
    """End the group. What wrapped the models of finished trainings lies in cycles and holds it, and its threads: they go first."""
    gc.collect()
    distributed.destroy_process_group()


def together(train: Callable[..., Result], *arguments: Any, progress: Any, **named: Any) -> Result:
    """Call a training function in all processes of the run; the leader's result.

    After a failure the others are no longer where the leader is: the group ends, and torchrun ends them.
    """
    training = partial(train, *arguments, **named)
    if not distributed.is_initialized():
        return training(progress=progress)
    _share(training)
    try:
        return training(progress=progress)
    except BaseException:
        distributed.destroy_process_group()
        raise


def _share(training: Any) -> Any:
    """What the leader has, in every process."""
    shared = [training]
    distributed.broadcast_object_list(shared, src=0)
    return shared[0]
