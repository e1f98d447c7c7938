"""The shape of what `compile verify` found, as types."""

from typing import TypedDict

from compiler.report.schema import Percentiles, Tool

SCHEMA_VERSION = 1


class Check(TypedDict):
    """One claim of a run about one network; `passed` is `None` where it could not be checked, `detail` says why or how."""

    net: str
    what: str
    passed: bool | None
    detail: str


class Timing(TypedDict):
    """A file timed again, against the dense one in the same run; `was` is the speed-up that the run claims."""

    net: str
    latency_ms: Percentiles
    samples: int
    speedup: float
    speedup_interval: tuple[float, float] | None
    was: float | None


class Verification(TypedDict):
    """All checks of a run directory; it has passed where none failed."""

    schema: int
    tool: Tool
    passed: bool
    checks: list[Check]
    timings: list[Timing]
