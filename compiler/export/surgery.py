"""Small operations on an ONNX graph."""

from collections.abc import Iterable

import onnx


def constant_values(graph: onnx.GraphProto, given: Iterable[str] = ()) -> set[str]:
    """Names of values that are the same for every input: initialisers, `given` ones, and what is computed from such alone."""
    constants = {tensor.name for tensor in graph.initializer} | set(given)
    for node in graph.node:
        if constants.issuperset(node.input):
            constants.update(node.output)
    return constants


def read_instead(graph: onnx.GraphProto, old: str, new: str) -> None:
    """Have every reader of one value read another."""
    for node in graph.node:
        node.input[:] = [new if name == old else name for name in node.input]


def drop_attribute(node: onnx.NodeProto, name: str) -> None:
    """Remove an attribute of a node, where it has it."""
    kept = [attribute for attribute in node.attribute if attribute.name != name]
    del node.attribute[:]
    node.attribute.extend(kept)


_WHOLE = (onnx.TensorProto.INT32, onnx.TensorProto.INT64)


def for_tensorrt(proto: onnx.ModelProto) -> None:
    """Write operators on whole numbers in forms that TensorRT's parser takes, with the same values.

    A cumulative sum (RoBERTa's positions) runs in float32, which is exact below 2**24; a clip (buckets of distances) is a
    maximum and a minimum.
    """
    inferred = onnx.shape_inference.infer_shapes(proto).graph
    types = {value.name: value.type.tensor_type.elem_type for value in (*inferred.input, *inferred.value_info)}
    nodes = list[onnx.NodeProto]()
    for node in proto.graph.node:
        kind = types.get(node.input[0]) if node.op_type in ("CumSum", "Clip") else None
        if kind not in _WHOLE:
            nodes.append(node)
        elif node.op_type == "CumSum":
            nodes += _sum_in_float(proto.graph, node, kind)
        else:
            nodes += _max_and_min(node)
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)


def _sum_in_float(graph: onnx.GraphProto, node: onnx.NodeProto, kind: int) -> list[onnx.NodeProto]:
    result = node.output[0]
    entering, leaving = f"{result}_addends", f"{result}_float"
    for known in [value for value in graph.value_info if value.name == result]:
        copy = graph.value_info.add()
        copy.CopyFrom(known)
        copy.name, copy.type.tensor_type.elem_type = leaving, onnx.TensorProto.FLOAT
    enter = onnx.helper.make_node("Cast", [node.input[0]], [entering], to=onnx.TensorProto.FLOAT)
    leave = onnx.helper.make_node("Cast", [leaving], [result], to=kind)
    node.input[0], node.output[0] = entering, leaving
    return [enter, node, leave]


def _max_and_min(node: onnx.NodeProto) -> list[onnx.NodeProto]:
    value, least, most = (*node.input, "", "")[:3]
    bounds = [(operator, bound) for operator, bound in (("Max", least), ("Min", most)) if bound]
    if not bounds:
        return [onnx.helper.make_node("Identity", [value], [node.output[0]])]
    names = [value, *(f"{node.output[0]}_{operator.lower()}" for operator, _ in bounds[:-1]), node.output[0]]
    return [
        onnx.helper.make_node(operator, [before, bound], [after])
        for (operator, bound), before, after in zip(bounds, names[:-1], names[1:], strict=True)
    ]


def remove_dead(graph: onnx.GraphProto) -> None:
    """Remove nodes and constants from which no output is reached."""
    needed = {value.name for value in graph.output}
    kept = []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            needed.update(node.input)
            kept.append(node)
    del graph.node[:]
    graph.node.extend(reversed(kept))
    constants = [tensor for tensor in graph.initializer if tensor.name in needed]
    del graph.initializer[:]
    graph.initializer.extend(constants)
