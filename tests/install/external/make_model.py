#!/usr/bin/env python3
"""Writes model.onnx and weights.bin: y = x * w + 0.5, w in the other file."""
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

w = np.array([1, 2, 3, 4], np.float32)
model = helper.make_model(
    helper.make_graph(
        [helper.make_node("Mul", ["x", "w"], ["p"], name="scale"),
         helper.make_node("Add", ["p", "b"], ["y"], name="shift")],
        "external",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4])],
        [numpy_helper.from_array(w, "w"),
         numpy_helper.from_array(np.array(0.5, np.float32), "b")]),
    opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
onnx.external_data_helper.set_external_data(
    model.graph.initializer[0], location="weights.bin", offset=0, length=w.nbytes)
model.graph.initializer[0].ClearField("raw_data")
open("weights.bin", "wb").write(w.tobytes())
open("model.onnx", "wb").write(model.SerializeToString())
