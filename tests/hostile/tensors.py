"""Damage to safetensors and ONNX files, below their framing: headers that still parse, weights that are no numbers."""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tests.hostile.edits import EDITS, changed_json, dump

HEADS = ("drop", "set", "rename", "swap", "scale")
FILLS: dict[str, Callable[[Any], Any]] = {
    "nan": lambda a: a * np.float32("nan"),
    "inf": lambda a: a * 0 + np.float32("inf"),
    "zero": lambda a: a * 0,
    "huge": lambda a: a * 0 + np.float32(3e38),
    "tiny": lambda a: a * 0 + np.float32(1e-42),
    "times": lambda a: a * 1e6,
    "sign": lambda a: -a,
}


def _split(content: bytes) -> tuple[Any, bytes]:
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def _joined(header: Any, body: bytes) -> bytes:
    text = dump(header)
    return struct.pack("<Q", len(text)) + text + body


def _header(kind: str) -> Callable[[Path, int, Any], None]:
    def edit(path: Path, at: int, value: Any) -> None:
        header, body = _split(path.read_bytes())
        path.write_bytes(_joined(changed_json(header, kind, at, value), body))

    return edit


def _length(path: Path, at: int, _: Any) -> None:
    """The header's declared size, from none to more than there is memory."""
    size = (0, 1, 2**20, 2**31, 2**62, 2**64 - 1)[at % 6]
    path.write_bytes(struct.pack("<Q", size) + path.read_bytes()[8:])


def _tensors(path: Path) -> dict[str, Any]:
    from safetensors.numpy import load_file

    return dict(load_file(path))


def _save(path: Path, tensors: dict[str, Any]) -> None:
    from safetensors.numpy import save_file

    save_file({name: np.ascontiguousarray(array) for name, array in tensors.items()}, path, metadata={"format": "pt"})


def _fill(how: str) -> Callable[[Path, int, Any], None]:
    def edit(path: Path, at: int, _: Any) -> None:
        tensors = _tensors(path)
        names = sorted(tensors) if at % 3 == 0 else [sorted(tensors)[at % len(tensors)]]
        for name in names:
            tensors[name] = FILLS[how](tensors[name]).astype(tensors[name].dtype)
        _save(path, tensors)

    return edit


def _without(path: Path, at: int, _: Any) -> None:
    tensors = _tensors(path)
    del tensors[sorted(tensors)[at % len(tensors)]]
    _save(path, tensors)


def _prefixed(path: Path, at: int, _: Any) -> None:
    prefix = ("module.", "_orig_mod.", "bert.", "model.", "base_model.model.", "\x1b[31m")[at % 6]
    _save(path, {prefix + name: array for name, array in _tensors(path).items()})


def _reshaped(path: Path, at: int, _: Any) -> None:
    tensors = _tensors(path)
    name = sorted(tensors)[at % len(tensors)]
    array = tensors[name]
    tensors[name] = (array.T, array[..., :-1], array.ravel(), array[None], array[:0], np.repeat(array, 2, axis=0))[
        at % 6
    ]
    _save(path, tensors)


def _retyped(path: Path, at: int, _: Any) -> None:
    tensors = _tensors(path)
    kind = (np.float16, np.float64, np.int8, np.int64, np.bool_)[at % 5]
    _save(path, {name: array.astype(kind) for name, array in tensors.items()})


def _onnx(change: Callable[[Any, int, Any], None]) -> Callable[[Path, int, Any], None]:
    def edit(path: Path, at: int, value: Any) -> None:
        import onnx

        model = onnx.load_model(path, load_external_data=False)
        change(model, at, value)
        path.write_bytes(model.SerializeToString())

    return edit


def _drop_node(model: Any, at: int, _: Any) -> None:
    del model.graph.node[at % len(model.graph.node)]


def _rename_node(model: Any, at: int, _: Any) -> None:
    model.graph.node[at % len(model.graph.node)].op_type = ("Add", "Loop", "Unknown", "\x1b[31m", "")[at % 5]


def _cross(model: Any, at: int, _: Any) -> None:
    nodes = model.graph.node
    one, two = nodes[at % len(nodes)], nodes[(at // 3 + 1) % len(nodes)]
    one.input[0], two.input[0] = two.input[0], one.input[0]


def _outside(model: Any, at: int, _: Any) -> None:
    """Weights said to lie in another file."""
    weight = model.graph.initializer[at % len(model.graph.initializer)]
    weight.ClearField("raw_data")
    weight.data_location = 1
    entry = weight.external_data.add()
    entry.key, entry.value = (
        "location",
        ("../../canary/home/notes.txt", "/etc/passwd", "/dev/zero", "missing.bin")[at % 4],
    )


def _dims(model: Any, at: int, _: Any) -> None:
    weight = model.graph.initializer[at % len(model.graph.initializer)]
    weight.dims[0] = (0, -1, 2**40, 1)[at % 4]


def _input_shape(model: Any, at: int, _: Any) -> None:
    graph_input = model.graph.input[at % len(model.graph.input)]
    shape = graph_input.type.tensor_type.shape
    if at % 2:
        shape.dim[0].dim_value = (2**31, -5, 0, 3)[at // 2 % 4]
    else:
        graph_input.type.tensor_type.elem_type = (1, 8, 10, 0)[at // 2 % 4]


def _opset(model: Any, at: int, _: Any) -> None:
    model.opset_import[0].version = (0, -1, 1, 13, 2**40)[at % 5]


SAFETENSORS: dict[str, Callable[[Path, int, Any], None]] = {
    **{f"header-{kind}": _header(kind) for kind in HEADS},
    **{f"fill-{how}": _fill(how) for how in FILLS},
    "header-length": _length,
    "tensor-missing": _without,
    "tensor-prefix": _prefixed,
    "tensor-shape": _reshaped,
    "tensor-type": _retyped,
}
ONNX: dict[str, Callable[[Path, int, Any], None]] = {
    "onnx-drop": _onnx(_drop_node),
    "onnx-rename": _onnx(_rename_node),
    "onnx-cross": _onnx(_cross),
    "onnx-outside": _onnx(_outside),
    "onnx-dims": _onnx(_dims),
    "onnx-input": _onnx(_input_shape),
    "onnx-opset": _onnx(_opset),
}
EDITS.update(SAFETENSORS)
EDITS.update(ONNX)
