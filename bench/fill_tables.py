"""The tables of README.md and docs/benchmarks.md from bench/results: put between their markers, never typed.

python bench/fill_tables.py
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from protocol_report import PAPERS_WAY

ROOT = Path(__file__).parent.parent
PAGES = ("README.md", "docs/benchmarks.md")

ASKED = ("batch", "tokens", "threads", "precision")
NAMES = {
    "trec": "TREC", "mrpc": "MRPC", "stsb": "STS-B", "banking77": "Banking77", "rte": "RTE", "cola": "CoLA", "sst2": "SST-2", "qnli": "QNLI",
}  # fmt: skip


def row(candidate: Mapping[str, Any], best: str) -> str:
    """One line of the table."""
    latency, metric = candidate["measured"]["latency_ms"], candidate["metric"]
    name = f"**{candidate['id']}**" if candidate["id"] == best else candidate["id"]
    overlap = metric["others"]["neighbour_overlap_at_10"]["test"]
    return (
        f"| {name} | {candidate['parameters'] / 1e6:.1f} M | {candidate['artifact']['bytes'] / 1e6:.0f} MB "
        f"| {latency['p50']:.1f} / {latency['p90']:.1f} ms | {candidate['speedup']:.2f}x | {metric['test']:.3f} | {overlap:.3f} |"
    )


def demo(record: Mapping[str, Any]) -> str:
    """The whole section."""
    front = record["front"]
    error, device = front["table"]["error"], front["target"]["fingerprint"]
    rows = [front["dense"], *sorted(front["candidates"], key=lambda c: -c["measured"]["latency_ms"]["p50"])]
    lines = [
        "| net | parameters | file | latency p50 / p90 | speed-up | mean cosine | neighbours kept |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        *(row(candidate, front["best"]) for candidate in rows),
        "",
        (
            f"`compile --demo --fresh`, {record['wall_s']:.0f} s on {device['cpu_count']} cores ({device['device_name']}); "
            "batch 1, 128 tokens, one thread, ONNX Runtime, fp32; no training. Fidelity is on held-out sentences: mean cosine "
            "to the dense embeddings, and the share of each sentence's 10 nearest neighbours that stay. The cost table was "
            f"off by {error['mape']:.1%} on average on {error['check_nets']} networks it never saw (p95 {error['p95']:.1%}, "
            f"max {error['max']:.1%}, rank correlation {error['spearman']:.3f}; a straight line through operations: "
            f"{error['control_mape']:.1%}). Made by `python bench/demo.py`, data in `bench/results/demo.json`."
        ),
    ]
    return "\n".join(lines)


def figure(net: Mapping[str, Any]) -> str:
    """The test figure, and the accuracy where that is another one."""
    accuracy = net["others"].get("accuracy")
    return f"{100 * net['test']:.1f}" + ("" if accuracy is None else f" ({100 * accuracy['test']:.1f})")


def pick(chosen: Mapping[str, Any] | None) -> str:
    """The figure of what a minimum speed-up picks, and the speed-up that was measured."""
    return "none" if chosen is None else f"{figure(chosen)} at {chosen['speedup']:.2f}x"


def labelled(record: Mapping[str, Any]) -> str:
    """Dense test figure and those of the picks, task by task."""
    lines = ["| data | metric | dense | 1.5x | 2x | 3x |", "| --- | --- | --- | --- | --- | --- |"]
    for task, name in NAMES.items():
        if task in record:
            result = record[task]
            figures = " | ".join(pick(result["picks"][least]) for least in ("1.5x", "2.0x", "3.0x"))
            metric = result["metric"] + (" (accuracy)" if "accuracy" in result["dense"]["others"] else "")
            lines.append(f"| {name}, {result['epochs']:g} epochs | {metric} | {figure(result['dense'])} | {figures} |")
    return "\n".join(lines)


def tables(record: Sequence[Mapping[str, Any]]) -> str:
    """How far off cost tables are: a line a model and way of asking, the precisions beside each other."""
    cells = {(row["model"], *(row["workload"][name] for name in ASKED)): row["error"] for row in record}
    models, precisions = (list(dict.fromkeys(key[i] for key in cells)) for i in (0, -1))
    head = [f"{precision}: mean, p95 (straight line)" for precision in precisions]
    lines = ["| model | batch | tokens | threads | " + " | ".join(head) + " |", "| --- " * (4 + len(head)) + "|"]
    for key in sorted({key[:-1] for key in cells}, key=lambda key: (models.index(key[0]), *key[1:])):
        errors = [cells.get((*key, precision)) for precision in precisions]
        figures = ["" if e is None else f"{e['mape']:.1%}, {e['p95']:.1%} ({e['control_mape']:.1%})" for e in errors]
        lines.append(f"| {' | '.join(map(str, (*key, *figures)))} |")
    return "\n".join(lines)


def dense_export(record: Mapping[str, Any]) -> str:
    """The dense model's file and those of others: milliseconds of ours, times as long of theirs with an interval."""
    ours, *others = record["files"]
    lines = [f"| batch | tokens | threads | {ours} | {' | '.join(others)} |", "| --- " * (4 + len(others)) + "|"]
    for cell in record["cells"]:
        asked = " | ".join(str(cell[name]) for name in ASKED[:-1])
        figures = [
            f"{file['ratio']:.2f}x ({file['interval'][0]:.2f} to {file['interval'][1]:.2f})"
            for file in map(cell["files"].get, others)
        ]
        lines.append(f"| {asked} | {cell['files'][ours]['latency_ms']:.1f} ms | {' | '.join(figures)} |")
    return "\n".join(lines)


