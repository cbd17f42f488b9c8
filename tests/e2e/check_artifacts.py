#!/usr/bin/env python3
"""Checks what compiled models are made of, over all model cases.

For each case: two compilations give the same bytes; the library needs the C
library at most, in versions up to 2.28, and exports one symbol; runtime routines
are those of the table; f32 kernels with loops use the vectors of the AVX2 and
AVX-512 variants; kernels that gain nothing by VNNI are not emitted for it; each
variant that runs here gives the same bits for 1 and 2 threads; libraries for other
architectures need and export the same.
"""
import argparse
import json
import math
import os
import pathlib
import re
import subprocess
import sys
import tempfile

ALLOWED_NEEDED = {"libc.so.6", "libm.so.6"}
WEAK = {"pthread_create", "pthread_join"}  # absent before glibc 2.34: one thread
VECTOR_FAMILIES = ("map", "reduce", "product", "softmax")
VECTORS = {"avx2": ("ymm", 8), "avx512": ("zmm", 16)}  # and how many f32 it has


def run(command, **env):
    p = subprocess.run([str(c) for c in command], capture_output=True, text=True,
                       env={**os.environ, **env})
    return p.returncode, p.stdout, p.stderr


def check_elf(readelf, so):
    problems = []
    _, dynamic, _ = run([readelf, "-d", so])
    needed = set(re.findall(r"NEEDED.*\[(.*?)\]", dynamic))
    if needed - ALLOWED_NEEDED:
        problems.append(f"needs {sorted(needed - ALLOWED_NEEDED)}")
    _, symbols, _ = run([readelf, "--dyn-syms", "-W", so])
    exported = []
    for line in symbols.splitlines():
        f = line.split()
        if len(f) < 8 or not f[0].rstrip(":").isdigit():
            continue
        name, defined = f[7], f[6] != "UND"
        base = name.split("@")[0]
        if defined:
            exported.append(base)
            continue
        version = re.search(r"@GLIBC_(\d+)\.(\d+)", name)
        if version and (int(version[1]), int(version[2])) > (2, 28):
            problems.append(f"imports {name}")
        if not version and base not in WEAK:
            problems.append(f"imports {base} of no version")
    if exported != ["moec_model"]:
        problems.append(f"exports {exported}")
    return problems


def longest_loop(body):
    """Elements of a kernel's longest loop in vectors; a size of the run is infinite."""
    constants = {name: int(value) for name, value in re.findall(
        r"(%\d+) = constant \{dtype = i64, shape = \[\], data = \[(-?\d+)\]\}", body)}
    lengths = [constants[end] - constants[begin] if {begin, end} <= set(constants) else math.inf
               for begin, end in re.findall(
                   r"\b(?:for|reduce)\((%\d+), (%\d+)\) \{[^}]*vector = 1", body)]
    return max(lengths, default=math.inf)


def converts_long(body):
    """Whether i64 becomes f32, for which AVX2 has no vectors."""
    return any(re.search(rf"cast\({name}\) \{{to = f32\}}", body)
               for name in re.findall(r"(%\d+) = load\([^)]*\) : i64\[\]", body))


def kernels_with_loops(dump):
    """Kernels in the last dump that have loops over elements: name, text."""
    text = sorted(dump.glob("*.moeir"))[-1].read_text()
    for name, body in re.findall(r"^kernel @(\S+?)\((.*?)^}", text, re.S | re.M):
        if re.search(r"\b(for|reduce|product_tile)\(", body):
            yield name, body


def check_vectors(objdump, so, dump):
    _, text, _ = run([objdump, "-d", "--no-show-raw-insn", so])
    code = dict(re.findall(r"^[0-9a-f]+ <(\S+)>:\n(.*?)(?=^\s*$|\Z)", text,
                           re.S | re.M))
    problems = []
    for name, kernel in kernels_with_loops(dump):
        family, dtype = name.split("_")[1], name.split("_")[-2]
        if family not in VECTOR_FAMILIES or dtype != "f32":
            continue
        for variant, (register, lanes) in VECTORS.items():
            if variant == "avx2" and converts_long(kernel):
                continue
            body = code.get(f"{name}_{variant}")
            if body is None:
                problems.append(f"no code of {name} for {variant}")
            elif longest_loop(kernel) >= lanes and register not in body:
                problems.append(f"{name} has no {register} in {variant}")
    problems += [f"{name} is emitted again for VNNI" for name in code
                 if name.endswith("_avx512-vnni") and "vpdpbusd" not in text]
    return problems


