"""Two networks on the same examples: what one loses of the other's metric, with a paired bootstrap over the examples."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from compiler.evaluation import Yardstick

DRAWS = 1000
Array = NDArray[Any]


def loss(test: Yardstick, dense: Array, found: Array, draws: int = DRAWS) -> dict[str, Any]:
    """What the network's answers lose of the dense ones' metric, relative, its 95 % interval, and the bound that 95 % are below.

    Where the dense metric is 0 there is nothing to lose: such draws do not count, and without any other the result is nan. Of metrics
    whose units are several lines (a query with its candidates), units are drawn by their parts in the metric.
    """
    rng, metric = np.random.default_rng(0), test.metric
    parts = [metric.values(outputs, test.reference) for outputs in (dense, found)] if test.task.grouped else None

    def lost(rows: Array) -> float:
        if parts is not None:
            before, after = (float(part[rows].mean()) for part in parts)
        else:
            before, after = (metric.score(outputs[rows], test.reference[rows]) for outputs in (dense, found))
        return 1 - after / before if before else float("nan")

    count = len(dense) if parts is None else len(parts[0])
    drawn = [lost(rng.integers(count, size=count)) for _ in range(draws)]
    low, high, bound = (float(x) for x in np.nanpercentile(drawn, [2.5, 97.5, 95]))
    return {"loss": lost(np.arange(count)), "interval": [low, high], "bound": bound}
