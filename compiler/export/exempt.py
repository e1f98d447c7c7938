"""A narrower template some of whose sub-blocks stay as they are in the float one."""

from collections.abc import Iterable
from dataclasses import replace

import onnx

from compiler.export.template import Block, GraphTemplate
from compiler.spaces import SubBlock


def exempt(template: GraphTemplate, exact: GraphTemplate, exceptions: Iterable[SubBlock]) -> GraphTemplate:
    """`template` with these sub-blocks as in `exact`, the template it was made from: their ends have the same names in both."""
    proto = onnx.ModelProto()
    proto.CopyFrom(template.proto)
    for layer, piece in exceptions:
        blocks = template.attention if piece == "attention" else template.ffn
        _put_back(proto.graph, exact.proto.graph, blocks[layer])
    known = {tensor.name for tensor in proto.graph.initializer}
    proto.graph.initializer.extend(t for t in exact.proto.graph.initializer if t.name not in known)
    return replace(template, proto=proto, bindings={**exact.bindings, **template.bindings})


def _put_back(graph: onnx.GraphProto, exact: onnx.GraphProto, block: Block) -> None:
    """What lies between the ends of a block, from the other graph; it stands where the last of the old nodes stood."""
    old, new = _between(graph, block), _between(exact, block)
    nodes = [node for i, node in enumerate(graph.node) if i not in old]
    place = max(old) + 1 - len(old)
    nodes[place:place] = [exact.node[i] for i in sorted(new)]
    del graph.node[:]
    graph.node.extend(nodes)


def _between(graph: onnx.GraphProto, block: Block) -> set[int]:
    """The nodes on all ways from a block's input to its output."""
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
    return reached & leading
