"""The cache folder: recognised by its marker, nothing else in it touched, a cap, and several runs at once."""

import os
import threading
import time

import numpy as np
import pytest

from compiler.store import DiskStore, key_of
from compiler.store.cap import default_cap
from compiler.store.disk import file_error, is_full
from compiler.store.lives import alone, oldest_start
from compiler.store.names import MARKER
from targets.errors import InputError
from tests.cli import call

KEY, OTHER = key_of("a"), key_of("b")


def tree(root):
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.fixture
def home(tmp_path):
    """A folder of somebody's own."""
    root = tmp_path / "home"
    (root / "thesis").mkdir(parents=True)
    (root / "thesis" / f"{KEY[:32]}.json").write_text("years of work")
    (root / "notes.txt").write_text("more of it")
    return root


def test_a_folder_of_other_files_is_refused_and_left_as_it_is(home):
    before = tree(home)
    with pytest.raises(InputError, match="no cache of paretoc: it holds notes"):
        DiskStore(home)
    for flags in ((), ("--prune", "0d"), ("--cache-size", "1MB")):
        done = call("cache", "--cache", home, *flags)
        assert done.code == 2
        assert len(done.message) == 2
    assert tree(home) == before


def test_a_marker_of_another_program_is_none_of_ours(home):
    for path in (home / "notes.txt", home / "thesis" / f"{KEY[:32]}.json"):
        path.unlink()
    (home / "thesis").rmdir()
    (home / MARKER).write_text("Signature: 8a477f597d28d172789f06886806bc55\n# made by another program\n")
    with pytest.raises(InputError, match=MARKER):
        DiskStore(home)


def test_a_marker_that_is_a_link_is_none(tmp_path):
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    DiskStore(ours)
    theirs.mkdir()
    (theirs / MARKER).symlink_to(ours / MARKER)
    with pytest.raises(InputError, match=MARKER):
        DiskStore(theirs)


def test_a_cache_of_an_older_release_is_taken_over(tmp_path):
    store = DiskStore(tmp_path / "cache")
    store.put("table", KEY, 1)
    (store.root / MARKER).unlink()
    assert DiskStore(store.root).get("table", KEY) == 1
    assert (store.root / MARKER).is_file()
    (store.root / MARKER).unlink()
    (store.root / "table" / "notes.txt").write_text("")
    with pytest.raises(InputError, match=r"table/notes\.txt"):
        DiskStore(store.root)


def test_pruning_takes_entries_of_ours_and_nothing_else(tmp_path):
    store = DiskStore(tmp_path / "cache")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / f"{OTHER[:32]}.json").write_text("not ours")
    (outside / "precious").write_text("not ours")
    store.put("table", KEY, 1)
    store.put_arrays("final", KEY, {"a": np.zeros(3)})
    (store.folder("supernet", KEY) / "state").write_bytes(b"x")
    (store.root / "supernet" / f"{KEY[:32]}.work" / "link").symlink_to(outside)
    (store.root / "table" / f".{KEY[:32]}.json.abcd_123").write_text("of a run that was killed")
    kept = ("notes.txt", "table/notes.txt", "table/short.json", f"Table/{KEY[:32]}.json", f"table/{KEY[:32]}.txt")
    for name in kept:
        (store.root / name).parent.mkdir(exist_ok=True)
        (store.root / name).write_text("mine")
    (store.root / "blocks").symlink_to(outside)
    (store.root / "table" / f"{OTHER[:32]}.json").symlink_to(outside / "precious")
    (store.root / "final" / f"{OTHER[:32]}.work").symlink_to(outside)
    before = tree(outside)
    assert store.prune(0) > 0
    left = {path.relative_to(store.root).as_posix() for path in store.root.rglob("*") if not path.is_dir()}
    links = {f"table/{OTHER[:32]}.json"}
    assert left - links == {*kept, MARKER, ".locks/arrays.lock"}
    assert (store.root / "final" / f"{OTHER[:32]}.work").is_symlink()
    assert tree(outside) == before


def test_nothing_is_written_through_a_link(tmp_path):
    store = DiskStore(tmp_path / "cache")
    (tmp_path / "outside").mkdir()
    (store.root / "table").symlink_to(tmp_path / "outside")
    for write in (lambda: store.put("table", KEY, 1), lambda: store.folder("table", KEY)):
        with pytest.raises(InputError, match="is a link"):
            write()
    assert not list((tmp_path / "outside").iterdir())


def filled(root, count=8, bytes_each=1000):
    """Entries that were last used a day apart, the first longest ago."""
    store = DiskStore(root)
    for i in range(count):
        store.put("table", key_of(i), "x" * bytes_each)
        when = time.time() - (count - i) * 86400
        os.utime(store.path("table", key_of(i), ".json"), (when, when))
    return store


def there(store, count=8):
    return [i for i in range(count) if store.path("table", key_of(i), ".json").exists()]


def test_what_was_not_used_for_longest_goes_first(tmp_path):
    filled(tmp_path)
    store = DiskStore(tmp_path, cap_bytes=4500)
    assert store.get("table", key_of(0)) == "x" * 1000  # it is read: used now
    with store.in_use():
        store.put("table", key_of("new"), "y" * 1000)
        assert there(store) == [0, 6, 7]
        assert store.get("table", key_of("new")) == "y" * 1000
    assert sum(entry.size_bytes for entry in store.entries()) <= 4500


