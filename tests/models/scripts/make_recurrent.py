#!/usr/bin/env python3
"""Writes the cases recurrent_*: RNN, GRU and LSTM.

usage: make_recurrent.py OUT_DIR

The reference is the equations of the operators in numpy, in f64. Where ONNX
Runtime has what a model needs, its results must be the same. Needs onnx 1.23,
onnxruntime 1.32 and numpy.
"""
import json
import pathlib
import sys

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
DEFAULTS = {"RNN": ["Tanh"], "GRU": ["Sigmoid", "Tanh"],
            "LSTM": ["Sigmoid", "Tanh", "Tanh"]}
TYPES = {"f16": (TensorProto.FLOAT16, np.float16),
         "bf16": (TensorProto.BFLOAT16, ml_dtypes.bfloat16),
         "f32": (TensorProto.FLOAT, np.float32),
         "f64": (TensorProto.DOUBLE, np.float64)}

# name: (function, default alpha, default beta); None: takes none.
ACTIVATIONS = {
    "Relu": (lambda x, a, b: np.maximum(x, 0), None, None),
    "Tanh": (lambda x, a, b: np.tanh(x), None, None),
    "Sigmoid": (lambda x, a, b: 1 / (1 + np.exp(-x)), None, None),
    "Affine": (lambda x, a, b: a * x + b, 1, 0),
    "LeakyRelu": (lambda x, a, b: np.where(x >= 0, x, a * x), .01, None),
    "ThresholdedRelu": (lambda x, a, b: np.where(x >= a, x, 0), 1, None),
    "ScaledTanh": (lambda x, a, b: a * np.tanh(b * x), 1, 1),
    "HardSigmoid": (lambda x, a, b: np.clip(a * x + b, 0, 1), .2, .5),
    "Elu": (lambda x, a, b: np.where(x >= 0, x, a * np.expm1(x)), 1, None),
    "Softsign": (lambda x, a, b: x / (1 + abs(x)), None, None),
    "Softplus": (lambda x, a, b: np.log1p(np.exp(x)), None, None),
}


# ---- The equations ----------------------------------------------------------

def functions(op, attributes, n_directions):
    """Activation functions by direction; those that scale take the next alpha
    and beta. Clipping is for gates: ONNX Runtime and OpenVINO give the cell to
    the last function of an LSTM as it is."""
    names = attributes.get("activations") or DEFAULTS[op] * n_directions
    alphas = list(attributes.get("activation_alpha", []))
    betas = list(attributes.get("activation_beta", []))
    clip = attributes.get("clip", np.inf)
    n, result = len(DEFAULTS[op]), []
    for name in names:
        f, alpha, beta = ACTIVATIONS[name]
        if alpha is not None and alphas:
            alpha = alphas.pop(0)
        if beta is not None and betas:
            beta = betas.pop(0)
        limit = np.inf if len(result) % n == 2 else clip
        result.append(lambda x, f=f, a=alpha, b=beta, limit=limit:
                      f(np.clip(x, -limit, limit), a, b))
    return [result[i * n:(i + 1) * n] for i in range(n_directions)]


def rnn(x, w, r, wb, rb, h, c, p, act, attributes):
    return act[0](x @ w.T + h @ r.T + wb + rb), c


def gru(x, w, r, wb, rb, h, c, p, act, attributes):
    wz, wr, wh = np.split(w, 3)
    rz, rr, rh = np.split(r, 3)
    wbz, wbr, wbh = np.split(wb, 3)
    rbz, rbr, rbh = np.split(rb, 3)
    f, g = act
    zt = f(x @ wz.T + h @ rz.T + wbz + rbz)
    rt = f(x @ wr.T + h @ rr.T + wbr + rbr)
    if attributes.get("linear_before_reset", 0):
        ht = g(x @ wh.T + rt * (h @ rh.T + rbh) + wbh)
    else:
        ht = g(x @ wh.T + (rt * h) @ rh.T + rbh + wbh)
    return (1 - zt) * ht + zt * h, c


def lstm(x, w, r, wb, rb, h, c, p, act, attributes):
    xi, xo, xf, xc = np.split(x @ w.T + h @ r.T + wb + rb, 4, axis=-1)
    pi, po, pf = np.split(p, 3)
    f, g, last = act
    it = f(xi + pi * c)
    ft = 1 - it if attributes.get("input_forget", 0) else f(xf + pf * c)
    c = ft * c + it * g(xc)
    ot = f(xo + po * c)
    return ot * last(c), c


