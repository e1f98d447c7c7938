"""A network as the profiler times it: sizes for closed forms, a graph for ONNX Runtime, a module for PyTorch."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from numpy.typing import NDArray

from profilers.graph import GraphSource
from profilers.sizes import Stack
from profilers.workload import Workload


@dataclass(frozen=True, slots=True, kw_only=True)
class Dimensions:
    """The sizes of a model that no sub-network of one width changes.

    A head is one of keys and values, read by `queries` query heads. An FFN has `ffn_reads` matrices that read the stream: two
    where one is the gate of the other.
    """

    layers: int
    heads: int
    ffn_units: int
    hidden_size: int
    head_size: int
    vocabulary: int
    queries: int = 1
    ffn_reads: int = 1

    def to_json(self) -> dict[str, int]:
        """Plain JSON values; what is as in BERT is left out."""
        values = asdict(self)
        return {name: values[name] for name in values if name not in _AS_IN_BERT or values[name] != _AS_IN_BERT[name]}

    @property
    def dense(self) -> Stack:
        """The sizes of the full network."""
        from profilers.sizes import LayerSizes

        return (LayerSizes(self.heads, self.ffn_units),) * self.layers

    @property
    def weights_a_head(self) -> int:
        """Weights of a head's matrices: query and output of each query head, key, and value."""
        return 2 * (self.queries + 1) * self.hidden_size * self.head_size

    @property
    def weights_a_unit(self) -> int:
        """Weights of an FFN unit's rows."""
        return (self.ffn_reads + 1) * self.hidden_size

    def weights(self, stack: Stack) -> int:
        """Weights of all sub-blocks' matrices."""
        return sum(self.weights_a_head * sizes.heads + self.weights_a_unit * sizes.ffn_units for sizes in stack)


_AS_IN_BERT = {"queries": 1, "ffn_reads": 1}


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A network of given sizes, built only when a runtime asks for the form it runs.

    `graph(precision)` is the network in ONNX; `inputs(batch, tokens)` makes the int64 arrays it is fed, every token real.
    """

    name: str
    stack: Stack
    dimensions: Dimensions
    graph: Callable[[str], GraphSource]
    module: Callable[[], Any]
    inputs: Callable[[int, int], Mapping[str, NDArray[Any]]]
    precision: str | None = None

    def asked(self, workload: Workload) -> Workload:
        """The workload at the program's own precision, where it has one: files of several are timed in one run."""
        return workload if self.precision is None else replace(workload, precision=self.precision)


Workbench = Callable[[Stack], Program]
"""Makes the network of given sizes; the compiler gives one, the profiler never knows which heads it keeps."""
