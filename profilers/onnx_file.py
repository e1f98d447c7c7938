"""Any ONNX file that takes integers [batch, tokens], as a program that ONNX Runtime can time."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray

from profilers.program import Dimensions, Program
from targets import STATIC
from targets.errors import InputError, TargetError
from targets.json_file import read_bytes

UNKNOWN_VOCABULARY = 1000
"""Ids stay below this where the table they look up was not found."""

_MOST_BYTES = 2**31
"""Protocol buffers end there."""

_SPECIAL = 5
"""Ids below are padding, separators and the like in the usual vocabularies; no call is made of them."""

_NO_DIMENSIONS = Dimensions(layers=0, heads=0, ffn_units=0, hidden_size=0, head_size=0, vocabulary=0)
"""A file does not say what it was cut from, and ONNX Runtime, the one runtime that opens it, does not ask."""

_INTEGERS: Mapping[int, str] = {onnx.TensorProto.INT32: "int32", onnx.TensorProto.INT64: "int64"}
_FLOATS: Mapping[int, str] = {
    onnx.TensorProto.FLOAT: "fp32", onnx.TensorProto.FLOAT16: "fp16", onnx.TensorProto.BFLOAT16: "bf16"
}  # fmt: skip
_DYNAMIC = {"DynamicQuantizeLinear", "DynamicQuantizeMatMul", "MatMulIntegerToFloat"}
_LOOKUPS = {"Gather": (1, 0), "EmbedLayerNormalization": (0, 2)}
"""Where an operator that looks up embeddings has its ids and its table."""

_WANTED = "give an ONNX file, or a folder that compile wrote"

_PASSING = ("Cast", "Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze")
"""Operators behind which ids are still ids."""


def _words(batch: int, tokens: int, vocabulary: int) -> NDArray[Any]:
    return np.random.default_rng(0).integers(min(_SPECIAL, vocabulary - 1), vocabulary, (batch, tokens))


def _ones(batch: int, tokens: int, _: int) -> NDArray[Any]:
    return np.ones((batch, tokens))


def _zeros(batch: int, tokens: int, _: int) -> NDArray[Any]:
    return np.zeros((batch, tokens))


def _positions(batch: int, tokens: int, _: int) -> NDArray[Any]:
    return np.tile(np.arange(tokens), (batch, 1))


_FILLS: Mapping[str, Callable[[int, int, int], NDArray[Any]]] = {
    "mask": _ones,
    "type": _zeros,
    "segment": _zeros,
    "position": _positions,
    "ids": _words,
    "input": _words,
    "token": _words,
}
"""What an input is fed, by the first of these words that is in its name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphInput:
    """One input of a file: `shape` is (batch, tokens), None where the file leaves it open."""

    name: str
    dtype: str
    word: str
    shape: tuple[int | None, int | None]

    def array(self, batch: int, tokens: int, vocabulary: int) -> NDArray[Any]:
        """What it is fed: [batch, tokens], every token real."""
        return _FILLS[self.word](batch, tokens, vocabulary).astype(self.dtype)


Axis = Literal[0, 1]
"""Batch or tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OnnxFile:
    """A file whose inputs are understood. `size_bytes` counts its external weights; `vocabulary` may not be found.

    `precision` is that of most weights; a file that quantises while it runs is int8, one with fixed ranges int8-static.
    """

    name: str
    path: Path
    size_bytes: int
    inputs: tuple[GraphInput, ...]
    vocabulary: int | None
    precision: str

    def fixed(self, axis: Axis) -> int | None:
        """The batch or the token count that the file was exported for; None where any will do."""
        return next((size for i in self.inputs if (size := i.shape[axis]) is not None), None)

    def arrays(self, batch: int, tokens: int) -> dict[str, NDArray[Any]]:
        """What it is timed on, by input: random words, masks of ones, token types of zero."""
        vocabulary = self.vocabulary or UNKNOWN_VOCABULARY
        return {i.name: i.array(batch, tokens, vocabulary) for i in self.inputs}

    def program(self) -> Program:
        """The file as the profiler takes it."""
        return Program(
            name=self.name,
            stack=(),
            dimensions=_NO_DIMENSIONS,
            graph=lambda *_: self.path,
            module=self._module,
            inputs=self.arrays,
            precision=self.precision,
        )

    def _module(self) -> Any:
        raise TargetError(f"{self.name} is an ONNX file, not a PyTorch module\ntime it with --runtime onnxruntime")


def read_onnx_file(path: Path, name: str) -> OnnxFile:
    """Read a file's graph, not its weights. InputError where it is no ONNX model or an input is not understood."""
    graph = _graph(path)
    weights = {tensor.name: tensor for tensor in graph.initializer}
    inputs = tuple(_input(path, value) for value in graph.input if value.name not in weights)
    if not inputs:
        raise InputError(f"{path} takes no input, so there is nothing to time\nexport it with input_ids as an input")
    ids = {i.name for i in inputs if _FILLS[i.word] is _words}
    return OnnxFile(
        name=name,
        path=path,
        size_bytes=_size_bytes(path, graph.initializer),
        inputs=inputs,
        vocabulary=_vocabulary(graph, ids, weights),
        precision=_precision(graph),
    )


