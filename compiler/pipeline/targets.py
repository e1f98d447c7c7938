"""One model, many targets: trained once, searched for each, and what the winner of one costs on another."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Any

from compiler.pipeline.judge import Judge
from compiler.pipeline.monitor import Monitor, SilentMonitor
from compiler.pipeline.networks import Evaluated
from compiler.pipeline.options import Options
from compiler.pipeline.run import Finished, Missed, compile_each
from compiler.pipeline.workplace import workplace
from compiler.report.comparison import SCHEMA_VERSION, Comparison, Misplaced, Outcome, write_comparison
from compiler.report.schema import this_tool
from profilers import CostTable
from targets import Target
from targets.errors import BudgetError, InputError


def compile_targets(
    options: Options, targets: Sequence[str], tables: Sequence[Path] = (), monitor: Monitor | None = None
) -> Comparison:
    """Run the whole way for each target, into a folder of its own below `options.out`; the content of `targets.json`.

    Each table goes to the target it was measured on. A target whose budget nothing meets does not stop the others
    (`check_targets`). Raises a ParetocError for what a user can cause.
    """
    each = options_of(options, targets, tables)
    with workplace(options, each) as store:
        runs = compile_each(each, store, monitor or SilentMonitor())
    found = compare(runs)
    write_comparison(options.out, found)
    return found


def check_targets(found: Comparison) -> None:
    """BudgetError that names the targets whose budget nothing meets."""
    missed = {outcome["target"]: outcome["missed"] for outcome in found["targets"] if outcome["missed"]}
    if missed:
        reasons = "; ".join(f"{name}: {' '.join(reason.splitlines())}" for name, reason in missed.items())
        raise BudgetError(f"{len(missed)} of {len(found['targets'])} targets have no network for the budget\n{reasons}")


def options_of(options: Options, targets: Sequence[str], tables: Sequence[Path]) -> list[Options]:
    """The options of each target. InputError where a device is named twice, or a table is of none of them."""
    names = [Target.parse(target).name for target in targets]
    if len(set(names)) != len(names):
        raise InputError(
            f"--target names a device twice: {', '.join(targets)}\nseveral precisions of one are searched with --precision"
        )
    tables_of: dict[str, Path] = {}
    for path in tables:
        name = Target.parse(CostTable.read(path).target).name
        if name not in names or name in tables_of:
            known = "that has a table already" if name in tables_of else f"the targets are {', '.join(names)}"
            raise InputError(f"--table {path.name} was measured on {name}: {known}\ngive one table a target at most")
        tables_of[name] = path
    return [
        replace(options, target=target, table=tables_of.get(name), out=options.out / name)
        for target, name in zip(targets, names, strict=True)
    ]


def compare(runs: Sequence[Finished | Missed]) -> Comparison:
    """What each target got, and for each pair what the best of one costs on the other."""
    finished = [run for run in runs if isinstance(run, Finished)]
    lower = any(not run.content["metric"]["higher_is_better"] for run in finished)
    found: Comparison = {
        "schema": SCHEMA_VERSION,
        "tool": this_tool(),
        "model": finished[0].content["model"]["name"] if finished else "",
        "metric": finished[0].content["metric"]["name"] if finished else "",
        "doubt": finished[0].content["doubt"] if finished else None,
        "targets": [_outcome(run) for run in runs],
        "misplaced": [misplaced(there, of) for of, there in permutations(finished, 2)],
    }
    if lower:
        found["higher_is_better"] = False
    return found


def _outcome(run: Finished | Missed) -> Outcome:
    name = run.device.target.name
    if isinstance(run, Missed):
        return {"target": name, "folder": name, "missed": str(run.error), "best": None}
    return {"target": name, "folder": name, "missed": None, "best": _best(run.content)}


def _best(front: Mapping[str, Any]) -> Any:
    return next(c for c in front["candidates"] if c["id"] == front["best"])


def misplaced(run: Finished, other: Finished) -> Misplaced:
    """The best network of another target's run as a candidate of this one: costs by this target's table alone.

    It is judged in the form of this target's own best, with the weights and examples of the search, as all
    candidates it is held against; where none of them is as good, or as fast, it is held against itself.
    """
    own_best, pricing = run.best, run.profiled.pricing
    subnet, trained, form = other.best.subnet, other.best.trained, own_best.form.of(other.best.subnet.shape)
    judge = Judge(run.learned, run.context.bench, run.context.store)
    stranger = pricing.evaluated(other.best.id, subnet, form, judge.quality(subnet, form, trained), trained)
    beside = [*run.searched.evaluated, stranger]
    as_good = min((f for f in beside if f.quality.error <= stranger.quality.error), key=lambda f: f.latency_s)
    as_fast = min((f for f in beside if f.latency_s <= stranger.latency_s), key=lambda f: f.quality.error)
    return {
        "on": run.device.target.name,
        "of": other.device.target.name,
        "same_shape": (subnet.shape, subnet.width) == (own_best.subnet.shape, own_best.subnet.width),
        "precision": form.precision,
        "source": pricing.of(form).estimate(subnet.shape, subnet.width).source,
        "stranger": _point(stranger),
        "own_best": _point(own_best),
        "as_good": _point(as_good),
        "as_fast": _point(as_fast),
        "slower": stranger.latency_s / as_good.latency_s - 1,
        "worse": stranger.quality.error - as_fast.quality.error,
        "over_budget": any(stranger.costs[name] > limit for name, limit in run.profiled.limits.items()),
    }


def _point(network: Evaluated) -> Any:
    return {"id": network.id, "predicted_ms": network.latency_s * 1e3, "metric": network.quality.metric}
