"""Fine-tuned models of any task that labels teach: MiniLM's, fine-tuned, then compiled at `--effort fast` or `balanced`.

    python bench/finetuned.py mrpc banking77 --epochs 5 --learning-rate 2e-4 --seeds 0 1 2
    python bench/finetuned.py trec cola rte --epochs 3 --seeds 0 1 2
    python bench/finetuned.py sst2 --epochs 0.5 --seeds 0 1 2
    python bench/finetuned.py mrpc rte cola sst2 trec banking77 --effort balanced --precision fp32,int8
    python bench/finetuned.py wikiqa wnut17 xquad banking77-joined --seeds 0 1 2 --speedups 1.5 2 3 --json bench/results/tasks.json
    python bench/finetuned.py trec --model SmolLM2-135M-Instruct --epochs 2 --speedups 1.3 1.5 2 --json bench/results/smollm2.json

The dense model is fine-tuned once a task in the ordinary way and saved; every seed compiles that checkpoint. For each
minimum speed-up over dense fp32 the network with the least validation error among those measured at least as fast is picked.
`loss` is what it loses of the dense metric on test, relative, with a paired bootstrap over the test examples. Results are
written after every run; runs that the JSON holds are not made again.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmark_data import data_folder
from joined import NAME, joined_folder
from labelled import METRICS, picks
from output import write_json
from paired import Array, loss
from rich.console import Console

from compiler.cli.console import ConsoleMonitor
from compiler.export import graph_run
from compiler.families.embedded import embedded_model
from compiler.pipeline import Options, compile_model
from compiler.pipeline.subject import load_subject
from compiler.pipeline.training import Trainer, fine_tuned
from compiler.store import DiskStore
from targets import usable_cpus

SPEEDUPS = (1.5, 2.0, 3.0, 4.0, 5.0, 6.0)


def fine_tuned_model(task: str, arguments: argparse.Namespace, monitor: ConsoleMonitor) -> Path:
    """The folder of the model fine-tuned on a task; made where it is not there."""
    folder: Path = arguments.models / (
        task if arguments.model == str(embedded_model()) else f"{_name(arguments)}-{task}"
    )
    if (folder / "model.safetensors").is_file():
        return folder
    options = Options(
        model=arguments.model, data=_data(task, arguments), effort="thorough", epochs=arguments.epochs,
        learning_rate=arguments.learning_rate, metric=METRICS.get(task),
    )  # fmt: skip
    subject = load_subject(options)
    with tempfile.TemporaryDirectory() as root:
        monitor.stage(f"fine-tune on {task}")
        trainer = Trainer(subject=subject, store=DiskStore(Path(root)), options=options, monitor=monitor)
        subject.set_dense(fine_tuned(trainer))
    subject.checkpoint.model.backbone.save_pretrained(folder)  # type: ignore[operator]
    subject.checkpoint.tokenizer.save_pretrained(folder)
    return folder


def _data(task: str, arguments: argparse.Namespace) -> str:
    return joined_folder(arguments.models) if task == NAME else data_folder(task)


def _name(arguments: argparse.Namespace) -> str:
    return Path(arguments.model).name


def run(task: str, seed: int, arguments: argparse.Namespace, monitor: ConsoleMonitor) -> dict[str, Any]:
    """One compilation of one fine-tuned model."""
    folder = fine_tuned_model(task, arguments, monitor)
    out: Path = arguments.out / f"{folder.name}-{arguments.effort}-{arguments.precision}-{seed}"
    options = Options(
        model=str(folder), data=_data(task, arguments), effort=arguments.effort, metric=METRICS.get(task), seed=seed, out=out,
        winners=arguments.winners, cache=arguments.cache, accept_noisy_table=True,
        precisions=tuple(arguments.precision.split(",")),
    )  # fmt: skip
    start = time.monotonic()
    front = compile_model(options, monitor)
    seconds = time.monotonic() - start
    subject = load_subject(options)
    test = subject.yardstick(subject.data.test)

    def outputs(net: Mapping[str, Any]) -> Array:
        return test.outputs(graph_run(out / net["artifact"]["path"], usable_cpus(), subject.task.judged))

    dense, nets = outputs(front["dense"]), {net["id"]: net for net in front["candidates"]}
    chosen = picks(front, arguments.speedups)
    for pick in filter(None, chosen.values()):
        pick.update(loss(test, dense, outputs(nets[pick["id"]])))
    return {
        "model": _name(arguments), "task": task, "effort": arguments.effort, "precision": arguments.precision, "seed": seed,
        "winners": arguments.winners, "metric": front["metric"]["name"],
        "dense": front["dense"]["metric"], "picks": chosen, "seconds": round(seconds, 1),
        "timings_s": front["timings_s"], "fingerprint": front["target"]["fingerprint"],
    }  # fmt: skip


def main() -> None:
    """Every task and seed that is not there yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tasks", nargs="+")
    parser.add_argument("--model", default=str(embedded_model()), help="a model folder")
    parser.add_argument("--speedups", type=float, nargs="+", default=SPEEDUPS, help="the least of each pick")
    parser.add_argument("--effort", default="fast", choices=["fast", "balanced"])
    parser.add_argument("--precision", default="fp32", help="searched together: fp32,int8")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--epochs", type=float, default=3, help="of the dense model's fine-tuning")
    parser.add_argument("--learning-rate", type=float, default=None, help="of the same, at its highest")
    parser.add_argument("--winners", type=int, default=10)
    parser.add_argument("--models", type=Path, default=Path("out/finetuned-models"))
    parser.add_argument("--out", type=Path, default=Path("out/finetuned"))
    parser.add_argument("--cache", type=Path, default=None)
    parser.add_argument("--json", type=Path, default=Path("bench/results/finetuned.json"))
    arguments = parser.parse_args()
    results = json.loads(arguments.json.read_text(encoding="utf-8")) if arguments.json.is_file() else {}
    for task in arguments.tasks:
        for seed in arguments.seeds:
            name = f"{task} {arguments.effort} {arguments.precision} {seed}"
            if name in results:
                continue
            with ConsoleMonitor(Console(stderr=True)) as monitor:
                results[name] = run(task, seed, arguments, monitor)
            write_json(arguments.json, results)
            json.dump(results[name], sys.stdout, indent=1)


if __name__ == "__main__":
    main()
