"""Plans and campaigns with a compiler that is not there: what is run again and what is not, tries, exit codes, what is left behind."""

import errno
import json

import pytest

from compiler.fleet import exit_code
from compiler.fleet.campaign import BACK_OFF_S, TRIES
from targets.errors import BudgetError, InputError, TargetError
from tests.fleet import Desk, by_name, write_model

TEXT = """
[defaults]
targets = ["cpu", "null"]
data = "rows.csv"
[[entry]]
name = "a"
model = "enc-a"
budgets = [{ name = "two", min_speedup = 2 }, { name = "three", min_speedup = 3 }]
[[entry]]
name = "b"
model = "enc-b"
targets = "cpu"
"""
NAMES = ["a-cpu-two", "a-cpu-three", "a-null-two", "a-null-three", "b-cpu"]


@pytest.fixture
def desk(tmp_path):
    write_model(tmp_path / "enc-a")
    write_model(tmp_path / "enc-b", size=11)
    (tmp_path / "rows.csv").write_text("text\na\n", encoding="utf-8")
    return Desk(tmp_path, TEXT)


def edit(desk, old, new):
    desk.file.write_text(desk.file.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")


def missed():
    error = BudgetError("nothing meets it\nask for less")
    error.missed = True
    return error


def test_targets_of_one_model_and_budget_are_one_job(desk):
    found = desk.start()
    assert desk.jobs == [["a-cpu-two", "a-null-two"], ["a-cpu-three", "a-null-three"], ["b-cpu"]]
    assert [row["name"] for row in found["entries"]] == NAMES
    assert found["counts"] == {"done": 5}
    assert exit_code(found["entries"]) == 0
    row = by_name(found)["a-cpu-two"]
    assert row["chosen"]["speedup"] == 2.0
    assert (row["seconds"], row["tries"], row["error"]) == (3.0, 1, None)
    assert json.loads((desk.out / "fleet.json").read_text(encoding="utf-8")) == json.loads(json.dumps(found))
    assert (desk.out / "fleet.html").exists()


def test_a_second_start_does_nothing_and_says_the_same(desk):
    first = desk.start()
    second = desk.start()
    assert desk.jobs == []
    assert second["entries"] == first["entries"]


def test_an_edited_entry_is_run_again_alone(desk):
    desk.start()
    edit(desk, 'targets = "cpu"', 'targets = "cpu"\nseed = 5')
    assert desk.states() == {**dict.fromkeys(NAMES, "done"), "b-cpu": "changed"}
    desk.start()
    assert desk.jobs == [["b-cpu"]]


@pytest.mark.parametrize(
    ("path", "changed"), [("enc-a/config.json", NAMES[:4]), ("rows.csv", NAMES), ("enc-b/new.txt", NAMES[4:])]
)
def test_an_edited_file_makes_those_run_again_that_read_it(desk, path, changed):
    desk.start()
    (desk.root / path).write_text("[1]", encoding="utf-8")
    assert [name for name, state in desk.states().items() if state == "changed"] == changed


def test_large_files_count_by_size_and_time(desk, monkeypatch):
    monkeypatch.setattr("compiler.fleet.fingerprint.WHOLE_BYTES", 5)
    desk.start()
    path = desk.root / "enc-b" / "model.safetensors"
    path.touch()
    assert desk.states()["b-cpu"] == "changed"


def test_new_entries_and_targets_are_run_and_nothing_else(desk):
    desk.start()
    edit(desk, 'targets = "cpu"', 'targets = ["cpu", "null"]')
    desk.start()
    assert desk.jobs == [["b-null"]]


def test_a_run_that_was_removed_or_replaced_is_made_again(desk):
    desk.start()
    (desk.out / "b-cpu" / "front.json").write_text("{}", encoding="utf-8")
    (desk.out / "a-cpu-two" / "front.json").unlink()
    (desk.out / "a-null-two" / "fleet-entry.json").write_text("[", encoding="utf-8")
    assert {name for name, state in desk.states().items() if state == "missing"} == {"b-cpu", "a-cpu-two", "a-null-two"}


def test_a_missed_budget_is_an_answer_that_is_kept(desk):
    desk.answers = {"a-null-three": [missed()]}
    found = desk.start()
    assert by_name(found)["a-null-three"]["error"] == "nothing meets it\nask for less"
    assert found["counts"] == {"done": 4, "missed budget": 1}
    assert exit_code(found["entries"]) == 4
    again = desk.start()
    assert desk.jobs == []
    assert exit_code(again["entries"]) == 4


def test_one_failing_entry_stops_no_other_and_is_run_again_next_time(desk):
    desk.answers = {"a-null-two": [InputError("no such column"), InputError("no such column")]}
    found = desk.start()
    assert desk.jobs == [
        ["a-cpu-two", "a-null-two"],
        ["a-cpu-three", "a-null-three"],
        ["b-cpu"],
        ["a-cpu-two"],
        ["a-null-two"],
    ]
    assert found["counts"] == {"done": 4, "failed": 1}
    assert by_name(found)["a-null-two"]["error"] == "no such column"
    assert exit_code(found["entries"]) == 1
    assert desk.states()["a-null-two"] == "failed"
    assert desk.start()["counts"] == {"done": 5}
    assert desk.jobs == [["a-null-two"]]


def test_an_error_that_nobody_foresaw_leaves_its_trace(desk):
    desk.answers = {"b-cpu": [ZeroDivisionError("by zero")]}
    row = by_name(desk.start())["b-cpu"]
    assert row["error"].startswith("ZeroDivisionError: by zero")
    assert "ZeroDivisionError" in (desk.out / "fleet-errors" / "b-cpu.txt").read_text(encoding="utf-8")
    assert row["tries"] == 1


def full_disk():
    error = InputError("writing failed")
    error.__context__ = OSError(errno.ENOSPC, "no room")
    return error


@pytest.mark.parametrize("error", [OSError("hiccup"), TargetError("busy"), TimeoutError("slow"), full_disk()])
def test_what_may_pass_is_tried_again_after_the_others(desk, error):
    desk.answers = {"a-cpu-two": [error, error, None]}
    edit(desk, 'targets = ["cpu", "null"]', 'targets = ["cpu"]')
    found = desk.start()
    assert desk.jobs == [["a-cpu-two"], ["a-cpu-three"], ["b-cpu"], ["a-cpu-two"], ["a-cpu-two"]]
    assert desk.slept == [pytest.approx(BACK_OFF_S - 12), pytest.approx(4 * BACK_OFF_S)]
    assert by_name(found)["a-cpu-two"]["tries"] == 3
    assert found["counts"] == {"done": 3}


def test_there_are_three_tries_at_most(desk):
    desk.answers = {"b-cpu": [TargetError(f"busy {i}") for i in range(9)]}
    row = by_name(desk.start())["b-cpu"]
    assert (row["status"], row["tries"], row["error"]) == ("failed", TRIES, "busy 2")


@pytest.mark.parametrize(
    "error", [InputError("no"), FileNotFoundError(errno.ENOENT, "none"), PermissionError(errno.EACCES, "no")]
)
def test_what_will_not_pass_is_tried_once(desk, error):
    desk.answers = {"b-cpu": [error]}
    assert by_name(desk.start())["b-cpu"]["tries"] == 1
    assert desk.slept == []


def test_a_device_that_is_not_here_is_not_waited_for(desk):
    edit(desk, 'targets = "cpu"', 'targets = "t4"')
    desk.answers = {"b-t4": [TargetError("t4 is not here")]}
    assert by_name(desk.start())["b-t4"]["tries"] == 1


def test_an_interrupt_leaves_what_the_next_start_goes_on_with(desk):
    desk.answers = {"a-cpu-three": [KeyboardInterrupt()]}
    with pytest.raises(KeyboardInterrupt):
        desk.start()
    content = json.loads((desk.out / "fleet.json").read_text(encoding="utf-8"))
    assert content["counts"] == {"done": 2, "waiting": 3}
    assert desk.start()["counts"] == {"done": 5}
    assert desk.jobs == [["a-cpu-three", "a-null-three"], ["b-cpu"]]


def test_an_interrupt_that_a_library_made_an_error_of_ends_the_campaign(desk):
    error = RuntimeError("export failed")
    error.__cause__ = KeyboardInterrupt()
    desk.answers = {"a-cpu-three": [error]}
    with pytest.raises(KeyboardInterrupt):
        desk.start()
    assert len(desk.jobs) == 2


def test_a_panic_of_a_library_is_an_error_of_its_entry(desk):
    desk.answers = {"b-cpu": [type("PanicException", (BaseException,), {})("panicked")]}
    assert by_name(desk.start())["b-cpu"]["error"].startswith("PanicException: panicked")


def test_what_may_have_killed_the_process_comes_last(desk):
    desk.answers = {"a-cpu-three": [KeyboardInterrupt()]}
    with pytest.raises(KeyboardInterrupt):
        desk.start()
    path = desk.out / "fleet.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    by_name(content)["a-cpu-three"]["status"] = "running"
    path.write_text(json.dumps(content), encoding="utf-8")
    assert [each.why for each in desk.plan().to_do] == ["stopped while it ran", "", ""]
    desk.start()
    assert desk.jobs == [["b-cpu"], ["a-cpu-three", "a-null-three"]]


def test_a_stale_run_that_is_interrupted_is_not_taken_for_done(desk):
    desk.start()
    edit(desk, 'targets = "cpu"', 'targets = "cpu"\nseed = 5')
    desk.answers = {"b-cpu": [KeyboardInterrupt()]}
    with pytest.raises(KeyboardInterrupt):
        desk.start()
    edit(desk, "\nseed = 5", "")
    assert desk.states()["b-cpu"] == "missing"


def test_a_plan_says_what_is_shared_and_how_long_it_takes_and_writes_nothing(desk):
    said = desk.plan().to_json()
    assert said["counts"] == {"missing": 5}
    assert (said["jobs"], said["rankings_to_make"], said["tables_to_make"]) == (
        3,
        2,
        2,
    )  # both models have one configuration
    assert (said["estimated_s"], said["of_unknown_time"]) == (0, 5)
    assert not desk.out.exists()
    desk.start()
    edit(desk, 'name = "three", min_speedup = 3', 'name = "four", min_speedup = 4')
    said = desk.plan().to_json()
    rows = {row["name"]: row for row in said["entries"]}
    assert rows["a-cpu-four"]["made"] == ["ranking", "table"]
    assert rows["a-cpu-four"]["estimated_s"] == 3.0
    assert (said["jobs"], said["rankings_to_make"], said["tables_to_make"], said["estimated_s"]) == (1, 0, 0, 6.0)


def test_a_plan_says_which_model_is_gone(desk):
    edit(desk, 'model = "enc-b"', 'model = "./enc-c"')
    (row,) = (row for row in desk.plan().to_json()["entries"] if row["name"] == "b-cpu")
    assert row["why"] == f"model {desk.root / 'enc-c'} is gone"


def test_a_folder_of_somebody_else_is_refused(desk):
    desk.out.mkdir()
    (desk.out / "thesis.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(InputError, match="is no run of paretoc"):
        desk.start()
    assert desk.jobs == []
    assert not (desk.out / "fleet.json").exists()


def test_a_cache_that_cannot_be_used_ends_the_campaign_at_once(desk):
    (desk.root / "file").write_text("x", encoding="utf-8")
    with pytest.raises(InputError):
        desk.start(cache=str(desk.root / "file"))
    assert desk.jobs == []
