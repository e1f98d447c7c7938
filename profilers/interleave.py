"""Time many networks fairly on a machine that drifts.

The speed of a shared machine wanders by several percent within a second. So each network is timed as a ratio: its calls
alternate with those of a reference network, turn by turn, and each turn is held against the reference just before and
just after it. The reference's session lives as long as the run, one other session at a time beside it; networks
come in random order, and those whose turns still disagree are taken again until the time is up.

Sessions of one network differ, too, by where their memory and their threads come to lie: on two shared cores with a
standard deviation of 2 % on one thread and of 3 to 6 % on two. So a block is short, and what counts is how many there are.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from profilers.measurement import Measurement
from profilers.program import Program
from profilers.runtimes import OutOfMemoryError, Runtime, Session
from profilers.workload import Workload

Floats = NDArray[np.float64]

_MAD_TO_DEVIATION = 1.4826  # of a normal distribution
_MEDIAN_TO_MEAN_ERROR = 1.2533  # how much less certain its median is than its mean

_LEAST_TURNS = 3
_LONG_CALLS_S = 0.1


class Recorder(Protocol):
    """Keeps blocks across runs: what was recorded is not measured again."""

    def get(self, name: str) -> list[list[float]] | None:
        """What was recorded under this name, in seconds."""

    def put(self, name: str, samples_s: list[list[float]]) -> None:
        """Record the reference's calls and, turn by turn, the network's, in seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How long to measure: turns of a block fill `block_s` within their bounds, and three at least do not exceed `long_s`.

    `tolerance` is the relative standard error of a network's latency that is good enough; `warmup` is one call at least.
    """

    min_rounds: int = 1
    max_rounds: int = 6
    block_s: float = 0.2
    long_s: float = 1.5
    min_turns: int = 4
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
        """Relative standard error of `median_s`, from how far the turns lie apart, and the blocks."""
        ratios = self.ratios
        middle = float(np.median(ratios))
        deviation = _MAD_TO_DEVIATION * float(np.median(np.abs(ratios - middle)))
        within = _MEDIAN_TO_MEAN_ERROR * deviation / np.sqrt(len(ratios))
        blocks = [float(np.median(block.ratios)) for block in self.blocks]
        between = np.std(blocks, ddof=1) / np.sqrt(len(blocks)) if len(blocks) > 1 else 0.0
        return float(max(within, between) / middle)

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

    def to_json(self) -> dict[str, Any]:
        """JSON values that `from_json` turns back into the very same."""
        blocks = [[list(block.reference_s), [list(turn) for turn in block.turns_s]] for block in self.blocks]
        return {"name": self.name, "blocks": blocks, "reference_s": self.reference_s, "warmup": self.warmup}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Series":
        """Inverse of `to_json`."""
        blocks = (
            Block(reference_s=tuple(reference), turns_s=tuple(map(tuple, turns))) for reference, turns in data["blocks"]
        )
        return cls(name=data["name"], blocks=tuple(blocks), reference_s=data["reference_s"], warmup=data["warmup"])

    def ratio_to_reference(self) -> list[float]:
        """Reference over this network, block by block: its speed-up."""
        return [1 / float(np.median(block.ratios)) for block in self.blocks]


def _turns(turn_s: float, plan: Plan) -> int:
    """How many turns of so many seconds make a block."""
    wanted = np.clip(plan.block_s / turn_s, plan.min_turns, plan.max_turns)
    return int(min(wanted, max(plan.long_s / turn_s, _LEAST_TURNS)))


def _take(session: Session, reference: Session, plan: Plan, inputs: int) -> Block:
    """Alternate: as many calls a turn as the reference's one call lasts. A call is of so many `inputs`, its seconds their mean.

    The first call of a turn is not counted: it finds the caches full of the other network and is 2 to 8 % slower, where
    a call takes milliseconds. What a long call has to fetch is nothing beside what it computes. How many calls fill a turn
    is read off the last warm-up call.
    """
    own, other = (max(opened.sample(count)[-1], 1e-9) for opened, count in ((session, plan.warmup), (reference, 1)))
    calls = int(np.clip(round(other / own), 1, 16))
    cold = 1 if inputs * (own + other) < _LONG_CALLS_S else 0

    def call(opened: Session, count: int) -> list[float]:
        return opened.sample(cold + count)[cold:]

    references, taken = call(reference, 1), []
    for _ in range(_turns(inputs * ((1 + cold) * other + (calls + cold) * own), plan)):
        taken.append(tuple(call(session, calls)))
        references += call(reference, 1)
    return Block(reference_s=tuple(references), turns_s=tuple(taken))


class _Run:
    """One interleaved run and the blocks taken so far; the reference is opened when something must be measured."""

    def __init__(
        self,
        runtime: Runtime,
        workload: Workload,
        plan: Plan,
        reference: Program,
        recorder: Recorder | None,
        *,
        skip_too_large: bool,
    ) -> None:
        self.runtime, self.workload, self.plan = runtime, workload, plan
        self.reference, self.recorder, self.skip_too_large = reference, recorder, skip_too_large
        self.blocks: dict[str, list[Block]] = {}
        self.too_large: dict[str, OutOfMemoryError] = {}
        self.stack = ExitStack()
        self.opened: Session | None = None

    def take(self, program: Program) -> None:
        """The network's next block."""
        key = f"{program.name}/{len(self.blocks.get(program.name, ()))}"
        recorded = None if self.recorder is None else self.recorder.get(key)
        if recorded is not None:
            block = Block(reference_s=tuple(recorded[0]), turns_s=tuple(tuple(turn) for turn in recorded[1:]))
        else:
            reference = self._opened_reference()
            try:
                block = self._measured(program, reference)
            except OutOfMemoryError as error:
                if not self.skip_too_large:
                    raise
                self.too_large[program.name] = error
                return
            if self.recorder is not None:
                self.recorder.put(key, [list(block.reference_s), *(list(turn) for turn in block.turns_s)])
        self.blocks.setdefault(program.name, []).append(block)

    def _opened_reference(self) -> Session:
        if self.opened is None:
            asked = self.reference.asked(self.workload)
            self.opened = self.stack.enter_context(self.runtime.open(self.reference, asked))
            self.opened.sample(self.plan.warmup)
        return self.opened

    def _measured(self, program: Program, reference: Session) -> Block:
        with self.runtime.open(program, program.asked(self.workload)) as session:
            return _take(session, reference, self.plan, len(self.workload.each))

    def check_any(self) -> None:
        """OutOfMemoryError where all were too large."""
        if self.too_large and not self.blocks:
            raise next(iter(self.too_large.values()))

    def wants_more(self, name: str) -> bool:
        """Whether the turns of a network that was timed still disagree."""
        taken = len(self.blocks.get(name, ()))
        open_ = 0 < taken < self.plan.max_rounds and name not in self.too_large
        return open_ and self.series(name).error > self.plan.tolerance

    def series(self, name: str) -> Series:
        references = [second for blocks in self.blocks.values() for block in blocks for second in block.reference_s]
        return Series(
            name=name,
            blocks=tuple(self.blocks[name]),
            reference_s=float(np.median(references)),
            warmup=self.plan.warmup,
        )


