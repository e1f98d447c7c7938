"""Cost tables and the interleaved measuring behind them, on the null device and on a machine that drifts on purpose."""

import json
import sys
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from types import SimpleNamespace

import numpy as np
import pytest

from profilers import (
    CostKey,
    CostTable,
    Dimensions,
    LayerSizes,
    Measurement,
    MissingCostError,
    Plan,
    Program,
    TableError,
    Workload,
    interleave,
    make_runtime,
    measure_table,
    roofline_table,
)
from profilers.fitting import Design, Timed, fit_pieces
from profilers.interleave import Block
from profilers.placing import ffn_sizes, head_sizes, plan_stacks, refined, uneven_sizes
from profilers.roofline import attention_seconds, base_seconds, ffn_seconds, stack_seconds
from profilers.runtimes import OutOfMemoryError
from targets import Fingerprint, Target
from targets.errors import InputError, TargetError
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


def measure(**changes) -> CostTable:
    arguments = {"checks": CHECKS, "plan": PLAN} | changes
    return measure_table(NULL, DIMS, ASKED, make_runtime("null", NULL), workbench, HERE, **arguments)


@pytest.fixture(scope="module")
def table() -> CostTable:
    return measure()


def by_hand(**entries) -> CostTable:
    """attention_3=2.0 is 3 heads at 2 s; base and mask have size 0."""
    rows = {CostKey(*_piece(name), ASKED): seconds for name, seconds in entries.items()}
    return CostTable(target="null:fp32", source="measured", fingerprint=HERE, dimensions=DIMS, entries=rows)


def _piece(name: str):
    piece, _, size = name.partition("_")
    return piece, int(size or 0)


# --- the fit


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


def timed_by(table, stacks, noise=0.0):
    """What the networks take by a table, and a little more or less."""
    off = np.random.default_rng(0).normal(1, noise, len(stacks)) if noise else np.ones(len(stacks))
    seconds = np.array([table.predict(stack, ASKED).value for stack in stacks])
    return Timed(stacks=stacks, seconds=seconds * off, errors=np.full(len(stacks), 0.005))


