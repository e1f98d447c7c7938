"""The tables of README.md and docs/benchmarks.md from bench/results: put between their markers, never typed.

python bench/fill_tables.py
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from markdown_table import NAMES, share, table
from protocol_tables import CHANGED, changes, protocol, protocol_kept, protocol_objectives, protocol_ways

ROOT = Path(__file__).parent.parent
PAGES = ("README.md", "docs/benchmarks.md", "docs/scale.md")

ASKED = ("batch", "tokens", "threads", "precision")


def demo(record: Mapping[str, Any]) -> str:
    """The whole section."""
    front = record["front"]
    error, device = front["table"]["error"], front["target"]["fingerprint"]
    networks = [front["dense"], *sorted(front["candidates"], key=lambda c: -c["measured"]["latency_ms"]["p50"])]
    header = ("net", "parameters", "file", "latency p50 / p90", "speed-up", "mean cosine", "neighbours kept")
    return (
        f"{table(header, [_demo_row(network, front['best']) for network in networks])}\n\n"
        f"`compile --demo --fresh`, {record['wall_s']:.0f} s on {device['cpu_count']} cores ({device['device_name']}); "
        "batch 1, 128 tokens, one thread, ONNX Runtime, fp32; no training. Fidelity is on held-out sentences: mean cosine "
        "to the dense embeddings, and the share of each sentence's 10 nearest neighbours that stay. The cost table was "
        f"off by {error['mape']:.1%} on average on {error['check_nets']} networks it never saw (p95 {error['p95']:.1%}, "
        f"max {error['max']:.1%}, rank correlation {error['spearman']:.3f}; a straight line through operations: "
        f"{error['control_mape']:.1%}). Made by `python bench/demo.py`, data in `bench/results/demo.json`."
    )


def _demo_row(candidate: Mapping[str, Any], best: str) -> Sequence[str]:
    latency, metric = candidate["measured"]["latency_ms"], candidate["metric"]
    return (
        f"**{candidate['id']}**" if candidate["id"] == best else candidate["id"],
        f"{candidate['parameters'] / 1e6:.1f} M",
        f"{candidate['artifact']['bytes'] / 1e6:.0f} MB",
        f"{latency['p50']:.1f} / {latency['p90']:.1f} ms",
        f"{candidate['speedup']:.2f}x",
        f"{metric['test']:.3f}",
        f"{metric['others']['neighbour_overlap_at_10']['test']:.3f}",
    )


def figure(net: Mapping[str, Any]) -> str:
    """The test figure, and the accuracy where that is another one."""
    accuracy = net["others"].get("accuracy")
    return f"{100 * net['test']:.1f}" + ("" if accuracy is None else f" ({100 * accuracy['test']:.1f})")


def pick(chosen: Mapping[str, Any] | None) -> str:
    """The figure of what a minimum speed-up picks, and the speed-up that was measured."""
    return "none" if chosen is None else f"{figure(chosen)} at {chosen['speedup']:.2f}x"


def labelled(record: Mapping[str, Any]) -> str:
    """Dense test figure and those of the picks, task by task."""
    rows = []
    for task in (task for task in NAMES if task in record):
        result = record[task]
        metric = result["metric"] + (" (accuracy)" if "accuracy" in result["dense"]["others"] else "")
        picks = [pick(result["picks"][least]) for least in ("1.5x", "2.0x", "3.0x")]
        rows.append((f"{NAMES[task]}, {result['epochs']:g} epochs", metric, figure(result["dense"]), *picks))
    return table(("data", "metric", "dense", "1.5x", "2x", "3x"), rows)


def tables(record: Sequence[Mapping[str, Any]]) -> str:
    """How far off cost tables are: a line a model and way of asking, the precisions beside each other."""
    cells = {(row["model"], *(row["workload"][name] for name in ASKED)): row["error"] for row in record}
    models, precisions = (list(dict.fromkeys(key[i] for key in cells)) for i in (0, -1))
    rows = []
    for key in sorted({key[:-1] for key in cells}, key=lambda key: (models.index(key[0]), *key[1:])):
        errors = [cells.get((*key, precision)) for precision in precisions]
        figures = ["" if e is None else f"{e['mape']:.1%}, {e['p95']:.1%} ({e['control_mape']:.1%})" for e in errors]
        rows.append((*key, *figures))
    head = [f"{precision}: mean, p95 (straight line)" for precision in precisions]
    return table(("model", "batch", "tokens", "threads", *head), rows)


def dense_export(record: Mapping[str, Any]) -> str:
    """The dense model's file and those of others: milliseconds of ours, times as long of theirs with an interval."""
    ours, *others = record["files"]
    rows = []
    for cell in record["cells"]:
        figures = [
            f"{file['ratio']:.2f}x ({file['interval'][0]:.2f} to {file['interval'][1]:.2f})"
            for file in map(cell["files"].get, others)
        ]
        rows.append((*(cell[name] for name in ASKED[:-1]), f"{cell['files'][ours]['latency_ms']:.1f} ms", *figures))
    return table(("batch", "tokens", "threads", ours, *others), rows)