def test_what_a_process_has_used_stays_while_it_runs_and_goes_when_it_ends(tmp_path):
    store = DiskStore(tmp_path, cap_bytes=2500)
    with store.in_use():
        for i in range(8):
            store.put("table", key_of(i), "x" * 1000)
        assert there(store) == list(range(8))
    assert len(there(store)) == 2


def test_what_another_run_has_used_stays_until_it_ends(tmp_path):
    filled(tmp_path)
    other = DiskStore(tmp_path, cap_bytes=1e9)
    with other.in_use():
        assert other.get("table", key_of(3))
        with DiskStore(tmp_path, cap_bytes=0).in_use():
            pass
        assert there(other) == [3]
        assert other.prune(0) == 0
        assert there(other) == [3]
    assert other.prune(0) > 0
    assert oldest_start(tmp_path) == float("inf")


def test_the_mark_of_a_run_that_was_killed_keeps_nothing(tmp_path):
    store = filled(tmp_path)
    (tmp_path / ".locks").mkdir(exist_ok=True)
    (tmp_path / ".locks" / "run-0123456789abcdef.lock").write_text("")
    assert store.prune(0) > 0
    assert not list((tmp_path / ".locks").iterdir())


def test_an_entry_from_the_future_is_pruned_too(tmp_path):
    store = DiskStore(tmp_path)
    store.put("table", KEY, 1)
    os.utime(store.path("table", KEY, ".json"), (time.time() + 1e6,) * 2)
    assert store.prune(0) > 0


def test_the_cap_is_the_users_or_a_tenth_of_the_disk(tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Disk", (), {"total": 5e10}))
    assert default_cap(tmp_path) == 5e9
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Disk", (), {"total": 1e13}))
    assert default_cap(tmp_path) == 20e9
    monkeypatch.setenv("PARETOC_CACHE_SIZE", "1.5GiB")
    assert default_cap(tmp_path) == 1.5 * 2**30
    monkeypatch.setenv("PARETOC_CACHE_SIZE", "much")
    with pytest.raises(InputError, match="PARETOC_CACHE_SIZE"):
        default_cap(tmp_path)


def test_the_command_tells_the_cap_and_the_use(tmp_path):
    filled(tmp_path / "cache")
    shown = call("cache", "--cache", tmp_path / "cache")
    assert "at most" in shown.out
    assert call("cache", "--cache", tmp_path / "cache", "--cache-size", "2MB").out.startswith("freed 0.0 MB")
    assert call("cache", "--cache", tmp_path / "none").code == 0
    assert not (tmp_path / "none").exists()


def test_one_piece_of_work_is_done_by_one_at_a_time(tmp_path):
    DiskStore(tmp_path)
    order = []

    def second():
        with alone(tmp_path, "work", lambda: order.append("waits")):
            order.append("second")

    with alone(tmp_path, "work"):
        thread = threading.Thread(target=second)
        thread.start()
        while not order:
            time.sleep(0.01)
        order.append("first")
    thread.join()
    assert order == ["waits", "first", "second"]


def test_arrays_that_another_process_has_stored_stay(tmp_path):
    first, second = DiskStore(tmp_path), DiskStore(tmp_path)
    first.put_arrays("final", KEY, {"a": np.zeros(3)})
    second.put_arrays("final", KEY, {"a": np.ones(3)})
    assert np.array_equal(first.get_arrays("final", KEY)["a"], np.zeros(3))
    first.path("final", KEY, ".safetensors").write_bytes(b"damaged")
    second.put_arrays("final", KEY, {"a": np.ones(3)})
    assert np.array_equal(first.get_arrays("final", KEY)["a"], np.ones(3))


@pytest.mark.parametrize("damage", [b"[" * 100_000, b"\xff\xfe", b'{"sha256": 1, "value": NaN}', b'{"value": {}}'])
def test_a_damaged_entry_is_absent(tmp_path, damage):
    store = DiskStore(tmp_path)
    store.put_arrays("final", KEY, {"a": np.zeros(3)})
    store.path("final", KEY, ".json").write_bytes(damage)
    assert store.get_arrays("final", KEY) is None


def test_an_entry_that_is_a_pipe_is_absent(tmp_path):
    store = DiskStore(tmp_path)
    store.put("table", KEY, 1)
    store.path("table", KEY, ".json").unlink()
    os.mkfifo(store.path("table", KEY, ".json"))
    assert store.get("table", KEY) is None


@pytest.mark.parametrize(
    ("error", "full"),
    [
        (OSError(28, "No space left on device"), True),
        (RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"), True),
        (RuntimeError("writing data/0: No space left on device"), True),
        (OSError(13, "Permission denied"), False),
        (RuntimeError("PytorchStreamWriter failed writing file data/0"), None),
        (ValueError("I/O error"), None),
    ],
)
def test_a_full_disk_is_known_by_its_number(error, full):
    found = file_error(error)
    assert (None if found is None else is_full(found)) == full