def _schedule(least: Sequence[int], rng: np.random.Generator) -> list[list[int]]:
    """Who is due in each round, so many rounds as the longest series has blocks: shorter series spread over all of them.

    A machine is another one after five minutes: networks compared with each other must meet the same minutes.
    """
    rounds = max(least, default=0)
    start = rng.integers(max(rounds, 1), size=len(least))
    return [
        [i for i, (count, at) in enumerate(zip(least, start, strict=True)) if (r + at) * count % rounds < count]
        for r in range(rounds)
    ]


def interleave(
    programs: Sequence[Program],
    reference: Program,
    runtime: Runtime,
    workload: Workload,
    *,
    plan: Plan,
    seed: int,
    rounds: Mapping[str, int] | None = None,
    recorder: Recorder | None = None,
    skip_too_large: bool = False,
    progress: Callable[[float], None] = lambda _: None,
) -> dict[str, Series]:
    """Series of every program, by name. OutOfMemoryError where the device's memory does not hold one.

    With `skip_too_large` such a program is left out, unless it is the reference or they all are. `rounds` are blocks at least,
    by name, where they are more than the plan's: however long they take, they are taken. `progress` is told the fraction of the planned blocks that are done.
    """
    rng = np.random.default_rng(seed)
    run = _Run(runtime, workload, plan, reference, recorder, skip_too_large=skip_too_large)
    least = [max(plan.min_rounds, (rounds or {}).get(p.name, 0)) for p in programs]
    deadline = time.monotonic() + plan.time_cap_s
    done = 0
    with run.stack:
        for due in _schedule(least, rng):
            for index in rng.permutation(due):
                if programs[index].name not in run.too_large:
                    run.take(programs[index])
                done += 1
                progress(done / sum(least))
        while time.monotonic() < deadline and (more := [p for p in programs if run.wants_more(p.name)]):
            for index in rng.permutation(len(more)):
                if time.monotonic() < deadline:
                    run.take(more[index])
    run.check_any()
    return {name: run.series(name) for name in (p.name for p in programs) if name in run.blocks}
