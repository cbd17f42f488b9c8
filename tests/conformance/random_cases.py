#!/usr/bin/env python3
"""Writes random models with ONNX Runtime's results as cases for the runner.

usage: random_cases.py [--seed N] [--count N] OUT_DIR

Each model is a short chain of operators on shapes that the backend suite has
not: sizes around vectors and tiles, ones and zeros, broadcasts, odd axes, steps
and windows. Half of the models have symbolic dimensions. What ONNX Runtime
rejects is skipped. The same seed writes the same models.
"""
import argparse
import json
import pathlib
import shutil
import sys

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

SIZES = (1, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 48, 65)
OPSET = 21


class Chain:
    """A graph that grows at its end."""

    def __init__(self, rng):
        self.rng = rng
        self.nodes, self.inputs, self.constants = [], {}, []
        self.shape = self.random_shape()
        self.dtype = np.float32
        self.value = self.add_input(self.shape)

    def random_shape(self, rank=None, limit=20000):
        while True:
            n = self.rng.integers(1, 5) if rank is None else rank
            shape = tuple(int(self.rng.choice(SIZES)) for _ in range(n))
            if np.prod(shape) <= limit:
                return shape

    def data(self, shape, dtype=np.float32, low=-2.0, high=2.0):
        x = self.rng.uniform(low, high, shape)
        return np.asarray(x).astype(dtype)

    def add_input(self, shape, dtype=np.float32, low=-2.0, high=2.0):
        name = f"x{len(self.inputs)}"
        self.inputs[name] = self.data(shape, dtype, low, high)
        return name

    def constant(self, value):
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def operand(self, shape):
        """Another operand: an input or a constant."""
        if self.rng.random() < 0.5:
            return self.add_input(shape)
        return self.constant(self.data(shape))

    def node(self, operator, inputs, n_out=1, **attributes):
        outputs = [f"v{len(self.nodes)}_{i}" for i in range(n_out)]
        self.nodes.append(helper.make_node(operator, inputs, outputs,
                                           **attributes))
        self.value = outputs[0]
        return outputs

    def axis(self):
        a = int(self.rng.integers(len(self.shape)))
        return a, a - (len(self.shape) if self.rng.random() < 0.5 else 0)


# ---- Steps: each appends nodes and keeps chain.shape ------------------------

UNARY = ("Abs Neg Exp Tanh Sigmoid Relu Floor Ceil Round Sign Erf Softplus "
         "Softsign Sin Cos Atan Elu Selu LeakyRelu HardSigmoid HardSwish Gelu "
         "Mish Identity").split()


def unary(c):
    c.node(str(c.rng.choice(UNARY)), [c.value])


def binary(c):
    shape = [d if c.rng.random() < 0.6 else 1 for d in c.shape]
    if c.rng.random() < 0.3:
        shape = shape[int(c.rng.integers(len(shape))):]
    other = c.operand(tuple(shape))
    operator = str(c.rng.choice(["Add", "Sub", "Mul", "Max", "Min"]))
    order = [c.value, other]
    if c.rng.random() < 0.5:
        order.reverse()
    c.node(operator, order)


def outer(c):
    """A result larger than either operand."""
    if np.prod(c.shape) > 2000:
        return
    d, _ = c.axis()
    if c.shape[d] != 1:
        return
    n = int(c.rng.choice(SIZES))
    shape = [1] * len(c.shape)
    shape[d] = n
    c.node("Add", [c.value, c.operand(tuple(shape))])
    c.shape = tuple(n if i == d else s for i, s in enumerate(c.shape))


def select(c):
    limit = c.constant(np.float32(c.rng.uniform(-1, 1)))
    operator = str(c.rng.choice(["Less", "Greater", "LessOrEqual"]))
    x = c.value
    mask = c.node(operator, [x, limit])[0]
    c.node("Where", [mask, x, c.operand(c.shape[-1:])])


