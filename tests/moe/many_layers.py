#!/usr/bin/env python3
"""Many layers of many experts, each a loop that was unrolled: about 200,000 nodes.

usage: many_layers.py --moec MOEC [--layers L] [--experts E]

All are found; recognition takes no more than 10 s and compiling no more than 60 s of
processor time. Prints what they took.
"""
import argparse
import json
import pathlib
import re
import resource
import subprocess
import sys
import tempfile

import numpy as np

import forms
import layers
from graph import F32, Graph

K, WIDTH = 2, 8
RECOGNITION, COMPILE = 10.0, 60.0  # seconds, the first by the clock on the wall


def make_model(n_layers, n_experts):
    """One after the other, each added to what comes in."""
    g = Graph(np.random.default_rng(1), WIDTH, WIDTH)
    g.inputs.append(("x", F32, ["T", WIDTH]))
    spec = {"router": "softmax_topk_renormalised", "experts": n_experts, "k": K,
            "kind": "gated", "act": "silu"} | forms.FORMS["looped"]
    x = "x"
    for _ in range(n_layers):
        x = g.op("Add", x, layers.make_layer(g, spec, x))
    g.outputs.append((x, F32, ["T", WIDTH]))
    return len(g.nodes), g.model(check=False)


def processor_seconds():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def compile_model(moec, folder, model):
    """Report, seconds of both runs of the pass, and seconds of all."""
    path, report = folder / "model.onnx", folder / "report.json"
    path.write_bytes(model.SerializeToString())
    before = processor_seconds()
    done = subprocess.run([moec, path, "-o", folder / "model.so", f"--report={report}",
                           "--time-passes"], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"exit {done.returncode}: {done.stderr.strip()[:500]}")
    times = re.findall(r"^\s*([0-9.]+)\s+[0-9.]+\s+moe(?:,|$)", done.stderr, re.MULTILINE)
    recognition = sum(float(each) for each in times) / 1000
    return json.loads(report.read_text()), recognition, processor_seconds() - before


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--moec", required=True)
    parser.add_argument("--layers", type=int, default=64)
    parser.add_argument("--experts", type=int, default=128)
    args = parser.parse_args()
    n_nodes, model = make_model(args.layers, args.experts)
    with tempfile.TemporaryDirectory() as folder:
        report, recognition, seconds = compile_model(args.moec, pathlib.Path(folder), model)
    found = [(one["experts"], one["k"]) for one in report["layers"]]
    if found != [(args.experts, K)] * args.layers:
        sys.exit(f"{len(found)} layers in the report: {sorted(set(found))}")
    print(f"{n_nodes} nodes, {args.layers} layers of {args.experts} experts: recognition "
          f"{recognition:.2f} s, all {seconds:.1f} s of processor time")
    if recognition > RECOGNITION or seconds > COMPILE:
        sys.exit(f"more than {RECOGNITION} s or {COMPILE} s")


if __name__ == "__main__":
    main()
