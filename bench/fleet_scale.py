"""A fleet at a scale that is not here, simulated: 100 models for 8 targets on 1 to 64 workers, by the job graph of a compile.

    python bench/fleet_scale.py --json bench/results/fleet_scale.json

A discrete-event simulation of jobs as `compile fleet --ray` makes them: what takes how long is read from `ray.json` (stages of
MiniLM's fast compile on two cores) and `demo.json` (profile, timing, sizes of files). Each worker is one processor that poses as one target, or
as several where there are fewer workers than targets; a device times one thing at a time. Three ways to run it: one
campaign as it is (one model and target after another), as many campaigns as workers, each of some models, and
the same without the work that a campaign does itself. The gain of the sleeping jobs of `ray.json` is simulated beside what was measured.
"""

import argparse
import heapq
import json
import sys
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from output import write_json

RESULTS = Path(__file__).parent / "results"
MODELS, TARGETS, ARCHITECTURES = 100, 8, 10
WORKERS = (1, 2, 4, 8, 16, 32, 64)
EVALUATIONS, TOGETHER, NETWORKS = 40, 8, 8
"""Evaluations of a search, how many of them a method asks for together, and networks that are kept."""

CORES = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Seconds:
    """Durations of the parts of one compile, a job on one processor."""

    learn: float
    profile: float
    evaluate: float
    correct: float
    export: float
    time: float


@dataclass(frozen=True, slots=True)
class Ask:
    """Jobs that a campaign waits for: how many, how long each, and which target they need; `own` is work of the campaign itself, without a worker."""

    jobs: int
    seconds: float
    target: int | None = None
    own: bool = False


Campaign = Generator[Ask, None, None]


def measured() -> tuple[Seconds, float]:
    """Seconds of the parts, and the mean size of a network's file in bytes."""
    stages = json.loads((RESULTS / "ray.json").read_text(encoding="utf-8"))["overhead"]["threads"]["stages"]
    front = json.loads((RESULTS / "demo.json").read_text(encoding="utf-8"))["front"]
    timings, networks = front["timings_s"], front["candidates"]
    learn = sum(stages[name] for name in ("load", "export dense graph", "rank heads and units", "score dense model"))
    seconds = Seconds(
        learn=learn,
        profile=front["table"]["seconds"],
        evaluate=CORES * stages["search"] / EVALUATIONS,
        correct=CORES * stages["final weights"] / NETWORKS,
        export=stages["export and check"],
        time=timings["measure artefacts"] + timings["measure grid"],
    )
    return seconds, sum(network["artifact"]["bytes"] for network in networks) / len(networks)