def oneshot(record: Sequence[Mapping[str, Any]]) -> str:
    """What is kept of the dense figure at each minimum speed-up, a column a seed."""
    seeds = [f"seed {run['seed']}" for run in record]
    lines = [f"| at least | {' | '.join(seeds)} |", "| --- " * (1 + len(seeds)) + "|"]
    for least in record[0]["picks"]:
        picks = [run["picks"][least] for run in record]
        figures = ["none" if net is None else _kept(net) for net in picks]
        lines.append(f"| {least} | {' | '.join(figures)} |")
    return "\n".join(lines)


def _kept(net: Mapping[str, Any]) -> str:
    return f"{_share(net['kept'], *net['kept_interval'])} at {net['speedup']:.2f}x"


def _share(value: float, low: float, high: float) -> str:
    return f"{value:.1%} ({low:.1%} to {high:.1%})"


def joint(record: Sequence[Mapping[str, Any]]) -> str:
    """The front of a run that searched precisions together, a line a network, and what each keeps of the dense figure."""
    lines = ["| network | precision | speed-up | kept |", "| --- " * 4 + "|"]
    for net in sorted(record[0]["candidates"], key=lambda net: net["speedup"]):
        kept = _share(net["kept"], *net["kept_interval"])
        lines.append(f"| {net['id']} | {net['precision']} | {net['speedup']:.2f}x | {kept} |")
    return "\n".join(lines)


RECORDS = {"joint_seeds": "joint", "protocol_ways": "protocol"}
"""Of the tables that share one with another."""

STEPS = {
    "importance": "importance", "reconstruction": "+ reconstruction", "allocation": "+ exact allocation",
    "search": "+ local search", "polish": "+ polish",
}  # fmt: skip


def ablation(record: Sequence[Mapping[str, Any]]) -> str:
    """What each step keeps of the dense figure within one predicted latency: mean, least and most of the seeds."""
    lines = [f"| predicted | {' | '.join(STEPS.values())} |", "| --- " * (1 + len(STEPS)) + "|"]
    for speedup in record[0]["speedups"]:
        each = [[run["speedups"][speedup][step]["spearman"] / run["dense"] for run in record] for step in STEPS]
        figures = [_share(sum(kept) / len(kept), min(kept), max(kept)) for kept in each]
        lines.append(f"| {speedup} | {' | '.join(figures)} |")
    return "\n".join(lines)


def searches(record: Sequence[Mapping[str, Any]]) -> str:
    """Hypervolume of each method after so many evaluations, mean of the seeds."""
    after = list(record[0]["hypervolume"])
    lines = [f"| `--search` | {' | '.join(f'{n} evaluations' for n in after)} |", "| --- " * (1 + len(after)) + "|"]
    for method in dict.fromkeys(run["search"] for run in record):
        seeds = [run["hypervolume"] for run in record if run["search"] == method]
        means = [sum(volumes[n] for volumes in seeds) / len(seeds) for n in after]
        lines.append(f"| {method} | {' | '.join(f'{mean:.3f}' for mean in means)} |")
    return "\n".join(lines)


