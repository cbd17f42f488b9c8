#!/usr/bin/env python3
"""Experts of any structure, rows that are sequences or images, banks around an attention.

usage: structures.py --moec MOEC [--only NAME] [--part N]

Each model has one layer of four experts: recurrent ones, convolutions, norms, pooling,
attention within a sample, tables, running sums and so on; combined by masks, by rows
found with NonZero, by a stack that is picked from, by Where. The layer is in the report
once, with its experts and k, and outputs agree with a run without recognition, and with
ONNX Runtime where that is installed. Experts whose samples meet are not recognised.
"""
import argparse
import pathlib
import sys
import tempfile
import zlib

import numpy as np

from compiled import Compiled, difference
from graph import F32, I64, Graph

try:
    import onnxruntime
except ImportError:
    onnxruntime = None

E, H = 4, 8


def linear(g, x, n=H):
    return g.op("Add", g.op("MatMul", x, g.const(g.random(H, n))), g.const(g.random(n)))


def turned(g, x):
    return g.op("Transpose", x, perm=[0, 2, 1])


def recurrent(kind, gates, whole=True, batch=1, **attributes):
    """x[B, S, H]; results of all steps, or the last state. batch = 0: along samples."""
    n = 2 if attributes.get("direction") == "bidirectional" else 1
    hidden = H // n

    def expert(g, x):
        x = g.op("Transpose", x, perm=[1, 0, 2]) if batch == 1 else x
        w = g.const(g.random(n, gates * hidden, H))
        r = g.const(g.random(n, gates * hidden, hidden))
        bias = g.const(g.random(n, 2 * gates * hidden))
        y = g.op(kind, x, w, r, bias, n_out=3 if kind == "LSTM" else 2, hidden_size=hidden,
                 **attributes)
        if not whole:
            return g.squeeze(y[1], 0)
        if batch == 0:
            return g.squeeze(y[0], 1)
        y = g.op("Transpose", y[0], perm=[2, 0, 1, 3])
        return g.op("Reshape", y, g.const([0, 0, -1]))
    return expert


def attention(g, x):
    q, k, v = (linear(g, x) for _ in range(3))
    scores = g.op("MatMul", q, turned(g, k))
    return linear(g, g.op("MatMul", g.op("Softmax", scores, axis=-1), v))


def convolution(g, x):
    y = g.op("Relu", g.op("Conv", turned(g, x), g.const(g.random(H, H, 3)), pads=[1, 1]))
    return turned(g, g.op("Conv", y, g.const(g.random(H, H, 1))))


def causal(g, x):
    y = g.op("Pad", turned(g, x), g.const([0, 0, 2, 0, 0, 0]))
    return turned(g, g.op("Conv", y, g.const(g.random(H, H, 3))))


def norm(g, x):
    x = g.op("LayerNormalization", x, g.const(1 + g.random(H)), g.const(g.random(H)))
    return linear(g, x)


def running(g, x):
    return g.op("CumSum", linear(g, x), g.const(np.int64(1)))


def greatest(g, x):
    h = linear(g, x)
    values, places = g.op("TopK", h, g.const([3]), n_out=2)
    zero = g.op("Mul", h, g.const(np.float32(0)))
    return linear(g, g.op("ScatterElements", zero, places, values, axis=2))


def mixed_features(g, x):
    picked = g.op("Gather", x, g.const([3, 1, 0, 2, 7, 6, 5, 4]), axis=2)
    return linear(g, g.op("Mul", picked, g.op("Sigmoid", linear(g, x))))


def pooled(g, x):
    return linear(g, g.op("Add", g.max(x, 1), g.op("ReduceMean", x, g.const([1]), keepdims=0)))


def table(g, ids):
    return linear(g, g.op("Gather", g.const(g.random(20, H)), ids))


def scale(g, x):
    return g.op("Conv", x, g.const(g.random(H, H, 1, 1)))


def transposed(g, x):
    return g.op("ConvTranspose", x, g.const(g.random(H, H, 2, 2)), strides=[2, 2])


def depthwise(g, x):
    y = g.op("Conv", x, g.const(g.random(H, 1, 3, 3)), group=H, pads=[1] * 4)
    return scale(g, g.op("MaxPool", y, kernel_shape=[2, 2], strides=[2, 2]))


def instance_norm(g, x):
    return scale(g, g.op("InstanceNormalization", x, g.const(1 + g.random(H)),
                         g.const(g.random(H))))


def resized(g, x):
    return g.op("Resize", scale(g, x), "", g.const(np.array([1, 1, 2, 2], np.float32)),
                mode="linear")


def squeezed(g, x):
    gate = g.op("Sigmoid", scale(g, g.op("GlobalAveragePool", x)))
    return g.op("Mul", scale(g, x), gate)


def averaged(g, x):
    return g.op("AveragePool", scale(g, x), kernel_shape=[3, 3], pads=[1] * 4)


