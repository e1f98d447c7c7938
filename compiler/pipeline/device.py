"""The device of a run, and how it is asked."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product

from compiler.costing import BatchModel, CostModel
from compiler.execution import Executor
from compiler.execution.ray_cluster import OnRay
from compiler.pipeline.demand import Demand
from compiler.pipeline.elsewhere import Elsewhere, find_elsewhere
from compiler.pipeline.options import Options
from profilers import CostTable, Runtime, Workload, make_runtime
from targets import PRECISIONS, Fingerprint, Target, measure_fingerprint, present, shipped_tables
from targets.errors import TargetError

BATCHES = {"cpu": (1, 4, 16), "gpu": (1, 8, 64), "null": (1, 4, 16)}
"""Profiled where throughput is asked for, by kind of device."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """The target of a run and how it is asked; `runtime` is None where the device is not here.

    `precisions` are those searched, the most exact first; fp32 is the baseline of every ratio whether searched or not.
    `batches` are profiled beside the workload's own, to find the one of most sequences a second.
    """

    target: Target
    workload: Workload
    precisions: tuple[str, ...]
    runtime: Runtime | None
    fingerprint: Fingerprint
    demand: Demand | None = None
    batches: tuple[int, ...] = ()

    @property
    def here(self) -> bool:
        """Whether anything can be measured, on this machine or a node of the cluster."""
        return self.runtime is not None

    @property
    def elsewhere(self) -> Elsewhere | None:
        """The runtime of a node of the cluster, where that is what is measured on."""
        return self.runtime if isinstance(self.runtime, Elsewhere) else None

    @property
    def has_clock(self) -> bool:
        """Whether what is measured are times, not the closed form of the null device."""
        return self.runtime is not None and self.runtime.source == "measured"

    def warnings(self) -> Sequence[str]:
        """What the runtime noticed so far."""
        warnings: Sequence[str] = self.runtime.describe()["warnings"] if self.runtime else ()
        return warnings

    @property
    def workloads(self) -> tuple[Workload, ...]:
        """What the table must answer for: fp32 and every precision searched, as files are served and in every batch."""
        precisions = dict.fromkeys(("fp32", *self.precisions))
        asked = [self.served, *(way for batch in self.batches for way in (self.called(batch), self.in_batches(batch)))]
        return tuple(replace(way, precision=p) for p, way in product(precisions, dict.fromkeys(asked)))

    @property
    def served(self) -> Workload:
        """How the finished files are asked: the workload, or what stands for the traffic."""
        return self.called(self.workload.batch)

    def called(self, batch: int) -> Workload:
        """The same in batches of another size."""
        return replace(self.workload, batch=batch, lengths=self.demand.lengths(batch) if self.demand else ())

    def in_batches(self, batch: int) -> Workload:
        """How the finished files are asked for sequences a second."""
        return replace(self.workload, batch=batch, lengths=self.demand.expected(batch) if self.demand else ())

    def costs(self, table: CostTable, narrower: Sequence[CostTable] = ()) -> dict[str, CostModel]:
        """The latency to search on, by precision. `narrower` are tables of the same network at smaller widths."""
        precisions = dict.fromkeys(w.precision for w in self.workloads)
        return {p: _at_widths(table, narrower, replace(self.served, precision=p)) for p in precisions}

    def batch_model(
        self, table: CostTable, precision: str, ceiling_s: float | None, narrower: Sequence[CostTable] = ()
    ) -> BatchModel:
        """Sequences a second by batch; of batches at which the device's memory holds the whole model.

        Under traffic a batch is padded to its longest. The ceiling is held against the percentile that the run asked for.
        """

        def models(ask: Callable[[int], Workload]) -> dict[int, CostModel]:
            asked = {b: replace(ask(b), precision=precision) for b in sorted({self.workload.batch, *self.batches})}
            held = {b: w for b, w in asked.items() if table.holds(table.dimensions.dense, w)}
            return {b: _at_widths(table, narrower, w) for b, w in held.items()}

        return BatchModel(batches=models(self.in_batches), calls=models(self.called), ceiling_s=ceiling_s)


def _at_widths(table: CostTable, narrower: Sequence[CostTable], workload: Workload) -> CostModel:
    return replace(CostModel.of(table, workload), narrower=tuple(CostModel.of(one, workload) for one in narrower))


def _start(options: Options, target: Target) -> Runtime:
    """The runtime asked for, else the target's own; on a GPU the first that starts of those that serve its precision.

    TargetError of the first that was tried where none starts.
    """
    names = [options.runtime] if options.runtime else list(target.runtimes_for(target.precision))
    refused: list[TargetError] = []
    for name in names if target.kind == "gpu" else names[:1]:
        try:
            return make_runtime(name, target)
        except TargetError as error:
            refused.append(error)
    raise refused[0]


def precisions_of(options: Options) -> tuple[str, ...]:
    """The precisions to search, the most exact first. InputError where the device does not run one."""
    target = Target.parse(options.target)
    asked = options.precisions or (target.precision,)
    return tuple(sorted({target.with_precision(p).precision for p in asked}, key=PRECISIONS.index))


def absent(target: Target, why: str = "") -> TargetError:
    """What there is to do about a target that is not here."""
    return TargetError(
        f"{target.name} is not here ({present(target).reason.splitlines()[0]}){why}\n"
        f"run 'compile profile --target {target.name}' on one and give its file with --table, "
        "or accept a datasheet estimate with --accept-modelled"
    )


def find_device(options: Options, executor: Executor | None = None) -> Device:
    """The device asked for, else that of a node of a cluster. TargetError where neither is there and nothing can stand in for it.

    Whether a table that ships fits the model is seen when the model is there (`find_table`).
    """
    target = Target.parse(options.target)
    precisions = precisions_of(options)
    posing = options.runtime == "null" and target.kind != "null"
    here = posing or bool(present(target))
    runtime: Runtime | None = _start(options, target.with_precision(precisions[-1])) if here else None
    fingerprint = measure_fingerprint(target if here and not posing else Target.parse("null"), threads=options.threads)
    if not here and options.table is None and not options.accept_modelled and isinstance(executor, OnRay):
        runtime, fingerprint = find_elsewhere(executor, options, target)
    name = runtime.name if runtime else options.runtime or target.runtime
    if runtime is not None and name != "null":
        for precision in precisions:
            target.with_precision(precision).with_runtime(name)
    workload = Workload(
        batch=options.batch,
        tokens=options.seq_len,
        threads=1 if target.kind == "gpu" else options.threads,
        precision="fp32",
        runtime=name,
        opset=options.opset,
    )
    batches = BATCHES[target.kind] if "throughput" in options.objectives else ()
    if runtime is not None:
        return Device(
            target=target, workload=workload, precisions=precisions, runtime=runtime, fingerprint=fingerprint,
            batches=batches,
        )  # fmt: skip
    if options.table is None and not options.accept_modelled and not shipped_tables(target.name):
        raise absent(target)
    nowhere = measure_fingerprint(Target.parse("null"))
    return Device(
        target=target, workload=workload, precisions=precisions, runtime=None, fingerprint=nowhere, batches=batches
    )


def find_here(options: Options) -> Device:
    """The device asked for, to measure on. TargetError where it is not here."""
    device = find_device(options)
    if not device.here:
        raise absent(device.target)
    return device
