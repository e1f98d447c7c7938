"""Attention whose heads stay side by side, as the matrix products before it write them.

The exporter gives every head a plane of its own, with a transpose of each of queries, keys, values and result. The operator
takes [batch, tokens, heads x head size] as well, and ONNX Runtime then reads each head where it lies: 2 % of a call of MiniLM
on a CPU, bit for bit the same.
"""

from collections.abc import Mapping

import onnx
from onnx import helper

from compiler.export.surgery import read_instead, remove_dead
from compiler.spaces import Shape

_HEADS = ("q_num_heads", "kv_num_heads")
_PLANES = [0, 2, 1, 3]

Producers = Mapping[str, onnx.NodeProto]


def join_heads(graph: onnx.GraphProto) -> None:
    """Have every Attention read its inputs before their heads are set apart, and give its result as the next product reads it.

    An Attention around which no transposes are found is left as it is.
    """
    producers = {name: node for node in graph.node for name in node.output}
    planes = {value.name: value.type.tensor_type.shape.dim for value in graph.value_info}
    for node in graph.node:
        if node.op_type != "Attention":
            continue
        heads = planes[node.input[0]][1].dim_value if node.input[0] in planes else 0
        inputs = [_before_planes(producers, name) for name in node.input[:3]]
        result = _after_planes(graph, node.output[0])
        if heads and result and all(inputs):
            for place, name in enumerate(inputs):
                node.input[place] = name
            read_instead(graph, result, node.output[0])
            node.attribute.extend(helper.make_attribute(name, heads) for name in _HEADS)
    remove_dead(graph)


def set_heads(graph: onnx.GraphProto, shape: Shape) -> None:
    """Give the Attention of every layer of a dense graph, in their order, the heads that a sub-network keeps."""
    nodes = [node for node in graph.node if node.op_type == "Attention"]
    for node, sizes in zip(nodes, shape if nodes else (), strict=True):
        for attribute in node.attribute:
            if attribute.name in _HEADS:
                attribute.i = sizes.heads


def _before_planes(producers: Producers, name: str) -> str:
    """What was reshaped and transposed into this value; empty where that is not how it came to be."""
    transpose = producers.get(name)
    reshape = producers.get(transpose.input[0]) if transpose is not None and _makes_planes(transpose) else None
    return reshape.input[0] if reshape is not None and reshape.op_type == "Reshape" else ""


def _after_planes(graph: onnx.GraphProto, name: str) -> str:
    """What a value is transposed and reshaped into, and nothing else; empty where it is not."""
    transpose = _only_reader(graph, name)
    reshape = _only_reader(graph, transpose.output[0]) if transpose is not None and _makes_planes(transpose) else None
    return reshape.output[0] if reshape is not None and reshape.op_type == "Reshape" else ""


def _makes_planes(node: onnx.NodeProto) -> bool:
    return node.op_type == "Transpose" and list(helper.get_node_attr_value(node, "perm")) == _PLANES


def _only_reader(graph: onnx.GraphProto, name: str) -> onnx.NodeProto | None:
    readers = [node for node in graph.node if name in node.input]
    return readers[0] if len(readers) == 1 else None