def classes(g, x):
    y = g.op("Conv", x, g.const(g.random(H, H, 3, 3)), strides=[2, 2], pads=[1] * 4)
    return linear(g, g.op("Flatten", g.op("GlobalAveragePool", g.op("Relu", y))), 5)


def meeting(g, x):
    """A mean over samples of what the expert computes."""
    h = linear(g, x)
    return linear(g, g.op("Sub", h, g.op("ReduceMean", h, g.const([0]), keepdims=1)))


SEQUENCES = {
    "lstm": recurrent("LSTM", 4), "gru": recurrent("GRU", 3, linear_before_reset=1),
    "rnn": recurrent("RNN", 1), "last_state": recurrent("LSTM", 4, whole=False),
    "both_ways": recurrent("GRU", 3, direction="bidirectional"),
    "backwards": recurrent("RNN", 1, direction="reverse"),
    "attention": attention, "convolution": convolution, "causal": causal, "norm": norm,
    "running": running, "greatest": greatest, "mixed_features": mixed_features,
    "pooled": pooled}
IMAGES = {"transposed": transposed, "depthwise": depthwise, "instance_norm": instance_norm,
          "resized": resized, "squeezed": squeezed, "averaged": averaged, "classes": classes}
TABLES = {"table": table}
MEETING = {"samples_as_steps": recurrent("RNN", 1, batch=0), "meeting": meeting}


def router(g, features, k):
    scores = linear(g, features, E)
    values, index = g.op("TopK", scores, g.const([k]), n_out=2)
    return g.op("Softmax", values), index


def spread(g, x, rank):
    """[B] or [B, 1] as [B, 1, ..]."""
    return g.reshape(x, -1, *[1] * (rank - 1))


def dense(g, x, experts, w, index, rank):
    zero = g.zeros(g.op("Concat", g.size(index, 0), g.const([E]), axis=0))
    gates = g.op("ScatterElements", zero, index, w, axis=1)
    parts = [g.op("Mul", f(g, x), spread(g, g.slice(gates, e, e + 1, 1), rank))
             for e, f in enumerate(experts)]
    return g.op("Sum", *parts)


def rows(g, x, experts, w, index, rank):
    out = None
    for e, f in enumerate(experts):
        hits = g.op("NonZero", g.op("Equal", index, g.const(np.int64(e))))
        row = g.squeeze(g.slice(hits, 0, 1, 0), 0)
        y = f(g, g.op("Gather", x, row))
        weight = g.op("GatherND", w, g.op("Transpose", hits, perm=[1, 0]))
        y = g.op("Mul", y, spread(g, weight, rank))
        if out is None:
            shape = g.op("Concat", g.size(x, 0), *[g.size(y, d) for d in range(1, rank)], axis=0)
            out = g.zeros(shape)
        out = g.op("ScatterND", out, g.unsqueeze(row, 1), y, reduction="add")
    return out


def stacked(g, x, experts, w, index, rank):
    stack = g.op("Concat", *[g.unsqueeze(f(g, x), 1) for f in experts], axis=1)
    picked = g.op("GatherND", stack, g.unsqueeze(index, 2), batch_dims=1)
    return g.sum(g.op("Mul", picked, g.reshape(w, 0, 0, *[1] * (rank - 1))), 1)


def chosen(g, x, experts, w, index, rank):
    out = None
    for e, f in enumerate(experts):
        y = g.op("Mul", f(g, x), spread(g, w, rank))
        mask = spread(g, g.op("Equal", index, g.const(np.int64(e))), rank)
        out = g.op("Where", mask, y, g.const(np.float32(0)) if out is None else out)
    return out


COMBINES = {"dense": (dense, 2), "rows": (rows, 2), "stacked": (stacked, 2),
            "chosen": (chosen, 1)}


def layer(rng, kinds, combine, shape):
    g = Graph(rng)
    g.prefix = "L0/"
    put, k = COMBINES[combine]
    rank = 2 if kinds[0] in (pooled, classes, SEQUENCES["last_state"]) else len(shape)
    ids = kinds[0] is table
    sample = rng.integers(0, 20, shape) if ids else rng.normal(0, 1, shape).astype(np.float32)
    names = ["B", "S"] if ids else ["B", H, "Y", "X"] if len(shape) == 4 else ["B", "S", H]
    g.inputs = [("x", I64 if ids else F32, names), ("f", F32, ["B", H])]
    w, index = router(g, "f", k)
    y = put(g, "x", kinds, w, index, 3 if ids else rank)
    g.outputs.append((y, F32, None))
    features = rng.normal(0, 1, (shape[0], H)).astype(np.float32)
    return g.model(check=False), {"x": sample, "f": features}, [(E, k)]


