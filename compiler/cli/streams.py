"""The standard streams of a process that anybody may have started: closed, a broken pipe, or of a narrow encoding."""

import contextlib
import io
import os
import select
import sys
from pathlib import Path
from typing import TextIO

BROKEN_PIPE = 141
"""The exit code of a program that a closed pipe ends, as shells give it (128 + SIGPIPE)."""


def prepare_streams() -> None:
    """Open what is closed on nothing, so that no file gets its number; spell out what an encoding lacks."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            _open_on_nothing(descriptor)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115  as long as the process lives
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _open_on_nothing(descriptor: int) -> None:
    nothing = os.open(os.devnull, os.O_RDWR)
    if nothing != descriptor:
        os.dup2(nothing, descriptor)
        os.close(nothing)


def flush_answer(code: int) -> int:
    """Write what is buffered on stdout. The exit code: the given one, or that of a broken pipe.

    OSError where it cannot be written, for a full disk say, and no other error was told.
    """
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        return leave_pipe()
    except OSError:
        _forget(sys.stdout)
        if not code:
            raise
    return code


def is_pipe_broken() -> bool:
    """Whether nobody reads stdout or stderr any more, as opposed to a pipe of our own to a process that ended."""
    return any(_is_broken(stream) for stream in (sys.__stdout__, sys.__stderr__))


def _is_broken(stream: TextIO | None) -> bool:
    if stream is None or not hasattr(select, "poll"):
        return False
    try:
        poll = select.poll()
        poll.register(stream.fileno(), 0)
        return any(event & select.POLLERR for _, event in poll.poll(0))
    except (OSError, ValueError):
        return False


def leave_pipe() -> int:
    """Nothing more is written to a broken pipe, at the end of the process neither. The exit code."""
    for stream in (sys.__stdout__, sys.__stderr__):
        if _is_broken(stream):
            _forget(stream)
    return BROKEN_PIPE


def _forget(stream: TextIO | None) -> None:
    """What is buffered goes nowhere."""
    if stream is not None:
        with contextlib.suppress(OSError, ValueError):
            _redirect(stream.fileno())


def _redirect(descriptor: int) -> None:
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, descriptor)
    os.close(nothing)
