"""A narrower template some of whose sub-blocks stay as they are in the float one."""

from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from dataclasses import replace

import onnx

from compiler.export.template import Block, GraphTemplate
from compiler.spaces import SubBlock


def exempt(template: GraphTemplate, exact: GraphTemplate, exceptions: Iterable[SubBlock]) -> GraphTemplate:
    """`template` with these sub-blocks as in `exact`, the template it was made from: their ends have the same names in both."""
    proto = onnx.ModelProto()
    proto.CopyFrom(template.proto)
    weights = {*template.bindings, *exact.bindings}
    for layer, piece in exceptions:
        blocks = template.attention if piece == "attention" else template.ffn
        _put_back(proto.graph, exact.proto.graph, blocks[layer], weights)
    known = {tensor.name for tensor in proto.graph.initializer}
    proto.graph.initializer.extend(t for t in exact.proto.graph.initializer if t.name not in known)
    return replace(template, proto=proto, bindings={**exact.bindings, **template.bindings})


def _put_back(graph: onnx.GraphProto, exact: onnx.GraphProto, block: Block, weights: AbstractSet[str]) -> None:
    """What lies between the ends of a block, from the other graph; it stands where the last of the old nodes stood."""
    old, new = _between(graph, block, weights), _between(exact, block, weights)
    nodes = [node for i, node in enumerate(graph.node) if i not in old]
    place = max(old) + 1 - len(old)
    nodes[place:place] = [exact.node[i] for i in sorted(new)]
    del graph.node[:]
    graph.node.extend(nodes)


def _between(graph: onnx.GraphProto, block: Block, weights: AbstractSet[str]) -> set[int]:
    """The nodes on all ways from a block's input to its output, and what is made of weights for them alone."""
    after, before = {block.input}, {block.output}
    reached = set()
    for i, node in enumerate(graph.node):
        if after.intersection(node.input):
            after.update(node.output)
            reached.add(i)
    leading = set()
    for i in reversed(range(len(graph.node))):
        if before.intersection(graph.node[i].output):
            before.update(graph.node[i].input)
            leading.add(i)
    inside = reached & leading
    return inside | _of_weights(graph, leading, inside, block, weights)


def _of_weights(
    graph: onnx.GraphProto, leading: set[int], inside: set[int], block: Block, weights: AbstractSet[str]
) -> set[int]:
    """Those of the leading nodes that are computed from weights and that nothing reads but what is inside."""
    readers: dict[str, set[int]] = {}
    for i, node in enumerate(graph.node):
        for name in node.input:
            readers.setdefault(name, set()).add(i)
    private: set[int] = set()
    for i in sorted(leading - inside, reverse=True):
        outputs = graph.node[i].output
        if block.input not in outputs and all(readers.get(name, set()) <= inside | private for name in outputs):
            private.add(i)
    made, found = set(weights), set[int]()
    for i in sorted(private):
        if made.intersection(graph.node[i].input):
            made.update(graph.node[i].output)
            found.add(i)
    return found
