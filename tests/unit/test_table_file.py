"""What a cost table answers, how it is written, and which tables are refused."""

import json
from dataclasses import replace

import numpy as np
import pytest

from profilers import CostKey, CostTable, LayerSizes, MissingCostError, TableError, roofline_table
from profilers.roofline import stack_seconds
from targets import Fingerprint
from targets.errors import InputError, TargetError
from tests.machines import ASKED, CHECKS, DIMS, HERE, NULL, measure


@pytest.fixture(scope="module")
def table() -> CostTable:
    return measure()


def by_hand(**entries) -> CostTable:
    """attention_3=2.0 is 3 heads at 2 s; base and mask have size 0."""
    rows = {CostKey(*_piece(name), ASKED): seconds for name, seconds in entries.items()}
    return CostTable(target="null:fp32", source="measured", fingerprint=HERE, dimensions=DIMS, entries=rows)


def _piece(name: str):
    piece, _, size = name.partition("_")
    return piece, int(size or 0)


def test_roofline_table_predicts_the_roofline_and_says_so():
    modelled = roofline_table(NULL, DIMS, ASKED, HERE)
    for stack in CHECKS:
        estimate = modelled.predict(stack, ASKED)
        assert estimate.value == pytest.approx(stack_seconds(NULL, ASKED, DIMS, stack))
        assert estimate.source == "roofline"


def test_table_error_by_hand():
    error = TableError.of(np.array([1.1, 2.0, 2.7]), np.array([1.0, 2.0, 3.0]), np.array([2.0, 2.0, 3.0]))
    assert error.check_nets == 3
    assert error.mape == pytest.approx(0.2 / 3)
    assert error.max == pytest.approx(0.1)
    assert error.p95 == pytest.approx(0.1)
    assert error.spearman == pytest.approx(1.0)
    assert error.control_mape == pytest.approx(1 / 3)


def test_missing_cost_names_the_nearest_sizes(table):
    with pytest.raises(MissingCostError, match=r"ffn at 90 .*nearest sizes: \[96, 80\]"):
        table.lookup(CostKey("ffn", 90, ASKED))
    with pytest.raises(MissingCostError, match="nearest sizes: none"):
        table.lookup(CostKey("ffn", 96, replace(ASKED, batch=64)))


def test_curve_is_linear_between_entries_flat_below_and_zero_at_zero():
    curve = by_hand(ffn_2=1.0, ffn_4=2.0, ffn_8=3.0).curve("ffn", 8, ASKED)
    assert curve == pytest.approx([0, 1, 1, 1.5, 2, 2.25, 2.5, 2.75, 3])


def test_curve_refuses_to_extrapolate():
    with pytest.raises(MissingCostError, match="end at 8, need 9"):
        by_hand(ffn_8=3.0).curve("ffn", 9, ASKED)
    with pytest.raises(MissingCostError, match="end at none"):
        by_hand(ffn_8=3.0).curve("attention", 1, ASKED)


def test_prediction_by_hand_and_its_source():
    table = by_hand(base=10.0, mask=0.5, attention_2=2.0, attention_6=6.0, ffn_96=1.0, ffn_192=3.0)
    none = LayerSizes(0, 0)
    exact = table.predict((LayerSizes(2, 192), LayerSizes(6, 0), none, none), ASKED)
    assert (exact.value, exact.source) == (pytest.approx(10 + 0.5 + 2 + 3 + 6), "measured")
    between = table.predict((LayerSizes(0, 144), LayerSizes(3, 0), none, none), ASKED)
    assert (between.value, between.source) == (pytest.approx(10 + 0.5 + 2 + 3), "interpolated")
    without_attention = table.predict((LayerSizes(0, 96), none, none, none), ASKED)
    assert without_attention.value == pytest.approx(11)
    assert table.predict((none,) * 4, ASKED).value == pytest.approx(10)


def test_json_and_file_round_trip(table, tmp_path):
    path = tmp_path / "table.json"
    table.write(path)
    back = CostTable.read(path)
    assert back.entries == table.entries
    assert back.to_json() == table.to_json()
    assert back.errors == table.errors
    assert back.fingerprint == table.fingerprint
    assert [back.predict(s, ASKED) for s in CHECKS] == [table.predict(s, ASKED) for s in CHECKS]


def _set(*path_and_value):
    *path, last, value = path_and_value

    def change(data):
        for key in path:
            data = data[key]
        data[last] = value

    return change


def _drop(*path):
    def change(data):
        for key in path[:-1]:
            data = data[key]
        del data[path[-1]]

    return change


