#!/usr/bin/env python3
"""The best of all sums of two vectors, in drawn spellings: equal to NumPy's to the bit,
ties, infinities and NaN included, and found without computing all sums.

usage: product_keys.py --moec MOEC [--count N] [--only I]
"""
import argparse
import os
import subprocess
import sys
import tempfile

import numpy as np

from compiled import Compiled
from graph import F32, I64, Graph


def table(g, a, b, turned):
    """a[.., n, 1] + b[.., 1, m] (turned: b's elements count the rows) as f32[.., n, m]."""
    rank, (n, m) = 3, (g.sizes[1], g.sizes[0]) if turned else g.sizes
    column, line = (b, a) if turned else (a, b)
    lead = [0, 0]
    column = g.pick(lambda: g.unsqueeze(column, rank), lambda: g.unsqueeze(column, -1),
                    lambda: g.reshape(column, *lead, n, 1))()
    line = g.pick(lambda: g.unsqueeze(line, rank - 1), lambda: g.unsqueeze(line, -2),
                  lambda: g.reshape(line, *lead, 1, m))()
    if g.pick(True, False):
        column = g.op("Expand", column, g.const([1, 1, n, m]))
    if g.pick(True, False):
        line = g.op("Expand", line, g.const([1, 1, n, 1]))
    return g.op("Add", *g.pick((column, line), (line, column)))


def build(g, k):
    """Values and indices; whether b's elements count the rows."""
    turned, (n, m) = g.pick(True, False), g.sizes
    sums = table(g, "a", "b", turned)
    flat = g.pick(lambda: g.reshape(sums, 0, 0, -1), lambda: g.reshape(sums, -1, n * m),
                  lambda: g.op("Flatten", sums, axis=2))()
    values, index = g.op("TopK", flat, g.const([k]), n_out=2, axis=-1,
                         sorted=g.pick(0, 1))
    if g.pick(True, False):
        values = g.op("GatherElements", flat, index, axis=g.pick(flat_rank(g, flat) - 1, -1))
    shape = g.const([-1, g.heads, k])
    g.outputs.append((g.op("Reshape", values, shape), F32, ["T", g.heads, k]))
    g.outputs.append((g.op("Reshape", index, shape), I64, ["T", g.heads, k]))
    return turned


def flat_rank(g, name):
    """Of a reshaped table: 3 where it keeps heads."""
    node = next(n for n in g.nodes if name in n.output)
    if node.op_type == "Flatten":
        return 2
    shape = next(c for c in g.constants.values() if c.name == node.input[1])
    return shape.dims[0]


def numbers(rng, shape):
    kind = rng.integers(5)
    x = rng.standard_normal(shape).astype(np.float32)
    if kind == 1:  # ties
        x = np.round(x)
    elif kind == 2:  # ties by rounding
        x[rng.random(shape) < 0.2] += 2**24
    elif kind == 3:
        x[rng.random(shape) < 0.3] = -np.inf
    elif kind == 4:
        x[rng.random(shape) < 0.01] = rng.choice([np.nan, np.inf])
    return x


def expected(a, b, k, turned):
    rows, columns = (b, a) if turned else (a, b)
    size = rows.shape[-1] * columns.shape[-1]
    with np.errstate(invalid="ignore"):
        sums = (rows[..., :, None] + columns[..., None, :]).reshape(*a.shape[:-1], size)
    keys = np.where(np.isnan(sums), np.inf, sums)
    index = np.lexsort((-keys, ~np.isnan(sums)), axis=-1)[..., :k]
    return np.take_along_axis(sums, index, -1), index


def without_tables(args, folder):
    """Whether the pass took the table away."""
    text = subprocess.run([args.moec, folder + "/model.onnx", "-o", folder + "/model.moeir",
                           "--passes=dce,canonicalize,cse,canonicalize,dce,topk_sums,dce"],
                          capture_output=True, text=True, check=False)
    if text.returncode != 0:
        return text.stderr
    ir = open(folder + "/model.moeir", encoding="utf-8").read()
    return None if "topk_sums" in ir and " add(" not in ir else ir


def one(args, index, seed):
    rng = np.random.default_rng([seed, index])
    g = Graph(rng)
    g.sizes = [int(rng.choice([16, 17, 40, 100])), int(rng.choice([16, 31, 64]))]
    g.heads, k = int(rng.integers(1, 4)), int(rng.choice([1, 2, 8, 16, 32]))
    tokens = int(rng.choice([0, 1, 7, 50]))
    for name, size in zip("ab", g.sizes):
        g.inputs.append((name, F32, ["T", g.heads, size]))
    turned = build(g, k)
    a, b = (numbers(rng, (tokens, g.heads, size)) for size in g.sizes)
    with tempfile.TemporaryDirectory() as folder:
        run = Compiled(args.moec, folder, g.model(), {"a": a, "b": b})
        got = run.run()
        if got is None:
            return run.error
        problem = without_tables(args, folder)
    if problem is not None:
        return "a table is left: " + problem[-800:]
    for what, ours, theirs in zip(("values", "indices"), got, expected(a, b, k, turned)):
        if not np.array_equal(ours, theirs, equal_nan=what == "values"):
            return f"{what} differ"
    return None


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--moec", required=True)
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--only", type=int)
    args = parser.parse_args()
    seed = int(os.environ.get("MOEC_TEST_SEED", "1"))
    failures = 0
    for index in range(args.count) if args.only is None else [args.only]:
        problem = one(args, index, seed)
        if problem is not None:
            failures += 1
            print(f"--only {index} (seed {seed}): {problem}")
    print(f"{failures} failures")
    sys.exit(failures > 0)


if __name__ == "__main__":
    main()
