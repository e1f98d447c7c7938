"""Where the search starts: the sizes that lose least by the additive loss models, within the limits of the run."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from compiler.costing import CostModel, Costs
from compiler.oneshot import Constraint, allocate, allocate_constrained
from compiler.pipeline.limits import MARGIN
from compiler.pipeline.ranking import Ranking
from compiler.spaces.space import Medium
from compiler.spaces.subnet import IntArray
from profilers.memory_model import MemoryModel
from targets.errors import BudgetError

Floats = NDArray[np.float64]

LOCAL_SHARES = (0.0, 0.2)
"""The loss models whose best sizes the search starts from, in turn (`Ranking.losses`)."""

_SHARES_OF_FULL = (0.08, 0.95)
_SOLVER_S = 2.0


class Seeds(NamedTuple):
    """Genomes [n, variables] by rising latency; `gap` is the largest the solver left open, None where none was needed."""

    genomes: IntArray
    gap: float | None


class Groups(NamedTuple):
    """The options of every layer's attention, then of every layer's FFN."""

    space: Medium
    heads: IntArray
    units: IntArray

    @classmethod
    def of(cls, space: Medium) -> "Groups":
        """All sizes that the space has."""
        return cls(space, np.arange(space.heads + 1), space.units_of(np.arange(space.steps + 1)))

    def each(self, attention: Floats, ffn: Floats) -> list[Floats]:
        """The same values [options] in every layer."""
        return [attention] * self.space.layers + [ffn] * self.space.layers

    def seconds(self, cost: CostModel) -> list[Floats]:
        """What the options [options] of every group take."""
        return self.each(cost.attention_s[self.heads], cost.ffn_s[self.units])

    def losses(self, modelled: Mapping[tuple[int, str], Floats]) -> list[Floats]:
        """The modelled losses [options] of every group."""
        kept = {"attention": self.heads, "ffn": self.units}
        return [modelled[layer, piece][kept[piece]] for piece in kept for layer in range(self.space.layers)]


def _budgets_s(cost: CostModel, groups: Groups, count: int, limit_s: float | None) -> Floats:
    """What the encoder may take [count], rising in even ratios, or below a limit and more of them just below it."""
    full = cost.mask_s + sum(float(seconds[-1]) for seconds in groups.each(cost.attention_s, cost.ffn_s))
    least, most = (share * full for share in _SHARES_OF_FULL)
    if limit_s is None or limit_s * MARGIN - cost.base_s >= most:
        return np.geomspace(least, most, count)
    most = max(limit_s * MARGIN - cost.base_s, least)
    far = count // 2
    return np.concatenate([np.linspace(least, 0.8 * most, far), np.linspace(0.85 * most, most, count - far)])


def _latency(cost: CostModel, groups: Groups, limit_s: float) -> Constraint:
    """The encoder's latency: look-ups, and what grows with the widest sub-block."""
    nothing = groups.each(np.zeros(len(groups.heads)), np.zeros(len(groups.units)))
    layers = groups.space.layers
    return Constraint(
        name="latency_s",
        costs=groups.seconds(cost),
        limit=limit_s - cost.mask_s,
        peaks=(
            [cost.head_workspace_s * groups.heads.astype(np.float64)] * layers + nothing[layers:],
            nothing[:layers] + [cost.unit_workspace_s * groups.units.astype(np.float64)] * layers,
        ),
    )


def _memory(model: MemoryModel, groups: Groups, limit_bytes: float) -> Iterator[Constraint]:
    """The peak of a process while it loads and while it serves, each a sum of weights and the dearest activation."""
    network, none = model.network, np.zeros((1, 1), dtype=np.int64)
    stem = network.weights(none, none)
    heads, units = groups.heads[:, None], groups.units[:, None]
    weights = groups.each(
        network.weights(heads, np.zeros_like(heads)) - stem, network.weights(np.zeros_like(units), units) - stem
    )
    active = groups.each(
        network.activations(heads, np.zeros_like(heads)), network.activations(np.zeros_like(units), units)
    )
    dense_weights, dense_active = sum(float(w[-1]) for w in weights), max(float(a[-1]) for a in active)
    for name, phase in (("loading_bytes", model.loading), ("serving_bytes", model.serving)):
        saved_by_dense = phase.per_weight_byte * dense_weights + phase.per_activation_byte * dense_active
        yield Constraint(
            name=name,
            costs=[phase.per_weight_byte * w for w in weights],
            limit=limit_bytes - phase.dense_bytes + saved_by_dense,
            peaks=([phase.per_activation_byte * a for a in active],),
        )


def _constrained(
    losses: Sequence[Floats], cost: CostModel, memory: Sequence[Constraint], groups: Groups, budgets: Floats
) -> tuple[list[Sequence[int]], float]:
    """The best options within each budget and the memory; budgets that nothing meets are left out."""
    found = []
    for budget in budgets:
        try:
            found.append(
                allocate_constrained(losses, [_latency(cost, groups, budget), *memory], time_limit_s=_SOLVER_S)
            )
        except BudgetError:
            continue
    return [one.options for one in found], max((one.gap for one in found), default=0.0)


def find_seeds(space: Medium, costs: Costs, ranking: Ranking, count: int, limits: Mapping[str, float]) -> Seeds:
    """At most `count` genomes; `limits` are ceilings of objectives: latency in seconds, memory in bytes.

    Without a limit on memory the whole front of each loss model is exact (dynamic programming); with one each budget is a
    mixed-integer program.
    """
    groups, cost = Groups.of(space), costs.latency
    budgets = _budgets_s(cost, groups, count, limits.get("latency"))
    memory: list[Constraint] = []
    if "memory" in limits and costs.memory is not None:
        memory = list(_memory(costs.memory, groups, limits["memory"] * MARGIN))
    genomes, gaps = [], []
    for turn, share in enumerate(LOCAL_SHARES):
        losses, own = groups.losses(ranking.losses(share)), budgets[turn :: len(LOCAL_SHARES)]
        if memory:
            found, gap = _constrained(losses, cost, memory, groups, own)
            gaps.append(gap)
        else:
            found = list(allocate(losses, groups.seconds(cost), own.tolist(), charge=cost.mask_s, charged=space.layers))
        genomes += found
    rows = np.array(genomes, dtype=np.int64).reshape(len(genomes), 2 * space.layers)
    seconds_s = cost.latency_s(space.counts(rows)) if len(rows) else np.zeros(0)
    return Seeds(rows[np.argsort(seconds_s, kind="stable")], max(gaps) if gaps else None)
