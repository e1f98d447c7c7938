"""`compile profile`: a cost table of a model on a device, measured in full or carried over from another table."""

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from compiler.costing import CostModel, dimensions_of
from compiler.export import ModelWorkbench
from compiler.families import load_checkpoint
from compiler.families.embedded import embedded_model
from compiler.pipeline.costs import Device, check_shapes, find_device, find_table
from compiler.pipeline.graphs import find_templates
from compiler.pipeline.monitor import Monitor
from compiler.pipeline.options import Options
from compiler.pipeline.subject import check_length
from compiler.store import Store, default_root
from profilers import CostTable, Dimensions, MissingCostError, Plan, Workload
from profilers.transfer import MIN_SAMPLES, SAMPLES, TransferError, measure_transfer, nearest_workload
from targets.errors import InputError

TransferErrors = dict[Workload, TransferError]


def _sample_count(base: Path | None, samples: int | None) -> int:
    if base is None and samples is not None:
        raise InputError("--samples says how many networks carry a table over; give that table with --from")
    if samples is not None and samples < MIN_SAMPLES:
        raise InputError(
            f"--samples must be at least {MIN_SAMPLES}, got {samples}: call, attention and FFN each have a factor of their "
            f"own, and one network more must judge them\n{SAMPLES} is what --from measures if left alone"
        )
    return samples or SAMPLES


def _check_base(base: CostTable, name: str, dimensions: Dimensions, device: Device) -> None:
    """TargetError where the base is of another model, InputError where it lacks a piece."""
    for workload in (nearest_workload(base, workload) for workload in device.workloads):
        base.check_fits(dimensions, workload)
        try:
            CostModel.of(base, workload)
        except MissingCostError as error:
            raise InputError(f"{name} is not complete: {error}\nprofile that device again: compile profile") from None


def _transferred(
    base: CostTable, count: int, device: Device, bench: ModelWorkbench, seed: int, monitor: Monitor
) -> tuple[CostTable, TransferErrors]:
    """The base on this device, under each workload from the one of its own that is nearest."""
    assert device.runtime is not None  # noqa: S101  without a table, a device that is not here was refused
    tables: list[CostTable] = []
    errors: TransferErrors = {}
    for workload in device.workloads:
        table, errors[workload] = measure_transfer(
            base,
            nearest_workload(base, workload),
            device.target,
            bench.dimensions,
            workload,
            device.runtime,
            bench,
            device.fingerprint,
            count=count,
            checks=check_shapes(bench.checkpoint.architecture, device.target.size_alignment, seed),
            plan=Plan(),
            seed=seed,
            progress=lambda f: monitor.progress((len(tables) + f) / len(device.workloads)),
        )
        tables.append(table)
    merged = CostTable.merge(tables)
    transfers = [transfer for table in tables for transfer in table.how["transfers"]]
    return replace(merged, how={**merged.how, "transfers": transfers}), errors


def profile(
    target: str,
    *,
    model: str | None,
    batch: int,
    tokens: int,
    threads: int,
    runtime: str | None,
    seed: int,
    base: Path | None = None,
    samples: int | None = None,
    monitor: Monitor,
) -> tuple[CostTable, TransferErrors]:
    """Measure a table now, or adapt `base` to `samples` networks measured now: nothing of earlier runs is used.

    A table that is carried over comes with its errors beside those of the base times one constant. TargetError where
    the device is not here or the base is of another model.
    """
    count = _sample_count(base, samples)
    given = None if base is None else (CostTable.read(base), base.name)
    options = Options(
        model=model or "", target=target, batch=batch, seq_len=tokens, threads=threads, runtime=runtime, seed=seed,
        accept_noisy_table=True,
    )  # fmt: skip
    device = find_device(options)
    monitor.stage("load")
    checkpoint = load_checkpoint(model or str(embedded_model()), task="embedding")
    check_length(checkpoint, tokens)
    if given is not None:
        _check_base(*given, dimensions_of(checkpoint.architecture), device)
    monitor.stage("export dense graph")
    bench = ModelWorkbench(checkpoint, find_templates(checkpoint, Store(default_root()), device.precisions))
    monitor.stage("profile")
    if given is not None:
        return _transferred(given[0], count, device, bench, seed, monitor)
    with TemporaryDirectory() as folder:
        table, _ = find_table(options, device, bench, Store(Path(folder)), monitor.progress)
    return table, {}
