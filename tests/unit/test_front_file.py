"""A front.json that somebody edited: every senseless value is refused by its place, and no path leads out of the run."""

import json
import os
import shutil
from pathlib import Path

import pytest

from compiler.pipeline.bench import find_files
from compiler.pipeline.monitor import SilentMonitor
from compiler.pipeline.verify import verify
from compiler.report.artifact_path import artifact_path
from compiler.report.html import write_report
from compiler.report.schema import read_front, write_front
from targets.errors import InputError
from tests.report_sample import sample_front

OLD = Path(__file__).parents[1] / "fixtures" / "front-0.1.0.json"
"""Written by version 0.1.0 for the null device."""


@pytest.fixture
def run(tmp_path):
    (tmp_path / "run").mkdir()
    return tmp_path / "run"


def write(run, front):
    (run / "front.json").write_text(json.dumps(front), encoding="utf-8")
    return run


def spoilt(place, value):
    """The sample with one value replaced: `candidates.0.id`, say."""
    front = sample_front()
    *path, last = (int(part) if part.isdecimal() else part for part in place.split("."))
    found = front
    for part in path:
        found = found[part]
    found[last] = value
    return front


def test_the_front_of_an_older_version_is_read(run):
    shutil.copy(OLD, run / "front.json")
    front = read_front(run)
    assert front["best"] == "n001"
    assert front == json.loads(OLD.read_text(encoding="utf-8"))


def test_what_is_not_declared_stays_there(run):
    front = sample_front() | {"later": 1}
    assert read_front(write(run, front)) == front


SENSELESS = {
    "dense.predicted.latency_ms": (-1.0, "greater than 0, got -1"),
    "candidates.0.parameters": (-1, "got -1"),
    "candidates.0.parameters.": (10**30, "less than or equal"),
    "candidates.0.measured.latency_ms": ({"p50": 3.0, "p90": 2.0, "p99": 4.0}, "must ascend, got 3, 2, 4"),
    "candidates.0.speedup": (0.0, "greater than 0"),
    "candidates.0.speedup_interval": ([2.0, 1.0], "must ascend"),
    "candidates.0.speedup_interval.": ([1.0], "at least 2 items"),
    "candidates": ([], "at least 1 item"),
    "candidates.1.id": ("c00", "'c00' stands twice"),
    "candidates.0.id": ("../c00", "candidates[0].id"),
    "candidates.0.id.": ("c\x1b[31m", "candidates[0].id"),
    "candidates.0.same_as": (["nobody"], "no network has the id 'nobody'"),
    "best": ("nobody", "no network has the id 'nobody'"),
    "candidates.0.shape.heads": ([1, 2], "2 layers, the dense model has 6"),
    "candidates.0.shape": ({"heads": [1], "ffn_units": [1]}, "1 layers, the dense model has 6"),
    "candidates.0.shape.ffn_units": ([99999] * 6, "more than the dense model has"),
    "model.layers": (10**12, "less than or equal to 1000"),
    "model.name": ("x" * 2_000_000, "at most 1000 characters"),
    "notes": ([7], "notes[0]"),
    "workload.batch": (0, "greater than or equal to 1"),
    "workload.percentile": ("p42", "'p50', 'p90' or 'p99'"),
    "workload.traffic": ({"tokens": [8], "shares": [0.5, 0.5], "replayed": [8]}, "1 tokens, 2 shares"),
    "workload.traffic.": ({"tokens": [], "shares": [], "replayed": []}, "at least 1 item"),
    "candidates.0.artifact.sha256": ("zz", "sha256"),
    "candidates.0.artifact.bytes": (2**60, "less than or equal"),
    "candidates.1.artifact.path": ("c00/model.onnx", "stands twice"),
    "seed": (True, "valid integer, got true"),
    "table.error.spearman": (7.0, "spearman"),
}


@pytest.mark.parametrize(("place", "value", "said"), [(p, *rest) for p, rest in SENSELESS.items()], ids=SENSELESS)
def test_a_senseless_value_is_named(run, place, value, said):
    with pytest.raises(InputError) as caught:
        read_front(write(run, spoilt(place.removesuffix("."), value)))
    assert said in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 3
    assert max(map(len, str(caught.value).splitlines())) <= 500
    assert str(caught.value).isprintable() or "\n" in str(caught.value)


