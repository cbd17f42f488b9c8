"""How long the compiler takes and how much memory it needs."""

import json
import pathlib
import subprocess
import sys

import case as cases

KILO = 1024
MEASURED = pathlib.Path(__file__).with_name("measured.py")


def compile_once(moec, model, output, isa=None, options=()):
    """Runs the compiler: wall clock, processor time and peak memory."""
    command = [sys.executable, "-I", "-S", str(MEASURED), str(moec), str(model),
               "-o", str(output), "-q", *options]
    if isa:
        command.append(f"--isa={isa}")
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout) | {"message": done.stderr.strip()}


def least(moec, model, output, isa, repeats):
    """The least of each figure over some runs."""
    runs = [compile_once(moec, model, output, isa) for _ in range(repeats)]
    best = dict(runs[0])
    for name in ("seconds", "cpu_seconds", "peak_bytes"):
        best[name] = min(r[name] for r in runs)
    return best


def main(args):
    """Compiles every case for one variant and for all."""
    args.out.mkdir(parents=True, exist_ok=True)
    one = args.isa or "avx512"
    rows = []
    print(f"{'case':36} {'KB':>6} {one + ' s':>10} {'cpu s':>6} {'all s':>6} "
          f"{'cpu s':>6} {'MiB':>6} {'.so KB':>7}")
    for case in cases.find(args.paths):
        model = case / "model.onnx"
        output = args.out / f"{case.name}.so"
        row = {"case": case.name, "model_bytes": model.stat().st_size,
               "one": least(args.moec, model, output, one, args.repeats),
               "all": least(args.moec, model, output, None, args.repeats)}
        rows.append(row)
        if row["all"]["status"] != 0:
            print(f"{case.name:36} {row['all']['message'][:80]}")
            continue
        row["library_bytes"] = output.stat().st_size
        print(f"{case.name:36} {row['model_bytes'] // KILO:6} "
              f"{row['one']['seconds']:10.2f} {row['one']['cpu_seconds']:6.2f} "
              f"{row['all']['seconds']:6.2f} {row['all']['cpu_seconds']:6.2f} "
              f"{row['all']['peak_bytes'] / KILO ** 2:6.0f} "
              f"{row['library_bytes'] // KILO:7}", flush=True)
    return {"cases": rows}


def sized(args, sizes, make, unit, form):
    """Compiles made models of growing size; prints the time of each unit."""
    args.out.mkdir(parents=True, exist_ok=True)
    label = next(iter(form.values()))
    rows = []
    print(f"{label:>8} {unit:>8} {'seconds':>8} {'cpu s':>8} {'us each':>8} "
          f"{'peak MiB':>9} {'.so KB':>8}")
    for size in sizes:
        model = args.out / f"{label}_{size}.onnx"
        output = args.out / f"{label}_{size}.so"
        make(model, size, **form)
        row = compile_once(args.moec, model, output, args.isa)
        row |= {"size": size, "model_bytes": model.stat().st_size} | form
        rows.append(row)
        if row["status"] == 0:
            row["library_bytes"] = output.stat().st_size
            print(f"{'':8} {size:8} {row['seconds']:8.2f} "
                  f"{row['cpu_seconds']:8.2f} "
                  f"{row['cpu_seconds'] / size * 1e6:8.1f} "
                  f"{row['peak_bytes'] / KILO ** 2:9.1f} "
                  f"{row['library_bytes'] // KILO:8}", flush=True)
        else:
            print(f"{'':8} {size:8} {row['message'][:100]}")
        for path in (model, model.with_suffix(".bin"), output):
            path.unlink(missing_ok=True)
    return rows
