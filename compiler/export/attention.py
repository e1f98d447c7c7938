"""Attention whose heads stay side by side, as the matrix products before it write them.

The exporter gives every head a plane of its own, with a transpose of each of queries, keys, values and result. The operator
takes [batch, tokens, heads x head size] as well, and ONNX Runtime then reads each head where it lies: 2 % of a call of MiniLM
on a CPU, bit for bit the same.
"""

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import helper, numpy_helper

from compiler.export.surgery import drop_attribute, read_instead, remove_dead
from compiler.spaces import Shape

_HEADS = ("q_num_heads", "kv_num_heads")
_PLANES = [0, 2, 1, 3]
_PLANES_REPEATED = 5

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


def free_heads(graph: onnx.GraphProto) -> None:
    """Take the number of heads out of what the exporter spelt out, where it follows from the values.

    Key-value heads that serve several query heads are repeated: an Attention does that itself, and a reshape and an expansion
    keep what they are not told. A rotary embedding of values with a plane a head reads their number off them.
    """
    producers = {name: node for node in graph.node for name in node.output}
    for node in list(graph.node):
        if node.op_type == "RotaryEmbedding":
            drop_attribute(node, "num_heads")
        repeated = _repeated(producers, node)
        if repeated is None:
            continue
        single, expand = repeated
        readers = [other for other in graph.node if node.output[0] in other.input]
        if all(reader.op_type == "Attention" for reader in readers):
            read_instead(graph, node.output[0], single)
        else:
            _keep_heads(graph, producers, expand, repeats=True)
            _keep_heads(graph, producers, node, repeats=False)
    remove_dead(graph)


def _repeated(producers: Producers, node: onnx.NodeProto) -> tuple[str, onnx.NodeProto] | None:
    """Of a reshape that ends a repetition of heads, what is repeated and the expansion; None where it is none."""
    expand = producers.get(node.input[0]) if node.op_type == "Reshape" else None
    unsqueeze = producers.get(expand.input[0]) if expand is not None and expand.op_type == "Expand" else None
    if expand is None or unsqueeze is None or unsqueeze.op_type != "Unsqueeze":
        return None
    shape = producers.get(expand.input[1])
    if shape is None or shape.op_type != "Concat" or len(shape.input) != _PLANES_REPEATED:
        return None
    return unsqueeze.input[0], expand


def _keep_heads(graph: onnx.GraphProto, producers: Producers, node: onnx.NodeProto, *, repeats: bool) -> None:
    """Give an expansion the number of repetitions alone (1 keeps a size), or a reshape -1 for the heads."""
    shape = producers[node.input[1]]
    name = f"{shape.output[0]}_kept"
    if any(name in other.output for other in graph.node):
        node.input[1] = name
        return
    free = f"{name}_size"
    graph.initializer.append(numpy_helper.from_array(np.array([1 if repeats else -1], dtype=np.int64), free))
    sizes = [part if place == 2 else free for place, part in enumerate(shape.input)] if repeats else list(shape.input)
    if not repeats:
        sizes[1] = free
    place = next(i for i, other in enumerate(graph.node) if other.output[0] == shape.output[0])
    graph.node.insert(place, helper.make_node("Concat", sizes, [name], axis=0))
    node.input[1] = name


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
