"""Small operations on an ONNX graph."""

import onnx


def read_instead(graph: onnx.GraphProto, old: str, new: str) -> None:
    """Have every reader of one value read another."""
    for node in graph.node:
        node.input[:] = [new if name == old else name for name in node.input]


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