def reduce(c):
    n = len(c.shape)
    axes = [int(a) for a in np.flatnonzero(c.rng.random(n) < 0.5)]
    if not axes or not all(c.shape):
        return
    keep = int(c.rng.random() < 0.6)
    operator = str(c.rng.choice(["ReduceSum", "ReduceMean", "ReduceMax",
                                 "ReduceMin", "ReduceL2", "ReduceLogSumExp"]))
    signed = [a - n if c.rng.random() < 0.3 else a for a in axes]
    c.node(operator, [c.value, c.constant(np.array(signed, np.int64))],
           keepdims=keep)
    if keep:
        c.shape = tuple(1 if i in axes else d for i, d in enumerate(c.shape))
    else:
        c.shape = tuple(d for i, d in enumerate(c.shape) if i not in axes)
    if not c.shape:
        c.node("Reshape", [c.value, c.constant(np.array([1], np.int64))])
        c.shape = (1,)


def softmax(c):
    c.node(str(c.rng.choice(["Softmax", "LogSoftmax"])), [c.value],
           axis=c.axis()[1])


def normalize(c):
    d, axis = c.axis()
    shape = c.shape[d:]
    c.node("LayerNormalization",
           [c.value, c.operand(shape), c.operand(shape)], axis=axis,
           epsilon=1e-3)


def cumsum(c):
    c.node("CumSum", [c.value, c.constant(np.int64(c.axis()[1]))],
           exclusive=int(c.rng.integers(2)), reverse=int(c.rng.integers(2)))


def transpose(c):
    perm = [int(p) for p in c.rng.permutation(len(c.shape))]
    c.node("Transpose", [c.value], perm=perm)
    c.shape = tuple(c.shape[p] for p in perm)


def reshape(c):
    n = int(np.prod(c.shape))
    if n == 0:
        return
    dims = []
    while n > 1 and len(dims) < 4:
        d = int(c.rng.choice([k for k in range(1, n + 1) if n % k == 0]))
        dims.append(d)
        n //= d
    if n > 1 or not dims:
        dims.append(n)
    c.rng.shuffle(dims)
    c.shape = tuple(dims)
    given = list(dims)
    if c.rng.random() < 0.5:
        given[int(c.rng.integers(len(given)))] = -1
    c.node("Reshape", [c.value, c.constant(np.array(given, np.int64))])


def slicing(c):
    d, axis = c.axis()
    n = c.shape[d]
    start, end = (int(v) for v in c.rng.integers(-n - 2, n + 3, 2))
    step = int(c.rng.choice([1, 1, 2, 3, -1, -2]))
    length = len(range(*slice(start, end, step).indices(n)))
    if length == 0:
        return
    c.node("Slice", [c.value] + [c.constant(np.array([v], np.int64))
                                 for v in (start, end, axis, step)])
    c.shape = tuple(length if i == d else s for i, s in enumerate(c.shape))


def concat(c):
    d, axis = c.axis()
    n = int(c.rng.choice(SIZES))
    other = c.operand(tuple(n if i == d else s for i, s in enumerate(c.shape)))
    order = [c.value, other, c.value][int(c.rng.integers(2)):]
    c.node("Concat", order, axis=axis)
    total = sum(n if o == other else c.shape[d] for o in order)
    c.shape = tuple(total if i == d else s for i, s in enumerate(c.shape))


def split(c):
    d, axis = c.axis()
    if c.shape[d] < 2:
        return
    first = int(c.rng.integers(1, c.shape[d]))
    sizes = np.array([first, c.shape[d] - first], np.int64)
    outputs = c.node("Split", [c.value, c.constant(sizes)], n_out=2, axis=axis)
    c.value = outputs[1]
    c.shape = tuple(int(sizes[1]) if i == d else s for i, s in enumerate(c.shape))


