"""The catalogue as tables for the terminal, and as JSON values."""

from dataclasses import asdict
from statistics import median
from typing import Any

from rich.table import Table

from profilers import CostTable
from targets import Presence, Target, present, shipped_files, survey


def facts(target: Target, presence: Presence) -> dict[str, Any]:
    """One target: whether it is here, its facts (bytes, bytes a second, operations a second) with their sources, its tables."""
    tables = {file.name: CostTable.read(file) for file in shipped_files(target.name)}
    return {
        "name": target.name, "kind": target.kind, "here": bool(presence), "why": presence.reason,
        "memory_bytes": target.memory_bytes, "bandwidth_bytes_per_s": target.bandwidth_bytes_per_s,
        "peak_flops_per_s": dict(target.peak_flops_per_s),
        "sources": {fact: asdict(source) for fact, source in target.sources.items()},
        "tables": [
            {
                "file": name, "dimensions": asdict(table.dimensions), "device": table.fingerprint.device_name,
                "errors": [{**workload.to_json(), **asdict(error)} for workload, error in table.errors.items()],
            }
            for name, table in tables.items()
        ],
    }  # fmt: skip


def overview() -> Table:
    """Every target: whether it is here, its memory, bandwidth, rates and shipped tables."""
    table = Table()
    for name in ("target", "here", "why", "memory", "bandwidth", "fp32", "fp16", "tables"):
        table.add_column(name)
    for row in survey():
        t = row.target
        table.add_row(
            t.name,
            "yes" if row.presence else "no",
            row.presence.reason.splitlines()[0],
            f"{t.memory_bytes / 1e9:.0f} GB" if t.memory_bytes else "host",
            f"{t.bandwidth_bytes_per_s / 1e9:.0f} GB/s",
            _rate(t, "fp32"),
            _rate(t, "fp16"),
            ", ".join(row.tables) or "-",
        )
    return table


def _rate(target: Target, precision: str) -> str:
    rate = target.peak_flops_per_s.get(precision)
    return f"{rate / 1e12:.3g} TFLOPS" if rate else "-"


def describe(target: Target) -> Table:
    """One target in full: each fact with its source."""
    table = Table(title=f"{target} ({present(target).reason.splitlines()[0]})")
    for name in ("fact", "value", "source", "checked"):
        table.add_column(name)
    for fact, source in target.sources.items():
        name, _, key = fact.partition(".")
        value = getattr(target, name)
        table.add_row(fact, str(value[key] if key else value), source.url or source.title, source.checked)
    return table


def tables_of(target: Target) -> Table:
    """The measured tables that ship for a target: of what model and how many workloads, where measured, how far off."""
    table = Table(title=f"measured tables that ship for {target.name}")
    for name in ("file", "layers", "hidden size", "heads", "FFN units", "workloads", "device"):
        table.add_column(name)
    for name in ("worst MAPE", "median MAPE"):
        table.add_column(name, justify="right")
    for file in shipped_files(target.name):
        table.add_row(file.name, *_facts(CostTable.read(file)))
    return table


def _facts(costs: CostTable) -> list[str]:
    sizes, off = costs.dimensions, [error.mape for error in costs.errors.values()]
    counts = (sizes.layers, sizes.hidden_size, sizes.heads, sizes.ffn_units, len(costs.workloads()))
    errors = [f"{max(off):.1%}", f"{median(off):.1%}"] if off else ["-", "-"]
    return [*map(str, counts), costs.fingerprint.device_name, *errors]
