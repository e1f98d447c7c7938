"""When to stop judging a network: a first look shows that a rival is better beyond doubt.

Where two networks are judged on the same examples, much of the chance in their figures is the same: what one is behind the
other, example by example, says more than either figure.
"""

from dataclasses import replace

from compiler.evaluation.quality import Quality, Yardstick
from compiler.tasks.noise import standard_error

FEWEST = 64
"""Examples of a first look, at least: after fewer than this, nothing is beyond doubt."""

BEYOND_DOUBT = 3.0
"""Standard errors of the difference. A rival is one that scored well, partly by chance: 1.96 would be too few."""


def outdone(yardstick: Yardstick, first: Quality, rival: Quality) -> Quality | None:
    """What a network's quality comes to where a first look at it shows a rival, judged on all examples, to be better.

    None where chance may explain the difference. The metric is an estimate: the rival's error on all examples and what the network
    is behind on those that were seen. It is not below 0 unless what was seen is: but for correlations no metric can be. The other
    metrics, and the values, are those of what was seen.
    """
    behind = rival.values[yardstick.first_rows] - first.values
    difference = float(behind.mean())
    if len(behind) < FEWEST or difference <= BEYOND_DOUBT * (standard_error(behind) or 0.0):
        return None
    return replace(first, metric=rival.scale.behind(rival.metric, difference, first.metric))
