"""A network as the profiler times it: sizes for closed forms, a graph for ONNX Runtime, a module for PyTorch."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from profilers.graph import GraphSource
from profilers.sizes import Heads, LayerSizes, Stack, attention_sizes
from profilers.workload import Workload

IntArray = NDArray[np.int64]


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
    def attentions(self) -> tuple[Heads, ...]:
        """The heads of every size of an attention."""
        return attention_sizes(Heads(self.heads, self.queries))

    @property
    def largest(self) -> LayerSizes:
        """The sizes of a whole layer."""
        return LayerSizes(len(self.attentions) - 1, self.ffn_units)

    @property
    def dense(self) -> Stack:
        """The sizes of the full network."""
        return (self.largest,) * self.layers

    @property
    def key_value_heads(self) -> IntArray:
        """Key-value heads of every size of an attention, int64 [sizes]."""
        return np.array([size.groups for size in self.attentions])

    @property
    def query_heads(self) -> IntArray:
        """Query heads of every size of an attention, int64 [sizes]."""
        return np.array([size.query_heads for size in self.attentions])

    @property
    def attention_weights(self) -> IntArray:
        """Weights of an attention's matrices (query, key, value, output) by size, int64 [sizes]."""
        return np.array([size.weights for size in self.attentions]) * self.hidden_size * self.head_size

    @property
    def weights_a_unit(self) -> int:
        """Weights of an FFN unit's rows."""
        return (self.ffn_reads + 1) * self.hidden_size

    def weights(self, stack: Stack) -> int:
        """Weights of all sub-blocks' matrices."""
        attention = self.attention_weights
        return sum(int(attention[sizes.heads]) + self.weights_a_unit * sizes.ffn_units for sizes in stack)


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
