"""One run, stage after stage. Everything expensive is in the store under a hash of its inputs."""

import contextlib
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from compiler.costing import Costs
from compiler.evaluation import Quality, Yardstick
from compiler.export import ModelWorkbench, compare_with_fresh_export
from compiler.pipeline import winners as kept
from compiler.pipeline.costs import Device, find_device, find_table
from compiler.pipeline.demand import find_demand
from compiler.pipeline.front import Outcome, write_run
from compiler.pipeline.graphs import find_templates
from compiler.pipeline.hunt import Found, Hunt, dense_subnet
from compiler.pipeline.limits import ceilings, check_floor
from compiler.pipeline.monitor import Monitor, SilentMonitor
from compiler.pipeline.options import Options
from compiler.pipeline.resources import Resources, model_errors
from compiler.pipeline.subject import Subject, detached, load_subject
from compiler.pipeline.weights import Ranking, Trainer, Weights, fine_tuned, rank, supernet_weights
from compiler.report.html import write_report
from compiler.spaces import Counts, make_space
from compiler.store import Store, default_root, key_of
from compiler.store.store import check_writable
from profilers import CostTable, LayerSizes
from profilers.peak import Peak, measure_peak
from targets import usable_cpus
from targets.errors import InputError


class _Stages:
    """Names the stage to the monitor and takes its time."""

    def __init__(self, monitor: Monitor) -> None:
        self.monitor = monitor
        self.timings_s: dict[str, float] = {}

    @contextlib.contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        self.monitor.stage(name)
        start = time.monotonic()
        yield
        self.timings_s[name] = time.monotonic() - start


