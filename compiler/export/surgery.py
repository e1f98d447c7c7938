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
