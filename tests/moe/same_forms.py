#!/usr/bin/env python3
"""All forms of one layer become the same operations.

usage: same_forms.py --moec MOEC [--keep FOLDER] [KIND...]

The layers of forms.py are compiled with --dump-ir. The dump in front of the
lowering to kernels is compared with that of the first form: numbers and order of
values, names of symbols, places in the ONNX file and how many constants weights
are made of aside, they are the same text. Results are the same bits.
"""
import argparse
import hashlib
import json
import pathlib
import re
import subprocess
import sys
import tempfile

import numpy as np

import forms

KINDS = ("gated", "mlp_bias", "interleaved", "low_rank", "adapter")
ROUTERS = (("topk_softmax", 2), ("sigmoid_bias", 3), ("softmax_topk", 1), ("argmax", 1))
BEFORE = "lower"

VALUE = re.compile(r"%\d+")
PLACE = re.compile(r"\s+loc\(.*$")


def statements(lines):
    """Lines of a function's body, those of regions with their operation."""
    found, depth = [], 0
    for line in lines:
        line = PLACE.sub("", line).strip()
        if depth == 0:
            found.append([])
        found[-1].append(line)
        depth += line.endswith("{") - line.startswith("}")
    return found


def symbols_of(text):
    """Symbols in the order in which the body has them, those of the inputs first."""
    declared = re.search(r"^symbols \{(.*)\}$", text, re.M)
    names = re.findall(r"(\w+)(?: >=| in)", declared.group(1)) if declared else []
    body = text[text.index("func @"):]
    places = {n: re.search(rf"\b{n}\b(?! = )", body) for n in names}
    used = sorted((n for n in names if places[n]), key=lambda n: places[n].start())
    return {name: f"symbol_{i}" for i, name in enumerate(used)}


class Canon:
    """A value's name is a hash of what computes it; the rest of a function is its
    result and what has no result."""

    def __init__(self, text):
        for name, other in symbols_of(text).items():
            text = re.sub(rf"(?<![\w\"]){name}(?![\w\"]| = )", other, text)
        lines = text[text.index("func @"):].splitlines()
        head, body = lines[0], lines[1:lines.index("}")]
        self.names = {v: f"<in{i}>" for i, v in enumerate(VALUE.findall(head.split(")")[0]))}
        self.kept = []
        self.expressions = {}
        for statement in statements(body):
            self.add(statement)

    def add(self, statement):
        text = "\n".join(statement)
        outs = []
        result = re.match(r"((?:%\d+(?:, )?)+) = ", text)
        if result:
            outs = VALUE.findall(result.group(1))
            text = text[result.end():]
        own = {}

        def name(match):
            value = match.group(0)
            if value in self.names:
                return self.names[value]
            return own.setdefault(value, f"<{len(own)}>")

        text = self.without_stack(VALUE.sub(name, text))
        digest = hashlib.sha256(text.encode()).hexdigest()[:12]
        self.expressions[digest] = text
        for i, out in enumerate(outs):
            self.names[out] = f"<{digest}.{i}>" if len(outs) > 1 else f"<{digest}>"
        if not outs or text.startswith("return"):
            self.kept.append(text)

    def without_stack(self, text):
        """Panels of one constant and of a constant for each expert are the same bytes."""
        parts = re.findall(r"<([0-9a-f]{12})>", text)
        stack = text.startswith("panel_stack(")
        if not stack and not text.startswith("pack_panels("):
            return text
        if stack and not all(self.expressions[p].startswith("panels of weights") for p in parts):
            return text
        if not stack and not self.expressions[parts[0]].startswith("constant "):
            return text
        return "panels of weights" + text[text.rindex(" : "):]

    def first_difference(self, other):
        """The text of an operation that the other one lacks, or None."""
        if sorted(self.kept) == sorted(other.kept):
            return None
        mine, theirs = sorted(self.kept), sorted(other.kept)
        a = next((m for m in mine if m not in theirs), mine[0])
        b = next((t for t in theirs if t not in mine), theirs[0])
        while True:
            left, right = re.findall(r"<([0-9a-f]{12})", a), re.findall(r"<([0-9a-f]{12})", b)
            pairs = [(x, y) for x, y in zip(left, right) if x != y]
            shape = re.sub(r"<[0-9a-f]{12}(\.\d)?>", "<>", a)
            if shape != re.sub(r"<[0-9a-f]{12}(\.\d)?>", "<>", b) or not pairs:
                return f"\n  {b[:600]}\ninstead of\n  {a[:600]}"
            a, b = self.expressions[pairs[0][0]], other.expressions[pairs[0][1]]


def results(moec, folder, layer):
    """Of the compiled model, for rows that the seed gives."""
    rows = np.random.default_rng(layer.seed).normal(size=(9, layer.width))
    np.save(folder / "x.npy", rows.astype(np.float32))
    subprocess.run([moec, "run", folder / "model.so", f"--input=x={folder / 'x.npy'}",
                    f"--output-dir={folder}", "--output-format=npy", "-q"], check=True)
    return np.load(folder / "output_0.npy")


def compiled(moec, folder, form, layer):
    """The module in front of BEFORE, the layers of the report, results."""
    folder = folder / form
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(forms.make_model(form, layer).SerializeToString())
    report, ir = folder / "report.json", folder / "ir"
    done = subprocess.run(
        [moec, folder / "model.onnx", "-o", folder / "model.so", "--isa=x86-64",
         f"--dump-ir={ir}", f"--report={report}"], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{form}: exit {done.returncode}: {done.stderr.strip()}")
    stages = sorted(ir.glob("*.moeir"))
    at = next(i for i, stage in enumerate(stages) if stage.stem.split("-")[1] == BEFORE)
    found = json.loads(report.read_text())["layers"]
    return stages[at - 1].read_text(), found, results(moec, folder, layer)


def check(moec, folder, layer):
    """How many forms differ from the first one."""
    first, differ = None, 0
    for form in forms.FORMS:
        text, found, numbers = compiled(moec, folder, form, layer)
        if [(one["experts"], one["k"]) for one in found] != [(layer.experts, layer.k)]:
            differ += 1
            print(f"{layer.kind} {layer.router} {form}: the report has {found}")
            continue
        canon = Canon(text)
        if first is None:
            first, name, wanted = canon, form, numbers
            continue
        problem = first.first_difference(canon)
        if problem is None and numbers.tobytes() != wanted.tobytes():
            problem = " other results than those"
        if problem is not None:
            differ += 1
            print(f"{layer.kind} {layer.router}: {form} has{problem}\nof {name}", flush=True)
    return differ


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--moec", required=True)
    parser.add_argument("--keep", type=pathlib.Path, help="folder for models and dumps")
    parser.add_argument("kinds", nargs="*", metavar="KIND", help="of experts [some]")
    args = parser.parse_args()
    layers = [forms.Layer(kind=kind) for kind in args.kinds or KINDS]
    if not args.kinds:
        layers += [forms.Layer(router=router, k=k) for router, k in ROUTERS]
    failed = 0
    with tempfile.TemporaryDirectory() as scratch:
        for layer in layers:
            failed += check(args.moec, args.keep or pathlib.Path(scratch), layer)
    print(f"{len(layers)} layers in {len(forms.FORMS)} forms, {failed} differ")
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
