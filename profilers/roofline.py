"""Time from datasheet facts: the larger of arithmetic over peak rate and traffic over bandwidth, piece by piece.

Williams, Waterman, Patterson, "Roofline: an insightful visual performance model", CACM 52(4), 2009. A lower bound on
a perfect device, not a measurement; every number made here says `roofline`. Of a call of several lengths it is the mean.
"""

from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from profilers.program import Dimensions
from profilers.sizes import LayerSizes, Stack
from profilers.workload import Workload
from targets import STATIC, Target

_BYTES = {"fp32": 4, "fp16": 2, "bf16": 2, "int8": 1, STATIC: 1}


def _seconds(target: Target, workload: Workload, operations: float, values: float) -> float:
    rate = target.peak_rate(workload.precision)
    return max(operations / rate, values * _BYTES[workload.precision] / target.bandwidth_bytes_per_s)


def attention_seconds(target: Target, workload: Workload, dims: Dimensions, heads: int) -> float:
    """Four projections, scores and their product with the values; 0 heads cost nothing."""
    return fmean(_attention_seconds(target, one, dims, heads) for one in workload.each)


def _attention_seconds(target: Target, workload: Workload, dims: Dimensions, heads: int) -> float:
    if heads == 0:
        return 0.0
    rows, kept = workload.batch * workload.tokens, dims.attentions[heads]
    width, shared = kept.query_heads * dims.head_size, kept.groups * dims.head_size
    values = int(dims.attention_weights[heads]) + rows * (4 * dims.hidden_size + 6 * width + 2 * shared)
    return _seconds(target, workload, _attention_operations(workload, dims, heads), values)


def _attention_operations(workload: Workload, dims: Dimensions, heads: int) -> int:
    rows, width = workload.batch * workload.tokens, dims.attentions[heads].query_heads * dims.head_size
    return 2 * rows * int(dims.attention_weights[heads]) + 4 * rows * workload.tokens * width


def ffn_seconds(target: Target, workload: Workload, dims: Dimensions, units: int) -> float:
    """Two matrix products, three with a gate; units fill whole multiples of the device's alignment; 0 units cost nothing."""
    return fmean(_ffn_seconds(target, one, dims, units) for one in workload.each)


def _ffn_seconds(target: Target, workload: Workload, dims: Dimensions, units: int) -> float:
    if units == 0:
        return 0.0
    rows = workload.batch * workload.tokens
    filled = -(-units // target.size_alignment) * target.size_alignment
    weights = filled * dims.weights_a_unit
    values = weights + rows * (4 * dims.hidden_size + (dims.ffn_reads + 1) * filled)
    operations = 2 * rows * weights
    return _seconds(target, workload, operations, values)


def base_seconds(target: Target, workload: Workload, dims: Dimensions) -> float:
    """Call overhead, embeddings and the read-out."""
    values = [8 * one.batch * one.tokens * dims.hidden_size for one in workload.each]
    return target.call_overhead_s + fmean(_seconds(target, workload, 0, some) for some in values)


def stack_seconds(target: Target, workload: Workload, dims: Dimensions, stack: Stack) -> float:
    """A whole network: the sum of its pieces, in seconds per call."""
    return base_seconds(target, workload, dims) + sum(
        attention_seconds(target, workload, dims, sizes.heads) + ffn_seconds(target, workload, dims, sizes.ffn_units)
        for sizes in stack
    )


def operations(workload: Workload, dims: Dimensions, stack: Stack) -> float:
    """Floating-point operations of a network's encoder layers: what the control of a cost table is fitted on."""
    return fmean(_operations(one, dims, stack) for one in workload.each)


def _operations(workload: Workload, dims: Dimensions, stack: Stack) -> float:
    rows = workload.batch * workload.tokens
    total = 0.0
    for sizes in stack:
        total += _attention_operations(workload, dims, sizes.heads)
        total += 2 * rows * sizes.ffn_units * dims.weights_a_unit
    return total


def operation_counts(
    workload: Workload, dims: Dimensions, heads: NDArray[np.int64], units: NDArray[np.int64]
) -> NDArray[np.float64]:
    """The same for N networks at once: float64 [N] from heads and FFN units, int64 [N, layers] each."""
    sizes = [LayerSizes(size, 0) for size in range(dims.largest.heads + 1)]
    attention = np.array([operations(workload, dims, (one,)) for one in sizes])
    a_unit = operations(workload, dims, (LayerSizes(0, 1),))
    return np.asarray(attention[heads].sum(axis=1) + a_unit * units.sum(axis=1), dtype=np.float64)
