"""Cost tables of several workloads: merged, cut to some of them, written a row a line."""

import json
from dataclasses import replace

import pytest

from profilers import CostKey, CostTable, Dimensions, MissingCostError, TableError, Workload
from targets import Target, TargetError, measure_fingerprint
from targets.errors import InputError

DIMS = Dimensions(layers=2, heads=2, ffn_units=16, hidden_size=32, head_size=16, vocabulary=100)
CPU = measure_fingerprint(Target.parse("cpu"), threads=1)
ONE, TWO = Workload(threads=1), Workload(threads=2, batch=8)


def table(workload: Workload, mape: float = 0.01, **changes) -> CostTable:
    """Two pieces, one check, an error; the threads are the workload's."""
    error = TableError(check_nets=12, mape=mape, p95=0.1, max=0.2, spearman=1.0, control_mape=0.3)
    check = {**workload.to_json(), "heads": [1, 2], "ffn_units": [16, 0], "measured_s": 1.0, "predicted_s": 1.1}
    contents = {
        "target": "cpu:fp32", "source": "measured", "dimensions": DIMS, "seconds": 5.0,
        "fingerprint": replace(CPU, threads=workload.threads),
        "entries": {CostKey("base", 0, workload): 0.1, CostKey("ffn", 16, workload): 0.2 * workload.batch},
        "errors": {workload: error}, "checks": (check,), "how": {"mode": "by hand", "warnings": []},
    }  # fmt: skip
    return CostTable(**(contents | changes))


@pytest.fixture
def merged() -> CostTable:
    return CostTable.merge([table(ONE), table(TWO, mape=0.2)])


def test_a_merged_table_has_what_each_of_its_parts_has(merged):
    parts = table(ONE), table(TWO, mape=0.2)
    assert merged.entries == {**parts[0].entries, **parts[1].entries}
    assert merged.errors == {**parts[0].errors, **parts[1].errors}
    assert list(merged.checks) == [*parts[0].checks, *parts[1].checks]
    assert merged.seconds == 10.0


def test_lists_of_how_it_was_measured_come_together_each_item_once():
    first = {"mode": "a", "warnings": ["hot", "shared"], "too_large": [[[2, 16]]], "transfers": [{"to": 1}]}
    second = {"mode": "b", "warnings": ["shared", "old"], "too_large": [], "transfers": [{"to": 2}]}
    how = CostTable.merge([table(ONE, how=first), table(TWO, how=second)]).how
    assert how == {
        "mode": "b", "warnings": ["hot", "shared", "old"], "too_large": [[[2, 16]]], "transfers": [{"to": 1}, {"to": 2}],
    }  # fmt: skip


def test_a_table_of_one_and_two_threads_belongs_to_the_device_on_either(merged):
    assert merged.fingerprint.threads is None
    for threads in (1, 2):
        merged.check_device(replace(CPU, threads=threads), "onnxruntime")
    with pytest.raises(TargetError, match="here is another"):
        merged.check_device(replace(CPU, device_name="another"), "onnxruntime")
    assert CostTable.merge([table(ONE), table(replace(ONE, batch=8))]).fingerprint.threads == 1


def test_what_a_table_says_of_some_workloads_is_what_was_merged(merged):
    assert (
        merged.under([TWO]).to_json()
        == replace(table(TWO, mape=0.2), seconds=10.0, fingerprint=merged.fingerprint).to_json()
    )
    assert merged.under([ONE, TWO]) == merged
    assert merged.under([ONE]).error.mape == 0.01 < merged.error.mape
    assert not merged.under([]).entries


def test_a_written_table_has_a_line_for_each_row(merged, tmp_path):
    path = tmp_path / "table.json"
    merged.write(path)
    text = path.read_text(encoding="utf-8")
    assert json.loads(text) == json.loads(json.dumps(merged.to_json()))
    rows = [*merged.to_json()["entries"], *merged.to_json()["checks"], *merged.to_json()["errors"]]
    for row in rows:
        assert sum(line.strip().rstrip(",") == json.dumps(row) for line in text.splitlines()) == 1
    assert "\n  " in text.split('"entries"')[0], "the document around the rows is indented"
    assert CostTable.read(path).to_json() == merged.to_json()


def test_a_table_without_rows_can_be_written_and_read(tmp_path):
    empty = table(ONE, entries={}, errors={}, checks=())
    empty.write(tmp_path / "table.json")
    assert CostTable.read(tmp_path / "table.json").to_json() == empty.to_json()


@pytest.mark.parametrize("check", [{"heads": [1]}, "a network", 7])
def test_a_check_that_names_no_workload_is_refused(check):
    with pytest.raises(InputError, match="damaged"):
        CostTable.from_json(table(ONE).to_json() | {"checks": [check]})


def test_a_workload_in_words():
    assert str(ONE) == "batch 1, 128 tokens, 1 thread, fp32, onnxruntime"
    assert str(replace(TWO, precision="int8")) == "batch 8, 128 tokens, 2 threads, int8, onnxruntime"
    assert str(Workload(lengths=(16, 32))) == "batch 1, 2 lengths in turn, 1 thread, fp32, onnxruntime"


LENGTHS = (8, 16, 64)
TRAFFIC = replace(ONE, lengths=(8, 12, 40))


def at_lengths() -> CostTable:
    return CostTable.merge([table(replace(ONE, tokens=tokens)) for tokens in LENGTHS])


def test_traffic_is_read_between_the_lengths_there_are():
    """12 lies half way from 8 to 16, and 40 from 16 to 64."""
    read = {w.tokens: weight for w, weight in at_lengths().weights(TRAFFIC).items()}
    assert read == pytest.approx({8: 1.5 / 3, 16: 1.0 / 3, 64: 0.5 / 3})


def test_traffic_that_was_measured_is_read_as_it_is():
    both = CostTable.merge([at_lengths(), table(TRAFFIC)])
    assert both.weights(TRAFFIC) == {TRAFFIC: 1.0}
    assert CostTable.from_json(json.loads(json.dumps(both.to_json()))) == both


@pytest.mark.parametrize("lengths", [(4, 12), (12, 65)])
def test_traffic_beyond_the_lengths_there_are_is_refused(lengths):
    with pytest.raises(
        MissingCostError, match=f"only lengths of 8, 16, 64, and texts of {lengths[0]} to {lengths[1]} tokens"
    ):
        at_lengths().weights(replace(ONE, lengths=lengths))
