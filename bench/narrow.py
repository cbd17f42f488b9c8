"""Weights of f32 that are bf16 or f16 at heart: a model with and without the pass
`narrow`, run in turn."""

import numpy as np
from onnx import TensorProto

import compiling
import make_big
import moec_library
import runs
import subjects

MEBIBYTES = 256  # no cache holds them


def build(args, rounded, mebibytes):
    """The libraries that read 16 and 32 bits, and what compiling took."""
    model = args.out / f"big_{rounded}.onnx"
    make_big.make_big(model, mebibytes, rounded=rounded)
    libraries, compiled = [], []
    for name, options in (("narrow", ()), ("wide", ("--disable-pass=narrow",))):
        output = args.out / f"big_{rounded}_{name}.so"
        compiled.append(compiling.compile_once(args.moec, model, output, args.isa,
                                               options))
        if compiled[-1]["status"] != 0:
            raise RuntimeError(compiled[-1]["message"])
        compiled[-1]["library_bytes"] = output.stat().st_size
        libraries.append(moec_library.Library(output))
    model.unlink()
    model.with_suffix(".bin").unlink()
    return libraries, compiled


def measure(libraries, rows, threads, args):
    x = np.random.default_rng(3).standard_normal((rows, make_big.HIDDEN), np.float32)
    inputs = {"x": (TensorProto.FLOAT, x)}
    both = [subjects.Moec(library, inputs, threads, args.variant)
            for library in libraries]
    times = [[], []]
    for each in both:
        each.run()
    same = both[0].output(0, np.float32).tobytes() == both[1].output(
        0, np.float32).tobytes()
    for _ in range(args.rounds):
        for subject, seconds in zip(both, times, strict=True):
            seconds.append(subjects.sample(subject.run, threads, args.seconds))
    result = {"rows": rows, "threads": threads, "same_bits": same,
              "variant": both[0].instance.variant(), "narrow_seconds": min(times[0]),
              "wide_to_narrow": runs.ratio(times[1], times[0])}
    for each in both:
        each.instance.close()
    return result


def main(args):
    args.out.mkdir(parents=True, exist_ok=True)
    mebibytes = int(args.paths[0]) if args.paths else MEBIBYTES
    result = []
    print(f"{'weights':8} {'variant':12} {'th':>2} {'rows':>5} {'narrow us':>11} "
          f"{'f32 / narrow':>22}")
    for rounded in ("bf16", "f16"):
        libraries, compiled = build(args, rounded, mebibytes)
        for threads in args.threads:
            for rows in args.rows:
                r = measure(libraries, rows, threads, args)
                result.append(r | {"rounded": rounded, "compile": compiled})
                note = "" if r["same_bits"] else "other bits"
                print(f"{rounded:8} {r['variant']:12} {threads:2} {rows:5} "
                      f"{r['narrow_seconds'] * 1e6:11.1f} "
                      f"{runs.show_ratio(r['wide_to_narrow'])} {note}", flush=True)
        narrow, wide = compiled
        print(f"{rounded:8} compiling {narrow['seconds']:.2f} s and "
              f"{narrow['peak_bytes'] / 2**20:.0f} MiB, without "
              f"{wide['seconds']:.2f} s and {wide['peak_bytes'] / 2**20:.0f} MiB; "
              f"library {narrow['library_bytes'] / 2**20:.1f} MiB, without "
              f"{wide['library_bytes'] / 2**20:.1f} MiB")
    return result
