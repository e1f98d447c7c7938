"""The null device: a closed form instead of a clock, so that the whole pipeline runs anywhere and never varies."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from numpy.typing import NDArray

from profilers.program import Program
from profilers.roofline import stack_seconds
from profilers.workload import Workload
from targets import Target


class _NullSession:
    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def sample(self, count: int) -> list[float]:
        return [self.seconds] * count

    def outputs(self) -> Mapping[str, NDArray[Any]]:
        return {}


class NullRuntime:
    """Poses as any target: its seconds are the roofline of that target's facts."""

    name = "null"
    source = "null"

    def __init__(self, target: Target) -> None:
        self.target = target

    @contextmanager
    def open(self, program: Program, workload: Workload) -> Iterator[_NullSession]:
        """A session that answers in no time what the roofline says."""
        yield _NullSession(stack_seconds(self.target, workload, program.dimensions, program.stack))

    def describe(self) -> dict[str, Any]:
        """Nothing was run."""
        return {"mode": "closed form", "warnings": []}
