"""The prepared check of everything that needs a GPU: parts that fail, that hang, that have passed before, and no GPU."""

import importlib
import json
import sys
import tarfile
import time
from pathlib import Path

import pytest

from profilers import Dimensions, LayerSizes
from targets import Target
from targets.errors import TargetError

BENCH = Path(__file__).parents[2] / "bench"


@pytest.fixture
def check(monkeypatch):
    """The benchmark, imported as it runs: beside its siblings, in an environment that goes back afterwards."""
    monkeypatch.syspath_prepend(str(BENCH))
    for name in ("PARETOC_CACHE", "PYTHONPATH"):
        monkeypatch.setenv(name, "before")
    return importlib.import_module("gpu_check")


def python(check, name, code, **more):
    return check.Part(name=name, command=[sys.executable, "-c", code], **{"timeout_s": 20, **more})


def ran(check, tmp_path, parts, *arguments):
    """The exit code of a rehearsal of these parts, and what it wrote."""
    code = check.main(["--rehearse", "--work", str(tmp_path / "work"), "--out", str(tmp_path / "out"), *arguments],
                      make=lambda _: parts)  # fmt: skip
    return code, json.loads((tmp_path / "out" / check.RECORD).read_text(encoding="utf-8"))["parts"]


def test_a_part_that_fails_stops_no_other_and_leaves_its_output(check, tmp_path):
    parts = [python(check, "bad", "print('it broke'); exit(5)"), python(check, "good", "print('fine')")]
    code, found = ran(check, tmp_path, parts)
    assert code == 1
    assert (found["bad"]["rc"], found["bad"]["output"].strip()) == (5, "it broke")
    assert (found["good"]["rc"], found["good"]["timed_out"]) == (0, False)
    with tarfile.open(tmp_path / "out" / check.ARCHIVE) as archive:
        assert {"bad/output.log", "good/output.log", check.RECORD} <= {*archive.getnames()}


def test_a_part_that_hangs_is_ended_with_what_it_started(check, tmp_path, monkeypatch):
    monkeypatch.setattr(check, "REHEARSAL", 1)
    started = tmp_path / "pid"
    code = (
        "import pathlib, subprocess, sys; child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(99)']);"
        f"pathlib.Path({str(started)!r}).write_text(str(child.pid)); child.wait()"
    )
    parts = [python(check, "hangs", code, timeout_s=3), python(check, "good", "")]
    exit_code, found = ran(check, tmp_path, parts)
    assert exit_code == 1
    assert (found["hangs"]["rc"], found["hangs"]["timed_out"]) == (None, True)
    assert found["good"]["rc"] == 0
    assert has_ended(int(started.read_text(encoding="utf-8")))


def has_ended(pid):
    """Whether a process is gone within five seconds, or a zombie that nobody has waited for."""
    for _ in range(50):
        status = Path(f"/proc/{pid}/stat")
        if not status.exists() or status.read_text(encoding="utf-8").rpartition(")")[2].split()[0] == "Z":
            return True
        time.sleep(0.1)
    return False


def test_seconds_that_a_part_leaves_are_the_next_ones_up_to_the_whole(check, tmp_path, monkeypatch):
    monkeypatch.setattr(check, "REHEARSAL", 1)
    parts = [python(check, name, "") for name in ("first", "second", "third")]
    code, found = ran(check, tmp_path, parts, "--total-s", "30")
    assert code == 0
    assert found["first"]["limit_s"] == 20
    assert 25 <= found["second"]["limit_s"] <= 30
    code, found = ran(check, tmp_path, [python(check, "late", "")], "--total-s", "0")
    assert code == 1
    assert found["late"]["not_started"] == "no time was left"


def test_what_has_passed_is_not_run_again_and_what_failed_is(check, tmp_path):
    once = f"open({str(tmp_path / 'runs')!r}, 'a').write('x')"
    parts = [python(check, "good", once), python(check, "bad", f"{once}; exit(1)")]
    assert ran(check, tmp_path, parts)[0] == 1
    code, found = ran(check, tmp_path, [parts[0], python(check, "bad", once)])
    assert code == 0
    assert (tmp_path / "runs").read_text(encoding="utf-8") == "xxx"
    assert (found["good"]["tries"], found["bad"]["tries"]) == (1, 2)