OUTSIDE = (
    "../outside/model.onnx",
    "/etc/passwd",
    "/dev/zero",
    "c00/../../outside/model.onnx",
    "model.onnx",
    "c00/",
    "",
)
VERBS = {
    "read": read_front,
    "bench": lambda run: find_files([run], None),
    "verify": lambda run: verify(run, timing=False, monitor=SilentMonitor()),
    "report": write_report,
}


@pytest.fixture
def outside(tmp_path):
    """A file that nothing may touch."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "model.onnx").write_text("mine", encoding="utf-8")
    yield tmp_path / "outside"
    assert [path.name for path in (tmp_path / "outside").iterdir()] == ["model.onnx"]
    assert (tmp_path / "outside" / "model.onnx").read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize("verb", VERBS.values(), ids=VERBS)
@pytest.mark.parametrize("path", OUTSIDE)
@pytest.mark.usefixtures("outside")
def test_no_verb_follows_a_path_out_of_the_run(run, path, verb):
    with pytest.raises(InputError, match=r"artifact\.path"):
        verb(write(run, spoilt("candidates.0.artifact.path", path)))


def linked_folder(run, outside):
    (run / "c00").symlink_to(outside)


def linked_file(run, outside):
    (run / "c00").mkdir()
    (run / "c00/model.onnx").symlink_to(outside / "model.onnx")


def linked_weights(run, outside):
    (run / "c00").mkdir()
    (run / "c00/model.onnx.data").symlink_to(outside / "model.onnx")


def a_loop(run, _):
    (run / "c00").symlink_to(run / "c00")


def a_pipe(run, _):
    (run / "c00").mkdir()
    os.mkfifo(run / "c00/model.onnx")


def a_folder(run, _):
    (run / "c00/model.onnx").mkdir(parents=True)


def a_huge_file(run, _):
    (run / "c00").mkdir()
    with (run / "c00/model.onnx").open("wb") as file:
        file.truncate(3 * 2**30)


@pytest.mark.parametrize("lay", [linked_folder, linked_file, linked_weights, a_loop, a_pipe, a_folder, a_huge_file])
@pytest.mark.parametrize("verb", VERBS.values(), ids=VERBS)
def test_what_lies_there_is_a_file_of_the_run(run, outside, lay, verb):
    lay(run, outside)
    with pytest.raises(InputError, match=r"out of the run|no such path|regular file|at most"):
        verb(write(run, sample_front()))


def test_a_run_that_is_itself_a_link_and_lacks_its_files_is_read(run, tmp_path):
    write(run, sample_front())
    (tmp_path / "link").symlink_to(run)
    front = read_front(tmp_path / "link")
    assert artifact_path(tmp_path / "link", front["dense"]) == tmp_path / "link/dense/model.onnx"


def test_what_is_not_finite_is_written_as_not_known_and_half_a_character_spelt_out(run):
    front = sample_front()
    front["dense"]["metric"]["standard_error"]["test"] = float("nan")
    front["notes"] = ["a\ud800b", "é"]
    write_front(run, front)
    found = read_front(run)
    assert found["dense"]["metric"]["standard_error"]["test"] is None
    assert found["notes"] == ["a\\ud800b", "é"]


@pytest.mark.parametrize("content", [b"[" * 100_000, b"\xff\xfe{}", b"{}" + b" " * 70 * 2**20, b'{"schema": NaN}'])
def test_what_is_no_json_of_ours_is_refused_shortly(run, content):
    (run / "front.json").write_bytes(content)
    with pytest.raises(InputError, match=r"front\.json") as caught:
        read_front(run)
    assert len(str(caught.value).splitlines()) <= 3


@pytest.mark.parametrize("name", ["front.json", "candidates.csv"])
def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(run, name):
    write(run, sample_front())
    (run / "candidates.csv").write_text("id,latency_ms,error\n", encoding="utf-8")
    (run / name).unlink()
    os.mkfifo(run / name)
    with pytest.raises(InputError, match="no regular file"):
        write_report(run)


@pytest.mark.parametrize(
    "rows", ["id\n1\n", "id,latency_ms,error\nx,y,z\n", '"' + "x" * 200_000, "id,latency_ms,error\n1"]
)
def test_damaged_rows_are_refused(run, rows):
    write(run, sample_front())
    (run / "candidates.csv").write_text(rows, encoding="utf-8")
    with pytest.raises(InputError, match="damaged"):
        write_report(run)
