"""The table of words that is the head as well: once in a float file, where it changes no answer and no session."""

import numpy as np
import onnx
import pytest

from compiler.export import ModelWorkbench
from compiler.export.dense import export_dense
from compiler.export.files import stored_once, write_graph
from compiler.export.template import make_template, narrow_template
from compiler.families import load_checkpoint
from compiler.pipeline.subject import as_arrays
from compiler.spaces import Subnet
from profilers.runtimes.onnx_runtime import open_session
from profilers.runtimes.onnx_session import package
from tests.tiny import VOCABULARY, randomise, save_tiny

KINDS = {"llama": "causal_lm", "bert": "masked_lm"}


@pytest.fixture(scope="module", params=KINDS)
def bench(request, tmp_path_factory):
    folder, task = tmp_path_factory.mktemp(request.param), KINDS[request.param]
    save_tiny(folder, request.param, task=task, num_hidden_layers=1, tie_word_embeddings=True)
    checkpoint = load_checkpoint(str(folder), task=task)
    randomise(checkpoint.model, seed=1)
    proto, twin = export_dense(checkpoint)
    parameters = as_arrays(dict(twin.backbone.named_parameters()))
    full = make_template(proto, parameters, checkpoint.architecture)
    narrow = {p: narrow_template(full, p, parameters, checkpoint.architecture) for p in ("fp16", "int8")}
    return ModelWorkbench(checkpoint, {"fp32": full, **narrow})


def graph_of(bench, precision):
    dense = bench.dimensions.dense
    return bench.graph(Subnet.first(dense, bench.ordering), bench.dense, precision)


def words_in(path):
    """Shapes of the stored matrices with a row or a column a word."""
    return [tuple(t.dims) for t in onnx.load(path).graph.initializer if VOCABULARY in t.dims and len(t.dims) == 2]


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_float_file_holds_the_table_once_and_answers_as_before(bench, tmp_path, precision):
    graph, path = graph_of(bench, precision), tmp_path / "model.onnx"
    write_graph(graph, path)
    hidden = bench.dimensions.hidden_size
    assert words_in(path) == [(VOCABULARY, hidden)]
    twice = sum(array.nbytes for array in graph.weights.values())
    once = sum(array.nbytes for array in stored_once(graph).weights.values())
    assert twice - once == VOCABULARY * hidden * (4 if precision == "fp32" else 2)
    inputs = bench.inputs(3, 7)
    (ours,), (theirs,) = (open_session(source, 1).run(None, dict(inputs)) for source in (path, graph))
    assert np.array_equal(ours, theirs)


def test_a_session_has_no_transpose_of_the_table_left(bench, tmp_path):
    write_graph(graph_of(bench, "fp32"), tmp_path / "model.onnx")
    options = package().SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "loaded.onnx")
    options.graph_optimization_level = package().GraphOptimizationLevel.ORT_ENABLE_BASIC
    package().InferenceSession(tmp_path / "model.onnx", options, providers=["CPUExecutionProvider"])
    loaded, hidden = onnx.load(tmp_path / "loaded.onnx").graph, bench.dimensions.hidden_size
    stored = {tensor.name for tensor in loaded.initializer}
    assert not any(node.op_type == "Transpose" and node.input[0] in stored for node in loaded.node)
    assert sorted(words_in(tmp_path / "loaded.onnx")) == [(hidden, VOCABULARY), (VOCABULARY, hidden)]


def test_in_8_bits_they_are_two_tables(bench, tmp_path):
    graph = graph_of(bench, "int8")
    assert stored_once(graph) is graph
    write_graph(graph, tmp_path / "model.onnx")
    assert len(words_in(tmp_path / "model.onnx")) == 2
