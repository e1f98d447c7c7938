"""How long a fleet takes to plan and to resume: 800 entries whose runs are done, of which some were edited.

    python bench/fleet.py --json bench/results/fleet.json

Nothing is compiled: runs are folders with a real front.json (--front), and what would compile answers at once. So the times
are those of reading the file, looking at models, data and runs, and keeping fleet.json and fleet.html.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from output import write_json

from compiler.fleet import Campaign, make_plan, read_fleet
from compiler.pipeline import Options, SilentMonitor

MODELS, TARGETS, EDITED, ROUNDS = 100, ("cpu", "null", "a10g", "t4"), 5, 5
BUDGETS = "[{ min_speedup = '2x' }, { name = 'small', max_memory = '300MB' }]"
LARGE_BYTES, MARKER = (
    50 * 10**6,
    "This folder is written by paretoc: what it wrote before is replaced by the next run.\n",
)


def write_fleet_file(root: Path, models: int, seed: int = 0) -> Path:
    """A fleet of so many models; of the first few another seed may be asked for."""
    entries = [
        f"[[entry]]\nname = 'm{i}'\nmodel = 'models/m{i}'\n" + (f"seed = {seed}\n" if seed and i < EDITED else "")
        for i in range(models)
    ]
    defaults = f"[defaults]\ntargets = {list(TARGETS)}\nbudgets = {BUDGETS}\ndata = 'rows.csv'\neffort = 'fast'\n"
    path = root / "fleet.toml"
    path.write_text(defaults + "\n".join(entries), encoding="utf-8")
    return path


def write_models(root: Path, models: int) -> None:
    """Model folders as large as MiniLM's, of files with nothing in them."""
    (root / "rows.csv").write_text("text,label\n" + "a text,1\n" * 10_000, encoding="utf-8")
    for i in range(models):
        folder = root / "models" / f"m{i}"
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps({"number": i}), encoding="utf-8")
        (folder / "tokenizer.json").write_text("x" * 500_000, encoding="utf-8")
        with (folder / "model.safetensors").open("wb") as file:
            file.truncate(LARGE_BYTES)


def answering(front: dict[str, Any]) -> Callable[[Sequence[Options]], list[Any]]:
    """A compiler that writes the same front.json for every entry."""
    text = json.dumps(front)

    def answer(each: Sequence[Options]) -> list[Any]:
        for options in each:
            options.out.mkdir(parents=True, exist_ok=True)
            (options.out / ".paretoc-run").write_text(MARKER, encoding="utf-8")
            (options.out / "front.json").write_text(text, encoding="utf-8")
        return [front] * len(each)

    return answer


def seconds_of(work: Callable[[], Any], rounds: int) -> dict[str, Any]:
    """Seconds of a piece of work, and of processors: other processes on the machine are in the former alone."""
    taken, worked = [], []
    for _ in range(rounds):
        start, before = time.perf_counter(), sum(os.times()[:4])
        work()
        taken.append(time.perf_counter() - start)
        worked.append(sum(os.times()[:4]) - before)
    seconds = {"median_s": statistics.median(taken), "least_s": min(taken), "most_s": max(taken)}
    return {**seconds, "processor_s": statistics.median(worked), "rounds": rounds}


def measure(root: Path, front: dict[str, Any], models: int, rounds: int) -> dict[str, Any]:
    """Plan from nothing, do all, plan and start again with nothing to do, then with a few entries edited."""
    out, cache = root / "out", str(root / "cache")
    file = write_fleet_file(root, models)
    write_models(root, models)

    def plan() -> Any:
        return make_plan(read_fleet(file, out, cache=cache), out)

    def start() -> int:
        todo = plan()
        Campaign(plan=todo, out=out, file=file.name, monitor=SilentMonitor(), compile_job=answering(front)).run()
        return len(todo.to_do)

    found: dict[str, Any] = {"plan_of_nothing": seconds_of(plan, rounds)}
    found["entries"], found["jobs"] = len(plan().entries), len(plan().jobs)
    found["first_start"] = seconds_of(start, 1)
    found["plan_of_all_done"] = seconds_of(plan, rounds)
    found["second_start"] = seconds_of(start, rounds)
    assert not plan().to_do  # noqa: S101  a figure of a start that did something would be another one
    commands = {"dry_run_command": ["--dry-run"], "second_start_command": ["--quiet"]}
    for name, more in commands.items():
        command = [sys.executable, "-m", "compiler", "fleet", str(file), "--out", str(out), "--cache", cache, *more]
        found[name] = seconds_of(partial(subprocess.run, command, check=True, capture_output=True), rounds)
    write_fleet_file(root, models, seed=1)
    found["edited"] = len(plan().to_do)
    found["start_after_an_edit"] = seconds_of(start, 1)
    found["bytes"] = {name: (out / name).stat().st_size for name in ("fleet.json", "fleet.html")}
    return found


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=int, default=MODELS)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--front", type=Path, default=Path("tests/fixtures/front-0.1.0.json"))
    parser.add_argument("--json", type=Path, default=None)
    arguments = parser.parse_args()
    front = json.loads(arguments.front.read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as root:
        found = measure(Path(root), front, arguments.models, arguments.rounds)
    write_json(arguments.json, found)
    json.dump(found, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
