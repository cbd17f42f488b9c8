#!/usr/bin/env python3
"""Shortens or changes files while moec compiles them.

The compiler is held in the middle by a pipe that nobody reads: it prints the IR
after every pass. Large files are mapped, and gone where they were cut off; small
ones have been read, and are no longer what was read."""

import argparse
import os
import pathlib
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import wire as w  # noqa: E402

MIB = 1 << 20


def write_model(folder, elements):
    """A chain of nodes, then a sum with external data of so many floats."""
    names = ["x"] + [f"v{i}" for i in range(200)]
    nodes = [w.node("Sin", [a], [b]) for a, b in zip(names, names[1:])]
    nodes.append(w.node("Add", [names[-1], "w"], ["y"]))
    weight = w.external(w.FLOAT, [elements], [("location", "w.bin")])
    (folder / "m.onnx").write_bytes(w.model(w.graph(
        nodes, [weight], [w.value_info("x", w.FLOAT, [1])], [w.untyped("y")])))
    with open(folder / "w.bin", "wb") as file:
        file.truncate(4 * elements)


def compile_and(change, moec, folder):
    """Returns exit code and messages."""
    product = folder / "m.so"
    process = subprocess.Popen(
        [moec, "m.onnx", "-o", product, "--print-ir-after=all"], cwd=folder,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    begun = process.stderr.read1(64)
    assert begun != b"", "nothing was printed"
    change()
    text = (begun + process.stderr.read()).decode(errors="replace")
    code = process.wait()
    messages = [line for line in text.splitlines() if line.startswith("moec: ")]
    leftovers = sorted(set(os.listdir(folder)) - {"m.onnx", "w.bin"})
    return code, "\n".join(messages), leftovers


def check(name, moec, elements, change, code, words):
    with tempfile.TemporaryDirectory(prefix="moec-shortened-") as folder:
        folder = pathlib.Path(folder)
        write_model(folder, elements)
        found = compile_and(lambda: change(folder / "w.bin"), moec, folder)
    if found[0] == code and words in found[1] and (code == 0) == bool(found[2]):
        return 0
    print(f"FAILED {name}: exit code {found[0]}, expected {code}; expected the "
          f"words '{words}'; said: {found[1][:500]}; left: {found[2]}")
    return 1


def append(path):
    with open(path, "ab") as file:
        file.write(b"more")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--moec", required=True)
    moec = str(pathlib.Path(parser.parse_args().moec).resolve())
    large, small = 80 * MIB // 4, MIB // 4
    failed = 0
    failed += check("unchanged", moec, small, lambda path: None, 0, "")
    failed += check("large file shortened", moec, large,
                    lambda path: os.truncate(path, 0), 6,
                    "was shortened while it was being read")
    failed += check("small file shortened", moec, small,
                    lambda path: os.truncate(path, 0), 6,
                    "was changed while it was being read")
    failed += check("large file grown", moec, large, append, 6,
                    "was changed while it was being read")
    failed += check("small file removed", moec, small, os.unlink, 6,
                    "was changed while it was being read")
    print(f"5 cases, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
