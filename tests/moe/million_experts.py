#!/usr/bin/env python3
"""A layer of a million experts of rank one, chosen by product keys: compiled, loaded and
run at a cost that does not grow with their number.

usage: million_experts.py --moec MOEC [--side N]

Weights are external data. Outputs equal NumPy's in f64. Bounded are the memory that the
compiler needs beyond the model, the memory of a run, pages of the compiled model that it
touches among it, and the time of a run against that with a hundredth of the experts.
"""
import argparse
import json
import pathlib
import resource
import subprocess
import sys
import tempfile

import numpy as np
from onnx import TensorProto, helper

from graph import F32, Graph

WIDTH, HALF, K, TOKENS = 32, 16, 8, 5
COMPILER_MEMORY = 200 << 20  # beyond the size of the model
RUN_MEMORY = 16 << 20  # beyond that with a hundredth of the experts
TIMES = 20  # as long as with those; scores take a tenth of them


class Weights:
    """A file of external data."""

    def __init__(self, path):
        self.path, self.file = path, open(path, "wb")

    def add(self, name, array):
        tensor = TensorProto(name=name, data_type=helper.np_dtype_to_tensor_dtype(array.dtype),
                             dims=array.shape, data_location=TensorProto.EXTERNAL)
        for key, value in (("location", self.path.name), ("offset", self.file.tell()),
                           ("length", array.nbytes)):
            tensor.external_data.add(key=key, value=str(value))
        array.tofile(self.file)
        return tensor


def choose(g, scores, shape, k):
    """The k best of two vectors of scores: TopK of each, then of their sums."""
    (a, i), (b, j) = (g.op("TopK", s, g.const([k]), n_out=2, axis=-1) for s in scores)
    sums = g.reshape(g.op("Add", g.unsqueeze(a, 2), g.unsqueeze(b, 1)), -1, k * k)
    first = g.op("Mul", i, g.const(np.int64(shape)))
    numbers = g.reshape(g.op("Add", g.unsqueeze(first, 2), g.unsqueeze(j, 1)), -1, k * k)
    best, at = g.op("TopK", sums, g.const([k]), n_out=2, axis=-1)
    return best, g.op("GatherElements", numbers, at, axis=1)


def build(side, down, up):
    """The graph and its small weights."""
    g = Graph(np.random.default_rng(1))
    g.inputs.append(("x", F32, ["T", WIDTH]))
    small = {"query": g.random(WIDTH, 2 * HALF), "a": g.random(HALF, side), "b": g.random(HALF, side)}
    query = g.op("MatMul", "x", g.const(small["query"]))
    halves = [g.slice(query, i * HALF, (i + 1) * HALF, 1) for i in range(2)]
    scores = [g.op("MatMul", h, g.const(small[n])) for h, n in zip(halves, "ab")]
    best, expert = choose(g, scores, side, K)
    weight = g.op("Softmax", best, axis=-1)
    rows = g.op("Mul", g.unsqueeze("x", 1), g.op("Gather", down, expert))
    hidden = g.op("Mul", g.op("Relu", g.sum(rows, 2)), weight)
    y = g.sum(g.op("Mul", g.unsqueeze(hidden, 2), g.op("Gather", up, expert)), 1)
    g.outputs.append((y, F32, ["T", WIDTH]))
    return g, small


def expected(x, side, small, down, up):
    """In f64, over all experts; scores are compared as f32 sums are."""
    q = x @ small["query"].astype(np.float64)
    a, b = q[:, :HALF] @ small["a"], q[:, HALF:] @ small["b"]
    y = np.zeros(x.shape)
    for t, (s, row) in enumerate(zip((a[:, :, None] + b[:, None, :]).reshape(len(x), -1), x)):
        best = np.argsort(-s, kind="stable")[:K + 1]
        if s[best[K - 1]] - s[best[K]] < 1e-4:
            sys.exit(f"token {t} is too close to a tie; draw another one")
        best = best[:K]
        e = np.exp(s[best] - s[best].max())
        for expert, weight in zip(best, e / e.sum()):
            y[t] += weight * max(0, row @ down[expert].astype(np.float64)) * up[expert]
    return y


def run(command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"exit {done.returncode}: {done.stderr[:500]}")
    return done.stdout


# Run by a process of its own, whose only child is the command.
PEAK = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024)
"""


def peak(command):
    """Runs it; the most memory that it had."""
    return int(run([sys.executable, "-c", PEAK, *command]).split()[-1])


def median(moec, library, folder):
    """Of the time of a run, in ms."""
    text = run([moec, "bench", library, f"--input=x={folder}/x.npy", "--threads=1"])
    return float(next(line.split()[1] for line in text.splitlines() if line.startswith("p50")))


def make(folder, side):
    rng = np.random.default_rng(3)
    weights = Weights(folder / "model.data")
    big = {n: rng.standard_normal((side * side, WIDTH), np.float32) for n in ("down", "up")}
    tensors = [weights.add(n, array) for n, array in big.items()]
    weights.file.close()
    g, small = build(side, "down", "up")
    graph = helper.make_graph(
        g.nodes, "million", [helper.make_tensor_value_info(*v) for v in g.inputs],
        [helper.make_tensor_value_info(*v) for v in g.outputs],
        list(g.constants.values()) + tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    return small, big


def check(condition, message):
    if not condition:
        sys.exit(message)


def test(moec, folder, side, x):
    """Compiles and runs; the time and the memory of a run."""
    folder.mkdir()
    np.save(folder / "x.npy", x)
    small, big = make(folder, side)
    library, report = folder / "model.so", folder / "report.json"
    size = sum(array.nbytes for array in big.values())
    used = peak([moec, folder / "model.onnx", "-o", library, f"--report={report}", "--isa=x86-64",
                 "-q"])
    check(used < size + COMPILER_MEMORY, f"compiling took {used >> 20} MiB")
    layers = json.loads(report.read_text())["layers"]
    found = [(one["experts"], one["k"]) for one in layers]
    check(found == [(side**2, K)], f"the report has {found}")
    used = peak([moec, "run", library, f"--input=x={folder}/x.npy", f"--output-dir={folder}",
                 "--output-format=npy", "--threads=1", "-q"])
    got = np.load(folder / "output_0.npy")
    want = expected(x.astype(np.float64), side, small, big["down"], big["up"])
    worst = np.abs(got - want).max()
    check(worst < 1e-4 * np.abs(want).max(), f"outputs differ by {worst}")
    return median(moec, library, folder), used


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--moec", required=True)
    parser.add_argument("--side", type=int, default=1000, help="of the square of experts")
    args = parser.parse_args()
    x = np.random.default_rng(2).standard_normal((TOKENS, WIDTH)).astype(np.float32)
    with tempfile.TemporaryDirectory() as name:
        few, little = test(args.moec, pathlib.Path(name) / "few", args.side // 10, x)
        many, much = test(args.moec, pathlib.Path(name) / "many", args.side, x)
    check(many < TIMES * few, f"a run takes {many} ms, {few} ms with a hundredth of the experts")
    check(much - little < RUN_MEMORY, f"a run takes {much - little >> 20} MiB more")
    print(f"{args.side**2} experts: {many:.4f} ms, with a hundredth {few:.4f} ms; "
          f"{(much - little) / 2**20:.1f} MiB more")


if __name__ == "__main__":
    main()
