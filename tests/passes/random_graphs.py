#!/usr/bin/env python3
"""Compares random graphs compiled with and without bit-exact passes.

    tests/passes/random_graphs.py --moec build/release/moec --count 50

Every graph is run on numbers that rules like to get wrong (zeros of both signs,
infinities, NaN, subnormals, extreme integers). Outputs must agree bit for bit,
any NaN with any other. A graph that differs is left in the current directory,
with the command that reproduces it. MOEC_TEST_SEED, or --seed, chooses the first
graph; each graph has the next number as its seed.
"""
import argparse
import ast
import math
import os
import pathlib
import random
import re
import shlex
import struct
import subprocess
import sys
import tempfile

PLAIN = "dce,unpack,layout,lower,plan"
PASSES = "dce,canonicalize,cse,canonicalize,dce"

SIZES = {"B": [1, 2, 3], "S": [1, 2, 5]}
FLOATS = {"f32": "f", "f64": "d", "f16": "e"}
INTS = {"i64": "q", "i32": "i", "i16": "h", "i8": "b", "u8": "B", "u32": "I"}
NUMPY = {"f32": "<f4", "f64": "<f8", "f16": "<f2", "i64": "<i8", "i32": "<i4", "i16": "<i2",
         "i8": "|i1", "u8": "|u1", "u32": "<u4", "bool": "|b1"}
FORMAT = {**FLOATS, **INTS, "bool": "?"}
SPECIAL = [0.0, -0.0, 1.0, -1.0, 0.5, -2.0, 3.0, math.inf, -math.inf, math.nan, 1e-7, -6e4, 0.1, 1e-40, 7.5, -0.75]


class Value:
    def __init__(self, name, dtype, dims):
        self.name, self.dtype, self.dims = name, dtype, dims  # dims: (text, number) each

    def type(self):
        return f"{self.dtype}[{','.join(text for text, _ in self.dims)}]"

    def count(self):
        return math.prod(number for _, number in self.dims)


