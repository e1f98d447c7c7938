"""How sure a median of blocks is."""

from collections.abc import Sequence

import numpy as np

FEWEST = 3
"""Blocks below which an interval would say nothing."""


def median_interval(values: Sequence[float], seed: int = 0) -> tuple[float, float] | None:
    """95 % bootstrap interval of the median; None of fewer than three values.

    Efron, "Bootstrap methods: another look at the jackknife", Annals of Statistics 7(1), 1979; percentile method.
    """
    if len(values) < FEWEST:
        return None
    rng = np.random.default_rng(seed)
    medians = np.median(rng.choice(np.array(values), size=(2000, len(values))), axis=1)
    low, high = np.percentile(medians, [2.5, 97.5])
    return float(low), float(high)