TOP = ("target", "source", "fingerprint", "dimensions", "entries", "errors")
BROKEN = {
    "no table": (_set("kind", "something else"), "not a paretoc cost table"),
    "older schema": (_set("schema", 0), "schema 0, this version reads"),
    "no schema": (_drop("schema"), "schema None"),
    "NaN": (_set("entries", 2, "seconds", float("nan")), "holds NaN"),
    "infinite": (_set("entries", 2, "seconds", float("inf")), "holds Infinity"),
    "negative": (
        _set("entries", 2, "seconds", -1e-9),
        "entries[2].seconds: input should be greater than or equal to 0, got -1e-09",
    ),
    "no number": (_set("entries", 2, "seconds", None), "damaged"),
    "an error of NaN": (_set("errors", 0, "mape", float("nan")), "holds NaN"),
    "an infinite error": (_set("errors", 0, "max", float("inf")), "holds Infinity"),
    "alignment of 0": (_set("alignment", 0), "alignment: input should be greater than or equal to 1, got 0"),
    "what was too large, of no workload": (_set("how", "too_large", [[[1, 8]]]), "damaged"),
    "two times of one piece": (
        lambda data: data["entries"].append(data["entries"][2] | {"seconds": 9.0}),
        "stands twice",
    ),
    "10^12 layers": (
        _set("dimensions", "layers", 10**12),
        "dimensions.layers: input should be less than or equal to 1000",
    ),
    "unknown piece": (_set("entries", 2, "piece", "conv"), "entries[2].piece: input should be 'base', 'mask'"),
    "unknown source": (_set("source", "guessed"), "source: input should be 'measured', 'transferred'"),
    "entry without size": (_drop("entries", 2, "size"), "entries[2].size: field required"),
    "a cache of nothing": (
        _set("entries", 2, {"piece": "uncached", "size": 0, **ASKED.to_json(), "seconds": 1}),
        "damaged",
    ),
    "entry with more": (_set("entries", 2, "gpu", 1), "damaged"),
    "dimensions with less": (_drop("dimensions", "heads"), "damaged"),
    "fingerprint with less": (_drop("fingerprint", "isa"), "not a fingerprint"),
    **{f"no {key}": (_drop(key), f"damaged: {key}: field required") for key in TOP},
}


@pytest.mark.parametrize(("change", "message"), BROKEN.values(), ids=BROKEN)
def test_damaged_tables_are_refused(table, tmp_path, change, message):
    data = json.loads(json.dumps(table.to_json()))
    change(data)
    path = tmp_path / "table.json"
    path.write_text(json.dumps(data))
    with pytest.raises(InputError) as caught:
        CostTable.read(path)
    assert message in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"[]", b"7", b"null", b"\xff\xfe", b"{"])
def test_what_is_no_table_at_all_is_refused(tmp_path, content):
    path = tmp_path / "table.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"table\.json"):
        CostTable.read(path)


def test_truncated_and_missing_files_are_refused(table, tmp_path):
    path = tmp_path / "table.json"
    table.write(path)
    text = path.read_text()
    for length in (1, len(text) // 2, len(text) - 3):
        path.write_text(text[:length])
        with pytest.raises(InputError, match=r"is not JSON: .* line"):
            CostTable.read(path)
    with pytest.raises(InputError, match="no cost table at"):
        CostTable.read(tmp_path / "absent.json")


@pytest.mark.parametrize("name", ["heads", "ffn_units", "hidden_size", "head_size"])
def test_a_table_of_another_model_is_refused(table, name):
    other = replace(DIMS, **{name: getattr(DIMS, name) + 1})
    with pytest.raises(TargetError, match=f"another model: {name}"):
        table.check_fits(other, ASKED)


def test_a_table_serves_models_that_differ_in_depth_or_vocabulary_only(table):
    table.check_fits(replace(DIMS, layers=2, vocabulary=7), ASKED)


@pytest.mark.parametrize("change", [{"batch": 3}, {"tokens": 41}, {"threads": 2}, {"precision": "fp16"}])
def test_a_table_of_another_workload_is_refused_and_says_what_it_has(table, change):
    with pytest.raises(TargetError, match="it has: batch 2, 40 tokens, 1 thread, fp32, null"):
        table.check_fits(DIMS, replace(ASKED, **change))


def test_a_table_of_another_device_or_version_is_refused():
    data = HERE.to_json() | {"kind": "cpu", "device_name": "A", "threads": 1, "libraries": {"onnxruntime": "1.30.1"}}
    there = Fingerprint.from_json(data)
    table = replace(by_hand(base=1.0), fingerprint=there)
    table.check_device(there, "onnxruntime")
    table.check_device(Fingerprint.from_json(data | {"libraries": {"onnxruntime": "1.30.9"}}), "onnxruntime")
    for change, word in (
        ({"device_name": "B"}, "here is B"),
        ({"threads": 2}, "threads"),
        ({"isa": ["avx2"]}, "instruction sets"),
        ({"libraries": {"onnxruntime": "1.31.0"}}, "onnxruntime"),
    ):
        with pytest.raises(TargetError, match=word):
            table.check_device(Fingerprint.from_json(data | change), "onnxruntime")