def limited(record: Sequence[Mapping[str, Any]]) -> str:
    """The likeness to the dense model that each method finds at each speed-up it was asked for, mean of the seeds."""
    asked = list(dict.fromkeys(run["min_speedup"] for run in record))
    lines = [
        f"| `--search` | {' | '.join(f'at least {least:g}x' for least in asked)} |",
        "| --- " * (1 + len(asked)) + "|",
    ]
    for method in dict.fromkeys(run["search"] for run in record):
        found = [
            [run["picks"][f"{least}x"]["likeness"] for run in record if (run["search"], run["min_speedup"]) == (method, least)]
            for least in asked
        ]  # fmt: skip
        lines.append(f"| {method} | {' | '.join(f'{sum(seeds) / len(seeds):.4f}' for seeds in found)} |")
    return "\n".join(lines)


def early_stop(record: Sequence[Mapping[str, Any]]) -> str:
    """What a first look saves of a search, and what both ways find, mean of the seeds."""
    lines = [
        "| data | `--search` | stopped | examples judged | time | hypervolume, all judged in full | with first looks |",
        "| --- " * 7 + "|",
    ]
    runs: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for run in record:
        runs.setdefault((run["task"], run["search"]), []).append(run)
    for (task, method), seeds in runs.items():
        stopped, evaluated = (sum(run[name] for run in seeds) for name in ("stopped", "evaluated"))
        share, *volumes = (
            sum(values) / len(seeds)
            for values in zip(*((run["share"], *run["hypervolume"].values()) for run in seeds), strict=True)
        )
        whole, early = (sum(run["seconds"][way] for run in seeds) for way in ("whole", "early"))
        lines.append(
            f"| {NAMES[task]} | {method} | {stopped / evaluated:.0%} | {share:.0%} | {early / whole:.2f}x "
            f"| {' | '.join(f'{volume:.3f}' for volume in volumes)} |"
        )
    return "\n".join(lines)


TRAININGS = {"super-network": "a super-network, strategy full, on MRPC", "polish": "ten networks polished on STS-B"}


def training(record: Mapping[str, Any]) -> str:
    """Seconds of a step as it is and with each saving left out."""
    taken = {name: record["seconds_a_step"][name] for name in TRAININGS}
    ways = list(taken["polish"])
    lines = [f"| a step of | {' | '.join(ways)} |", "| --- " * (1 + len(ways)) + "|"]
    lines += [f"| {TRAININGS[name]} | {' | '.join(f'{of[way]:.2f} s' for way in ways)} |" for name, of in taken.items()]
    return "\n".join(lines)


