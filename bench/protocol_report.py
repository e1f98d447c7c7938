"""Tables of what `bench/protocol.py` has run so far.

    python bench/protocol_report.py --json bench/results/protocol.json --svg docs/protocol.svg

Markdown goes to stdout. Hypervolumes are of validation errors and costs, in quantiles of all that was evaluated on a task;
gains are of test errors and latencies (`bench/protocol_stats.py`). Ways are compared where all else is equal, in paired blocks
of task and seed. The best combination is chosen on seed 0 and held against the paper's setting on the other seeds.
"""

import argparse
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from markdown_table import share, table
from output import write_json
from protocol import read_lines
from protocol_plan import PAPER, PAPER_METHOD, Search, way_of
from protocol_plot import write_plot
from protocol_stats import gain, kept_at, normalised_volume, rank_ways

SHARES = (0.25, 0.5, 0.75)
FACTOR, MOST_LOST, LEAST = 1.15, 0.01, 1e-3
"""The bar: what the best combination gains over the paper's setting, and what it may lose at half the parameters."""

PAPERS_WAY = way_of(PAPER, Search(method=PAPER_METHOD, objective="latency"))

Record = Mapping[str, Any]
Row = dict[str, Any]


def columns(part: Mapping[str, Any], *names: str) -> list[Any]:
    """Arrays of a record's part."""
    return [np.array(part[name], dtype=np.float64) for name in names]


def pools(records: Iterable[Record]) -> dict[str, dict[str, Any]]:
    """All values ever evaluated, by task and objective."""
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for record in records:
        for name, values in record["evaluated"].items():
            found[record["task"]][name] += values
    return {task: {name: np.array(values) for name, values in of.items()} for task, of in found.items()}


def summary(record: Record, pool: Mapping[str, Any]) -> Row:
    """One search in a few figures."""
    objective = record["search"]["objective"]
    error, cost = columns(record["evaluated"], "error", objective)
    kept, dense = record["kept"], record["dense"]
    final, test, latency = columns(kept, "final_error", "test_error", "latency")
    return {
        "task": record["task"], "seed": record["seed"], "way": {**record["cell"], **record["search"]},
        "settings": record["settings"], "metric": record["metric"], "examples": record["examples"],
        "evaluated": len(error), "dense_test": 1 - dense["test_error"],
        "hypervolume": normalised_volume(error, cost, pool["error"], pool[objective]),
        "gain": gain(test, latency, record["constant_test_error"]),
        "dense_gain_at_no_cost": record["constant_test_error"] - dense["test_error"],
        "kept_metric": {
            name: {str(most): kept_at(np.array(kept[name]), final, test, dense["test_error"], most) for most in SHARES}
            for name in ("params", "latency")
        },
        "half": record["half"], "front": {"latency": kept["latency"], "test_error": kept["test_error"]},
        "seconds": record["seconds"],
    }  # fmt: skip


