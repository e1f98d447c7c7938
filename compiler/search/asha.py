"""Which sub-networks to train on their own, and for how long: MO-ASHA, for searches where every evaluation is a training.

    scheduler = SuccessiveHalving(space, sampler, seed=0, budgets=rung_budgets(1, 9))
    while spent < limit:
        job = scheduler.ask()                                # train job.genome up to job.budget in total
        scheduler.tell(job, objectives)                      # [objectives], all minimised; inf where it failed

Budgets are whatever training is counted in (epochs, steps) and are totals: a job on a higher rung continues the job of the same
`number` on the rung below. Several workers ask before they tell; none ever waits. Nothing is drawn but new genomes, so a
scheduler that is given the same asks and tells in the same order, a record of them for example, goes on the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from compiler.search.front import ranked
from compiler.search.method import Floats, Known, Method, Sampler, starting_genomes
from compiler.spaces import Space
from compiler.spaces.subnet import IntArray
from targets.errors import InputError


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Job:
    """Train a genome up to a budget. `number` is that of the genome, counted as they were drawn."""

    number: int
    genome: IntArray
    rung: int
    budget: float


def rung_budgets(lowest: float, highest: float, reduction: int = 3) -> tuple[float, ...]:
    """Budgets from lowest to highest, each `reduction` times the one before; the highest ends them. InputError where they cross."""
    if not 0 < lowest <= highest or reduction < 2:
        raise InputError(
            f"budgets of successive halving must rise from above 0, each at least 2 times the one before; "
            f"got {lowest} to {highest}, times {reduction}"
        )
    steps = int(np.floor(np.log(highest / lowest) / np.log(reduction) + 1e-9))
    return tuple(highest / reduction**k for k in range(steps, -1, -1))


class SuccessiveHalving:
    """Asynchronous successive halving with several objectives (Schmucker et al., 2021, arXiv 2106.12639).

    Of the networks that were evaluated on a rung, the best 1 / `reduction` go on to the next: by non-dominated sorting, in a
    front by an epsilon-net (`compiler.search.ranked`). Where none may go on, a new one starts on the lowest rung: the largest, the
    smallest, the middle, the seeds, then draws of the sampler.
    """

    def __init__(
        self, space: Space, sampler: Sampler, *, seed: int, budgets: Sequence[float], reduction: int = 3,
        seeds: IntArray | None = None,
    ) -> None:  # fmt: skip
        self.space, self.sampler = space, sampler
        self.budgets, self.reduction = tuple(budgets), reduction
        self.rng = np.random.default_rng(seed)
        self.start = starting_genomes(space, seeds)
        self.genomes: list[IntArray] = []
        self.told: list[dict[int, Floats]] = [{} for _ in self.budgets]
        self.asked: list[set[int]] = [set() for _ in self.budgets]

    def ask(self) -> Job:
        """A promotion from the highest rung that has one, else a new genome."""
        for rung in range(len(self.budgets) - 2, -1, -1):
            for number in self._best(rung):
                if number not in self.asked[rung + 1]:
                    return self._job(number, rung + 1)
        self.genomes.append(self._new())
        return self._job(len(self.genomes) - 1, 0)

    def tell(self, job: Job, objectives: Floats) -> None:
        """Objectives [objectives] of a job that was asked for, once."""
        if job.number not in self.asked[job.rung] or job.number in self.told[job.rung]:
            raise ValueError(f"network {job.number} has no open job on rung {job.rung}")
        self.told[job.rung][job.number] = np.asarray(objectives, dtype=np.float64)

    def evaluated(self, rung: int = -1) -> tuple[IntArray, Floats]:
        """Genomes [n, variables] and objectives [n, objectives] told on a rung, the highest where none is named."""
        told = self.told[rung]
        genomes = [self.genomes[number] for number in told]
        if not told:
            return np.empty((0, len(self.space.lower)), dtype=np.int64), np.empty((0, 0))
        return np.stack(genomes), np.stack(list(told.values()))

    def _best(self, rung: int) -> list[int]:
        """Numbers of the networks of a rung that may go on, the best first."""
        told = self.told[rung]
        if len(told) < self.reduction:
            return []
        numbers, objectives = list(told), np.stack(list(told.values()))
        order = ranked(objectives)[: len(told) // self.reduction]
        return [numbers[i] for i in order if np.isfinite(objectives[i]).all()]

    def _job(self, number: int, rung: int) -> Job:
        self.asked[rung].add(number)
        return Job(number=number, genome=self.genomes[number], rung=rung, budget=self.budgets[rung])

    def _new(self) -> IntArray:
        if len(self.genomes) < len(self.start):
            return np.asarray(self.start[len(self.genomes)])
        return np.asarray(self.sampler(self.rng, 1)[0])


SHARES = rung_budgets(1 / 9, 1)
"""The rungs of `MoAsha`, as shares of a full training."""


class MoAsha(Method):
    """MO-ASHA with one worker: what it asks for is trained up to its `share` and told before it asks again.

    A promoted network is asked for again, with a larger share.
    """

    def __init__(
        self, space: Space, sampler: Sampler, *, seed: int, seeds: IntArray | None = None, known: Known | None = None
    ) -> None:
        super().__init__(space, sampler, seed=seed, seeds=seeds, known=known)
        self.scheduler = SuccessiveHalving(space, sampler, seed=seed, budgets=SHARES, seeds=seeds)
        self.jobs: list[Job] = []

    @property
    def share(self) -> float:
        """That of the rung."""
        return self.jobs[0].budget if self.jobs else SHARES[0]

    def ask(self) -> IntArray:
        """The start first, all on the lowest rung, then one network at a time."""
        count = 1 if self.scheduler.genomes else len(self.start)
        self.jobs = [self.scheduler.ask() for _ in range(count)]
        return np.stack([job.genome for job in self.jobs])

    def tell(self, genomes: IntArray, objectives: Floats) -> None:  # noqa: ARG002  jobs know their genomes
        """What the first of them gave; the others stay unanswered."""
        for job, values in zip(self.jobs, objectives, strict=False):
            self.scheduler.tell(job, values)
