"""A dense graph as a template: filled with any sub-network's weights, its dropped sub-blocks cut out."""

import hashlib
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from compiler.costing import dimensions_of
from compiler.export.attention import set_heads
from compiler.export.files import declare, inline, opset_of
from compiler.export.precision import Quantised, Scheme, halve_graph, quantise, quantise_graph
from compiler.export.static import Smoothing, insert_pairs, smooth
from compiler.export.surgery import constant_values, remove_dead
from compiler.families import Architecture, Branch
from compiler.spaces import Shape
from profilers import Graph, Heads, attention_sizes
from targets import STATIC
from targets.errors import VerificationError

Array = NDArray[Any]


class Binding(NamedTuple):
    """Where an initialiser's values come from: a parameter, as it is or transposed; halved, or a part of its 8-bit form.

    `added` is what the graph adds to the parameter once and for all: 1 where a norm's scale is kept as the difference from it.

    Where `activation` is named, the rows of the matrix are multiplied by what that activation is divided by; with the scheme
    "activation" the values are a part of its own `Smoothing`.
    """

    parameter: str
    transposed: bool
    half: bool = False
    scheme: Scheme | None = None
    part: str = ""
    activation: str = ""
    added: float = 0.0


class Block(NamedTuple):
    """A sub-block of the graph: dropping it makes readers of `output` read `input`."""

    input: str
    output: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphTemplate:
    """The dense graph without weights, the map from initialisers to parameters, and where each sub-block lies.

    `heads` are those of every layer of the dense graph. `matrices` lists, where activations are quantised by fixed ranges, the matrices of the float graph that read each.
    `restoring` is what only narrow networks keep (`Architecture.restoring`), where the template is for them too.
    """

    proto: onnx.ModelProto
    bindings: Mapping[str, Binding]
    attention: tuple[Block, ...]
    ffn: tuple[Block, ...]
    heads: Heads
    matrices: Mapping[str, Sequence[str]] = field(default_factory=dict)
    restoring: Block | None = None

    @property
    def opset(self) -> int:
        """That of its graphs."""
        return opset_of(self.proto)

    def fill(
        self,
        parameters: Mapping[str, Array],
        shape: Shape,
        ready: Mapping[str, Array] = MappingProxyType({}),
        ranges: Mapping[str, Array] = MappingProxyType({}),
        *,
        narrow: bool = False,
    ) -> Graph:
        """The graph of a sub-network from its sliced parameters; its weights stay outside the proto.

        `ready` holds initialisers that were made before (`initialisers`): those that no sub-network changes. `ranges` are
        those of its activations (`compiler.export.static.observe`); left out, all channels count as alike. `narrow` says
        that it has fewer residual dimensions than the dense network.
        """
        proto = onnx.ModelProto()
        proto.CopyFrom(self.proto)
        set_heads(proto.graph, [attention_sizes(self.heads)[sizes.heads] for sizes in shape])
        whole = [self.restoring] if self.restoring and not narrow else []
        _bypass(proto.graph, [*self._dropped(shape), *whole])
        remove_dead(proto.graph)
        used = self._used(proto.graph)
        made = self.initialisers(parameters, [name for name in used if name not in ready], ranges)
        weights = {name: ready[name] if name in ready else made[name] for name in used}
        declare(proto.graph, weights)
        return Graph(proto=proto.SerializeToString(), weights=weights)

    def initialisers(
        self,
        parameters: Mapping[str, Array],
        names: Iterable[str],
        ranges: Mapping[str, Array] = MappingProxyType({}),
    ) -> dict[str, Array]:
        """Initialisers by name, in the form the graph reads."""
        made: dict[str, Array] = {}
        whole: dict[tuple[str, bool, Scheme], Quantised] = {}  # of a table that is the head as well, two
        smoothed: dict[str, Smoothing] = {}
        for name in names:
            binding = self.bindings[name]
            if binding.activation and binding.activation not in smoothed:
                smoothed[binding.activation] = self._smoothing(binding.activation, parameters, ranges)
            if binding.scheme == "activation":
                made[name] = getattr(smoothed[binding.activation], binding.part)
                continue
            array = _array(parameters, binding)
            if binding.activation:
                array = array * smoothed[binding.activation].factor[:, None]
            if binding.scheme is not None:
                form = (binding.parameter, binding.transposed, binding.scheme)
                if form not in whole:
                    whole[form] = quantise(array, binding.scheme)
                array = getattr(whole[form], binding.part)
            made[name] = array
        return made

    def _smoothing(self, activation: str, parameters: Mapping[str, Array], ranges: Mapping[str, Array]) -> Smoothing:
        """That of an activation of which no ranges are known is of channels that are all alike."""
        matrices = [_array(parameters, self.bindings[f"{m}_quantized"]) for m in self.matrices[activation]]
        return smooth(ranges.get(activation, np.ones(len(matrices[0]))), matrices)

    def readers(self, parameters: Container[str]) -> list[str]:
        """The initialisers made of these parameters."""
        return [name for name, binding in self.bindings.items() if binding.parameter in parameters]

    def _dropped(self, shape: Shape) -> list[Block]:
        attention = [b for sizes, b in zip(shape, self.attention, strict=True) if sizes.heads == 0]
        return attention + [b for sizes, b in zip(shape, self.ffn, strict=True) if sizes.ffn_units == 0]

    def _used(self, graph: onnx.GraphProto) -> list[str]:
        read = {name for node in graph.node for name in node.input}
        return [name for name in self.bindings if name in read]