def comparisons(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """For every thing in which ways differ, all else equal: mean figures and ranks over tasks and seeds that have them all.

    Not for the objective: volumes of different costs cannot be compared.
    """
    found = []
    for axis in (name for name in PAPERS_WAY if name != "objective"):
        alike: dict[tuple[Any, ...], dict[str, dict[tuple[str, int], Row]]] = defaultdict(lambda: defaultdict(dict))
        for row in rows:
            rest = tuple(value for name, value in row["way"].items() if name != axis)
            alike[rest][str(row["way"][axis])][row["task"], row["seed"]] = row
        found += [_compared(axis, rest, ways) for rest, ways in alike.items() if len(ways) > 1]
    return [comparison for comparison in found if comparison["blocks"]]


def _compared(axis: str, rest: tuple[Any, ...], ways: Mapping[str, Mapping[tuple[str, int], Row]]) -> dict[str, Any]:
    blocks = sorted(set.intersection(*(set(of) for of in ways.values())))
    figures = {
        figure: {way: [of[block][figure] for block in blocks] for way, of in ways.items()}
        for figure in ("hypervolume", "gain")
    }
    return {
        "axis": axis, "rest": [str(value) for value in rest], "blocks": len(blocks),
        **{
            figure: {
                way: {"mean": float(np.mean(scores)), **rank_ways(by_way)[way]} for way, scores in by_way.items()
            }
            for figure, by_way in figures.items() if blocks
        },
    }  # fmt: skip


def bar(rows: Sequence[Row]) -> dict[str, Any]:
    """The best combination on seed 0, by the tasks on which it meets the bar, then by its mean gain; on every seed its gains.

    Of those that searched by latency, as gains are measured, and were run wherever there is anything to hold against the
    paper's setting. `tasks` is the bar itself: means over the other seeds.
    """
    by_way: dict[str, dict[tuple[str, int], Row]] = defaultdict(dict)
    for row in (row for row in rows if row["way"]["objective"] == "latency"):
        by_way[way_name(row["way"])][row["task"], row["seed"]] = row
    paper = by_way.pop(way_name(PAPERS_WAY), {})
    first = [block for block in paper if block[1] == 0 and any(block in of for of in by_way.values())]
    tried = {
        way: {
            "met": sum(_factor(of[block]["gain"], paper[block]["gain"]) >= FACTOR for block in first),
            "gain": float(np.mean([of[block]["gain"] for block in first])),
        }
        for way, of in by_way.items() if first and all(block in of for block in first)
    }  # fmt: skip
    if not tried:
        return {}
    best = max(tried, key=lambda way: tuple(tried[way].values()))
    results = [
        {
            "task": task, "seed": seed, "paper": paper[task, seed]["gain"], "best": row["gain"],
            "factor": _factor(row["gain"], paper[task, seed]["gain"]), "half_params": row["half"]["params"],
            "dense_at_no_cost": row["dense_gain_at_no_cost"],
        }
        for (task, seed), row in sorted(by_way[best].items()) if (task, seed) in paper
    ]  # fmt: skip
    papers_gain = float(np.mean([paper[block]["gain"] for block in first]))
    return {
        "chosen": best,
        "tried": tried,
        "papers_gain": papers_gain,
        "results": results,
        "tasks": _on_other_seeds(results),
    }


def _on_other_seeds(results: Sequence[Row]) -> dict[str, Row]:
    """By task what the chosen combination gains over the paper's setting, and loses at half the parameters; without seed 0.

    Beside it what the dense network would gain over it if it cost nothing.
    """
    found = {}
    for task, group in groupby((result for result in results if result["seed"]), key=lambda result: result["task"]):
        rows = list(group)
        best, paper, dense = (np.mean([row[name] for row in rows]) for name in ("best", "paper", "dense_at_no_cost"))
        losses = [(row["half_params"] or {"loss": 1.0})["loss"] for row in rows]
        found[task] = {
            "seeds": [row["seed"] for row in rows], "factor": _factor(best, paper), "loss": float(np.mean(losses)),
            "dense_at_no_cost": _factor(dense, paper),
        }  # fmt: skip
    return found


def way_name(way: Mapping[str, Any]) -> str:
    """As tables and records call a cell with its search."""
    return " ".join(f"{name}={value}" for name, value in way.items())


def _factor(best: float, paper: float) -> float:
    """What it gains over what the paper's setting does, at least a thousandth: so small a gain is none."""
    return float(max(best, LEAST) / max(paper, LEAST))


def comparison_lines(comparison: Mapping[str, Any]) -> list[str]:
    """One comparison as a table."""
    axis, blocks = comparison["axis"], comparison["blocks"]
    return [
        f"**{axis}**, with {', '.join(comparison['rest'])} ({blocks} pairs of task and seed):",
        "",
        table(
            (axis, "hypervolume", "its rank", "gain", "its rank"),
            [
                (way, *(cell for figure in ("hypervolume", "gain") for cell in _cells(comparison[figure][way])))
                for way in comparison["hypervolume"]
            ],
        ),
        "",
    ]


def _cells(figure: Mapping[str, float]) -> tuple[str, str]:
    return f"{figure['mean']:.3f}", f"{figure['rank']:.2f} ({figure['low']:.2f} to {figure['high']:.2f})"


def bar_lines(found: Mapping[str, Any]) -> list[str]:
    """The best combination against the paper's setting."""
    if not found:
        return ["The paper's own setting has not been run on seed 0: there is nothing to hold the others against."]
    lines = [
        (
            result["task"], str(result["seed"]), f"{result['paper']:.3f}", f"{result['best']:.3f}",
            f"{result['factor']:.2f}x", lost(result["half_params"]),
        )
        for result in found["results"]
    ]  # fmt: skip
    tasks = found["tasks"].values()
    means = [
        (task, f"{of['factor']:.2f}x", f"{of['dense_at_no_cost']:.2f}x", f"{of['loss']:.1%}")
        for task, of in found["tasks"].items()
    ]
    gained, kept = sum(of["factor"] >= FACTOR for of in tasks), sum(of["loss"] <= MOST_LOST for of in tasks)
    return [
        f"Best of {len(found['tried'])} combinations on seed 0: {found['chosen']}",
        "",
        table(("task", "seed", "gain, paper", "gain, best", "factor", "loss at half the parameters"), lines),
        "",
        table(("task, other seeds", "factor", "of the dense network at no cost", "loss at half the parameters"), means),
        "",
        f"On other seeds: at least {FACTOR}x on {gained} of {len(tasks)} tasks, at most {MOST_LOST:.0%} lost on {kept}.",
    ]


def lost(pick: Mapping[str, Any] | None) -> str:
    """What a network at half a cost loses; there may be none."""
    return "none" if pick is None else share(pick["loss"], *pick["interval"])


def main() -> None:
    """Read, sum up, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lines", type=Path, nargs="?", default=Path("bench/results/protocol.jsonl"))
    parser.add_argument("--quick", action="store_true", help="of quick runs, which are left out otherwise")
    parser.add_argument("--json", type=Path, default=None)
    parser.add_argument("--svg", type=Path, default=None)
    arguments = parser.parse_args()
    records = [record for record in read_lines(arguments.lines) if record["settings"]["quick"] == arguments.quick]
    if len({str(record["settings"]) for record in records}) > 1:
        parser.error(
            f"{arguments.lines} has runs of several settings, which cannot be compared: keep each in a file of its own"
        )
    pool = pools(records)
    rows = [summary(record, pool[record["task"]]) for record in records]
    found, compared = bar(rows), comparisons(rows)
    write_json(arguments.json, {"bar": found, "comparisons": compared, "searches": rows})
    if arguments.svg is not None:
        write_plot(
            arguments.svg,
            rows,
            {"the paper's": way_name(PAPERS_WAY), "chosen on seed 0": found.get("chosen", "")},
            way_name,
        )
    print("\n".join([*bar_lines(found), "", *(line for each in compared for line in comparison_lines(each))]))


if __name__ == "__main__":
    main()
