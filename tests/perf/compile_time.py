#!/usr/bin/env python3
"""Compiling takes time and memory that grow with the number of operations, and no
faster: compile_time.py --moec MOEC [FORM...].

Each form is compiled with N and with 8 N operations. The processor time of the
second may be 20 times that of the first; were any step quadratic, it would be 64
times. A process that takes longer than TIMEOUT is stopped: that is how walks that
visit operations once for every way that leads to them show."""

import argparse
import os
import pathlib
import resource
import subprocess
import sys
import tempfile

SMALL, FACTOR = 1000, 8
TIMES = {"experts": 3, "choices": 3}  # as many operations: several make one expert
MOST_RATIO = 20
MOST_BYTES = 100 << 10  # more for each more operation
TIMEOUT = 240  # seconds


def chain(n):
    """Each takes the one before."""
    yield "%0: f32[B,16]"
    for i in range(n):
        kind = ("neg", "tanh", "abs", "sigmoid")[i % 4]
        yield f"%{i + 1} = {kind}(%{i})"
    yield f"return(%{n})"


def ladder(n):
    """Each takes the two before: 2^n ways lead to the first."""
    yield "%0: f32[B,16]"
    for i in range(n):
        kind = ("add", "sub", "max")[i % 3]
        yield f"%{i + 1} = {kind}(%{i}, %{max(0, i - 1)})"
    yield f"return(%{n})"


def unfused(n):
    """Every second one needs whole rows of the one before."""
    yield "%0: f32[B,16]"
    for i in range(n):
        yield f"%{i + 1} = softmax(%{i}) {{axis = 1}}" if i % 2 else (
            f"%{i + 1} = neg(%{i})")
    yield f"return(%{n})"


def views(n):
    """Transposes that do not cancel, with arithmetic in between."""
    yield "%0: f32[B,B]"
    for i in range(n):
        yield f"%{i + 1} = transpose(%{i}) {{perm = [1, 0]}}" if i % 2 else (
            f"%{i + 1} = tanh(%{i})")
    yield f"return(%{n})"


def wide(n):
    """Each takes the one before, the last takes all."""
    yield "%0: f32[B,16]"
    for i in range(n):
        yield f"%{i + 1} = {('neg', 'tanh')[i % 2]}(%{i})"
    every = ", ".join(f"%{i + 1}" for i in range(n))
    yield f"%{n + 1} = concat({every}) {{axis = 0}}"
    yield f"return(%{n + 1})"


def results(n):
    """Each takes the one before and is a result."""
    yield "%0: f32[B,16]"
    for i in range(n):
        yield f"%{i + 1} = {('neg', 'tanh')[i % 2]}(%{i})"
    yield "return(" + ", ".join(f"%{i + 1}" for i in range(n)) + ")"


def sizes(n):
    """A new symbol for every second operation: sizes that depend on data."""
    yield "%0: i64[B]"
    for i in range(0, n, 2):
        yield f"%{i + 1} = nonzero(%{i}) {{count = N{i}}}"
        yield f"%{i + 2} = reduce_sum(%{i + 1}) {{axes = [0], keepdims = 0}}"
    yield f"return(%{n})"


class Text:
    """Operations with values numbered in order, behind the arguments."""

    def __init__(self, *arguments):
        self.lines = [", ".join(f"%{i}: {a}" for i, a in enumerate(arguments))]
        self.n = len(arguments)

    def op(self, text, results=1):
        names = [f"%{self.n + i}" for i in range(results)]
        self.n += results
        self.lines.append(f"{', '.join(names)} = {text}")
        return names[0] if results == 1 else names

    def fill(self, dtype, number, shape):
        value = self.op(f"constant {{dtype = {dtype}, shape = [], data = [{number}]}}")
        return self.op(f"expand({value}) {{shape = {shape}}}")

    def topk(self, x):
        return self.op(f"topk({x}) {{axis = 1, k = 2, largest = 1, sorted = 1}}", 2)

    def gate(self, weight, index, expert):
        """The weight of an expert for each token, [T, 4]."""
        number = self.fill("i64", expert, "[T, 2]")
        mask = self.op(f"eq({index}, {number})")
        mask = self.op(f"cast({mask}) {{to = f32}}")
        weight = self.op(f"mul({mask}, {weight})")
        weight = self.op(f"reduce_sum({weight}) {{axes = [1], keepdims = 1}}")
        return self.op(f"expand({weight}) {{shape = [T, 4]}}")

    def expert(self, x, number):
        factor = self.fill("f32", number + 0.5, "[T, 4]")
        return self.op(f"tanh({self.op(f'mul({x}, {factor})')})")

    def end(self, *values):
        return self.lines + [f"return({', '.join(values)})"]


