"""One artefact: a sub-network's ONNX file and checkpoint, checked."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from compiler.export.checkpoint import save_checkpoint
from compiler.export.dense import export_module
from compiler.export.files import outline, parts_of, write_graph
from compiler.export.parity import TOLERANCES, check_attention, odd_inputs, parity_error, run_session
from compiler.export.workbench import ModelWorkbench
from compiler.families.tied import assign
from compiler.slicing import build_skeleton
from compiler.spaces import Form, Subnet
from compiler.tasks import Batches
from profilers.runtimes.onnx_runtime import open_session
from targets import usable_cpus
from targets.errors import VerificationError

_EXACT = Form("fp32")


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """What was written for one sub-network. `parity_error` is its largest difference from PyTorch.

    Of a quantised file the difference is part of its error and only told; of the others it is bounded. `tensorrt` is what
    a recipe beside the file says of itself; None where there is none.
    """

    path: Path
    precision: str
    sha256: str
    size_bytes: int
    opset: int
    attention_nodes: int
    parity_error: float
    tensorrt: str | None = None


def write_artifact(
    folder: Path,
    bench: ModelWorkbench,
    subnet: Subnet,
    parameters: Mapping[str, Tensor],
    real: Batches,
    metadata: Mapping[str, str],
    form: Form = _EXACT,
) -> Artifact:
    """Write `folder`/model.onnx and the transformers checkpoint beside it; of a narrower form model.PRECISION.onnx too.

    All are checked. Returned is the file of the form asked for. VerificationError where a file is wrong.
    """
    folder.mkdir(parents=True, exist_ok=True)
    save_checkpoint(folder, bench.checkpoint, subnet, parameters)
    artifact = _written(folder / "model.onnx", _EXACT, bench, subnet, parameters, real, metadata)
    if form.precision not in bench.templates or form == _EXACT:
        return artifact
    return _written(folder / f"model.{form.precision}.onnx", form, bench, subnet, parameters, real, metadata)


def _written(
    path: Path,
    form: Form,
    bench: ModelWorkbench,
    subnet: Subnet,
    parameters: Mapping[str, Tensor],
    real: Batches,
    metadata: Mapping[str, str],
) -> Artifact:
    about = {**metadata, "precision": form.precision}
    if form.exceptions:
        about["in_fp32"] = ", ".join(map(str, form.exceptions))
    sha256 = write_graph(bench.graph(subnet, parameters, *form), path, about)
    return Artifact(
        path=path,
        precision=form.precision,
        sha256=sha256,
        size_bytes=sum(part.stat().st_size for part in parts_of(path)),
        opset=bench.opset,
        attention_nodes=check_attention(path, subnet.shape),
        parity_error=parity_error(bench.checkpoint, subnet, parameters, path, real, TOLERANCES[form.precision]),
    )


def compare_with_fresh_export(bench: ModelWorkbench, subnet: Subnet, parameters: Mapping[str, Tensor]) -> float:
    """Largest difference between the template's graph and torch's own export of the sliced network.

    About 8 s; a run does it once for a template. Raises VerificationError above 1e-4.
    """
    checkpoint = bench.checkpoint
    model = build_skeleton(checkpoint.model, checkpoint.architecture, subnet.shape, subnet.width)
    assign(model.backbone, parameters)
    fresh = outline(export_module(model.eval(), checkpoint, bench.opset))
    cut = bench.graph(subnet, parameters, "fp32")
    sessions = [open_session(graph, usable_cpus()) for graph in (fresh, cut)]
    inputs = odd_inputs(checkpoint.input_names, checkpoint.architecture, checkpoint.tokenizer.pad_token_id)[1]
    taken = [{i.name for i in session.get_inputs()} for session in sessions]
    with torch.inference_mode():
        outputs = [
            run_session(session, {name: t for name, t in inputs.items() if name in names})
            for session, names in zip(sessions, taken, strict=True)
        ]
    worst = max(float(np.abs(a - b).max()) for a, b in zip(*outputs, strict=True))
    if not worst <= 1e-4:
        raise VerificationError(f"the cut graph differs from a fresh export by {worst:.2e}")
    return worst