def pad(c):
    mode = str(c.rng.choice(["constant", "edge", "reflect", "wrap"]))
    n = len(c.shape)
    pads = [int(c.rng.integers(0, min(3, s))) if s > 0 else 0
            for s in c.shape + c.shape]
    inputs = [c.value, c.constant(np.array(pads, np.int64))]
    if mode == "constant":
        pads = [int(c.rng.integers(0 if c.shape[i % n] == 1 else -1, 3))
                for i in range(2 * n)]
        inputs = [c.value, c.constant(np.array(pads, np.int64)),
                  c.constant(np.float32(0.5))]
    shape = tuple(s + pads[i] + pads[n + i] for i, s in enumerate(c.shape))
    if min(shape) < 1:
        return
    c.node("Pad", inputs, mode=mode)
    c.shape = shape


def expand(c):
    shape = tuple(int(c.rng.choice([1, 3, 17])) if d == 1 else d
                  for d in c.shape)
    if np.prod(shape) > 40000:
        return
    c.node("Expand", [c.value, c.constant(np.array(shape, np.int64))])
    c.shape = shape


def tile(c):
    repeats = [int(r) for r in c.rng.integers(1, 4, len(c.shape))]
    if np.prod(c.shape) * np.prod(repeats) > 40000:
        return
    c.node("Tile", [c.value, c.constant(np.array(repeats, np.int64))])
    c.shape = tuple(s * r for s, r in zip(c.shape, repeats))


def gather(c):
    d, axis = c.axis()
    n = c.shape[d]
    if n == 0:
        return
    index = c.rng.integers(-n, n, c.random_shape(int(c.rng.integers(0, 3)), 100))
    index = np.asarray(index, np.int64)
    shape = c.shape[:d] + index.shape + c.shape[d + 1:]
    if not shape or np.prod(shape) > 40000:
        return
    c.node("Gather", [c.value, c.constant(index)], axis=axis)
    c.shape = shape


def gather_elements(c):
    d, axis = c.axis()
    n = c.shape[d]
    if n == 0:
        return
    index = c.rng.integers(-n, n, c.shape).astype(np.int64)
    c.node("GatherElements", [c.value, c.constant(index)], axis=axis)


def scatter_elements(c):
    d, axis = c.axis()
    n = c.shape[d]
    if n == 0:
        return
    shape = list(c.shape)
    shape[d] = int(c.rng.integers(1, n + 1))
    order = c.rng.random(c.shape).argsort(axis=d)
    index = np.take(order, range(shape[d]), axis=d).astype(np.int64)
    reduction = str(c.rng.choice(["none", "add", "mul", "max", "min"]))
    c.node("ScatterElements", [c.value, c.constant(index),
                               c.operand(tuple(shape))], axis=axis,
           reduction=reduction)


def topk(c):
    d, axis = c.axis()
    if c.shape[d] == 0:
        return
    k = int(c.rng.integers(1, c.shape[d] + 1))
    c.node("TopK", [c.value, c.constant(np.array([k], np.int64))], n_out=2,
           axis=axis, largest=int(c.rng.integers(2)))
    c.shape = tuple(k if i == d else s for i, s in enumerate(c.shape))


def argmax(c):
    d, axis = c.axis()
    if c.shape[d] == 0:
        return
    c.node(str(c.rng.choice(["ArgMax", "ArgMin"])), [c.value], axis=axis,
           keepdims=1, select_last_index=int(c.rng.integers(2)))
    c.node("Cast", [c.value], to=TensorProto.FLOAT)
    c.shape = tuple(1 if i == d else s for i, s in enumerate(c.shape))


def integers(c):
    """Through an integer type and back."""
    to = int(c.rng.choice([TensorProto.INT8, TensorProto.INT32,
                           TensorProto.INT64, TensorProto.INT16]))
    factor = c.constant(np.float32(20))
    c.node("Clip", [c.value, c.constant(np.float32(-3)),
                    c.constant(np.float32(3))])
    c.node("Mul", [c.value, factor])
    c.node("Cast", [c.value], to=to)
    c.node("Cast", [c.value], to=TensorProto.FLOAT)
    c.node("Div", [c.value, factor])