@pytest.mark.parametrize("noise", [0.0, 0.015])
def test_weights_that_do_not_stay_in_the_cache_are_fitted_where_they_tell(table, noise):
    """Half of the dense network's, and what is beyond takes half as long again as the whole network does."""
    weights = DIMS.weights(DIMS.dense)
    assert weights == 4 * (6 * 4 * 96 * 16 + 192 * 2 * 96)
    key = CostKey("uncached", weights // 2, ASKED)
    slow = replace(table, entries={**table.entries, key: table.predict(DIMS.dense, ASKED).value / 2})
    assert slow.predict(DIMS.dense, ASKED).value == pytest.approx(1.5 * table.predict(DIMS.dense, ASKED).value)
    small = (LayerSizes(3, 96),) * 4
    assert slow.predict(small, ASKED).value == table.predict(small, ASKED).value
    design = Design(DIMS, NULL.size_alignment, ASKED)
    stacks = [*plan_stacks(DIMS, NULL.size_alignment), *random_stacks([40, 128], 30)]
    assert not [k for k in fit_pieces(timed_by(table, stacks, noise), design) if k.piece == "uncached"]
    (found,) = replace(slow, entries=fit_pieces(timed_by(slow, stacks, noise), design)).overflows(ASKED)
    assert found.fits == pytest.approx(key.size, rel=0.15)
    unseen = timed_by(slow, CHECKS)
    fitted = replace(table, entries=fit_pieces(timed_by(slow, stacks, noise), design))
    off = timed_by(fitted, CHECKS).seconds / unseen.seconds - 1
    assert np.abs(off).mean() < 0.012


def test_no_checks_no_error():
    assert measure(checks=[]).error is None


@pytest.mark.parametrize("seed", range(4))
def test_no_time_below_zero_where_the_device_is_noisy(seed):
    """Clipping the free solution instead would leave the other costs as wrong as the negative ones made them."""
    from scipy.optimize import lsq_linear

    rng = np.random.default_rng(seed)
    stacks = plan_stacks(DIMS, 8)
    true = np.array([stack_seconds(NULL, ASKED, DIMS, stack) for stack in stacks])
    seconds, errors = true * rng.lognormal(0, 0.5, len(true)), rng.uniform(0.001, 0.02, len(true))
    entries = fit_pieces(Timed(stacks=stacks, seconds=seconds, errors=errors), Design(DIMS, 8, ASKED))
    assert min(entries.values()) == 0.0
    units = [key.size for key in entries if key.piece == "ffn"]
    columns = {key: i for i, key in enumerate(entries)}
    matrix = np.zeros((len(stacks), len(columns)))
    for row, stack in zip(matrix, stacks, strict=True):
        row[0], row[1] = 1, any(sizes.heads for sizes in stack)
        row[-2:] = max(sizes.heads for sizes in stack) / 6, max(sizes.ffn_units for sizes in stack) / 192
        for heads, kept in stack:
            if heads:
                row[columns[CostKey("attention", heads, ASKED)]] += 1
            if kept % 8:
                row[columns[CostKey("ffn_remainder", kept, ASKED)]] += 1
            if kept:
                above = next(size for size in units if size >= kept)
                below = max((size for size in units if size < kept), default=above)
                share = 1.0 if above in (below, kept) else (kept - below) / (above - below)
                row[columns[CostKey("ffn", above, ASKED)]] += share
                row[columns[CostKey("ffn", below, ASKED)]] += 1 - share
    weights = 1 / np.hypot(errors, 0.015)
    scaled = matrix * (weights / seconds)[:, None]
    best = lsq_linear(scaled, weights, bounds=(0, np.inf), method="bvls", tol=1e-14)
    found = scaled @ np.array(list(entries.values())) - weights
    assert (found**2).sum() / 2 == pytest.approx(best.cost, rel=1e-6)


def test_a_size_that_stands_out_is_isolated_by_its_neighbours():
    """A device on which 128 units take half as long again, and only they."""

    def seconds(stack) -> float:
        odd = sum(sizes.ffn_units == 128 for sizes in stack)
        return stack_seconds(NULL, ASKED, DIMS, stack) + odd * 0.5 * ffn_seconds(NULL, ASKED, DIMS, 128)

    class Odd(Machine):
        @contextmanager
        def open(self, program, asked):  # noqa: ARG002  what it costs is made up
            yield _MachineSession(self, program.name, seconds(program.stack))

    assert 128 in ffn_sizes(DIMS, NULL.size_alignment)
    table = measure_table(NULL, DIMS, ASKED, Odd(), workbench, HERE, checks=CHECKS, plan=PLAN)
    near = [128 - NULL.size_alignment, 128, 128 + NULL.size_alignment]
    assert {CostKey("ffn", size, ASKED) for size in near} <= table.entries.keys()
    for stack in [((LayerSizes(2, size),) * 4) for size in (near[0], 128, near[2], 112, 150)]:
        assert table.predict(stack, ASKED).value == pytest.approx(seconds(stack), rel=0.01)


GRID = (16, 64, 128, 256, 384, 512, 768, 1024, 1280, 1536)


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
        known |= {size: float(seconds(size)) for size in refined(known, 16)}
    assert len(known) - len(GRID) <= most
    assert refined(known, 16) == [] or most == 12
    units = np.arange(16, 1537, 16)
    wrong = np.abs(
        np.interp(units, sorted(known), [known[size] for size in sorted(known)]) / [seconds(u) for u in units] - 1
    )
    assert np.sum(wrong > 0.04) <= 2
    if most == 2:
        assert known.keys() - set(GRID) == {1008, 1040}


def test_what_fills_no_whole_multiples_has_a_remainder():
    """A device on which units that are no multiple of its alignment take a third longer."""

    def seconds(stack) -> float:
        uneven = [sizes.ffn_units for sizes in stack if sizes.ffn_units % NULL.size_alignment]
        return stack_seconds(NULL, ASKED, DIMS, stack) + sum(ffn_seconds(NULL, ASKED, DIMS, n) / 3 for n in uneven)

    class Uneven(Machine):
        @contextmanager
        def open(self, program, asked):  # noqa: ARG002  what it costs is made up
            yield _MachineSession(self, program.name, seconds(program.stack))

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


def test_roofline_table_predicts_the_roofline_and_says_so():
    modelled = roofline_table(NULL, DIMS, ASKED, HERE)
    for stack in CHECKS:
        estimate = modelled.predict(stack, ASKED)
        assert estimate.value == pytest.approx(stack_seconds(NULL, ASKED, DIMS, stack))
        assert estimate.source == "roofline"


def test_table_error_by_hand():
    error = TableError.of(np.array([1.1, 2.0, 2.7]), np.array([1.0, 2.0, 3.0]), np.array([2.0, 2.0, 3.0]))
    assert error.check_nets == 3
    assert error.mape == pytest.approx(0.2 / 3)
    assert error.max == pytest.approx(0.1)
    assert error.p95 == pytest.approx(0.1)
    assert error.spearman == pytest.approx(1.0)
    assert error.control_mape == pytest.approx(1 / 3)


# --- look-up and interpolation


def test_missing_cost_names_the_nearest_sizes(table):
    with pytest.raises(MissingCostError, match=r"ffn at 90 .*nearest sizes: \[96, 80\]"):
        table.lookup(CostKey("ffn", 90, ASKED))
    with pytest.raises(MissingCostError, match="nearest sizes: none"):
        table.lookup(CostKey("ffn", 96, replace(ASKED, batch=64)))


def test_curve_is_linear_between_entries_flat_below_and_zero_at_zero():
    curve = by_hand(ffn_2=1.0, ffn_4=2.0, ffn_8=3.0).curve("ffn", 8, ASKED)
    assert curve == pytest.approx([0, 1, 1, 1.5, 2, 2.25, 2.5, 2.75, 3])


def test_curve_refuses_to_extrapolate():
    with pytest.raises(MissingCostError, match="end at 8, need 9"):
        by_hand(ffn_8=3.0).curve("ffn", 9, ASKED)
    with pytest.raises(MissingCostError, match="end at none"):
        by_hand(ffn_8=3.0).curve("attention", 1, ASKED)


def test_prediction_by_hand_and_its_source():
    table = by_hand(base=10.0, mask=0.5, attention_2=2.0, attention_6=6.0, ffn_96=1.0, ffn_192=3.0)
    none = LayerSizes(0, 0)
    exact = table.predict((LayerSizes(2, 192), LayerSizes(6, 0), none, none), ASKED)
    assert (exact.value, exact.source) == (pytest.approx(10 + 0.5 + 2 + 3 + 6), "measured")
    between = table.predict((LayerSizes(0, 144), LayerSizes(3, 0), none, none), ASKED)
    assert (between.value, between.source) == (pytest.approx(10 + 0.5 + 2 + 3), "interpolated")
    without_attention = table.predict((LayerSizes(0, 96), none, none, none), ASKED)
    assert without_attention.value == pytest.approx(11)
    assert table.predict((none,) * 4, ASKED).value == pytest.approx(10)


# --- what is refused


def test_json_and_file_round_trip(table, tmp_path):
    path = tmp_path / "table.json"
    table.write(path)
    back = CostTable.read(path)
    assert back.entries == table.entries
    assert back.to_json() == table.to_json()
    assert back.errors == table.errors
    assert back.fingerprint == table.fingerprint
    assert [back.predict(s, ASKED) for s in CHECKS] == [table.predict(s, ASKED) for s in CHECKS]


def _set(*path_and_value):
    *path, last, value = path_and_value

    def change(data):
        for key in path:
            data = data[key]
        data[last] = value

    return change


def _drop(*path):
    def change(data):
        for key in path[:-1]:
            data = data[key]
        del data[path[-1]]

    return change


TOP = ("target", "source", "fingerprint", "dimensions", "entries", "errors")
BROKEN = {
    "no table": (_set("kind", "something else"), "not a paretoc cost table"),
    "older schema": (_set("schema", 0), "schema 0, this version reads"),
    "no schema": (_drop("schema"), "schema None"),
    "NaN": (_set("entries", 2, "seconds", float("nan")), "attention at 1 has the time nan"),
    "infinite": (_set("entries", 2, "seconds", float("inf")), "has the time inf"),
    "negative": (_set("entries", 2, "seconds", -1e-9), "has the time -1e-09"),
    "no number": (_set("entries", 2, "seconds", None), "damaged"),
    "an error of NaN": (_set("errors", 0, "mape", float("nan")), "its error on batch"),
    "an infinite error": (_set("errors", 0, "max", float("inf")), "is max inf"),
    "alignment of 0": (_set("alignment", 0), "an alignment of 0"),
    "what was too large, of no workload": (_set("how", "too_large", [[[1, 8]]]), "damaged"),
    "unknown piece": (_set("entries", 2, "piece", "conv"), "'conv' is none of"),
    "unknown source": (_set("source", "guessed"), "'guessed' is none of"),
    "entry without size": (_drop("entries", 2, "size"), "KeyError: 'size'"),
    "a cache of nothing": (
        _set("entries", 2, {"piece": "uncached", "size": 0, **ASKED.to_json(), "seconds": 1}),
        "damaged",
    ),
    "entry with more": (_set("entries", 2, "gpu", 1), "damaged"),
    "dimensions with less": (_drop("dimensions", "heads"), "damaged"),
    "fingerprint with less": (_drop("fingerprint", "isa"), "not a fingerprint"),
    **{f"no {key}": (_drop(key), f"damaged: KeyError: '{key}'") for key in TOP},
}


@pytest.mark.parametrize(("change", "message"), BROKEN.values(), ids=BROKEN)
def test_damaged_tables_are_refused(table, tmp_path, change, message):
    data = json.loads(json.dumps(table.to_json()))
    change(data)
    path = tmp_path / "table.json"
    path.write_text(json.dumps(data))
    with pytest.raises(InputError) as caught:
        CostTable.read(path)
    assert message in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"[]", b"7", b"null", b"\xff\xfe", b"{"])
