"""The verbs that only look: the catalogue, the cache, a report made again; for people and as JSON."""

import json

import pytest

from compiler.store import DiskStore
from targets import Target, present
from tests.cli import call


def answer(*arguments):
    done = call(*arguments, "--json")
    assert done.code == 0, done.err
    return json.loads(done.out)


def test_one_target_in_full():
    (found,) = answer("targets", "a10g")["targets"]
    target = Target.parse("a10g")
    assert found["name"] == "a10g"
    assert found["here"] is bool(present(target))
    assert found["why"]
    assert found["memory_bytes"] == target.memory_bytes
    assert found["peak_flops_per_s"]["fp16"] == target.peak_flops_per_s["fp16"]
    assert found["sources"]["memory_bytes"]["url"].startswith("https://")


def test_the_catalogue_names_every_table_that_ships_with_its_error():
    found = {target["name"]: target for target in answer("targets")["targets"]}
    assert {"cpu", "a10g", "null"} <= found.keys()
    tables = {table["file"]: table for table in found["cpu"]["tables"]}
    assert tables["cpu-minilm.json"]["dimensions"]["hidden_size"] == 384
    assert all(0 < error["mape"] < 0.1 for table in tables.values() for error in table["errors"])
    text = call("targets").out
    assert all(name in text for name in found)


def test_the_cache_is_listed_and_pruned(tmp_path):
    store = DiskStore(tmp_path)
    for number in range(3):
        store.put("blocks", f"{number}" * 40, [[0.1 * number]])
    store.put("table", "a" * 40, {"a": 1})
    found = answer("cache", "--cache", tmp_path)
    assert found["cache"] == str(tmp_path)
    assert {stage: one["entries"] for stage, one in found["stages"].items()} == {"blocks": 3, "table": 1}
    size = sum(one["bytes"] for one in found["stages"].values())
    assert size == sum(path.stat().st_size for path in tmp_path.glob("*/*"))
    assert "blocks" in call("cache", "--cache", tmp_path).out
    assert answer("cache", "--cache", tmp_path, "--prune", "0d") == {"freed_bytes": size}
    assert answer("cache", "--cache", tmp_path)["stages"] == {}


@pytest.mark.parametrize("flags", [(), ("--json",)])
def test_a_report_of_no_run_is_refused(tmp_path, flags):
    done = call("report", tmp_path, *flags)
    assert done.code == 2
    assert not done.out
    assert done.message
