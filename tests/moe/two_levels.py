#!/usr/bin/env python3
"""Gates of two levels in drawn spellings: a router chooses groups, and each group's gate
some of its experts. Only the chosen groups' gates are evaluated, with the same bits as
when all are; where the others' logits are needed, all are.

usage: two_levels.py --moec MOEC [--count N] [--only I] [--seed S]
"""
import argparse
import os
import pathlib
import subprocess
import sys
import tempfile

import numpy as np

from compiled import Compiled, difference
from graph import BOOL, F32, I64, Graph

D, H = 24, 8


class Sizes:
    """Groups, groups chosen, experts of each, experts chosen in each."""

    def __init__(self, rng):
        self.G, self.M = int(rng.choice([8, 12, 16, 32])), int(rng.choice([4, 8, 16, 20, 32]))
        self.a, self.b = int(rng.integers(1, 4)), int(rng.integers(1, 4))
        self.miss = None  # what makes all gates needed


# ---- Gates --------------------------------------------------------------------


def outer(g, s, x, scores=None):
    """Groups i64[T, a], their weights f32[T, a]; a miss: by what the gates say."""
    if s.miss == "groups' best":
        scores = g.max(scores, 2)
    else:
        scores = g.op("Add", g.op("MatMul", x, g.const(g.random(D, s.G))),
                      g.const(g.random(s.G)))
    kind = g.pick("after", "before", "sigmoid")
    if kind == "before":
        scores = g.op("Softmax", scores, axis=-1)
    if kind == "sigmoid":
        scores = g.op("Sigmoid", scores)
    values, index = g.op("TopK", scores, g.const([s.a]), n_out=2, axis=-1)
    return index, g.op("Softmax", values, axis=-1) if kind == "after" else values


def logits(g, s, x):
    """All groups' logits f32[T, G, M]."""
    w, bias = g.random(s.G, D, s.M), g.pick(None, g.random(s.G, s.M))
    if s.numbers == "ties":
        w, bias = np.round(w), None
    if s.numbers == "far apart":  # scores of 0
        w = w * np.float32(60)
    kind = g.spelling = g.pick("one", "gemm", "stack", "joined", "batched", "einsum", "turned")
    if kind in ("one", "gemm"):
        flat = np.ascontiguousarray(w.transpose(1, 0, 2).reshape(D, -1))
        if kind == "gemm":
            y = g.op("Gemm", x, g.const(np.ascontiguousarray(flat.T)), transB=1)
        else:
            y = g.op("MatMul", x, g.const(flat))
        late = g.pick(True, False)
        if bias is not None and not late:
            y = g.op("Add", y, g.const(bias.reshape(-1)))
        y = g.reshape(y, -1, s.G, s.M)
        return g.op("Add", y, g.const(bias)) if bias is not None and late else y
    if kind in ("stack", "joined"):
        parts = []
        for i in range(s.G):
            y = g.op("Gemm", x, g.const(np.ascontiguousarray(w[i].T)), transB=1) \
                if s.M % 8 else g.op("MatMul", x, g.const(w[i]))
            if bias is not None:
                y = g.op("Add", y, g.const(bias[i]))
            parts.append(g.unsqueeze(y, 1) if kind == "stack" else y)
        y = g.op("Concat", *parts, axis=1)
        return y if kind == "stack" else g.reshape(y, -1, s.G, s.M)
    if kind == "batched":
        y = g.op("MatMul", g.unsqueeze(x, 0), g.const(w))
        if bias is not None:
            y = g.op("Add", y, g.const(bias[:, None, :]))
        return g.op("Transpose", y, perm=[1, 0, 2])
    if kind == "turned":  # [T, 1, 1, D] * [G, D, M]
        y = g.op("MatMul", g.unsqueeze(x, 1, 2), g.const(w))
        y = g.squeeze(y, 2)
    else:
        y = g.op("Einsum", x, g.const(w), equation=g.pick("td,gdm->tgm", "bd,edn->ben"))
    return y if bias is None else g.op("Add", y, g.const(bias))


def chosen_inside(g, s, scores, groups):
    """The best b of each of `groups` rows: numbers and weights [T, groups, b]."""
    kind = g.pick("after", "before", "divided")
    if kind == "before" or kind == "divided":
        scores = g.op("Softmax", scores, axis=-1)
    values, index = g.op("TopK", scores, g.const([s.b]), n_out=2, axis=-1)
    if kind == "after":
        values = g.op("Softmax", values, axis=-1)
    if kind == "divided":
        values = g.op("Div", values, g.sum(values, -1, keepdims=1))
    return index, values


