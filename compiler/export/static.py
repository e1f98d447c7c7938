"""Static int8: what every matrix product reads goes through Q and DQ with a fixed range and zero point 0, as TensorRT wants.

Before it is quantised an activation is divided, channel by channel, by a factor that the matrix's rows take over (Xiao et al.,
"SmoothQuant", ICML 2023): a few channels of a transformer are far larger than all others. Embedding tables stay as they are.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from compiler.evaluation import Batches
from profilers import Graph
from profilers.runtimes.onnx_session import open_session

Array = NDArray[Any]

MIGRATION = 0.8
"""How much of an activation's spread over channels the matrix takes over. On MiniLM and sentences of stsb/train the mean cosine to
fp32 is 0.976 at 0.5, 0.9973 at 0.7, 0.9980 at 0.8, 0.994 at 1, and 0.985 without."""

_SMALLEST = 1e-5
_LEVELS = 127
_ZERO = "activation_zero_point"


class Smoothing(NamedTuple):
    """Float32: what each channel is divided by [channels], and the step of the 8-bit activation afterwards []."""

    factor: Array
    scale: Array


def smooth(ranges: Array, matrices: Sequence[Array]) -> Smoothing:
    """From the largest absolute value of each channel [channels] and the matrices [channels, outputs] that read them."""
    largest = np.maximum(ranges, _SMALLEST).astype(np.float64)
    rows = np.maximum(np.max([np.abs(matrix).max(axis=1) for matrix in matrices], axis=0), _SMALLEST)
    factor = largest**MIGRATION / rows ** (1 - MIGRATION)
    return Smoothing(factor.astype(np.float32), np.array((largest / factor).max() / _LEVELS, dtype=np.float32))


def insert_pairs(proto: onnx.ModelProto, matrices: Collection[str]) -> tuple[onnx.ModelProto, dict[str, list[str]]]:
    """The graph with smoothing and Q/DQ pairs before every product with one of the matrices, and who reads what.

    For an activation x the graph reads initialisers x_smoothing and x_scale, for a matrix w w_quantized, w_scale and
    w_zero_point; they are not there yet. The second value lists the matrices that read each activation.
    """
    paired = onnx.ModelProto()
    paired.CopyFrom(proto)
    del paired.graph.node[:]
    readers: dict[str, list[str]] = {}
    for node in proto.graph.node:
        if node.op_type == "MatMul" and node.input[1] in matrices:
            activation, matrix = node.input
            if activation not in readers:
                paired.graph.node.extend(_activation_pair(activation))
            readers.setdefault(activation, []).append(matrix)
            parts = [f"{matrix}_{part}" for part in ("quantized", "scale", "zero_point")]
            paired.graph.node.append(helper.make_node("DequantizeLinear", parts, [f"{matrix}_dequantized"], axis=1))
            reads = [f"{activation}_dequantized", f"{matrix}_dequantized"]
            paired.graph.node.append(helper.make_node("MatMul", reads, list(node.output), name=node.name))
        else:
            paired.graph.node.append(node)
    paired.graph.initializer.append(numpy_helper.from_array(np.zeros((), dtype=np.int8), _ZERO))
    return paired, readers


def _activation_pair(name: str) -> Iterable[onnx.NodeProto]:
    step = [f"{name}_scale", _ZERO]
    yield helper.make_node("Div", [name, f"{name}_smoothing"], [f"{name}_smoothed"])
    yield helper.make_node("QuantizeLinear", [f"{name}_smoothed", *step], [f"{name}_quantized"])
    yield helper.make_node("DequantizeLinear", [f"{name}_quantized", *step], [f"{name}_dequantized"])


def observe(graph: Graph, readers: Mapping[str, str], texts: Batches) -> dict[str, Array]:
    """Largest absolute value of each channel [channels], over the real tokens of some texts.

    `readers` names a matrix of the float graph for each activation; those that are not in the graph are left out.
    """
    proto = onnx.load_model_from_string(graph.proto)
    read_by = {node.input[1]: node.input[0] for node in proto.graph.node if node.op_type == "MatMul"}
    tensors = {name: read_by[matrix] for name, matrix in readers.items() if matrix in read_by}
    wanted = list(dict.fromkeys(tensors.values()))
    proto.graph.output.extend(
        helper.make_empty_tensor_value_info(tensor)
        for tensor in wanted
        if tensor not in {value.name for value in proto.graph.output}
    )
    session = open_session(replace(graph, proto=proto.SerializeToString()), threads=0)
    ranges: dict[str, Array] = {}
    for batch in texts:
        real = batch["attention_mask"].numpy().astype(bool)
        given = {value.name: batch[value.name].numpy() for value in session.get_inputs()}
        for tensor, array in zip(wanted, session.run(wanted, given), strict=True):
            largest = np.abs(array[real]).max(axis=0)
            ranges[tensor] = np.maximum(ranges.get(tensor, 0.0), largest)
    return {name: ranges[tensor] for name, tensor in tensors.items()}