def test_what_is_no_table_at_all_is_refused(tmp_path, content):
    path = tmp_path / "table.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"table\.json"):
        CostTable.read(path)


def test_truncated_and_missing_files_are_refused(table, tmp_path):
    path = tmp_path / "table.json"
    table.write(path)
    text = path.read_text()
    for length in (1, len(text) // 2, len(text) - 3):
        path.write_text(text[:length])
        with pytest.raises(InputError, match=r"not valid JSON \(truncated\?\)"):
            CostTable.read(path)
    with pytest.raises(InputError, match="no cost table at"):
        CostTable.read(tmp_path / "absent.json")


@pytest.mark.parametrize("name", ["heads", "ffn_units", "hidden_size", "head_size"])
def test_a_table_of_another_model_is_refused(table, name):
    other = replace(DIMS, **{name: getattr(DIMS, name) + 1})
    with pytest.raises(TargetError, match=f"another model: {name}"):
        table.check_fits(other, ASKED)


def test_a_table_serves_models_that_differ_in_depth_or_vocabulary_only(table):
    table.check_fits(replace(DIMS, layers=2, vocabulary=7), ASKED)


@pytest.mark.parametrize("change", [{"batch": 3}, {"tokens": 41}, {"threads": 2}, {"precision": "fp16"}])
def test_a_table_of_another_workload_is_refused_and_says_what_it_has(table, change):
    with pytest.raises(TargetError, match="it has: batch 2, 40 tokens, 1 thread, fp32, null"):
        table.check_fits(DIMS, replace(ASKED, **change))


def test_a_table_of_another_device_or_version_is_refused():
    data = HERE.to_json() | {"kind": "cpu", "device_name": "A", "threads": 1, "libraries": {"onnxruntime": "1.30.1"}}
    there = Fingerprint.from_json(data)
    table = replace(by_hand(base=1.0), fingerprint=there)
    table.check_device(there, "onnxruntime")
    table.check_device(Fingerprint.from_json(data | {"libraries": {"onnxruntime": "1.30.9"}}), "onnxruntime")
    for change, word in (
        ({"device_name": "B"}, "here is B"),
        ({"threads": 2}, "threads"),
        ({"isa": ["avx2"]}, "instruction sets"),
        ({"libraries": {"onnxruntime": "1.31.0"}}, "onnxruntime"),
    ):
        with pytest.raises(TargetError, match=word):
            table.check_device(Fingerprint.from_json(data | change), "onnxruntime")


# --- interleaving


class Killed(BaseException):
    """What SIGINT does, without stopping pytest."""


@pytest.mark.parametrize("lengths", [(), (40,) * 8, (20, 40, 60)])
def test_a_block_lasts_as_long_whether_a_call_is_of_one_length_or_of_many(lengths):
    asked, stack = replace(ASKED, lengths=lengths), DIMS.dense
    plan = Plan(
        min_rounds=1, max_rounds=1, block_s=200 * stack_seconds(NULL, ASKED, DIMS, stack), min_turns=1, long_s=1e9
    )
    program = workbench(stack)
    series = interleave(
        [program],
        workbench((*stack[:2], LayerSizes(0, 0), LayerSizes(0, 0))),
        make_runtime("null", NULL),
        asked,
        plan=plan,
        seed=0,
    )
    (block,) = series[program.name].blocks
    calls_s = [*block.reference_s, *(s for turn in block.turns_s for s in turn)]
    assert (
        0.5 * plan.block_s < 2 * len(asked.each) * sum(calls_s) < 1.3 * plan.block_s
    )  # half of all calls are not counted


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
            yield _MachineSession(self, program.name, stack_seconds(NULL, asked, DIMS, program.stack))
        finally:
            self.live.remove(program.name)

    def describe(self):
        return {"mode": "made up", "warnings": []}


class _MachineSession:
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


PROGRAMS = [workbench(stack) for stack in CHECKS]
REFERENCE = workbench((LayerSizes(3, 96),) * 4)
TRUE = {p.name: stack_seconds(NULL, ASKED, DIMS, p.stack) for p in PROGRAMS}
REFERENCE_S = stack_seconds(NULL, ASKED, DIMS, REFERENCE.stack)


def run(machine, *, plan=PLAN, **options):
    return interleave(PROGRAMS, REFERENCE, machine, ASKED, plan=plan, seed=0, **options)


@pytest.fixture(scope="module")
def duration() -> float:
    machine = Machine()
    run(machine)
    return machine.now


DRIFTS = {
    "slower by 30 % all the while": lambda share: 1 + 0.3 * share,
    "faster by 30 % all the while": lambda share: 1.3 - 0.3 * share,
    "slower for a third of the time": lambda share: 1.3 if 1 / 3 < share < 2 / 3 else 1.0,
    "up and down": lambda share: 1 + 0.15 * np.sin(20 * np.pi * share),
}


@pytest.mark.parametrize("drift", DRIFTS.values(), ids=DRIFTS)
def test_drift_is_divided_out(drift, duration):
    series = run(Machine(speed=lambda now: drift(now / duration)))
    raw = [
        abs(sample / TRUE[n] - 1) for n, s in series.items() for b in s.blocks for turn in b.turns_s for sample in turn
    ]
    assert max(raw) > 0.14
    off = [abs(s.median_s / s.reference_s / (TRUE[n] / REFERENCE_S) - 1) for n, s in series.items()]
    assert np.mean(off) < 0.005
    assert max(off) < 0.03


def test_on_a_still_machine_nothing_is_corrected():
    for name, series in run(Machine()).items():
        assert series.median_s == pytest.approx(TRUE[name])
        assert series.error == pytest.approx(0)
        assert series.pooled.median_s == pytest.approx(TRUE[name])
        assert series.ratio_to_reference() == pytest.approx([REFERENCE_S / TRUE[name]] * PLAN.min_rounds)


def test_the_reference_is_opened_once_and_called_before_between_and_after_the_turns():
    machine = Machine()
    series = run(machine)
    assert machine.opened.count(REFERENCE.name) == 1
    assert machine.opened[0] == REFERENCE.name
    for one in series.values():
        assert {len(block.reference_s) - len(block.turns_s) for block in one.blocks} == {1}


def test_a_turn_lasts_about_as_long_as_a_call_of_the_reference():
    for name, series in run(Machine()).items():
        (calls,) = {len(turn) for block in series.blocks for turn in block.turns_s}
        assert calls == np.clip(round(REFERENCE_S / TRUE[name]), 1, 16)


def test_a_ratio_is_held_against_the_calls_on_both_sides():
    block = Block(reference_s=(1.0, 3.0, 5.0), turns_s=((4.0,), (4.0, 12.0, 0.1)))
    assert block.ratios == pytest.approx([4 / 2, 4 / 4])


def test_order_is_random_and_given_by_the_seed():
    orders = []
    for seed in (0, 0, 1):
        machine = Machine()
        interleave(PROGRAMS, REFERENCE, machine, ASKED, plan=PLAN, seed=seed)
        orders.append(machine.opened)
    assert orders[0] == orders[1] != orders[2]


def test_a_short_series_is_spread_over_the_whole_run():
    often = {p.name: 8 for p in PROGRAMS[::2]}
    machine = Machine()
    run(machine, plan=replace(PLAN, max_rounds=2), rounds=often)
    for program in PROGRAMS[1::2]:
        first, last = (i for i, name in enumerate(machine.opened) if name == program.name)
        between = machine.opened[first + 1 : last]
        assert {3, 4, 5} >= {between.count(name) for name in often}, program.name


def test_rounds_stop_when_turns_agree():
    assert {len(s.blocks) for s in run(Machine()).values()} == {PLAN.min_rounds}


def test_only_what_disagrees_is_measured_on_up_to_the_last_round():
    rng = np.random.default_rng(0)
    noisy = PROGRAMS[2].name
    series = run(Machine(noise=lambda name: rng.uniform(0.5, 2) if name == noisy else 1.0))
    assert {name for name, s in series.items() if len(s.blocks) > PLAN.min_rounds} == {noisy}
    assert len(series[noisy].blocks) == PLAN.max_rounds


def test_a_network_stops_as_soon_as_its_error_is_small():
    rng, noisy = np.random.default_rng(0), PROGRAMS[0].name
    machine = Machine(noise=lambda name: rng.normal(1, 0.04) if name == noisy else 1.0)
    series = run(machine, plan=replace(PLAN, max_rounds=90))
    assert PLAN.min_rounds < len(series[noisy].blocks) < 90
    assert series[noisy].error <= PLAN.tolerance
    assert series[noisy].median_s == pytest.approx(TRUE[noisy], rel=0.02)


def test_the_error_of_a_series_is_the_scatter_of_its_median():
    """Of many machines with the same noise, the medians scatter as each machine's own error says."""
    errors, medians = [], []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        machine = Machine(noise=lambda _, rng=rng: rng.normal(1, 0.03))
        one = interleave(
            PROGRAMS[:1], REFERENCE, machine, ASKED, plan=replace(PLAN, max_rounds=2, min_turns=30), seed=0
        )
        series = one[PROGRAMS[0].name]
        errors.append(series.error)
        medians.append(series.median_s / series.reference_s)
    assert np.mean(errors) == pytest.approx(np.std(medians) / np.mean(medians), rel=0.35)


def test_the_time_cap_ends_the_rounds_but_never_the_first_ones(monkeypatch):
    clock = count(step=100)
    module = sys.modules["profilers.interleave"]  # the package's attribute of that name is the function
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: float(next(clock))))
    rng = np.random.default_rng(0)
    series = run(Machine(noise=lambda _: rng.uniform(0.5, 2)), plan=replace(PLAN, max_rounds=10**9, time_cap_s=1.0))
    assert {len(s.blocks) for s in series.values()} == {PLAN.min_rounds}


