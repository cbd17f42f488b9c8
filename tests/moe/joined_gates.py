#!/usr/bin/env python3
"""Gates of several consumers of one input, some soft, some routers of layers: computed in
one product where that gives the same bits, apart where it would not.

usage: joined_gates.py --moec MOEC [--count N] [--only I] [--seed S]
"""
import argparse
import os
import pathlib
import subprocess
import sys
import tempfile

import numpy as np

from compiled import Compiled
from graph import F32, Graph

D, H = 40, 8
PASSES = ("dce,canonicalize,cse,sizes,canonicalize,cse,dce,fold,canonicalize,cse,dce,moe,"
          "canonicalize,cse,dce,moe_router,dce,moe_gates,moe_route,dce")


def logits(g, x, n, rank):
    w, bias = g.random(D, n), g.pick(True, False)
    if rank == 2 and g.pick(True, False):
        more = [g.const(g.random(n))] if bias else []
        return g.op("Gemm", x, g.const(np.ascontiguousarray(w.T)), *more, transB=1)
    y = g.op("MatMul", x, g.const(w))
    return g.op("Add", y, g.const(g.random(n))) if bias else y


def layer(g, x, scores, n, k):
    """Experts of 8 neurons, gathered by their numbers."""
    w, index = g.op("TopK", g.op("Softmax", scores, axis=-1), g.const([k]), n_out=2, axis=-1)
    up, down = g.const(g.random(n, D, H)), g.const(g.random(n, H, D))
    x, w, index = g.reshape(x, -1, D), g.reshape(w, -1, k), g.reshape(index, -1, k)
    h = g.op("Relu", g.op("MatMul", g.unsqueeze(x, 1, 2), g.op("Gather", up, index)))
    y = g.squeeze(g.op("MatMul", h, g.op("Gather", down, index)), 2)
    return g.sum(g.op("Mul", y, g.unsqueeze(w, 2)), 1)


def build(rng):
    g = Graph(rng)
    rank = g.pick(2, 3)
    shape = ["T", D] if rank == 2 else ["B", "S", D]
    for name in "xy":
        g.inputs.append((name, F32, shape))
    wide = {"x": 0, "y": 0}
    for i in range(int(rng.integers(2, 6))):
        g.prefix = f"L{i}/"
        n, x = int(rng.choice([1, 6, 15, 16, 20, 32, 48])), g.pick("x", "x", "x", "y")
        scores = logits(g, x, n, rank)
        kind = g.pick("soft", "layer") if n >= 16 else "soft"
        if kind == "layer":
            g.outputs.append((layer(g, x, scores, n, g.pick(1, 2)), F32, ["N", D]))
        else:
            gate = g.op("Softmax", scores, axis=-1) if n > 1 else g.op("Sigmoid", scores)
            g.outputs.append((gate, F32, [*shape[:-1], n]))
        wide[x] += n >= 16
        g.narrow = getattr(g, "narrow", 0) + (n < 16)
    g.wide = wide
    return g, rank


def products(args, folder):
    """How many products there are outside of layers."""
    out = pathlib.Path(folder) / "model.moeir"
    subprocess.run([args.moec, f"{folder}/model.onnx", "-o", out, f"--passes={PASSES}"],
                   check=True, capture_output=True)
    return sum(line.startswith("  %") and " = matmul(" in line
               for line in out.read_text().splitlines())


def one(args, index):
    rng = np.random.default_rng([args.seed, index])
    g, rank = build(rng)
    sizes = [int(rng.choice([1, 2, 30]))] if rank == 2 else [2, int(rng.choice([1, 9]))]
    inputs = {n: rng.standard_normal([*sizes, D]).astype(np.float32) for n in "xy"}
    with tempfile.TemporaryDirectory() as folder:
        run = Compiled(args.moec, folder, g.model(), inputs)
        got, apart = run.run(), run.run("--disable-pass=moe_gates")
        if got is None or apart is None:
            return run.error
        count = products(args, folder)
    for i, (a, b) in enumerate(zip(got, apart, strict=True)):
        if a.tobytes() != b.tobytes():
            return f"output {i} has other bits"
    most = g.narrow + sum(n > 0 for n in g.wide.values())
    return f"{g.wide}, {g.narrow} narrow: {count} products" if count > most else None


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--moec", required=True)
    parser.add_argument("--count", type=int, default=30)
    parser.add_argument("--only", type=int)
    parser.add_argument("--seed", type=int, default=int(os.environ.get("MOEC_TEST_SEED", "1")))
    args = parser.parse_args()
    failures = 0
    for index in range(args.count) if args.only is None else [args.only]:
        problem = one(args, index)
        if problem is not None:
            failures += 1
            print(f"--only {index} --seed {args.seed}: {problem}")
    print(f"{failures} failures")
    sys.exit(failures > 0)


if __name__ == "__main__":
    main()