class Graph:
    """A random function; `inputs` are its arguments, `lines` its operations."""

    def __init__(self, seed):
        self.rng = random.Random(seed)
        self.sizes = {name: self.rng.choice(choices) for name, choices in SIZES.items()}
        self.lines, self.n = [], 0
        self.inputs = [self.new(self.rng.choice(["f32", "f32", "f16", "i64", "i32", "i8", "bool", "u8", "f64"]),
                                self.random_dims()) for _ in range(self.rng.randint(2, 4))]
        self.values = list(self.inputs)
        steps = [self.unary, self.unary, self.binary, self.binary, self.binary, self.select, self.cast, self.cast,
                 self.transpose, self.reshape, self.reshape, self.expand, self.expand, self.slice, self.concat,
                 self.pad, self.gather, self.reduce, self.constant, self.sizes_tensor, self.matmul, self.scan, self.topk,
                 self.rows]
        while len(self.lines) < 24:
            self.rng.choice(steps)()
        body = "\n".join(line.split(" = ", 1)[1] + "," for line in self.lines)
        used = set(re.findall(r"%\d+(?=[,)])", body))
        self.outputs = [v for v in self.values if v.name not in used]

    # ---- Parts ----

    def size(self, name):
        return (name, self.sizes[name])

    def random_dims(self):
        known = [("1", 1), ("1", 1), ("2", 2), ("3", 3), ("4", 4)] + [self.size(name) for name in SIZES]
        return [self.rng.choice(known) for _ in range(self.rng.randint(0, 3))]

    def new(self, dtype, dims):
        self.n += 1
        return Value(f"%{self.n - 1}", dtype, list(dims))

    def put(self, text, dtype, dims):
        if len(dims) > 5 or math.prod(n for _, n in dims) > 4000:
            return None
        value = self.new(dtype, dims)
        self.lines.append(f"  {value.name} = {text} : {value.type()}")
        self.values.append(value)
        return value

    def pick(self, test=lambda value: True):
        fitting = [v for v in self.values if test(v)]
        return self.rng.choice(fitting[-4:] if self.rng.random() < 0.7 else fitting) if fitting else None

    def scalar(self, dtype):
        """A constant of one element, often one that rules look for."""
        if dtype in FLOATS:
            text = self.rng.choice(["0.0", "-0.0", "1.0", "-1.0", "2.0", "0.5", "3.0", "inf", "nan", "-4.0"])
        elif dtype == "bool":
            text = self.rng.choice(["true", "false"])
        else:
            text = self.rng.choice(["0", "1", "2", "3"] + ([] if dtype[0] == "u" else ["-1", "-2"]))
        dims = [("1", 1)] * self.rng.choice([0, 0, 0, 1, 2])
        shape = ", ".join("1" for _ in dims)
        return self.put(f"constant {{dtype = {dtype}, shape = [{shape}], data = [{text}]}}", dtype, dims)

    def broadcast(self, *values):
        """The common shape, or None where it is not certain."""
        dims = []
        for i in range(1, 1 + max(len(v.dims) for v in values)):
            here = {v.dims[-i] for v in values if len(v.dims) >= i} - {("1", 1)}
            if len(here) > 1:
                return None
            dims.insert(0, here.pop() if here else ("1", 1))
        return dims

    def partner(self, x, dtype):
        """Something of that type to combine with x."""
        if self.rng.random() < 0.4:
            return self.scalar(dtype)
        y = self.pick(lambda v: v.dtype == dtype and self.broadcast(x, v) is not None)
        if y is None or self.rng.random() < 0.2:
            y = self.scalar(dtype)
        return y

    # ---- Operations ----

    def unary(self):
        x = self.pick()
        if x.dtype == "bool":
            return self.put(f"not({x.name})", "bool", x.dims)
        codes = ["neg", "abs", "sign", "floor", "ceil", "round", "trunc"]
        if x.dtype in FLOATS:
            codes += ["sqrt", "neg", "neg"]
        else:
            codes += ["bit_not", "bit_not"]
        if x.dtype[0] == "u":
            codes = ["bit_not", "floor"]
        return self.put(f"{self.rng.choice(codes)}({x.name})", x.dtype, x.dims)

    def binary(self):
        x = self.pick()
        y = self.partner(x, x.dtype)
        if y is None:
            return None
        dtype, codes = x.dtype, ["add", "sub", "mul", "div", "min", "max", "fmod"]
        if x.dtype == "bool":
            codes = ["and", "or", "xor", "eq"]
        elif x.dtype in INTS:
            codes += ["mod", "bit_and", "bit_or", "bit_xor"]
        code = self.rng.choice(codes + (["eq", "lt", "le"] if x.dtype != "bool" else []))
        if code in ("eq", "lt", "le"):
            dtype = "bool"
        if self.rng.random() < 0.5:
            x, y = y, x
        if self.rng.random() < 0.08:
            y = x
        return self.put(f"{code}({x.name}, {y.name})", dtype, self.broadcast(x, y))

    def select(self):
        c = self.pick(lambda v: v.dtype == "bool")
        x = self.pick(lambda v: c is not None and self.broadcast(c, v) is not None)
        if x is None:
            return None
        y = self.partner(x, x.dtype) if self.rng.random() < 0.8 else x
        if y is None or self.broadcast(c, x, y) is None:
            return None
        return self.put(f"select({c.name}, {x.name}, {y.name})", x.dtype, self.broadcast(c, x, y))

    def cast(self):
        x = self.pick()
        to = self.rng.choice(list(FORMAT))
        return self.put(f"cast({x.name}) {{to = {to}}}", to, x.dims)

    def transpose(self):
        x = self.pick(lambda v: len(v.dims) >= 2)
        if x is None:
            return None
        perm = list(range(len(x.dims)))
        self.rng.shuffle(perm)
        return self.put(f"transpose({x.name}) {{perm = {perm}}}", x.dtype, [x.dims[p] for p in perm])

    def reshape(self):
        x = self.pick()
        dims = list(x.dims)
        how = self.rng.random()
        if how < 0.3:
            dims = [d for d in dims if d != ("1", 1)]
        elif how < 0.7:
            dims.insert(self.rng.choice([0, 0, self.rng.randint(0, len(dims))]), ("1", 1))
        elif len(dims) >= 2:
            i = self.rng.randrange(len(dims) - 1)
            dims[i:i + 2] = [self.times(dims[i], dims[i + 1])]
            if dims[i] is None:
                return None
        return self.put(f"reshape({x.name}) {{shape = [{', '.join(t for t, _ in dims)}]}}", x.dtype, dims)

    @staticmethod
    def times(a, b):
        if "1" in (a[0], b[0]):
            return a if b[0] == "1" else b
        if a[0].isdigit() and b[0].isdigit():
            return (str(a[1] * b[1]), a[1] * b[1])
        if a[0] in SIZES and b[0].isdigit():
            a, b = b, a
        if a[0].isdigit() and b[0] in SIZES:
            return (f"{a[0]}*{b[0]}", a[1] * b[1])
        return None

    def expand(self):
        x = self.pick()
        dims = [self.rng.choice(self.random_dims() or [d]) if d == ("1", 1) and self.rng.random() < 0.8 else d
                for d in x.dims]
        while self.rng.random() < 0.3:
            dims.insert(0, self.rng.choice([("1", 1), ("2", 2), self.size("B")]))
        return self.put(f"expand({x.name}) {{shape = [{', '.join(t for t, _ in dims)}]}}", x.dtype, dims)

    def slice(self):
        x = self.pick(lambda v: v.dims)
        if x is None:
            return None
        start, length, step, dims = [], [], [], []
        for text, number in x.dims:
            if not text.isdigit() or self.rng.random() < 0.4:
                start, length, step, dims = start + [0], length + [text], step + [1], dims + [(text, number)]
                continue
            n = self.rng.randint(1, number)
            by = self.rng.choice([1, 1, -1, 2, -2])
            while (n - 1) * abs(by) >= number:
                n -= 1
            first = self.rng.randint(0, number - 1 - (n - 1) * abs(by))
            start.append(first if by > 0 else first + (n - 1) * abs(by))
            length.append(str(n))
            step.append(by)
            dims.append((str(n), n))
        return self.put(f"slice({x.name}) {{start = {start}, length = [{', '.join(length)}], step = {step}}}",
                        x.dtype, dims)

    def concat(self):
        x = self.pick(lambda v: any(t.isdigit() for t, _ in v.dims))
        if x is None:
            return None
        axis = self.rng.choice([i for i, (t, _) in enumerate(x.dims) if t.isdigit()])
        rest = [d for i, d in enumerate(x.dims) if i != axis]
        parts = [v for v in self.values if v.dtype == x.dtype and len(v.dims) == len(x.dims)
                 and v.dims[axis][0].isdigit() and [d for i, d in enumerate(v.dims) if i != axis] == rest]
        parts = [self.rng.choice(parts) for _ in range(self.rng.randint(1, 3))]
        total = sum(v.dims[axis][1] for v in parts)
        dims = list(x.dims)
        dims[axis] = (str(total), total)
        return self.put(f"concat({', '.join(v.name for v in parts)}) {{axis = {axis}}}", x.dtype, dims)

    def pad(self):
        x = self.pick(lambda v: v.dims and all(t.isdigit() for t, _ in v.dims) and v.dtype != "bool")
        fill = self.pick(lambda v: x is not None and v.dtype == x.dtype and not v.dims)
        if fill is None:
            return None
        before = [self.rng.choice([0, 0, 1]) for _ in x.dims]
        after = [self.rng.choice([0, 0, 2]) for _ in x.dims]
        dims = [(str(n + a + b), n + a + b) for (_, n), a, b in zip(x.dims, before, after)]
        return self.put(f'pad({x.name}, {fill.name}) {{before = {before}, after = {after}, mode = "constant"}}',
                        x.dtype, dims)

    def gather(self):
        x = self.pick(lambda v: any(t.isdigit() and n > 0 for t, n in v.dims))
        if x is None:
            return None
        axis = self.rng.choice([i for i, (t, _) in enumerate(x.dims) if t.isdigit()])
        number = x.dims[axis][1]
        shape = self.rng.choice([[], [1], [2], [3], [1, 1], [2, 1]])
        first = self.rng.randrange(-number, number)
        data = [self.rng.randrange(-number, number) for _ in range(math.prod(shape))]
        if self.rng.random() < 0.6:
            data = [(first + i) % number for i in range(math.prod(shape))]
        text = f"constant {{dtype = i64, shape = {shape}, data = {data}}}"
        index = self.put(text, "i64", [(str(n), n) for n in shape])
        dims = x.dims[:axis] + index.dims + x.dims[axis + 1:]
        return self.put(f"gather({x.name}, {index.name}) {{axis = {axis}}}", x.dtype, dims)

    def topk(self):
        """Ranks of a small axis, and a question about them that has one answer."""
        x = self.pick(lambda v: v.dims and v.dims[-1][0].isdigit() and v.dtype in ("f32", "i32", "i64"))
        if x is None:
            return None
        k = self.rng.randint(1, x.dims[-1][1])
        dims = x.dims[:-1] + [(str(k), k)]
        if math.prod(n for _, n in dims) > 4000:
            return None
        values, indices = self.new(x.dtype, dims), self.new("i64", dims)
        self.lines.append(f"  {values.name}, {indices.name} = topk({x.name}) {{k = {k}}} : {values.type()}, {indices.type()}")
        self.values += [values, indices]
        zero = self.put("constant {dtype = i64, shape = [], data = [0]}", "i64", [])
        code = self.rng.choice(["lt", "le", "max", "add"])
        return self.put(f"{code}({indices.name}, {zero.name})", "bool" if code in ("lt", "le") else "i64", dims)

    def rows(self):
        """Whole rows by gather_nd or gather_elements."""
        x = self.pick(lambda v: v.dims and v.dims[0][0].isdigit() and v.dims[0][1] > 0)
        if x is None:
            return None
        number, n = x.dims[0][1], self.rng.randint(1, 3)
        data = [self.rng.randrange(-number, number) for _ in range(n)]
        shape = [n] + [1] * max(1, len(x.dims) - 1)
        whole = self.rng.random() < 0.5 and len(x.dims) >= 2
        if not whole:
            shape = [n, 1]
        index = self.put(f"constant {{dtype = i64, shape = {shape}, data = {data}}}", "i64",
                         [(str(i), i) for i in shape])
        dims = [(str(n), n)] + x.dims[1:]
        if not whole:
            return self.put(f"gather_nd({x.name}, {index.name})", x.dtype, dims)
        copies = self.put(f"expand({index.name}) {{shape = [{', '.join(t for t, _ in dims)}]}}", "i64", dims)
        if copies is None:
            return None
        return self.put(f"gather_elements({x.name}, {copies.name}) {{axis = 0}}", x.dtype, dims)

    def reduce(self):
        x = self.pick(lambda v: v.dims and v.dtype != "bool")
        if x is None:
            return None
        axes = sorted(self.rng.sample(range(len(x.dims)), self.rng.randint(0, len(x.dims))))
        if self.rng.random() < 0.5:
            axes = [i for i, d in enumerate(x.dims) if d == ("1", 1)]
        keep = self.rng.randint(0, 1)
        dims = [("1", 1) if i in axes else d for i, d in enumerate(x.dims) if keep or i not in axes]
        code = self.rng.choice(["reduce_sum", "reduce_max", "reduce_min", "reduce_prod"])
        return self.put(f"{code}({x.name}) {{axes = {axes}, keepdims = {keep}}}", x.dtype, dims)

    def scan(self):
        x = self.pick(lambda v: v.dims and v.dtype in ("f32", "i64", "i32"))
        if x is None:
            return None
        axis, exclusive = self.rng.randrange(len(x.dims)), self.rng.randint(0, 1)
        return self.put(f"cum_sum({x.name}) {{axis = {axis}, exclusive = {exclusive}}}", x.dtype, x.dims)

    def constant(self):
        dtype = self.rng.choice(["f32", "f32", "i64", "i32", "bool"])
        n = self.rng.choice([2, 3, 4])
        one = self.scalar(dtype)
        text = self.lines.pop()  # take its element, make copies of it
        self.values.pop()
        self.n -= 1
        element = text[text.rindex("data = [") + 8:text.rindex("]}")]
        data = ", ".join([element] * n)
        if self.rng.random() < 0.3 and dtype in ("f32", "i64"):
            data = ", ".join(str(float(i) if dtype == "f32" else i) for i in range(n))
        dims = list(one.dims) + [(str(n), n)]
        shape = ", ".join(t for t, _ in dims)
        return self.put(f"constant {{dtype = {dtype}, shape = [{shape}], data = [{data}]}}", dtype, dims)

    def sizes_tensor(self):
        if self.rng.random() < 0.4:
            return self.put("iota {dtype = i64, n = S}", "i64", [self.size("S")])
        return self.put("exprs {values = [B, 2*S + 1, 3]}", "i64", [("3", 3)])

    def matmul(self):
        x = self.pick(lambda v: len(v.dims) >= 2 and v.dtype in ("f32", "i64"))
        y = self.pick(lambda v: x is not None and len(v.dims) >= 2 and v.dtype == x.dtype
                      and v.dims[-2] == x.dims[-1])
        if y is None:
            return None
        batch = self.broadcast(Value("", "", x.dims[:-2]), Value("", "", y.dims[:-2])) \
            if len(x.dims) + len(y.dims) > 4 else []
        if batch is None:
            return None
        return self.put(f"matmul({x.name}, {y.name})", x.dtype, batch + [x.dims[-2], y.dims[-1]])

    # ---- Text and inputs ----

    def text(self):
        arguments = ", ".join(f'{v.name} "x{i}": {v.type()}' for i, v in enumerate(self.inputs))
        names = ", ".join(f'"y{i}"' for i in range(len(self.outputs)))
        results = ", ".join(v.name for v in self.outputs)
        used = "".join(v.type() for v in self.inputs)
        # Sizes that no argument has are given by one more.
        for name in SIZES:
            if not any(t == name for v in self.inputs for t, _ in v.dims):
                arguments += f', %{self.n} "size{name}": f32[{name}]'
                self.n += 1
                used += name
        symbols = ", ".join(f"{name} >= 0" for name in SIZES)
        body = "\n".join(self.lines)
        return (f'module "random" tensor {{\nsymbols {{ {symbols} }}\n'
                f"func @main({arguments}) -> ({names}) {{\n{body}\n  return({results})\n}}\n}}\n")

    def element(self, dtype):
        if dtype in FLOATS:
            x = self.rng.choice(SPECIAL) if self.rng.random() < 0.7 else self.rng.uniform(-9, 9)
            return x
        if dtype == "bool":
            return self.rng.random() < 0.5
        bits, signed = 8 * struct.calcsize("<" + INTS[dtype]), dtype[0] == "i"
        low = -(1 << (bits - 1)) if signed else 0
        high = (1 << (bits - (1 if signed else 0))) - 1
        return self.rng.choice([0, 1, 2, 3, high, low, self.rng.randint(low, high)])

    def write_inputs(self, folder):
        named = [(f"x{i}", v.dtype, [n for _, n in v.dims]) for i, v in enumerate(self.inputs)]
        for name in SIZES:
            if not any(t == name for v in self.inputs for t, _ in v.dims):
                named.append((f"size{name}", "f32", [self.sizes[name]]))
        arguments = []
        for name, dtype, dims in named:
            elements = [self.element(dtype) for _ in range(math.prod(dims))]
            path = folder / f"{name}.npy"
            write_npy(path, dtype, dims, elements)
            arguments.append(f"--input={name}={path}")
        return arguments


