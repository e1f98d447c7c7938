"""Small graphs written by hand, as programs that a runtime can open."""

import numpy as np
import torch
from onnx import TensorProto, helper, numpy_helper

from profilers import Dimensions, Graph, LayerSizes, Program

DIMENSIONS = Dimensions(layers=2, heads=2, ffn_units=8, hidden_size=8, head_size=4, vocabulary=50)


def encoder(layers: int = 2) -> bytes:
    """Embeddings, `layers` of Attention and a matrix product, and a reshape that needs a shape."""
    rng = np.random.default_rng(0)
    table, matrix = (rng.standard_normal(size).astype(np.float32) for size in ((50, 8), (8, 8)))
    nodes = [helper.make_node("Gather", ["table", "input_ids"], ["x0"], name="embed")]
    for i in range(layers):
        nodes += [
            helper.make_node(
                "Attention", [f"x{i}"] * 3, [f"a{i}"], name=f"attention_{i}", q_num_heads=2, kv_num_heads=2
            ),
            helper.make_node("MatMul", [f"a{i}", "matrix"], [f"x{i + 1}"], name=f"matmul_{i}"),
        ]
    nodes += [
        helper.make_node("Shape", ["input_ids"], ["shape"], name="shape", end=1),
        helper.make_node("Concat", ["shape", "rest"], ["target"], name="target", axis=0),
        helper.make_node("Reshape", [f"x{layers}", "target"], ["token_embeddings"], name="reshape"),
    ]
    graph = helper.make_graph(
        nodes,
        "encoder",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "tokens"])],
        [helper.make_tensor_value_info("token_embeddings", TensorProto.FLOAT, ["batch", "values"])],
        [
            numpy_helper.from_array(table, "table"),
            numpy_helper.from_array(matrix, "matrix"),
            numpy_helper.from_array(np.array([-1]), "rest"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=11).SerializeToString()


def huge() -> bytes:
    """As many numbers as its two inputs multiply to."""
    node = helper.make_node("ConstantOfShape", ["input_ids"], ["y"], name="huge")
    graph = helper.make_graph(
        [node],
        "huge",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, [2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["a", "b"])],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10).SerializeToString()


class Double(torch.nn.Module):
    output_names = ("y",)

    def forward(self, input_ids):
        return (input_ids.float() * 2,)


class Huge(torch.nn.Module):
    output_names = ("y",)

    def forward(self, input_ids):
        return (torch.empty(*input_ids.tolist()),)


def encoder_program(layers: int = 2, name: str = "net") -> Program:
    def inputs(batch, tokens):
        return {"input_ids": np.random.default_rng(0).integers(0, 50, (batch, tokens))}

    return Program(
        name=name,
        stack=(LayerSizes(2, 0),) * layers,
        dimensions=DIMENSIONS,
        graph=lambda _: Graph(proto=encoder(layers), weights={}),
        module=Double,
        inputs=inputs,
    )


def huge_program() -> Program:
    """2^41 numbers: more than any machine holds, less than what overflows."""
    return Program(
        name="huge",
        stack=(LayerSizes(0, 0),),
        dimensions=DIMENSIONS,
        graph=lambda _: Graph(proto=huge(), weights={}),
        module=Huge,
        inputs=lambda *_: {"input_ids": np.array([2**20, 2**21])},
    )
