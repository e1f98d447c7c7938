"""Devices made up for the tests of profiles: the null device, and one with a clock of its own that drifts on purpose."""

from contextlib import contextmanager

import numpy as np
import pytest

from profilers import CostTable, Dimensions, LayerSizes, Plan, Program, Workload, make_runtime, measure_table
from profilers.placing import ffn_sizes
from profilers.roofline import stack_seconds
from profilers.runtimes import OutOfMemoryError
from targets import Target
from targets.fingerprint import measure_fingerprint

DIMS = Dimensions(layers=4, heads=6, ffn_units=192, hidden_size=96, head_size=16, vocabulary=500)
NULL = Target.parse("null")
ASKED = Workload(batch=2, tokens=40, runtime="null")
PLAN = Plan(min_rounds=2, max_rounds=5, block_s=0.0, min_turns=4, warmup=2)
HERE = measure_fingerprint(NULL)


def not_built():
    pytest.fail("the null device builds nothing")


def workbench(stack) -> Program:
    name = " ".join(f"{heads}.{units}" for heads, units in stack)
    return Program(
        name=name, stack=stack, dimensions=DIMS, graph=not_built, module=not_built, inputs=lambda *_: not_built()
    )


def random_stacks(sizes: list[int], n: int = 20):
    rng = np.random.default_rng(4)
    units = [0, *sizes]
    return [tuple(LayerSizes(int(rng.integers(0, 7)), int(rng.choice(units))) for _ in range(4)) for _ in range(n)]


CHECKS = random_stacks(ffn_sizes(DIMS, NULL.size_alignment))
PROGRAMS = [workbench(stack) for stack in CHECKS]
REFERENCE = workbench((LayerSizes(3, 96),) * 4)


def measure(**changes) -> CostTable:
    arguments = {"checks": CHECKS, "plan": PLAN} | changes
    return measure_table(NULL, DIMS, ASKED, make_runtime("null", NULL), workbench, HERE, **arguments)


class Killed(BaseException):
    """What SIGINT does, without stopping pytest."""


class Machine:
    """A runtime on a clock of its own: a call takes `seconds(stack) * speed(now) * noise(name)` and moves the clock on."""

    name, source = "fake", "measured"

    def __init__(self, speed=lambda _: 1.0, noise=lambda _: 1.0, fail_after: float = float("inf")) -> None:
        self.speed, self.noise, self.fail_after = speed, noise, fail_after
        self.now, self.opened, self.live = 0.0, [], []

    @contextmanager
    def open(self, program, asked):
        if len(self.opened) >= self.fail_after:
            raise Killed
        assert self.live in ([], [REFERENCE.name]), "the reference, and one session beside it"
        self.opened.append(program.name)
        self.live.append(program.name)
        try:
            yield MachineSession(self, program.name, stack_seconds(NULL, asked, DIMS, program.stack))
        finally:
            self.live.remove(program.name)

    def describe(self):
        return {"mode": "made up", "warnings": []}


class MachineSession:
    def __init__(self, machine: Machine, name: str, seconds: float) -> None:
        self.machine, self.name, self.seconds = machine, name, seconds

    def sample(self, n: int) -> list[float]:
        samples = []
        for _ in range(n):
            samples.append(self.seconds * self.machine.speed(self.machine.now) * self.machine.noise(self.name))
            self.machine.now += samples[-1]
        return samples


class Notebook(dict):
    """A recorder in memory."""

    def put(self, name, samples_s):
        assert name not in self, "measured again"
        self[name] = [list(samples) for samples in samples_s]


class Small(Machine):
    """A machine whose memory does not hold some networks."""

    def __init__(self, too_large) -> None:
        super().__init__()
        self.too_large = too_large

    @contextmanager
    def open(self, program, asked):
        if self.too_large(program.stack):
            raise OutOfMemoryError(f"{program.name} does not fit")
        yield MachineSession(self, program.name, stack_seconds(NULL, asked, DIMS, program.stack))


def all_units(stack) -> int:
    """How many layers have all of their FFN units."""
    return sum(sizes.ffn_units == DIMS.ffn_units for sizes in stack)
