"""A run's cost table carried over from a near one: which base, when it is rejected, and what is kept of a killed run."""

from dataclasses import replace

import numpy as np
import pytest

from compiler.export import ModelWorkbench
from compiler.pipeline import bases, measuring, tables
from compiler.pipeline.bases import STAGE, nearest_base, table_key
from compiler.pipeline.device import find_device
from compiler.pipeline.graphs import find_templates
from compiler.pipeline.options import Options
from compiler.pipeline.tables import MIN_CHECKS_CARRIED, measure_all
from compiler.store import DiskStore
from profilers import CostTable, Plan, TableError, Workload, roofline_table
from profilers.profile import reference_program
from targets import FrozenMap
from targets.errors import InputError
from tests.tiny import tiny_checkpoint

ASKED = Workload(batch=1, tokens=16)
GOOD = TableError(check_nets=20, mape=0.01, p95=0.03, max=0.04, spearman=0.99, control_mape=0.1)


class Clock:
    """A runtime whose calls last what a table says, times `factor`; each call off by `noise`."""

    name, source = "onnxruntime", "measured"

    def __init__(self, table: CostTable, noise: float = 0.0) -> None:
        self.table, self.noise, self.opened, self.most = table, noise, [], 10**9
        self.rng = np.random.default_rng(0)

    def open(self, program, workload):
        if len(self.opened) >= self.most:
            raise KeyboardInterrupt
        self.opened.append(program.name)
        seconds = 1.7 * self.table.predict(program.stack, replace(workload, threads=1)).value
        off = self.rng.lognormal(0, self.noise)
        from contextlib import nullcontext
        from types import SimpleNamespace

        return nullcontext(SimpleNamespace(sample=lambda count: [seconds * off] * count))

    def describe(self):
        return {"mode": "by hand", "warnings": []}


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    checkpoint = tiny_checkpoint(folder)
    return ModelWorkbench(checkpoint, find_templates(checkpoint, DiskStore(folder / "store"), ["fp32"]))


@pytest.fixture
def place(bench, tmp_path, monkeypatch):
    monkeypatch.setattr(bases, "shipped_files", lambda _: ())
    monkeypatch.setattr(tables, "PLAN", replace(tables.PLAN, time_cap_s=0.0))
    monkeypatch.setattr(measuring, "Plan", lambda **more: Plan(**{**more, "time_cap_s": 0.0}))
    device = find_device(Options(model="", seq_len=16))
    table = roofline_table(device.target, bench.dimensions, ASKED, device.fingerprint)
    base = replace(table, source="measured", errors={ASKED: GOOD}, alignment=device.target.size_alignment)
    return Place(bench, device, base, DiskStore(tmp_path))


class Place:
    def __init__(self, bench, device, base, store) -> None:
        self.bench, self.base, self.store = bench, base, store
        self.device = replace(device, runtime=Clock(base), workload=replace(ASKED, threads=2))

    def keep(self, name: str, **changes) -> CostTable:
        table = replace(self.base, **changes)
        self.store.put(STAGE, table_key(self.device.target, table.dimensions, name), table.to_json())
        return table

    def nearest(self, workload=None):
        return nearest_base(self.device, workload or self.device.workload, self.bench.dimensions, self.store)

    def measure(self, **how) -> CostTable:
        return measure_all(self.device, self.bench, self.store, 0, lambda _: None, **how)


def at(workload: Workload, base: CostTable) -> dict:
    return {
        "entries": {key._replace(workload=workload): seconds for key, seconds in base.entries.items()},
        "errors": {workload: GOOD},
    }


def test_a_near_table_is_carried_over_and_says_from_what(place):
    place.keep("one thread")
    table = place.measure()
    (error,) = table.errors.values()
    assert table.source == "transferred"
    assert error.check_nets >= MIN_CHECKS_CARRIED
    assert error.mape < 1e-3
    assert table.how["transfers"][0]["from"]["name"] == "a table of an earlier run"
    assert "costs are carried over from a table of an earlier run" in table.how["warnings"][0]
    opened = len(place.device.runtime.opened)
    assert place.measure().to_json() == table.to_json()
    assert len(place.device.runtime.opened) == opened, "it is in the store"


def test_no_network_that_judges_a_table_carried_it_over(place, monkeypatch):
    place.keep("one thread")
    seen = {}
    real = tables.measure_transfer

    def spied(*args, **how):
        seen.update(how)
        return real(*args, **how)

    monkeypatch.setattr(tables, "measure_transfer", spied)
    table = place.measure()
    assert len(set(seen["checks"])) == len(table.checks) >= MIN_CHECKS_CARRIED
    names = {place.bench(stack).name for stack in seen["checks"]} | {
        reference_program(place.bench.dimensions, place.bench).name
    }
    assert len(set(place.device.runtime.opened) - names) == seen["count"] == 10


