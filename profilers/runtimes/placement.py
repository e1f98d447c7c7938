"""Where ONNX Runtime ran each node, from its own profile of one run: it falls back to the CPU without a word.

Its own switch against that, session.disable_cpu_ep_fallback, also refuses the arithmetic of shapes, which belongs there.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from math import prod
from typing import Any, NamedTuple

from targets.errors import TargetError

CPU, CUDA, TENSORRT = "CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"
ATTENTION = "Attention"
_TYPES = {"fp32": "float", "fp16": "float16", "bf16": "bfloat16"}
_SHAPES = {"int64", "bool"}

# Attention on CUDA logs which kernel it takes (onnxruntime/core/providers/cuda/llm/attention.cc)
UNFUSED = "unified unfused path"
_KERNEL = re.compile(r"Attention: using (.+?) \(")
UNTOLD = "not told"


class Node(NamedTuple):
    """One node of the graph that ran; types and shapes as ONNX Runtime writes them, `("float", [2, 7, 32])`."""

    name: str
    op: str
    provider: str
    inputs: tuple[tuple[str, Sequence[int]], ...]
    outputs: tuple[tuple[str, Sequence[int]], ...]

    @property
    def computes(self) -> bool:
        """Whether it makes tensors of numbers; shapes and masks are arithmetic that providers leave to the CPU."""
        return any(kind not in _SHAPES and prod(shape) > 1 for kind, shape in self.outputs)


def ran_nodes(profile: Iterable[Mapping[str, Any]]) -> list[Node]:
    """The nodes of a profile that ONNX Runtime wrote, in the order they ran."""
    return [_node(event) for event in profile if event.get("cat") == "Node" and "provider" in event.get("args", {})]


def _node(event: Mapping[str, Any]) -> Node:
    args = event["args"]
    return Node(
        name=event["name"].removesuffix("_kernel_time"),
        op=args["op_name"],
        provider=args["provider"],
        inputs=_tensors(args["input_type_shape"]),
        outputs=_tensors(args["output_type_shape"]),
    )


def _tensors(types: Iterable[Mapping[str, Sequence[int]]]) -> tuple[tuple[str, Sequence[int]], ...]:
    return tuple(pair for tensor in types for pair in tensor.items())


def check_placement(nodes: Sequence[Node], provider: str, attentions: int, precision: str) -> None:
    """TargetError naming the first node that ran elsewhere or at another precision, or Attention that was taken apart.

    `attentions` is the number of Attention nodes the graph has; ONNX Runtime may have fused more. TensorRT takes them into
    its engine, where no profile shows them: there it is enough that none was left out and that an engine ran.
    """
    for node in nodes:
        _check_node(node, provider, precision)
    if not any(node.provider == provider for node in nodes):
        raise TargetError(f"no node ran on {provider}: ONNX Runtime fell back to {_counted(nodes)}")
    whole = sum(node.op == ATTENTION for node in nodes)
    if provider != TENSORRT and whole < attentions:
        raise TargetError(
            f"{whole} of {attentions} Attention nodes ran on {provider}: it has no kernel for them and took them apart\n"
            "update ONNX Runtime, or measure with --runtime torch"
        )


def _check_node(node: Node, provider: str, precision: str) -> None:
    attention = node.op == ATTENTION
    if node.provider != provider and (attention or (node.provider == CPU and node.computes)):
        raise TargetError(
            f"{node.op} node {node.name} ran on {node.provider}, not on {provider}\n"
            "update ONNX Runtime, or measure with --runtime torch"
        )
    kind = node.inputs[0][0] if attention else None
    if attention and precision in _TYPES and kind != _TYPES[precision]:
        raise TargetError(
            f"{node.op} node {node.name} ran on {kind} numbers, {precision} was asked for\n"
            "measure fp32, or with a runtime that converts the network: --runtime torch or tensorrt"
        )


def _counted(nodes: Sequence[Node]) -> str:
    return ", ".join(f"{provider} ({n} nodes)" for provider, n in placed(nodes).items()) or "nothing"


def placed(nodes: Sequence[Node]) -> dict[str, int]:
    """How many nodes ran on each provider."""
    return dict(Counter(node.provider for node in nodes))


def attention_kernels(log: str, attentions: int) -> dict[str, int]:
    """How many of so many Attention nodes took each kernel, from ONNX Runtime's verbose log, and of how many it tells none."""
    told = Counter(_KERNEL.findall(log))
    return dict(told + Counter({UNTOLD: attentions - told.total()}))
