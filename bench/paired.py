"""Two networks on the same examples: what one loses of the other's metric, with a paired bootstrap over the examples."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from compiler.evaluation import Yardstick

DRAWS = 1000
Array = NDArray[Any]


def loss(test: Yardstick, dense: Array, found: Array, draws: int = DRAWS) -> dict[str, Any]:
    """What the network's outputs [examples, values] lose of the dense ones' metric, relative, and its 95 % interval.

    Where the dense metric is 0 there is nothing to lose: such draws do not count, and without any other the result is nan.
    """
    rng = np.random.default_rng(0)

    def lost(rows: Array) -> float:
        before, after = (test.metric.score(outputs[rows], test.reference[rows]) for outputs in (dense, found))
        return 1 - after / before if before else float("nan")

    everything = np.arange(len(dense))
    drawn = [lost(rng.integers(len(dense), size=len(dense))) for _ in range(draws)]
    return {"loss": lost(everything), "interval": [float(x) for x in np.nanpercentile(drawn, [2.5, 97.5])]}
