"""A cache at a URL: a second machine ends with the front of the first, computes nothing and publishes nothing."""

import json
import time

import pytest

from compiler.store.shared import SharedStore
from tests.cli import call, classes, write_rows, write_texts
from tests.s3_here import BUCKET, s3_server
from tests.tiny import save_tiny

FEW = ("--target", "null", "--seq-len", "32", "--evaluations", "8", "--winners", "2", "--epochs", "1", "--quiet")


def front(out):
    found = json.loads((out / "front.json").read_text(encoding="utf-8"))
    del found["timings_s"], found["table"]["seconds"]
    return found


@pytest.mark.parametrize("effort", ["fast", "thorough"])
def test_a_second_machine_goes_on_from_the_first(tmp_path, monkeypatch, effort):
    save_tiny(tmp_path / "encoder")
    data = write_texts(tmp_path / "texts.txt") if effort == "fast" else write_rows(tmp_path / "rows.csv", classes())
    url, published = f"s3://{BUCKET}/{effort}", []
    put, put_arrays = SharedStore.put, SharedStore.put_arrays
    monkeypatch.setattr(SharedStore, "put", lambda *a: (published.append(a[1]), put(*a))[1])
    monkeypatch.setattr(SharedStore, "put_arrays", lambda *a: (published.append(a[1]), put_arrays(*a))[1])

    def compile_on(machine, cache):
        published.clear()
        monkeypatch.setenv("PARETOC_CACHE_FRONT", str(tmp_path / f"front-{machine}"))
        out = tmp_path / machine
        done = call(tmp_path / "encoder", "--data", data, *FEW, "--effort", effort, "--cache", cache, "--out", out)
        assert done.code == 0, done.err
        return front(out), list(published)

    with s3_server():
        first, made = compile_on("one", url)
        second, made_again = compile_on("two", url)
        listed = call("cache", "--cache", url, "--json")
        time.sleep(2)  # the server tells whole seconds
        pruned = call("cache", "--cache", url, "--prune", "0d", "--json")
        after = call("cache", "--cache", url, "--json")
    alone, _ = compile_on("alone", tmp_path / "cache")
    assert {"template", "table", "evaluated", "judged"} <= set(made)
    assert made_again == []
    assert first == second == alone
    stages = json.loads(listed.out)["stages"]
    assert set(made) <= set(stages)
    assert json.loads(pruned.out)["freed_bytes"] == json.loads(listed.out)["bytes"]
    assert json.loads(after.out)["bytes"] == 0
