"""Operators written anew for TensorRT: the same values, in forms that its parser takes."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from compiler.export.surgery import for_tensorrt
from compiler.export.tensorrt import check_coverage

VALUES = np.array([[-7, 0, 3], [2, 9, 4]])


def graph(node, kind, *constants):
    value = helper.make_tensor_value_info("x", kind, ["rows", "columns"])
    result = helper.make_tensor_value_info("y", kind, ["rows", "columns"])
    initializers = [numpy_helper.from_array(array, name) for name, array in constants]
    made = helper.make_graph([node], "g", [value], [result], initializer=initializers)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def answer(proto, values):
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": values})[0]


def clip(kind, low, high):
    bounds = [(name, np.array(bound, kind)) for name, bound in (("low", low), ("high", high)) if bound is not None]
    names = ["x", "low" if low is not None else "", *(["high"] if high is not None else [])]
    return helper.make_node("Clip", names, ["y"]), bounds


@pytest.mark.parametrize(("kind", "array"), [(TensorProto.INT32, np.int32), (TensorProto.INT64, np.int64)])
def test_sums_of_whole_numbers_are_the_same_in_float(tmp_path, kind, array):
    axis = ("axis", np.array(1, np.int64))
    proto = graph(helper.make_node("CumSum", ["x", "axis"], ["y"]), kind, axis)
    for_tensorrt(proto)
    onnx.checker.check_model(proto, full_check=True)
    found = answer(proto, VALUES.astype(array))
    assert found.dtype == array
    assert (found == VALUES.cumsum(axis=1)).all()
    onnx.save(proto, tmp_path / "model.onnx")
    assert check_coverage(tmp_path / "model.onnx").problems == ()


@pytest.mark.parametrize(("low", "high"), [(-2, 4), (0, None), (None, 3), (None, None)])
def test_clips_of_whole_numbers_are_maxima_and_minima(tmp_path, low, high):
    node, bounds = clip(np.int64, low, high)
    proto = graph(node, TensorProto.INT64, *bounds)
    for_tensorrt(proto)
    onnx.checker.check_model(proto, full_check=True)
    lowest, highest = (bound if bound is not None else end for bound, end in ((low, -100), (high, 100)))
    assert (answer(proto, VALUES) == VALUES.clip(lowest, highest)).all()
    onnx.save(proto, tmp_path / "model.onnx")
    assert check_coverage(tmp_path / "model.onnx").problems == ()


def test_other_types_are_left_alone():
    node, bounds = clip(np.float32, -2, 4)
    proto = graph(node, TensorProto.FLOAT, *bounds)
    before = proto.SerializeToString()
    for_tensorrt(proto)
    assert proto.SerializeToString() == before