def _graph(path: Path) -> onnx.GraphProto:
    try:
        content = read_bytes(path, name=str(path), most_bytes=_MOST_BYTES)
    except InputError as error:
        raise InputError(f"{str(error).splitlines()[0]}\n{_WANTED}") from None
    try:
        graph = onnx.load_model_from_string(content).graph
    except Exception:  # noqa: BLE001  protobuf's errors have no types that could be imported
        raise InputError(f"{path} is no ONNX model: it cannot be parsed\n{_WANTED}") from None
    if not graph.node:
        raise InputError(f"{path} is no ONNX model: it holds no graph\n{_WANTED}")
    return graph


def _input(path: Path, value: onnx.ValueInfoProto) -> GraphInput:
    kind = value.type.tensor_type
    word = next((w for w in _FILLS if w in value.name.lower()), None)
    if word is None or kind.elem_type not in _INTEGERS or len(kind.shape.dim) != 2:
        found = onnx.TensorProto.DataType.Name(kind.elem_type).lower()
        dims = ", ".join(d.dim_param or str(d.dim_value or "?") for d in kind.shape.dim)
        raise InputError(
            f"{path}: input {value.name!r} ({found} [{dims}]) is not understood\n"
            "inputs can be int32 or int64 [batch, tokens], with ids, mask, type or position in the name"
        )
    batch, tokens = (d.dim_value or None for d in kind.shape.dim)
    return GraphInput(name=value.name, dtype=_INTEGERS[kind.elem_type], word=word, shape=(batch, tokens))


def _precision(graph: onnx.GraphProto) -> str:
    """How the file computes: by the operators that quantise, else by what most of its weights are."""
    operators = {node.op_type for node in graph.node}
    if operators & _DYNAMIC:
        return "int8"
    if "DequantizeLinear" in operators:
        return STATIC
    values: Counter[int] = Counter()
    for tensor in graph.initializer:
        values[tensor.data_type] += prod(tensor.dims)
    return _FLOATS[max(_FLOATS, key=values.__getitem__)]


def _vocabulary(graph: onnx.GraphProto, ids: set[str], weights: Mapping[str, onnx.TensorProto]) -> int | None:
    """Rows of the smallest table that the ids look up."""
    known, rows = set(ids), []
    stored = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "DequantizeLinear"}
    for node in graph.node:
        if node.op_type in _PASSING and node.input[0] in known:
            known.update(node.output)
        if node.op_type in _LOOKUPS:
            asked, table = (node.input[slot] for slot in _LOOKUPS[node.op_type])
            table = stored.get(table, table)
            if asked in known and table in weights:
                rows.append(weights[table].dims[0])
    return min(rows, default=None)


def _size_bytes(path: Path, tensors: Iterable[onnx.TensorProto]) -> int:
    beside = {entry.value for tensor in tensors for entry in tensor.external_data if entry.key == "location"}
    try:
        return sum(file.stat().st_size for file in (path, *(path.parent / name for name in beside)))
    except OSError as error:
        raise InputError(f"{path} keeps weights in {error.filename}: {error.strerror}") from None
