"""Test tiers: a test's folder says what it needs and how long it may take."""

import os
import tempfile
from pathlib import Path

import pytest

from targets import usable_cpus

TESTS = Path(__file__).parent
TIMEOUT_S = {
    "unit": 60,
    "contract": 180,
    "property": 120,
    "parity": 120,
    "real_files": 60,
    "hostile": 180,
    "golden": 300,
    "e2e": 300,
    "gpu": 300,
}

MOST_WORKERS = 8
"""Tests at once, at most: each may hold a model, and a process that compiles it."""

THREADS = 2


def take_processors() -> None:
    """A worker of pytest-xdist and the processes it starts have processors of their own, so that none waits for another's."""
    worker, workers = os.environ.get("PYTEST_XDIST_WORKER"), int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    if worker is not None and workers <= usable_cpus() and hasattr(os, "sched_setaffinity"):
        processors = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, processors[int(worker.removeprefix("gw")) :: workers])


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """What `--numprocesses auto` means."""
    return min(usable_cpus(), MOST_WORKERS)


take_processors()

# read when torch, transformers and paretoc are imported, here and in the processes that tests start
_CACHE = tempfile.TemporaryDirectory(prefix="paretoc-tests-", ignore_cleanup_errors=True)
os.environ["PARETOC_CACHE"] = _CACHE.name
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["OMP_NUM_THREADS"] = str(min(usable_cpus(), THREADS))
os.environ["TOKENIZERS_PARALLELISM"] = "false"


def tier_of(path: Path) -> str:
    """The tier of a test file; UsageError where its folder is none."""
    folder = path.relative_to(TESTS).parts[0] if path.is_relative_to(TESTS) else str(path.parent)
    if folder not in TIMEOUT_S:
        raise pytest.UsageError(f"{path} is in no test tier; put it in one of: {', '.join(TIMEOUT_S)}")
    return folder


def why_no_gpu() -> str | None:
    """Why the gpu tier cannot run here, or None where it can."""
    import torch

    return None if torch.cuda.is_available() else f"PyTorch {torch.__version__} sees no CUDA device"


def pytest_configure(config):
    for tier, seconds in TIMEOUT_S.items():
        config.addinivalue_line("markers", f"{tier}: tests in tests/{tier}, {seconds} s each")


def pytest_collection_modifyitems(items):
    tiers = [tier_of(item.path) for item in items]
    missing = why_no_gpu() if "gpu" in tiers else None
    for item, tier in zip(items, tiers, strict=True):
        item.add_marker(tier)
        if item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(TIMEOUT_S[tier]))
        if tier == "gpu" and missing is not None:
            item.add_marker(pytest.mark.skip(reason=missing))
