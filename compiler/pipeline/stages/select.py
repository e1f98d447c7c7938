"""Stage "select": the networks held against the budgets, and the one that `best` names."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from compiler.pipeline import verdicts
from compiler.pipeline.device import Device
from compiler.pipeline.networks import Measured
from compiler.pipeline.stages.context import Context
from compiler.pipeline.subject import Subject
from compiler.pipeline.verdicts import Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Selected:
    """The dense network, the others, fastest first, each one's verdict by name, and the best."""

    dense: Measured
    others: tuple[Measured, ...]
    verdicts: Mapping[str, Verdict]
    best: Measured


def select(context: Context, device: Device, subject: Subject, measured: Sequence[Measured]) -> Selected:
    """Judge every network, the dense one first among them. BudgetError where none meets the budgets."""
    budgets, task = context.options.budgets, subject.task
    dense, *others = measured
    percentile = "p50" if device.demand else context.options.percentile  # of traffic, the length is the percentile
    judged = {network.id: verdicts.judge(network, dense, budgets, percentile) for network in measured}
    keep = verdicts.kept_share(task, budgets)
    best = verdicts.best_of(others, dense, judged, budgets, keep=keep)
    metric = subject.metric.name.replace("_", " ")
    reserved = verdicts.reservation(best, dense, budgets, metric, keep=keep, units=task.units)
    context.notes.say(*filter(None, [reserved]))
    return Selected(dense=dense, others=tuple(others), verdicts=judged, best=best)
