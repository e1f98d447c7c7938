"""A narrower template filled with slices equals ONNX Runtime's own conversion of the sliced float graph."""

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from onnx import numpy_helper

from compiler.export import ModelWorkbench, graph_run, make_template, narrow_template
from compiler.export.dense import export_dense
from compiler.export.files import inline
from compiler.export.precision import halve_graph, quantise, quantise_graph
from compiler.slicing import SubnetRunner
from compiler.spaces import SubBlock, Subnet
from profilers import Graph
from targets import STATIC
from tests.tiny import HEADS, UNITS, randomise, some_batches, tiny_checkpoint

NARROW = {np.dtype(np.float16), np.dtype(np.int8), np.dtype(np.uint8)}
CONVERTERS = {"fp16": halve_graph, "int8": quantise_graph}
ALL_HEADS, ALL_UNITS = range(HEADS), range(UNITS)
SUBNETS = {
    "dense": Subnet.of([ALL_HEADS] * 3, [ALL_UNITS] * 3),
    "uneven": Subnet.of([[1, 3], [0], [0, 1, 2]], [[0, 7, 47], range(5, 40), [11]]),
    "dropped sub-blocks": Subnet.of([[], [0, 2], [1]], [[1, 5], [], [7]]),
    "no last layer": Subnet.of([[1], ALL_HEADS, []], [[2], ALL_UNITS, []]),
}


@pytest.fixture(scope="module", params=("bert", "roberta", "distilbert"))  # with and without a head of its own
def bench(request, tmp_path_factory) -> ModelWorkbench:
    task = "embedding" if request.param == "bert" else "classification"
    checkpoint = tiny_checkpoint(tmp_path_factory.mktemp(request.param), request.param, task=task)
    randomise(checkpoint.model)
    proto, twin = export_dense(checkpoint)
    parameters = {name: tensor.detach().numpy() for name, tensor in twin.backbone.named_parameters()}
    template = make_template(proto, parameters, checkpoint.architecture)
    narrow = {p: narrow_template(template, p, parameters, checkpoint.architecture) for p in (*CONVERTERS, STATIC)}
    return ModelWorkbench(checkpoint, {"fp32": template, **narrow}, some_batches(checkpoint))


@pytest.fixture(params=SUBNETS.values(), ids=SUBNETS)
def subnet(request) -> Subnet:
    return request.param


def sliced(bench: ModelWorkbench, subnet: Subnet):
    return SubnetRunner(bench.checkpoint.model, bench.checkpoint.architecture).parameters(subnet)


@pytest.mark.parametrize("precision", CONVERTERS)
def test_filling_equals_converting(bench, subnet, precision):
    parameters = sliced(bench, subnet)
    ours = bench.graph(subnet, parameters, precision)
    library = CONVERTERS[precision](inline(bench.graph(subnet, parameters, "fp32")))
    theirs = {tensor.name: numpy_helper.to_array(tensor) for tensor in library.graph.initializer}
    matrices = {name for name, array in theirs.items() if array.ndim == 2 and array.dtype in NARROW}
    assert matrices == {name for name, array in ours.weights.items() if array.ndim == 2}
    for name, array in ours.weights.items():
        assert array.dtype == theirs[name].dtype
        np.testing.assert_allclose(array.astype(float), theirs[name], rtol=1e-6, err_msg=name)


@pytest.mark.parametrize("precision", CONVERTERS)
def test_matrices_and_embeddings_are_narrow(bench, precision):
    graph = bench.graph(SUBNETS["dense"], sliced(bench, SUBNETS["dense"]), precision)
    assert {array.dtype for array in graph.weights.values() if array.ndim == 2} <= NARROW


