"""What a run says while it runs: progress that only rises, and notes where they arise, in the order of a log."""

import contextlib
import io
import json

import pytest

from compiler.cli import main
from compiler.pipeline import compile_model
from compiler.pipeline.options import Budgets, Options
from tests.cli import classes, write_rows, write_texts
from tests.tiny import save_tiny


class Recorder:
    """Everything that a monitor is told, in order."""

    def __init__(self):
        self.stages = []
        self.notes = []
        self.fractions = {}

    def stage(self, name):
        self.stages.append(name)

    def progress(self, fraction):
        self.fractions.setdefault((len(self.stages), self.stages[-1]), []).append(fraction)

    def note(self, text):
        self.notes.append((self.stages[-1], text))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("said")


@pytest.fixture(scope="module")
def inputs(root):
    return {
        "encoder": save_tiny(root / "encoder"), "judge": save_tiny(root / "judge", labels=2),
        "texts": write_texts(root / "texts.txt"), "classes": write_rows(root / "classes.csv", classes()),
    }  # fmt: skip


@pytest.fixture(autouse=True)
def no_fresh_export(monkeypatch):
    monkeypatch.setattr("compiler.pipeline.stages.export.compare_with_fresh_export", lambda *_: 0.0)


def run(root, inputs, data, out, **more):
    """What a run tells, and its front."""
    told = Recorder()
    options = Options(
        model=str(inputs["encoder"]), data=str(inputs[data]), target="null", out=root / out, cache=root / "cache",
        seq_len=32, evaluations=10, **more,
    )  # fmt: skip
    return told, compile_model(options, told)


@pytest.mark.parametrize(("effort", "data"), [("fast", "texts"), ("balanced", "texts"), ("thorough", "classes")])
def test_progress_never_falls_within_a_stage(root, inputs, effort, data):
    more = {} if effort == "fast" else {"epochs": 1.0}
    told, front = run(root, inputs, data, effort, effort=effort, winners=2, **more)
    assert len(told.fractions) > 3
    for stage, fractions in told.fractions.items():
        assert fractions == sorted(set(fractions)), stage
        assert 0 < fractions[0] <= fractions[-1] <= 1, stage
    assert told.notes[0][1].startswith("data ")
    assert sorted(front["notes"]) == sorted(text for _, text in told.notes[1:])


def test_a_note_is_told_in_the_stage_in_which_it_arises(root, inputs):
    told, front = run(root, inputs, "texts", "noted", winners=9, budgets=Budgets(min_speedup=1.02))
    assert [text for _, text in told.notes[1:]] == front["notes"]
    stages = dict(map(reversed, told.notes))
    assert stages["no label column was found"] == "load"
    assert stages["the null device has no clock: its times are a closed form, not measurements"] == "profile"
    (few,) = (text for text in front["notes"] if "--winners asks for" in text)
    assert f"{len(front['candidates'])} of the 9 networks" in few
    assert stages[few] == "final weights"


def log_of(*arguments):
    """What `compile … > log 2>&1` leaves."""
    log = io.StringIO()
    with contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
        assert main([str(argument) for argument in arguments]) == 0
    return log.getvalue()


def asked(root, inputs, model, data, out):
    return (
        inputs[model], "--data", inputs[data], "--target", "null", "--cache", root / "cache", "--out", root / out,
        "--seq-len", 32, "--evaluations", 10, "--winners", 2,
    )  # fmt: skip


def test_a_redirected_log_has_every_note_once_before_the_table(root, inputs):
    log = log_of(*asked(root, inputs, "encoder", "texts", "logged"))
    front = json.loads((root / "logged" / "front.json").read_text(encoding="utf-8"))
    places = [log.index(note) for note in front["notes"]]
    assert places == sorted(places)
    assert max(places) < log.index("encoder on null")
    assert all(log.count(note) == 1 for note in front["notes"])


def test_a_dense_model_of_one_answer_is_the_first_note_and_nothing_is_called_best(root, inputs):
    log = log_of(*asked(root, inputs, "judge", "classes", "doubted"))
    front = json.loads((root / "doubted" / "front.json").read_text(encoding="utf-8"))
    doubt = front["doubt"]
    assert doubt.startswith("the dense model is at chance: its answer is 'LABEL_1' for each of 12 validation examples")
    assert "--labels A=B" in doubt
    assert front["notes"][0] == doubt
    assert log.index(doubt) < log.index("label column inferred") < log.index("search:")
    assert "* chosen, but the dense model is not to be trusted" in log
    assert "* best" not in log
    page = (root / "doubted" / "report.html").read_text(encoding="utf-8")
    assert "Nothing here is best:" in page
    assert ">best</span>" not in page
    card = (root / "doubted" / front["best"] / "README.md").read_text(encoding="utf-8")
    assert "**Mind the figures:** the dense model is at chance" in card


def test_without_labels_no_word_of_accuracy_is_said(root, inputs):
    log = log_of(*asked(root, inputs, "judge", "texts", "agreed"))
    front = json.loads((root / "agreed" / "front.json").read_text(encoding="utf-8"))
    assert front["metric"] == {
        "name": "agreement", "higher_is_better": True, "description": "share of texts that get the dense model's class"
    }  # fmt: skip
    assert front["task"] == "classification"
    said = [log, json.dumps(front), (root / "agreed" / "report.html").read_text(encoding="utf-8")]
    said.append((root / "agreed" / front["best"] / "README.md").read_text(encoding="utf-8"))
    for text in said:
        assert "accuracy" not in text
        assert "correct class" not in text
        assert "task inferred" not in text
        assert "agreement" in text
