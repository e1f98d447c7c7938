"""An exported file against PyTorch: real texts, odd shapes, and the attention it should hold."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from compiler.evaluation import Batches
from compiler.export.files import attention_nodes
from compiler.families import Architecture, Checkpoint
from compiler.slicing import SubnetRunner
from compiler.spaces import Shape, Subnet
from profilers.runtimes.onnx_runtime import open_session
from targets import STATIC
from targets.errors import VerificationError

Expected = Callable[[Mapping[str, Tensor]], Sequence[Tensor]]
"""Padded inputs to all outputs of a network."""

TOLERANCES = {"fp32": 1e-4, "bf16": 1e-4, "fp16": 2e-2, "int8": math.inf, STATIC: math.inf}
"""Of the file of a network; what runs in bf16 is a float file that its runtime converts."""


LONGEST = 1024
"""Tokens of the longest odd input: the parts of a graph are the same at every length, attention's memory grows with its square."""


def odd_inputs(
    names: Sequence[str], architecture: Architecture, pad_token_id: int, seed: int = 0
) -> list[dict[str, Tensor]]:
    """Random words in batches of 1 and 7, of 1 token, the longest that is tried, and mostly padding; by input name."""
    longest = min(architecture.max_tokens, LONGEST)
    generator = torch.Generator().manual_seed(seed)
    inputs = []
    for batch, tokens, real in ((1, 1, 1), (7, 13, 13), (1, longest, longest), (7, min(40, longest), 3)):
        ids = torch.randint(5, architecture.vocabulary, (batch, tokens), generator=generator)
        mask = torch.ones_like(ids)
        mask[1:, real:] = 0
        ids[mask == 0] = pad_token_id
        arrays = {"input_ids": ids, "attention_mask": mask, "token_type_ids": torch.zeros_like(ids)}
        inputs.append({name: arrays[name] for name in names})
    return inputs


def run_session(session: Any, inputs: Mapping[str, Tensor]) -> list[NDArray[Any]]:
    """Outputs of an ONNX Runtime session for tensors."""
    outputs: list[NDArray[Any]] = session.run(None, {name: tensor.numpy() for name, tensor in inputs.items()})
    return outputs


def _difference(ours: NDArray[Any], theirs: NDArray[Any]) -> float:
    return float(np.abs(ours - theirs).max() / max(1.0, float(np.abs(theirs).max())))


def compare(path: Path, expected: Expected, inputs: Iterable[Mapping[str, Tensor]], tolerance: float) -> float:
    """Largest difference between a file under ONNX Runtime and what PyTorch gives for the same inputs.

    Relative to the largest output where that is above 1. Padded positions of token outputs are left out. Raises
    VerificationError above the tolerance (infinite: where an output is not finite).
    """
    session = open_session(path, threads=0)
    worst = 0.0
    for given in inputs:
        with torch.inference_mode():
            wanted = expected(given)
        mask = given["attention_mask"].bool()
        for ours, theirs in zip(run_session(session, given), wanted, strict=True):
            tokens = theirs.ndim == 3
            worst = max(
                worst, _difference(ours[mask.numpy()] if tokens else ours, (theirs[mask] if tokens else theirs).numpy())
            )
    if not worst < tolerance:
        raise VerificationError(f"{path.name} differs from PyTorch by {worst:.2e}, allowed {tolerance:.0e}")
    return worst


def check_attention(path: Path, shape: Shape) -> int:
    """The attentions of a file. VerificationError where they are not one for each kept attention block."""
    wanted = sum(1 for sizes in shape if sizes.heads)
    found = attention_nodes(path)
    if found != wanted:
        raise VerificationError(f"{path.name} has {found} Attention nodes, {wanted} attention blocks were kept")
    return found


def parity_error(
    checkpoint: Checkpoint,
    subnet: Subnet,
    parameters: Mapping[str, Tensor],
    path: Path,
    real: Batches,
    tolerance: float = TOLERANCES["fp32"],
) -> float:
    """`compare` with the sliced network, on real texts and odd inputs."""
    runner = SubnetRunner(checkpoint.model, checkpoint.architecture)
    odd = odd_inputs(checkpoint.input_names, checkpoint.architecture, checkpoint.tokenizer.pad_token_id)
    return compare(path, lambda inputs: runner(subnet, inputs, parameters), (*real.batches[:2], *odd), tolerance)