STEP = {"RNN": rnn, "GRU": gru, "LSTM": lstm}


def recurrent(op, attributes, X, W, R, B=None, sequence_lens=None,
              initial_h=None, initial_c=None, P=None):
    """The results Y, Y_h, Y_c."""
    layout = attributes.get("layout", 0)
    way = attributes.get("direction", "forward")
    W, R = W.astype(np.float64), R.astype(np.float64)
    n, hidden = len(W), R.shape[2]
    X = X.astype(np.float64)
    if layout:
        X = X.swapaxes(0, 1)
    steps, batch = X.shape[:2]

    def state(given):
        if given is None:
            return np.zeros((n, batch, hidden))
        return (given.swapaxes(0, 1) if layout else given).astype(np.float64)

    h, c = state(initial_h).copy(), state(initial_c).copy()
    if B is None:
        B = np.zeros((n, 2 * GATES[op] * hidden))
    if P is None:
        P = np.zeros((n, 3 * hidden))
    B, P = B.astype(np.float64), P.astype(np.float64)
    if sequence_lens is None:
        sequence_lens = [steps] * batch
    acts = functions(op, attributes, n)
    Y = np.zeros((steps, n, batch, hidden))
    for d in range(n):
        backward = way == "reverse" or d == 1
        wb, rb = np.split(B[d], 2)
        for b, length in enumerate(sequence_lens):
            times = range(length)
            for t in reversed(times) if backward else times:
                h[d, b], c[d, b] = STEP[op](
                    X[t, b], W[d], R[d], wb, rb, h[d, b], c[d, b], P[d],
                    acts[d], attributes)
                Y[t, d, b] = h[d, b]
    if layout:
        return Y.transpose(2, 0, 1, 3), h.swapaxes(0, 1), c.swapaxes(0, 1)
    return Y, h, c


# ---- Models -----------------------------------------------------------------

