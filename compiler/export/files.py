"""Write a graph as one ONNX file, and read back what matters about it."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from profilers import Graph
from profilers.workload import DEFAULT_OPSET
from targets.errors import VerificationError, reason

INLINE_LIMIT_BYTES = 2_000_000_000
_MATRIX = 2


def inline(graph: Graph, metadata: Mapping[str, str] | None = None) -> onnx.ModelProto:
    """A self-contained ModelProto: the weights inside, metadata set."""
    proto = onnx.load_model_from_string(graph.proto)
    for tensor in proto.graph.initializer:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            tensor.CopyFrom(numpy_helper.from_array(graph.weights[tensor.name], tensor.name))
    for key, value in (metadata or {}).items():
        proto.metadata_props.add(key=key, value=value)
    return proto


def outline(proto: onnx.ModelProto) -> Graph:
    """The graph with its float matrices outside the proto, of which a runtime is handed the arrays: it may pass 2 GB."""
    light = onnx.ModelProto()
    light.CopyFrom(proto)
    weights = {
        tensor.name: numpy_helper.to_array(tensor)
        for tensor in light.graph.initializer
        if tensor.data_type == onnx.TensorProto.FLOAT and len(tensor.dims) == _MATRIX
    }
    kept = [tensor for tensor in light.graph.initializer if tensor.name not in weights]
    del light.graph.initializer[:]
    light.graph.initializer.extend(kept)
    declare(light.graph, weights)
    return Graph(proto=light.SerializeToString(), weights=weights)


def declare(graph: onnx.GraphProto, weights: Mapping[str, NDArray[Any]]) -> None:
    """Declare weights as external data: a runtime is handed the arrays, a file gets them inlined on writing."""
    for name, array in weights.items():
        tensor = graph.initializer.add(
            name=name, dims=array.shape, data_type=onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
        )
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for key, value in (("location", "weights"), ("offset", "0"), ("length", str(array.nbytes))):
            tensor.external_data.add(key=key, value=value)


def stored_once(graph: Graph) -> Graph:
    """A graph whose tables are not stored a second time, turned round: of a table of words that is the head as well.

    The head reads a Transpose of the table instead. ONNX Runtime computes it while it loads the file, so a session holds both forms as
    before and a call takes as long: only the file is smaller.
    """
    proto = onnx.load_model_from_string(graph.proto)
    tables = {node.input[0] for node in proto.graph.node if node.op_type == "Gather"} & set(graph.weights)
    turned = {name: table for table in sorted(tables) for name in _turned(graph.weights, table)}
    if not turned:
        return graph
    kept = [tensor for tensor in proto.graph.initializer if tensor.name not in turned]
    nodes = [onnx.helper.make_node("Transpose", [table], [name], perm=[1, 0]) for name, table in turned.items()]
    nodes += proto.graph.node
    del proto.graph.initializer[:], proto.graph.node[:]
    proto.graph.initializer.extend(kept)
    proto.graph.node.extend(nodes)
    weights = {name: array for name, array in graph.weights.items() if name not in turned}
    return Graph(proto=proto.SerializeToString(), weights=weights)


def _turned(weights: Mapping[str, NDArray[Any]], table: str) -> list[str]:
    """The matrices that hold what a table holds, turned round."""
    own = weights[table].T
    return [
        name
        for name, array in weights.items()
        if array.ndim == _MATRIX and array.dtype == own.dtype and array.shape == own.shape and name != table
        and np.array_equal(array, own)
    ]  # fmt: skip


def write_graph(graph: Graph, path: Path, metadata: Mapping[str, str] | None = None) -> str:
    """Write one file (no table twice, weights beside it above 2 GB), check it with onnx.checker, return its sha-256."""
    graph = stored_once(graph)
    proto = inline(graph, metadata)
    size = sum(array.nbytes for array in graph.weights.values())
    weights = _weights_of(path)
    weights.unlink(missing_ok=True)  # of an earlier run: onnx would append to them
    onnx.save_model(proto, path, save_as_external_data=size > INLINE_LIMIT_BYTES, location=weights.name)
    check_graph(path)
    return sha256_of(path)


def check_graph(path: Path) -> None:
    """onnx.checker with full shape inference; VerificationError with what it says otherwise."""
    try:
        onnx.checker.check_model(str(path), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise VerificationError(f"{path.name}: onnx.checker: {reason(error)}") from None


def _weights_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.data")


def parts_of(path: Path) -> tuple[Path, ...]:
    """A graph's file, and its weights where they lie beside it."""
    weights = _weights_of(path)
    return (path, weights) if weights.is_file() else (path,)


def sha256_of(path: Path) -> str:
    """Sha-256 of a graph's bytes, followed by those of its weights where they lie beside it."""
    digest = hashlib.sha256()
    for part in parts_of(path):
        with part.open("rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()


def opset_of(model: onnx.ModelProto) -> int:
    """The version of ONNX's own operators that a graph is written in."""
    version: int = next(opset.version for opset in model.opset_import if opset.domain in {"", "ai.onnx"})
    return version


def attention_nodes(path: Path) -> int:
    """How many attentions stand in a graph: Attention nodes or, in opsets that lack them, the softmax of each.

    Weights are not read.
    """
    model = onnx.load(path, load_external_data=False)
    kind = "Attention" if opset_of(model) >= DEFAULT_OPSET else "Softmax"
    return sum(node.op_type == kind for node in model.graph.node)
