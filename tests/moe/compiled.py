"""Compiling and running a graph with moec, with and without recognition."""
import json
import pathlib
import subprocess
import zlib

import numpy as np

# Sums of an expert in another order. Values are of size 1 to 100.
RTOL, ATOL = 2e-4, 2e-5


def passes(moec):
    """Names of all passes."""
    text = subprocess.run([moec, "opt", "--list-passes"], capture_output=True, text=True,
                          check=True).stdout
    return {line.split()[0] for line in text.splitlines() if line and not line.startswith("-")}


def indices(args, count):
    """The models to make: one of them, or a part chosen by hash."""
    if args.only is not None:
        return [args.only]
    return [i for i in range(count) if zlib.crc32(b"%d" % i) % args.part == 0]


class Compiled:
    """One model; outputs of runs as arrays, None where one failed."""

    def __init__(self, moec, folder, model, inputs):
        self.moec, self.folder = moec, pathlib.Path(folder)
        self.error = None
        (self.folder / "model.onnx").write_bytes(model.SerializeToString())
        for name, array in inputs.items():
            np.save(self.folder / f"{name}.npy", array)
        self.inputs = [f"--input={name}={self.folder / name}.npy" for name in inputs]

    def run(self, *options):
        out = self.folder / "out"
        for old in out.glob("*"):
            old.unlink()
        command = [self.moec, "run", self.folder / "model.onnx", *self.inputs,
                   f"--output-dir={out}", "--output-format=npy", "--isa=x86-64", "--threads=1",
                   "-q", *options]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            self.error = f"exit {done.returncode}: {done.stderr.strip()[:500]}"
            return None
        n = len(list(out.glob("output_*.npy")))
        return [np.load(out / f"output_{i}.npy") for i in range(n)]

    def run_and_report(self):
        path = self.folder / "report.json"
        outputs = self.run(f"--report={path}")
        return outputs, None if outputs is None else json.loads(path.read_text())


def difference(got, want):
    """What is wrong with an output, or None."""
    if got.shape != want.shape:
        return f"shape {got.shape}, expected {want.shape}"
    scale = np.abs(want[np.isfinite(want)]).max(initial=0)
    close = np.isclose(got, want, rtol=RTOL, atol=ATOL + RTOL * float(scale), equal_nan=True)
    if close.all():
        return None
    at = tuple(int(i) for i in np.argwhere(~close)[0])
    return (f"{int((~close).sum())} of {close.size} elements differ; first at {at}: "
            f"got {got[at]}, want {want[at]}")


def layers_by_prefix(report, n):
    """The layers of the report for each of the prefixes L0/ .. of the graph."""
    found = [[] for _ in range(n)]
    stray = []
    for layer in report["layers"]:
        name = layer["node"].get("name") or layer["name"]
        number = name[1:].split("/")[0] if name.startswith("L") else ""
        (found[int(number)] if number.isdigit() else stray).append(layer)
    return found, stray