def oneshot(record: Sequence[Mapping[str, Any]]) -> str:
    """What is kept of the dense figure at each minimum speed-up, a column a seed."""
    picks = {least: [run["picks"][least] for run in record] for least in record[0]["picks"]}
    rows = [(least, *("none" if net is None else _kept(net) for net in nets)) for least, nets in picks.items()]
    return table(("at least", *(f"seed {run['seed']}" for run in record)), rows)


def _kept(net: Mapping[str, Any]) -> str:
    return f"{share(net['kept'], *net['kept_interval'])} at {net['speedup']:.2f}x"


def joint(record: Sequence[Mapping[str, Any]]) -> str:
    """The front of a run that searched precisions together, a line a network, and what each keeps of the dense figure."""
    rows = [
        (net["id"], net["precision"], f"{net['speedup']:.2f}x", share(net["kept"], *net["kept_interval"]))
        for net in sorted(record[0]["candidates"], key=lambda net: net["speedup"])
    ]
    return table(("network", "precision", "speed-up", "kept"), rows)


RECORDS = {
    "joint_seeds": "joint", "protocol_ways": "protocol", "protocol_objectives": "protocol", "protocol_kept": "protocol",
    **{f"protocol_changes_{of}": "protocol_factors" for of in CHANGED},
}  # fmt: skip
"""Of the tables that share one with another."""

STEPS = {
    "importance": "importance", "reconstruction": "+ reconstruction", "allocation": "+ exact allocation",
    "search": "+ local search", "polish": "+ polish",
}  # fmt: skip


def ablation(record: Sequence[Mapping[str, Any]]) -> str:
    """What each step keeps of the dense figure within one predicted latency: mean, least and most of the seeds."""
    rows = []
    for speedup in record[0]["speedups"]:
        each = [[run["speedups"][speedup][step]["spearman"] / run["dense"] for run in record] for step in STEPS]
        rows.append((speedup, *(share(sum(kept) / len(kept), min(kept), max(kept)) for kept in each)))
    return table(("predicted", *STEPS.values()), rows)


def searches(record: Sequence[Mapping[str, Any]]) -> str:
    """Hypervolume of each method after so many evaluations, mean of the seeds."""
    after, rows = list(record[0]["hypervolume"]), []
    for method in dict.fromkeys(run["search"] for run in record):
        seeds = [run["hypervolume"] for run in record if run["search"] == method]
        rows.append((method, *(f"{sum(volumes[n] for volumes in seeds) / len(seeds):.3f}" for n in after)))
    return table(("`--search`", *(f"{n} evaluations" for n in after)), rows)


def limited(record: Sequence[Mapping[str, Any]]) -> str:
    """The likeness to the dense model that each method finds at each speed-up it was asked for, mean of the seeds."""
    asked, rows = list(dict.fromkeys(run["min_speedup"] for run in record)), []
    for method in dict.fromkeys(run["search"] for run in record):
        found = [
            [run["picks"][f"{least}x"]["likeness"] for run in record if (run["search"], run["min_speedup"]) == (method, least)]
            for least in asked
        ]  # fmt: skip
        rows.append((method, *(f"{sum(seeds) / len(seeds):.4f}" for seeds in found)))
    return table(("`--search`", *(f"at least {least:g}x" for least in asked)), rows)


def early_stop(record: Sequence[Mapping[str, Any]]) -> str:
    """What a first look saves of a search, and what both ways find, mean of the seeds."""
    runs: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for run in record:
        runs.setdefault((run["task"], run["search"]), []).append(run)
    rows = []
    for (task, method), seeds in runs.items():
        stopped, evaluated = (sum(run[name] for run in seeds) for name in ("stopped", "evaluated"))
        judged, *volumes = (
            sum(values) / len(seeds)
            for values in zip(*((run["share"], *run["hypervolume"].values()) for run in seeds), strict=True)
        )
        whole, early = (sum(run["seconds"][way] for run in seeds) for way in ("whole", "early"))
        spared = f"{stopped / evaluated:.0%}", f"{judged:.0%}", f"{early / whole:.2f}x"
        rows.append((NAMES[task], method, *spared, *(f"{volume:.3f}" for volume in volumes)))
    judgements = ("hypervolume, all judged in full", "with first looks")
    return table(("data", "`--search`", "stopped", "examples judged", "time", *judgements), rows)


