"""The command line where its streams are closed, broken, full or narrow, and where something unforeseen happens."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from compiler.cli import main
from compiler.cli.crash import CRASHED
from compiler.cli.streams import BROKEN_PIPE
from targets.errors import reason
from tests.cli import call

PROGRAM = f"{sys.executable} -m compiler"
LIST = f"{PROGRAM} cache --cache ."


def shell(command, folder, **environment):
    """A command of the shell: its exit code and what it wrote, both streams together."""
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"], cwd=folder, capture_output=True, text=True, check=False, timeout=50,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), **environment},
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (f"{PROGRAM} targets | true", BROKEN_PIPE),
        (f"{PROGRAM} targets --json | true", BROKEN_PIPE),
        (f"{LIST} >&- 2>&- <&-", 0),
        (f"{LIST} --json >&-", 0),
        (f"{PROGRAM} report nonsense 2>&-", 2),
    ],
)
def test_streams_that_are_closed_end_a_program_quietly(tmp_path, command, code):
    assert shell(command, tmp_path) == (code, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize("command", [f"{PROGRAM} targets >/dev/full", f"{LIST} --json >/dev/full"])
def test_a_full_disk_behind_stdout_is_one_error(tmp_path, command):
    code, said = shell(command, tmp_path)
    assert code == 2
    assert said.startswith("error: ")
    assert said.count("No space left on device") == 1
    assert len(said.splitlines()) <= 2


@pytest.mark.parametrize(
    "environment", [{"PYTHONIOENCODING": "ascii"}, {"PYTHONIOENCODING": "latin-1:strict", "LC_ALL": "C"}]
)
def test_a_narrow_encoding_spells_out_what_it_lacks(tmp_path, environment):
    code, said = shell(f"{LIST}/Ωmega", tmp_path, **environment)
    assert code == 0, said
    assert "\\u03a9mega" in said


@pytest.mark.parametrize(
    "words",
    [["cache", "--cache", "a\udcff"], ["report", "a\0b"], ["verify", "x" * 200_000]],
    ids=["bytes", "NUL", "long"],
)
def test_an_argument_that_is_no_text_is_refused(words):
    done = call(*words)
    assert done.code == 2
    assert done.err.startswith("error: an argument ")
    assert len(done.err) < 200


@pytest.mark.parametrize(
    ("words", "flag"),
    [
        (["report", ""], "an argument"),
        (["cache", "--cache", "", "--prune", "0d"], "--cache"),
        (["cache", "--cache=", "--prune", "0d"], "--cache"),
        (["profile", "--model", "", "-o", "t.json"], "--model"),
        (["x", "--data", "y", "--out", ""], "--out"),
        ([""], "an argument"),
    ],
)
def test_an_empty_name_is_not_the_folder_one_is_in(words, flag):
    done = call(*words)
    assert done.code == 2
    assert done.message[0] == f"{flag} '' is empty"


def test_an_empty_prompt_switches_a_models_own_off(tmp_path):
    for words in (["--prompt", ""], ["--prompt="]):
        done = call(tmp_path / "none", "--data", tmp_path / "none.txt", "--out", tmp_path / "out", *words)
        assert "is empty" not in done.err


def panic():
    class PanicException(BaseException):
        pass

    return PanicException("index out of bounds")


UNFORESEEN = {
    "bug": lambda: ZeroDivisionError("division by zero"),
    "key": lambda: KeyError("x\x1b[31m"),
    "memory": MemoryError,
    "recursion": lambda: RecursionError("maximum recursion depth exceeded"),
    "panic": panic,
    "long": lambda: ValueError("x" * 10**6 + "\n" + "y" * 10**6),
    "child": lambda: BrokenPipeError(32, "Broken pipe"),
    "surrogate": lambda: ValueError("\ud800"),
}


@pytest.mark.parametrize("kind", UNFORESEEN)
@pytest.mark.parametrize("more", [[], ["--json"]], ids=["plain", "json"])
def test_what_nobody_foresaw_is_two_lines_and_a_file_with_the_trace(monkeypatch, tmp_path, kind, more):
    def fail(*_, **__):
        error = UNFORESEEN[kind]()
        raise error

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr("compiler.store.local_folder", fail)
    done = call("cache", *more)
    assert done.code == CRASHED
    assert not done.out
    first, second = done.err.splitlines()
    assert first.startswith("error: internal error, ")
    assert len(first) <= 310
    assert "\x1b" not in first
    (trace,) = tmp_path.glob("paretoc-trace-*.txt")
    assert f"the trace is in {trace}; report it with what `compile doctor` says" == second
    assert trace.read_text(encoding="utf-8").startswith("Traceback")
    assert trace.stat().st_size < 300_000


def test_without_room_for_the_trace_it_is_still_two_lines(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    monkeypatch.setattr("compiler.store.local_folder", lambda *_: 1 / 0)
    done = call("cache")
    assert done.code == CRASHED
    assert done.err.splitlines()[1].startswith("no trace could be kept")


def test_what_the_system_forbids_is_the_users_and_leaves_no_trace(monkeypatch, tmp_path):
    def fail(*_, **__):
        raise PermissionError(13, "Permission denied", str(tmp_path / "x"))

    monkeypatch.setattr("compiler.store.local_folder", fail)
    done = call("cache")
    assert done.code == 2
    assert done.message[0] == f"{tmp_path / 'x'}: Permission denied"


def test_a_code_that_a_library_or_a_handler_of_signals_gave_is_kept(monkeypatch):
    def stop(*_, **__):
        raise SystemExit(143)

    monkeypatch.setattr(sys.modules["compiler.cli.main"], "app", stop)
    assert main(["cache"]) == 143


def test_usage_errors_are_bounded():
    done = call("x", "--data", "y", "--seed", "9" * 5000)
    assert done.code == 2
    assert max(map(len, done.err.splitlines())) <= 510


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("Error(s) in loading state_dict for Bert:\n\tsize mismatch for x: 3 != 4.\n", "size mismatch for x: 3 != 4."),
        ("Field 'name' of 'node' is required\n\n==> Context: Bad node spec", "Field 'name' of 'node' is required"),
        (
            "1 validation error\nx\n  Input should be 3\n    For further information visit https://x",
            "Input should be 3",
        ),
        ("", "ValueError"),
        ("a\x1b[0mb", "a\\x1b[0mb"),
    ],
)
def test_the_line_of_a_librarys_error_that_says_what_is_wrong(said, why):
    assert reason(ValueError(said)) == why
    assert len(reason(ValueError("x" * 10_000))) == 200
    assert reason(KeyError("x")) == "KeyError: 'x'"


def test_the_help_says_what_exit_codes_mean():
    done = call("--help")
    assert done.code == 0
    told = done.out.split()
    assert all(str(code) in told for code in (1, 2, 3, 4, 5, 70, 130, 141, 143))
