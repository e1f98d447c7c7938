"""Cost tables that can be carried over to a device: those that ship, and those that earlier runs measured, found by architecture."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import log
from typing import Any

from compiler.costing import CostModel
from compiler.pipeline.device import Device
from compiler.pipeline.measuring import too_noisy
from compiler.store import Store, key_of
from profilers import CostTable, Dimensions, MissingCostError, Workload
from profilers.cost_table import SCHEMA
from targets import Target, load_catalog, shipped_files
from targets.errors import InputError, TargetError

MAX_TOKENS_RATIO = 4.0
"""Largest ratio of tokens a call, either way, between a workload and one whose table is carried over to it."""

STAGE = "table"
_PREFIX = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """A measured table under one workload, to be carried over to another device or workload."""

    name: str
    table: CostTable
    workload: Workload

    @property
    def described(self) -> str:
        """Name, device and workload in words."""
        return f"{self.name} ({self.table.fingerprint.device_name}, {self.workload})"

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; `from_json` inverts it."""
        return {"name": self.name, "table": self.table.to_json(), "workload": self.workload.to_json()}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Base":
        """InputError where the table is damaged."""
        table = CostTable.from_json(data["table"])
        return cls(name=data["name"], table=table, workload=Workload.from_json(data["workload"]))


def table_key(target: Target, dimensions: Dimensions, inputs: Any) -> str:
    """Store key of a table made from `inputs`. Keys of one architecture and kind of device share a prefix: no index is kept."""
    return _prefix(target, dimensions) + key_of([SCHEMA, inputs])[:_PREFIX]


def _prefix(target: Target, dimensions: Dimensions) -> str:
    """Depth and vocabulary play no part: entries are costs of one layer."""
    layer = {name: size for name, size in dimensions.to_json().items() if name not in {"layers", "vocabulary"}}
    return key_of([SCHEMA, target.kind, target.size_alignment, layer])[:_PREFIX]


def chosen_base(device: Device, workload: Workload, dimensions: Dimensions, store: Store, key: str) -> Base | None:
    """The base to carry over, or None where nothing is near. The choice is kept under `key`: a killed run resumes it."""
    kept = store.get("base", key)
    if kept is None:
        found = nearest_base(device, workload, dimensions, store)
        kept = {"base": found and found.to_json()}
        store.put("base", key, kept)
    return kept["base"] and Base.from_json(kept["base"])


def nearest_base(device: Device, workload: Workload, dimensions: Dimensions, store: Store) -> Base | None:
    """The stored or shipped table under the workload that differs least: device, versions, threads, batch, tokens; None without."""
    bases = [
        Base(name=name, table=table.under([near]), workload=near)
        for name, table in _tables(device.target, dimensions, store)
        for near in table.workloads()
        if _is_near(near, workload) and _is_sound(table, near, dimensions, device.target)
    ]
    return min(bases, key=lambda base: _distance(base, device, workload, dimensions), default=None)


def _tables(target: Target, dimensions: Dimensions, store: Store) -> Iterator[tuple[str, CostTable]]:
    """Measured tables by name. A table of another device of the same kind counts; a damaged one of the store does not."""
    for name in (other.name for other in load_catalog().values() if other.kind == target.kind):
        for file in shipped_files(name):
            yield file.name, CostTable.read(file)
    for stored in store.values(STAGE, _prefix(target, dimensions)):
        try:
            yield "a table of an earlier run", CostTable.from_json(stored)
        except InputError:
            continue


def _is_near(base: Workload, workload: Workload) -> bool:
    """Whether two workloads run the same graph in the same runtime on numbers of tokens that are not too far apart."""
    same = all(getattr(base, name) == getattr(workload, name) for name in ("precision", "runtime", "opset"))
    return same and abs(_log_ratio(base, workload)) <= log(MAX_TOKENS_RATIO)


def _log_ratio(base: Workload, workload: Workload) -> float:
    return log(_tokens(base) / _tokens(workload))


def _tokens(workload: Workload) -> float:
    """Mean number of tokens of a call."""
    return workload.batch * sum(one.tokens for one in workload.each) / len(workload.each)


def _is_sound(table: CostTable, workload: Workload, dimensions: Dimensions, target: Target) -> bool:
    """Whether a table is measured, of this architecture, complete, and within its own bound of error."""
    own = table.under([workload])
    if table.source != "measured" or table.alignment != target.size_alignment:
        return False
    if workload not in own.errors or too_noisy(own):
        return False
    try:
        table.check_fits(dimensions, workload)
        CostModel.of(own, workload)
    except (TargetError, MissingCostError):
        return False
    return table.holds(table.dimensions.dense, workload)


def _distance(base: Base, device: Device, workload: Workload, dimensions: Dimensions) -> tuple[int, float]:
    """The number of things that differ, then how far the numbers of tokens are apart."""
    asked, known = (each.to_json() for each in (workload, base.workload))
    ways = sum(asked.get(name) != known.get(name) for name in {*asked, *known})
    there, here = (replace(fingerprint, threads=None) for fingerprint in (base.table.fingerprint, device.fingerprint))
    ways += len(there.differences(here, runtime=workload.runtime)) + (base.table.dimensions != dimensions)
    return ways, abs(_log_ratio(base.workload, workload))