@contextlib.contextmanager
def _claimed(out: Path) -> Iterator[None]:
    """The output folder, ours alone while the run lasts. InputError where it cannot be written or another run has it."""
    from filelock import FileLock, Timeout

    check_writable(out, "--out")
    lock = FileLock(out / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise InputError(f"another run is writing to {out}\nwait for it, or choose another folder with --out") from None
    try:
        yield
    finally:
        lock.release()
        (out / ".lock").unlink(missing_ok=True)


def _refuse_own_parts(options: Options) -> None:
    """InputError where the model lies in a run that this one would write over."""
    model, out = Path(options.model).expanduser().resolve(), options.out.resolve()
    if options.model and out in model.parents and (out / "front.json").is_file():
        raise InputError(
            f"{options.model} is part of the run in {options.out}, which this run would write over\n"
            "choose another folder with --out"
        )


def _open_store(options: Options) -> Store:
    root = options.cache or default_root()
    if options.fresh:
        root = Path(tempfile.mkdtemp(prefix="paretoc-"))
    return Store(root)


def compile_model(options: Options, monitor: Monitor | None = None) -> dict[str, Any]:
    """Run the whole way and return the content of `front.json`. Raises a ParetocError for what a user can cause."""
    monitor = monitor or SilentMonitor()
    _refuse_own_parts(options)
    store = _open_store(options)
    try:
        with _claimed(options.out), _threads(), _disk_errors():
            return _Compilation(options, monitor, store).run()
    finally:
        if options.fresh:
            shutil.rmtree(store.root, ignore_errors=True)


@contextlib.contextmanager
def _disk_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno is None or (error.filename is None and error.strerror is None):
            raise
        raise InputError(
            f"writing failed: {error.strerror}\nwhat was computed is kept; start again when there is room"
        ) from None
    except (SafetensorError, RuntimeError) as error:  # what safetensors and torch.save make of a full disk
        reason = str(error).splitlines()[0] if str(error) else ""
        if "I/O error" not in reason and "PytorchStreamWriter" not in reason:
            raise
        raise InputError(
            f"writing failed: {reason}\nwhat was computed is kept; start again when there is room"
        ) from None


@contextlib.contextmanager
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(usable_cpus())
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _Compilation:
    """The stages of one run and what they hand on."""

    def __init__(self, options: Options, monitor: Monitor, store: Store) -> None:
        self.options, self.monitor, self.store = options, monitor, store
        self.stages = _Stages(monitor)

    def run(self) -> dict[str, Any]:
        """All stages, in order."""
        device = find_device(self.options)
        with self.stages("load"):
            subject = load_subject(self.options)
        device = replace(device, demand=find_demand(self.options, subject))
        with self.stages("export dense graph"):
            bench = ModelWorkbench(
                subject.checkpoint,
                find_templates(subject.checkpoint, self.store, device.precisions, self.options.opset),
            )
        with self.stages("profile"):
            table, workload = find_table(self.options, device, bench, self.store, self.monitor.progress)
            device = replace(device, workload=workload)
        resources = Resources(device=device, bench=bench, store=self.store, seed=self.options.seed)
        costs = self._costs(resources, table)
        limits = self._limits(subject, costs, device)
        hunt, ranking = self._weights(subject, costs, bench, device)
        with self.stages("search"):
            front = hunt.search(self.options, ranking, limits, self.monitor)
        return self._emit(subject, device, table, hunt, front, resources, limits)

    def _costs(self, resources: Resources, table: CostTable) -> dict[str, Costs]:
        options = self.options
        models = {"memory", "energy"} & set(options.costs)
        stage = self.stages(f"profile {' and '.join(sorted(models))}") if models else contextlib.nullcontext()
        with stage:
            return resources.costs(table, options.costs, options.budgets.max_latency_s, self.monitor.progress)

    def _limits(self, subject: Subject, costs: Mapping[str, Costs], device: Device) -> dict[str, float]:
        """The budgets as ceilings of the predicted costs. BudgetError where nothing can meet them."""
        shape = subject.checkpoint.architecture.shape
        nothing, dense = Counts.of([(LayerSizes(0, 0),) * len(shape)]), Counts.of([shape])
        least = [costs[precision].of(nothing) for precision in device.precisions]
        floor = {name: min(float(cost[name][0]) for cost in least) for name in least[0]}
        limits = ceilings(self.options.budgets, float(costs["fp32"].of(dense)["latency"][0]))
        check_floor(limits, floor)
        return limits

    def _weights(
        self, subject: Subject, costs: Mapping[str, Costs], bench: ModelWorkbench, device: Device
    ) -> tuple[Hunt, Ranking]:
        trainer = Trainer(subject=subject, store=self.store, options=self.options, monitor=self.monitor)
        start = {n: p.clone() for n, p in detached(dict(subject.checkpoint.model.backbone.named_parameters())).items()}
        if subject.train_dense:
            with self.stages("fine-tune dense model"):
                subject.set_dense(fine_tuned(trainer))
        with self.stages("rank heads and units"):
            ranking = rank(subject, self.monitor, self.options.seed)
        step = device.target.size_alignment
        supernet = None
        if subject.effort == "thorough":
            with self.stages("train super-network"):
                supernet = supernet_weights(trainer, ranking.ordering, step, costs["fp32"].latency, start)
        space = make_space(
            self.options.space, subject.checkpoint.architecture, ordering=ranking.ordering, unit_step=step
        )
        weights = Weights(trainer, ranking, supernet)
        with self.stages("score dense model"):
            yardstick = subject.yardstick(subject.search_split())
        hunt = Hunt(subject, space, costs, device.precisions, bench, weights, yardstick, self.store)
        training = repr(trainer.training_options()) if supernet is not None or subject.train_dense else None
        hunt.about = subject.key(
            examples=len(yardstick.batches), effort=subject.effort, training=training, space=self.options.space, step=step, seed=self.options.seed,
            supernet=supernet is not None, table=key_of(costs["fp32"].latency.table.to_json()["entries"]) if supernet is not None else None,
        )  # fmt: skip
        return hunt, ranking

    def _emit(
        self,
        subject: Subject,
        device: Device,
        table: CostTable,
        hunt: Hunt,
        front: list[Found],
        resources: Resources,
        limits: Mapping[str, float],
    ) -> dict[str, Any]:
        options = self.options
        validation = subject.yardstick(subject.data.validation)
        with self.stages("final weights"):
            nets = self._finished(hunt, front, limits, validation, subject.yardstick(subject.data.test))
        with self.stages("export and check"):
            nets = self._written(nets, hunt, validation)
            if device.target.kind == "gpu":
                nets = [kept.add_recipe(net, device, subject.max_tokens) for net in nets]
            for net in nets:
                kept.add_bundles(net, device, subject.checkpoint)
        if device.here:
            nets = self._measured(nets, subject.effort, hunt, device, resources)
        dense, *winners = nets
        percentile = "p50" if device.demand else options.percentile  # of traffic, the length is the percentile
        verdicts = {w.id: kept.judge(w, dense, options.budgets, percentile) for w in nets}
        keep = kept.KEPT_METRIC if subject.labelled else kept.KEPT_LIKENESS
        best = kept.best_of(winners, dense, verdicts, options.budgets, keep=keep)
        if device.has_clock:
            shown = [best] if subject.effort == "fast" else winners
            winners = self._gridded(winners, shown, dense, hunt.bench, device)
        outcome = Outcome(
            options=options,
            subject=subject,
            device=device,
            table=table,
            costs=hunt.costs,
            dense=dense,
            winners=winners,
            verdicts=verdicts,
            best=next(w for w in winners if w.id == best.id),
            evaluated=list(hunt.found.values()),
            front=front,
            notes=self._notes(subject, device, table, hunt),
            timings_s=self.stages.timings_s,
            model_errors=model_errors(hunt.costs),
            peak=self._peak(device),
        )
        content = write_run(outcome)
        write_report(options.out)
        return content

    def _finished(
        self, hunt: Hunt, front: list[Found], limits: Mapping[str, float], validation: Yardstick, test: Yardstick
    ) -> list[kept.Winner]:
        """The dense network, then those that are kept, fastest first, all with final weights and their metrics."""
        full = dense_subnet(hunt.shapes)
        candidates = [f for f in front if f.subnet.shape != full.shape]
        if not candidates:
            raise InputError("the search found no sub-network beside the dense one\ngive it more --evaluations")
        chosen = kept.choose(candidates, limits, self.options.winners, along=self.options.objectives[0])
        finished = kept.finish(hunt, chosen, self.store, validation, test, self.monitor)
        dense_found = hunt.costed("dense", full, "fp32", Quality(metric=1.0, others={}))
        dense, *elsewhere = (
            kept.scored(hunt, found, hunt.weights.dense, validation, test)
            for found in (dense_found, *kept.dense_elsewhere(hunt, dense_found))
        )
        return [dense, *sorted([*finished, *elsewhere], key=lambda w: w.found.latency_s)]

    def _written(self, nets: Sequence[kept.Winner], hunt: Hunt, validation: Yardstick) -> list[kept.Winner]:
        """The same with their files."""
        written = []
        for net in nets:
            written.append(kept.write(net, self.options.out, hunt, validation))
            self.monitor.progress(len(written) / (len(nets) + 1))
        self._fresh_export(hunt.bench, written[1:])
        return written

    def _measured(
        self, nets: Sequence[kept.Winner], effort: str, hunt: Hunt, device: Device, resources: Resources
    ) -> list[kept.Winner]:
        """The same timed, and whatever else the run asked for."""
        with self.stages("measure artefacts"):
            timed = kept.measure(nets, hunt.bench, device, self.store, self.options, self.monitor, kept.TIMING[effort])
        return self._resources(timed, hunt, device, resources) if device.has_clock else timed

    def _gridded(
        self,
        winners: Sequence[kept.Winner],
        shown: Sequence[kept.Winner],
        dense: kept.Winner,
        bench: ModelWorkbench,
        device: Device,
    ) -> list[kept.Winner]:
        """The winners; those to show with their speed-ups at other workloads."""
        with self.stages("measure grid"):
            measured = kept.measure_grid(shown, dense, bench, device, self.store, self.options, self.monitor)
        gridded = {w.id: w for w in measured}
        return [gridded.get(w.id, w) for w in winners]

    def _resources(
        self, winners: list[kept.Winner], hunt: Hunt, device: Device, resources: Resources
    ) -> list[kept.Winner]:
        """Winners with what else the run asked for, measured; the dense one comes first."""
        wanted = self.options.costs
        alone = sorted({"memory", "energy"} & set(wanted))
        if alone:
            with self.stages(f"measure {' and '.join(alone)}"):
                winners = kept.measure_resources(winners, resources, alone, self.monitor)
        if "throughput" in wanted:
            with self.stages("measure throughput"):
                winners = kept.measure_throughput(
                    winners, winners[0], hunt, device, self.store, self.options, self.monitor
                )
        return winners

    def _peak(self, device: Device) -> Peak | None:
        """The device's own best rates, where there is a device and a clock."""
        if not device.has_clock:
            return None
        with self.stages("measure device peak"):
            return measure_peak(device.target, device.workload.threads)

    def _fresh_export(self, bench: ModelWorkbench, written: Sequence[kept.Winner]) -> None:
        """Compare one network with torch's own export of it: the one of fewest sub-blocks, the soonest exported."""
        winner = min(written, key=lambda w: sum(size > 0 for sizes in w.found.subnet.shape for size in sizes))
        assert winner.artifact is not None  # noqa: S101  it was just written
        key = key_of(["fresh", winner.artifact.sha256])
        if self.store.get("fresh-export", key) is None:
            worst = compare_with_fresh_export(bench, winner.found.subnet, winner.parameters)
            self.store.put("fresh-export", key, worst)

    def _notes(self, subject: Subject, device: Device, table: CostTable, hunt: Hunt) -> list[str]:
        notes = list(subject.notes)
        if hunt.gap is not None:
            notes.append(f"the search started from allocations within --max-memory, solved to a gap of {hunt.gap:.2%}")
        if not device.here:
            notes.append(
                f"{device.target.name} was not here: nothing was measured on it, latencies are predicted ({table.source})"
            )
        if table.source == "null":
            notes.append("the null device has no clock: its times are a closed form, not measurements")
        if table.how.get("too_large"):
            notes.append(f"{len(table.how['too_large'])} networks of the profile did not fit into the device's memory")
        return [*notes, *table.how.get("warnings", ())]
