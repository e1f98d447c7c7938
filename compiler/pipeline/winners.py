"""The networks that are kept: their final weights, their metrics, their artefacts."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from compiler.evaluation import Changes, Quality
from compiler.export import Artifact, write_artifact
from compiler.export.serving import Accelerator, write_bundles
from compiler.export.tensorrt import shape_profile, write_recipe
from compiler.families import Checkpoint
from compiler.pipeline.device import Device
from compiler.pipeline.hunt import Found, Hunt
from compiler.pipeline.jobs import Score
from compiler.pipeline.monitor import Monitor
from compiler.pipeline.options import Budgets
from compiler.pipeline.outfolder import install, writing
from compiler.pipeline.shapes import shape_json
from compiler.spaces import Form
from profilers import Series
from targets import STATIC


@dataclass(frozen=True, slots=True, kw_only=True)
class Winner:
    """A kept network with its final metrics and, once written and measured, its artefact and what it takes.

    `read` gives its final weights: those of all winners together may not fit into memory.
    `decisions`, and `changes` against the dense model, are by split: of tasks that decide on classes. `memory_bytes` is the peak of a process that serves it, `energy_j` a call's, `throughput_per_s` that at the predicted
    best `batch`: None where the run did not ask.
    """

    found: Found
    read: Callable[[], Mapping[str, Tensor]]
    validation: Quality
    test: Quality
    artifact: Artifact | None = None
    series: Series | None = None
    memory_bytes: int | None = None
    energy_j: float | None = None
    throughput_per_s: float | None = None
    batch: int | None = None
    grid: tuple[dict[str, Any], ...] = ()
    decisions: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)
    changes: Mapping[str, Changes] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """Its name in the run."""
        return self.found.id

    @property
    def speedups(self) -> list[float]:
        """Dense over this network, block by block; empty where nothing was measured."""
        return [] if self.series is None else self.series.ratio_to_reference()

    @property
    def speedup(self) -> float | None:
        """Median speed-up over the dense model, the two alternating in one run."""
        return float(np.median(self.speedups)) if self.speedups else None

    @property
    def peak_bytes(self) -> float | None:
        """Peak of a process that serves it: measured, else predicted, where the run asked."""
        return self.memory_bytes or self.found.costs.get("memory")

    def latency_s(self, percentile: str) -> float | None:
        """Measured latency percentile ("p50", ...), in seconds."""
        return None if self.series is None else self.series.pooled.percentile_s(float(percentile[1:]))


def dense_elsewhere(hunt: Hunt, dense: Found) -> list[Found]:
    """The whole network in the other forms searched: what a candidate of theirs has to beat."""
    others = [form for form in hunt.forms if form != dense.form]
    return [hunt.costed(_dense_name(form), dense.subnet, form, dense.quality) for form in others]


def _dense_name(form: Form) -> str:
    return f"dense-{form.precision}-part" if form.exceptions else f"dense-{form.precision}"


def finish(hunt: Hunt, chosen: Sequence[Found], monitor: Monitor) -> list[Winner]:
    """Final weights of the chosen networks and their metrics on validation and test."""
    weights = hunt.learned.weights
    kept = list(dict.fromkeys((found.subnet, found.trained) for found in chosen))
    weights.finish(kept, monitor.progress)
    for found in chosen:
        weights.log(found.subnet, found.trained, found.id)
    return weights.of_each(
        lambda found: scored(hunt, found, partial(weights.final, found.subnet, found.trained)), chosen,
        job=lambda found, threads: Score(subnet=found.subnet, form=found.form, share=found.trained).job(threads),
    )  # fmt: skip


def scored(hunt: Hunt, found: Found, read: Callable[[], Mapping[str, Tensor]]) -> Winner:
    """A winner with its metrics on both splits, from the store where these very weights were scored before."""
    stored = hunt.judge.finished(found.subnet, found.form, read())
    qualities = {name: Quality.from_json(each["quality"]) for name, each in stored.items()}
    decided = {name: each["decisions"] for name, each in stored.items() if each["decisions"] is not None}
    decisions = {name: np.array(each, dtype=np.int64) for name, each in decided.items()}
    validation, test = qualities["validation"], qualities["test"]
    return Winner(found=found, read=read, validation=validation, test=test, decisions=decisions)


def compared(winners: Sequence[Winner], dense: Winner, hunt: Hunt) -> list[Winner]:
    """The same with what they decide otherwise than the dense model."""
    names, splits = hunt.subject.data.label_names or hunt.subject.checkpoint.label_names, hunt.learned.splits

    def of(winner: Winner) -> dict[str, Changes]:
        return {s: splits[s].changes(own, dense.decisions[s], names) for s, own in winner.decisions.items()}

    return [replace(winner, changes=of(winner)) for winner in winners]


def write(winner: Winner, out: Path, hunt: Hunt, budgets: Budgets) -> Winner:
    """Write a winner's files and check them."""
    artifact = write_artifact(
        out / winner.id, hunt.bench, winner.found.subnet, winner.read(), hunt.learned.validation.batches,
        _metadata(winner, hunt, budgets), winner.found.form,
    )  # fmt: skip
    return replace(winner, artifact=artifact)


