"""The paper's six ways to train a super-network: which sub-networks one step runs, and what each learns from.

Source: Klein et al., arXiv 2405.02267, section 3; the sandwich rule and in-place distillation are Yu and Huang's
(arXiv 1903.05134). A plan is a pure function of (strategy, seed, step): every rank and every resumed run draws the same.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from compiler.spaces import Space, Subnet, sample_stratified, sample_uniform
from compiler.spaces.sampling import CostFunction
from compiler.spaces.subnet import IntArray
from targets.errors import InputError

Role = Literal["learn", "distil", "teach"]
"""learn: from labels; distil: from labels and the whole network of the same step; teach: run forward only."""

GenomeSampler = Callable[[np.random.Generator, int], IntArray]
"""Draws n genomes, int64 [n, variables]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One network's part in a step; no sub-network means the whole network."""

    subnet: Subnet | None
    role: Role


Plan = tuple[Turn, ...]
"""The turns of one optimiser step, in order; their losses are summed. A teacher comes before those it teaches."""

WHOLE: Plan = (Turn(subnet=None, role="learn"),)
"""Ordinary training."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """What a strategy may look at: `progress` rises from 0 at the first step to 1 at the last."""

    space: Space
    sampler: GenomeSampler
    rng: np.random.Generator
    progress: float
    random_subnets: int

    def subnets(self, n: int) -> list[Subnet]:
        """Random sub-networks."""
        return [self.space.subnet(genome) for genome in self.sampler(self.rng, n)]

    def is_random_turn(self) -> bool:
        """True with a probability that rises linearly from 0 to 1 over the training."""
        return bool(self.rng.random() < self.progress)


def _standard(_: Draw) -> Plan:
    return WHOLE


def _random(draw: Draw) -> Plan:
    return (Turn(subnet=draw.subnets(1)[0], role="learn"),)


def _random_linear(draw: Draw) -> Plan:
    return _random(draw) if draw.is_random_turn() else WHOLE


def _sandwich_of(draw: Draw, role: Role) -> Plan:
    others = [draw.space.subnet(draw.space.smallest), *draw.subnets(draw.random_subnets)]
    return WHOLE + tuple(Turn(subnet=subnet, role=role) for subnet in others)


def _sandwich(draw: Draw) -> Plan:
    return _sandwich_of(draw, "learn")


def _kd(draw: Draw) -> Plan:
    """As published: the whole network learns early on, so that it has something to teach."""
    if not draw.is_random_turn():
        return WHOLE
    return (Turn(subnet=None, role="teach"), Turn(subnet=draw.subnets(1)[0], role="distil"))


def _full(draw: Draw) -> Plan:
    return _sandwich_of(draw, "distil")


STRATEGIES: dict[str, Callable[[Draw], Plan]] = {
    "standard": _standard,
    "random": _random,
    "random-linear": _random_linear,
    "sandwich": _sandwich,
    "kd": _kd,
    "full": _full,
}


SAMPLINGS = ("stratified", "uniform")
"""How random sub-networks are drawn."""


def uniform_sampler(space: Space) -> GenomeSampler:
    """The paper's sampling: every variable uniform, so that small networks are hardly ever seen in large spaces."""
    return lambda rng, n: sample_uniform(space, rng, n)


def stratified_sampler(space: Space, cost: CostFunction) -> GenomeSampler:
    """Small networks as often as large ones: of n networks drawn in a step, one from each n-th of the cost range."""
    return lambda rng, n: sample_stratified(space, rng, n, cost)


def check_strategy(name: str) -> None:
    """InputError naming the known strategies if this is none."""
    if name not in STRATEGIES:
        raise InputError(f"unknown training strategy {name!r}; known: {', '.join(STRATEGIES)}")


def plan_step(
    strategy: str,
    space: Space,
    sampler: GenomeSampler,
    *,
    step: int,
    total_steps: int,
    seed: int = 0,
    random_subnets: int = 2,
) -> Plan:
    """The turns of one step (0-based). Random numbers come from hash(seed, step) alone."""
    check_strategy(strategy)
    draw = Draw(
        space=space,
        sampler=sampler,
        rng=np.random.default_rng([seed, step]),
        progress=step / max(total_steps - 1, 1),
        random_subnets=random_subnets,
    )
    return STRATEGIES[strategy](draw)
