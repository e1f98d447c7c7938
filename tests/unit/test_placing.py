"""Which sizes are measured: a grid, and more of them where the curve bends."""

from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest

from profilers import CostKey, LayerSizes, measure_table
from profilers.placing import SizeCost, ffn_sizes, head_sizes, refined
from profilers.roofline import ffn_seconds, stack_seconds
from tests.machines import ASKED, CHECKS, DIMS, HERE, NULL, PLAN, Machine, MachineSession, workbench


def test_sizes_to_measure():
    assert head_sizes(DIMS) == [1, 2, 3, 4, 5, 6]
    assert head_sizes(replace(DIMS, heads=12)) == [1, 2, 3, 4, 6, 8, 10, 12]
    assert head_sizes(replace(DIMS, heads=64)) == [5, 11, 16, 21, 32, 43, 53, 64]
    for alignment in (1, 8, 16, 64):
        sizes = ffn_sizes(replace(DIMS, ffn_units=1500), alignment)
        assert sizes[-1] == 1500
        assert all(size % alignment == 0 for size in sizes[:-1])
        assert sizes == sorted(set(sizes))
    assert ffn_sizes(replace(DIMS, ffn_units=5), 8) == [5]


def test_a_size_that_stands_out_is_isolated_by_its_neighbours():
    """A device on which 128 units take half as long again, and only they."""

    def seconds(stack) -> float:
        odd = sum(sizes.ffn_units == 128 for sizes in stack)
        return stack_seconds(NULL, ASKED, DIMS, stack) + odd * 0.5 * ffn_seconds(NULL, ASKED, DIMS, 128)

    class Odd(Machine):
        @contextmanager
        def open(self, program, asked):  # noqa: ARG002  what it costs is made up
            yield MachineSession(self, program.name, seconds(program.stack))

    assert 128 in ffn_sizes(DIMS, NULL.size_alignment)
    table = measure_table(NULL, DIMS, ASKED, Odd(), workbench, HERE, checks=CHECKS, plan=PLAN)
    near = [128 - NULL.size_alignment, 128, 128 + NULL.size_alignment]
    assert {CostKey("ffn", size, ASKED) for size in near} <= table.entries.keys()
    for stack in [((LayerSizes(2, size),) * 4) for size in (near[0], 128, near[2], 112, 150)]:
        assert table.predict(stack, ASKED).value == pytest.approx(seconds(stack), rel=0.01)


GRID = (16, 64, 128, 256, 384, 512, 768, 1024, 1280, 1536)


def costs(seconds, *, error=0.0, beyond=0.0):
    """Costs as known to a share of themselves; so much a unit is taken beyond the cache."""
    return {size: SizeCost(s, s + beyond * size, error * s) for size, s in seconds.items()}


@pytest.mark.parametrize(
    ("seconds", "most"),
    [
        (lambda units: 5 + units, 0),
        (lambda units: (5 + units) * (1.17 if units == 1024 else 1), 2),
        (lambda units: 300 + max(0, 3 * (units - 640)), 12),
        (lambda units: 10 + units + (400 if units > 608 else 0), 12),
    ],
    ids=["line", "spike", "kink", "step"],
)
def test_a_curve_is_halved_where_it_bends_and_only_there(seconds, most):
    """Four looks: a lone size gets its neighbours, a kink and a step are closed in on."""
    known = {size: float(seconds(size)) for size in GRID}
    for _ in range(4):
        known |= {size: float(seconds(size)) for size in refined(costs(known), 16)}
    assert len(known) - len(GRID) <= most
    assert refined(costs(known), 16) == [] or most == 12
    units = np.arange(16, 1537, 16)
    wrong = np.abs(
        np.interp(units, sorted(known), [known[size] for size in sorted(known)]) / [seconds(u) for u in units] - 1
    )
    assert np.sum(wrong > 0.04) <= 2
    if most == 2:
        assert known.keys() - set(GRID) == {1008, 1040}


def test_a_cost_that_the_noise_hides_bends_the_curve_like_any_other():
    """The fit knows no time below zero, and gives zero to what it cannot tell from nothing."""
    known = {size: float(size - 16) for size in GRID}
    assert refined(costs(known), 16) == []
    assert refined(costs(dict.fromkeys(GRID, 0.0)), 16) == []
    assert refined(costs({**known, 64: 0.0}), 16) == [48, 80]


def test_what_noise_explains_is_no_bend():
    line = {size: float(size) for size in GRID}
    spike = {**line, 768: 768 * 1.15}
    assert refined(costs(spike, error=0.02), 16) == [752, 784]
    assert refined(costs(spike, error=0.06), 16) == []


def test_a_bend_is_a_share_of_all_that_a_size_takes():
    """Where most of it is beyond the cache, what is left over by that may be as crooked as it likes."""
    left_over = {size: float(size) * (0.5 if i % 2 else 1.0) for i, size in enumerate(GRID)}
    assert refined(costs(left_over), 16)
    assert refined(costs(left_over, beyond=50.0), 16) == []