def test_parts_are_chosen_by_name_and_one_that_has_no_place_here_says_why(check, tmp_path, capsys):
    parts = [
        python(check, "one", ""),
        python(check, "two", "exit(1)"),
        python(check, "three", "exit(1)", missing="no CUDA"),
    ]
    code, found = ran(check, tmp_path, parts, "--parts", "three", "one")
    assert code == 0
    assert found.keys() == {"one", "three"}
    assert found["three"]["missing"] == "no CUDA"
    with pytest.raises(SystemExit, match="2"):
        ran(check, tmp_path, parts, "--parts", "four")
    assert "known: one, two, three" in capsys.readouterr().err


def test_figures_are_read_and_their_lack_is_said(check, tmp_path):
    def none():
        raise FileNotFoundError("front.json")

    parts = [python(check, "has", "", figures=lambda: {"error": 0.01}), python(check, "lacks", "", figures=none)]
    code, found = ran(check, tmp_path, parts)
    assert code == 0
    assert found["has"]["figures"] == {"error": 0.01}
    assert "front.json" in found["lacks"]["figures_missing"]


def test_without_a_gpu_it_refuses_in_one_line(check, monkeypatch, capsys, tmp_path):
    def absent():
        raise TargetError("no GPU of the catalogue is here: no driver")

    monkeypatch.setattr(check, "gpu_here", absent)
    assert check.main(["--work", str(tmp_path)], make=lambda _: pytest.fail("nothing runs")) == 3
    (line,) = capsys.readouterr().err.splitlines()
    assert "no GPU of the catalogue is here" in line
    assert "--rehearse" in line


@pytest.mark.parametrize("gpu", [None, Target.parse("h200")], ids=["rehearsal", "h200"])
def test_the_parts_take_less_than_twelve_minutes(check, tmp_path, gpu):
    parts = check.parts_of(check.Setting.of(gpu, tmp_path))
    assert sum(part.timeout_s for part in parts if part.name != "tables-onnxruntime") <= 720
    assert check.TOTAL_S < 720
    if gpu is not None:
        assert parts[-1].missing, "this machine has no such GPU"
    texts = [word for part in parts for word in part.command]
    assert all((BENCH.parent / word).exists() for word in texts if word.startswith("bench/"))
    assert ("h200" in texts) == (gpu is not None)


def test_paretoc_has_a_version_where_it_is_not_installed(check, tmp_path, monkeypatch):
    def lacking(name):
        raise check.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(check.metadata, "version", lacking)
    version = python(check, "version", "from importlib import metadata; print(metadata.version('paretoc'))")
    alone = ["-S", *version.command[1:]]  # without what is installed
    code, _ = ran(check, tmp_path, [check.replace(version, command=[sys.executable, *alone])])
    assert code == 0


def test_counts_of_tests_are_read_off_the_last_line(check, tmp_path):  # noqa: ARG001
    (tmp_path / "log").write_text("...\n24 passed, 7 skipped, 1 failed in 35.10s\n", encoding="utf-8")
    assert importlib.import_module("gpu_parts").count_tests(tmp_path / "log") == {
        "passed": 24,
        "skipped": 7,
        "failed": 1,
    }


def test_generated_texts_are_words_that_the_tokenizer_knows(check, tmp_path):  # noqa: ARG001
    generated = importlib.import_module("generated")
    texts = generated.write_texts(tmp_path / "texts.txt", 20).read_text(encoding="utf-8").splitlines()
    tokenizer = generated.tokenizer()
    encoded = tokenizer(texts)["input_ids"]
    assert [len(ids) - 2 for ids in encoded] == [len(text.split()) for text in texts]
    assert tokenizer.unk_token_id not in {i for ids in encoded for i in ids}


def test_resources_are_told_or_why_not(check):  # noqa: ARG001
    """What a device cannot tell stands in the results with its reason."""
    resources = importlib.import_module("gpu_resources")

    def absent():
        raise TargetError("no counter")

    assert resources.told(lambda: {"joules": 1.0}) == {"joules": 1.0}
    assert resources.told(absent) == {"not_available": "no counter"}
    dims = Dimensions(layers=2, heads=4, ffn_units=64, hidden_size=32, head_size=8, vocabulary=10)
    assert resources.networks(dims)["1/8"] == (LayerSizes(1, 8),) * 2
    assert resources.networks(dims)["1/1"] == dims.dense
