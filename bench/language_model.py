"""SmolLM2 as a causal language model: `--effort balanced` at a minimum speed-up, beside the dense model given the same polish.

    python bench/language_model.py --model SmolLM2-135M-Instruct
    python bench/language_model.py --model SmolLM2-135M-Instruct --only times        on a quiet machine

Articles of WikiText-2's valid.txt are polished on, but for every fifth, on which networks are chosen; test.txt is only reported.
Two dense models are polished on the same blocks in the same order, as many steps, at the same learning rate and schedule: one with the
product's own loss (next token, and divergence from the dense model), one with the next token's alone. The bar is held against the
better of them: `ratio` is the perplexity on test over its, with a paired bootstrap over blocks; `kl` is from the dense model as it came.
`times` alternates the chosen file with the dense one's, as `compile bench` does, over several runs. Every step's result is written at once; those
that the JSON holds are not made again, and a training that was killed goes on from its last checkpoint.
"""

import argparse
import csv
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from benchmark_data import data_folder
from output import write_json
from paired import loss
from rich.console import Console
from safetensors.torch import load_file, save_file
from torch import Tensor

from compiler.cli.console import ConsoleMonitor
from compiler.export import graph_run
from compiler.pipeline import Budgets, Options, compile_model
from compiler.pipeline.bench import BenchOptions, bench
from compiler.pipeline.monitor import SilentMonitor
from compiler.pipeline.subject import Subject, detached, load_subject
from compiler.spaces import Ordering, Subnet
from compiler.supernet import TrainingOptions, polish
from compiler.tasks.blocks import documents
from compiler.tasks.causal_lm import CausalLM
from targets import usable_cpus

EVERY = 5
"""One article of so many is to choose on."""

OWN, TEXT = "dense, the product's polish", "dense, next token alone"


class TextAlone(CausalLM):
    """The same task, whose training hears nothing of a teacher."""

    def loss(self, outputs: Any, mask: Tensor, labels: Any, teacher: Any, temperature: float) -> Tensor:  # noqa: ARG002
        """Cross-entropy of the next token."""
        return super().loss(outputs, mask, labels, None, temperature)


def split_articles(source: Path, folder: Path) -> str:
    """WikiText-2's files as train, validation and test: those of valid.txt by whole articles. The folder."""
    folder.mkdir(parents=True, exist_ok=True)
    articles, _ = documents((source / "valid.txt").read_text(encoding="utf-8").splitlines())
    parts = {
        "train": [text for i, text in enumerate(articles) if i % EVERY],
        "validation": articles[::EVERY],
        "test": [(source / "test.txt").read_text(encoding="utf-8")],
    }
    for name, texts in parts.items():
        (folder / f"{name}.txt").write_text("\n".join(texts) + "\n", encoding="utf-8")
    return str(folder)