@pytest.mark.parametrize("how", [{"noise": 0.2}, {"full": True}])
def test_what_is_too_far_off_or_not_wanted_is_measured_in_full(place, how):
    place.keep("one thread")
    place.device.runtime.noise = how.get("noise", 0.0)
    table = place.measure(full=how.get("full", False))
    assert table.source == "measured"
    assert len(table.entries) > 10
    warnings = " ".join(table.how["warnings"])
    assert ("a full profile was taken" in warnings) == ("noise" in how)
    assert place.measure().to_json() == table.to_json(), "one in full comes first from then on"


def test_what_noise_may_explain_is_judged_again_on_more_blocks(place, monkeypatch):
    place.keep("one thread")
    real, judged = tables._adapted, []

    def worse_at_first(job, base, rounds, progress):
        table = real(job, base, rounds, progress)
        judged.append((rounds, len(place.device.runtime.opened)))
        off = replace(GOOD, check_nets=10, mape=0.021 if len(judged) == 1 else 0.019)
        return replace(table, errors={job.workload: off})

    monkeypatch.setattr(tables, "_adapted", worse_at_first)
    assert place.measure().source == "transferred"
    (few, first), (many, both) = judged
    assert (few, many) == tables.ROUNDS
    assert both <= 2 * first, "the first blocks are not measured again"


def test_blocks_of_a_rejected_table_serve_the_full_profile(place):
    place.keep("one thread")
    place.device.runtime.noise = 0.2
    place.measure()
    together = list(place.device.runtime.opened)
    place.store = DiskStore(place.store.root.parent / "other")
    place.device.runtime.opened.clear()
    place.measure(full=True)
    alone = place.device.runtime.opened
    assert len(together) < len(alone) + tables.ROUNDS[0] * (10 + MIN_CHECKS_CARRIED) + 1


def test_a_killed_run_goes_on_with_the_same_base(place):
    place.keep("one thread")
    runtime = place.device.runtime
    runtime.most = 9
    with pytest.raises(KeyboardInterrupt):
        place.measure()
    place.keep("nearer", **at(place.device.workload, place.base))
    assert place.nearest().workload == place.device.workload
    runtime.most = 10**9
    killed, runtime.opened = len(runtime.opened), []
    table = place.measure()
    assert table.how["transfers"][0]["from"]["workload"]["threads"] == 1
    whole = DiskStore(place.store.root.parent / "whole")
    place.store, resumed, runtime.opened = whole, len(runtime.opened), []
    place.keep("one thread")
    place.measure()
    assert resumed + killed <= len(runtime.opened) + 2, "blocks are measured once, the reference opened again"


def test_the_nearest_base_is_of_the_same_precision_runtime_opset_and_of_near_tokens(place):
    assert place.nearest() is None
    for name, changes in {
        "precision": {"precision": "int8"}, "opset": {"opset": 17}, "runtime": {"runtime": "tensorrt"}, "far": {"batch": 16},
    }.items():  # fmt: skip
        place.keep(name, **at(replace(ASKED, **changes), place.base))
    assert place.nearest() is None
    for tokens in (4, 32, 64):
        place.keep(f"{tokens}", **at(replace(ASKED, tokens=tokens), place.base))
    assert place.nearest().workload.tokens == 32
    place.keep("same", **at(ASKED, place.base))
    assert place.nearest().workload == ASKED


def test_another_machine_and_other_libraries_only_make_a_base_less_near(place):
    there = replace(place.base.fingerprint, device_name="another", libraries=FrozenMap({"onnxruntime": "1.0.0"}))
    place.keep("there", fingerprint=there)
    assert place.nearest().table.fingerprint == there
    place.keep("here", dimensions=replace(place.base.dimensions, layers=9))
    assert place.nearest().table.fingerprint == place.base.fingerprint


def test_what_is_no_measurement_of_this_architecture_within_its_bound_is_no_base(place):
    dimensions = place.base.dimensions
    noisy = {ASKED: replace(GOOD, mape=0.04)}
    for i, changes in enumerate((
        {"source": "roofline"}, {"source": "transferred"}, {"errors": {}}, {"errors": noisy}, {"alignment": 3},
        {"dimensions": replace(dimensions, hidden_size=8)},
        {"entries": {key: s for key, s in place.base.entries.items() if key.piece != "ffn"}},
    )):  # fmt: skip
        place.keep(str(i), **changes)
    damaged = {**place.base.to_json(), "entries": [{"piece": "base"}]}
    with pytest.raises(InputError):
        CostTable.from_json(damaged)
    place.store.put(STAGE, table_key(place.device.target, dimensions, "damaged"), damaged)
    assert place.nearest() is None


def test_without_a_clock_nothing_is_carried_over(bench, place, monkeypatch):
    monkeypatch.setattr(tables, "chosen_base", lambda *_: pytest.fail("looked for a base"))
    device = find_device(Options(model="", seq_len=16, target="null"))
    assert measure_all(device, bench, place.store, 0, lambda _: None).source == "null"


def test_a_table_of_measured_and_carried_over_workloads_says_transferred(place):
    carried, other = replace(ASKED, threads=2), replace(ASKED, precision="int8")
    measured = replace(place.base, **at(other, place.base))
    place.keep("one thread")
    table = CostTable.merge([measured, place.measure()])
    assert table.source == "transferred"
    assert table.carried_over == {carried}