def campaign(models: Sequence[int], tables: set[tuple[int, int]], taken: Seconds) -> Campaign:
    """Compile models one after another; `tables` are (architecture, target) that any campaign has profiled."""
    for model in models:
        yield Ask(1, taken.learn, own=True)
        for target in range(TARGETS):
            if (model % ARCHITECTURES, target) not in tables:
                tables.add((model % ARCHITECTURES, target))
                yield Ask(1, taken.profile, target=target)
        for target in range(TARGETS):
            for _ in range(EVALUATIONS // TOGETHER):
                yield Ask(TOGETHER, taken.evaluate)
            yield Ask(NETWORKS, taken.correct)
            yield Ask(1, taken.export, own=True)
            yield Ask(1, taken.time, target=target)


class Simulation:
    """Campaigns, workers, and the jobs that wait; a job takes a whole worker, and runs on one that poses as its target."""

    def __init__(self, workers: int) -> None:
        self.now, self.busy_s = 0.0, 0.0
        self.free = set(range(workers))
        self.workers = workers
        self.waiting: list[tuple[Ask, int, Campaign]] = []
        self.events: list[tuple[float, int, Callable[[], None]]] = []
        self.order = count()
        self.left: dict[int, int] = {}

    def run(self, campaigns: Sequence[Campaign]) -> float:
        """Seconds until all campaigns have ended."""
        for number, one in enumerate(campaigns):
            self._next(number, one)
        while self.events:
            self.now, _, happen = heapq.heappop(self.events)
            happen()
        return self.now

    def _next(self, number: int, one: Campaign) -> None:
        ask = next(one, None)
        if ask is None:
            return
        self.left[number] = ask.jobs
        if ask.own:
            self._later(ask.seconds, lambda: self._done(number, one))
            return
        for _ in range(ask.jobs):
            self._queue(ask, number, one)

    def _queue(self, ask: Ask, number: int, one: Campaign) -> None:
        worker = next((w for w in self.free if self._can(w, ask.target)), None)
        if worker is None:
            self.waiting.append((ask, number, one))
        else:
            self._start(worker, ask, number, one)

    def _can(self, worker: int, target: int | None) -> bool:
        """Whether a worker poses as a target: each as one, or as several where there are fewer of them than targets."""
        return target is None or target % min(self.workers, TARGETS) == worker % TARGETS

    def _start(self, worker: int, ask: Ask, number: int, one: Campaign) -> None:
        self.free.remove(worker)
        self.busy_s += ask.seconds

        def end() -> None:
            self.free.add(worker)
            row = next((i for i, job in enumerate(self.waiting) if self._can(worker, job[0].target)), None)
            if row is not None:
                self._start(worker, *self.waiting.pop(row))
            self._done(number, one)

        self._later(ask.seconds, end)

    def _done(self, number: int, one: Campaign) -> None:
        self.left[number] -= 1
        if self.left[number] == 0:
            self._next(number, one)

    def _later(self, seconds: float, happen: Callable[[], None]) -> None:
        heapq.heappush(self.events, (self.now + seconds, next(self.order), happen))


def simulated(workers: int, campaigns: int, taken: Seconds) -> dict[str, Any]:
    """Makespan in seconds, and the share of it that workers are busy."""
    simulation, tables = Simulation(workers), set[tuple[int, int]]()
    took_s = simulation.run([campaign(range(i, MODELS, campaigns), tables, taken) for i in range(campaigns)])
    return {
        "workers": workers,
        "campaigns": campaigns,
        "makespan_s": took_s,
        "busy": simulation.busy_s / workers / took_s,
    }


def sleeping(record: dict[str, Any], workers: int) -> float:
    """The gain of `ray.json`'s sleeping jobs, as simulated."""
    jobs, seconds = record["jobs"], record["sleep_s"]

    def all_at_once() -> Campaign:
        yield Ask(jobs, seconds)

    return float(jobs * seconds / Simulation(workers).run([all_at_once()]))


def main() -> None:
    """Simulate every number of workers in every way."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, default=None)
    arguments = parser.parse_args()
    taken, file_bytes = measured()
    alone = Seconds(**{**{name: getattr(taken, name) for name in taken.__slots__}, "learn": 0.0, "export": 0.0})
    ray = json.loads((RESULTS / "ray.json").read_text(encoding="utf-8"))
    pairs = MODELS * TARGETS
    record = {
        "models": MODELS, "targets": TARGETS, "architectures": ARCHITECTURES,
        "seconds": {name: getattr(taken, name) for name in taken.__slots__},
        "one campaign": [simulated(workers, 1, taken) for workers in WORKERS],
        "a campaign a worker": [simulated(workers, workers, taken) for workers in WORKERS],
        "without own work": [simulated(workers, workers, alone) for workers in WORKERS],
        "jobs": pairs * (EVALUATIONS + NETWORKS + 1) + ARCHITECTURES * TARGETS,
        # weights are written by a worker and read by the campaign, files are published by it and read where they are timed
        "store_bytes": pairs * file_bytes * (2 * NETWORKS + 2 * (NETWORKS + 1)),
        "sleeping": [
            {"workers": one["workers"], "measured": one["gain"], "simulated": sleeping(ray, one["workers"])} for one in ray["gains"]
        ],
    }  # fmt: skip
    write_json(arguments.json, record)
    json.dump(record, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