def missed(g, s, scores):
    if s.miss == "output":
        g.outputs.append((scores, F32, ["T", s.G, s.M]))
    if s.miss == "softmax over all":
        scores = g.op("Softmax", g.reshape(scores, -1, s.G * s.M), axis=-1)
        scores = g.reshape(scores, -1, s.G, s.M)
    return scores


def at_groups(g, s, x, group, width):
    """x[T, G, width] at group[T, a]."""
    kind = g.pick("elements", "nd", "pairs")
    if kind == "elements":
        index = g.unsqueeze(group, 2)
        shape = g.op("Concat", g.size(x, 0), g.const([s.a, width]), axis=0)
        return g.op("GatherElements", x, g.op("Expand", index, shape), axis=1)
    if kind == "nd":
        return g.op("GatherND", x, g.unsqueeze(group, 2), batch_dims=1)
    token = g.unsqueeze(g.range(g.size(x, 0)), 1)
    token = g.op("Expand", token, g.const([1, s.a]))
    pairs = g.op("Concat", g.unsqueeze(token, 2), g.unsqueeze(group, 2), axis=2)
    return g.op("GatherND", x, pairs)


# ---- Layers -------------------------------------------------------------------


def whole_numbers(g, s, group, own):
    """Numbers of experts [T, a * b]."""
    first = g.op("Mul", g.unsqueeze(group, 2), g.const(np.int64(s.M)))
    return g.reshape(g.op("Add", first, own), -1, s.a * s.b)


def by_gathers(g, s, x):
    """Experts [T, k] and weights; the groups' logits, or their best, are gathered."""
    scores = logits(g, s, x)
    group, weight = outer(g, s, x, scores)
    scores = missed(g, s, scores)
    if g.pick(True, False):
        own, inner = chosen_inside(g, s, at_groups(g, s, scores, group, s.M), s.a)
    else:
        own, inner = chosen_inside(g, s, scores, s.G)
        own, inner = (at_groups(g, s, v, group, s.b) for v in (own, inner))
    w = g.op("Mul", g.unsqueeze(weight, 2), inner)
    return whole_numbers(g, s, group, own), g.reshape(w, -1, s.a * s.b)


def by_gates(g, s, x):
    """Gates [T, E]: zero off the chosen experts."""
    scores = logits(g, s, x)
    group, weight = outer(g, s, x, scores)
    scores = missed(g, s, scores)
    zeros = g.zeros(g.op("Shape", scores))
    of_group = g.op("ScatterElements", g.zeros(
        g.op("Concat", g.size(x, 0), g.const([s.G]), axis=0)), group, weight, axis=1)
    own, inner = chosen_inside(g, s, scores, s.G)
    inner = g.op("ScatterElements", zeros, own, inner, axis=2)
    w = g.op("Mul", g.unsqueeze(of_group, 2), inner)
    return g.reshape(w, -1, s.G * s.M)


def by_masks(g, s, x):
    """The best of all scores, those of other groups masked."""
    scores = logits(g, s, x)
    group, weight = outer(g, s, x, scores)
    scores = missed(g, s, scores)
    kind = "sum" if s.miss == "soft mask" else g.pick("fill", "weights", "sum")
    base = g.zeros(g.op("Concat", g.size(x, 0), g.const([s.G]), axis=0))
    if kind == "weights":
        mask = g.op("ScatterElements", base, group, weight, axis=1)
        inner = g.op("Softmax", scores, axis=-1)
        masked = g.op("Mul", inner, g.unsqueeze(mask, 2))
    else:
        ones = g.op("Expand", g.const(np.float32(1)), g.op("Shape", group))
        mask = g.unsqueeze(g.op("ScatterElements", base, group, ones, axis=1), 2)
        low = g.const(np.float32(-1e3 if s.miss == "soft mask" else -np.inf))
        if kind == "sum":
            masked = g.op("Add", scores, g.op("Where", g.cast(mask, BOOL),
                                              g.const(np.float32(0)), low))
        else:
            masked = g.op("Where", g.cast(mask, BOOL), scores, low)
    values, index = g.op("TopK", g.reshape(masked, -1, s.G * s.M),
                         g.const([s.a * s.b]), n_out=2, axis=-1)
    if kind != "weights":
        values = g.op("Softmax", values, axis=-1)
    elif g.pick(True, False):
        values = g.op("Div", values, g.sum(values, -1, keepdims=1))
    return index, values


def masked_experts(g, s, x, index, weight):
    """Each expert for all tokens, by the weight of its number."""
    k, total = s.a * s.b, None
    for e in range(s.G * s.M):
        mine = g.cast(g.op("Equal", index, g.const(np.int64(e))), F32)
        gate = g.sum(g.op("Mul", mine, g.reshape(weight, -1, k)), 1, keepdims=1)
        up, down = g.const(g.random(D, H)), g.const(g.random(H, D))
        y = g.op("MatMul", g.op("Relu", g.op("MatMul", x, up)), down)
        total = y if total is None else g.op("Add", total, g.op("Mul", y, gate))
        total = g.op("Mul", y, gate) if e == 0 else total
    return total


