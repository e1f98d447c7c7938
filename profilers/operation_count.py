"""What one call of an ONNX file computes, read from ONNX Runtime's trace of it: exact shapes, whatever made the file.

Three states are kept apart: matrix products are counted, operators with little arithmetic are ignored on purpose, and
all others are unknown and reported by name: a count with unknown operators is a lower bound.
"""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from numpy.typing import NDArray

from profilers.runtimes.faults import said
from profilers.runtimes.onnx_session import load, package, session_options
from profilers.runtimes.placement import CPU
from targets.errors import InputError

Dims = list[int]

_FATAL = 4
"""What ONNX Runtime logs: a file that does not run is refused in our words, not in its own."""


def _product(inputs: Sequence[Dims], output: Dims) -> float:
    """[..., m, k] by [..., k, n]: a multiplication and an addition for each of the k terms of each output."""
    return 2.0 * prod(output) * inputs[0][-1]


def _transposable(inputs: Sequence[Dims], output: Dims) -> float:
    """The same where the first factor may lie transposed: k is the one of its sizes that is not m."""
    *_, rows, columns = inputs[0]
    return 2.0 * prod(output) * (rows * columns // output[-2])


def _attention(inputs: Sequence[Dims], output: Dims) -> float:
    """Scores and their product with the values; a second input of rank 2 is the fused projection of all three."""
    asked, keys = inputs[:2]
    if len(keys) == 2:
        return 2.0 * prod(asked) * keys[-1] + 4.0 * prod(output) * asked[-2]
    return 2.0 * (prod(asked) + prod(output)) * keys[-2]


COUNTED: Mapping[str, Callable[[Sequence[Dims], Dims], float]] = {
    "MatMul": _product,
    "MatMulInteger": _product,
    "QLinearMatMul": _product,
    "Gemm": _transposable,
    "FusedGemm": _transposable,
    "FusedMatMul": _transposable,
    "Attention": _attention,
}
"""Operations of a node from the shapes of its inputs and of its first output."""

LOOKUPS = frozenset({"Gather", "EmbedLayerNormalization"})
"""They read a few rows of their table, never all of it."""

_SMALL = """
    Abs Add And BiasGelu Cast Ceil Clip Concat Constant ConstantOfShape Cos CumSum DequantizeLinear Div Dropout
    DynamicQuantizeLinear Equal Erf Exp Expand FastGelu Flatten Floor GatherElements GatherND Gelu Greater
    GreaterOrEqual HardSigmoid Identity If IsInf IsNaN LayerNormalization LeakyRelu Less LessOrEqual Log LogSoftmax Loop
    Max Mean Min Mod Mul Neg NonZero Not OneHot Or Pad Pow QuantizeLinear QuickGelu RMSNormalization Range Reciprocal
    ReduceL2 ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu Reshape RotaryEmbedding Round
    Scan ScatterElements ScatterND Shape Sigmoid Sign SimplifiedLayerNormalization Sin Size
    SkipLayerNormalization SkipSimplifiedLayerNormalization Slice Softmax Softplus Split Sqrt Squeeze Sub Sum Swish Tanh
    Tile TopK Transpose Trilu Unsqueeze Where
"""
IGNORED = LOOKUPS | frozenset(_SMALL.split())
"""Arithmetic that grows with the values they touch, not with a product of sizes; what a loop holds is traced itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operations:
    """One call: floating-point or integer operations, bytes of weights read whole, and nodes by operator and state."""

    count: float
    weight_bytes: int
    counted: Mapping[str, int]
    ignored: Mapping[str, int]
    unknown: Mapping[str, int]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def count_operations(path: Path, feed: Mapping[str, NDArray[Any]]) -> Operations:
    """Call a file once and count. InputError where it does not run on this feed, each input [batch, tokens]."""
    nodes = _trace(path, feed)
    names = Counter(node["op_name"] for node in nodes)
    return Operations(
        count=sum(_operations(node) for node in nodes if node["op_name"] in COUNTED),
        weight_bytes=sum(int(node["parameter_size"]) for node in nodes if node["op_name"] not in LOOKUPS),
        counted={name: n for name, n in sorted(names.items()) if name in COUNTED},
        ignored={name: n for name, n in sorted(names.items()) if name in IGNORED},
        unknown={name: n for name, n in sorted(names.items()) if name not in {*COUNTED, *IGNORED}},
    )


def _operations(node: Mapping[str, Any]) -> float:
    inputs, outputs = (
        [dims for typed in node[side] for dims in typed.values()] for side in ("input_type_shape", "output_type_shape")
    )
    return COUNTED[node["op_name"]](inputs, outputs[0])


def _refusal(path: Path, feed: Mapping[str, NDArray[Any]], error: Exception) -> InputError:
    batch, tokens = next(iter(feed.values())).shape
    reason = said(error).rpartition("Status Message: ")[2]
    return InputError(
        f"{path} does not run on batch {batch}, {tokens} tokens: {reason[:300]}\n"
        "ask for another --batch or --seq-len, or export the file again"
    )


def _trace(path: Path, feed: Mapping[str, NDArray[Any]]) -> list[dict[str, Any]]:
    """What ONNX Runtime writes of each node; nothing is fused or packed, so that nodes and weights are the file's own."""
    options = session_options(threads=1)
    options.graph_optimization_level = package().GraphOptimizationLevel.ORT_DISABLE_ALL
    options.add_session_config_entry("session.disable_prepacking", "1")
    options.log_severity_level = _FATAL
    options.enable_profiling = True
    with TemporaryDirectory() as folder:
        options.profile_file_prefix = str(Path(folder) / "trace")
        try:
            session = load(path, options, [CPU])
            session.run(None, dict(feed))
        except Exception as error:  # noqa: BLE001  ONNX Runtime's errors have no common type
            raise _refusal(path, feed, error) from None
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    return [event["args"] for event in events if event["name"].endswith("_kernel_time")]
