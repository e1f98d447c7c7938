"""The template at narrower precisions: ONNX Runtime's own tools convert it once, every sub-network fills its graph.

fp16: weights and activations in half precision, inputs and outputs as before. int8: activations are quantised while the
network runs, one range a tensor; weights of matrix products one range a column (int8, symmetric), embedding tables one
range a table (uint8).
"""

import tempfile
from collections.abc import Container
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray

from compiler.export.files import INLINE_LIMIT_BYTES

Array = NDArray[Any]
Scheme = Literal["column", "table", "activation"]
_OF_ANGLES = ("Cos", "Sin")
OPERATORS = ("MatMul", "Gemm", "Gather")


class Quantised(NamedTuple):
    """`quantized` times `scale`, after `zero_point` was taken off, is the array again, as well as 8 bits can."""

    quantized: Array
    scale: Array
    zero_point: Array


def quantise(array: Array, scheme: Scheme) -> Quantised:
    """Float32 [rows, columns] to 8 bits, rounded as ONNX Runtime's quantiser does."""
    return _by_column(array) if scheme == "column" else _by_table(array)


def _by_column(array: Array) -> Quantised:
    scale = np.abs(array).max(axis=0).astype(np.float64) / 127
    scale = np.where(scale < np.finfo(np.float32).tiny, 1.0, scale).astype(np.float32)
    quantized = np.clip(np.rint(array / scale), -127, 127).astype(np.int8)
    return Quantised(quantized, scale, np.zeros(array.shape[1], dtype=np.int8))


def _by_table(array: Array) -> Quantised:
    low, high = min(float(array.min()), 0.0), max(float(array.max()), 0.0)
    scale = (high - low) / 255
    if scale < np.finfo(np.float32).tiny:
        return Quantised(np.zeros(array.shape, np.uint8), np.array(1, np.float32), np.array(0, np.uint8))
    zero_point = np.array(np.rint(-low / scale), dtype=np.uint8)
    stored = np.array(scale, dtype=np.float32)
    quantized = np.clip(np.rint(array / stored) + zero_point, 0, 255).astype(np.uint8)
    return Quantised(quantized, stored, zero_point)


def halve_graph(proto: onnx.ModelProto, _: Container[str] = ()) -> onnx.ModelProto:
    """A self-contained graph in half precision that takes and gives what the float one does; every initialiser is halved."""
    from onnxruntime.transformers.float16 import convert_float_to_float16

    exact = onnx.GraphProto()
    exact.CopyFrom(proto.graph)  # the converter changes what it is given
    halved: onnx.ModelProto = convert_float_to_float16(
        proto, keep_io_types=True, disable_shape_infer=True, force_fp16_initializers=True
    )
    _keep_angles(halved.graph, exact)
    del halved.graph.value_info[:]
    return halved


def _keep_angles(halved: onnx.GraphProto, exact: onnx.GraphProto) -> None:
    """Compute the angles of rotary embeddings and their sines as the exact graph does: half precision has no token 2,049."""
    wanted, names = set[str](), set[str]()
    for node in reversed(exact.node):
        if node.op_type in _OF_ANGLES or wanted.intersection(node.output):
            wanted.update(node.input)
            names.update(node.output)
    if not names:
        return
    kept = {tensor.name: tensor for tensor in exact.initializer if tensor.name in wanted}
    for tensor in halved.initializer:
        if tensor.name in kept:
            tensor.CopyFrom(kept[tensor.name])
    exact_nodes = {node.output[0]: node for node in exact.node}
    nodes = []
    for node in halved.node:
        if node.output[0] not in names:
            nodes.append(node)
            continue
        own = onnx.NodeProto()
        own.CopyFrom(exact_nodes[node.output[0]])
        nodes.append(own)
        if own.op_type in _OF_ANGLES:
            given, own.output[0] = own.output[0], f"{own.output[0]}_exact"
            nodes.append(onnx.helper.make_node("Cast", [own.output[0]], [given], to=onnx.TensorProto.FLOAT16))
    del halved.node[:]
    halved.node.extend(nodes)


def quantise_graph(proto: onnx.ModelProto, left_out: Container[str] = ()) -> onnx.ModelProto:
    """A self-contained graph with 8-bit weights, by ONNX Runtime's dynamic quantiser; initialisers that are left out stay as they are."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "float.onnx", Path(folder) / "quantised.onnx"
        large = sum(len(tensor.raw_data) for tensor in proto.graph.initializer) > INLINE_LIMIT_BYTES
        onnx.save_model(proto, source, save_as_external_data=large, location="float.data")
        quantize_dynamic(
            source,
            target,
            op_types_to_quantize=list(OPERATORS),
            nodes_to_exclude=[node.name for node in proto.graph.node if any(name in left_out for name in node.input)],
            per_channel=True,
            use_external_data_format=large,
            weight_type=QuantType.QInt8,
            extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},
        )
        quantised = onnx.load_model(target)
    del quantised.graph.value_info[:]  # of these very shapes: a sub-network has others
    return quantised