@pytest.mark.parametrize(("precision", "off"), [("fp16", 5e-3), ("int8", 0.2), (STATIC, 0.2)])
def test_the_narrow_network_answers_nearly_what_the_float_one_does(bench, subnet, precision, off):
    parameters = sliced(bench, subnet)
    ids = torch.randint(5, 100, (2, 9), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[1, 4:] = 0
    given_ = {"input_ids": ids, "attention_mask": mask, "token_type_ids": torch.zeros_like(ids)}
    inputs = {name: given_[name] for name in bench.checkpoint.input_names}
    exact, coarse = (graph_run(bench.graph(subnet, parameters, p), 1)(inputs).numpy() for p in ("fp32", precision))
    assert np.linalg.norm(exact - coarse) < off * np.linalg.norm(exact)
    assert not np.array_equal(exact, coarse)
    assert coarse.dtype == np.float32


@given(
    arrays(np.float32, (5, 3), elements=st.floats(-10, 10, width=32)),
    st.sampled_from(["column", "table"]),
)
@settings(deadline=None)
def test_quantised_values_are_within_half_a_step(array, scheme):
    quantized, scale, zero_point = quantise(array, scheme)
    assert scheme == "table" or not zero_point.any()
    back = (quantized.astype(np.float64) - zero_point) * scale
    assert (np.abs(back - array) <= np.broadcast_to(scale, array.shape) * 0.501 + 1e-30).all()


def initialisers(graph):
    return {t.name: numpy_helper.to_array(t) for t in inline(graph).graph.initializer}


def test_static_products_read_8_bits_with_zero_point_0_and_smoothing_cancels(bench, subnet):
    parameters = sliced(bench, subnet)
    exact, static = (inline(bench.graph(subnet, parameters, p)) for p in ("fp32", STATIC))
    known = {t.name: numpy_helper.to_array(t) for t in static.graph.initializer}
    wanted = {t.name: numpy_helper.to_array(t) for t in exact.graph.initializer}
    made_by = {name: node for node in static.graph.node for name in node.output}
    products = [n for n in exact.graph.node if n.op_type == "MatMul" and n.input[1] in wanted]
    quantised = [n for n in static.graph.node if n.op_type == "MatMul" and n.input[1].endswith("_dequantized")]
    assert len(quantised) == len(products)
    for node in quantised:
        left, right = (made_by[name] for name in node.input)
        assert left.op_type == right.op_type == "DequantizeLinear"
        smoothing = made_by[made_by[left.input[0]].input[0]]
        assert not known[left.input[2]].any()
        assert not known[right.input[2]].any()
        matrix, scale, _ = (known[name].astype(float) for name in right.input)
        restored = matrix * scale / known[smoothing.input[1]][:, None]
        original = wanted[right.input[0].removesuffix("_quantized")]
        step = scale / known[smoothing.input[1]][:, None]
        assert (np.abs(restored - original) <= 0.51 * step).all()


def test_static_ranges_are_those_of_the_network_itself(bench):
    parameters = sliced(bench, SUBNETS["uneven"])
    doubled = {n: 2 * p if n.endswith(("value.weight", "v_lin.weight")) else p for n, p in parameters.items()}
    scales = [
        sorted(
            float(a)
            for n, a in initialisers(bench.graph(SUBNETS["uneven"], p, STATIC)).items()
            if a.ndim == 0 and n.endswith("_scale")
        )
        for p in (parameters, doubled)
    ]
    assert len(scales[0]) == len(scales[1]) > 0
    assert scales[0] != scales[1]


def test_static_embeddings_are_rows_of_8_bit_tables(bench):
    parameters = sliced(bench, SUBNETS["dense"])
    exact, static = (bench.graph(SUBNETS["dense"], parameters, p) for p in ("fp32", STATIC))
    made_by = {name: node for node in inline(static).graph.node for name in node.output}
    gathers = [n for n in inline(exact).graph.node if n.op_type == "Gather" and n.input[0] in exact.weights]
    assert len(gathers) > 1
    for node in gathers:
        dequantise = made_by[made_by[node.output[0]].input[0]]
        table, scale, zero_point = (static.weights[name] for name in dequantise.input)
        assert (table.dtype, zero_point.any()) == (np.int8, False)
        off = np.abs(table * scale - exact.weights[node.input[0]])
        assert (off <= 0.51 * scale).all()


# --- exceptions

EXEMPT = (SubBlock(0, "ffn"), SubBlock(1, "attention"))
ALL_BLOCKS = tuple(SubBlock(layer, piece) for layer in range(3) for piece in ("attention", "ffn"))


def wide(arrays):
    return {name for name, array in arrays.items() if array.ndim == 2 and array.dtype == np.float32}


@pytest.mark.parametrize("precision", ["int8", STATIC])
def test_exceptions_are_as_in_fp32_and_the_rest_as_without_them(bench, subnet, precision):
    parameters, architecture = sliced(bench, subnet), bench.checkpoint.architecture
    exact, plain, mixed = (
        bench.graph(subnet, parameters, *form).weights for form in (("fp32",), (precision,), (precision, EXEMPT))
    )
    modules = {m for layer, piece in EXEMPT for m in architecture.branch(layer, piece).modules}
    bound = bench.templates["fp32"].bindings
    own = {n for n in wide(exact) if bound[n].parameter.removesuffix(".weight") in modules}
    assert own or subnet == SUBNETS["dropped sub-blocks"]
    assert wide(mixed) == wide(plain) | own
    for name, array in mixed.items():
        np.testing.assert_array_equal(array, plain[name] if name in plain else exact[name])


@pytest.mark.parametrize("precision", ["int8", STATIC])
def test_where_all_sub_blocks_are_exceptions_only_tables_are_rounded(bench, subnet, precision):
    parameters = sliced(bench, subnet)
    graph = bench.graph(subnet, parameters, precision, ALL_BLOCKS)
    onnx.checker.check_model(inline(graph), full_check=True)
    exact = bench.graph(subnet, parameters, "fp32")
    gathered = {n.input[0] for n in inline(exact).graph.node if n.op_type == "Gather"} & set(exact.weights)
    rounded = dict(exact.weights)
    for name in gathered:
        quantized, scale, zero_point = quantise(exact.weights[name], "table" if precision == "int8" else "column")
        rounded[name] = ((quantized.astype(np.float32) - zero_point) * scale).astype(np.float32)
    oracle = Graph(proto=exact.proto, weights=rounded)
    ids = torch.randint(5, 100, (2, 9), generator=torch.Generator().manual_seed(0))
    known = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "token_type_ids": torch.zeros_like(ids)}
    inputs = {name: known[name] for name in bench.checkpoint.input_names}
    wanted, found = (graph_run(g, 1)(inputs).numpy() for g in (oracle, graph))
    head = 0.05 if precision == "int8" and bench.checkpoint.task.head else 1e-4  # it stays in 8 bits
    np.testing.assert_allclose(found, wanted, atol=head * np.abs(wanted).max())
