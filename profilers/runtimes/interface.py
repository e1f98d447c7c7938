"""What a runtime must offer to be profiled."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from numpy.typing import NDArray

from profilers.program import Program
from profilers.workload import Workload
from targets.errors import TargetError


class OutOfMemoryError(TargetError):
    """The device's memory does not hold this network at this workload; smaller ones may still fit."""


class Session(Protocol):
    """One network loaded with the settings it will be served with."""

    def sample(self, count: int) -> list[float]:
        """Seconds of `count` calls, each on the same inputs, nothing allocated in between that serving would not.

        TargetError where the clock went backwards.
        """

    def outputs(self) -> Mapping[str, NDArray[Any]]:
        """What the network answers to the inputs it is timed on."""


class InTurn:
    """Sessions of one network, one for each length of a workload: a call is one of each in turn, and lasts their mean."""

    def __init__(self, sessions: Sequence[Session]) -> None:
        self.sessions = sessions

    def sample(self, count: int) -> list[float]:
        """Seconds of `count` calls, the mean of its lengths each; TargetError as a session's own."""
        return [
            sum(seconds for one in self.sessions for seconds in one.sample(1)) / len(self.sessions)
            for _ in range(count)
        ]

    def outputs(self) -> Mapping[str, NDArray[Any]]:
        """What the network answers at the first length."""
        return self.sessions[0].outputs()


def in_turn(sessions: Sequence[Session]) -> Session:
    """One session that calls all of these; of one alone, that one."""
    return sessions[0] if len(sessions) == 1 else InTurn(sessions)


class Runtime(Protocol):
    """Opens sessions one at a time: a live session that idles still steals cores."""

    name: str
    source: str
    """What its numbers are: `measured`, or `null` where there is no clock."""

    def open(self, program: Program, workload: Workload) -> AbstractContextManager[Session]:
        """Load a program; leaving the context destroys the session and frees its threads.

        OutOfMemoryError where the device cannot hold it, TargetError where the device fails or another one took over.
        """

    def describe(self) -> dict[str, Any]:
        """How its sessions were run so far, as JSON values: `mode`, `warnings` (a sentence each), and what it saw."""
