#!/usr/bin/env python3
"""Runs compiled models of another architecture under an emulator.

math: elementary functions, conversions and integers of a text model give the
same bits as on this machine with fused multiply-add (any NaN equals any other); exit code 77 where it has none.
narrow: weights that are elements of bf16 or f16 give the same bits with and without
the pass that stores them so, and take half the bytes.
models: cases of tests/models within their tolerances, the same bits for 1 and 3
threads.
"""
import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np

DTYPES = {1: np.float32, 2: np.uint8, 3: np.int8, 6: np.int32, 7: np.int64,
          9: np.bool_, 10: np.float16, 11: np.float64}
UNARY = ("exp expm1 log log1p sin cos tan asin acos atan sinh cosh tanh asinh acosh "
         "atanh erf sigmoid floor ceil trunc round sqrt").split()
BINARY = "pow fmod div".split()
HOST_VARIANT = "avx2"  # fused, as all other architectures are


def write_values(path, arrays):
    with open(path, "wb") as out:
        for a in arrays:
            number = next(n for n, t in DTYPES.items() if a.dtype == t)
            out.write(np.array([number, a.ndim], np.int32).tobytes())
            out.write(np.array(a.shape, np.int64).tobytes())
            out.write(np.uint64(a.nbytes).tobytes())
            out.write(np.ascontiguousarray(a).tobytes())


def read_values(path):
    data, at, arrays = path.read_bytes(), 0, []

    def take(dtype, count):
        nonlocal at
        values = np.frombuffer(data, dtype, count, at)
        at += values.nbytes
        return values

    while at < len(data):
        number, rank = take(np.int32, 2)
        dims = take(np.int64, rank)
        dtype = np.dtype(DTYPES[int(number)])
        size = int(take(np.uint64, 1)[0])
        arrays.append(take(dtype, size // dtype.itemsize).reshape(dims))
    return arrays


def run(command):
    p = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    if p.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}: exit code {p.returncode}: "
                 f"{p.stderr}{p.stdout}")
    return p.stdout


def host_runs(moec):
    table = run([moec, "--print-targets"])
    return any(HOST_VARIANT in row.split() and "  runs" in row
               for row in table.splitlines())


def execute(runner, so, arrays, threads, tmp):
    write_values(tmp / "in", arrays)
    run([*runner, so, threads, tmp / "in", tmp / "out"])
    return read_values(tmp / "out")


def differing(a, b):
    """Elements that differ in their bits; NaN are all the same."""
    if a.dtype != b.dtype or a.shape != b.shape:
        return a.size
    bits = np.dtype(f"u{a.dtype.itemsize}")
    equal = a.view(bits) == b.view(bits)
    if a.dtype.kind == "f":
        equal |= np.isnan(a) & np.isnan(b)
    return int(np.sum(~equal))


# ---- Elementary functions ---------------------------------------------------

def math_text(kind):
    """The operations on x and y of a float type, as a text model."""
    lines, results = [], []

    def add(text, dtype, shape="n"):
        results.append(f"%{len(lines) + 4}")
        lines.append(f"  {results[-1]} = {text} : {dtype}[{shape}]")

    for name in UNARY:
        add(f"{name}(%0)", kind)
    for name in BINARY:
        add(f"{name}(%0, %1)", kind)
    for to in ("f16", "i32", "i64", "u8", "f64" if kind == "f32" else "f32"):
        add(f"cast(%0) {{to = {to}}}", to)
    add("matmul(%2, %3) {out_dtype = i32}", "i32", "m, 40")
    names = ", ".join(f'"r{i}"' for i in range(len(results)))
    inputs = (f'%0 "x": {kind}[n], %1 "y": {kind}[n], %2 "a": u8[m,k], '
              f'%3 "b": i8[k,40]')
    return ('module "math" tensor {\nsymbols { n >= 0, m >= 0, k >= 0 }\n'
            f"func @main({inputs}) -> ({names}) {{\n" + "\n".join(lines) +
            f"\n  return({', '.join(results)})\n}}\n}}\n")


def math_inputs(dtype, rng):
    bits = np.dtype(f"u{np.dtype(dtype).itemsize}")
    info = np.finfo(dtype)
    special = [0.0, -0.0, 1, -1, 0.5, 1.5, 2.5, np.inf, -np.inf, np.nan, info.max,
               info.tiny, info.smallest_subnormal, -info.tiny, 1e5, 1e10, 710, -746]
    special = np.array(special, dtype)
    wild = rng.integers(0, np.iinfo(bits).max, 3000, bits, endpoint=True).view(dtype)
    tame = (rng.standard_normal(3000) * 8).astype(dtype)
    x = np.concatenate([special.repeat(special.size), wild, tame])
    y = np.concatenate([np.tile(special, special.size), rng.permutation(wild), tame[::-1]])
    return [x, y, rng.integers(0, 255, (7, 37), np.uint8, endpoint=True),
            rng.integers(-128, 127, (37, 40), np.int8, endpoint=True)]


def check_math(args, tmp):
    bad = 0
    if not host_runs(args.moec):
        print(f"SKIPPED: this machine cannot run {HOST_VARIANT}")
        sys.exit(77)
    rng = np.random.default_rng(1)
    for kind, dtype in (("f32", np.float32), ("f64", np.float64)):
        source, so = tmp / "math.moeir", tmp / "math.so"
        source.write_text(math_text(kind))
        inputs = math_inputs(dtype, rng)
        run([args.moec, source, "-o", so, f"--target={args.target}"])
        got = execute(args.runner, so, inputs, 1, tmp)
        run([args.moec, source, "-o", so, f"--isa={HOST_VARIANT}"])
        want = execute([args.host_runner], so, inputs, 1, tmp)
        exact = inputs[2].astype(np.int32) @ inputs[3].astype(np.int32)
        names = UNARY + BINARY + ["to f16", "to i32", "to i64", "to u8", "to float",
                                  "product of bytes"]
        for name, a, b in zip(names, got, want, strict=True):
            n = differing(a, b)
            bad += n > 0
            if n > 0:
                at = np.flatnonzero((a != b) & ~((a != a) & (b != b)))[:3]
                print(f"{kind} {name}: {n} of {a.size} differ, such as "
                      f"{a.flat[at]} instead of {b.flat[at]}")
        bad += differing(got[-1], exact) > 0
        print(f"{kind}: {len(names)} operations on {inputs[0].size} elements")
    return bad


