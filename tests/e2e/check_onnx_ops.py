#!/usr/bin/env python3
"""Writes single operations of the tensor level as ONNX and compares what ONNX
Runtime makes of them with what moec's own code does.

    check_onnx_ops.py --moec build/release/moec [--only REGEX]

A case is a function in text form and shapes of its inputs. OUT.onnx has to pass
the checker with inferred shapes, and where ONNX Runtime has the kernels its results
must be those of `moec run`: the same bits, or within ULPS of floats. What is written
by subgraphs has cases for all that is special: NaN, -0, infinities, extremes of
integers, no elements, no dimensions.
"""
import argparse
import pathlib
import re
import subprocess
import sys
import tempfile

try:
    import numpy as np
    import onnx
    import onnxruntime as ort
except ImportError as error:
    print(f"SKIPPED: {error}")
    sys.exit(77)

NUMPY = {"f32": np.float32, "f64": np.float64, "f16": np.float16, "i8": np.int8, "i16": np.int16,
         "i32": np.int32, "i64": np.int64, "u8": np.uint8, "u16": np.uint16, "u32": np.uint32,
         "u64": np.uint64, "bool": np.bool_}
INTS = ["i8", "i16", "i32", "i64", "u8", "u16", "u32", "u64"]
FLOATS = ["f32", "f64", "f16"]
SPECIAL = [0.0, -0.0, 0.5, -0.5, 1.5, -1.5, 2.5, -2.5, 1e-7, -1e-7, 0.4999, -0.4999, 3.7, -3.7,
           np.inf, -np.inf, np.nan, 80.0, -80.0, 0.1]

CASES = {}


def case(name, arguments, body, *shapes, ulps=0, fill=None, run=True, needs=None, results=1,
         opset=None, symbols=""):
    """A function of `arguments` (their types in text form) and its lines."""
    CASES[name] = (arguments, body, shapes, ulps, fill, run, needs, results, opset, symbols)


def elements(dtype, shape, rng):
    n = int(np.prod(shape))
    if dtype == "bool":
        return rng.integers(0, 2, shape).astype(np.bool_)
    kind = NUMPY[dtype]
    if np.issubdtype(kind, np.integer):
        info = np.iinfo(kind)
        few = rng.integers(max(info.min, -9), 10, n).astype(kind)
        extremes = np.array([info.min, info.max, 0, 1], kind)
        values = np.where(rng.random(n) < 0.2, rng.choice(extremes, n), few)
        return values.astype(kind).reshape(shape)
    values = rng.normal(0, 2, n)
    special = rng.random(n) < 0.3
    values[special] = rng.choice(SPECIAL, int(special.sum()))
    return values.astype(kind).reshape(shape)


def plain(dtype, shape, rng):
    """Numbers of moderate size, no NaN."""
    if dtype == "bool" or np.issubdtype(NUMPY[dtype], np.integer):
        low = 0 if dtype[0] in "bu" else -5
        return rng.integers(low, 2 if dtype == "bool" else 6, shape).astype(NUMPY[dtype])
    return rng.normal(0, 1, shape).astype(NUMPY[dtype])


def within(limit):
    """Indices below a limit."""
    return lambda dtype, shape, rng: rng.integers(0, limit, shape).astype(NUMPY[dtype])


# ---- Elementwise ------------------------------------------------------------

for t in FLOATS:
    for op in ("floor", "ceil", "round", "trunc", "neg", "abs", "sqrt", "is_nan"):
        # a Where of ONNX Runtime makes 0 of -0
        case(f"{op}_{t}", [f"{t}[40]"], [f"{op}(%0)"], (40,), ulps=1 if op == "trunc" else 0)
    for op in ("expm1", "log1p"):
        case(f"{op}_{t}", [f"{t}[400]"], [f"{op}(%0)"], (400,), ulps=8 if t != "f64" else 64)
    case(f"is_inf_{t}", [f"{t}[40]"], ["is_inf(%0) {detect_negative = 0}"], (40,))
    case(f"fmod_{t}", [f"{t}[n]", f"{t}[n]"], ["fmod(%0, %1)"], (40,), (40,), fill=plain)
