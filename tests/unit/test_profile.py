"""Cost tables measured on the null device: pieces, published error, what does not fit into memory."""

import json
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest

from profilers import CostKey, CostTable, LayerSizes, interleave, measure_table
from profilers.placing import ffn_sizes, head_sizes, plan_stacks, uneven_sizes
from profilers.roofline import attention_seconds, base_seconds, ffn_seconds, stack_seconds
from tests.machines import (
    ASKED,
    CHECKS,
    DIMS,
    HERE,
    NULL,
    PLAN,
    PROGRAMS,
    REFERENCE,
    Machine,
    MachineSession,
    Notebook,
    Small,
    all_units,
    measure,
    random_stacks,
    workbench,
)


@pytest.fixture(scope="module")
def table() -> CostTable:
    return measure()


def test_table_recovers_the_roofline_piece_by_piece(table):
    expected = {CostKey("base", 0, ASKED): base_seconds(NULL, ASKED, DIMS), CostKey("mask", 0, ASKED): 0.0}
    expected |= {CostKey("attention_workspace", 6, ASKED): 0.0, CostKey("ffn_workspace", 192, ASKED): 0.0}
    for heads in head_sizes(DIMS):
        expected[CostKey("attention", heads, ASKED)] = attention_seconds(NULL, ASKED, DIMS, heads)
    placed = ffn_sizes(DIMS, NULL.size_alignment)
    for units in uneven_sizes(DIMS, NULL.size_alignment):
        line = np.interp(units, placed, [ffn_seconds(NULL, ASKED, DIMS, size) for size in placed])
        expected[CostKey("ffn_remainder", units, ASKED)] = ffn_seconds(NULL, ASKED, DIMS, units) - line
    bent = [56, 72, 80]  # around 64, where the roofline turns from bandwidth to arithmetic
    for units in (*placed, *bent):
        expected[CostKey("ffn", units, ASKED)] = ffn_seconds(NULL, ASKED, DIMS, units)
    assert table.entries.keys() == expected.keys()
    for key, seconds in expected.items():
        assert table.entries[key] == pytest.approx(seconds, rel=1e-9, abs=1e-12), key


def test_table_publishes_its_error_on_networks_it_never_saw_and_the_controls_beside_it(table):
    error = table.error
    assert error.check_nets == len(table.checks) == len(CHECKS)
    assert error.mape < 1e-9
    assert error.max < 1e-9
    assert error.spearman == pytest.approx(1.0)
    assert error.control_mape > 0.005 > error.mape
    for check, stack in zip(table.checks, CHECKS, strict=True):
        assert check["heads"] == [sizes.heads for sizes in stack]
        assert check["ffn_units"] == [sizes.ffn_units for sizes in stack]
        assert check["measured_s"] == pytest.approx(stack_seconds(NULL, ASKED, DIMS, stack))


def test_a_table_of_the_null_device_never_says_measured(table):
    assert table.source == "null"
    assert table.predict(DIMS.dense, ASKED).source == "null"


def test_table_is_the_same_for_every_order_of_measuring(table):
    assert measure(seed=1).entries == pytest.approx(dict(table.entries))


def test_networks_of_many_sizes_are_fitted_too_but_neither_those_to_check_nor_those_of_one_sub_block():
    mixed = random_stacks([40, 128], 6)
    notebook, plain = Notebook(), Notebook()
    odd = (LayerSizes(0, 35), *[LayerSizes(0, 0)] * 3)
    table = measure(mixed=[*mixed, CHECKS[0], odd], recorder=notebook)
    assert table.entries.keys() == measure(recorder=plain).entries.keys()
    assert {key.rsplit("/")[0] for key in notebook.keys() - plain.keys()} == {workbench(net).name for net in mixed}
    assert table.error.check_nets == len(CHECKS)


def test_no_checks_no_error():
    assert measure(checks=[]).error is None


