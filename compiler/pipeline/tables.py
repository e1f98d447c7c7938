"""Cost tables of a run on a device that is here: from the store, carried over from a near one, or measured in full."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

from compiler.export.workbench import ModelWorkbench
from compiler.pipeline.bases import STAGE, Base, chosen_base, table_key
from compiler.pipeline.device import Device
from compiler.pipeline.measuring import CHECK_NETS, StoreRecorder, about_samples, check_shapes, measure_steadily
from compiler.store import Store
from profilers import CostTable, OutOfMemoryError, Plan, Workload
from profilers.transfer import SAMPLES, measure_transfer

MAX_MAPE_CARRIED, MAX_P95_CARRIED = 0.02, 0.05
"""Largest error, on average and at its 95th percentile, of a table that is carried over; above either the full profile is taken."""

MIN_CHECKS_CARRIED = 10
"""Networks that a table carried over is judged on, at least; none of them is among those that carry it over."""

ROUNDS = (3, 6)
"""Blocks of each network at least: at first, and where it is judged again."""

PLAN = Plan(block_s=0.1, min_turns=2, warmup=1, time_cap_s=10.0)
"""Short blocks: sessions of one network differ more than the turns of one session, so their number counts."""

HOPELESS = 2.0
"""A table this many times its bound off is not judged again: noise does not explain it."""


class _Job(NamedTuple):
    """One table to make."""

    device: Device
    workload: Workload
    bench: ModelWorkbench
    store: Store
    seed: int

    @property
    def inputs(self) -> dict[str, Any]:
        return about_samples(self.device, self.workload, self.bench, self.seed)

    def key(self, *more: str) -> str:
        return table_key(self.device.target, self.bench.dimensions, [self.inputs, *more])

    @property
    def recorder(self) -> StoreRecorder:
        """Blocks of networks, shared by both ways: what a rejected table was judged on is not measured again."""
        return StoreRecorder(self.store, self.inputs)


def measure_all(
    device: Device,
    bench: ModelWorkbench,
    store: Store,
    seed: int,
    progress: Callable[[float], None],
    *,
    full: bool = False,
) -> CostTable:
    """One table for every workload of the run. With `full`, or on a device without a clock, none is carried over."""
    tables: list[CostTable] = []
    for workload in device.workloads:
        job = _Job(device, workload, bench, store, seed)
        tables.append(
            _found(job, lambda f: progress((len(tables) + f) / len(device.workloads)), full or not device.has_clock)
        )
    return CostTable.merge(tables)


def _found(job: _Job, progress: Callable[[float], None], full: bool) -> CostTable:
    """The table of one workload, from the store where it was made before; one that was measured in full comes first."""
    keys = [job.key()] if full else [job.key(), job.key("carried over")]
    stored = next(filter(None, (job.store.get(STAGE, key) for key in keys)), None)
    if stored is not None:
        return CostTable.from_json(stored)
    base = None if full else chosen_base(job.device, job.workload, job.bench.dimensions, job.store, keys[-1])
    rejected = ""
    if base is not None:
        table, rejected = _carried_over(job, base, progress)
        if table is not None:
            return CostTable.from_json(job.store.put(STAGE, keys[-1], table.to_json()))

    def measured() -> dict[str, Any]:
        table = measure_steadily(
            job.device, job.workload, job.bench, seed=job.seed, recorder=job.recorder, progress=progress
        )
        return (_noted(table, rejected) if rejected else table).to_json()

    return CostTable.from_json(job.store.stored(STAGE, job.key(), measured))


def _carried_over(job: _Job, base: Base, progress: Callable[[float], None]) -> tuple[CostTable | None, str]:
    """The base adapted to networks timed here, with its error on others; None and why where that is above its bound.

    Where noise may be why, blocks are added to those there are and it is judged once more.
    """
    off = ""
    for rounds in ROUNDS:
        try:
            table = _adapted(job, base, rounds, progress)
        except OutOfMemoryError:
            return None, ""
        error = table.errors[job.workload]
        if error.check_nets < MIN_CHECKS_CARRIED:
            return None, ""
        off = f"off by {error.mape:.1%} on average, {error.p95:.1%} at the 95th percentile, on {error.check_nets} networks"
        excess = max(error.mape / MAX_MAPE_CARRIED, error.p95 / MAX_P95_CARRIED)
        if excess <= 1:
            return _named(_noted(table, f"costs are carried over from {base.described}: {off} kept apart"), base), ""
        if excess > HOPELESS:
            break
    return None, f"carried over from {base.described}, costs were {off}: a full profile was taken"


def _adapted(job: _Job, base: Base, rounds: int, progress: Callable[[float], None]) -> CostTable:
    device, bench = job.device, job.bench
    checks = check_shapes(bench.checkpoint.architecture, device.target.size_alignment, job.seed)
    assert device.runtime is not None  # noqa: S101  the caller knows that it is here
    return measure_transfer(
        base.table, base.workload, device.target, bench.dimensions, job.workload, device.runtime, bench,
        device.fingerprint, count=SAMPLES, checks=checks[:: CHECK_NETS // MIN_CHECKS_CARRIED],
        plan=PLAN, sample_rounds=rounds, check_rounds=rounds, seed=job.seed,
        recorder=job.recorder, progress=progress,
    )[0]  # fmt: skip


def _noted(table: CostTable, note: str) -> CostTable:
    return replace(table, how={**table.how, "warnings": [*table.how.get("warnings", ()), note]})


def _named(table: CostTable, base: Base) -> CostTable:
    """The table with the name of its base."""
    transfers = [{**row, "from": {**row["from"], "name": base.name}} for row in table.how["transfers"]]
    return replace(table, how={**table.how, "transfers": transfers})