for t in INTS:
    for op in ("add", "sub", "mul", "div", "mod", "fmod", "min", "max", "bit_and", "bit_or",
               "bit_xor", "shl", "shr", "eq", "lt", "le"):
        # the least number by -1 is a trap of the processor in ONNX Runtime
        fill = plain if op in ("div", "mod", "fmod") else None
        case(f"{op}_{t}", [f"{t}[3,50]", f"{t}[50]"], [f"{op}(%0, %1)"], (3, 50), (50,), fill=fill)
    for op in ("abs", "sign", "neg", "bit_not", "floor", "trunc"):
        case(f"{op}_{t}", [f"{t}[50]"], [f"{op}(%0)"], (50,))
    case(f"div_by_constant_{t}", [f"{t}[9]"],
         [f"constant {{dtype = {t}, shape = [3,1], data = [3, 7, 2]}}", "div(%0, %1)"], (9,))
    case(f"pow_{t}", [f"{t}[9]"],
         [f"constant {{dtype = {t}, shape = [], data = [2]}}", "pow(%0, %1)"], (9,), fill=plain)
for t in INTS + FLOATS + ["bool"]:
    case(f"select_{t}", ["bool[4,1]", f"{t}[4,5]", f"{t}[5]"], ["select(%0, %1, %2)"],
         (4, 1), (4, 5), (5,), ulps=1)
    case(f"pad_{t}", [f"{t}[4,5]", f"{t}[]"],
         ["pad(%0, %1) {before = [1, -2], after = [0, 2], mode = \"constant\"}"], (4, 5), ())
    case(f"nonzero_{t}", [f"{t}[3,4]"],
         [f"constant {{dtype = {t}, shape = [], data = [{'false' if t == 'bool' else 0}]}}",
          "eq(%0, %1)", "not(%2)", "cast(%3) {to = i64}", "reduce_sum(%4) {axes = [0, 1], keepdims = 0}",
          "bind(%5) {symbol = c}", "nonzero(%0) {count = c}"], (3, 4), fill=plain, symbols="c >= 0, c <= 12")
    case(f"to_bool_{t}", [f"{t}[9]"], ["cast(%0) {to = bool}"], (9,))
    case(f"unfold_{t}", [f"{t}[1,2,6,5]", f"{t}[]"],
         ["unfold(%0, %1) {kernel = [2, 3], out = [3, 4], strides = [3, 1], dilations = [1, 2], "
          "pad_before = [1, 1], input_dilation = [1, 1]}"], (1, 2, 6, 5), ())
for op in ("min", "max"):
    case(f"{op}_bool", ["bool[4,5]", "bool[5]"], [f"{op}(%0, %1)"], (4, 5), (5,))
    case(f"reduce_{op}_bool", ["bool[4,5]"], [f"reduce_{op}(%0) {{axes = [1]}}"], (4, 5))
for t in INTS + FLOATS:
    for op in ("sum", "prod", "max", "min"):
        case(f"reduce_{op}_{t}", [f"{t}[4,5,2]"], [f"reduce_{op}(%0) {{axes = [0, 2], keepdims = 0}}"],
             (4, 5, 2), fill=plain, ulps=4 if t in FLOATS else 0)
    for op in ("arg_max", "arg_min"):
        for last in (0, 1):
            case(f"{op}_{last}_{t}", [f"{t}[4,9]"], [f"{op}(%0) {{axis = 1, keepdims = 0, select_last_index = {last}}}"],
                 (4, 9), fill=plain)
    for op in ("cum_sum", "cum_prod"):
        for e, r in ((0, 0), (1, 0), (0, 1), (1, 1)):
            case(f"{op}_{e}{r}_{t}", [f"{t}[3,6]"], [f"{op}(%0) {{axis = 1, exclusive = {e}, reverse = {r}}}"],
                 (3, 6), fill=plain, ulps=4 if t in FLOATS else 0, opset=26 if op == "cum_prod" else 18)
    case(f"topk_{t}", [f"{t}[3,9]"], ["topk(%0) {axis = 1, k = 4}"], (3, 9), fill=plain, results=2)
    case(f"iota_{t}", [f"{t}[n]"], [f"iota() {{dtype = {t}, n = n}}", "add(%0, %1)"], (9,), fill=plain)
    case(f"sort_rows_{t}", [f"{t}[30,3]"], ["sort_rows(%0)"], (30, 3), fill=plain, results=-2)
    case(f"gather_{t}", [f"{t}[5,4]", "i64[2,3]"], ["gather(%0, %1) {axis = 1}"], (5, 4), (2, 3),
         fill=lambda d, s, r: within(4)(d, s, r) if len(s) == 2 and s == (2, 3) else plain(d, s, r))