def half(c):
    """Through f16: exact where the value comes back."""
    c.node("Cast", [c.value], to=TensorProto.FLOAT16)
    c.node("Cast", [c.value], to=TensorProto.FLOAT)


def matmul(c):
    if len(c.shape) < 2 or 0 in c.shape:
        return
    n = int(c.rng.choice(SIZES))
    batch = c.shape[:-2] if c.rng.random() < 0.5 else ()
    batch = tuple(b if c.rng.random() < 0.7 else 1 for b in batch)
    shape = batch + (c.shape[-1], n)
    if np.prod(shape) > 60000 or np.prod(c.shape[:-1]) * n > 60000:
        return
    c.node("MatMul", [c.value, c.operand(shape)])
    c.shape = c.shape[:-1] + (n,)
    c.node("Mul", [c.value, c.constant(np.float32(0.1))])


def gemm(c):
    if len(c.shape) != 2 or 0 in c.shape:
        return
    n, ta, tb = int(c.rng.choice(SIZES)), *(int(t) for t in c.rng.integers(0, 2, 2))
    m, k = c.shape[::-1] if ta else c.shape
    bias = [(n,), (1, n), (m, 1), (m, n), (1,)][int(c.rng.integers(5))]
    c.node("Gemm", [c.value, c.operand((n, k) if tb else (k, n)),
                    c.operand(bias)],
           transA=ta, transB=tb, alpha=0.25, beta=0.5)
    c.shape = (m, n)


def window(c, n_spatial):
    kernel, strides, dilations, pads, out = [], [], [], [[], []], []
    for s in c.shape[2:]:
        k, d = int(c.rng.integers(1, 4)), int(c.rng.integers(1, 3))
        extent = (k - 1) * d + 1
        p = [int(v) for v in c.rng.integers(0, min(extent, 3), 2)]
        if s + sum(p) < extent or k <= max(p):
            return None
        stride = int(c.rng.integers(1, 4))
        kernel.append(k), dilations.append(d), strides.append(stride)
        pads[0].append(p[0]), pads[1].append(p[1])
        out.append((s + sum(p) - extent) // stride + 1)
    return kernel, strides, dilations, pads[0] + pads[1], tuple(out)


def conv(c):
    if len(c.shape) not in (3, 4) or 0 in c.shape:
        return
    w = window(c, len(c.shape) - 2)
    if w is None:
        return
    kernel, strides, dilations, pads, out = w
    channels = c.shape[1]
    group = int(c.rng.choice([g for g in range(1, channels + 1)
                              if channels % g == 0]))
    m = group * int(c.rng.integers(1, 5))
    shape = (m, channels // group, *kernel)
    if np.prod(shape) * np.prod(out) > 4000000:
        return
    inputs = [c.value, c.operand(shape)]
    if c.rng.random() < 0.5:
        inputs.append(c.operand((m,)))
    c.node("Conv", inputs, kernel_shape=kernel, strides=strides,
           dilations=dilations, pads=pads, group=group)
    c.shape = (c.shape[0], m, *out)
    c.node("Mul", [c.value, c.constant(np.float32(0.1))])


def pool(c):
    if len(c.shape) not in (3, 4) or 0 in c.shape:
        return
    w = window(c, len(c.shape) - 2)
    if w is None:
        return
    kernel, strides, dilations, pads, out = w
    if c.rng.random() < 0.5:
        c.node("MaxPool", [c.value], kernel_shape=kernel, strides=strides,
               dilations=dilations, pads=pads)
    else:
        c.node("AveragePool", [c.value], kernel_shape=kernel, strides=strides,
               dilations=dilations, pads=pads,
               count_include_pad=int(c.rng.integers(2)))
    c.shape = (*c.shape[:2], *out)


def batch_norm(c):
    if len(c.shape) < 2:
        return
    n = (c.shape[1],)
    variance = c.constant(c.data(n, low=0.5, high=2))
    c.node("BatchNormalization", [c.value, c.operand(n), c.operand(n),
                                  c.operand(n), variance])


def einsum(c):
    if len(c.shape) != 2 or 0 in c.shape:
        return
    n = int(c.rng.choice(SIZES))
    c.node("Einsum", [c.value, c.operand((n, c.shape[1]))],
           equation="ij,kj->ki")
    c.shape = (n, c.shape[0])
    c.node("Mul", [c.value, c.constant(np.float32(0.1))])


def branches(c):
    """A value with several users, and a residual."""
    x = c.value
    unary(c)
    y = c.value
    c.node("Sub", [x, y])
    c.node("Add", [c.value, y])


def second_output(c):
    c.node("Identity", [c.value])


STEPS = (unary, unary, unary, binary, binary, binary, outer, select, reduce,
         reduce, softmax, normalize, cumsum, transpose, transpose, reshape,
         reshape, slicing, slicing, concat, split, pad, pad, expand, tile, gather,
         gather_elements, scatter_elements, topk, argmax, integers, half, matmul,
         matmul, gemm, conv, pool, batch_norm, einsum, branches)


# ---- Models ------------------------------------------------------------------

def make_model(rng):
    c = Chain(rng)
    first = None
    for i in range(int(rng.integers(1, 9))):
        STEPS[int(rng.integers(len(STEPS)))](c)
        if first is None and c.nodes and rng.random() < 0.2:
            first = c.value
    if not c.nodes:
        c.node("Neg", [c.value])
    symbolic = rng.random() < 0.5
    inputs = []
    for name, value in c.inputs.items():
        shape = [f"{name}_{i}" if symbolic else d
                 for i, d in enumerate(value.shape)]
        inputs.append(helper.make_tensor_value_info(
            name, helper.np_dtype_to_tensor_dtype(value.dtype), shape))
    names = [c.value] + ([first] if first not in (None, c.value) else [])
    outputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, None)
               for n in names]
    graph = helper.make_graph(c.nodes, "random", inputs, outputs, c.constants)
    model = helper.make_model(graph, opset_imports=[
        helper.make_opsetid("", OPSET)], ir_version=10)
    return model, c.inputs


