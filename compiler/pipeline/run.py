"""One model for one target or several, stage after stage. Everything expensive is in the store under a hash of its inputs."""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from compiler.costing import Costs
from compiler.data import description_lines
from compiler.evaluation import Quality
from compiler.execution import ComputeDevice, Executor, on_host
from compiler.export import ModelWorkbench, compare_with_fresh_export
from compiler.pipeline import file_times, verdicts
from compiler.pipeline import winners as kept
from compiler.pipeline.choice import choose, shortfalls
from compiler.pipeline.costs import find_narrower_tables, find_table
from compiler.pipeline.demand import find_demand
from compiler.pipeline.dense_check import dense_doubt
from compiler.pipeline.device import Device, find_device
from compiler.pipeline.exceptions import Exceptions, find_exceptions
from compiler.pipeline.executors import executor_of
from compiler.pipeline.front import Outcome, write_run
from compiler.pipeline.graphs import find_templates, template_key
from compiler.pipeline.hunt import Found, Hunt, dense_subnet
from compiler.pipeline.judge import AS_SERVED
from compiler.pipeline.learned import Learned, learn
from compiler.pipeline.learner import learning_subject
from compiler.pipeline.limits import ceilings, check_floor
from compiler.pipeline.measuring import check_shapes
from compiler.pipeline.monitor import Monitor, Notes, SilentMonitor, Stages, part, rising
from compiler.pipeline.options import Options
from compiler.pipeline.outfolder import writing
from compiler.pipeline.resources import Resources, model_errors
from compiler.pipeline.subject import Subject, load_subject
from compiler.pipeline.training import Trainer
from compiler.pipeline.workplace import workplace
from compiler.report.html import write_report
from compiler.report.manifest import write_manifest
from compiler.spaces import Counts, Form, make_space
from compiler.store import Store, key_of
from profilers import CostTable, LayerSizes
from profilers.peak import Peak, measure_peak
from targets.errors import BudgetError, InputError


def compile_model(options: Options, monitor: Monitor | None = None) -> dict[str, Any]:
    """Run the whole way and return the content of `front.json`. Raises a ParetocError for what a user can cause.

    Under torchrun the first process calls this, the others `compiler.supernet.follow`.
    """
    with workplace(options) as store:
        (run,) = compile_each([options], store, monitor or SilentMonitor())
    if run.missed is not None:
        raise run.missed
    return run.content


def compile_each(each: Sequence[Options], store: Store, monitor: Monitor) -> "list[Compilation]":
    """One run a target; options differ in target, table and output folder only. What no target has a part in is made once.

    A target whose budget nothing meets does not stop the others: its run keeps the BudgetError.
    """
    with executor_of(each, store) as executor:
        return _compile_each(each, store, rising(monitor), executor)


def _compile_each(each: Sequence[Options], store: Store, monitor: Monitor, executor: Executor) -> "list[Compilation]":
    devices = [find_device(options, executor) for options in each]
    compute = ComputeDevice.find("cpu" if each[0].ray else each[0].device)
    stages, notes = Stages(monitor), Notes(monitor)
    precisions = {precision for device in devices for precision in device.precisions}
    with stages("load"):
        subject = load_subject(each[0])
        monitor.note("\n".join(description_lines(subject.data, notes=False)))
        texts = subject.range_texts(precisions)
        exported, (subject, said) = subject.checkpoint, learning_subject(subject, compute)
    doubt = None
    if subject.task.learns_from_labels and not subject.train_dense:
        with stages("score dense model"):
            doubt = dense_doubt(Trainer(subject=subject, store=store, options=each[0], monitor=monitor))
    notes.say(*filter(None, [doubt]))
    notes.say(*subject.notes, *said)
    demand = find_demand(each[0], subject)
    with stages("export dense graph"):
        narrow = each[0].space == "width"
        templates = find_templates(exported, store, precisions, each[0].opset, narrow=narrow)
        bench = ModelWorkbench(exported, templates, texts)
    runs = []
    for options, device in zip(each, devices, strict=True):
        own = Stages(monitor, of=_of(options, each)), Notes(monitor, said=notes.texts)
        runs.append(Compilation(options, replace(device, demand=demand), bench, store, *own))
    for run in runs:
        run.attempt(lambda run: run.profile(subject))
    if not all(run.missed for run in runs):
        learned = learn(subject, store, each[0], stages, executor)
        for run in runs:
            run.attempt(lambda run: run.finish(learned, stages.timings_s))
    return runs


