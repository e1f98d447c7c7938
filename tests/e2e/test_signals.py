"""Asked to end: one line, the signal's exit code, and nothing left behind."""

import os
import signal
import subprocess
import sys
import time

import pytest

from tests.cli import write_texts
from tests.tiny import save_tiny

SCRIPT = """
import ctypes, subprocess, sys, tempfile, time
from pathlib import Path
from compiler.cli import signals
from compiler.store.leftovers import temporary
signals.GRACE_S = 0.5

def native():
    lib, mutex = ctypes.CDLL(None), ctypes.create_string_buffer(64)
    lib.pthread_mutex_init(mutex, None)
    lib.pthread_mutex_lock(mutex)
    lib.pthread_mutex_lock(mutex)

def deaf():
    while True:
        try:
            time.sleep(60)
        except BaseException:
            pass

left = Path(sys.argv[2])
left.mkdir()
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
with signals.stopping(), temporary(left):
    print(child.pid, flush=True)
    {"native": native, "deaf": deaf}[sys.argv[1]]()
"""


@pytest.fixture(autouse=True)
def signals_are_heard():
    """A shell that starts tests behind others has them ignore signals, and so would the processes that they start."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number in (signal.SIGTERM, signal.SIGHUP)}
    before[signal.SIGINT] = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def is_alive(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:  # noqa: PTH123
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("where", ["native", "deaf"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_main_thread_that_does_not_hear_is_ended_all_the_same(tmp_path, where, number):
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, where, tmp_path / "left"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    child = int(process.stdout.readline())
    assert (tmp_path / "left").exists()
    time.sleep(0.5)  # until it no longer hears: a signal before that would end it in order, and leave the child
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 128 + number
    assert errors.splitlines() == [errors.strip()]
    assert "start again to resume" in errors
    assert not (tmp_path / "left").exists()
    assert not is_alive(child)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    root = tmp_path_factory.mktemp("signals")
    save_tiny(root / "encoder")
    write_texts(root / "texts.txt")
    return root


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_ended_leaves_nothing_behind(model, tmp_path, number):
    temporary, out = tmp_path / "tmp", tmp_path / "out"
    temporary.mkdir()
    command = [
        sys.executable, "-m", "compiler", model / "encoder", "--data", model / "texts.txt", "--target", "null", "--fresh",
        "--seq-len", "32", "--evaluations", "8", "--winners", "2", "--out", out, "--quiet",
    ]  # fmt: skip
    process = subprocess.Popen(command, env={**os.environ, "TMPDIR": str(temporary)}, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not next(temporary.glob("paretoc-*/cache-*/CACHEDIR.TAG"), None):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + number, errors
    assert errors.strip().splitlines()[-1].endswith("start again to resume")
    assert "Traceback" not in errors
    assert not list(temporary.iterdir())
    assert not out.exists()
