"""Time many networks fairly on a machine that drifts.

The speed of a shared machine wanders by several percent within a second. So each network is timed as a ratio: its calls
alternate with those of a reference network, turn by turn, and each turn is held against the reference just before and
just after it. The reference's session lives as long as the run, one other session at a time beside it; networks
come in random order, and those whose turns still disagree are taken again until the time is up.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from profilers.measurement import Measurement
from profilers.program import Program
from profilers.runtimes import OutOfMemoryError, Runtime, Session
from profilers.workload import Workload

Floats = NDArray[np.float64]

_MAD_TO_DEVIATION = 1.4826  # of a normal distribution
_MEDIAN_TO_MEAN_ERROR = 1.2533  # how much less certain its median is than its mean


class Recorder(Protocol):
    """Keeps blocks across runs: what was recorded is not measured again."""

    def get(self, name: str) -> list[list[float]] | None:
        """What was recorded under this name, in seconds."""

    def put(self, name: str, samples_s: list[list[float]]) -> None:
        """Record the reference's calls and, turn by turn, the network's, in seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How long to measure: turns of a block fill `block_s` within their bounds.

    `tolerance` is the relative standard error of a network's latency that is good enough.
    """

    min_rounds: int = 1
    max_rounds: int = 4
    block_s: float = 0.45
    min_turns: int = 8
    max_turns: int = 60
    warmup: int = 2
    tolerance: float = 0.005
    time_cap_s: float = 40.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One session's turns: seconds of the calls of each, and of the reference's call before, between and after them."""

    reference_s: tuple[float, ...]
    turns_s: tuple[tuple[float, ...], ...]

    @property
    def ratios(self) -> Floats:
        """Each turn's median over the mean of the reference calls around it."""
        around = np.array(self.reference_s)
        return np.asarray([np.median(turn) for turn in self.turns_s] / ((around[:-1] + around[1:]) / 2))


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """All blocks of one network; `reference_s` is the reference's median over the whole run."""

    name: str
    blocks: tuple[Block, ...]
    reference_s: float
    warmup: int

    @property
    def ratios(self) -> Floats:
        """Network over reference, turn by turn."""
        return np.concatenate([block.ratios for block in self.blocks])

    @property
    def median_s(self) -> float:
        """The network's latency, in seconds: drift is divided out."""
        return float(np.median(self.ratios)) * self.reference_s

    @property
    def error(self) -> float:
        """Relative standard error of `median_s`, from how far the turns lie apart."""
        ratios = self.ratios
        middle = float(np.median(ratios))
        deviation = _MAD_TO_DEVIATION * float(np.median(np.abs(ratios - middle)))
        return float(_MEDIAN_TO_MEAN_ERROR * deviation / middle / np.sqrt(len(ratios)))

    @property
    def pooled(self) -> Measurement:
        """All calls, each block's drift divided out: what percentiles are read from."""
        samples = [
            sample * self.reference_s / float(np.median(block.reference_s))
            for block in self.blocks
            for turn in block.turns_s
            for sample in turn
        ]
        return Measurement(samples_s=tuple(samples), warmup=self.warmup)

    def ratio_to_reference(self) -> list[float]:
        """Reference over this network, block by block: its speed-up."""
        return [1 / float(np.median(block.ratios)) for block in self.blocks]


def _call(session: Session, count: int = 1) -> list[float]:
    """Seconds of calls after one that is not counted: it finds the caches full of the other network (2 to 8 % slower)."""
    session.sample(1)
    return session.sample(count)


def _take(session: Session, reference: Session, plan: Plan) -> Block:
    """Alternate: as many calls a turn as the reference's one call lasts."""
    session.sample(plan.warmup)
    own, other = session.sample(1)[0], reference.sample(1)[0]
    calls = int(np.clip(round(other / max(own, 1e-9)), 1, 16))
    turn_s = 2 * other + (calls + 1) * own
    turns = int(np.clip(plan.block_s / max(turn_s, 1e-9), plan.min_turns, plan.max_turns))
    references, taken = _call(reference), []
    for _ in range(turns):
        taken.append(tuple(_call(session, calls)))
        references += _call(reference)
    return Block(reference_s=tuple(references), turns_s=tuple(taken))


class _Run:
    """One interleaved run and the blocks taken so far; the reference is opened when something must be measured."""

    def __init__(
        self, runtime: Runtime, workload: Workload, plan: Plan, reference: Program, recorder: Recorder | None
    ) -> None:
        self.runtime, self.workload, self.plan = runtime, workload, plan
        self.reference, self.recorder = reference, recorder
        self.blocks: dict[str, list[Block]] = {}
        self.too_large: set[str] = set()
        self.stack = ExitStack()
        self.opened: Session | None = None

    def take(self, program: Program, round_: int) -> None:
        key = f"{program.name}/{round_}"
        recorded = None if self.recorder is None else self.recorder.get(key)
        if recorded is not None:
            block = Block(reference_s=tuple(recorded[0]), turns_s=tuple(tuple(turn) for turn in recorded[1:]))
        else:
            try:
                block = self._measured(program)
            except OutOfMemoryError:
                self.too_large.add(program.name)
                return
            if self.recorder is not None:
                self.recorder.put(key, [list(block.reference_s), *(list(turn) for turn in block.turns_s)])
        self.blocks.setdefault(program.name, []).append(block)

    def _measured(self, program: Program) -> Block:
        if self.opened is None:
            asked = self.reference.asked(self.workload)
            self.opened = self.stack.enter_context(self.runtime.open(self.reference, asked))
            self.opened.sample(self.plan.warmup)
        with self.runtime.open(program, program.asked(self.workload)) as session:
            return _take(session, self.opened, self.plan)

    def series(self, name: str) -> Series:
        references = [second for blocks in self.blocks.values() for block in blocks for second in block.reference_s]
        return Series(
            name=name,
            blocks=tuple(self.blocks[name]),
            reference_s=float(np.median(references)),
            warmup=self.plan.warmup,
        )


def _over(round_: int, plan: Plan, deadline: float) -> bool:
    """Whether the time is up: the first rounds are never cut short."""
    return round_ >= plan.min_rounds and time.monotonic() > deadline


def interleave(
    programs: Sequence[Program],
    reference: Program,
    runtime: Runtime,
    workload: Workload,
    *,
    plan: Plan,
    seed: int,
    recorder: Recorder | None = None,
    progress: Callable[[float], None] = lambda _: None,
) -> dict[str, Series]:
    """Series of every program that fits into the device's memory, by name.

    `progress` is told the fraction of the planned blocks that are done.
    """
    rng = np.random.default_rng(seed)
    run = _Run(runtime, workload, plan, reference, recorder)
    deadline = time.monotonic() + plan.time_cap_s
    unsettled = list(programs)
    total, done = plan.min_rounds * len(programs), 0
    with run.stack:
        for round_ in range(plan.max_rounds):
            for index in rng.permutation(len(unsettled)):
                if _over(round_, plan, deadline):
                    break
                run.take(unsettled[index], round_)
                done += 1
                progress(min(1.0, done / total))
            unsettled = [p for p in unsettled if p.name not in run.too_large]
            if round_ + 1 >= plan.min_rounds:
                unsettled = [p for p in unsettled if run.series(p.name).error > plan.tolerance]
            if not unsettled or _over(round_ + 1, plan, deadline):
                break
    return {name: run.series(name) for name in (p.name for p in programs) if name in run.blocks}
