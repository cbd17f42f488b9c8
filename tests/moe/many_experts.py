#!/usr/bin/env python3
"""Layers of a hundred experts, sorted into parts by a Split: found, and right.

usage: many_experts.py --moec MOEC

The rows of all experts together are a sum of as many sizes that only a run knows;
neither importing nor recognising may multiply such sums out.
"""
import argparse
import sys
import tempfile

import numpy as np

from compiled import Compiled, difference
from graph import F32, Graph

EXPERTS, WIDTH, K, LAYERS = 96, 4, 2, 2


def layer(g, x):
    scores = g.op("Softmax", g.op("MatMul", x, g.const(g.random(WIDTH, EXPERTS))), axis=-1)
    weights, index = g.op("TopK", scores, g.const([K]), n_out=2, axis=-1)
    ids = g.reshape(index, -1)
    _, order = g.op("TopK", ids, g.op("Shape", ids), n_out=2, axis=0, largest=0)
    token = g.op("Div", order, g.const(np.int64(K)))
    hits = g.op("Equal", g.unsqueeze(ids, 1), g.const(np.arange(EXPERTS)))
    counts = g.sum(g.cast(hits, 7), 0)
    parts = g.op("Split", g.op("Gather", x, token), counts, n_out=EXPERTS, axis=0)
    parts = [g.op("MatMul", p, g.const(g.random(WIDTH, WIDTH))) for p in parts]
    rows = g.op("Concat", *parts, axis=0)
    weight = g.unsqueeze(g.op("Gather", g.reshape(weights, -1), order), 1)
    zeros = g.op("Mul", x, g.const(np.float32(0)))
    return g.op("ScatterND", zeros, g.unsqueeze(token, 1), g.op("Mul", rows, weight),
                reduction="add")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--moec", required=True)
    args = parser.parse_args()
    g = Graph(np.random.default_rng(1))
    g.inputs.append(("x", F32, ["T", WIDTH]))
    x = "x"
    for _ in range(LAYERS):
        x = g.op("Add", x, layer(g, x))
    g.outputs.append((x, F32, ["T", WIDTH]))
    rows = np.random.default_rng(2).normal(size=(37, WIDTH)).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        run = Compiled(args.moec, folder, g.model(), {"x": rows})
        got, report = run.run_and_report()
        want = run.run("--disable-pass=moe") if got is not None else None
    if want is None:
        sys.exit(run.error)
    found = [(one["experts"], one["k"]) for one in report["layers"]]
    if found != [(EXPERTS, K)] * LAYERS:
        sys.exit(f"the report has {found}")
    problem = difference(got[0], want[0])
    if problem:
        sys.exit(problem)
    print(f"{LAYERS} layers of {EXPERTS} experts")


if __name__ == "__main__":
    main()