# What ONNX Runtime has no kernels for; no wider type holds all values.
for name in list(CASES):
    if re.fullmatch(r"(reduce_(max|min)|arg_(max|min)_[01]|topk|sort_rows)_u64", name):
        CASES[name] = CASES[name][:5] + (False,) + CASES[name][6:]

# ---- Shapes -------------------------------------------------------------------

for n in (0, 1, 3):
    case(f"reshape_rest_{n}", ["f32[n,4,6]"], ["reshape(%0) {shape = [n, 2, 12]}"], (n, 4, 6))
    case(f"reshape_joined_{n}", ["f32[n,m,6]"], ["reshape(%0) {shape = [m*n, 6]}"], (n, 2, 6))
    case(f"reshape_split_{n}", ["f32[2*n,5]", "f32[n]"], ["reshape(%0) {shape = [2, n, 5]}"], (2 * n, 5), (n,))
    case(f"expand_{n}", ["f32[1,4]", "f32[n]"], ["expand(%0) {shape = [n, 3, 4]}"], (1, 4), (n,))
    case(f"iota_{n}", ["f32[n]"], ["iota() {dtype = i64, n = n}"], (n,))
    case(f"reverse_{n}", ["f32[n,2]"], ["slice(%0) {start = [n - 1, 0], length = [n, 2], step = [-1, 1]}"], (n, 2))
    case(f"slice_tail_{n}", ["f32[n + 2,2]", "f32[n]"], ["slice(%0) {start = [2, 0], length = [n, 2], step = [1, 1]}"], (n + 2, 2), (n,))
    case(f"slice_back_{n}", ["f32[2*n + 3]", "f32[n]"], ["slice(%0) {start = [2*n], length = [n + 1], step = [-2]}"], (2 * n + 3,), (n,))
    case(f"slice_every_{n}", ["f32[3*n]", "f32[n]"], ["slice(%0) {start = [0], length = [n], step = [3]}"], (3 * n,), (n,))
    case(f"sizes_{n}", ["f32[n,m]"], ["exprs {values = [m*n + 3, floordiv(n, 2), mod(m, 2), min(n, m), max(n, m) - 5*n, broadcast(n, m), is_one(n), 7]}"], (n, 2))
    case(f"divided_{n}", ["f32[n,m]"], ["exprs {values = [floordiv(n - 5, m), mod(n - 5, m), floordiv(m, n), mod(m, n)]}"], (n, 2))
    case(f"size_{n}", ["f32[n,m]"], ["exprs {values = [m*n], scalar = 1}"], (n, 2))
    case(f"reduce_none_{n}", ["f32[n,2]"], ["reduce_max(%0) {axes = []}"], (n, 2))
    case(f"greedy_{n}", ["bool[2,n]", "bool[2,n,n]"], ["greedy(%0, %1)"], (2, n), (2, n, n))
    case(f"transposed_{n}", ["f32[n,2,3]"], ["transpose(%0) {perm = [2, 0, 1]}"], (n, 2, 3))
