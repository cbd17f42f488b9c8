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


FORMS = {f.__name__: f for f in (chain, ladder, unfused, views, wide, results, sizes)}


def write(form, n, path):
    lines = FORMS[form](n)
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
