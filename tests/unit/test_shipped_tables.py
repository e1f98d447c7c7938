"""Every table that ships says where it was measured and how far off it is; the check is held against spoilt tables too."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from profilers import CostTable, Dimensions, LayerSizes, Plan, Program, Workload, make_runtime, measure_table
from targets import Target, measure_fingerprint, shipped_tables
from targets.errors import InputError

FOLDER = Path(__file__).resolve().parents[2] / "targets" / "costs"
DIMS = Dimensions(layers=3, heads=4, ffn_units=48, hidden_size=32, head_size=8, vocabulary=100)
NULL = Target.parse("null")


def faults(path: Path) -> list[str]:
    """Why a table must not ship; none if it may."""
    try:
        table = CostTable.read(path)
    except InputError as error:
        return [str(error)]
    name, device = Target.parse(table.target).name, table.fingerprint
    found = [f"no workload of the null device: {w}" for w in table.workloads() if w.runtime == "null"]
    if path.stem != name and not path.name.startswith(f"{name}-"):
        found.append(f"a table of {name} is not looked for in {path.name}")
    if table.source not in {"measured", "transferred"}:
        found.append(f"its source is {table.source}")
    if device.kind == "null" or not device.device_name:
        found.append("it names no device")
    for workload in table.workloads() or [None]:
        error = table.errors.get(workload)
        if error is None or error.check_nets < 12 or not np.isfinite([error.mape, error.control_mape]).all():
            found.append(f"no error with its control for {workload}")
    return found


def program(stack) -> Program:
    return Program(name=str(stack), stack=stack, dimensions=DIMS, graph=None, module=None, inputs=None)


def made(path: Path) -> Path:
    """A table as it could ship, but that its times are the null device's."""
    rng = np.random.default_rng(0)
    checks = [tuple(LayerSizes(*map(int, pair)) for pair in rng.integers(1, (5, 49), (3, 2))) for _ in range(12)]
    plan = Plan(min_rounds=1, max_rounds=1, block_s=0.0)
    tables = [
        measure_table(
            NULL, DIMS, Workload(batch=batch), make_runtime("null", NULL), program, measure_fingerprint(NULL),
            checks=checks, plan=plan,
        )
        for batch in (1, 8)
    ]  # fmt: skip
    device = replace(tables[0].fingerprint, device_name="NVIDIA A10G", kind="gpu")
    replace(CostTable.merge(tables), target="a10g:fp32", source="measured", fingerprint=device).write(path)
    return path


@pytest.fixture(
    scope="module", params=[*sorted(FOLDER.glob("*")), None], ids=lambda file: file.name if file else "made"
)
def path(request, tmp_path_factory):
    return request.param or made(tmp_path_factory.mktemp("costs") / "a10g-any.json")


def test_a_table_may_ship(path):
    assert faults(path) == []


def test_all_that_lies_in_the_folder_is_found():
    files = {file.name for file in FOLDER.glob("*")}
    assert files == {
        name
        for target in {file.partition("-")[0].removesuffix(".json") for file in files}
        for name in shipped_tables(target)
    }


def _worst(**changes):
    return lambda data: data["errors"][0].update(changes)


SPOILT = {
    "null source": (lambda data: data.update(source="null"), "its source is null"),
    "roofline": (lambda data: data.update(source="roofline"), "its source is roofline"),
    "nameless": (lambda data: data["fingerprint"].update(device_name=""), "it names no device"),
    "null device": (lambda data: data["fingerprint"].update(kind="null"), "it names no device"),
    "null runtime": (lambda data: data["entries"][0].update(runtime="null"), "no workload of the null device"),
    "no error": (lambda data: data["errors"].pop(), "no error with its control"),
    "no control": (_worst(control_mape=float("nan")), "holds NaN"),
    "few checks": (_worst(check_nets=4), "no error with its control"),
    "empty": (lambda data: data.update(entries=[]), "no error with its control"),
    "other target": (lambda data: data.update(target="null:fp32"), "is not looked for in"),
}


@pytest.mark.parametrize(("change", "fault"), SPOILT.values(), ids=SPOILT)
def test_a_spoilt_table_may_not(tmp_path, change, fault):
    path = made(tmp_path / "a10g-any.json")
    data = json.loads(path.read_text(encoding="utf-8"))
    change(data)
    path.write_text(json.dumps(data), encoding="utf-8")
    assert any(fault in found for found in faults(path))