case("slice_backwards", ["f32[7,5]"], ["slice(%0) {start = [6, 3], length = [4, 2], step = [-2, -3]}"], (7, 5))
case("slice_of_nothing", ["f32[7]"], ["slice(%0) {start = [3], length = [0], step = [2]}"], (7,))
case("slice_of_symbolic_step", ["f32[9]", "f32[n]"], ["slice(%0) {start = [1], length = [2], step = [n]}"], (9,), (4,))
case("scalar", ["f32[]"], ["neg(%0)"], ())
case("scalar_to_one", ["f32[]"], ["reshape(%0) {shape = [1, 1]}"], ())
case("one_to_scalar", ["f32[1,1]"], ["reshape(%0) {shape = []}"], (1, 1))
case("constant_of_nothing", ["f32[2,3]"], ["constant {dtype = f32, shape = [0,3], data = []}", "concat(%0, %1) {axis = 0}"], (2, 3))
for mode in ("reflect", "edge", "wrap"):
    case(f"pad_{mode}", ["f32[5,4]"], [f"pad(%0) {{before = [2, 1], after = [1, 0], mode = \"{mode}\"}}"], (5, 4))
case("pad_by_sizes", ["f32[n]", "f32[m]", "f32[]"], ["pad(%0, %2) {before = [m], after = [m - n], mode = \"constant\"}"], (5,), (3,), ())
case("greedy_many", ["bool[9]", "bool[9,9]"], ["greedy(%0, %1)"], (9,), (9, 9))

# ---- Products and windows -------------------------------------------------------

for a in ("i8", "u8"):
    for b in ("i8", "u8"):
        case(f"matmul_{a}_{b}", [f"{a}[2,3,4]", f"{b}[4,5]"], ["matmul(%0, %1) {out_dtype = i32}"], (2, 3, 4), (4, 5))
for t in INTS:
    case(f"matmul_{t}", [f"{t}[3,4]", f"{t}[4,5]"], ["matmul(%0, %1)"], (3, 4), (4, 5))
case("matmul_f16_f32", ["f16[3,4]", "f16[4,5]"], ["matmul(%0, %1) {out_dtype = f32}"], (3, 4), (4, 5), fill=plain, ulps=4)
CONVOLUTIONS = {
    "same": ("f32[1,4,n,n]", "f32[6,4,3,3]", "out = [n, n], strides = [1, 1], dilations = [1, 1], pad_before = [1, 1], input_dilation = [1, 1]"),
    "strides": ("f32[1,4,n,n]", "f32[6,2,3,3]", "groups = 2, out = [floordiv(n - 1, 2) + 1, floordiv(n - 1, 2) + 1], strides = [2, 2], dilations = [1, 1], pad_before = [1, 1], input_dilation = [1, 1]"),
    "cut": ("f32[1,4,7,9]", "f32[6,4,3,3]", "out = [2, 3], strides = [1, 2], dilations = [1, 1], pad_before = [-1, 0], input_dilation = [1, 1]"),
    "dilated": ("f32[1,4,7,9]", "f32[6,1,2,2]", "groups = 4, out = [8, 5], strides = [1, 2], dilations = [3, 2], pad_before = [3, 1], input_dilation = [1, 1]"),
    "transposed": ("f32[1,4,5,6]", "f32[6,4,3,3]", "out = [11, 13], strides = [1, 1], dilations = [1, 1], pad_before = [2, 1], input_dilation = [2, 2]"),
    "line": ("f32[2,4,n]", "f32[6,4,3]", "out = [n + 4], strides = [1], dilations = [1], pad_before = [3], input_dilation = [1]"),
}
for name, (x, w, how) in CONVOLUTIONS.items():
    groups = 4 if "groups = 4" in how else 2 if "groups = 2" in how else 1
    if groups == 4:
        w = w.replace("[6,", "[8,")
    shapes = [tuple(int(re.sub("n", "7", d)) for d in re.search(r"\[(.*)\]", s)[1].split(",")) for s in (x, w)]
    case(f"convolve_{name}", [x, w], [f"convolve(%0, %1) {{{how}}}"], *shapes, fill=plain, ulps=64)
    for t in ("i32", "i8", "u64"):
        case(f"convolve_{name}_{t}", [x.replace("f32", t), w.replace("f32", t)],
             [f"convolve(%0, %1) {{{how}}}"], *shapes, fill=plain)
def keyed(dtype, shape, rng):
    """Groups of rows, some of none; numbers of moderate size."""
    return rng.integers(-1, 5, shape) if len(shape) == 1 else plain(dtype, shape, rng)


