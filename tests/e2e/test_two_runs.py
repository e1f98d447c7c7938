"""Two runs in one cache at once, for every effort: both end, with the front that one alone has."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from compiler.store import DiskStore
from tests.cli import classes, write_rows, write_texts
from tests.tiny import save_tiny

pytestmark = pytest.mark.timeout(900)  # eleven runs, all in the fixture

FEW = ("--target", "null", "--seq-len", "32", "--evaluations", "8", "--winners", "2", "--epochs", "1")
EFFORTS = {
    "fast": ("--effort", "fast"),
    "balanced": ("--effort", "balanced"),
    "thorough": ("--effort", "thorough"),
    "alone": ("--effort", "thorough", "--search", "mo-asha"),
}


def front(out):
    found = json.loads((out / "front.json").read_text(encoding="utf-8"))
    del found["timings_s"], found["table"]["seconds"]
    return found


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Every effort alone, each in a cache of its own, then twice at once in another; all have the dense graph."""
    root = tmp_path_factory.mktemp("pairs")
    save_tiny(root / "encoder")
    rows, texts = write_rows(root / "classes.csv", classes()), write_texts(root / "texts.txt")
    command = [str(root / "encoder"), *FEW]

    def run(name, cache, effort):
        data = ["--data", str(texts if effort == "fast" else rows)]  # what fast does not train has no labels
        return [str(root / name), *command, *data, *EFFORTS[effort], "--cache", str(root / cache)]

    def begin(*words):
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [sys.executable, "-m", "tests.pairs_worker", *words],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    begin(*run("alone-fast", "cache-fast", "fast"))
    for name in (*EFFORTS, "pair-fast", "pair-balanced", "pair-thorough", "pair-alone"):
        if name != "fast":
            shutil.copytree(root / "cache-fast" / "template", DiskStore(root / f"cache-{name}").root / "template")
    alone = [run(f"alone-{effort}", f"cache-{effort}", effort) for effort in ("balanced", "thorough", "alone")]
    pairs = [[run(f"{n}-{effort}", f"cache-pair-{effort}", effort) for n in (1, 2)] for effort in EFFORTS]
    begin(*alone[0], "+", *alone[1], "--", *alone[2], *(word for a, b in pairs for word in ("--", *a, "+", *b)))
    return root


@pytest.mark.parametrize("effort", EFFORTS)
def test_two_runs_in_one_cache_end_as_one_alone(runs, effort):
    expected = front(runs / f"alone-{effort}")
    assert front(runs / f"1-{effort}") == expected
    assert front(runs / f"2-{effort}") == expected
    assert not list((runs / f"cache-pair-{effort}").glob("*/*.work"))


def test_a_training_is_done_once_for_both(runs):
    log = (runs / "1-thorough.log").read_text(encoding="utf-8") + (runs / "2-thorough.log").read_text(encoding="utf-8")
    assert "waiting for another run in this cache" in log
