"""A measurement is raw samples; everything else is derived from them. Warm-up runs are never samples."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """Seconds per call, in the order they were taken, after `warmup` calls that were thrown away."""

    samples_s: tuple[float, ...]
    warmup: int

    def __post_init__(self) -> None:
        if not self.samples_s:
            raise ValueError("a measurement needs at least one sample")
        if not all(np.isfinite(s) and s >= 0 for s in self.samples_s):
            raise ValueError(f"samples must be finite and not negative, got {min(self.samples_s)}")

    @cached_property
    def median_s(self) -> float:
        """The middle sample, in seconds."""
        return float(np.median(self.samples_s))

    def percentile_s(self, q: float) -> float:
        """The q-th percentile (0 to 100), in seconds."""
        return float(np.percentile(self.samples_s, q))

    @property
    def spread(self) -> float:
        """Interquartile range over median: how noisy the samples are."""
        low, high = np.percentile(self.samples_s, [25, 75])
        return float((high - low) / self.median_s) if self.median_s > 0 else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A number and where it comes from; a modelled number can never pass as a measured one.

    `source` is measured, interpolated (between measured sizes), transferred (from another device), roofline (from the
    datasheet) or null (the device without a clock).
    """

    value: float
    source: str