def residual(n):
    """A router in front of sums that are no experts'."""
    t, x = Text("f32[T,4]", "f32[T,8]"), "%0"
    weight, index = t.topk("%1")
    for _ in range(n // 2):
        x = t.op(f"add({x}, {t.op(f'tanh({x})')})")
    return t.end(x, weight, index)


def experts(n):
    """One layer, each expert by itself."""
    each = 13
    t, total = Text("f32[T,4]", f"f32[T,{n // each}]"), None
    weight, index = t.topk("%1")
    for e in range(n // each):
        gate = t.gate(weight, index, e)
        y = t.op(f"mul({t.expert('%0', e)}, {gate})")
        total = y if total is None else t.op(f"add({total}, {y})")
    return t.end(total)


def choices(n):
    """One layer of one expert for each token, picked by one mask after the other."""
    each = 9
    t = Text("f32[T,4]", f"f32[T,{n // each}]")
    index = t.op("arg_max(%1) {axis = 1, keepdims = 1, select_last_index = 0}")
    y = t.fill("f32", 0.0, "[T, 4]")
    for e in range(n // each):
        number = t.fill("i64", e, "[T, 1]")
        mask = t.op(f"eq({index}, {number})")
        mask = t.op(f"expand({mask}) {{shape = [T, 4]}}")
        y = t.op(f"select({mask}, {t.expert('%0', e)}, {y})")
    return t.end(y)


def routers(n):
    """Routers of no layer, each behind the one before."""
    t, x = Text("f32[T,4]"), "%0"
    for _ in range(n // 4):
        weight, _ = t.topk(x)
        weight = t.op(f"reduce_sum({weight}) {{axes = [1], keepdims = 1}}")
        weight = t.op(f"expand({weight}) {{shape = [T, 4]}}")
        x = t.op(f"mul({x}, {weight})")
    return t.end(x)


def squares(n):
    """Layers whose experts have 2^40 ways from the result to the token."""
    t, x = Text("f32[T,4]", "f32[T,2]"), "%0"
    weight, index = t.topk("%1")
    for _ in range(n // 100):
        parts = []
        for e in range(2):
            y = t.expert(x, e)
            for _ in range(40):
                y = t.op(f"mul({y}, {y})")
            parts.append(t.op(f"mul({y}, {t.gate(weight, index, e)})"))
        x = t.op(f"add({parts[0]}, {parts[1]})")
    return t.end(x)


FORMS = {f.__name__: f for f in (chain, ladder, unfused, views, wide, results, sizes,
                                 residual, experts, choices, routers, squares)}


def write(form, n, path):
    lines = iter(FORMS[form](n))
    body = f"func @f({next(lines)}) {{\n" + "".join(
        f"  {line}\n" for line in lines) + "}\n"
    path.write_text(body)


def stop_late():
    resource.setrlimit(resource.RLIMIT_CPU, (TIMEOUT, TIMEOUT))


def compile_once(moec, source, output):
    """Processor seconds and peak memory."""
    process = subprocess.Popen([moec, str(source), "-o", str(output), "-q"],
                               preexec_fn=stop_late)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        sys.exit(f"{source.name}: moec ended with {process.returncode}")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024


def check(moec, form, folder, small):
    """None, or what is wrong."""
    seconds, peak = [], []
    small *= TIMES.get(form, 1)
    for n in (small, small * FACTOR):
        source = folder / f"{form}_{n}.moeir"
        write(form, n, source)
        runs = [compile_once(moec, source, folder / "out.so") for _ in range(2)]
        seconds.append(min(s for s, _ in runs))
        peak.append(min(p for _, p in runs))
    ratio = seconds[1] / seconds[0]
    each = (peak[1] - peak[0]) / (small * (FACTOR - 1))
    print(f"{form:8} {small:6} operations {seconds[0]:7.2f} s, "
          f"{small * FACTOR:6} {seconds[1]:7.2f} s ({ratio:.1f} times), "
          f"{each / 1024:.1f} KiB each", flush=True)
    if ratio > MOST_RATIO:
        return f"{form}: time grows {ratio:.1f} times for {FACTOR}"
    if each > MOST_BYTES:
        return f"{form}: {each / 1024:.0f} KiB for each operation"
    return None


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--moec", required=True)
    parser.add_argument("--small", type=int, default=SMALL)
    parser.add_argument("forms", nargs="*", metavar="FORM")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        wrong = [check(args.moec, form, pathlib.Path(folder), args.small)
                 for form in args.forms or FORMS]
    for text in filter(None, wrong):
        print(text, file=sys.stderr)
    return 1 if any(wrong) else 0


if __name__ == "__main__":
    sys.exit(main())