# ---- Narrowed weights -------------------------------------------------------

def narrow_text(table, panels):
    """Rows of one constant, and a product with another."""
    def constant(a):
        shape = ", ".join(map(str, a.shape))
        return f'constant {{dtype = f32, shape = [{shape}], data = hex("{a.tobytes().hex()}")}}'

    return ('module "narrow" tensor {\nsymbols { n >= 0 }\n'
            'func @main(%0 "ids": i64[n], %1 "x": f32[n,128]) -> ("rows", "y") {\n'
            f"  %2 = {constant(table)}\n  %3 = gather(%2, %0) {{axis = 0}}\n"
            f"  %4 = {constant(panels)}\n  %5 = matmul(%1, %4)\n"
            "  return(%3, %5)\n}\n}\n")


def check_narrow(args, tmp):
    bad = 0
    rng = np.random.default_rng(2)
    bf16 = rng.integers(0, 1 << 16, (200, 128), np.uint32) << 16
    bf16 = np.where(bf16 & 0x7f800000 == 0x7f800000, 0, bf16).view(np.float32)
    f16 = rng.integers(0, 0x7c00, (200, 128), np.uint16) | rng.integers(
        0, 2, (200, 128), np.uint16) << 15
    f16 = f16.view(np.float16).astype(np.float32)
    tame = (rng.standard_normal((128, 333)) * 0.1).astype(np.float16).astype(np.float32)
    tame_bf16 = (tame.view(np.uint32) & 0xffff0000).view(np.float32)
    inputs = [rng.integers(0, 200, 17), rng.standard_normal((17, 128)).astype(np.float32)]
    source, so, wide = tmp / "narrow.moeir", tmp / "narrow.so", tmp / "wide.so"
    for kind, table, panels in (("bf16", bf16, tame_bf16), ("f16", f16, tame)):
        source.write_text(narrow_text(table, panels))
        run([args.moec, source, "-o", so, f"--target={args.target}"])
        run([args.moec, source, "-o", wide, f"--target={args.target}",
             "--disable-pass=narrow"])
        got, want = (execute(args.runner, each, inputs, 1, tmp) for each in (so, wide))
        bad += got[0].tobytes() != table[inputs[0]].tobytes()
        bad += any(a.tobytes() != b.tobytes() for a, b in zip(got, want, strict=True))
        saved = wide.stat().st_size - so.stat().st_size
        halves = kind == "bf16" or "f16" in args.converts
        expected = (table.nbytes + panels.nbytes) / 2 if halves else 0
        bad += abs(saved - expected) > 24 << 10  # code differs, too
        print(f"weights of {kind}: {saved} bytes saved of {int(expected)}, {bad} problems")
    return bad


# ---- Models -----------------------------------------------------------------

def load_set(directory, prefix):
    from onnx import TensorProto, numpy_helper
    arrays = []
    while (path := directory / f"{prefix}_{len(arrays)}.pb").exists():
        tensor = TensorProto()
        tensor.ParseFromString(path.read_bytes())
        arrays.append(numpy_helper.to_array(tensor))
    return arrays


def check_model(args, case, tmp):
    so = tmp / "model.so"
    run([args.moec, case / "model.onnx", "-o", so, f"--target={args.target}"])
    tolerance = json.loads((case / "case.json").read_text())
    data = sorted(case.glob("test_data_set_*"))[0]
    inputs, want = load_set(data, "input"), load_set(data, "output")
    got, again = (execute(args.runner, so, inputs, n, tmp) for n in (1, 3))
    bad = 0
    for i, (a, b, w) in enumerate(zip(got, again, want, strict=True)):
        if a.tobytes() != b.tobytes():
            print(f"{case.name}: output {i}: other bits with 3 threads")
            bad += 1
        if a.shape != w.shape or not np.allclose(
                a, w, rtol=tolerance.get("rtol", 1e-3),
                atol=tolerance.get("atol", 1e-5), equal_nan=True):
            print(f"{case.name}: output {i} is wrong")
            bad += 1
    print(f"{case.name}: {len(want)} outputs")
    return bad


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--moec", required=True)
    ap.add_argument("--target", required=True)
    ap.add_argument("--host-runner", required=True)
    ap.add_argument("--emulator", required=True)
    ap.add_argument("--sysroot", required=True)
    ap.add_argument("--runner", required=True)
    ap.add_argument("--cases", nargs="*", type=pathlib.Path, default=[])
    ap.add_argument("--narrow", action="store_true")
    ap.add_argument("--converts", default="", help="f16 where the target converts it")
    args = ap.parse_args()
    args.runner = [args.emulator, "-L", args.sysroot, args.runner]
    with tempfile.TemporaryDirectory() as directory:
        tmp = pathlib.Path(directory)
        bad = 0
        if args.narrow:
            bad = check_narrow(args, tmp)
        elif not args.cases:
            bad = check_math(args, tmp)
        for case in args.cases:
            bad += check_model(args, case, tmp)
    print(f"{args.target}: {bad} problems")
    sys.exit(1 if bad else 0)


main()