@dataclass(frozen=True)
class Study:
    """One model, and the folder in which its steps work."""

    arguments: argparse.Namespace

    @cached_property
    def options(self) -> Options:
        """The compilation's, with as many epochs as the wanted steps of a polish take."""
        asked = self.arguments
        data = split_articles(Path(asked.data), asked.out / "data")
        plain = Options(
            model=asked.model, data=data, task="causal_lm", effort="balanced", out=asked.out / "run", winners=asked.winners,
            target=asked.target, seq_len=asked.seq_len, evaluations=asked.evaluations, cache=asked.cache, seed=asked.seed,
            budgets=Budgets(min_speedup=asked.speedup) if asked.target == "cpu" else Budgets(), accept_noisy_table=True,
        )  # fmt: skip
        subject = load_subject(plain)
        epochs = asked.steps * subject.task.batch_size / len(subject.data.train)
        return replace(plain, epochs=epochs / subject.task.polish_share)

    @cached_property
    def subject(self) -> Subject:
        """Model and data."""
        return load_subject(self.options)

    def compiled(self) -> dict[str, Any]:
        """The run, what it chose, and how it was polished."""
        start = time.monotonic()
        with ConsoleMonitor(Console(stderr=True)) as monitor:
            front = compile_model(self.options, monitor)
        with (self.options.out / "training.csv").open(encoding="utf-8") as rows:
            last = [row for row in csv.DictReader(rows) if row["stage"] == "polished"][-1]
        best = next(net for net in front["candidates"] if net["id"] == front["best"])
        keys = ("id", "speedup", "speedup_interval", "metric", "artifact", "parameters")
        return {
            "best": {key: best[key] for key in keys}, "dense": {key: front["dense"][key] for key in ("metric", "artifact")},
            "polish": {"steps": int(last["step"]), "blocks": len(self.subject.data.train), "epochs": self.options.epochs},
            "evaluations": self.arguments.evaluations, "seconds": round(time.monotonic() - start, 1),
            "timings_s": front["timings_s"], "notes": front["notes"], "fingerprint": front["target"]["fingerprint"],
        }  # fmt: skip

    @property
    def training(self) -> TrainingOptions:
        """A polish as `compiler.pipeline.weights` asks for it."""
        task = self.subject.task
        return TrainingOptions(
            seed=self.options.seed, batch_size=task.batch_size, epochs=task.polish_share * (self.options.epochs or 0),
            learning_rate=task.polish_rate, dropout=0.0, temperature=2.0,
        )  # fmt: skip

    def polished(self, name: str, steps: int) -> dict[str, Any]:
        """A dense model's polish, of as many steps as the run's networks had; its weights are kept beside the run."""
        checkpoint, start, done = self.subject.checkpoint, time.monotonic(), list[str]()
        architecture = checkpoint.architecture
        whole = Subnet.first(architecture.shape, Ordering.by_index(architecture.shape, architecture.apart))
        dense = detached(dict(checkpoint.model.backbone.named_parameters()))
        taught = replace(checkpoint, task=TextAlone()) if name == TEXT else checkpoint

        def tell(_: float, said: str) -> None:
            done.append(said)
            print(f"{name}: {said}", file=sys.stderr, flush=True)

        (trained,) = polish(
            taught, dense, [whole], [dense], split=self.subject.data.train, options=self.training,
            max_tokens=self.subject.max_tokens, work_dir=self._weights(name).with_suffix(".training"),
            progress=tell,
        )  # fmt: skip
        taken = int(done[-1].split()[1].replace(",", "")) if done else steps
        if taken != steps:
            raise SystemExit(f"{name}: {taken} steps, and the run's networks had {steps}: the polish is another one")
        save_file({key: tensor.contiguous() for key, tensor in trained.items()}, self._weights(name))
        return {"steps": taken, "seconds": round(time.monotonic() - start, 1)}

    def _weights(self, name: str) -> Path:
        return Path(self.arguments.out) / f"{name.replace(', ', ' ').replace(' ', '-')}.safetensors"

    def scored(self, compiled: Mapping[str, Any]) -> dict[str, Any]:
        """Figures of all networks on test, the ratio of perplexities to each polished dense model, and the better of these."""
        subject = self.subject
        test = subject.yardstick(subject.data.test)
        found = {}
        for name in ("dense", "best"):
            path = self.options.out / compiled[name]["artifact"]["path"]
            found[name] = test.outputs(graph_run(path, usable_cpus(), subject.task.judged))
        came = detached({key: tensor.clone() for key, tensor in subject.checkpoint.model.backbone.named_parameters()})
        for name in (OWN, TEXT):
            subject.set_dense(load_file(self._weights(name)))
            found[name] = test.outputs(lambda inputs: subject.task.judged(subject.checkpoint.model(**inputs)))
        subject.set_dense(came)
        qualities = {name: test.score(answers) for name, answers in found.items()}
        ratios = {}
        for name in ("dense", OWN, TEXT):
            lost = loss(test, found[name], found["best"])
            ratios[name] = {"ratio": 1 - lost["loss"], "interval": [1 - lost["interval"][1], 1 - lost["interval"][0]]}
        figures: dict[str, Any] = {name: {"perplexity": q.metric, **q.others} for name, q in qualities.items()}
        return {
            "blocks": len(found["best"]), "tokens_of_block": subject.max_tokens, "figures": figures, "ratios": ratios,
            "held_against": min((OWN, TEXT), key=lambda name: float(figures[name]["perplexity"])),
        }  # fmt: skip

    def times(self, compiled: Mapping[str, Any]) -> dict[str, Any]:
        """Speed-up of the chosen file, from runs in which it alternates with the dense one's."""
        paths = [self.options.out / compiled[name]["artifact"]["path"] for name in ("dense", "best")]
        runs: list[dict[str, Any]] = []
        for _ in range(self.arguments.runs):
            found = bench(
                BenchOptions(paths=(paths[1],), baseline=paths[0], seconds=30.0, seq_len=self.options.seq_len),
                SilentMonitor(),
            )
            runs.append({key: found["files"][-1][key] for key in ("speedup", "speedup_interval", "latency_ms")})
        return {"runs": runs, "least_speedup": min(run["speedup"] for run in runs)}


def steps(study: Study, results: Mapping[str, Any]) -> dict[str, Callable[[], dict[str, Any]]]:
    """Every step by name, in order; each may read the results of those before it."""
    return {
        "compiled": study.compiled,
        OWN: lambda: study.polished(OWN, results["compiled"]["polish"]["steps"]),
        TEXT: lambda: study.polished(TEXT, results["compiled"]["polish"]["steps"]),
        "test": lambda: study.scored(results["compiled"]),
        "times": lambda: study.times(results["compiled"]),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Every step that is not there yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="a model folder")
    parser.add_argument("--data", default=data_folder("wikitext2"), help="a folder with valid.txt and test.txt")
    parser.add_argument("--target", default="cpu", choices=["cpu", "null"])
    parser.add_argument("--speedup", type=float, default=1.33, help="the least that the run is asked for")
    parser.add_argument("--steps", type=int, default=100, help="of a polish, each of 8 blocks")
    parser.add_argument("--seq-len", type=int, default=128)
    parser.add_argument("--evaluations", type=int, default=16)
    parser.add_argument("--winners", type=int, default=1)
    parser.add_argument("--runs", type=int, default=3, help="of `times`")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default=None, choices=["compiled", "polish", "test", "times"])
    parser.add_argument("--out", type=Path, default=Path("out/language-model"))
    parser.add_argument("--cache", type=Path, default=None)
    parser.add_argument("--json", type=Path, default=Path("bench/results/language_model.json"))
    asked = parser.parse_args(arguments)
    torch.set_num_threads(usable_cpus())
    results = json.loads(asked.json.read_text(encoding="utf-8")) if asked.json.is_file() else {}
    results.setdefault("model", Path(asked.model).name)
    chosen = {"polish": {OWN, TEXT}, None: None}.get(asked.only, {asked.only})
    for name, make in steps(Study(asked), results).items():
        if name in results or (chosen is not None and name not in chosen):
            continue
        results[name] = make()
        write_json(asked.json, results)
        print(json.dumps({name: results[name]}, indent=1))


if __name__ == "__main__":
    main()