def _array(parameters: Mapping[str, Array], binding: Binding) -> Array:
    array = parameters[binding.parameter]
    if binding.added:
        array = array + np.float32(binding.added)
    array = np.ascontiguousarray(array.T if binding.transposed else array)
    return array.astype(np.float16) if binding.half else array


def _bypass(graph: onnx.GraphProto, blocks: list[Block]) -> None:
    """Readers of a dropped block's output read its input; where that output left the graph, its name moves too."""
    source = {block.output: block.input for block in blocks}

    def resolve(name: str) -> str:
        while name in source:
            name = source[name]
        return name

    renamed = {resolve(value.name): value.name for value in graph.output if value.name in source}
    for node in graph.node:
        node.input[:] = [renamed.get(resolve(name), resolve(name)) for name in node.input]
        node.output[:] = [f"{n}_dropped" if n in source else renamed.get(n, n) for n in node.output]


def _content(array: Array) -> tuple[tuple[int, ...], bytes]:
    return array.shape, hashlib.sha256(np.ascontiguousarray(array).tobytes()).digest()


def _bind(proto: onnx.ModelProto, parameters: Mapping[str, Array]) -> dict[str, Binding]:
    """Recognise initialisers by content; a large float constant that is no parameter is an error, not a guess."""
    known = {_content(array.T): Binding(name, transposed=True) for name, array in parameters.items() if array.ndim == 2}
    known |= {
        _content(array + np.float32(1)): Binding(name, transposed=False, added=1.0)
        for name, array in parameters.items()
        if array.ndim == 1
    }
    known |= {_content(array): Binding(name, transposed=False) for name, array in parameters.items()}
    smallest = min(array.size for array in parameters.values())
    bindings = {}
    for tensor in proto.graph.initializer:
        array = numpy_helper.to_array(tensor)
        if not np.issubdtype(array.dtype, np.floating):
            continue
        binding = known.get(_content(array))
        if binding is not None:
            bindings[tensor.name] = binding
        elif array.size > max(smallest, 16):
            raise VerificationError(f"constant {tensor.name} {array.shape} of the dense export is no known parameter")
    return bindings


def _consumer(graph: onnx.GraphProto, value: str) -> onnx.NodeProto:
    found: onnx.NodeProto = next(node for node in graph.node if value in node.input)
    return found


def _block(graph: onnx.GraphProto, of: Mapping[str, str], branch: Branch) -> Block:
    """From the stream that a branch is added to, to what reads their sum next: the sum, or the norm that follows it.

    What the output projection writes is followed forward to the first sum with something that comes neither from the branch nor
    from constants: that is the stream. VerificationError where there is none.
    """
    constants = constant_values(graph)
    inside = set(_consumer(graph, of[f"{branch.output.module}.weight"]).output)
    for node in graph.node:
        if inside.isdisjoint(node.input) or constants.issuperset(node.input):
            continue
        stream = [name for name in node.input if name not in inside and name not in constants]
        if node.op_type == "Add" and stream:
            total = node if branch.after is None else _consumer(graph, of[f"{branch.after}.weight"])
            return Block(stream[0], total.output[0])
        inside.update(node.output)
    raise VerificationError(f"what {branch.output.module} writes is added to nothing in the dense export")


def make_template(proto: onnx.ModelProto, parameters: Mapping[str, Array], architecture: Architecture) -> GraphTemplate:
    """Read a template off a dense export and the parameters it was exported with.

    Raises VerificationError where a parameter of a layer is not found in the graph: it could not be cut.
    """
    bindings = _bind(proto, parameters)
    initialiser_of = {binding.parameter: name for name, binding in bindings.items()}
    attention, ffn = list[Block](), list[Block]()
    for layer in range(architecture.layers):
        branches = architecture.branches(layer)
        named = [f"{module}.weight" for branch in branches for module in branch.modules]
        lost = [name for name in named if name in parameters and name not in initialiser_of]
        if lost:
            raise VerificationError(f"{lost[0]} is not in the dense export")
        for branch, blocks in zip(branches, (attention, ffn), strict=True):
            blocks.append(_block(proto.graph, initialiser_of, branch))
    return GraphTemplate(
        proto=_without(proto, bindings),
        bindings=bindings,
        attention=tuple(attention),
        ffn=tuple(ffn),
        heads=architecture.whole_heads,
        restoring=_restoring(proto.graph, initialiser_of, architecture),
    )


