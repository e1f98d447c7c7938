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
_ROUNDING = 1e-9


class Seeds(NamedTuple):
    """Genomes [n, variables], one loss model's after the other's and each by rising latency; `gap` is the largest the solver left open, None where none was needed."""

    genomes: IntArray
    gap: float | None


class Groups(NamedTuple):
    """The sizes [options] to choose from, of every layer's attention and of every layer's FFN."""

    heads: Sequence[IntArray]
    units: Sequence[IntArray]

    @classmethod
    def of(cls, space: Medium) -> "Groups":
        """All sizes that the space has."""
        steps = np.arange(space.steps.max() + 1)[:, None]
        units = space.units_of(np.minimum(steps, space.steps)).T
        return cls(space.attention_sizes, [np.unique(sizes) for sizes in units])

    def each(self, attention: Floats, ffn: Floats) -> list[Floats]:
        """Values [options] of every group, the attentions first, from what each number of heads and of units has."""
        return [attention[sizes] for sizes in self.heads] + [ffn[sizes] for sizes in self.units]

    def seconds(self, cost: CostModel) -> list[Floats]:
        """What the options [options] of every group take."""
        attention = [curve[sizes] for curve, sizes in zip(cost.attention_s, self.heads, strict=True)]
        return attention + [curve[sizes] for curve, sizes in zip(cost.ffn_s, self.units, strict=True)]

    def losses(self, modelled: Mapping[tuple[int, str], Floats]) -> list[Floats]:
        """The modelled losses [options] of every group."""
        kept = {"attention": self.heads, "ffn": self.units}
        return [modelled[layer, piece][sizes] for piece in kept for layer, sizes in enumerate(kept[piece])]


def encoder_s(cost: CostModel, groups: Groups, options: IntArray) -> Floats:
    """What the encoders [n] of some options [n, groups] take, the scratch space of the widest sub-blocks aside."""
    attends = options[:, : len(groups.heads)].any(axis=1)
    each = [
        sum(seconds[taken] for seconds, taken in zip(groups.seconds(part), options.T, strict=True)) + part.base_s
        for part in cost.sums
    ]
    return np.asarray(np.max(each, axis=0) - cost.base_s + np.where(attends, cost.mask_s, 0.0))


def encoder_budgets_s(cost: CostModel, groups: Groups, count: int, limit_s: float | None) -> Floats:
    """What the encoder may take [count], rising in even ratios, or below a limit and more of them just below it."""
    whole = np.array([[len(sizes) - 1 for sizes in (*groups.heads, *groups.units)]])
    full = float(encoder_s(cost, groups, whole)[0])
    least, most = (share * full for share in _SHARES_OF_FULL)
    if limit_s is None or limit_s * MARGIN - cost.base_s >= most:
        return np.geomspace(least, most, count)
    most = max(limit_s * MARGIN - cost.base_s, _ROUNDING * full)
    least = min(least, most / 2)
    far = count // 2
    return np.concatenate([np.linspace(least, 0.8 * most, far), np.linspace(0.85 * most, most, count - far)])


def _latency(cost: CostModel, groups: Groups, limit_s: float) -> Iterator[Constraint]:
    """The encoder's latency: look-ups, and what grows with the widest sub-block; one for each sum that it is the largest of."""
    heads, units = (np.arange(curves.shape[1], dtype=np.float64) for curves in (cost.attention_s, cost.ffn_s))
    for part in cost.sums:
        yield Constraint(
            name="latency_s",
            costs=groups.seconds(part),
            limit=limit_s + cost.base_s - part.base_s - cost.mask_s,
            peaks=(
                groups.each(cost.head_workspace_s * heads, np.zeros_like(units)),
                groups.each(np.zeros_like(heads), cost.unit_workspace_s * units),
            ),
        )


