"""Time many networks fairly on a machine that drifts.

One live session at a time, in blocks (create, warm up, sample, destroy), in random order, round after round; a
reference network every few blocks tells how fast the machine is just then, and its drift is divided out. Rounds go on
for networks whose blocks still disagree, until they agree or the time is up.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from profilers.measurement import Measurement
from profilers.program import Program
from profilers.runtimes import Runtime
from profilers.workload import Workload


class Recorder(Protocol):
    """Keeps blocks across runs: what was recorded is not measured again."""

    def get(self, name: str) -> list[float] | None:
        """Samples recorded under this name, in seconds."""

    def put(self, name: str, samples_s: list[float]) -> None:
        """Record samples, in seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How long to measure. `tolerance` is the relative spread of a network's blocks that counts as agreement."""

    min_rounds: int = 3
    max_rounds: int = 6
    min_samples: int = 10
    block_s: float = 0.06
    warmup: int = 3
    reference_every: int = 8
    tolerance: float = 0.02
    time_cap_s: float = 40.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One block of samples and what the reference took at that moment, in seconds."""

    measurement: Measurement
    reference_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """All blocks of one network; `reference_s` is the reference's median over the whole run."""

    name: str
    blocks: tuple[Block, ...]
    reference_s: float

    @property
    def corrected_s(self) -> list[float]:
        """Median of each block with the drift divided out, in seconds."""
        return [b.measurement.median_s * self.reference_s / b.reference_s for b in self.blocks]

    @property
    def median_s(self) -> float:
        """The network's latency, in seconds."""
        return float(np.median(self.corrected_s))

    @property
    def pooled(self) -> Measurement:
        """All samples, each with its block's drift divided out: what percentiles are read from."""
        samples = [
            sample * self.reference_s / block.reference_s
            for block in self.blocks
            for sample in block.measurement.samples_s
        ]
        return Measurement(samples_s=tuple(samples), warmup=self.blocks[0].measurement.warmup)

    @property
    def disagreement(self) -> float:
        """Half the range between the two closest to the median, relative to it: 0 where all blocks agree."""
        values = np.sort(self.corrected_s)
        if len(values) < 2:
            return float("inf")
        return float((np.percentile(values, 75) - np.percentile(values, 25)) / 2 / np.median(values))

    def ratio_to_reference(self) -> list[float]:
        """Reference over this network, block by block: its speed-up, each from two neighbours in time."""
        return [block.reference_s / block.measurement.median_s for block in self.blocks]


def _take(program: Program, runtime: Runtime, workload: Workload, plan: Plan) -> list[float]:
    with runtime.open(program, workload) as session:
        session.sample(plan.warmup)
        first = session.sample(plan.min_samples)
        missing = int((plan.block_s - sum(first)) / max(np.median(first), 1e-6))
        return first + session.sample(min(max(missing, 0), 10 * plan.min_samples))


class _Run:
    """One interleaved run: knows the blocks taken so far and where the references lie between them."""

    def __init__(
        self, runtime: Runtime, workload: Workload, plan: Plan, reference: Program, recorder: Recorder | None
    ) -> None:
        self.runtime, self.workload, self.plan = runtime, workload, plan
        self.reference, self.recorder = reference, recorder
        self.references: list[tuple[int, float]] = []
        self.taken: dict[str, list[tuple[int, list[float]]]] = {}
        self.position = 0

    def _samples(self, key: str, program: Program) -> list[float]:
        recorded = None if self.recorder is None else self.recorder.get(key)
        if recorded is not None:
            return recorded
        samples = _take(program, self.runtime, self.workload, self.plan)
        if self.recorder is not None:
            self.recorder.put(key, samples)
        return samples

    def take_reference(self) -> None:
        samples = self._samples(f"reference/{len(self.references)}", self.reference)
        self.references.append((self.position, float(np.median(samples))))

    def take(self, program: Program, round_: int) -> None:
        self.position += 1
        samples = self._samples(f"{program.name}/{round_}", program)
        self.taken.setdefault(program.name, []).append((self.position, samples))

    def series(self, name: str) -> Series:
        positions, seconds = zip(*self.references, strict=True)
        blocks = tuple(
            Block(
                measurement=Measurement(samples_s=tuple(samples), warmup=self.plan.warmup),
                reference_s=float(np.interp(position, positions, seconds)),
            )
            for position, samples in self.taken[name]
        )
        return Series(name=name, blocks=blocks, reference_s=float(np.median(seconds)))


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
    """Series of every program, by name. `progress` is told the fraction of the planned blocks that are done."""
    rng = np.random.default_rng(seed)
    run = _Run(runtime, workload, plan, reference, recorder)
    deadline = time.monotonic() + plan.time_cap_s
    open_programs = list(programs)
    total = plan.min_rounds * len(programs)
    for round_ in range(plan.max_rounds):
        if round_ >= plan.min_rounds and (not open_programs or time.monotonic() > deadline):
            break
        for i, index in enumerate(rng.permutation(len(open_programs))):
            if i % plan.reference_every == 0:
                run.take_reference()
            run.take(open_programs[index], round_)
            progress(min(1.0, run.position / total))
        run.take_reference()
        if round_ + 1 >= plan.min_rounds:
            open_programs = [p for p in programs if run.series(p.name).disagreement > plan.tolerance]
    return {program.name: run.series(program.name) for program in programs}