for name in ("same", "strides", "transposed", "line"):
    x, w, how = CONVOLUTIONS[name]
    for t in ("f32", "i64"):
        types = ["i64[20]", re.sub(r"f32\[\d", f"{t}[20", x), w.replace("f32[", f"{t}[4,")]
        shapes = [tuple(int(re.sub("n", "7", d)) for d in re.search(r"\[(.*)\]", s)[1].split(",")) for s in types]
        case(f"grouped_convolve_{name}_{t}", types,
             ["group_rows(%0) {groups = 4}", f"grouped_convolve(%1, %2, %6, %5) {{{how}}}"],
             *shapes, fill=keyed, ulps=64 if t == "f32" else 0)
case("unfold_by_sizes", ["f32[1,2,n]", "f32[]", "f32[k]"],
     ["unfold(%0, %1) {kernel = [k], out = [n], strides = [2], dilations = [2], pad_before = [k - 1], input_dilation = [3]}"],
     (1, 2, 6), (), (3,))

def limited(dtype, shape, rng):
    return rng.integers(-1, 6, shape) if shape else np.array(2, np.int64)


case("grouped_rows", ["i64[n]"], ["group_rows(%0) {groups = 4}"], (20,), fill=lambda d, s, r: r.integers(-1, 6, s), results=4)

for order in ("tokens", "slots"):
    for groups, tokens in ((1, "T"), (2, "14")):
        how = f"{{experts = 4, groups = {groups}, order = \"{order}\"}}"
        case(f"counted_{order}_{groups}", [f"i64[{tokens},2]"], [f"moe.limit(%0) {how}"], (14, 2),
             fill=limited, results=2)
        case(f"limited_{order}_{groups}", [f"i64[{tokens},2]", "i64[]"],
             [f"moe.limit(%0, %1) {how}"], (14, 2), (), fill=limited, results=2)
for tokens in ("14", "T", "0"):
    case(f"limited_behind_kept_{tokens}", [f"i64[{tokens},3]", "i64[]"],
         ["moe.limit(%0, %1) {experts = 4, groups = 1, order = \"slots\", behind_kept = 1}"],
         (0 if tokens == "0" else 14, 3), (), fill=limited, results=2)
case("limited_behind_kept_in_groups", ["i64[14,3]", "i64[]"],
     ["moe.limit(%0, %1) {experts = 4, groups = 2, order = \"slots\", behind_kept = 1}"],
     (14, 3), (), fill=limited, results=2)


def routes(dtype, shape, rng):
    return rng.integers(-1, 4, shape) if dtype == "i64" else plain(dtype, shape, rng)


EXPERTS = """moe.experts(%0, _, %1, %3) {experts = 3, k = 2, tokens = T, token_values = 1, banks = [1], structure = [STRUCTURE], position = [0, 1, 2], rows = n} (%100: f32[n,4], %101: f32[4,6]) {
    %102 = matmul(%100, %101)
    yield(%102)
  }"""
for name, structure in (("experts", "0, 0, 0"), ("experts_without_one", "0, -1, 0")):
    for tokens in (0, 5):
        case(f"{name}_{tokens}", ["i64[2*T]", "f32[T,4]", "f32[2*T]", "f32[3,4,6]"],
             [EXPERTS.replace("STRUCTURE", structure), "moe.combine(%4, %2) {k = 2, tokens = T}"],
             (2 * tokens,), (tokens, 4), (2 * tokens,), (3, 4, 6), fill=routes, ulps=64)

# ---- Narrow types ---------------------------------------------------------------

for t, opset in (("i4", 21), ("u4", 21), ("f8e4m3fn", 21), ("f8e5m2", 21)):
    case(f"through_{t}", ["f32[6]"], [f"cast(%0) {{to = {t}}}", "transpose(%1) {perm = [0]}",
         "concat(%2, %1) {axis = 0}", "cast(%3) {to = f32}"], (6,),
         fill=lambda d, s, r: r.integers(0, 7, s).astype(np.float32), opset=opset)
case("bf16", ["f32[6]"], ["cast(%0) {to = bf16}", "add(%1, %1)", "cast(%2) {to = f32}"], (6,), run=False, opset=18)
case("bitcast", ["f32[6]"], ["bitcast(%0) {to = i32}"], (6,), fill=plain, opset=26)


