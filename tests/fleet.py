"""Fleets without a compiler: small model folders, fleet files, and a job that writes what a run would have written."""

import copy
import json
from pathlib import Path

from compiler.fleet import Campaign, make_plan, read_fleet
from compiler.pipeline import SilentMonitor
from tests.report_sample import sample_front


def write_model(folder: Path, size: int = 10) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text("{}", encoding="utf-8")
    (folder / "model.safetensors").write_bytes(b"x" * size)
    return folder


def write_toml(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


class Desk:
    """A fleet file, its output folder, and a compiler that counts its jobs; `answers` maps a run's folder to what happens there."""

    def __init__(self, root: Path, text: str):
        self.root, self.out = root, root / "out"
        self.file = write_toml(root / "fleet.toml", text)
        self.jobs: list[list[str]] = []
        self.slept: list[float] = []
        self.time = 0.0
        self.answers: dict[str, list] = {}
        self.monitor = SilentMonitor()

    def plan(self, **campaign):
        return make_plan(read_fleet(self.file, self.out, **campaign), self.out)

    def start(self, **campaign):
        self.jobs.clear()
        self.slept.clear()
        campaign.setdefault("cache", str(self.root / "cache"))
        return Campaign(
            plan=self.plan(**campaign), out=self.out, file=self.file.name, monitor=self.monitor,
            compile_job=self.compile_job, sleep=self.sleep, clock=lambda: self.time,
        ).run()  # fmt: skip

    def sleep(self, seconds):
        self.slept.append(seconds)
        self.time += seconds

    def compile_job(self, each):
        self.jobs.append([options.out.name for options in each])
        self.time += 6.0
        found = []
        for options in each:
            waiting = self.answers.get(options.out.name)
            answer = waiting.pop(0) if waiting else None
            if isinstance(answer, BaseException) and not hasattr(answer, "missed"):
                raise answer
            found.append(answer or write_run(options.out))
        return found

    def states(self):
        return {each.entry.name: each.state for each in self.plan().entries}


def write_run(folder: Path, speedup: float = 2.0) -> dict:
    """A front.json as a run leaves it, and its content."""
    front = copy.deepcopy(sample_front())
    next(c for c in front["candidates"] if c["id"] == front["best"])["speedup"] = speedup
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ".paretoc-run").write_text(
        "This folder is written by paretoc: what it wrote before is replaced by the next run.\n"
    )
    (folder / "front.json").write_text(json.dumps(front), encoding="utf-8")
    return front


def by_name(found) -> dict:
    return {row["name"]: row for row in found["entries"]}