def experts(g, s, x, index, weight):
    """Experts gathered by their numbers."""
    k = s.a * s.b
    if s.G * s.M <= 64:
        return masked_experts(g, s, x, index, weight)
    up, down = g.const(g.random(s.G * s.M, D, H)), g.const(g.random(s.G * s.M, H, D))
    rows = g.unsqueeze(x, 1, 2)
    h = g.op("Relu", g.op("MatMul", rows, g.op("Gather", up, index)))
    y = g.squeeze(g.op("MatMul", h, g.op("Gather", down, index)), 2)
    return g.sum(g.op("Mul", y, g.reshape(weight, -1, k, 1)), 1)


def dense_experts(g, s, x, gate):
    total = None
    for e in range(s.G * s.M):
        up, down = g.const(g.random(D, H)), g.const(g.random(H, D))
        y = g.op("MatMul", g.op("Relu", g.op("MatMul", x, up)), down)
        y = g.op("Mul", y, g.slice(gate, e, e + 1, 1))
        total = y if total is None else g.op("Add", total, y)
    return total


FORMS = {"gathers": by_gathers, "masks": by_masks, "gates": by_gates}


MISSES = ("output", "softmax over all", "soft mask", "groups' best")


def build(rng, form=None):
    g, s = Graph(rng), Sizes(rng)
    s.numbers = g.pick("drawn", "ties", "far apart")
    g.prefix = "L0/"
    g.inputs.append(("x", F32, ["T", D]))
    form = form or g.pick("gathers", "masks", "gates")
    if g.pick(0, 0, 0, 1):
        s.miss = g.pick(*MISSES)
        form = "masks" if s.miss == "soft mask" else form
    if form == "gates":
        s.G, s.M = 8, int(rng.choice([4, 16]))
        y = dense_experts(g, s, "x", by_gates(g, s, "x"))
    else:
        y = experts(g, s, "x", *FORMS[form](g, s, "x"))
    g.outputs.append((y, F32, ["T", D]))
    return g, s, form


def pays(g, s, form):
    """Whether the chosen groups' gates have clearly fewer columns than all."""
    wanted = s.a
    if s.miss is not None:
        return False
    if form == "masks":
        wanted += -(-s.a * s.b // s.M)
        if wanted >= s.G:
            return False
    joined = g.spelling in ("one", "gemm", "einsum")
    panels = s.M if s.M < 16 and not joined else -(-s.M // 32) * 32
    most = s.G * (s.M if joined else panels)
    return wanted * panels * (2 if form == "masks" else 4 / 3) <= most


PASSES = ("dce,canonicalize,cse,sizes,canonicalize,cse,dce,fold,canonicalize,cse,dce,moe,"
          "canonicalize,cse,dce,topk_sums,dce,moe_groups,dce")


def groups_only(args, folder, s):
    """Whether the gates' product became one of routes to groups."""
    out = pathlib.Path(folder) / "model.moeir"
    subprocess.run([args.moec, f"{folder}/model.onnx", "-o", out, f"--passes={PASSES}"],
                   check=True, capture_output=True)
    return f"{{experts = {s.G}, k = " in out.read_text()


def one(args, index):
    rng = np.random.default_rng([args.seed, index])
    g, s, form = build(rng, args.form)
    tokens = int(rng.choice([0, 1, 3, 40]))
    what = f"{form}, {g.spelling}, {vars(s)}, {tokens} tokens"
    x = rng.standard_normal((tokens, D)).astype(np.float32)
    if s.numbers == "ties":
        x = np.round(x)
    with tempfile.TemporaryDirectory() as folder:
        run = Compiled(args.moec, folder, g.model(), {"x": x})
        got, report = run.run_and_report()
        if got is None:
            return what + ": " + run.error
        same, plain = run.run("--disable-pass=moe_groups"), run.run("--disable-pass=moe,moe_groups")
        if same is None or plain is None:
            return what + ": " + run.error
        found = groups_only(args, folder, s)
    if found != pays(g, s, form):
        return f"{what}: {'only some' if found else 'all'} gates are evaluated"
    if len(report["layers"]) != 1:
        return f"{what}: {len(report['layers'])} layers"
    if any(a.tobytes() != b.tobytes() for a, b in zip(got, same, strict=True)):
        return f"{what}: other bits, {difference(got[0], same[0])}"
    problem = difference(got[0], plain[0])
    return None if problem is None else f"{what}: {problem}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--moec", required=True)
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--only", type=int)
    parser.add_argument("--form", choices=FORMS)
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
