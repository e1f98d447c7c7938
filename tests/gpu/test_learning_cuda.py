"""Everything that learns gives on a real GPU what it gives on the CPU, and a whole run on one ends as it should."""

import json

import pytest
import torch

from tests.cli import call, classes, write_rows, write_texts
from tests.learning import grams_of, in_float32, judged, moved, near, ranked, resolved, subnet_of, without_chance
from tests.tiny import save_tiny, tiny_checkpoint

GPU = torch.device("cuda", 0)


@pytest.fixture(params=["embedding", "classification"], scope="module")
def checkpoint(request, tmp_path_factory):
    return tiny_checkpoint(tmp_path_factory.mktemp(request.param), task=request.param)


def test_ranking(checkpoint, monkeypatch):
    without_chance(monkeypatch)
    _, calibration, _, blocks = ranked(checkpoint)
    _, found, _, there = ranked(checkpoint.on(GPU))
    near(grams_of(found), grams_of(calibration), 1e-3)
    for key, block in blocks.items():
        assert there[key].local == pytest.approx(block.local, rel=1e-2, abs=1e-7)


def test_resolving(checkpoint, monkeypatch):
    in_float32(monkeypatch)
    batches, calibration, ordering, _ = ranked(checkpoint)
    subnet = subnet_of(ordering)
    expected = resolved(checkpoint, subnet, batches, calibration)
    found = resolved(checkpoint.on(GPU), subnet, batches.on(GPU), moved(calibration, GPU))
    for own, other in zip(found, expected, strict=True):
        near(own, other, 2e-2)


def test_judging(checkpoint):
    subnet = subnet_of(ranked(checkpoint)[2])
    assert judged(checkpoint.on(GPU), subnet).metric == pytest.approx(judged(checkpoint, subnet).metric, rel=1e-3)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with two models and their data; both runs of a model share its cache, in which devices have keys of their own."""
    root = tmp_path_factory.mktemp("runs")
    save_tiny(root / "embedding")
    save_tiny(root / "classification", labels=2)
    write_texts(root / "embedding.txt")
    write_rows(root / "classification.csv", classes())
    return root


@pytest.mark.parametrize(
    ("model", "data", "effort", "tolerance"),
    [
        ("embedding", "embedding.txt", "fast", 0.05),
        ("classification", "classification.csv", "balanced", 0.5),
    ],
)
def test_a_run_learns_on_the_gpu_and_finds_as_good_networks(place, model, data, effort, tolerance):
    """Training takes other random numbers on a GPU, and validation has few examples: there the run has to end, no more."""
    fronts = {}
    for device in ("cpu", "cuda"):
        out = place / f"{model}-{effort}-{device}"
        done = call(
            place / model, "--data", place / data, "--target", "null", "--cache", place / "cache", "--out", out,
            "--seq-len", 32, "--evaluations", 12, "--winners", 2, "--effort", effort, "--quiet", "--device", device,
        )  # fmt: skip
        assert done.code == 0, done.err
        fronts[device] = json.loads((out / "front.json").read_text(encoding="utf-8"))
    assert any("ran on cuda" in note for note in fronts["cuda"]["notes"])
    assert not any("ran on cuda" in note for note in fronts["cpu"]["notes"])
    best = {d: max(c["metric"]["validation"] for c in front["candidates"]) for d, front in fronts.items()}
    assert best["cuda"] == pytest.approx(best["cpu"], abs=tolerance)


def test_a_gpu_that_is_too_small_for_a_step_is_said(place, monkeypatch):
    def lacking(*_, **__):
        torch.empty(1 << 50, dtype=torch.uint8, device=GPU)

    monkeypatch.setattr("compiler.pipeline.run.learn", lacking)
    done = call(
        place / "embedding", "--data", place / "embedding.txt", "--target", "null", "--cache", place / "cache",
        "--out", place / "lacking", "--seq-len", 32, "--quiet", "--device", "cuda",
    )  # fmt: skip
    assert done.code == 3, done.err
    assert "--device cpu" in done.err
