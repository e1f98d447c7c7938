"""The shape of what `compile verify` found, as types."""

from typing import TypedDict

from compiler.report.schema import PeakInfo, Percentiles, Tool

SCHEMA_VERSION = 1


class Check(TypedDict):
    """One claim of a run about one network; `passed` is `None` where it could not be checked, `detail` says why or how."""

    net: str
    what: str
    passed: bool | None
    detail: str


class Timing(TypedDict):
    """A file timed again, against the dense one in the same run; `was` is the speed-up that the run claims.

    `roofline_share` is the least time that the device's own peak allows, over the measured one; `None` under traffic.
    """

    net: str
    latency_ms: Percentiles
    samples: int
    speedup: float
    speedup_interval: tuple[float, float] | None
    was: float | None
    roofline_share: float | None


class Verification(TypedDict):
    """All checks of a run directory; it has passed where none failed. `peak` is the device at its best, where files were timed.

    `manifest_sha256` is that of the list of its files as it is now; `None` where there is none.
    """

    schema: int
    tool: Tool
    passed: bool
    checks: list[Check]
    timings: list[Timing]
    peak: PeakInfo | None
    notes: list[str]
    manifest_sha256: str | None
