"""Writes a model of about N MiB of weights, for the memory and time of compiling:
layers of MatMul, bias and Relu, each with 16 MiB of weights of its own.

    make_big.py model.onnx 1024 [--storage raw|external] [--rounded f32|bf16|f16]

raw keeps the weights in the model file (at most 2 GiB), external beside it. All
weights are f32; rounded, each is an element of that type.
"""

import argparse
import pathlib

import numpy as np
import onnx
from onnx import TensorProto, helper

HIDDEN = 2048


def _round(x, rounded):
    if rounded == "f16":
        return x.astype(np.float16).astype(np.float32)
    if rounded == "bf16":
        return (x.view(np.uint32) & np.uint32(0xffff0000)).view(np.float32)
    return x


def _weights(random, storage, rounded, name, file, offset):
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT,
                         dims=[HIDDEN, HIDDEN])
    data = _round(random.standard_normal((HIDDEN, HIDDEN), np.float32) *
                  np.float32(HIDDEN ** -0.5), rounded).tobytes()
    if storage == "raw":
        tensor.raw_data = data
        return tensor
    file.write(data)
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", pathlib.Path(file.name).name),
                       ("offset", offset), ("length", len(data))):
        tensor.external_data.add(key=key, value=str(value))
    return tensor


def make_big(path, mebibytes, storage="external", rounded="f32"):
    path = pathlib.Path(path)
    layers = max(1, mebibytes * (1 << 20) // (HIDDEN * HIDDEN * 4))
    random = np.random.default_rng(1)
    nodes, weights, last = [], [], "x"
    with open(path.with_suffix(".bin"), "wb") as file:
        for i in range(layers):
            weights.append(_weights(random, storage, rounded, f"w{i}", file,
                                    i * HIDDEN * HIDDEN * 4))
            nodes += [helper.make_node("MatMul", [last, f"w{i}"], [f"p{i}"]),
                      helper.make_node("Relu", [f"p{i}"], [f"r{i}"])]
            last = f"r{i}"
    if storage == "raw":
        path.with_suffix(".bin").unlink()
    graph = helper.make_graph(
        nodes, "big",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", HIDDEN])],
        [helper.make_tensor_value_info(last, TensorProto.FLOAT, ["n", HIDDEN])],
        weights)
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("mebibytes", type=int)
    parser.add_argument("--storage", choices=("raw", "external"),
                        default="external")
    parser.add_argument("--rounded", choices=("f32", "bf16", "f16"),
                        default="f32")
    args = parser.parse_args()
    make_big(args.model, args.mebibytes, args.storage, args.rounded)


if __name__ == "__main__":
    main()
