"""One dense export through torch's dynamo exporter: the graph every sub-network's file is cut from."""

import contextlib
import copy
import io
import logging
import warnings
from collections.abc import Iterator

import numpy as np
import onnx
import torch

from compiler.export.attention import free_heads, join_heads
from compiler.export.surgery import drop_attribute, for_tensorrt
from compiler.families import Architecture, Checkpoint, TaskModel
from compiler.slicing import with_restoring
from profilers.workload import DEFAULT_OPSET

_SPLIT_COUNTS_PARTS = 18

BATCH, TOKENS = "batch", "tokens"
"""Names of the dynamic axes of inputs and outputs."""

FORM = 4
"""Another number for every change that makes another graph of the same model: what was kept of older graphs does not fit."""


def _randomised(model: TaskModel, seed: int = 0) -> TaskModel:
    """A copy whose parameters are all distinct, so that each is recognised in the graph by its content."""
    twin = copy.deepcopy(model).float().cpu().eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return twin


def example_inputs(checkpoint: Checkpoint) -> dict[str, torch.Tensor]:
    """Three texts of nine tokens, one padded. Every input is a tensor of its own: torch's exporter merges equal ones."""
    ids = torch.randint(5, checkpoint.architecture.vocabulary, (3, 9), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[1, 5:] = 0
    inputs = {"input_ids": ids, "attention_mask": mask, "token_type_ids": torch.zeros_like(ids)}
    return {name: inputs[name] for name in checkpoint.input_names}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter prints its progress and warns about packages we do not use; neither is for our users."""
    loggers = {logging.getLogger(name): logging.getLogger(name).level for name in ("torch.onnx", "onnxscript")}
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in loggers.items():
            logger.setLevel(level)


@contextlib.contextmanager
def _explicit_positions(model: TaskModel, architecture: Architecture) -> Iterator[None]:
    """Give a model with rotary positions the place of every token."""
    model.explicit_positions = architecture.family.rotary
    try:
        yield
    finally:
        model.explicit_positions = False


def export_module(model: TaskModel, checkpoint: Checkpoint, opset: int = DEFAULT_OPSET) -> onnx.ModelProto:
    """Graph of a task model, batch and tokens dynamic; about 8 s a network, whatever its size.

    Below opset 23 attention is spelt out: two matrix products with a softmax between them.
    """
    axes = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    inputs = example_inputs(checkpoint)
    with _quiet(), torch.no_grad(), _explicit_positions(model, checkpoint.architecture):
        program = torch.onnx.export(
            model,
            (),
            kwargs=inputs,
            dynamo=True,
            opset_version=opset,
            dynamic_shapes=dict.fromkeys(inputs, axes),
            input_names=list(inputs),
            output_names=list(model.output_names),
            verbose=False,
        )
    assert program is not None  # noqa: S101  dynamo=True always returns a program
    proto: onnx.ModelProto = program.model_proto
    proto.ir_version = min(proto.ir_version, onnx.helper.find_min_ir_version_for(proto.opset_import))
    _fix_steps(proto, model)
    _fix_splits(proto, opset)
    for_tensorrt(proto)
    _name_axes(proto)
    join_heads(proto.graph)
    free_heads(proto.graph)
    _strip(proto)
    return proto


def _fix_steps(proto: onnx.ModelProto, model: TaskModel) -> None:
    """Weights of what comes after the pooling become constants of the graph: no sub-network has others.

    So they are no initialisers to be bound to a parameter, and no quantiser takes them for weights of the encoder.
    """
    arrays = [buffer.numpy() for buffer in model.steps.buffers()]
    fixed = {(turned.shape, turned.tobytes()) for array in arrays for turned in (array, np.ascontiguousarray(array.T))}
    if not fixed:
        return
    for tensor in list(proto.graph.initializer):
        array = onnx.numpy_helper.to_array(tensor)
        if (array.shape, array.tobytes()) in fixed:
            proto.graph.initializer.remove(tensor)
            proto.graph.node.insert(0, onnx.helper.make_node("Constant", [], [tensor.name], value=tensor))


def _fix_splits(proto: onnx.ModelProto, opset: int) -> None:
    """Remove an attribute that the exporter gives to every Split and opset 17 does not know: parts are equal without it."""
    if opset >= _SPLIT_COUNTS_PARTS:
        return
    for node in proto.graph.node:
        if node.op_type == "Split":
            drop_attribute(node, "num_outputs")


def export_dense(
    checkpoint: Checkpoint, opset: int = DEFAULT_OPSET, *, restoring: bool = False
) -> tuple[onnx.ModelProto, TaskModel]:
    """The dense graph filled with random weights, and the model that holds the same ones.

    With `restoring` it ends in what gives a narrow network's output its size (`compiler.slicing.with_restoring`).
    """
    twin = _randomised(with_restoring(checkpoint.whole, checkpoint.architecture) if restoring else checkpoint.whole)
    return export_module(twin, checkpoint, opset), twin


def _name_axes(proto: onnx.ModelProto) -> None:
    """`batch` and `tokens` instead of the exporter's symbols, which may differ from input to input."""
    names: dict[str, str] = {}
    for value in proto.graph.input:
        batch, tokens = value.type.tensor_type.shape.dim
        names |= {batch.dim_param: BATCH, tokens.dim_param: TOKENS}
    for value in (*proto.graph.input, *proto.graph.output):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param in names:
                dim.dim_param = names[dim.dim_param]


def _strip(proto: onnx.ModelProto) -> None:
    """Drop stack traces (they hold paths of the exporting machine) and inferred shapes (they go stale when cut)."""
    for node in proto.graph.node:
        del node.metadata_props[:]
        node.ClearField("doc_string")
    for value in (*proto.graph.input, *proto.graph.output, *proto.graph.initializer):
        del value.metadata_props[:]
        value.ClearField("doc_string")
    del proto.graph.value_info[:]
    del proto.graph.metadata_props[:]
    del proto.metadata_props[:]
    proto.graph.ClearField("doc_string")
    proto.ClearField("doc_string")