# ---- Files ---------------------------------------------------------------------


def write_npy(path, dtype, dims, elements):
    shape = "(" + "".join(f"{n}," for n in dims) + ")"
    header = f"{{'descr': '{NUMPY[dtype]}', 'fortran_order': False, 'shape': {shape}, }}"
    header += " " * (63 - (10 + len(header)) % 64) + "\n"
    data = struct.pack(f"<{len(elements)}{FORMAT[dtype]}", *elements)
    path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + data)


def read_npy(path):
    """(type and shape, elements), a NaN as the text 'nan' and others as bits."""
    raw = path.read_bytes()
    start = 10 + struct.unpack_from("<H", raw, 8)[0]
    header = ast.literal_eval(raw[10:start].decode())
    kind = header["descr"]
    code = {descr: FORMAT[dtype] for dtype, descr in NUMPY.items()}[kind]
    size = struct.calcsize("<" + code)
    elements = []
    for at in range(start, len(raw), size):
        bits = raw[at:at + size]
        value = struct.unpack("<" + code, bits)[0]
        elements.append("nan" if value != value else bits.hex())
    return (kind, header["shape"]), elements


# ---- Comparison ----------------------------------------------------------------


def run(command):
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    return done.returncode, done.stdout + done.stderr


def outputs(moec, source, folder, name, passes, inputs):
    """What is wrong or None, and the results."""
    library, results = folder / f"{name}.so", folder / name
    compile_command = [moec, str(source), "-o", str(library), f"--passes={passes}", "--verify-each=yes"]
    code, said = run(compile_command)
    if code != 0 or "go in circles" in said:
        return f"{shlex.join(compile_command)} ends with {code}: {said}", None
    results.mkdir()
    code, said = run([moec, "run", str(library), *inputs, f"--output-dir={results}", "--output-format=npy"])
    if code != 0:
        return None, ("status", code)
    return None, {path.name: read_npy(path) for path in sorted(results.iterdir())}


