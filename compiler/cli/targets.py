"""`compile` for several targets: the table of each on the terminal, and what the wrong network costs."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

if TYPE_CHECKING:
    from compiler.report.comparison import Comparison


def run_targets(options: Any, targets: Sequence[str], tables: Sequence[Path], *, as_json: bool, quiet: bool) -> None:
    """Compile for all of them and print what was found. BudgetError, in the end, where one has no network for its budget."""
    from compiler.cli.console import answer_console, progress
    from compiler.pipeline.targets import check_targets, compile_targets

    with progress(quiet=quiet) as monitor:
        found = compile_targets(options, targets, tables, monitor)
    if as_json:
        print(json.dumps(found))  # noqa: T201  this is the answer
    else:
        console = answer_console()
        console.print(best_table(found))
        if found.get("doubt"):
            console.print(f"nothing here is best: {found['doubt']}", highlight=False, markup=False, soft_wrap=True)
        if found["misplaced"]:
            console.print(misplaced_table(found))
        console.print(
            f"report: {options.out / 'report.html'}   data: {options.out / 'targets.json'}",
            highlight=False,
            soft_wrap=True,
        )
    check_targets(found)


def best_table(found: "Comparison") -> Table:
    """One row a target: its best network."""
    names = (
        "target",
        "best",
        "precision",
        "p50 ms",
        "speed-up",
        f"{found['metric']} (val)",
        f"{found['metric']} (test)",
    )
    table = Table(*names, title=f"{found['model']}: the best network of each target; ~ is predicted")
    for outcome in found["targets"]:
        table.add_row(outcome["target"], *_best_cells(outcome["best"]))
    return table


def _best_cells(best: Any) -> list[str]:
    if best is None:
        return ["none for the budget"]
    measured = best["measured"]
    latency = f"~{best['predicted']['latency_ms']:.2f}" if measured is None else f"{measured['latency_ms']['p50']:.2f}"
    speedup = "-" if best["speedup"] is None else f"{best['speedup']:.2f}x"
    scores = [f"{best['metric'][split]:.4f}" for split in ("validation", "test")]
    return [best["id"], best["precision"], latency, speedup, *scores]


def misplaced_table(found: "Comparison") -> Table:
    """One row a pair of targets, all of it predicted."""
    from compiler.report.comparison import extra, lost

    table = Table(
        "on", "the best of", "~ms there", "beside one as good", f"{found['metric']} beside one as fast", "budget",
        title="What the wrong one costs, predicted by the tables",
    )  # fmt: skip
    for pair in found["misplaced"]:
        stranger = pair["stranger"]
        table.add_row(
            pair["on"], f"{pair['of']} {stranger['id']}", f"{stranger['predicted_ms']:.2f}", extra(pair), lost(pair, found.get("higher_is_better", True)),
            "over it" if pair["over_budget"] else "-",
        )  # fmt: skip
    return table
