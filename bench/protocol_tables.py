"""The protocol's tables, of what `bench/protocol_report.py` writes."""

from collections.abc import Mapping
from typing import Any

from markdown_table import NAMES, share, table
from protocol_report import PAPERS_WAY


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
            f"{result['factor']:.2f}x", _half(papers[result["task"], result["seed"]]), _half(result["half_params"]),
        )
        for result in record["bar"]["results"]
    ]  # fmt: skip
    return table(
        ("task, seed", "gain, the paper's", "gain, chosen", "factor", "half the parameters, the paper's", "chosen"),
        rows,
    )


def _half(pick: Mapping[str, Any] | None) -> str:
    return "none" if pick is None else share(pick["loss"], *pick["interval"])