def test_what_was_recorded_is_not_measured_again():
    notebook = Notebook()
    first = run(Machine(), recorder=notebook)
    again = run(Machine(fail_after=0), recorder=notebook)
    assert again == first


def test_a_killed_run_measures_only_what_is_missing():
    whole = Machine()
    expected = run(whole)
    notebook = Notebook()
    with pytest.raises(Killed):
        run(Machine(fail_after=29), recorder=notebook)
    rest = Machine()
    result = run(rest, recorder=notebook)
    assert rest.opened == [REFERENCE.name, *whole.opened[29:]]
    for name, series in result.items():
        assert series.median_s == pytest.approx(expected[name].median_s)


def test_a_block_lasts_as_long_as_planned_within_its_bounds_of_turns():
    plan = replace(PLAN, min_rounds=1, max_rounds=1)
    for block_s in (20 * REFERENCE_S, 1e9):
        for name, one in run(Machine(), plan=replace(plan, block_s=block_s)).items():
            (block,) = one.blocks
            turn_s = 2 * REFERENCE_S + (len(block.turns_s[0]) + 1) * TRUE[name]
            assert abs(len(block.turns_s) - np.clip(block_s / turn_s, plan.min_turns, plan.max_turns)) <= 1


class Small(Machine):
    """A machine whose memory does not hold some networks."""

    def __init__(self, too_large) -> None:
        super().__init__()
        self.too_large = too_large

    @contextmanager
    def open(self, program, asked):
        if self.too_large(program.stack):
            raise OutOfMemoryError(f"{program.name} does not fit")
        yield _MachineSession(self, program.name, stack_seconds(NULL, asked, DIMS, program.stack))