def _in_words(sizes: Any) -> str:
    return " ".join(map(str, sizes)) if isinstance(sizes, list) else str(sizes)


def _metadata(winner: Winner, hunt: Hunt, budgets: Budgets) -> dict[str, str]:
    """What a file says of itself; `labels` and `budget` are JSON."""
    checkpoint, shape = hunt.subject.checkpoint, winner.found.subnet.shape
    made_with = ("paretoc", "torch", "transformers", "onnx", "onnxscript")
    width = winner.found.subnet.width
    return {
        "producer": "paretoc",
        "made_with": ", ".join(f"{name} {version(name)}" for name in made_with),
        "task": checkpoint.task.name,
        "labels": json.dumps(checkpoint.label_names if checkpoint.task.head else []),
        "base_model": checkpoint.name,
        **{name: _in_words(sizes) for name, sizes in shape_json(checkpoint.architecture, shape, width).items()},
        f"validation_{hunt.subject.metric.name}": f"{winner.validation.metric:.6f}",
        "budget": json.dumps(budgets.limits()),
    }


def add_recipe(winner: Winner, device: Device, longest: int) -> Winner:
    """A winner with a TensorRT recipe beside its file. VerificationError where TensorRT's parser would not take the file."""
    assert winner.artifact is not None  # noqa: S101  it was written
    path, asked = winner.artifact.path, device.workload
    batch = max((asked.batch, *device.batches))
    coverage = write_recipe(path.parent / "tensorrt", path, shape_profile(batch, asked.tokens, longest))
    return replace(winner, artifact=replace(winner.artifact, tensorrt=coverage.status))


def add_bundles(winner: Winner, device: Device, checkpoint: Checkpoint) -> None:
    """Write beside a winner's file what servers need to serve it."""
    assert winner.artifact is not None  # noqa: S101  it was written
    path = winner.artifact.path
    write_bundles(
        path.parent / "serving", path, checkpoint, runs_on=runs_on(device.target.kind, winner.found.precision), threads=device.workload.threads,
        cpus=device.fingerprint.cpu_count, usual=(device.workload.batch, device.workload.tokens),
    )  # fmt: skip


def installed(winners: Sequence[Winner], out: Path) -> list[Winner]:
    """The same with their files in the output folder, in the place of an earlier run's."""
    install(out)
    return [replace(winner, artifact=_moved(winner, out)) for winner in winners]


def _moved(winner: Winner, out: Path) -> Artifact:
    assert winner.artifact is not None  # noqa: S101  it was written
    return replace(winner.artifact, path=out / winner.artifact.path.relative_to(writing(out)))


def runs_on(kind: str, precision: str) -> Accelerator:
    """What a device of a kind serves a file of a precision with."""
    if kind != "gpu":
        return "cpu"
    return "tensorrt" if precision == STATIC else "cuda"