def _memory(model: MemoryModel, groups: Groups, limit_bytes: float) -> Iterator[Constraint]:
    """The peak of a process while it loads and while it serves, each a sum of weights and the dearest activation."""
    network, sizes = model.network, model.network.dimensions
    heads, units = (np.arange(most + 1)[:, None] for most in sizes.largest)
    stem = network.weights(heads[:1], units[:1])
    weights = network.weights(heads, 0 * heads) - stem, network.weights(0 * units, units) - stem
    active = network.activations(heads, 0 * heads), network.activations(0 * units, units)
    dense_weights = sizes.layers * sum(float(w[-1]) for w in weights)
    dense_active = max(float(a[-1]) for a in active)
    for name, phase in (("loading_bytes", model.loading), ("serving_bytes", model.serving)):
        saved_by_dense = phase.per_weight_byte * dense_weights + phase.per_activation_byte * dense_active
        yield Constraint(
            name=name,
            costs=groups.each(*(phase.per_weight_byte * w for w in weights)),
            limit=limit_bytes - phase.dense_bytes + saved_by_dense,
            peaks=(groups.each(*(phase.per_activation_byte * a for a in active)),),
        )


def _constrained(
    losses: Sequence[Floats], cost: CostModel, memory: Sequence[Constraint], groups: Groups, budgets: Floats
) -> tuple[list[Sequence[int]], float]:
    """The best options within each budget and the memory; budgets that nothing meets are left out."""
    found = []
    for budget in budgets:
        try:
            found.append(
                allocate_constrained(losses, [*_latency(cost, groups, budget), *memory], time_limit_s=_SOLVER_S)
            )
        except BudgetError:
            continue
    return [one.options for one in found], max((one.gap for one in found), default=0.0)


def allocated(losses: Sequence[Floats], cost: CostModel, groups: Groups, budgets_s: Floats) -> IntArray:
    """The options [budgets, groups] that lose least while the encoder takes no more than each budget.

    Exact where all weights stay in the cache, or where the network found has so many that some do not: the latency is the
    largest of several sums, and each has its front. Of what they give for a budget, the one that exceeds it least is taken,
    and of several that do not the one that loses least.
    """
    charged = len(groups.heads)
    tried = [
        allocate(
            losses, groups.seconds(part), (budgets_s + cost.base_s - part.base_s).tolist(), charge=cost.mask_s, charged=charged
        )
        for part in cost.sums
    ]  # fmt: skip
    over_s = np.array([np.maximum(encoder_s(cost, groups, options) / budgets_s - 1, _ROUNDING) for options in tried])
    lost = [sum(loss[taken] for loss, taken in zip(losses, options.T, strict=True)) for options in tried]
    best = np.lexsort((lost, over_s), axis=0)[0]
    return np.asarray(np.stack(tried)[best, np.arange(len(budgets_s))])


def find_seeds(space: Medium, costs: Costs, ranking: Ranking, count: int, limits: Mapping[str, float]) -> Seeds:
    """At most `count` genomes; `limits` are ceilings of objectives: latency in seconds, memory in bytes.

    Without a limit on memory the whole front of each loss model is exact (dynamic programming); with one each budget is a
    mixed-integer program.
    """
    groups, cost = Groups.of(space), costs.latency
    budgets = encoder_budgets_s(cost, groups, count, limits.get("latency"))
    memory: list[Constraint] = []
    if "memory" in limits and costs.memory is not None:
        memory = list(_memory(costs.memory, groups, limits["memory"] * MARGIN))
    fronts, gaps = [np.empty((0, 2 * space.layers), dtype=np.int64)], []
    for turn, share in enumerate(LOCAL_SHARES):
        losses, own = groups.losses(ranking.losses(share)), budgets[turn :: len(LOCAL_SHARES)]
        if memory:
            found, gap = _constrained(losses, cost, memory, groups, own)
            gaps.append(gap)
        else:
            found = list(allocated(losses, cost, groups, own))
        rows = np.array(found, dtype=np.int64).reshape(len(found), 2 * space.layers)
        fronts.append(rows[np.argsort(cost.latency_s(space.counts(rows)), kind="stable")] if len(rows) else rows)
    return Seeds(np.concatenate(fronts), max(gaps) if gaps else None)
