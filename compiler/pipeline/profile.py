"""`compile profile`: a cost table of a model on a device, measured in full or carried over from another table."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from compiler.costing import CostModel, dimensions_of
from compiler.export import ModelWorkbench, is_compiled, load_model, read_origin
from compiler.families import Checkpoint
from compiler.families.checkpoint import resolve
from compiler.families.embedded import embedded_model
from compiler.pipeline.asked import check_length
from compiler.pipeline.device import Device, find_here
from compiler.pipeline.graphs import find_templates
from compiler.pipeline.measuring import CHECK_NETS, BlockRecorder, check_shapes, measure_steadily
from compiler.pipeline.monitor import Monitor
from compiler.pipeline.options import Options
from compiler.store import open_store
from profilers import CostTable, Dimensions, MissingCostError, Plan, Workload
from profilers.transfer import SAMPLES, TransferError, measure_transfer, nearest_workload
from profilers.workload import DEFAULT_OPSET
from targets.bounds import check_number
from targets.errors import InputError


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileOptions:
    """What to profile: every batch at every length, on every number of threads, at every precision.

    `precisions` None is the target's own; fp32, the baseline of every ratio, is always among them. `base` is a table to
    carry over by timing `samples` networks (`SAMPLES` of them if None). The error is taken on `check_nets` networks.
    """

    target: str = "cpu"
    model: str | None = None
    batches: tuple[int, ...] = (1,)
    lengths: tuple[int, ...] = (128,)
    threads: tuple[int, ...] = (1,)
    precisions: tuple[str, ...] | None = None
    runtime: str | None = None
    opset: int = DEFAULT_OPSET
    check_nets: int = CHECK_NETS
    seed: int = 0
    base: Path | None = None
    samples: int | None = None

    def __post_init__(self) -> None:
        _check_list("--batch", self.batches)
        _check_list("--seq-len", self.lengths)
        _check_list("--threads", self.threads)
        check_number("--check-nets", self.check_nets)
        check_number("--seed", self.seed)
        if self.base is None and self.samples is not None:
            raise InputError("--samples says how many networks carry a table over; give that table with --from")
        check_number(
            "--samples", self.samples
        )  # call, attention and FFN each have a factor, and one more must judge them

    def runs(self) -> list[Options]:
        """One for every batch, length and number of threads. InputError where one of them is below 1."""
        return [
            Options(
                model=self.model or "", target=self.target, precisions=self.precisions, batch=batch, seq_len=tokens,
                threads=threads, runtime=self.runtime, opset=self.opset,
            )
            for batch, tokens, threads in product(self.batches, self.lengths, self.threads)
        ]  # fmt: skip


def _check_list(flag: str, values: Sequence[int]) -> None:
    for value in values:
        check_number(flag, value)
    if not values or len(set(values)) != len(values):
        raise InputError(f"{flag} must name each number once, got {','.join(map(str, values)) or 'none'}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """A table of each workload and, of those carried over, how far they and the base times one constant were off."""

    parts: Sequence[CostTable]
    transfers: Mapping[Workload, TransferError]

    @property
    def table(self) -> CostTable:
        """All parts as one."""
        return CostTable.merge(self.parts)


class _Base:
    """A table to carry over to this device, under each workload from the one of its own that is nearest."""

    def __init__(self, path: Path) -> None:
        """InputError where the file is no table."""
        self.table, self.name = CostTable.read(path), path.name

    def check(self, dimensions: Dimensions, workload: Workload) -> None:
        """TargetError where the table is of another model, InputError where it lacks a piece."""
        nearest = nearest_workload(self.table, workload)
        self.table.check_fits(dimensions, nearest)
        try:
            CostModel.of(self.table, nearest)
        except MissingCostError as error:
            raise InputError(
                f"{self.name} is not complete: {error}\nprofile that device again: compile profile"
            ) from None

    def carried_over(
        self,
        options: ProfileOptions,
        device: Device,
        workload: Workload,
        bench: ModelWorkbench,
        progress: Callable[[float], None],
    ) -> tuple[CostTable, TransferError]:
        """The table of one workload here, and how far off it is."""
        assert device.runtime is not None  # noqa: S101  a device that is not here was refused
        architecture, step = bench.checkpoint.architecture, device.target.size_alignment
        return measure_transfer(
            self.table,
            nearest_workload(self.table, workload),
            device.target,
            bench.dimensions,
            workload,
            device.runtime,
            bench,
            device.fingerprint,
            count=options.samples or SAMPLES,
            checks=check_shapes(architecture, step, options.seed, options.check_nets),
            plan=Plan(),
            seed=options.seed,
            progress=progress,
        )


def _load(options: ProfileOptions) -> Checkpoint:
    """The model as an embedding model, whose costs are those of any task; a compiled one as what it is."""
    folder = resolve(options.model) if options.model else embedded_model()
    return load_model(folder, task=read_origin(folder).task if is_compiled(folder) else "embedding")


def profile(options: ProfileOptions, monitor: Monitor) -> Profile:
    """Measure tables now, or adapt the base to networks measured now: nothing of earlier runs is used.

    TargetError where the device is not here or the base is of another model.
    """
    base = None if options.base is None else _Base(options.base)
    devices = {workload: device for device in map(find_here, options.runs()) for workload in device.workloads}
    monitor.stage("load")
    checkpoint = _load(options)
    check_length(checkpoint, max(options.lengths))
    if base is not None:
        for workload in devices:
            base.check(dimensions_of(checkpoint.architecture), workload)
    monitor.stage("export dense graph")
    precisions = {workload.precision for workload in devices}
    templates = find_templates(checkpoint, open_store(), precisions, options.opset)
    bench = ModelWorkbench(checkpoint, templates)
    monitor.stage("profile")
    parts: list[CostTable] = []
    transfers: dict[Workload, TransferError] = {}

    def progress(fraction: float) -> None:
        monitor.progress((len(parts) + fraction) / len(devices))

    for workload, device in devices.items():
        if base is None:
            part = measure_steadily(
                device, workload, bench, seed=options.seed, check_nets=options.check_nets, recorder=BlockRecorder(),
                progress=progress,
            )  # fmt: skip
        else:
            part, transfers[workload] = base.carried_over(options, device, workload, bench, progress)
        parts.append(part)
    return Profile(parts=parts, transfers=transfers)