# ---- Running ---------------------------------------------------------------------

def type_of(text):
    return text.split("[")[0]


def source(name):
    arguments, body, _, _, _, _, _, results, _, symbols = CASES[name]
    lines, number = [], len(arguments)
    last = []
    for line in body:
        if line.startswith(("bind", "check_equal")):
            lines.append(f"  {line}")
            number += 1  # as cases count: every line has a number
            continue
        n = {"topk": 2, "sort_rows": 2, "group_rows": 6, "moe.limit": 3}.get(line.split("(")[0], 1)
        last = [f"%{number + i}" for i in range(n)]
        lines.append(f"  {', '.join(last)} = {line}")
        number += n
    keep = last[:abs(results)] if results > 0 else last[:1]
    args = ", ".join(f"%{i}: {a}" for i, a in enumerate(arguments))
    return f"func @f({args}) {{\n" + "\n".join(lines) + f"\n  return({', '.join(keep)})\n}}\n"


def differ(got, want, ulps):
    if got.dtype != want.dtype or got.shape != want.shape:
        return f"{got.dtype}{list(got.shape)}, expected {want.dtype}{list(want.shape)}"
    if want.dtype.kind == "f":
        nan = np.isnan(got) & np.isnan(want)
        if ulps == 0:
            good = nan | ((got == want) & (np.signbit(got) == np.signbit(want)))
        else:
            with np.errstate(all="ignore"):
                spacing = np.spacing(np.maximum(np.abs(want), np.finfo(want.dtype).tiny))
                good = nan | (got == want) | (np.abs(got - want) <= ulps * spacing)
    else:
        good = got == want
    if good.all():
        return None
    at = np.argwhere(~good)[0]
    return f"{(~good).sum()} of {good.size} differ, at {list(at)}: {got[tuple(at)]}, expected {want[tuple(at)]}"


def call(*command):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"exit {done.returncode}: {done.stderr.strip()[:400]}")


def check(moec, name, scratch):
    arguments, _, shapes, ulps, fill, run, _, _, opset, _ = CASES[name]
    rng = np.random.default_rng(sum(map(ord, name)))
    text, out = scratch / "case.moeir", scratch / "out.onnx"
    text.write_text(source(name))
    call(moec, text, "-o", out, "-O0")
    onnx.checker.check_model(str(out), full_check=True)
    model = onnx.load(out)
    if model.opset_import[0].version != (opset or (19 if "wrap" in name else 18)):
        return f"opset {model.opset_import[0].version}"
    inputs = [(fill or elements)(type_of(a), s, rng) for a, s in zip(arguments, shapes)]
    for i, x in enumerate(inputs):
        np.save(scratch / f"input_{i}.npy", x)
    call(moec, "run", text, "-O0", "--data", scratch, "--output-dir", scratch, "--output-format", "npy")
    if not run:
        return None
    session = ort.InferenceSession(str(out), providers=["CPUExecutionProvider"])
    feeds = {v.name: x for v, x in zip(model.graph.input, inputs)}
    for i, got in enumerate(session.run(None, feeds)):
        why = differ(np.asarray(got), np.load(scratch / f"output_{i}.npy"), ulps)
        if why:
            return f"result {i}: {why}"
    return None


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--moec", required=True)
    parser.add_argument("--only", default="")
    args = parser.parse_args()
    ort.set_default_logger_severity(3)
    chosen = [n for n in CASES if re.search(args.only, n)]
    bad = 0
    for name in chosen:
        with tempfile.TemporaryDirectory() as scratch:
            try:
                why = check(args.moec, name, pathlib.Path(scratch))
            except Exception as error:  # whatever moec, the checker or the runtime says
                why = f"{type(error).__name__}: {str(error)[:400]}"
        if why:
            print(f"{name}: {why}\n{source(name)}")
            bad += 1
    print(f"{len(chosen) - bad} of {len(chosen)} right")
    return min(bad, 1)


if __name__ == "__main__":
    sys.exit(main())