def protocol_ways(record: Mapping[str, Any]) -> str:
    """What every way gains on seed 0, a line a way, the paper's setting first; beside it what half the parameters cost."""
    first = {(str(search["way"]), search["task"]): search for search in record["searches"] if search["seed"] == 0}
    tasks = [task for task in NAMES if any(task == of for _, of in first)]
    ways = {str(search["way"]): search["way"] for search in record["searches"]}
    lines = [
        f"| way | {' | '.join(NAMES[task] for task in tasks)} |",
        "| --- " * (1 + len(tasks)) + "|",
    ]
    for key, way in ways.items():
        cells = [_gained(first[key, task]) if (key, task) in first else "" for task in tasks]
        lines.append(f"| {_way(way)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _way(way: Mapping[str, Any]) -> str:
    """The weights and the method in words."""
    weights = "re-solved" if way["start"] == "reconstruction" else f"super-network, {way['space'].upper()}"
    return f"{weights}, {way['method']}{', polished' if way['polish'] else ''}"


def _gained(search: Mapping[str, Any]) -> str:
    pick = search["half"]["params"]
    return f"{search['gain']:.3f}, {'none' if pick is None else format(pick['loss'], '.1%')}"


def protocol(record: Mapping[str, Any]) -> str:
    """The bar: the combination that seed 0 chose against the paper's setting, by task and seed."""
    lines = [
        "| task, seed | gain, the paper's | gain, chosen | factor | half the parameters, the paper's | chosen |",
        "| --- " * 6 + "|",
    ]
    papers = {
        (search["task"], search["seed"]): search["half"]["params"]
        for search in record["searches"] if search["way"] == PAPERS_WAY
    }  # fmt: skip
    for result in record["bar"]["results"]:
        block = result["task"], result["seed"]
        lines.append(
            f"| {NAMES[block[0]]}, {block[1]} | {result['paper']:.3f} | {result['best']:.3f} | {result['factor']:.2f}x "
            f"| {_half(papers[block])} | {_half(result['half_params'])} |"
        )
    return "\n".join(lines)


def _half(pick: Mapping[str, Any] | None) -> str:
    return "none" if pick is None else _share(pick["loss"], *pick["interval"])


STAGES = ("rank heads and units", "profile", "search", "final weights", "export and check", "measure artefacts")


def scale(record: Sequence[Mapping[str, Any]]) -> str:
    """How long the whole of `--effort fast` takes on larger models, and the memory of its process."""
    lines = [
        f"| model | parameters | cores | all | {' | '.join(STAGES)} | peak memory |",
        "| --- " * (5 + len(STAGES)) + "|",
    ]
    for run in record:
        stages = " | ".join(f"{run['timings_s'][stage]:,.0f} s" for stage in STAGES)
        lines.append(
            f"| {run['model']} | {run['parameters'] / 1e6:.0f} M | {run['fingerprint']['cpu_count']} | {run['seconds']:,.0f} s "
            f"| {stages} | {run['peak_bytes'] / 2**30:.1f} GiB |"
        )
    return "\n".join(lines)


SHOWN = ("1.5x", "2.0x", "3.0x", "4.0x")
SHOWN_OF_BOTH = ("3.0x", "4.0x", "5.0x", "6.0x")
"""Speed-ups of classifiers: of structure alone, and with the precision, which alone is 2.6x."""


def finetuned(record: Mapping[str, Mapping[str, Any]], shown: Sequence[str] = SHOWN) -> str:
    """What classifiers lose of the dense test figure at each minimum speed-up, a line a task and effort, the mean of its seeds."""
    lines = [f"| data | dense | effort | seeds | {' | '.join(shown)} |", "| --- " * (4 + len(shown)) + "|"]
    runs: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
    for run in record.values():
        runs.setdefault((run["task"], run["effort"], run["precision"]), []).append(run)
    for (task, effort, precision), seeds in runs.items():
        figures = [_lost([run["picks"].get(least) for run in seeds]) for least in shown]
        dense = f"{seeds[0]['metric']} {100 * seeds[0]['dense']['test']:.1f}"
        lines.append(
            f"| {NAMES.get(task, task)} | {dense} | {effort}, {precision} | {len(seeds)} | {' | '.join(figures)} |"
        )
    return "\n".join(lines)


def _lost(nets: Sequence[Mapping[str, Any] | None]) -> str:
    """The mean of seeds; its interval's bounds are the means of theirs: the same examples disturb all, it is hardly narrower."""
    there = [net for net in nets if net is not None]
    if not there:
        return "none"
    rows = [(net["loss"], *net["interval"], net["speedup"]) for net in there]
    *lost, speedup = (sum(column) / len(there) for column in zip(*rows, strict=True))
    fewer = "" if len(there) == len(nets) else f", on {len(there)} seeds of {len(nets)}"
    return f"{_share(*lost)} at {speedup:.2f}x{fewer}"


def fill(text: str, name: str, content: str) -> str:
    """The text with a section between its markers."""
    section = f"<!-- {name} -->\n\n{content}\n\n<!-- /{name} -->"
    return re.sub(rf"<!-- {name} -->.*<!-- /{name} -->", lambda _: section, text, flags=re.DOTALL)


MAKERS: dict[str, Callable[[Any], str]] = {
    "demo": demo,
    "labelled": labelled,
    "tables": tables,
    "dense_export": dense_export,
    "oneshot": oneshot,
    "oneshot_asked": oneshot,
    "ablation": ablation,
    "oneshot_balanced": oneshot,
    "finetuned": finetuned,
    "finetuned_joint": partial(finetuned, shown=SHOWN_OF_BOTH),
    "joint": joint,
    "joint_seeds": oneshot,
    "searches": searches,
    "searches_joint": searches,
    "searches_limited": limited,
    "early_stop": early_stop,
    "training": training,
    "protocol_ways": protocol_ways,
    "protocol": protocol,
    "scale": scale,
}
"""How each table is made of the record of its name."""


def main() -> None:
    """Rewrite the pages between their markers."""
    pages = {page: (ROOT / page).read_text(encoding="utf-8") for page in PAGES}
    for name, make in MAKERS.items():
        record = json.loads((ROOT / f"bench/results/{RECORDS.get(name, name)}.json").read_text(encoding="utf-8"))
        (page,) = (page for page, text in pages.items() if f"<!-- {name}-table -->" in text)
        pages[page] = fill(pages[page], f"{name}-table", make(record))
    for page, text in pages.items():
        (ROOT / page).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
