"""The protocol's tables, of what `bench/protocol_report.py` writes."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
from markdown_table import NAMES, table
from protocol_plan import IN_ANY_SPACE, OBJECTIVES, OUR_METHODS, OURS, Search, way_of
from protocol_report import PAPERS_WAY, SHARES, lost, way_name
from scipy.stats import spearmanr

Found = dict[tuple[str, str], list[Mapping[str, Any]]]
"""Searches of one way, by objective and task."""

FEWEST_RANKED = 3
AGREEMENT = "Spearman's correlation of the hypervolumes by latency and by parameters"

CHANGED = {
    "paper": PAPERS_WAY,
    "ours": way_of(OURS, Search(method=IN_ANY_SPACE, objective="latency", seeded=False)),
    "methods": way_of(OURS, Search(method=OUR_METHODS[0], objective="latency")),
}
"""The ways from which the tables of `changes` start."""


def protocol_ways(record: Mapping[str, Any]) -> str:
    """What every way gains on seed 0, a line a way, the paper's setting first; beside it what half the parameters cost."""
    ways = _ways(search for search in record["searches"] if search["seed"] == 0)
    tasks = _tasks(ways)
    rows = [
        (way, *(_gained(*found["latency", task]) if ("latency", task) in found else "" for task in tasks))
        for way, found in ways.items() if any(objective == "latency" for objective, _ in found)
    ]  # fmt: skip
    return table(("way", *(NAMES[task] for task in tasks)), rows)


def protocol_objectives(record: Mapping[str, Any]) -> str:
    """The normalised hypervolume that every way finds on seed 0, the mean of tasks, searched by each objective."""
    ways = _ways(search for search in record["searches"] if search["seed"] == 0)
    volumes = {way: _volumes(found, _tasks(ways)) for way, found in ways.items()}
    both = {way: volume for way, volume in volumes.items() if None not in volume}
    rows = [(way, *map(_figure, volume)) for way, volume in both.items()]
    return f"{table(('way', *OBJECTIVES), rows)}\n\n{AGREEMENT}: {_agreement(list(both.values()))}."


def _ways(searches: Iterable[Mapping[str, Any]]) -> dict[str, Found]:
    """By way in words."""
    ways: dict[str, Found] = {}
    for search in searches:
        way = search["way"]
        ways.setdefault(_way(way), {}).setdefault((way["objective"], search["task"]), []).append(search)
    return ways


def _tasks(ways: Mapping[Any, Found]) -> list[str]:
    """That any was run on, as tables order them."""
    run = {task for found in ways.values() for _, task in found}
    return [task for task in NAMES if task in run]


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
    """What a way finds, and every way that differs from it in one thing; below it how far the two objectives agree.

    Of each task, means of seeds: the normalised hypervolume of validation, searched by each objective, and the gain on test,
    searched by latency.
    """
    base = CHANGED[of]
    found: dict[tuple[str, ...], Found] = {}
    for search in record["searches"]:
        changed = tuple(name for name, value in search["way"].items() if name != "objective" and value != base[name])
        if len(changed) <= 1:
            way = (*changed, *(str(search["way"][name]) for name in changed))
            found.setdefault(way, {}).setdefault((search["way"]["objective"], search["task"]), []).append(search)
    tasks = _tasks(found)
    ways = sorted(found.items(), key=lambda pair: [list(base).index(name) for name in pair[0][:1]])
    figures = [("hypervolume", objective, task) for objective, task in product(OBJECTIVES, tasks)]
    figures += [("gain", "latency", task) for task in tasks]
    rows = [
        (": ".join(way) or "as it is", *(_figure(_mean([cells.get((by, task))], name)) for name, by, task in figures))
        for way, cells in ways
    ]
    header = ("changed", *(f"{name} by {by}, {NAMES[task]}" for name, by, task in figures))
    agreed = [f"{NAMES[task]} {_agreement([_volumes(cells, [task]) for _, cells in ways])}" for task in tasks]
    return f"{table(header, rows)}\n\n{AGREEMENT}: {', '.join(agreed)}."


def _volumes(found: Found, tasks: Sequence[str]) -> list[float | None]:
    """Of every objective."""
    return [_mean([found.get((objective, task)) for task in tasks], "hypervolume") for objective in OBJECTIVES]


def _agreement(volumes: Sequence[Sequence[float | None]]) -> str:
    """Whether ways [ways, objectives] rank alike by either objective; one that was not searched by both is left out."""
    both = np.array([volume for volume in volumes if None not in volume], dtype=np.float64)
    if len(both) < FEWEST_RANKED or not np.ptp(both, axis=0).all():
        return "undefined"
    return f"{spearmanr(*both.T).statistic:.2f} of {len(both)} ways"


def _mean(blocks: Sequence[Sequence[Mapping[str, Any]] | None], figure: str) -> float | None:
    """Of all seeds of all tasks; none where a task is missing."""
    if None in blocks:
        return None
    return float(np.mean([search[figure] for block in blocks for search in block or ()]))


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