def _restoring(graph: onnx.GraphProto, of: Mapping[str, str], architecture: Architecture) -> Block | None:
    """From the narrow stream to the value that has the dense network's size; None in a template for one width."""
    module = architecture.restoring
    if f"{module}.weight" not in of:
        return None
    matrix = of[f"{module}.weight"]
    stream = next(name for name in _consumer(graph, matrix).input if name != matrix)
    return Block(stream, _consumer(graph, of[f"{module}.bias"]).output[0])


def _in_8_bits(bindings: Mapping[str, Binding], graph: onnx.GraphProto) -> dict[str, Binding]:
    """The quantiser names the parts of an initialiser after it; what it left alone keeps its binding.

    A matrix that its product reads transposed is stored the other way round, and named so.
    """
    kinds = {tensor.name: tensor.data_type for tensor in graph.initializer}
    found = {name: binding for name, binding in bindings.items() if name in kinds}
    turned = {f"{n}_Transposed": b._replace(transposed=not b.transposed) for n, b in bindings.items()}
    for name, binding in {**bindings, **turned}.items():
        kind = kinds.get(f"{name}_quantized")
        if kind is not None:
            scheme: Scheme = "column" if kind == onnx.TensorProto.INT8 else "table"
            found |= {f"{name}_{part}": binding._replace(scheme=scheme, part=part) for part in Quantised._fields}
    return found


def _in_half(bindings: Mapping[str, Binding], graph: onnx.GraphProto) -> dict[str, Binding]:
    half = {tensor.name for tensor in graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT16}
    return {name: binding._replace(half=name in half) for name, binding in bindings.items()}


def _in_pairs(template: GraphTemplate, tables_of_groups: Iterable[str]) -> GraphTemplate:
    """The template with a Q/DQ pair before every product with a matrix of the encoder, and with 8-bit embedding tables."""
    weights = {name for name, binding in template.bindings.items() if binding.parameter.endswith(".weight")}
    proto, matrices, tables = insert_pairs(template.proto, weights.difference(tables_of_groups), template.bindings)
    activations = dict.fromkeys(tables, "") | {m: activation for activation, names in matrices.items() for m in names}
    bindings = dict(template.bindings)
    for name, activation in activations.items():
        binding = bindings.pop(name)._replace(scheme="column", activation=activation)
        bindings |= {f"{name}_{part}": binding._replace(part=part) for part in Quantised._fields}
    for activation, names in matrices.items():
        binding = bindings[f"{names[0]}_quantized"]._replace(scheme="activation")
        bindings[f"{activation}_smoothing"] = binding._replace(part="factor")
        bindings[f"{activation}_scale"] = binding._replace(part="scale")
    return replace(template, proto=proto, bindings=bindings, matrices=matrices)


_NARROWER = {"fp16": (halve_graph, _in_half), "int8": (quantise_graph, _in_8_bits)}


def narrow_template(
    template: GraphTemplate, precision: str, parameters: Mapping[str, Array], architecture: Architecture
) -> GraphTemplate:
    """The template at fp16, int8 or int8-static, from the float one and any parameters of the dense model."""
    tables_of_groups = template.readers(architecture.tables)
    if precision == STATIC:
        return _in_pairs(template, tables_of_groups)
    convert, rebind = _NARROWER[precision]
    proto = convert(inline(template.fill(parameters, dimensions_of(architecture).dense, narrow=True)), tables_of_groups)
    bindings = rebind(template.bindings, proto.graph)
    inside = _before_casts(proto.graph)
    attention, ffn, restoring = (
        tuple(Block(*(inside.get(name, name) for name in block)) for block in blocks)
        for blocks in (template.attention, template.ffn, [template.restoring] if template.restoring else [])
    )
    return replace(
        template, proto=_without(proto, bindings), bindings=bindings, attention=attention, ffn=ffn,
        restoring=next(iter(restoring), None),
    )  # fmt: skip


def _before_casts(graph: onnx.GraphProto) -> dict[str, str]:
    """Where a graph casts its outputs back: the values inside that the outputs' names used to stand for."""
    outputs = {value.name for value in graph.output}
    return {n.output[0]: n.input[0] for n in graph.node if n.op_type == "Cast" and n.output[0] in outputs}


def _without(proto: onnx.ModelProto, bindings: Container[str]) -> onnx.ModelProto:
    """A copy that holds no initialiser whose values come from parameters."""
    light = onnx.ModelProto()
    light.CopyFrom(proto)
    constants = [tensor for tensor in light.graph.initializer if tensor.name not in bindings]
    del light.graph.initializer[:]
    light.graph.initializer.extend(constants)
    return light