def _of(options: Options, each: Sequence[Options]) -> str:
    """What tells a stage of this run from the same one of another."""
    return options.target if len(each) > 1 else ""


class Compilation:
    """The stages of one target and what they hand on; in the end `content` of its front.json, or why it was `missed`."""

    table: CostTable
    resources: Resources
    costs: Mapping[str, Costs]
    limits: Mapping[str, float]
    hunt: Hunt
    best: Found

    def __init__(
        self,
        options: Options,
        device: Device,
        bench: ModelWorkbench,
        store: Store,
        stages: Stages,
        notes: Notes,
    ) -> None:
        self.options, self.device, self.bench, self.store = options, device, bench, store
        self.stages, self.monitor, self.notes = stages, stages.monitor, notes
        self.missed: BudgetError | None = None
        self.content: dict[str, Any] = {}

    def attempt(self, step: "Callable[[Compilation], None]") -> None:
        """Go on, unless it is known already that nothing meets the budget."""
        if self.missed is None:
            try:
                step(self)
            except BudgetError as error:
                self.missed = error

    def profile(self, subject: Subject) -> None:
        """What sub-networks cost, and the most that they may."""
        with self.stages("profile"):
            first = 1 / 3 if self.options.space == "width" else 1.0  # there two narrower tables follow
            told = part(self.monitor.progress, 0.0, first), part(self.monitor.progress, first, 1 - first)
            self.table, workload = find_table(self.options, self.device, self.bench, self.store, told[0])
            self.device = replace(self.device, workload=workload)
            self.narrower = find_narrower_tables(self.options, self.device, self.bench, self.store, told[1])
        self.resources = Resources(device=self.device, bench=self.bench, store=self.store, seed=self.options.seed)
        self.costs = self._costs()
        self.notes.say(*self._notes_of_costs(), *self._notes_of_widths())
        self.limits = self._limits(subject)

    def finish(self, learned: Learned, timings_s: Mapping[str, float]) -> None:
        """Search, and write what was found; `timings_s` are those of the stages before."""
        space = make_space(
            self.options.space, learned.subject.checkpoint.architecture, ordering=learned.ranking.ordered(self.options.order),
            unit_step=self.device.target.size_alignment,
        )  # fmt: skip
        if learned.doubt is not None and learned.doubt not in self.notes.texts:
            self.notes.texts.insert(0, learned.doubt)  # first of all, whenever it arose
        exceptions = self._exceptions(learned)
        self.hunt = Hunt(learned, space, self.costs, self.device.precisions, self.bench, self.store, exceptions)
        self.notes.say(
            *(
                f"8 bits cost {', '.join(map(str, form.exceptions))} most: {form.precision} is searched with and without"
                for form in self.hunt.forms
                if form.exceptions
            )
        )
        with self.stages("search"):
            front = self.hunt.search(self.options, self.limits, self.monitor)
        self.notes.say(*self._notes_of_search())
        self.content = self._emit(front, timings_s)

    def _exceptions(self, learned: Learned) -> dict[str, Exceptions]:
        """Sub-blocks that suffer at a precision that is judged as it is served."""
        quantised = [precision for precision in self.device.precisions if precision in AS_SERVED]
        if not quantised:
            return {}
        with self.stages("find exceptions"):
            share = 1 / len(quantised)
            return {
                p: find_exceptions(learned, self.bench, p, self.store, part(self.monitor.progress, i * share, share))
                for i, p in enumerate(quantised)
            }

    def _costs(self) -> dict[str, Costs]:
        options = self.options
        models = {"memory", "energy"} & set(options.costs)
        stage = self.stages(f"profile {' and '.join(sorted(models))}") if models else contextlib.nullcontext()
        with stage:
            return self.resources.costs(
                self.table, options.costs, options.budgets.max_latency_s, self.monitor.progress, self.narrower
            )

    def _limits(self, subject: Subject) -> dict[str, float]:
        """The budgets as ceilings of the predicted costs. BudgetError where nothing can meet them."""
        shape = subject.checkpoint.architecture.shape
        nothing, dense = Counts.of([(LayerSizes(0, 0),) * len(shape)]), Counts.of([shape])
        if self.narrower:
            nothing = nothing._replace(widths=np.array([min(t.dimensions.hidden_size for t in self.narrower)]))
        least = [self.costs[precision].of(nothing) for precision in self.device.precisions]
        floor = {name: min(float(cost[name][0]) for cost in least) for name in least[0]}
        limits = ceilings(self.options.budgets, float(self.costs["fp32"].of(dense)["latency"][0]))
        check_floor(limits, floor)
        return limits

    def _emit(self, front: list[Found], timings_s: Mapping[str, float]) -> dict[str, Any]:
        options, device, subject = self.options, self.device, self.hunt.subject
        with self.stages("final weights"):
            nets = self._finished(front)
        with self.stages("export and check"):
            nets = self._written(nets)
            if device.target.kind == "gpu":
                nets = [kept.add_recipe(net, device, subject.checkpoint.max_tokens) for net in nets]
            for net in nets:
                kept.add_bundles(net, device, subject.checkpoint)
            nets = kept.installed(nets, options.out)
        if device.here:
            nets = self._measured(nets)
        dense, *winners = nets
        percentile = "p50" if device.demand else options.percentile  # of traffic, the length is the percentile
        judged = {w.id: verdicts.judge(w, dense, options.budgets, percentile) for w in nets}
        keep = verdicts.kept_share(subject.task, options.budgets)
        best = verdicts.best_of(winners, dense, judged, options.budgets, keep=keep)
        reserved = verdicts.reservation(
            best, dense, options.budgets, subject.metric.name.replace("_", " "), keep=keep, units=subject.task.units
        )
        self.notes.say(*filter(None, [reserved]))
        self.best = best.found
        if device.has_clock:
            winners = self._gridded(winners, best, dense)
        peak = self._peak()
        outcome = Outcome(
            options=options,
            subject=subject,
            device=device,
            table=self.table,
            costs_of=self.hunt.costs_of,
            dense=dense,
            winners=winners,
            verdicts=judged,
            best=next(w for w in winners if w.id == best.id),
            evaluated=list(self.hunt.found.values()),
            front=front,
            notes=self._said(),
            timings_s={**timings_s, **self.stages.timings_s},
            model_errors=model_errors(self.costs),
            peak=peak,
            training=self.hunt.learned.weights.trainer.log,
            doubt=self.hunt.learned.doubt,
        )
        content = write_run(outcome)
        write_report(options.out)
        write_manifest(options.out, [net.id for net in nets])
        return content

    def _finished(self, front: list[Found]) -> list[kept.Winner]:
        """The dense network, then those that are kept, fastest first, all with final weights and their metrics."""
        hunt = self.hunt
        full = dense_subnet(hunt.shapes)
        candidates = [f for f in front if (f.subnet.shape, f.subnet.width) != (full.shape, None)]
        if not candidates:
            raise InputError("the search found no sub-network beside the dense one\ngive it more --evaluations")
        asked = self.options.winners
        chosen = choose(candidates, self.limits, asked, along=self.options.objectives[0])
        dense_s = float(self.costs["fp32"].of(full.counts)["latency"][0])
        self.notes.say(*shortfalls(chosen, self.limits, asked, dense_s))
        finished = kept.finish(hunt, chosen, self.monitor)
        dense_found = hunt.costed("dense", full, Form("fp32"), Quality(metric=1.0, others={}))
        dense, *elsewhere = (
            kept.scored(hunt, found, lambda: on_host(hunt.learned.weights.dense))
            for found in (dense_found, *kept.dense_elsewhere(hunt, dense_found))
        )
        return kept.compared([dense, *sorted([*finished, *elsewhere], key=lambda w: w.found.latency_s)], dense, hunt)

    def _written(self, nets: Sequence[kept.Winner]) -> list[kept.Winner]:
        """The same with their files."""
        written = []
        for net in nets:
            written.append(kept.write(net, writing(self.options.out), self.hunt, self.options.budgets))
            self.monitor.progress(len(written) / (len(nets) + 1))
        self._fresh_export(written[1:])
        return written

    def _measured(self, nets: Sequence[kept.Winner]) -> list[kept.Winner]:
        """The same timed, and whatever else the run asked for."""
        plan = file_times.TIMING[self.hunt.subject.effort]
        with self.stages("measure artefacts"):
            timed = file_times.measure(nets, self.bench, self.device, self.store, self.options, self.monitor, plan)
        return self._resources(timed) if self.device.has_clock else timed

    def _gridded(self, winners: Sequence[kept.Winner], best: kept.Winner, dense: kept.Winner) -> list[kept.Winner]:
        """The winners; the best with its speed-ups at other workloads, whatever the effort and however many there are."""
        with self.stages("measure grid"):
            (measured,) = file_times.measure_grid(
                [best], dense, self.bench, self.device, self.store, self.options, self.monitor
            )
        return [measured if w.id == best.id else w for w in winners]

    def _resources(self, winners: list[kept.Winner]) -> list[kept.Winner]:
        """Winners with what else the run asked for, measured; the dense one comes first."""
        wanted = self.options.costs
        alone = sorted({"memory", "energy"} & set(wanted))
        if alone:
            with self.stages(f"measure {' and '.join(alone)}"):
                winners = file_times.measure_resources(winners, self.resources, alone, self.monitor)
        if "throughput" in wanted:
            with self.stages("measure throughput"):
                winners = file_times.measure_throughput(
                    winners, winners[0], self.hunt, self.device, self.store, self.options, self.monitor
                )
        return winners

    def _peak(self) -> Peak | None:
        """The device's own best rates, where there is a device and a clock."""
        if not self.device.has_clock or self.device.elsewhere:
            return None
        with self.stages("measure device peak"):
            return measure_peak(self.device.target, self.device.workload.threads)

    def _fresh_export(self, written: Sequence[kept.Winner]) -> None:
        """Compare one network with torch's own export of it, once for a template: the one of fewest sub-blocks, the soonest exported."""
        winner = min(written, key=lambda w: sum(size > 0 for sizes in w.found.subnet.shape for size in sizes))
        narrow, checkpoint = self.options.space == "width", self.bench.checkpoint
        key = key_of(["fresh", template_key(checkpoint, self.options.opset, narrow=narrow)])
        if self.store.get("fresh-export", key) is None:
            worst = compare_with_fresh_export(self.bench, winner.found.subnet, winner.read())
            self.store.put("fresh-export", key, worst)

    def _notes_of_costs(self) -> list[str]:
        """What there is to know of the times that the search goes by."""
        device, table, notes = self.device, self.table, list[str]()
        if not device.here:
            notes.append(
                f"{device.target.name} was not here: nothing was measured on it, latencies are predicted ({table.source})"
            )
        if table.source == "null":
            notes.append("the null device has no clock: its times are a closed form, not measurements")
        if table.how.get("too_large"):
            notes.append(f"{len(table.how['too_large'])} networks of the profile did not fit into the device's memory")
        return [*notes, *table.how.get("warnings", ()), *self._warnings()]

    def _warnings(self) -> Sequence[str]:
        """What the runtime noticed so far."""
        return self.device.runtime.describe()["warnings"] if self.device.runtime else ()

    def _notes_of_search(self) -> list[str]:
        """What there is to know of how candidates were found."""
        notes = []
        if self.hunt.gap is not None:
            notes.append(
                f"the search started from allocations within --max-memory, solved to a gap of {self.hunt.gap:.2%}"
            )
        evaluated = list(self.hunt.found.values())
        if any(found.trained < 1 for found in evaluated):
            full = sum(found.trained == 1 for found in evaluated)
            notes.append(
                f"each sub-network was trained on its own: {full} of {len(evaluated)} for all epochs, the others for less"
            )
        return notes

    def _said(self) -> list[str]:
        """Every note, with what the runtime noticed to the end."""
        self.notes.say(*self._warnings())
        return self.notes.texts

    def _notes_of_widths(self) -> list[str]:
        """Where costs of narrow networks are from, and how far the line between two tables is off at one between them."""
        if not self.narrower:
            return []
        tables = sorted((self.table, *self.narrower), key=lambda table: table.dimensions.hidden_size)
        *narrow, whole = (str(table.dimensions.hidden_size) for table in tables)
        step = self.device.target.size_alignment
        shapes = Counts.of(check_shapes(self.bench.checkpoint.architecture, step, self.options.seed))
        off = [f"{bend:.1%}" for bend in self.costs["fp32"].latency.bends(shapes)]
        told = f"; left out, the one in the middle is {off[0]} off the line between its neighbours" if off else ""
        own = f"networks of {' and '.join(narrow)} residual dimensions (of {whole}) have a cost table of their own"
        return [f"{own}, between them costs are interpolated{told}"]