class Model:
    """A graph of one or several nodes, of which all sizes are the same."""

    def __init__(self, opset, inputs=3, hidden=5, seed=0):
        self.opset, self.inputs, self.hidden = opset, inputs, hidden
        self.random = np.random.default_rng(seed)
        self.nodes, self.outputs, self.initializers = [], [], []
        self.given = {}      # name: (type, shape, value or None)
        self.meaning = []    # functions of the inputs to a list of outputs

    def weights(self, op, n, dtype, extra):
        g, h = GATES[op], self.hidden
        shapes = {"W": (n, g * h, self.inputs), "R": (n, g * h, h),
                  "B": (n, 2 * g * h), "P": (n, 3 * h)}
        return {k: (self.random.standard_normal(shapes[k]) * .6).astype(
            TYPES[dtype][1]) for k in shapes if k in "WR" or k in extra}

    def add(self, op, extra=(), outputs="Yhc", dtype="f32", steps="S",
            batch="N", constant=True, **attributes):
        """A node; extra: the optional inputs that it has."""
        n = 2 if attributes.get("direction") == "bidirectional" else 1
        layout = attributes.get("layout", 0)
        index, hidden = len(self.nodes), self.hidden
        order = ["X", "W", "R", "B", "sequence_lens", "initial_h",
                 "initial_c", "P"]
        onnx_type = TYPES[dtype][0]
        state = [batch, n, hidden] if layout else [n, batch, hidden]
        shape = {"X": [batch, steps, self.inputs] if layout
                 else [steps, batch, self.inputs],
                 "sequence_lens": [batch], "initial_h": state,
                 "initial_c": state}
        weights = self.weights(op, n, dtype, extra)
        names = []
        for key in order:
            if key not in extra and key not in "XWR":
                names.append("")
            elif key in weights and not constant:
                names.append(f"{key}{index}")
                self.given[names[-1]] = (onnx_type, weights[key].shape,
                                         weights[key])
            elif key in weights:
                names.append(f"{key}{index}")
                self.initializers.append(helper.make_tensor(
                    names[-1], onnx_type, weights[key].shape,
                    weights[key].tobytes(), raw=True))
            else:
                lengths = key == "sequence_lens"
                names.append(key if dtype == "f32" or lengths
                             else f"{key}_{dtype}")
                self.given.setdefault(names[-1], (
                    TensorProto.INT32 if lengths else onnx_type, shape[key],
                    None))
        while names[-1] == "":
            names.pop()
        results = [f"{k}{index}" if k in outputs else "" for k in "Yhc"]
        results = results[:3 if op == "LSTM" else 2]
        while results[-1] == "":
            results.pop()
        self.nodes.append(helper.make_node(
            op, names, results, hidden_size=hidden, **attributes))
        dims = {"Y": [batch, steps, n, hidden] if layout
                else [steps, n, batch, hidden], "h": state, "c": state}
        wanted = [k for k in "Yhc"[:len(results)] if k in outputs]
        for k in wanted:
            self.outputs.append(helper.make_tensor_value_info(
                f"{k}{index}", onnx_type, dims[k]))

        def meaning(values):
            operands = {}
            for key, name in zip(order, names):
                if name != "":
                    operands[key] = weights[key] if (
                        key in weights and constant) else values[name]
            result = dict(zip("Yhc", recurrent(op, attributes, **operands)))
            return [result[k].astype(TYPES[dtype][1]) for k in wanted]

        self.meaning.append(meaning)
        return self

    def proto(self):
        inputs = [helper.make_tensor_value_info(name, given[0], given[1])
                  for name, given in self.given.items()]
        graph = helper.make_graph(self.nodes, "recurrent", inputs,
                                  self.outputs, self.initializers)
        model = helper.make_model(graph, ir_version=8, opset_imports=[
            helper.make_opsetid("", self.opset)])
        onnx.checker.check_model(model)
        return model

    def data(self, steps, batch, lengths=None):
        """Inputs for these sizes, by name."""
        values = {}
        for name, (onnx_type, shape, weights) in self.given.items():
            if name == "sequence_lens":
                values[name] = np.array(lengths, np.int32)
                continue
            if weights is not None:
                values[name] = weights
                continue
            dims = [{"S": steps, "N": batch}.get(d, d) for d in shape]
            dtype = next(t for o, t in TYPES.values() if o == onnx_type)
            values[name] = self.random.standard_normal(dims).astype(dtype)
        return values

    def results(self, values):
        with np.errstate(over="ignore"):
            return [y for meaning in self.meaning for y in meaning(values)]


CASES = {}


def case(name, why, model, *sizes, rtol=1e-4, atol=1e-5):
    CASES["recurrent_" + name] = (why, model, sizes, rtol, atol)


ALL = ("B", "sequence_lens", "initial_h", "initial_c", "P")
case("lstm", "dynamic steps and batch, none of either included",
     Model(14).add("LSTM", ["B"]), (7, 2), (1, 1), (0, 2), (33, 1), (2, 0))
case("lstm_everything",
     "both directions, sequences of their own lengths, peepholes, clipping, "
     "activations with their scales",
     Model(14, inputs=4, hidden=19).add(
         "LSTM", ALL, direction="bidirectional", clip=1.25,
         activations=["HardSigmoid", "ScaledTanh", "Elu",
                      "Sigmoid", "LeakyRelu", "Affine"],
         activation_alpha=[.3, .9, .8, .2, .7],
         activation_beta=[.4, 1.1, .05]),
     (6, 3, [6, 1, 4]), (9, 2, [3, 9]), (5, 1, [2]))
case("lstm_coupled", "input_forget, reverse, peepholes without biases",
     Model(7).add("LSTM", ["sequence_lens", "P"], outputs="Yc",
                  direction="reverse", input_forget=1),
     (8, 2, [8, 5]), (3, 1, [1]))
case("lstm_few_steps", "few steps, known when compiling, written out",
     Model(22).add("LSTM", ["B", "sequence_lens"], steps=3,
                   direction="bidirectional"),
     (3, 2, [3, 2]), (3, 1, [1]))
case("lstm_batch_first", "layout 1 with initial states",
     Model(14).add("LSTM", ["B", "sequence_lens", "initial_h", "initial_c"],
                   direction="bidirectional", layout=1),
     (6, 2, [3, 6]), (11, 3, [11, 1, 10]))
