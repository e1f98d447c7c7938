"""The stage store: written whole or not at all, checked on read, pruned by age."""

import os

import numpy as np
import pytest

from compiler.store import DiskStore, Store, default_root, key_of
from targets.errors import InputError

KEY = key_of({"a": 1})


@pytest.fixture
def store(tmp_path) -> Store:
    return DiskStore(tmp_path / "cache")


def test_keys_are_canonical_and_take_plain_values_only():
    assert key_of({"a": 1, "b": [2, None]}) == key_of({"b": [2, None], "a": 1})
    assert len({key_of(x) for x in (1, "1", [1], {"1": 1}, None, 1.5)}) == 6
    with pytest.raises(TypeError):
        key_of({"a": object()})


@pytest.mark.parametrize("value", [1, 0.1, "text", [1, [2]], {"x": None}, [], False])
def test_values_come_back_and_stages_are_apart(store, value):
    assert store.get("stage", KEY) is None
    store.put("stage", KEY, value)
    assert store.get("stage", KEY) == value
    assert store.get("other", KEY) is None
    assert DiskStore(store.root).get("stage", KEY) == value


def test_arrays_come_back(store):
    arrays = {"a": np.arange(6.0).reshape(2, 3), "b": np.array([1, 2], dtype=np.int64)}
    assert store.get_arrays("stage", KEY) is None
    store.put_arrays("stage", KEY, arrays)
    back = store.get_arrays("stage", KEY)
    assert back.keys() == arrays.keys()
    assert all(np.array_equal(back[n], arrays[n]) and back[n].dtype == arrays[n].dtype for n in arrays)


def test_a_corrupted_entry_is_treated_as_absent_and_can_be_written_again(store):
    store.put("stage", KEY, [1, 2, 3])
    path = store.path("stage", KEY, ".json")
    whole = path.read_text()
    for broken in ("", whole[:-5], whole.replace("3", "4", 1), "[]", "null", '{"value": 1}', "\x00"):
        path.write_text(broken)
        if broken != whole:
            assert store.get("stage", KEY) is None
    store.put("stage", KEY, [1])
    assert store.get("stage", KEY) == [1]


def test_corrupted_arrays_are_treated_as_absent(store):
    store.put_arrays("stage", KEY, {"a": np.arange(6.0)})
    path = store.path("stage", KEY, ".safetensors")
    content = path.read_bytes()
    for broken in (b"", content[:-1], content[:-1] + bytes([content[-1] ^ 1])):
        path.write_bytes(broken)
        assert store.get_arrays("stage", KEY) is None
    path.write_bytes(content)
    store.path("stage", KEY, ".json").unlink()
    assert store.get_arrays("stage", KEY) is None


def test_a_write_that_dies_leaves_the_old_entry_and_no_rubbish(store, monkeypatch):
    store.put("stage", KEY, "old")

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.replace", killed)
        with pytest.raises(KeyboardInterrupt):
            store.put("stage", KEY, "new")
    assert store.get("stage", KEY) == "old"
    assert [p.name for p in (store.root / "stage").iterdir()] == [store.path("stage", KEY, ".json").name]


def test_a_full_disk_is_the_users_to_mend(store, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.replace", full)
    with pytest.raises(InputError, match="No space left on device"):
        store.put("stage", KEY, 1)


def test_arrays_that_do_not_fit_on_the_disk_are_the_users_to_mend_too(store, monkeypatch):
    from safetensors import SafetensorError

    def full(*_):
        raise SafetensorError("No space left on device")

    monkeypatch.setattr("safetensors.numpy.save_file", full)
    with pytest.raises(InputError, match="No space left on device"):
        store.put_arrays("stage", KEY, {"a": np.zeros(3)})
    assert list((store.root / "stage").iterdir()) == []


def test_prune_deletes_what_is_old_and_says_how_much(store):
    store.put("stage", KEY, "old")
    store.put("stage", key_of(2), "new")
    (store.folder("train", KEY) / "state").write_bytes(b"x" * 100)
    old = store.path("stage", KEY, ".json")
    size = old.stat().st_size
    os.utime(old, (1, 1))
    assert {e.stage for e in store.entries()} == {"stage", "train"}
    assert store.prune(3600) == size
    assert store.get("stage", KEY) is None
    assert store.get("stage", key_of(2)) == "new"
    assert store.prune(0) >= 100
    assert list(store.entries()) == []


def test_a_root_that_cannot_be_made_is_refused_with_what_to_do(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="--cache DIR"):
        DiskStore(tmp_path / "file" / "cache")


def test_a_stage_that_cannot_be_written_is_refused_with_what_to_do(store):
    (store.root / "stage").write_text("in the way")
    with pytest.raises(InputError, match="--cache DIR"):
        store.put("stage", KEY, 1)


def test_root_is_the_environments_or_the_users_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("PARETOC_CACHE", str(tmp_path))
    assert default_root() == tmp_path
    monkeypatch.delenv("PARETOC_CACHE")
    assert default_root().name == "paretoc"
