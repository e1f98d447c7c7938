"""Two processes under torchrun learn what one learns, and a run that they share has one writer."""

import json
import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from compiler.supernet import training
from compiler.supernet.examples import own_rows
from tests.cli import classes, write_rows
from tests.ranks_worker import train
from tests.tiny import save_tiny, tiny_checkpoint


def torchrun(*command):
    arguments = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*arguments, *map(str, command)], capture_output=True, text=True, timeout=200, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def differences(some, others) -> float:
    return max(float((some[name] - others[name]).abs().max()) for name in others)


@pytest.mark.timeout(200)
def test_two_processes_end_with_the_parameters_of_one(tmp_path, monkeypatch):
    torchrun("-m", "tests.ranks_worker", tmp_path)
    checkpoint = tiny_checkpoint(tmp_path / "model", task="classification")
    monkeypatch.setattr(training._Run, "_arguments", training._Run._arguments)
    one = train(checkpoint, tmp_path / "one", 0, same_plans=True)
    same, same_1, other, other_1 = (
        load_file(tmp_path / f"{plans}-{rank}.safetensors") for plans in (True, False) for rank in (0, 1)
    )
    assert differences(same, same_1) == 0
    assert differences(same, one) < 1e-6
    assert differences(other, other_1) == 0
    assert differences(other, one) > 1e-4, "ranks that draw different sub-networks would not be noticed"


@pytest.mark.parametrize("rows", [1, 2, 5, 8])
@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_weighted_means_of_all_ranks_average_to_the_mean_of_the_batch(rows, ranks):
    losses = torch.randn(rows, dtype=torch.float64).numpy()
    parts = [own_rows(torch.arange(rows).numpy(), rank, ranks) for rank in range(ranks)]
    assert sum(weight * losses[own].mean() for own, weight in parts) / ranks == pytest.approx(losses.mean())
    assert sorted(row for own, weight in parts if weight for row in own) == list(range(rows))


@pytest.mark.timeout(300)
def test_a_run_under_torchrun_is_one_run(tmp_path):
    command = (
        save_tiny(tmp_path / "encoder"), "--data", write_rows(tmp_path / "classes.csv", classes()), "--target", "null",
        "--effort", "thorough", "--epochs", 1, "--seq-len", 32, "--evaluations", 12, "--winners", 2, "--json", "--quiet",
    )  # fmt: skip
    answer = torchrun("-m", "compiler", *command, "--out", tmp_path / "out", "--cache", tmp_path / "cache")
    front = json.loads(answer)
    assert front == json.loads((tmp_path / "out" / "front.json").read_text(encoding="utf-8"))
    rows = (tmp_path / "out" / "training.csv").read_text(encoding="utf-8").splitlines()
    assert {row.split(",")[0] for row in rows[1:]} == {"fine-tuned", "supernet", "polished"}
