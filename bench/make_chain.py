"""Writes a model of N elementwise nodes in a row, for the time of compiling.

    make_chain.py model.onnx 20000 [--form FORM] [--rows N]
"""

import argparse

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

MIXED = ("Add", "Relu", "Mul", "Tanh", "Sub", "Sigmoid", "Abs", "Neg")
BINARY = {"Add", "Sub", "Mul"}
FORMS = ("chain", "ladder", "unfused")


def _node(form, i):
    """Node i of a form; t<i> is its result, x comes in, w is a constant.
    chain: each takes the one before; ladder: and the one before that; unfused:
    softmax in between."""
    last, before = (f"t{i - 1}" if i else "x"), (f"t{i - 2}" if i > 1 else "x")
    kind = MIXED[i % len(MIXED)]
    if form == "ladder":
        return (("Add", "Sub", "Max")[i % 3], [last, before])
    if form == "unfused" and i % 2:
        return "Softmax", [last]
    return kind, [last, "w"] if kind in BINARY else [last]


def make_chain(path, count, form="chain", rows="n"):
    nodes = []
    for i in range(count):
        kind, inputs = _node(form, i)
        nodes.append(helper.make_node(kind, inputs, [f"t{i}"], name=f"n{i}"))
    last = f"t{count - 1}"
    weights = np.linspace(-1, 1, 16, dtype=np.float32)
    graph = helper.make_graph(
        nodes, "chain",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [rows, 16])],
        [helper.make_tensor_value_info(last, TensorProto.FLOAT, [rows, 16])],
        [numpy_helper.from_array(weights, "w")])
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("count", type=int)
    parser.add_argument("--form", choices=FORMS, default="chain")
    parser.add_argument("--rows", type=int,
                        help="of x; without it the number is not fixed")
    args = parser.parse_args()
    make_chain(args.model, args.count, args.form, args.rows or "n")


if __name__ == "__main__":
    main()
