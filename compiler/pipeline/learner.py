"""The subject of a run on the device that it learns on, and how much of that device's memory it takes."""

from compiler.execution import ComputeDevice
from compiler.execution.threads import AT_ONCE
from compiler.families import Checkpoint
from compiler.oneshot.calibration import sub_blocks
from compiler.oneshot.reconstruction import RESOLVED_TOKENS
from compiler.pipeline.subject import Subject
from compiler.pipeline.weights import BYTES_AT_ONCE

OVERHEAD_BYTES = 2 << 30
"""Taken by CUDA's context, by the libraries' workspaces and by memory that is cached in pieces too small to use."""

_GRAM_BYTES = 8 + 4 + 8  # of a Gram matrix's value: the sum, the product of a batch, and the copy that is averaged
_ACTIVATIONS = 16  # of the stream's size, kept of a layer while gradients are taken


def learning_subject(subject: Subject, compute: ComputeDevice) -> tuple[Subject, tuple[str, ...]]:
    """The subject on a device, or on the CPU where that has too little memory free for it; and what to say of it.

    TargetError where the user named the device.
    """
    trains = subject.train_dense or subject.effort != "fast"
    found, note = compute.within(learning_bytes(subject.checkpoint, max_tokens=subject.max_tokens, trains=trains))
    return subject.on(found), () if note is None else (note,)


def learning_bytes(checkpoint: Checkpoint, *, max_tokens: int, trains: bool) -> int:
    """The most memory, about, that ranking, re-solving and judging a model take on a device of their own; or its training."""
    a = checkpoint.architecture
    blocks = sub_blocks(a)
    widths = [a.branch(*key).output.size(a.branch(*key).extent(size)) + 1 for key, size in blocks.items()]
    weights = 4 * sum(parameter.numel() for parameter in checkpoint.model.parameters())
    ranking = _GRAM_BYTES * sum(width**2 for width in widths) + 8 * len(blocks) * a.hidden_size**2
    sums = 4 * RESOLVED_TOKENS * a.hidden_size * len(blocks)
    a_pass = weights + 4 * RESOLVED_TOKENS * (2 * a.ffn_units + 6 * a.hidden_size) + 3 * 8 * max(widths, default=0) ** 2
    training = 2 * BYTES_AT_ONCE + 4 * _ACTIVATIONS * a.layers * a.hidden_size * checkpoint.task.batch_size * max_tokens
    largest = max(ranking, sums + AT_ONCE * a_pass, training if trains else 0)
    return OVERHEAD_BYTES + 2 * weights + largest
