"""Static int8: what every matrix product reads goes through Q and DQ with a fixed range and zero point 0, as TensorRT wants.

Before it is quantised an activation is divided, channel by channel, by a factor that the matrix's rows take over (Xiao et al.,
"SmoothQuant", ICML 2023): a few channels of a transformer are far larger than all others.

Embedding tables are int8 too, one range a column as well. TensorRT's parser gathers no int8, so rows are gathered from the
dequantised table.
"""

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from compiler.export.precision import Quantised
from compiler.export.surgery import constant_values
from compiler.tasks import Batches
from profilers import Graph
from profilers.runtimes.onnx_session import open_session
from targets import usable_cpus

Array = NDArray[Any]

MIGRATION = 0.8
"""How much of an activation's spread over channels the matrix takes over. On MiniLM (tables in fp32) and sentences of
stsb/train the mean cosine to fp32 is 0.976 at 0.5, 0.9973 at 0.7, 0.9980 at 0.8, 0.994 at 1, and 0.985 without."""

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


class Paired(NamedTuple):
    """A graph with Q/DQ pairs: the matrices that read each activation, and the tables that rows are gathered from."""

    proto: onnx.ModelProto
    matrices: dict[str, list[str]]
    tables: list[str]


def insert_pairs(proto: onnx.ModelProto, weights: Container[str], given: Iterable[str]) -> Paired:
    """The graph with smoothing and Q/DQ pairs before every product with a weight, and 8-bit tables where one is gathered from.

    For an activation x the graph reads initialisers x_smoothing and x_scale, for a weight w w_quantized, w_scale and
    w_zero_point; they are not there yet, and neither are those `given`. A constant that is multiplied with a weight of an
    activation is divided as that is, and stays in float: a runtime computes the product once.
    """
    light = onnx.ModelProto()
    light.CopyFrom(proto)
    del light.graph.node[:]
    paired = Paired(light, {}, [])
    constants = constant_values(proto.graph, given)
    products = [node for node in proto.graph.node if node.op_type == "MatMul" and node.input[1] in weights]
    activations = {node.input[1]: node.input[0] for node in products if node.input[0] not in constants}
    for node in proto.graph.node:
        if node.op_type == "MatMul" and node.input[1] in activations:
            activation, matrix = node.input
            if activation in constants:
                light.graph.node.extend(_constant_product(node, activations[matrix]))
                continue
            if activation not in paired.matrices:
                light.graph.node.extend(_smoothed(activation))
            paired.matrices.setdefault(activation, []).append(matrix)
            light.graph.node.extend(_product(node))
        elif node.op_type == "Gather" and node.input[0] in weights:
            paired.tables.append(node.input[0])
            light.graph.node.extend(_rows(node))
        else:
            light.graph.node.append(node)
    light.graph.initializer.append(numpy_helper.from_array(np.zeros((), dtype=np.int8), _ZERO))
    return paired


def _smoothed(name: str) -> Iterator[onnx.NodeProto]:
    step = [f"{name}_scale", _ZERO]
    yield helper.make_node("Div", [name, f"{name}_smoothing"], [f"{name}_smoothed"])
    yield helper.make_node("QuantizeLinear", [f"{name}_smoothed", *step], [f"{name}_quantized"])
    yield helper.make_node("DequantizeLinear", [f"{name}_quantized", *step], [f"{name}_dequantized"])


def _dequantised(weight: str, name: str = "") -> onnx.NodeProto:
    parts = [f"{weight}_{part}" for part in Quantised._fields]
    return helper.make_node("DequantizeLinear", parts, [f"{name or weight}_dequantized"], axis=1)


def _product(node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
    yield _dequantised(node.input[1])
    yield _reading(node, [f"{name}_dequantized" for name in node.input])


def _constant_product(node: onnx.NodeProto, activation: str) -> Iterator[onnx.NodeProto]:
    """The product of a constant with a weight of an activation, under names of its own: the weight is read twice."""
    (constant, matrix), own = node.input, node.output[0]
    yield helper.make_node("Div", [constant, f"{activation}_smoothing"], [f"{own}_smoothed"])
    yield _dequantised(matrix, own)
    yield _reading(node, [f"{own}_smoothed", f"{own}_dequantized"])


def _rows(node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
    table, ids = node.input
    yield _dequantised(table)
    yield _reading(node, [f"{table}_dequantized", ids])


def _reading(node: onnx.NodeProto, inputs: Sequence[str]) -> onnx.NodeProto:
    """The same node with other inputs."""
    moved = onnx.NodeProto()
    moved.CopyFrom(node)
    moved.input[:] = inputs
    return moved


def observe(graph: Graph, readers: Mapping[str, str], texts: Batches) -> dict[str, Array]:
    """Largest absolute value of each channel [channels], over the real tokens of some texts.

    `readers` names a matrix of the float graph for each activation; those that are not in the graph are left out.
    """
    proto = onnx.load_model_from_string(graph.proto)
    constants = constant_values(proto.graph)
    products = [node for node in proto.graph.node if node.op_type == "MatMul" and node.input[0] not in constants]
    read_by = {node.input[1]: node.input[0] for node in products}
    tensors = {name: read_by[matrix] for name, matrix in readers.items() if matrix in read_by}
    wanted = list(dict.fromkeys(tensors.values()))
    given = {value.name for value in proto.graph.output}
    proto.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in wanted if name not in given)
    session = open_session(replace(graph, proto=proto.SerializeToString()), usable_cpus())
    ranges: dict[str, Array] = {}
    for batch in texts:
        real = batch["attention_mask"].numpy().astype(bool)
        answers = session.run(wanted, {value.name: batch[value.name].numpy() for value in session.get_inputs()})
        for tensor, array in zip(wanted, answers, strict=True):
            ranges[tensor] = np.maximum(ranges.get(tensor, 0.0), np.abs(array[real]).max(axis=0))
    return {name: ranges[tensor] for name, tensor in tensors.items()}
