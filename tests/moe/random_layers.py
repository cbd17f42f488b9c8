#!/usr/bin/env python3
"""Random Mixture-of-Experts layers: recognised as what they are, equal to plain runs.

usage: random_layers.py --moec MOEC [--seed N] [--count N] [--only I] [--part N]

Each layer is a router, a dispatch, experts and a combine in drawn spellings
(layers.py). Several stand in one model, which is compiled with recognition and
with --disable-pass=moe: outputs agree, and the report has each layer once, with
the right number of experts and k. Layers that are known not to be recognised yet
are in unrecognised.txt, checked both ways: a line of it that a layer matches
which is recognised, or that matches nothing of a whole run, is an error. The plain
runs are compared with ONNX Runtime where that is installed.
"""
import argparse
import collections
import pathlib
import sys
import tempfile

import numpy as np

import layers
from compiled import Compiled, difference, indices, layers_by_prefix, passes
from graph import F32, Graph

try:
    import onnxruntime
except ImportError:
    onnxruntime = None

HERE = pathlib.Path(__file__).resolve().parent
PER_MODEL = 6


def read_expected(path):
    """Lines "form=loop combine=sum|stack  # why": words that a specification has."""
    rules = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        words = line.split("#")[0].split()
        if words:
            rules.append((number, [(w.split("=")[0], w.split("=")[1].split("|")) for w in words]))
    return rules


def matching(rules, spec):
    return [number for number, rule in rules
            if all(str(spec.get(key)) in values for key, values in rule)]


def build(seed, index):
    """Model number `index` of a seed, its inputs and the layers' specifications."""
    rng = np.random.default_rng([seed, index])
    g = Graph(rng)
    g.inputs.append(("x", F32, ["T", layers.D]))
    specs = []
    for i in range(PER_MODEL):
        g.prefix = f"L{i}/"
        specs.append(layers.draw(rng))
        y = layers.make_layer(g, specs[i], "x")
        g.outputs.append((y, F32, ["T", layers.H]))
    n_tokens = (1, 2, 7, 16)[int(rng.integers(4))]
    x = rng.normal(0, 1, (n_tokens, layers.D)).astype(np.float32)
    return g.model(), {"x": x}, specs


def check_layer(spec, found):
    """What is wrong with the report of one layer."""
    if len(found) != 1:
        return [f"is in the report {len(found)} times"]
    layer, problems = found[0], []
    if layer["experts"] != spec["experts"]:
        problems.append(f"experts {layer['experts']} in the report")
    # The weights of a gate's column may be zero by chance: fewer experts count.
    may_vary = spec["form"] in ("capacity", "dense", "images") or spec.get("dispatch") in (
        "gate_column",)
    if layer["k"] != spec["k"] and not (layer["k"] == 0 and may_vary):
        problems.append(f"k = {layer['k']} in the report")
    return problems


def by_runtime(model, inputs):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options,
                                           providers=["CPUExecutionProvider"])
    return session.run(None, inputs)


class Run:
    """One run over many models."""

    def __init__(self, args):
        self.args = args
        self.rules = read_expected(args.expected)
        self.recognises = "moe" in passes(args.moec)
        self.used, self.seen, self.missed = set(), collections.Counter(), collections.Counter()
        self.failed = 0

    def fail(self, index, text):
        self.failed += 1
        if self.failed <= self.args.most:
            print(f"model {index} (--seed {self.args.seed} --only {index}): {text}",
                  flush=True)

    def check_model(self, index, folder):
        model, inputs, specs = build(self.args.seed, index)
        compiled = Compiled(self.args.moec, folder, model, inputs)
        plain = compiled.run(*(["--disable-pass=moe"] if self.recognises else []))
        if plain is None:
            return self.fail(index, compiled.error)
        outputs, report = compiled.run_and_report() if self.recognises else (plain, None)
        if outputs is None:
            return self.fail(index, compiled.error)
        wanted = by_runtime(model, inputs) if onnxruntime else plain
        found, stray = layers_by_prefix(report, len(specs)) if report else (None, [])
        for i, spec in enumerate(specs):
            self.seen[spec["form"]] += 1
            problems = [difference(plain[i], wanted[i])]
            if problems[0] is not None:
                problems[0] = "without recognition: " + problems[0]
            problems.append(difference(outputs[i], plain[i]))
            if report is not None:
                rules = matching(self.rules, spec)
                self.used.update(rules)
                self.missed[spec["form"]] += not found[i]
                wrong = check_layer(spec, found[i])
                if not rules:
                    problems += wrong
                elif not wrong:
                    lines = ", ".join(map(str, rules))
                    problems.append(f"is recognised: mend unrecognised.txt, line {lines}")
            for problem in filter(None, problems):
                self.fail(index, f"L{i} {layers.text_of(spec)}: {problem}")
        for layer in stray:
            self.fail(index, f"layer {layer['name']!r} is none of the model's")
        return None

    def check_all(self, folder):
        n = -(-self.args.count // PER_MODEL)
        for index in indices(self.args, n):
            self.check_model(index, folder)
        if self.recognises and self.args.only is None and self.args.part == 1:
            for number, _ in self.rules:
                if number not in self.used:
                    self.failed += 1
                    print(f"{self.args.expected.name}, line {number} matches no layer: remove it")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--moec", required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=2400, help="layers")
    parser.add_argument("--only", type=int, help="one model of the seed")
    parser.add_argument("--part", type=int, default=1, help="one of so many models")
    parser.add_argument("--most", type=int, default=20, help="failures to print")
    parser.add_argument("--expected", type=pathlib.Path, default=HERE / "unrecognised.txt")
    parser.add_argument("--keep", type=pathlib.Path, help="folder for the latest model")
    args = parser.parse_args()
    run = Run(args)
    print(f"seed {args.seed}, {args.count} layers"
          f"{'' if run.recognises else '; this moec recognises nothing'}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        if args.keep:
            args.keep.mkdir(parents=True, exist_ok=True)
        run.check_all(args.keep or folder)
    print(", ".join(f"{form} {n} ({run.missed[form]} not recognised)"
                    for form, n in sorted(run.seen.items())))
    print(f"{run.failed} failures")
    return run.failed > 0


if __name__ == "__main__":
    sys.exit(main())
