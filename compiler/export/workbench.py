"""The networks a profiler times: the template's own graphs at any sizes, filled with slices of the dense weights."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from compiler.costing import dimensions_of
from compiler.export.template import GraphTemplate
from compiler.families import Checkpoint
from compiler.slicing import build_skeleton, slice_parameters
from compiler.spaces import Ordering, Subnet
from profilers import Graph, GraphSource, Program, Stack


class ModelWorkbench:
    """Makes a program of any stack; every layer is cut from its own dense layer, so no two share weights."""

    def __init__(self, checkpoint: Checkpoint, template: GraphTemplate | None) -> None:
        self.checkpoint = checkpoint
        self.template = template
        self.dimensions = dimensions_of(checkpoint.architecture)
        a = checkpoint.architecture
        self.ordering = Ordering.by_index(a.layers, a.heads, a.ffn_units)
        self.dense = {n: p.detach() for n, p in checkpoint.model.backbone.named_parameters()}

    def __call__(self, stack: Stack) -> Program:
        """The network of these sizes."""
        return self.program(f"stack {' '.join(f'{h}.{u}' for h, u in stack)}", Subnet.first(stack, self.ordering))

    def program(self, name: str, subnet: Subnet, source: GraphSource | None = None) -> Program:
        """A given sub-network of the dense weights; `source` is its file where it was written already."""
        return Program(
            name=name,
            stack=subnet.shape,
            dimensions=self.dimensions,
            graph=lambda: self._graph(subnet) if source is None else source,
            module=lambda: self._module(subnet),
            inputs=self.inputs,
        )

    def _sliced(self, subnet: Subnet) -> dict[str, torch.Tensor]:
        return slice_parameters(self.dense, self.checkpoint.architecture, subnet)

    def _graph(self, subnet: Subnet) -> Graph:
        assert self.template is not None  # noqa: S101  runtimes that take graphs are given a template
        arrays = {name: tensor.numpy() for name, tensor in self._sliced(subnet).items()}
        return self.template.fill(arrays, subnet.shape)

    def _module(self, subnet: Subnet) -> Any:
        skeleton = build_skeleton(self.checkpoint.model, self.checkpoint.architecture, subnet.shape)
        skeleton.backbone.load_state_dict(self._sliced(subnet), strict=False, assign=True)
        return skeleton

    def inputs(self, batch: int, tokens: int) -> Mapping[str, NDArray[Any]]:
        """Random words, no padding: int64 [batch, tokens]."""
        rng = np.random.default_rng(0)
        ids = rng.integers(5, self.checkpoint.architecture.vocabulary, (batch, tokens))
        arrays = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
        return {name: arrays[name] for name in self.checkpoint.input_names}