TRAININGS = {"super-network": "a super-network, strategy full, on MRPC", "polish": "ten networks polished on STS-B"}


def training(record: Mapping[str, Any]) -> str:
    """Seconds of a step as it is and with each saving left out."""
    taken = {name: record["seconds_a_step"][name] for name in TRAININGS}
    rows = [(TRAININGS[name], *(f"{seconds:.2f} s" for seconds in of.values())) for name, of in taken.items()]
    return table(("a step of", *taken["polish"]), rows)


STAGES = ("rank heads and units", "profile", "search", "final weights", "export and check", "measure artefacts")


def scale(record: Sequence[Mapping[str, Any]]) -> str:
    """How long the whole of `--effort fast` takes on larger models, and the memory of its process."""
    rows = [
        (
            run["model"], f"{run['parameters'] / 1e6:.0f} M", run["fingerprint"]["cpu_count"], f"{run['seconds']:,.0f} s",
            *(f"{run['timings_s'][stage]:,.0f} s" for stage in STAGES), f"{run['peak_bytes'] / 2**30:.1f} GiB",
        )
        for run in record
    ]  # fmt: skip
    return table(("model", "parameters", "cores", "all", *STAGES, "peak memory"), rows)


WAYS = ("one campaign", "a campaign a worker", "without own work")


def fleet_scale(record: Mapping[str, Any]) -> str:
    """Hours of a simulated fleet by the number of workers, and the share of them that workers are busy."""
    rows = [
        (
            at_once[0]["workers"],
            *(f"{one['makespan_s'] / 3600:.1f} h, {one['busy']:.0%} busy" for one in at_once),
        )
        for at_once in zip(*(record[way] for way in WAYS), strict=True)
    ]
    return table(("workers", *WAYS), rows)


SHOWN = ("1.5x", "2.0x", "3.0x", "4.0x")
SHOWN_OF_BOTH = ("3.0x", "4.0x", "5.0x", "6.0x")
"""Speed-ups of classifiers: of structure alone, and with the precision, which alone is 2.6x."""


def finetuned(record: Mapping[str, Mapping[str, Any]], shown: Sequence[str] = SHOWN) -> str:
    """What classifiers lose of the dense test figure at each minimum speed-up, a line a task and effort, the mean of its seeds."""
    runs: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
    for run in record.values():
        runs.setdefault((run["task"], run["effort"], run["precision"]), []).append(run)
    rows = []
    for (task, effort, precision), seeds in runs.items():
        figures = [_lost([run["picks"].get(least) for run in seeds]) for least in shown]
        dense = f"{seeds[0]['metric']} {100 * seeds[0]['dense']['test']:.1f}"
        rows.append((NAMES.get(task, task), dense, f"{effort}, {precision}", len(seeds), *figures))
    return table(("data", "dense", "effort", "seeds", *shown), rows)


def _lost(nets: Sequence[Mapping[str, Any] | None]) -> str:
    """The mean of seeds; its interval's bounds are the means of theirs: the same examples disturb all, it is hardly narrower."""
    there = [net for net in nets if net is not None]
    if not there:
        return "none"
    rows = [(net["loss"], *net["interval"], net["speedup"]) for net in there]
    *lost, speedup = (sum(column) / len(there) for column in zip(*rows, strict=True))
    fewer = "" if len(there) == len(nets) else f", on {len(there)} seeds of {len(nets)}"
    return f"{share(*lost)} at {speedup:.2f}x{fewer}"


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
    "mpnet_fast": oneshot,
    "oneshot_asked": oneshot,
    "ablation": ablation,
    "oneshot_balanced": oneshot,
    "finetuned": finetuned,
    "finetuned_joint": partial(finetuned, shown=SHOWN_OF_BOTH),
    "tasks": partial(finetuned, shown=("1.5x", "2.0x", "3.0x")),
    "joint": joint,
    "joint_seeds": oneshot,
    "searches": searches,
    "searches_joint": searches,
    "searches_limited": limited,
    "early_stop": early_stop,
    "training": training,
    "protocol_ways": protocol_ways,
    "protocol_objectives": protocol_objectives,
    "protocol": protocol,
    "protocol_kept": protocol_kept,
    **{f"protocol_changes_{of}": partial(changes, of=of) for of in CHANGED},
    "scale": scale,
    "fleet_scale": fleet_scale,
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
