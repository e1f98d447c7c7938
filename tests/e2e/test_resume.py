"""kill -9 at any stage, start again: the same front, bit for bit, and nothing recorded is done twice."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli import classes, write_rows, write_texts
from tests.tiny import save_tiny

FEW = ("--seq-len", 32, "--evaluations", 24, "--winners", 3, "--quiet")
PATIENCE_S = 100


class Runs:
    """One command, with a cache and an output folder that survive its deaths."""

    def __init__(self, root: Path, *command: object) -> None:
        self.cache, self.out = root / "cache", root / "out"
        self.command = [*command, "--target", "null", *FEW, "--cache", self.cache, "--out", self.out]

    def start(self):
        arguments = [sys.executable, "-m", "compiler", *map(str, self.command)]
        return subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)

    def finish(self):
        process = self.start()
        _, errors = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 0, errors
        front = json.loads((self.out / "front.json").read_text(encoding="utf-8"))
        del front["timings_s"], front["table"]["seconds"]
        return front

    def recorded(self):
        """Complete entries of the store, and when each was written."""
        times = {p: p.stat().st_mtime_ns for p in self.cache.glob("*/*") if p.is_file() and p.name[0] != "."}
        return {p: t for p, t in times.items() if p.suffix == ".json" or p.with_suffix(".json") in times}

    def kill_at(self, pattern):
        """Start, and kill -9 as soon as a file of this pattern (below the cache or the output folder) is there."""
        folder, _, name = pattern.partition(":")
        root = {"cache": self.cache, "out": self.out}[folder]
        process = self.start()
        deadline = time.monotonic() + PATIENCE_S
        while process.poll() is None and not next(root.glob(name), None):
            assert time.monotonic() < deadline, f"{pattern} never came"
            time.sleep(0.001)
        process.kill()
        _, errors = process.communicate()
        assert process.returncode == -9, f"it ended before {pattern}: {errors}"


def check_chain(runs, stages, expected):
    """One kill a stage, each run going on from the one before; then to the end."""
    before = {}
    for stage in stages:
        runs.kill_at(stage)
        now = runs.recorded()
        assert {path: now.get(path) for path in before} == before, f"work was done again before {stage}"
        assert len(now) >= len(before)
        before = now
        assert not (runs.out / "front.json").exists()
    assert runs.finish() == expected
    after = runs.recorded()
    assert {path: after[path] for path in before} == before


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    save_tiny(root / "encoder")
    return root


def test_killed_at_every_stage_of_a_search(data, tmp_path):
    command = (data / "encoder", "--data", write_texts(data / "texts.txt"))
    expected = Runs(tmp_path / "whole", *command).finish()
    stages = (
        "cache:template/*.json",
        "cache:blocks/*.json",
        "cache:table/*.json",
        "cache:ranking/*.json",
        "cache:evaluated/*.json",
        "cache:final/*.safetensors",
        "out:.paretoc-writing/*/model.onnx",
        "cache:fresh-export/*.json",
    )
    check_chain(Runs(tmp_path / "killed", *command), stages, expected)


def test_killed_at_every_stage_of_training(data, tmp_path):
    rows = write_rows(data / "classes.csv", classes())
    command = (data / "encoder", "--data", rows, "--effort", "thorough", "--epochs", 1)
    whole, killed = Runs(tmp_path / "whole", *command), Runs(tmp_path / "killed", *command)
    expected = whole.finish()
    for stage in ("template", "fresh-export"):  # 10 s to make again; the other test kills there
        shutil.copytree(whole.cache / stage, killed.cache / stage)
    stages = (
        "cache:fine-tuned/*.work/checkpoint-*",
        "cache:fine-tuned/*.safetensors",
        "cache:supernet/*.work",
        "cache:supernet/*.json",
        "cache:polished/*.json",
    )
    check_chain(killed, stages, expected)


def test_killed_while_every_network_is_trained_on_its_own(data, tmp_path):
    rows = write_rows(data / "apart.csv", classes())
    command = (data / "encoder", "--data", rows, "--effort", "thorough", "--search", "mo-asha", "--epochs", 1)
    whole, killed = Runs(tmp_path / "whole", *command), Runs(tmp_path / "killed", *command)
    expected = whole.finish()
    for stage in ("template", "fresh-export", "fine-tuned", "ranking"):
        shutil.copytree(whole.cache / stage, killed.cache / stage)
    promoted = min((whole.cache / "apart").glob("*.json"), key=lambda path: path.stat().st_mtime_ns)
    last = max((whole.cache / "apart").glob("*.json"), key=lambda path: path.stat().st_mtime_ns)
    check_chain(killed, [f"cache:apart/{path.name}" for path in (promoted, last)], expected)


def test_entries_that_were_spoilt_are_made_again(data, tmp_path):
    runs = Runs(tmp_path, data / "encoder", "--data", write_texts(data / "texts.txt"))
    expected = runs.finish()
    for stage in ("blocks", "ranking", "evaluated", "final", "judged"):
        for path in (runs.cache / stage).iterdir():
            os.truncate(path, path.stat().st_size // 2)
    assert runs.finish() == expected
