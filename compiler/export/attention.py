"""Attention whose heads stay side by side, as the matrix products before it write them.

The exporter gives every head a plane of its own, with a transpose of each of queries, keys, values and result. The operator
takes [batch, tokens, heads x head size] as well, and ONNX Runtime then reads each head where it lies: 2 % of a call of MiniLM
on a CPU, bit for bit the same.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx import helper, numpy_helper

from compiler.export.surgery import drop_attribute, read_instead, remove_dead
from profilers import Heads

_HEADS = ("q_num_heads", "kv_num_heads")
_REPEATS = "_repeats"
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
        heads = [planes[name][1].dim_value if name in planes else 0 for name in node.input[:2]]
        inputs = [_before_planes(producers, name) for name in node.input[:3]]
        result = _after_planes(graph, node.output[0])
        if all(heads) and result and all(inputs):
            for place, name in enumerate(inputs):
                node.input[place] = name
            read_instead(graph, result, node.output[0])
            node.attribute.extend(map(helper.make_attribute, _HEADS, heads))
    remove_dead(graph)


def free_heads(graph: onnx.GraphProto) -> None:
    """Take the number of heads out of what the exporter spelt out, where it follows from the values.

    Key-value heads that serve several query heads are repeated: an Attention does that itself, a reshape keeps what it is not told,
    and an expansion has the number of repetitions as a constant of its own (`set_heads`). A rotary embedding of values with a plane
    a head reads their number off them.
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
            _repeat_alone(graph, producers, expand)
            _keep_heads(graph, producers, node)
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


def _repeat_alone(graph: onnx.GraphProto, producers: Producers, expand: onnx.NodeProto) -> None:
    """Give an expansion the number of repetitions and nothing else: it keeps the sizes that are 1 there."""
    repeats = next(tensor for tensor in graph.initializer if tensor.name == producers[expand.input[1]].input[2])
    name = f"{expand.output[0]}{_REPEATS}"
    graph.initializer.append(_repeats(int(numpy_helper.to_array(repeats)[0]), name))
    expand.input[1] = name


def _repeats(count: int, name: str) -> onnx.TensorProto:
    """The shape that repeats heads: those of [batch, key-value heads, 1, tokens, head size]."""
    return numpy_helper.from_array(np.array([1, 1, count, 1, 1], dtype=np.int64), name)


def _keep_heads(graph: onnx.GraphProto, producers: Producers, node: onnx.NodeProto) -> None:
    """Give a reshape -1 for the heads."""
    shape = producers[node.input[1]]
    name = f"{shape.output[0]}_kept"
    if not any(name in other.output for other in graph.node):
        free = f"{name}_size"
        graph.initializer.append(numpy_helper.from_array(np.array([-1], dtype=np.int64), free))
        sizes = [free if place == 1 else part for place, part in enumerate(shape.input)]
        place = next(i for i, other in enumerate(graph.node) if other.output[0] == shape.output[0])
        graph.node.insert(place, helper.make_node("Concat", sizes, [name], axis=0))
    node.input[1] = name


def set_heads(graph: onnx.GraphProto, layers: Sequence[Heads]) -> None:
    """Give every layer of a dense graph, in their order, the heads that a sub-network keeps: its Attention, its repetitions."""
    nodes = [node for node in graph.node if node.op_type == "Attention"]
    for node, kept in zip(nodes, layers if nodes else (), strict=True):
        counts = dict(zip(_HEADS, (kept.query_heads, kept.groups), strict=True))
        for attribute in node.attribute:
            if attribute.name in counts:
                attribute.i = counts[attribute.name]
    constants = {tensor.name: tensor for tensor in graph.initializer if tensor.name.endswith(_REPEATS)}
    expands = [node.input[1] for node in graph.node if node.op_type == "Expand" and node.input[1] in constants]
    for place, name in enumerate(expands):
        kept = layers[place * len(layers) // len(expands)]
        constants[name].CopyFrom(_repeats(kept.queries, name))


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
