"""An exported file against PyTorch: real texts, odd shapes, and the attention it should hold."""

import copy
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from compiler.export.dense import TOKENS
from compiler.export.files import attention_nodes
from compiler.families import Architecture, Checkpoint, TaskModel
from compiler.slicing import SubnetRunner
from compiler.spaces import Shape, Subnet
from compiler.tasks import Batches
from profilers.runtimes.onnx_runtime import open_session
from targets import STATIC
from targets.errors import VerificationError

Expected = Callable[[Mapping[str, Tensor]], Sequence[Tensor]]
"""Padded inputs to all outputs of a network."""

TOLERANCES = {"fp32": 1e-4, "bf16": 1e-4, "fp16": 2e-2, "int8": math.inf, STATIC: math.inf}
"""Of the file of a network; what runs in bf16 is a float file that its runtime converts."""

_ROUNDING = 4.0
_EPSILON = torch.finfo(torch.float32).eps  # PyTorch may by chance be nearer than float32 can be relied upon to be
"""A file may be this many times as far from float64 as PyTorch's float32: a small network of MPNet was 1.3e-4 from that, and both
were 4e-5 to 6e-5 from float64."""


LONGEST = 1024
"""Tokens of the longest odd input: the parts of a graph are the same at every length, attention's memory grows with its square."""


_TEXTS = 8
"""Of each of two batches of real texts, that a file is held against PyTorch on."""


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


def compare(
    path: Path, expected: Expected, exact: Expected, inputs: Iterable[Mapping[str, Tensor]], tolerance: float
) -> float:
    """Largest difference between a file under ONNX Runtime and what PyTorch gives for the same inputs.

    Relative to the largest output where that is above 1. Padded positions of outputs of tokens are left out. Raises
    VerificationError above the tolerance (infinite: where an output is not finite). A network may amplify rounding beyond it:
    then the file is held against `exact`, the same in float64, and must be as near to that as a few times PyTorch's float32 is.
    """
    session = open_session(path, threads=0)
    of_tokens = [value.shape[1:2] == [TOKENS] for value in session.get_outputs()]
    worst = 0.0
    for given in inputs:
        ours = [torch.from_numpy(array) for array in run_session(session, given)]
        theirs = _answers(expected, given)
        found = _largest(ours, theirs, given, of_tokens)
        if not found < tolerance:
            precise = _answers(exact, given)
            allowed = _ROUNDING * max(_largest(theirs, precise, given, of_tokens), _EPSILON)
            if not _largest(ours, precise, given, of_tokens) <= allowed:
                raise VerificationError(f"{path.name} differs from PyTorch by {found:.2e}, allowed {tolerance:.0e}")
        worst = max(worst, found)
    return worst


def in_float64(model: TaskModel) -> Expected:
    """A model's answers in float64, from a copy that is made where one is asked for."""
    return lambda given: copy.deepcopy(model).double()(**given)


def _answers(network: Expected, given: Mapping[str, Tensor]) -> Sequence[Tensor]:
    with torch.inference_mode():
        return network(given)


def _largest(
    ours: Sequence[Tensor], theirs: Sequence[Tensor], given: Mapping[str, Tensor], of_tokens: Sequence[bool]
) -> float:
    """The largest difference of any output, of tokens on real ones; NaN where one is not finite."""
    mask = given["attention_mask"].bool()
    both = zip(ours, theirs, of_tokens, strict=True)
    found = [_difference(*(each[mask].numpy() if real else each.numpy() for each in (a, b))) for a, b, real in both]
    return float(np.max(found))


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

    def exact(inputs: Mapping[str, Tensor]) -> Sequence[Tensor]:
        precise = SubnetRunner(copy.deepcopy(checkpoint.model).double(), checkpoint.architecture)
        return precise(subnet, inputs, {name: tensor.double() for name, tensor in parameters.items()})

    odd = odd_inputs(checkpoint.input_names, checkpoint.architecture, checkpoint.tokenizer.pad_token_id)
    inputs = (*({name: values[:_TEXTS] for name, values in batch.items()} for batch in real.batches[:2]), *odd)
    return compare(path, lambda given: runner(subnet, given, parameters), exact, inputs, tolerance)