def difference(a, b):
    if isinstance(a, tuple) or isinstance(b, tuple):
        return None if a == b else f"without: {a if isinstance(a, tuple) else 'runs'}, with: {b if isinstance(b, tuple) else 'runs'}"
    for name, (kind, elements) in a.items():
        other_kind, others = b[name]
        if kind != other_kind:
            return f"{name} is {kind} without the passes, {other_kind} with them"
        for i, (x, y) in enumerate(zip(elements, others)):
            if x != y:
                return f"{name}[{i}] of {kind} is {x} without the passes, {y} with them"
    return None


def check(moec, seed, passes):
    graph = Graph(seed)
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        source = folder / "graph.moeir"
        source.write_text(graph.text())
        inputs = graph.write_inputs(folder)
        wrong, plain = outputs(moec, source, folder, "plain", PLAIN, inputs)
        if wrong is None:
            wrong, other = outputs(moec, source, folder, "passes", f"{passes},{PLAIN}", inputs)
        if wrong is None:
            wrong = difference(plain, other)
        if wrong is None:
            return True, isinstance(plain, tuple)
        kept = pathlib.Path(f"graph{seed}.moeir")
        kept.write_text(source.read_text())
    print(f"seed {seed}: {wrong}\ngraph: {kept.resolve()}")
    print(f"reproduce: {shlex.join([sys.argv[0], '--moec', moec, '--passes', passes, '--seed', str(seed), '--count', '1'])}")
    return False, False


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--moec", default="build/release/moec")
    parser.add_argument("--passes", default=PASSES)
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--seed", type=int, default=int(os.environ.get("MOEC_TEST_SEED", "1")))
    args = parser.parse_args()

    bad = failed = 0
    for seed in range(args.seed, args.seed + args.count):
        good, ended = check(args.moec, seed, args.passes)
        bad += not good
        failed += ended
    print(f"seeds {args.seed}..{args.seed + args.count - 1}: {bad} differ, {failed} end with a status either way")
    return min(bad, 1)


if __name__ == "__main__":
    sys.exit(main())
