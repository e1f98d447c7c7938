"""The protocol's tables, of what `bench/protocol_report.py` writes."""

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
from markdown_table import NAMES, table
from protocol_plan import IN_ANY_SPACE, OBJECTIVES, OUR_METHODS, OURS, Search, way_of
from protocol_report import PAPERS_WAY, SHARES, lost, way_name

CHANGED = {
    "paper": PAPERS_WAY,
    "ours": way_of(OURS, Search(method=IN_ANY_SPACE, objective="latency", seeded=False)),
    "methods": way_of(OURS, Search(method=OUR_METHODS[0], objective="latency")),
}
"""The ways from which the tables of `changes` start."""


def protocol_ways(record: Mapping[str, Any]) -> str:
    """What every way gains on seed 0, a line a way, the paper's setting first; beside it what half the parameters cost."""
    first = {(str(search["way"]), search["task"]): search for search in record["searches"] if search["seed"] == 0}
    tasks = [task for task in NAMES if any(task == of for _, of in first)]
    rows = [
        (_way(way), *(_gained(first[key, task]) if (key, task) in first else "" for task in tasks))
        for key, way in {str(search["way"]): search["way"] for search in record["searches"]}.items()
    ]
    return table(("way", *(NAMES[task] for task in tasks)), rows)


def _way(way: Mapping[str, Any]) -> str:
    """The weights and the method in words."""
    weights = "re-solved" if way["start"] == "reconstruction" else f"super-network, {way['space'].upper()}"
    return f"{weights}, {way['method']}{', polished' if way['polish'] else ''}"


def _gained(search: Mapping[str, Any]) -> str:
    pick = search["half"]["params"]
    return f"{search['gain']:.3f}, {'none' if pick is None else format(pick['loss'], '.1%')}"


def protocol(record: Mapping[str, Any]) -> str:
    """The bar: the combination that seed 0 chose against the paper's setting, by task and seed."""
    papers = {
        (search["task"], search["seed"]): search["half"]["params"]
        for search in record["searches"] if search["way"] == PAPERS_WAY
    }  # fmt: skip
    rows = [
        (
            f"{NAMES[result['task']]}, {result['seed']}", f"{result['paper']:.3f}", f"{result['best']:.3f}",
            f"{result['factor']:.2f}x", lost(papers[result["task"], result["seed"]]), lost(result["half_params"]),
        )
        for result in record["bar"]["results"]
    ]  # fmt: skip
    return table(
        ("task, seed", "gain, the paper's", "gain, chosen", "factor", "half the parameters, the paper's", "chosen"),
        rows,
    )


def protocol_kept(record: Mapping[str, Any]) -> str:
    """Test metric over the dense one's at a share of the parameters and of the latency: the paper's setting and the chosen way.

    The mean of the seeds that did not choose.
    """
    ways = {"the paper's": way_name(PAPERS_WAY), "chosen": record["bar"]["chosen"]}
    columns = [(objective, most) for objective in ("params", "latency") for most in map(str, SHARES)]
    rows = []
    for task, (label, way) in product(record["bar"]["tasks"], ways.items()):
        seeds = [
            search["kept_metric"] for search in record["searches"]
            if search["task"] == task and search["seed"] and way_name(search["way"]) == way
        ]  # fmt: skip
        rows.append((f"{NAMES[task]}, {label}", *(_kept([of[name][most] for of in seeds]) for name, most in columns)))
    words = {"params": "of the parameters", "latency": "of the latency"}
    return table(("task, way", *(f"{float(most):.0%} {words[name]}" for name, most in columns)), rows)


def _kept(seeds: Sequence[float | None]) -> str:
    there = [kept for kept in seeds if kept is not None]
    return f"{np.mean(there):.1%}" if len(there) == len(seeds) else "none"


def changes(record: Mapping[str, Any], of: str) -> str:
    """What a way finds, and every way that differs from it in one thing.

    The normalised hypervolume of validation is the mean of tasks and seeds, searched by each objective; the gain on test, by
    latency, is a task's.
    """
    base = CHANGED[of]
    found: dict[tuple[str, ...], dict[tuple[str, str], list[Mapping[str, Any]]]] = {}
    for search in record["searches"]:
        changed = tuple(name for name, value in search["way"].items() if name != "objective" and value != base[name])
        if len(changed) <= 1:
            way = (*changed, *(str(search["way"][name]) for name in changed))
            found.setdefault(way, {}).setdefault((search["way"]["objective"], search["task"]), []).append(search)
    tasks = [task for task in NAMES if any(task == key[1] for cells in found.values() for key in cells)]
    rows = [
        (
            ": ".join(way) or "as it is",
            *(_mean([cells.get((objective, task)) for task in tasks], "hypervolume") for objective in OBJECTIVES),
            *(_mean([cells.get(("latency", task))], "gain") for task in tasks),
        )
        for way, cells in sorted(found.items(), key=lambda pair: [list(base).index(name) for name in pair[0][:1]])
    ]
    header = ("changed", *(f"hypervolume, {name}" for name in OBJECTIVES), *(f"gain, {NAMES[task]}" for task in tasks))
    return table(header, rows)


def _mean(blocks: Sequence[Sequence[Mapping[str, Any]] | None], figure: str) -> str:
    """Of all seeds of all tasks; nothing where a task is missing."""
    if None in blocks:
        return ""
    return f"{np.mean([search[figure] for block in blocks for search in block or ()]):.3f}"
