"""The networks a profiler times: the template's own graphs at any sizes, filled with slices of the dense weights."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from compiler.costing import dimensions_of
from compiler.export.exempt import exempt
from compiler.export.static import observe
from compiler.export.template import GraphTemplate
from compiler.families import Checkpoint
from compiler.families.tied import assign
from compiler.slicing import build_skeleton, slice_parameters
from compiler.spaces import Ordering, SubBlock, Subnet
from compiler.tasks import Batches
from profilers import Graph, GraphSource, Program, Stack


class ModelWorkbench:
    """Makes a program of any stack; every layer is cut from its own dense layer, so no two share weights.

    Programs are cut from the whole model, which a checkpoint that was cut before stands in for with random weights:
    what they take depends on sizes alone.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        templates: Mapping[str, GraphTemplate],
        texts: Batches | None = None,
    ) -> None:
        """`templates` by precision; a runtime that takes modules needs none.

        On `texts` the ranges of activations are taken that are quantised by fixed ones.
        """
        self.checkpoint = checkpoint
        self.templates = templates
        self.dimensions = dimensions_of(checkpoint.architecture)
        self.ordering = Ordering.by_index(checkpoint.architecture.whole.shape, checkpoint.architecture.apart)
        self.width: int | None = None
        self.dense = {n: p.detach() for n, p in checkpoint.whole.backbone.named_parameters()}
        self._stem = lru_cache(self._stem_initialisers)
        self._exempt = lru_cache(self._exempt_template)
        self.texts = texts

    def narrowed(self, width: int) -> "ModelWorkbench":
        """The workbench of the same model with so many residual dimensions: the first ones, costs know no other."""
        narrow = ModelWorkbench(self.checkpoint, self.templates, self.texts)
        narrow.width = width
        narrow.dimensions = replace(self.dimensions, hidden_size=width)
        return narrow

    @property
    def opset(self) -> int:
        """That of the graphs made here."""
        return self.templates["fp32"].opset

    def __call__(self, stack: Stack) -> Program:
        """The network of these sizes."""
        subnet = Subnet.first(stack, self.ordering, self.width)
        return self.program(f"stack {' '.join(f'{h}.{u}' for h, u in stack)}", subnet)

    def program(
        self, name: str, subnet: Subnet, source: GraphSource | None = None, precision: str | None = None
    ) -> Program:
        """A given sub-network of the dense weights; `source` is its file where it was written already."""
        return Program(
            name=name,
            stack=subnet.shape,
            dimensions=replace(self.dimensions, hidden_size=subnet.width or self.dimensions.hidden_size),
            graph=lambda precision: self._graph(subnet, precision) if source is None else source,
            module=lambda: self._module(subnet),
            inputs=self.inputs,
            precision=precision,
        )

    def _sliced(self, subnet: Subnet) -> dict[str, Tensor]:
        return slice_parameters(self.dense, self.checkpoint.architecture.whole, subnet)

    def _stem_initialisers(self, precision: str, residual: tuple[int, ...] | None) -> Mapping[str, NDArray[Any]]:
        """What no sub-network of a width changes, made once: quantising an embedding table takes longer than a whole layer."""
        template = self._template(precision)
        in_layers = self.checkpoint.architecture.in_layers
        sliced = self._sliced(replace(Subnet.first(self.dimensions.dense, self.ordering), residual=residual))
        stem = {name: tensor.numpy() for name, tensor in sliced.items() if not in_layers(name)}
        return template.initialisers(stem, template.readers(stem))

    def _template(self, precision: str) -> GraphTemplate:
        """PyTorch casts modules to bf16 itself, and is the only runtime that serves it."""
        return self.templates.get(precision, self.templates["fp32"])

    def _graph(self, subnet: Subnet, precision: str) -> Graph:
        stem = self._stem(precision, subnet.residual)
        return self._fill(self._template(precision), self._sliced(subnet), subnet, stem)

    def graph(
        self,
        subnet: Subnet,
        parameters: Mapping[str, Tensor],
        precision: str,
        exceptions: tuple[SubBlock, ...] = (),
    ) -> Graph:
        """A sub-network with weights of its own, at a precision but for the exceptions, which stay in fp32."""
        return self.graphs(subnet, parameters, precision)(exceptions)

    def graphs(
        self, subnet: Subnet, parameters: Mapping[str, Tensor], precision: str
    ) -> Callable[[tuple[SubBlock, ...]], Graph]:
        """The same for any exceptions: ranges are taken once, and what is quantised is quantised once."""
        ranges = self._ranges(parameters, subnet, precision)
        made: dict[str, NDArray[Any]] = {}

        def graph(exceptions: tuple[SubBlock, ...]) -> Graph:
            template = self._exempt(precision, exceptions) if exceptions else self._template(precision)
            filled = self._fill(template, parameters, subnet, made, ranges)
            made.update(filled.weights)
            return filled

        return graph

    def _exempt_template(self, precision: str, exceptions: tuple[SubBlock, ...]) -> GraphTemplate:
        return exempt(self._template(precision), self.templates["fp32"], exceptions)

    def _ranges(self, parameters: Mapping[str, Tensor], subnet: Subnet, precision: str) -> Mapping[str, NDArray[Any]]:
        """Of the activations that are quantised by fixed ranges."""
        matrices = self._template(precision).matrices
        if not matrices or self.texts is None:
            return {}
        exact = self._fill(self._template("fp32"), parameters, subnet, {})
        return observe(exact, {activation: readers[0] for activation, readers in matrices.items()}, self.texts)

    @staticmethod
    def _fill(
        template: GraphTemplate,
        parameters: Mapping[str, Tensor],
        subnet: Subnet,
        ready: Mapping[str, NDArray[Any]],
        ranges: Mapping[str, NDArray[Any]] = MappingProxyType({}),
    ) -> Graph:
        return template.fill(_arrays(parameters), subnet.shape, ready, ranges, narrow=subnet.residual is not None)

    def _module(self, subnet: Subnet) -> Any:
        skeleton = build_skeleton(self.checkpoint.whole, self.checkpoint.architecture.whole, subnet.shape, subnet.width)
        assign(skeleton.backbone, self._sliced(subnet))
        return skeleton

    def inputs(self, batch: int, tokens: int) -> Mapping[str, NDArray[Any]]:
        """Random words, no padding: int64 [batch, tokens]."""
        rng = np.random.default_rng(0)
        ids = rng.integers(5, self.checkpoint.architecture.vocabulary, (batch, tokens))
        arrays = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
        return {name: arrays[name] for name in self.checkpoint.input_names}


def _arrays(parameters: Mapping[str, Tensor]) -> dict[str, NDArray[Any]]:
    return {name: tensor.detach().numpy() for name, tensor in parameters.items()}