def all_units(stack) -> int:
    """How many layers have all of their FFN units."""
    return sum(sizes.ffn_units == DIMS.ffn_units for sizes in stack)


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


def test_what_must_be_timed_has_to_fit():
    dense, small = workbench(DIMS.dense), [p for p in PROGRAMS if not all_units(p.stack)]
    for programs, reference, skip in (
        ([*small, dense], REFERENCE, False),
        (small, dense, True),
        ([dense], REFERENCE, True),
    ):
        with pytest.raises(OutOfMemoryError, match=f"{dense.name} does not fit"):
            interleave(programs, reference, Small(all_units), ASKED, plan=PLAN, seed=0, skip_too_large=skip)


def test_a_table_says_how_many_networks_were_measured_and_which_because_the_curve_bends(table):
    (row,) = table.how["measured"]
    assert row["networks"] >= len(set(plan_stacks(DIMS, NULL.size_alignment)) | set(CHECKS))
    assert len(row["ffn_units_at_bends"]) == table.at_bends
    assert table.under([]).at_bends == 0
    assert table.under([ASKED]).how == table.how


def test_progress_rises_to_one():
    told = []
    run(Machine(), progress=told.append)
    assert told == sorted(told)
    assert told[0] > 0
    assert told[-1] == 1


# --- measurements


def test_statistics_are_derived_from_the_samples():
    measurement = Measurement(samples_s=(4.0, 1.0, 2.0, 3.0, 10.0), warmup=2)
    assert measurement.median_s == 3
    assert measurement.percentile_s(100) == 10
    assert measurement.spread == pytest.approx((4 - 2) / 3)


@pytest.mark.parametrize("samples", [(), (1.0, float("nan")), (-1.0,), (float("inf"),)])
def test_impossible_samples_are_refused(samples):
    with pytest.raises(ValueError, match="sample"):
        Measurement(samples_s=samples, warmup=0)