def two_banks(rng, k, form, scaled):
    """Queries by a token's experts, one attention, and the same experts again."""
    g = Graph(rng)
    g.prefix = "L0/"
    g.inputs = [("x", F32, ["B", "S", H])]
    w, index = router(g, "x", k)
    flat = g.reshape(index, -1)
    heads = "bskh" if form == "slots_inside" else "bksh"
    first, second = g.const(g.random(E, H, H)), g.const(g.random(E, H, H))
    if form == "rows":
        token = g.reshape(g.op("Expand", g.unsqueeze("x", 2), g.const([1, 1, k, 1])), -1, 1, H)
        q = g.op("MatMul", token, g.op("Gather", first, flat))
        shape = g.op("Concat", g.op("Shape", index), g.const([H]), axis=0)
        q = g.op("Transpose", g.op("Reshape", q, shape), perm=[0, 2, 1, 3])
        heads = "bksh"
    else:
        q = g.op("Einsum", "x", g.op("Gather", first, index), equation=f"bsi,bskih->{heads}")
    keys = linear(g, "x")
    if scaled:
        q = g.op("Tanh", q)
    scores = g.op("Einsum", q, keys, equation=f"{heads},bth->bkst")
    a = g.op("Einsum", g.op("Softmax", scores, axis=-1), linear(g, "x"),
             equation=f"bkst,bth->{heads}")
    if form == "rows":
        a = g.reshape(g.op("Transpose", a, perm=[0, 2, 1, 3]), -1, 1, H)
        y = g.op("MatMul", a, g.op("Gather", second, flat))
        y = g.op("Mul", y, g.reshape(w, -1, 1, 1))
        shape = g.op("Concat", g.op("Shape", index), g.const([H]), axis=0)
        y = g.sum(g.op("Reshape", y, shape), 2)
    else:
        y = g.op("Einsum", a, g.op("Gather", second, index), w,
                 equation=f"{heads},bskhi,bsk->bsi")
    g.outputs.append((y, F32, None))
    return g.model(check=False), {"x": rng.normal(0, 1, (3, 5, H)).astype(np.float32)}, [(E, k)]


def cases():
    rng = np.random.default_rng(7)
    for kinds, shape in ((SEQUENCES, (5, 6, H)), (IMAGES, (5, H, 6, 4)), (TABLES, (5, 6))):
        for kind, expert in kinds.items():
            for combine in COMBINES:
                yield (f"{kind}/{combine}",
                       lambda e=expert, c=combine, s=shape: layer(rng, [e] * E, c, s))
    mixed = [SEQUENCES["lstm"], attention, convolution, norm]
    for combine in COMBINES:
        yield f"several/{combine}", lambda c=combine: layer(rng, mixed, c, (5, 6, H))
    for kind, expert in MEETING.items():
        for combine in COMBINES:
            yield (f"{kind}/{combine}",
                   lambda e=expert, c=combine: layer(rng, [e] * E, c, (5, 6, H))[:2] + ([],))
    for k in (1, 2):
        for form in ("rows", "slots_inside", "slots_outside"):
            for scaled in (False, True):
                yield (f"two_banks/{k}_{form}_{scaled}",
                       lambda k=k, f=form, s=scaled: two_banks(rng, k, f, s))


def check(moec, model, inputs, want, oracle=True):
    problems = []
    with tempfile.TemporaryDirectory() as folder:
        c = Compiled(moec, folder, model, inputs)
        got, report = c.run_and_report()
        plain = c.run("--disable-pass=moe") if got is not None else None
        if plain is None:
            return [c.error]
        found = sorted((layer["experts"], layer["k"]) for layer in report["layers"])
        if found != want:
            problems.append(f"layers {found}, expected {want}")
        outputs = [("a plain run", plain)]
        if onnxruntime is not None and oracle:
            options = onnxruntime.SessionOptions()
            options.log_severity_level = 4
            options.intra_op_num_threads = 1
            session = onnxruntime.InferenceSession(model.SerializeToString(), options,
                                                   providers=["CPUExecutionProvider"])
            outputs.append(("ONNX Runtime", session.run(None, inputs)))
        for name, expected in outputs:
            for g, e in zip(got, expected):
                wrong = difference(g, e)
                if wrong:
                    problems.append(f"against {name}: {wrong}")
    return problems


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--moec", required=True)
    parser.add_argument("--only", default="")
    parser.add_argument("--part", type=int, default=1)
    args = parser.parse_args()
    moec = str(pathlib.Path(args.moec).resolve())
    n = failures = 0
    for name, make in cases():
        if args.only not in name or zlib.crc32(name.encode()) % args.part != 0:
            continue
        n += 1
        # Its recurrent operators end the process where an expert has no rows.
        for problem in check(moec, *make(), oracle=not name.endswith("/rows")):
            print(f"{name}: {problem}")
            failures += 1
    print(f"{n} layers, {failures} failures")
    sys.exit(failures > 0 or n == 0)


if __name__ == "__main__":
    main()
