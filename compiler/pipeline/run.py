"""One model for one target or several, stage after stage. Everything expensive is in the store under a hash of its inputs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ParamSpec, TypeVar

from compiler.data import description_lines
from compiler.execution import ComputeDevice, Executor
from compiler.export import ModelWorkbench
from compiler.pipeline.demand import find_demand
from compiler.pipeline.dense_check import dense_doubt
from compiler.pipeline.device import Device, find_device
from compiler.pipeline.executors import executor_of
from compiler.pipeline.front import Outcome, write_run
from compiler.pipeline.graphs import find_templates
from compiler.pipeline.learned import Learned, learn
from compiler.pipeline.learner import learning_subject
from compiler.pipeline.monitor import Monitor, Notes, SilentMonitor, Stages, rising
from compiler.pipeline.networks import Measured
from compiler.pipeline.options import Options
from compiler.pipeline.resources import model_errors
from compiler.pipeline.stages.context import Context
from compiler.pipeline.stages.export import export
from compiler.pipeline.stages.finalise import finalise
from compiler.pipeline.stages.measure import measure, measure_device_peak, measure_grid
from compiler.pipeline.stages.profile import Profiled, profile
from compiler.pipeline.stages.search import Searched, search
from compiler.pipeline.stages.select import Selected, select
from compiler.pipeline.subject import Subject, load_subject
from compiler.pipeline.training import Trainer
from compiler.pipeline.workplace import workplace
from compiler.report.html import write_report
from compiler.report.manifest import write_manifest
from compiler.store import Store
from targets.errors import BudgetError

P = ParamSpec("P")
Output = TypeVar("Output")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """One target's run that is over: what its stages gave, the best network, and the content of its front.json."""

    context: Context
    profiled: Profiled
    learned: Learned
    searched: Searched
    best: Measured
    content: Mapping[str, Any]

    @property
    def device(self) -> Device:
        """The target, and how it is asked."""
        return self.profiled.device


@dataclass(frozen=True, slots=True)
class Missed:
    """A target whose budget nothing meets, and the error that says so."""

    device: Device
    error: BudgetError


def compile_model(options: Options, monitor: Monitor | None = None) -> dict[str, Any]:
    """Run the whole way and return the content of `front.json`. Raises a ParetocError for what a user can cause.

    Under torchrun the first process calls this, the others `compiler.supernet.follow`.
    """
    with workplace(options) as store:
        (run,) = compile_each([options], store, monitor or SilentMonitor())
    if isinstance(run, Missed):
        raise run.error
    return dict(run.content)


def compile_each(each: Sequence[Options], store: Store, monitor: Monitor) -> list[Finished | Missed]:
    """One run a target; options differ in target, table and output folder only. What no target has a part in is made once.

    A target whose budget nothing meets does not stop the others.
    """
    with executor_of(each, store) as executor:
        return _compile_each(each, store, rising(monitor), executor)


def _compile_each(
    each: Sequence[Options], store: Store, monitor: Monitor, executor: Executor
) -> list[Finished | Missed]:
    devices = [find_device(options, executor) for options in each]
    compute = ComputeDevice.find("cpu" if each[0].ray else each[0].device)
    stages, notes = Stages(monitor), Notes(monitor)
    precisions = {precision for device in devices for precision in device.precisions}
    with stages("load"):
        subject = load_subject(each[0])
        monitor.note("\n".join(description_lines(subject.data, notes=False)))
        texts = subject.range_texts(precisions)
        exported, (subject, said) = subject.checkpoint, learning_subject(subject, compute)
    notes.say(*_doubts(subject, store, each[0], stages), *subject.notes, *said)
    demand = find_demand(each[0], subject)
    with stages("export dense graph"):
        narrow = each[0].space == "width"
        templates = find_templates(exported, store, precisions, each[0].opset, narrow=narrow)
        bench = ModelWorkbench(exported, templates, texts)
    contexts = [
        Context(
            options=options, bench=bench, store=store, stages=Stages(monitor, of=_of(options, each)),
            notes=Notes(monitor, said=notes.texts),
        )
        for options in each
    ]  # fmt: skip
    devices = [replace(device, demand=demand) for device in devices]
    profiled = [_attempted(device, profile, context, device) for context, device in zip(contexts, devices, strict=True)]
    if all(isinstance(one, Missed) for one in profiled):
        return [one for one in profiled if isinstance(one, Missed)]
    learned = learn(subject, store, each[0], stages, executor)
    return [
        one if isinstance(one, Missed) else _attempted(one.device, _finish, context, one, learned, stages.timings_s)
        for context, one in zip(contexts, profiled, strict=True)
    ]


def _doubts(subject: Subject, store: Store, options: Options, stages: Stages) -> list[str]:
    """Why a dense model with a trained head is not to be trusted, where it is not."""
    if not subject.task.learns_from_labels or subject.train_dense:
        return []
    with stages("score dense model"):
        doubt = dense_doubt(Trainer(subject=subject, store=store, options=options, monitor=stages.monitor))
    return [] if doubt is None else [doubt]


def _of(options: Options, each: Sequence[Options]) -> str:
    """What tells a stage of this run from the same one of another."""
    return options.target if len(each) > 1 else ""


def _attempted(device: Device, step: Callable[P, Output], *args: P.args, **kwargs: P.kwargs) -> Output | Missed:
    """What a step gives, or that nothing meets the budget."""
    try:
        return step(*args, **kwargs)
    except BudgetError as error:
        return Missed(device, error)


def _finish(context: Context, profiled: Profiled, learned: Learned, timings_s: Mapping[str, float]) -> Finished:
    """The stages after learning; `timings_s` are those of the stages before."""
    device, subject = profiled.device, learned.subject
    if learned.doubt is not None and learned.doubt not in context.notes.texts:
        context.notes.texts.insert(0, learned.doubt)  # first of all, whenever it arose
    searched = search(context, profiled, learned)
    finalists = finalise(context, profiled, learned, searched)
    exported = export(context, device, learned, finalists)
    measured = measure(context, device, profiled.pricing, subject.effort, exported)
    selected = select(context, device, subject, measured)
    content = _write(context, profiled, learned, searched, selected, timings_s)
    return Finished(
        context=context, profiled=profiled, learned=learned, searched=searched, best=selected.best, content=content
    )


def _write(
    context: Context,
    profiled: Profiled,
    learned: Learned,
    searched: Searched,
    selected: Selected,
    timings_s: Mapping[str, float],
) -> dict[str, Any]:
    """Stage "write": front.json and all that is made of it, after what is measured of the best network alone."""
    device, out = profiled.device, context.options.out
    grid = measure_grid(context, device, selected.best, selected.dense)
    peak = measure_device_peak(context, device)
    context.notes.say(*device.warnings())  # what the runtime noticed to the end
    content = write_run(
        Outcome(
            options=context.options,
            subject=learned.subject,
            device=device,
            table=profiled.table,
            pricing=profiled.pricing,
            dense=selected.dense,
            winners=selected.others,
            verdicts=selected.verdicts,
            best=selected.best,
            grid=grid,
            evaluated=searched.evaluated,
            front=searched.front,
            notes=context.notes.texts,
            timings_s={**timings_s, **context.stages.timings_s},
            model_errors=model_errors(profiled.pricing.costs),
            peak=peak,
            training=learned.weights.trainer.log,
            doubt=learned.doubt,
        )
    )
    write_report(out)
    write_manifest(out, [network.id for network in (selected.dense, *selected.others)])
    return content
