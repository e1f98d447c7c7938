"""Large matrix products and copies that a device's peak is taken on, one for each library that may be the fastest."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

Call = Callable[[], Any]


class Product(NamedTuple):
    """Products of two square matrices in one library: `make` gives the call for a side, None where it does not run here."""

    precision: str
    library: str
    make: Callable[[int], Call | None]


def products(device: Any, threads: int, halves: Mapping[str, Any]) -> Iterator[Product]:
    """Float32 by PyTorch, on a processor by oneDNN and ONNX Runtime too; half formats on a GPU; 8 bits by ONNX Runtime."""
    import torch

    name = f"PyTorch {torch.__version__}"
    yield Product("fp32", name, lambda side: torch_product(side, device, torch.float32))
    for precision, kind in halves.items():
        yield Product(precision, name, lambda side, kind=kind: torch_product(side, device, kind))  # type: ignore[misc]
    if device.type == "cpu":
        yield Product("fp32", f"oneDNN by PyTorch {torch.__version__}", onednn_product)
        yield Product("fp32", _runtime_name(), lambda side: runtime_product(side, threads))
        yield Product("int8", _runtime_name(), lambda side: runtime_product(side, threads, integers=True))


def copies(device: Any, size_bytes: int) -> Iterator[tuple[str, Call]]:
    """Copies of so many bytes in PyTorch, on a processor in NumPy too."""
    import torch

    source = torch.ones(size_bytes // 4, device=device)
    copy = torch.empty_like(source)
    yield "PyTorch", lambda: copy.copy_(source)
    if device.type == "cpu":
        ours, theirs = np.ones(size_bytes // 4, np.float32), np.empty(size_bytes // 4, np.float32)
        yield "NumPy", lambda: np.copyto(theirs, ours)


def torch_product(side: int, device: Any, kind: Any) -> Call:
    """PyTorch's own product of a type, by what it was built with: MKL on most processors."""
    import torch

    left, right = (torch.rand(side, side, device=device).to(kind) for _ in range(2))
    answer = torch.empty_like(left)
    return lambda: torch.mm(left, right, out=answer)


def onednn_product(side: int) -> Call | None:
    """A linear layer whose weights lie as oneDNN wants them; not in every build of PyTorch, nor under a public name."""
    import torch

    left, right = torch.rand(side, side), torch.rand(side, side)
    try:
        weights = torch.ops.mkldnn._reorder_linear_weight(right, side)  # noqa: SLF001

        def call() -> Any:
            return torch.ops.mkldnn._linear_pointwise(left, weights, None, "none", [], "")  # noqa: SLF001

        with torch.inference_mode():
            call()
    except (AttributeError, RuntimeError):
        return None
    return call


def _runtime_name() -> str:
    import onnxruntime

    return f"ONNX Runtime {onnxruntime.__version__}"


def runtime_product(side: int, threads: int, *, integers: bool = False) -> Call | None:
    """A product with constant weights, as the runtime packs them to serve; of unsigned and signed bytes where `integers`."""
    from profilers.graph import Graph
    from profilers.runtimes.onnx_session import open_session

    rng = np.random.default_rng(0)
    if integers:
        left: Any = rng.integers(0, 255, (side, side), dtype=np.uint8)
        right: Any = rng.integers(-127, 127, (side, side), dtype=np.int8)
    else:
        left, right = (rng.random((side, side), dtype=np.float32) for _ in range(2))
    try:
        session = open_session(
            Graph(proto=_model("MatMulInteger" if integers else "MatMul", left, right), weights={}), threads
        )
        session.run(None, {"left": left})
    except Exception:  # noqa: BLE001  its errors have no common type; a runtime that does not multiply so has no rate
        return None
    return lambda: session.run(None, {"left": left})


def _model(operator: str, left: Any, right: Any) -> bytes:
    """A serialised model of one product, its right side constant."""
    from onnx import TensorProto, helper, numpy_helper

    kind = TensorProto.INT32 if operator == "MatMulInteger" else TensorProto.FLOAT
    graph = helper.make_graph(
        [helper.make_node(operator, ["left", "right"], ["out"])],
        "product",
        [helper.make_tensor_value_info("left", helper.np_dtype_to_tensor_dtype(left.dtype), left.shape)],
        [helper.make_tensor_value_info("out", kind, left.shape)],
        [numpy_helper.from_array(right, "right")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())