case("gru", "one direction, initial state",
     Model(14, hidden=16).add("GRU", ["B", "initial_h"]), (9, 2), (1, 3))
case("gru_late_reset",
     "linear_before_reset, both directions, lengths, layout 1",
     Model(14, hidden=8).add(
         "GRU", ["B", "sequence_lens", "initial_h"], layout=1,
         direction="bidirectional", linear_before_reset=1),
     (7, 3, [2, 7, 5]), (10, 1, [10]))
case("gru_reverse", "reverse with clipping; only the last state is wanted",
     Model(3).add("GRU", ["B", "sequence_lens"], outputs="h", clip=.8,
                  direction="reverse"),
     (7, 3, [7, 2, 6]), (6, 1, [5]))
case("given_weights", "weights that are inputs of the model",
     Model(14, hidden=16).add("LSTM", ["B"], constant=False).add(
         "GRU", ["B"], constant=False), (9, 4), (6, 1))

# ONNX Runtime's defaults of some are 0, unlike those of the operators; at opset
# 3 it has no RNN.
others = [name for name, (_, alpha, _) in ACTIVATIONS.items() if alpha == 1]
every, ones = Model(14), Model(3)
for function in ACTIVATIONS:
    (ones if function in others else every).add(
        "RNN", ["B"], outputs="Y", activations=[function])
case("activations", "activation functions with their defaults", every, (6, 2))
case("scales_of_one", "activation functions whose scales are 1 by default",
     ones, (5, 2))

scaled = Model(1)
for function, scales in ACTIVATIONS.items():
    if scales[1] is not None:
        scaled.add("RNN", ["B", "initial_h"], outputs="h", output_sequence=0,
                   activations=[function], activation_alpha=[.75],
                   activation_beta=[.25])
case("scaled_activations", "those with alpha and beta, opset 1", scaled, (6, 2))

mixed = Model(22, hidden=16)
for kind in "f16", "bf16", "f64":
    mixed.add("LSTM", ["B", "initial_h"], dtype=kind)
    mixed.add("GRU", ["B"], dtype=kind, outputs="Y", linear_before_reset=1)
case("types", "16-bit floats are rounded once, at the end", mixed, (9, 2),
     rtol=8e-3, atol=4e-3)


# ---- Files ------------------------------------------------------------------

def check_by_runtime(name, model, values, expected):
    """Fails where ONNX Runtime gives something else; what it lacks is skipped."""
    if 0 in next(iter(values.values())).shape:  # there it aborts
        return
    try:
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), providers=["CPUExecutionProvider"])
        results = session.run(None, values)
    except Exception as error:  # its exceptions have no common class
        print(f"{name}: not checked: {str(error).splitlines()[0][:90]}")
        return
    for y, z in zip(results, expected):
        np.testing.assert_allclose(y, z, rtol=1e-4, atol=1e-5, err_msg=name)


def save(path, name, value, onnx_type):
    tensor = helper.make_tensor(name, onnx_type, value.shape,
                                np.ascontiguousarray(value).tobytes(), raw=True)
    path.write_bytes(tensor.SerializeToString())


def write(name, out):
    why, model, sizes, rtol, atol = CASES[name]
    proto = model.proto()
    folder = out / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(proto.SerializeToString())
    for i, size in enumerate(sizes):
        data = folder / f"test_data_set_{i}"
        data.mkdir(exist_ok=True)
        values = model.data(*size)
        results = model.results(values)
        check_by_runtime(f"{name} {i}", proto, values, results)
        for j, (key, value) in enumerate(values.items()):
            save(data / f"input_{j}.pb", key, value, model.given[key][0])
        for j, (info, value) in enumerate(zip(model.outputs, results)):
            save(data / f"output_{j}.pb", info.name, value,
                 info.type.tensor_type.elem_type)
    (folder / "case.json").write_text(json.dumps({
        "name": name, "source": "tests/models/scripts/make_recurrent.py",
        "moe_layers": [], "expect": "none", "why": why,
        "reference": "numpy, f64", "rtol": rtol, "atol": atol},
        indent=1) + "\n")


def main():
    onnxruntime.set_default_logger_severity(4)
    for name in CASES:
        write(name, pathlib.Path(sys.argv[1]))


if __name__ == "__main__":
    main()
