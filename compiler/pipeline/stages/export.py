"""Stage "export": the files of each finalist, checked, with what servers and TensorRT need beside them."""

import json
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from compiler.export import compare_with_fresh_export, write_artifact
from compiler.export.serving import Accelerator, write_bundles
from compiler.export.tensorrt import shape_profile, write_recipe
from compiler.families import Checkpoint
from compiler.pipeline.device import Device
from compiler.pipeline.graphs import template_key
from compiler.pipeline.learned import Learned
from compiler.pipeline.networks import Exported, Finalist
from compiler.pipeline.options import Budgets
from compiler.pipeline.outfolder import install, writing
from compiler.pipeline.shapes import shape_json
from compiler.pipeline.stages.context import Context
from compiler.store import key_of
from targets import STATIC


def export(context: Context, device: Device, learned: Learned, finalists: Sequence[Finalist]) -> tuple[Exported, ...]:
    """Write all files beside the output folder, check them, and put them into place of an earlier run's."""
    out, checkpoint = context.options.out, learned.subject.checkpoint
    with context.stages("export and check"):
        written = list[Exported]()
        for network in finalists:
            written.append(_write(network, writing(out), context, learned))
            context.monitor.progress(len(written) / (len(finalists) + 1))
        _check_fresh(context, written[1:])
        if device.target.kind == "gpu":
            written = [_with_recipe(network, device, checkpoint.max_tokens) for network in written]
        for network in written:
            _write_bundles(network, device, checkpoint)
        install(out)
        return tuple(
            network.with_artifact(path=out / network.artifact.path.relative_to(writing(out))) for network in written
        )


def _write(network: Finalist, out: Path, context: Context, learned: Learned) -> Exported:
    artifact = write_artifact(
        out / network.id, context.bench, network.subnet, network.read(), learned.validation.batches,
        _metadata(network, learned, context.options.budgets), network.form,
    )  # fmt: skip
    return network.exported(artifact)


def _metadata(network: Finalist, learned: Learned, budgets: Budgets) -> dict[str, str]:
    """What a file says of itself; `labels` and `budget` are JSON."""
    checkpoint, subnet = learned.subject.checkpoint, network.subnet
    made_with = ("paretoc", "torch", "transformers", "onnx", "onnxscript")
    return {
        "producer": "paretoc",
        "made_with": ", ".join(f"{name} {version(name)}" for name in made_with),
        "task": checkpoint.task.name,
        "labels": json.dumps(checkpoint.label_names if checkpoint.task.head else []),
        "base_model": checkpoint.name,
        **{
            name: _in_words(sizes)
            for name, sizes in shape_json(checkpoint.architecture, subnet.shape, subnet.width).items()
        },
        f"validation_{learned.subject.metric.name}": f"{network.validation.metric:.6f}",
        "budget": json.dumps(budgets.limits()),
    }


def _in_words(sizes: Any) -> str:
    return " ".join(map(str, sizes)) if isinstance(sizes, list) else str(sizes)


def _check_fresh(context: Context, written: Sequence[Exported]) -> None:
    """Compare the network that is exported soonest with torch's own export of it, once for a template."""
    network = min(written, key=lambda one: one.blocks)
    narrow, checkpoint = context.options.space == "width", context.bench.checkpoint
    key = key_of(["fresh", template_key(checkpoint, context.options.opset, narrow=narrow)])
    if context.store.get("fresh-export", key) is None:
        worst = compare_with_fresh_export(context.bench, network.subnet, network.read())
        context.store.put("fresh-export", key, worst)


def _with_recipe(network: Exported, device: Device, longest: int) -> Exported:
    """A network with a TensorRT recipe beside its file. VerificationError where TensorRT's parser would not take the file."""
    path, asked = network.artifact.path, device.workload
    batch = max((asked.batch, *device.batches))
    coverage = write_recipe(path.parent / "tensorrt", path, shape_profile(batch, asked.tokens, longest))
    return network.with_artifact(tensorrt=coverage.status)


def _write_bundles(network: Exported, device: Device, checkpoint: Checkpoint) -> None:
    """Write beside a network's file what servers need to serve it."""
    path = network.artifact.path
    write_bundles(
        path.parent / "serving", path, checkpoint, runs_on=runs_on(device.target.kind, network.precision),
        threads=device.workload.threads, cpus=device.fingerprint.cpu_count,
        usual=(device.workload.batch, device.workload.tokens),
    )  # fmt: skip


def runs_on(kind: str, precision: str) -> Accelerator:
    """What a device of a kind serves a file of a precision with."""
    if kind != "gpu":
        return "cpu"
    return "tensorrt" if precision == STATIC else "cuda"
