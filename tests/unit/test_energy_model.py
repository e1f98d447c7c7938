"""Models of energy: fitted to a device whose draw is a known sum."""

from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest

from profilers import Dimensions, LayerSizes, Program, Workload
from profilers.energy_model import EnergyModel, assumed_energy, fit_stacks, measure_energy_model
from profilers.roofline import operation_counts, operations
from targets import Target
from targets.errors import TargetError

DIMS = Dimensions(layers=4, heads=6, ffn_units=192, hidden_size=96, head_size=16, vocabulary=500)
ASKED = Workload(batch=2, tokens=40)
CALL_J, POWER_W, OPERATION_J = 0.002, 45.0, 3e-10
NONE = LayerSizes(0, 0)
CHECKS = [
    (LayerSizes(5, 100), LayerSizes(2, 0), NONE, LayerSizes(6, 16)),
    (LayerSizes(0, 64), NONE, NONE, NONE),
    (LayerSizes(3, 180), LayerSizes(3, 12), LayerSizes(1, 96), LayerSizes(6, 192)),
]


def latency_s(stacks):
    """Not proportional to operations: every sub-block takes a while whatever its size."""
    blocks = [sum((s.heads > 0) + (s.ffn_units > 0) for s in stack) for stack in stacks]
    return np.array([1e-3 * n + operations(ASKED, DIMS, s) * 1e-11 for n, s in zip(blocks, stacks, strict=True)]) + 5e-4


class Board:
    """Runtime, meter and clock of a device that draws what the sum above says."""

    name, source = "onnxruntime", "measured"

    def __init__(self, noise=0.0):
        self.now = self.drawn = 0.0
        self.noise, self.random = noise, np.random.default_rng(0)

    @contextmanager
    def open(self, program, asked):
        assert asked == ASKED
        self.stack = program.stack
        yield self

    def sample(self, count):
        for _ in range(count):
            seconds = float(latency_s([self.stack])[0])
            joules = CALL_J + POWER_W * seconds + OPERATION_J * operations(ASKED, DIMS, self.stack)
            self.now += seconds
            self.drawn += joules * (1 + self.noise * self.random.standard_normal())
        return [seconds] * count

    def joules(self):
        self.now += 1e-4
        return self.drawn

    def clock(self):
        self.now += 1e-6
        return self.now


@pytest.fixture
def board(monkeypatch):
    machine = Board()
    from profilers import energy, energy_model

    def measure(call, meter):
        return energy.measure_energy(call, meter, clock=machine.clock, updates=0)

    monkeypatch.setattr(energy_model, "measure_energy", measure)
    monkeypatch.setattr(energy, "_step_s", lambda *_: 0.0)
    return machine


def workbench(stack):
    return Program(
        name=str(stack), stack=stack, dimensions=DIMS, graph=lambda _: None, module=lambda: None, inputs=lambda *_: {}
    )


def test_the_sum_is_found_again(board):
    seen = []
    model = measure_energy_model(
        board, ASKED, workbench, board, DIMS, latency_s, checks=CHECKS, progress=seen.append
    )  # fmt: skip
    assert (model.call_j, model.power_w, model.operation_j) == pytest.approx((CALL_J, POWER_W, OPERATION_J), rel=1e-6)
    assert (model.source, model.error.check_nets) == ("measured", 3)
    assert model.error.max < 1e-6
    assert seen == sorted(seen)
    assert seen[-1] == 1
    assert EnergyModel.from_json(model.to_json()) == model


def test_of_many_lengths_a_call_is_the_mean_of_them(board):
    """A sample of traffic is a call of each length; the device draws for all of them."""
    lengths = (10, 40, 100)
    each = [replace(ASKED, tokens=tokens) for tokens in lengths]

    def mean_s(stacks):
        return latency_s(stacks) + [
            1e-11 * (np.mean([operations(one, DIMS, s) for one in each]) - operations(ASKED, DIMS, s)) for s in stacks
        ]

    class Replaying:
        name = "a meter"

        @contextmanager
        def open(self, program, asked):
            assert asked.lengths == lengths
            self.stack = program.stack
            yield self

        def sample(self, count):
            seconds = float(mean_s([self.stack])[0])
            counted = sum(operations(one, DIMS, self.stack) for one in each)
            for _ in range(count):
                board.now += len(each) * seconds
                board.drawn += len(each) * (CALL_J + POWER_W * seconds) + OPERATION_J * counted
            return [seconds] * count

        def joules(self):
            return board.joules()

    device = Replaying()
    model = measure_energy_model(device, replace(ASKED, lengths=lengths), workbench, device, DIMS, mean_s)
    assert (model.call_j, model.power_w, model.operation_j) == pytest.approx((CALL_J, POWER_W, OPERATION_J), rel=1e-6)


def test_the_error_is_that_of_networks_it_never_saw(board, monkeypatch):
    """A device that draws more where attention is kept cannot be described by latency and operations alone."""
    plain = Board.sample

    def sample(self, count):
        before = self.drawn
        seconds = plain(self, count)
        if any(sizes.heads for sizes in self.stack):
            self.drawn += self.drawn - before
        return seconds

    monkeypatch.setattr(Board, "sample", sample)
    model = measure_energy_model(board, ASKED, workbench, board, DIMS, latency_s, checks=CHECKS)
    drawn = []
    for stack in CHECKS:
        with board.open(workbench(stack), ASKED) as session:
            before = session.drawn
            session.sample(1)
            drawn.append(session.drawn - before)
    counts = np.array(CHECKS)
    predicted = model.joules(latency_s(CHECKS), operation_counts(ASKED, DIMS, counts[:, :, 0], counts[:, :, 1]))
    off = np.abs(predicted / drawn - 1)
    assert off.max() > 0.1
    assert (model.error.mape, model.error.max) == pytest.approx((off.mean(), off.max()), rel=1e-3)


def test_operations_of_many_are_those_of_each():
    stacks = [*CHECKS, *fit_stacks(DIMS)]
    counts = np.array(stacks)
    many = operation_counts(ASKED, DIMS, counts[:, :, 0], counts[:, :, 1])
    assert many.tolist() == [operations(ASKED, DIMS, stack) for stack in stacks]


def test_the_null_device_has_its_boards_power_and_says_so():
    target = Target.parse("null")
    model = assumed_energy(target)
    assert (model.source, model.error) == ("null", None)
    assert model.joules(np.array([0.5]), np.array([1e9])).tolist() == [0.5 * target.tdp_w]


def test_a_counter_that_fails_is_not_replaced_by_a_figure(board, monkeypatch):
    def gone():
        raise TargetError("energy is not available: the counter cannot be read")

    monkeypatch.setattr(board, "joules", gone)
    with pytest.raises(TargetError, match="not available"):
        measure_energy_model(board, ASKED, workbench, board, DIMS, latency_s)