def write_case(folder, model, inputs, outputs):
    data = folder / "test_data_set_0"
    data.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    for j, (name, value) in enumerate(inputs.items()):
        (data / f"input_{j}.pb").write_bytes(
            numpy_helper.from_array(value, name).SerializeToString())
    for j, value in enumerate(outputs):
        (data / f"output_{j}.pb").write_bytes(
            numpy_helper.from_array(value, model.graph.output[j].name)
            .SerializeToString())
    text = {"name": folder.name, "operator": "(random)", "rtol": 1e-3,
            "atol": 2e-5, "compare": "values"}
    (folder / "case.json").write_text(json.dumps(text, indent=1) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("out_dir", type=pathlib.Path)
    args = parser.parse_args()
    if args.out_dir.exists() and any(args.out_dir.iterdir()):
        if not list(args.out_dir.glob("random_*_*/case.json")):
            sys.exit(f"{args.out_dir} holds something else")
        shutil.rmtree(args.out_dir)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = (
        onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL)
    n = skipped = 0
    while n < args.count:
        rng = np.random.default_rng((args.seed, n + skipped))
        model, inputs = make_model(rng)
        try:
            session = onnxruntime.InferenceSession(
                model.SerializeToString(), options,
                providers=["CPUExecutionProvider"])
            outputs = session.run(None, inputs)
        except Exception as error:  # noqa: BLE001: any reason to reject
            skipped += 1
            if skipped > args.count:
                sys.exit(f"most models are rejected, the last one: {error}")
            continue
        write_case(args.out_dir / f"random_{args.seed}_{n:04}", model, inputs,
                   outputs)
        n += 1
    print(n, "cases,", skipped, "skipped")


if __name__ == "__main__":
    main()
