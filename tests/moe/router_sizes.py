#!/usr/bin/env python3
"""Routers of 1 to 4096 experts, of which 1 to all are chosen, perhaps from some groups
only, over several blocks of tokens: experts are NumPy's, in order, with ties, infinities and NaN; bits are those of
plain operations.

usage: router_sizes.py --moec MOEC [--count N] [--only I]
"""
import argparse
import os
import pathlib
import subprocess
import sys
import tempfile

import numpy as np

SIZES = (1, 2, 3, 7, 8, 15, 16, 17, 31, 32, 33, 60, 64, 127, 128, 129, 256, 511, 1000, 2048, 4096)
NORM = 'norm = ["sum"], norm_values = [0.0], weight = ["divide_by_norm"], weight_values = [0.0]'
SOFTMAX = 'score = ["softmax"], score_values = [0.0]'
KINDS = {
    "softmax over the selected": 'weight = ["softmax"], weight_values = [0.0]',
    "softmax": f"{SOFTMAX}, {NORM}",
    "sigmoid": f'score = ["sigmoid"], score_values = [0.0], {NORM}',
}
PLAIN = "moe_route,dce,unpack,widen,dce,layout,lower,dce,plan"


def numbers(rng, tokens, experts):
    """Logits, each row of a kind of its own."""
    x = rng.standard_normal((tokens, experts)).astype(np.float32)
    kind = rng.integers(0, 7, tokens)
    x[kind == 1] = np.round(x[kind == 1])
    x[kind == 2] = 0.5
    masked = (kind == 3)[:, None] & (rng.random(x.shape) < 0.6)
    x[masked] = -np.inf
    x[(kind == 4)[:, None] & (rng.random(x.shape) < 0.1)] = np.inf
    x[(kind == 5)[:, None] & (rng.random(x.shape) < 0.1)] = np.nan
    zero = (kind == 6)[:, None] & (rng.random(x.shape) < 0.8)
    x[zero] = np.where(rng.random(x.shape) < 0.5, 0.0, -0.0).astype(np.float32)[zero]
    return x, kind


def ordered(x, k):
    """TopK's order: NaN is the largest, 0 equals -0, the lower index first."""
    keys = np.where(np.isnan(x), np.inf, x)
    return np.lexsort((-keys, ~np.isnan(x)), axis=-1)[:, :k]


def limited(x, groups, best, kept, fill):
    """x where its group is one of the kept best, else fill."""
    parts = x.reshape(len(x), groups, x.shape[1] // groups)
    index = np.stack([ordered(part, best) for part in parts.transpose(1, 0, 2)], 1)
    with np.errstate(invalid="ignore"):
        sums = np.take_along_axis(parts, index, -1).sum(-1, dtype=np.float32)
    mask = np.zeros((len(x), groups), bool)
    np.put_along_axis(mask, ordered(sums, kept), True, -1)
    return np.where(mask[..., None], parts, np.float32(fill)).reshape(x.shape)


def run(moec, folder, text, inputs, *options):
    (folder / "router.moeir").write_text(text)
    out = folder / "out"
    for old in out.glob("*"):
        old.unlink()
    for name, array in inputs.items():
        np.save(folder / f"{name}.npy", array)
    command = [moec, "run", folder / "router.moeir", f"--output-dir={out}", "--output-format=npy",
               "--isa=x86-64", "--threads=1", "-q",
               *[f"--input={name}={folder / name}.npy" for name in inputs], *options]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(done.stderr[-800:])
    return [np.load(out / f"output_{i}.npy") for i in range(2)]


def one(moec, folder, rng):
    experts = int(rng.choice(SIZES))
    k = int(rng.choice([1, min(2, experts), min(8, experts), min(32, experts), min(33, experts),
                        experts, int(rng.integers(1, experts + 1))]))
    tokens = int(rng.choice([0, 1, 63, 65, 200] if experts > 500 else [0, 1, 5, 1023, 2500]))
    if tokens * experts > 1 << 19:
        tokens = (1 << 19) // experts
    name = str(rng.choice(list(KINDS)))
    gated, groups, limit = bool(rng.integers(2)), int(rng.choice([0, 2, 4, 8])), ""
    if groups and experts % groups == 0 and experts // groups > 1:
        best, kept = int(rng.integers(1, 3)), int(rng.integers(1, groups))
        fill = float(rng.choice([-np.inf, 0.0]))
        limit = (f", groups = {groups}, group_best = {best}, groups_kept = {kept}, "
                 f"group_fill = {fill}")
    what = f"{tokens} tokens, {k} of {experts}, {name}{limit}"
    if gated:
        text = (f'func @f(%0 "x": f32[T,16], %1 "gate": f32[16,{experts}]) {{\n'
                f"  %2, %3 = moe.route(%0, %1) {{k = {k}, {KINDS[name]}{limit}}}\n  return(%2, %3)\n}}\n")
        inputs = {"x": rng.integers(-3, 4, (tokens, 16)).astype(np.float32),
                  "gate": rng.integers(-3, 4, (16, experts)).astype(np.float32)}
        logits, kind = inputs["x"] @ inputs["gate"], np.zeros(tokens)
    else:
        text = (f'func @f(%0 "x": f32[T,{experts}]) {{\n'
                f"  %1, %2 = moe.route(%0) {{k = {k}, {KINDS[name]}{limit}}}\n  return(%1, %2)\n}}\n")
        logits, kind = numbers(rng, tokens, experts)
        inputs = {"x": logits}
    expert, weight = run(moec, folder, text, inputs)
    plain = run(moec, folder, text, inputs, f"--passes={PLAIN}")
    if not np.array_equal(expert, plain[0]) or weight.tobytes() != plain[1].tobytes():
        return f"{what}: not the bits of plain operations"
    # Scores that functions round to the same number are ties that logits are not.
    sure = np.ones(tokens, bool) if name == "softmax over the selected" else kind == 2
    if limit:
        sure &= name == "softmax over the selected"
        logits = limited(logits, groups, best, kept, fill) if len(logits) else logits
    if not np.array_equal(expert[sure], ordered(logits, k)[sure]):
        return f"{what}: other experts than NumPy"
    if any(len(set(row)) != k for row in expert) or (expert.size and (
            expert.min() < 0 or expert.max() >= experts)):
        return f"{what}: experts twice, or beyond all"
    return None


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--moec", required=True)
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--only", type=int)
    args = parser.parse_args()
    seed, failures = int(os.environ.get("MOEC_TEST_SEED", "1")), 0
    with tempfile.TemporaryDirectory() as folder:
        for i in range(args.count) if args.only is None else [args.only]:
            problem = one(args.moec, pathlib.Path(folder), np.random.default_rng([seed, i]))
            if problem is not None:
                failures += 1
                print(f"--only {i} (seed {seed}): {problem}")
    print(f"{failures} failures")
    sys.exit(failures > 0)


if __name__ == "__main__":
    main()
