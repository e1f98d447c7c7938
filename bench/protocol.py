"""The paper's protocol (arXiv 2405.02267): spaces, strategies, search methods and our additions, compared task by task.

    python bench/protocol.py --part main --seeds 0
    python bench/protocol.py --part main factors methods --seeds 0 1 2 --time-limit 600
    python bench/protocol.py --list --part all

GLUE's train split gives train and validation 70/30, its dev split is the test set. Nets are chosen on validation, at most a
thousand examples of it; test is only reported. Latencies are those of a measured cost table. Every finished search is a line of
`--out`, super-networks and evaluations are kept in `--cache`: a run that was killed goes on where it was. What was run and what
is missing is printed at the end. `bench/protocol_report.py` makes tables of the lines.
"""

import argparse
import json
import os
import time
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from cost_tables import MINILM, cost_model
from protocol_plan import OBJECTIVES, PARTS, Run, plan
from protocol_run import Bench
from protocol_tasks import TASKS, prepare
from rich.console import Console

from compiler.cli.console import ConsoleMonitor
from compiler.cli.main import ENVIRONMENT
from compiler.families.embedded import embedded_model
from compiler.pipeline import Options
from compiler.store import DiskStore

QUICK: dict[str, Any] = {"epochs": 0.5, "rows": 400, "evaluations": 16}


def settings(arguments: argparse.Namespace) -> dict[str, Any]:
    """What all runs of a command share; a quick one is labelled, and so is one that trains otherwise than paretoc does."""
    given = {name: getattr(arguments, name) for name in ("model", "table", "epochs", "rows", "evaluations")}
    chosen = {**given, **QUICK} if arguments.quick else given
    return {**chosen, "model": Path(chosen["model"]).name, "quick": arguments.quick, **steps(arguments)}


def steps(arguments: argparse.Namespace) -> dict[str, Any]:
    """What was asked of the steps of training."""
    asked = {name: getattr(arguments, name) for name in ("train_batch_size", "learning_rate")}
    return {name: value for name, value in asked.items() if value is not None}


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The records of a file; a line that was cut off when a run was killed does not count."""
    records = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            records.append(json.loads(line))
        except ValueError:
            continue
    return records


def append_line(path: Path, record: dict[str, Any]) -> None:
    """A record as a line of its own, whatever the file ends with."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            cut_off = file.read(1) != b"\n"
            file.write(b"\n" if cut_off else b"")
        file.write(json.dumps(record).encode() + b"\n")


def make_options(run: Run, arguments: argparse.Namespace, shared: dict[str, Any]) -> Options:
    """What one task and seed ask of the compiler."""
    task = TASKS[run.task]
    data = prepare(run.task, arguments.cache / "data", shared["rows"])
    return Options(
        model=arguments.model, data=str(data), task=task.kind, metric=task.metric, effort="thorough",
        epochs=shared["epochs"], evaluations=shared["evaluations"], seed=run.seed, **steps(arguments),
    )  # fmt: skip


def run_all(runs: Sequence[Run], arguments: argparse.Namespace, monitor: ConsoleMonitor) -> None:
    """Every run, until the time is up; those of one task and seed share what is loaded."""
    shared, end = settings(arguments), time.monotonic() + 60 * arguments.time_limit
    store, cost = DiskStore(arguments.cache / "store"), cost_model(arguments.table)
    for _, group in groupby(runs, key=lambda run: (run.task, run.seed)):
        together = list(group)
        if time.monotonic() >= end:
            return
        bench = Bench(make_options(together[0], arguments, shared), cost, store, monitor)
        for run in together:
            if time.monotonic() >= end:
                return
            monitor.note(f"{run.task} seed {run.seed}: {run.cell}: {run.search}")
            append_line(arguments.out, {**run.about(), "settings": shared, **bench.record(run)})


def missing(runs: Sequence[Run], arguments: argparse.Namespace) -> list[Run]:
    """Those of which there is no line with the same settings."""
    shared = settings(arguments)
    done = {_key(record) for record in read_lines(arguments.out)}
    return [run for run in runs if _key({**run.about(), "settings": shared}) not in done]


def _key(record: dict[str, Any]) -> str:
    return json.dumps([record[name] for name in ("task", "seed", "cell", "search", "settings")], sort_keys=True)


def tell(runs: Sequence[Run], left: Sequence[Run]) -> None:
    """What there is and what there is not, task by task."""
    print(f"{len(runs) - len(left)} of {len(runs)} searches are done")
    waiting = set(left)
    for (task, seed, cell), group in groupby(runs, key=lambda run: (run.task, run.seed, run.cell)):
        words = [f"{'-' if run in waiting else '+'} {run.search}" for run in group]
        print(f"{task:<5} seed {seed}  {cell!s:<52} {'  '.join(words)}")


def main() -> None:
    """Parse, run what is missing, say what was run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", nargs="+", choices=list(PARTS), default=["main"])
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--objectives", nargs="+", choices=list(OBJECTIVES), default=list(OBJECTIVES))
    parser.add_argument("--model", default=None, help="folder or hub name (MiniLM if left out)")
    parser.add_argument("--table", default=MINILM, help="cost table that ships, or a file")
    parser.add_argument("--epochs", type=float, default=5)
    parser.add_argument("--rows", type=int, default=None, help="training rows at most")
    parser.add_argument("--evaluations", type=int, default=100)
    parser.add_argument("--train-batch-size", type=int, default=None, help="as compile's; the paper's code: 4")
    parser.add_argument("--learning-rate", type=float, default=None, help="as compile's; the paper's code: 2e-5")
    parser.add_argument("--quick", action="store_true", help=f"to try it: {QUICK}; lines say so")
    parser.add_argument("--time-limit", type=float, default=float("inf"), help="minutes; no search begins after them")
    parser.add_argument("--list", action="store_true", help="say what is done and what is missing")
    parser.add_argument("--cache", type=Path, default=Path("out/protocol"))
    parser.add_argument("--out", type=Path, default=Path("bench/results/protocol.jsonl"))
    arguments = parser.parse_args()
    os.environ.update({name: os.environ.get(name, value) for name, value in ENVIRONMENT.items()})
    arguments.model = arguments.model or str(embedded_model())
    runs = plan(arguments.part, arguments.tasks, arguments.seeds, arguments.objectives)
    if not arguments.list:
        with ConsoleMonitor(Console(stderr=True)) as monitor:
            run_all(missing(runs, arguments), arguments, monitor)
    tell(runs, missing(runs, arguments))


if __name__ == "__main__":
    main()
