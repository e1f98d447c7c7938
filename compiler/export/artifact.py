"""One artefact: a sub-network's ONNX file and checkpoint, checked."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from compiler.evaluation import Batches
from compiler.export.checkpoint import save_checkpoint
from compiler.export.dense import OPSET, export_module
from compiler.export.files import inline, operator_counts, write_graph
from compiler.export.parity import odd_inputs, parity_error, run_session
from compiler.export.template import GraphTemplate
from compiler.families import Checkpoint
from compiler.slicing import build_skeleton
from compiler.spaces import Subnet
from targets.errors import VerificationError


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """What was written for one sub-network. `parity_error` is its largest difference from PyTorch."""

    path: Path
    sha256: str
    size_bytes: int
    opset: int
    attention_nodes: int
    parity_error: float


def write_artifact(
    folder: Path,
    checkpoint: Checkpoint,
    template: GraphTemplate,
    subnet: Subnet,
    parameters: Mapping[str, Tensor],
    real: Batches,
    metadata: Mapping[str, str],
) -> Artifact:
    """Write `folder`/model.onnx and the transformers checkpoint beside it; check both. VerificationError if wrong."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "model.onnx"
    arrays = {name: tensor.detach().numpy() for name, tensor in parameters.items()}
    sha256 = write_graph(template.fill(arrays, subnet.shape), path, metadata)
    save_checkpoint(folder, checkpoint, subnet, parameters)
    return Artifact(
        path=path,
        sha256=sha256,
        size_bytes=path.stat().st_size,
        opset=OPSET,
        attention_nodes=operator_counts(path)["Attention"],
        parity_error=parity_error(checkpoint, subnet, parameters, path, real),
    )


def compare_with_fresh_export(
    checkpoint: Checkpoint, template: GraphTemplate, subnet: Subnet, parameters: Mapping[str, Tensor]
) -> float:
    """Largest difference between the template's graph and torch's own export of the sliced network.

    About 8 s; done for one network a run. Raises VerificationError above 1e-4.
    """
    import onnxruntime

    model = build_skeleton(checkpoint.model, checkpoint.architecture, subnet.shape)
    model.backbone.load_state_dict(dict(parameters), strict=False, assign=True)
    fresh = export_module(model.eval(), checkpoint)
    arrays = {name: tensor.detach().numpy() for name, tensor in parameters.items()}
    cut = inline(template.fill(arrays, subnet.shape))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    sessions = [onnxruntime.InferenceSession(m.SerializeToString(), options) for m in (fresh, cut)]
    inputs = odd_inputs(checkpoint)[1]
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