def test_what_fills_no_whole_multiples_has_a_remainder():
    """A device on which units that are no multiple of its alignment take a third longer."""

    def seconds(stack) -> float:
        uneven = [sizes.ffn_units for sizes in stack if sizes.ffn_units % NULL.size_alignment]
        return stack_seconds(NULL, ASKED, DIMS, stack) + sum(ffn_seconds(NULL, ASKED, DIMS, n) / 3 for n in uneven)

    class Uneven(Machine):
        @contextmanager
        def open(self, program, asked):  # noqa: ARG002  what it costs is made up
            yield MachineSession(self, program.name, seconds(program.stack))

    table = measure_table(NULL, DIMS, ASKED, Uneven(), workbench, HERE, checks=CHECKS, plan=PLAN)
    for sizes in ((12, 37, 100, 0), (13, 150, 99, 191), (45, 45, 48, 96)):
        stack = tuple(LayerSizes(2, size) for size in sizes)
        assert table.predict(stack, ASKED).value == pytest.approx(seconds(stack), rel=0.03)
    plain = replace(table, alignment=1)
    assert plain.predict(stack, ASKED).value < 0.97 * seconds(stack), "without remainders it is predicted too low"
    even = (LayerSizes(2, 96),) * 4
    assert plain.predict(even, ASKED) == table.predict(even, ASKED)
    all_units = replace(table, dimensions=replace(DIMS, ffn_units=191), alignment=8)
    assert not np.diff(all_units.curve("ffn", 191, ASKED)[190:]) > 0, "all units are a size of their own"


def test_a_network_that_does_not_fit_is_left_out_and_the_rest_is_kept():
    """Every stack with all FFN units is too large; the table says which they were, and under which workload."""
    machine, everything = Small(all_units), [*PROGRAMS, workbench(DIMS.dense)]
    series = interleave(everything, REFERENCE, machine, ASKED, plan=PLAN, seed=0, skip_too_large=True)
    assert series.keys() == {p.name for p in everything if not all_units(p.stack)}
    table = measure_table(NULL, DIMS, ASKED, machine, workbench, HERE, checks=[*CHECKS, DIMS.dense], plan=PLAN)
    assert not table.holds(DIMS.dense, ASKED)
    assert table.holds(DIMS.dense, replace(ASKED, batch=77))
    assert all(DIMS.ffn_units in row["ffn_units"] for row in table.how["too_large"])
    assert max(key.size for key in table.entries if key.piece == "ffn") < DIMS.ffn_units
    back = CostTable.from_json(json.loads(json.dumps(table.to_json())))
    assert back.how["mode"] == "made up"
    assert not back.holds(DIMS.dense, ASKED)


def test_networks_wider_than_the_largest_size_that_fits_are_neither_fitted_nor_checked():
    """A shallow network with all units fits where stacks of them, from which their cost is known, do not."""
    shallow = (DIMS.dense[0], *[LayerSizes(1, 0)] * (DIMS.layers - 1))
    twin = (*shallow[1:], shallow[0])
    table = measure_table(
        NULL, DIMS, ASKED, Small(lambda stack: all_units(stack) > 1), workbench, HERE, mixed=[twin],
        checks=[*CHECKS, shallow], plan=PLAN,
    )  # fmt: skip
    assert table.holds(shallow, ASKED)
    assert all(DIMS.ffn_units not in check["ffn_units"] for check in table.checks)
    assert table.error.max < 0.01
    for key, seconds in table.entries.items():
        if key.piece == "ffn":
            assert seconds == pytest.approx(ffn_seconds(NULL, ASKED, DIMS, key.size), rel=1e-3)


def test_a_table_says_how_many_networks_were_measured_and_which_because_the_curve_bends(table):
    (row,) = table.how["measured"]
    assert row["networks"] >= len(set(plan_stacks(DIMS, NULL.size_alignment)) | set(CHECKS))
    assert len(row["ffn_units_at_bends"]) == table.at_bends
    assert table.under([]).at_bends == 0
    assert table.under([ASKED]).how == table.how
