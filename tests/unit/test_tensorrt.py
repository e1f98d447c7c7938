"""TensorRT recipes: the parser's table against graphs of ours and against what it does not take."""

import ast
import json
import shlex

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from compiler.export.tensorrt import CHECKED, UNSUPPORTED, check_coverage, shape_profile, write_recipe
from targets.errors import VerificationError

PROFILE = shape_profile(8, 128, 256)


def save(path, nodes, *, dtype=TensorProto.FLOAT, opset=23, domain=None):
    """A graph that takes `x` and gives `y`."""
    value = [helper.make_tensor_value_info(name, dtype, ["batch", "tokens"]) for name in ("x", "y")]
    imports = [helper.make_opsetid("", opset), *([helper.make_opsetid(domain, 1)] if domain else [])]
    model = helper.make_model(helper.make_graph(nodes, "g", value[:1], value[1:]), opset_imports=imports)
    onnx.save(model, path)
    return path


def test_what_the_parser_takes(tmp_path):
    path = save(tmp_path / "model.onnx", [helper.make_node("Tanh", ["x"], ["y"])])
    coverage = check_coverage(path)
    assert (coverage.problems, coverage.status) == ((), CHECKED)


@pytest.mark.parametrize(("graph", "problem"), [
    ({"nodes": [helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "y", "z"])]}, "operator DynamicQuantizeLinear"),
    ({"nodes": [helper.make_node("Einsum", ["x"], ["y"], equation="ij->ji")]}, "operator Einsum"),
    ({"nodes": [helper.make_node("Tanh", ["x"], ["y"])], "dtype": TensorProto.DOUBLE}, "Tanh of DOUBLE"),
    ({"nodes": [helper.make_node("Tanh", ["x"], ["y"])], "opset": 8}, "opset 8, known are 9 to 23"),
    ({"nodes": [helper.make_node("Gelu", ["x"], ["y"], domain="com.microsoft")], "domain": "com.microsoft"},
     "operators of the domain com.microsoft"),
])  # fmt: skip
def test_what_it_does_not_take_is_named_and_gets_no_recipe(tmp_path, graph, problem):
    path = save(tmp_path / "model.onnx", **graph)
    coverage = check_coverage(path)
    assert problem in coverage.problems
    assert coverage.status == UNSUPPORTED
    with pytest.raises(VerificationError, match=problem):
        write_recipe(tmp_path / "tensorrt", path, PROFILE)
    assert not (tmp_path / "tensorrt").exists()


def test_control_flow_is_named(tmp_path):
    branch = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["z"])], "b", [], [helper.make_tensor_value_info("z", 1, None)]
    )
    condition = helper.make_node("Constant", [], ["c"], value=helper.make_tensor("v", TensorProto.BOOL, [], [True]))
    node = helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)
    assert check_coverage(save(tmp_path / "model.onnx", [condition, node])).problems == ("control flow: If",)


def test_the_recipe_names_its_inputs_and_shapes(tmp_path):
    path = save(tmp_path / "model.fp16.onnx", [helper.make_node("Tanh", ["x"], ["y"])])
    write_recipe(tmp_path / "tensorrt", path, PROFILE)
    words = shlex.split((tmp_path / "tensorrt" / "build_engine.sh").read_text(encoding="utf-8"))
    assert words[:2] == ["trtexec", "--onnx=../model.fp16.onnx"]
    assert {"--minShapes=x:1x1", "--optShapes=x:8x128", "--maxShapes=x:8x256"} <= set(words)
    script = (tmp_path / "tensorrt" / "build_engine.py").read_text(encoding="utf-8")
    assigned = next(n for n in ast.parse(script).body if isinstance(n, ast.Assign) and n.targets[0].id == "SHAPES")
    assert ast.literal_eval(assigned.value) == PROFILE
    assert 'HERE.parent / "model.fp16.onnx"' in script
    status = json.loads((tmp_path / "tensorrt" / "status.json").read_text(encoding="utf-8"))
    assert status["status"] == CHECKED
    assert status["tensorrt"] == "10.14"


def test_newer_operators_ask_for_a_newer_release(tmp_path):
    norm = helper.make_node("RMSNormalization", ["x", "w"], ["y"])
    weight = numpy_helper.from_array(np.ones(4, np.float32), "w")
    path = save(tmp_path / "model.onnx", [helper.make_node("Constant", [], ["w"], value=weight), norm])
    coverage = write_recipe(tmp_path / "tensorrt", path, PROFILE)
    assert (coverage.version, coverage.problems) == ("10.15", ())
    assert "10.15" in (tmp_path / "tensorrt" / "build_engine.py").read_text(encoding="utf-8")