def check_routines(moec, so, known):
    _, out, _ = run([moec, "inspect", "--json", so])
    text = json.dumps(json.loads(out))
    used = set(re.findall(r'"routine": "(\w+)"', text))
    unnamed = re.findall(r'"routine": "(\w+)"[^}]*"operators": \[\]', text)
    return ([f"calls routine {r}, which is not in the table"
             for r in sorted(used - known)] +
            [f"call of {r} names no operator" for r in unnamed])


def outputs(moec, so, data, directory, variant, threads):
    code, _, err = run([moec, "run", so, "--data", data, "--output-dir", directory],
                       MOEC_CPU=variant, MOEC_NUM_THREADS=str(threads))
    if code != 0:
        return code, err
    return 0, [p.read_bytes() for p in sorted(pathlib.Path(directory).glob("*.pb"))]


def check_threads(moec, so, case, tmp):
    problems, ran = [], 0
    data = sorted(case.glob("test_data_set_*"))[-1]
    for variant in ("x86-64", "avx2", "avx512", "avx512-vnni"):
        results = []
        for threads in (1, 2):
            directory = tmp / f"{variant}-{threads}"
            directory.mkdir()
            results.append(outputs(moec, so, data, directory, variant, threads))
        if any(code != 0 for code, _ in results):
            if "lacks" not in str(results):
                problems.append(f"variant {variant} fails: {results[0][1]}")
            continue
        ran += 1
        if results[0] != results[1]:
            problems.append(f"variant {variant}: other bits with 2 threads")
    if ran == 0:
        problems.append("no variant ran")
    return problems


def check_targets(args, model, tmp):
    problems, so = [], tmp / "foreign.so"
    for target in args.foreign:
        code, _, err = run([args.moec, model, "-o", so, f"--target={target}"])
        problems += check_elf(args.readelf, so) if code == 0 else [
            f"does not compile for {target}: {err}"]
    return problems


def foreign_targets(moec):
    _, table, _ = run([moec, "--print-targets"])
    return sorted({row.split()[0] for row in table.splitlines()
                   if "another architecture" in row})


def check_case(args, case, known):
    with tempfile.TemporaryDirectory() as t:
        tmp = pathlib.Path(t)
        a, b = tmp / "m.so", tmp / "again" / "m.so"
        b.parent.mkdir()
        model = case / "model.onnx"
        for so, extra in ((a, [f"--dump-ir={tmp}/dump"]), (b, [])):
            code, _, err = run([args.moec, model, "-o", so, *extra])
            if code != 0:
                return [f"does not compile: {err}"]
        problems = []
        if a.read_bytes() != b.read_bytes():
            problems.append("two compilations differ")
        problems += check_elf(args.readelf, a)
        problems += check_routines(args.moec, a, known)
        problems += check_vectors(args.objdump, a, tmp / "dump")
        problems += check_threads(args.moec, a, case, tmp)
        problems += check_targets(args, model, tmp)
        return problems


def main():
    ap = argparse.ArgumentParser()
    for name in ("moec", "objdump", "readelf", "routines"):
        ap.add_argument(f"--{name}", required=True)
    ap.add_argument("--only", default="*")
    ap.add_argument("models", type=pathlib.Path)
    args = ap.parse_args()
    rows = pathlib.Path(args.routines).read_text()
    known = set(re.findall(r"^ROUTINE\((\w+)", rows, re.M))
    cases = sorted(p.parent for p in args.models.glob(f"{args.only}/model.onnx"))
    args.foreign = foreign_targets(args.moec)
    bad = 0
    for case in cases:
        for problem in check_case(args, case, known):
            print(f"{case.name}: {problem}")
            bad += 1
    print(f"{len(cases)} models, {bad} problems")
    sys.exit(1 if bad or not cases else 0)


main()
