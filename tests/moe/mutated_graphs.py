#!/usr/bin/env python3
"""Models with layers that are changed at random: recognition keeps what they mean.

usage: mutated_graphs.py --moec MOEC [--seed N] [--count N] [--only I] [--part N] [FOLDER..]

Each model is one of the tests beside this file, or of a folder with model.onnx and
test_data_set_0, and is changed once or several times (mutations.py): a number, an
attribute, an operator, an edge. Where passes find something in it, it runs with them
and without on drawn inputs: of other sizes, with equal rows, zeros, large numbers, NaN
in one row. Where the plain run gives a finite number, the other one gives the same, or
NaN if numbers may have been infinite, as experts' results are assumed to be finite; it
ends with an error only if the plain run does. An error in what only the masks of
experts were computed with may be lost; --strict tells of these, too. ONNX Runtime is
asked which run is right.
"""
import argparse
import ctypes
import os
import pathlib
import pickle
import signal
import subprocess
import sys
import tempfile
import traceback

import numpy as np
import onnx
from onnx import helper, numpy_helper

import given_numbers
import joined_gates
import layers
import mutations
import structures
import two_levels
from compiled import ATOL, RTOL, indices
from graph import F32, I64, Graph

try:
    import onnxruntime
except ImportError:
    onnxruntime = None

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "bench"))
import moec_library  # noqa: E402

RULES = "moe,topk_sums,moe_groups,moe_router,moe_prune,moe_gates,repeats,moe_block"
SIGNS = ("moe.", "topk_sums")
SIZES = (0, 1, 2, 3, 4, 5, 8, 16, 33)

# ---- Models -----------------------------------------------------------------------------


def of_layers(rng):
    g = Graph(rng)
    g.inputs.append(("x", F32, ["T", layers.D]))
    for i in range(int(rng.choice([1, 1, 2]))):
        g.prefix = f"L{i}/"
        spec = layers.draw(rng)
        g.outputs.append((layers.make_layer(g, spec, "x"), F32, ["T", layers.H]))
    x = rng.normal(0, 1, (9, layers.D)).astype(np.float32)
    return g.model(), {"x": x}, layers.text_of(spec)


def of_structures(rng):
    name, make = STRUCTURES[int(rng.integers(len(STRUCTURES)))]
    model, inputs, _ = make()
    return model, inputs, name


def of_numbers(rng):
    names = sorted(given_numbers.FORMS)
    name = names[int(rng.integers(len(names)))]
    write, _, _, numbers, _, slots = given_numbers.FORMS[name]
    g = Graph(rng, given_numbers.D, given_numbers.F)
    g.inputs += [("x", F32, ["T", given_numbers.D]), ("ids", I64, ["T", *slots])]
    g.outputs.append((write(g, "x", "ids"), F32, ["T", given_numbers.D]))
    return g.model(), {"x": rng.normal(0, 1, (9, given_numbers.D)).astype(np.float32),
                       "ids": rng.integers(*numbers, (9, *slots))}, name


def of_two_levels(rng):
    g, _, form = two_levels.build(rng)
    return g.model(), {"x": rng.normal(0, 1, (9, two_levels.D)).astype(np.float32)}, form


def of_joined_gates(rng):
    g, rank = joined_gates.build(rng)
    shape = (9, joined_gates.D) if rank == 2 else (2, 5, joined_gates.D)
    return g.model(), {n: rng.normal(0, 1, shape).astype(np.float32) for n in "xy"}, "joined"


STRUCTURES = list(structures.cases())
SOURCES = [of_layers] * 5 + [of_structures] + [of_numbers] * 2 + [of_two_levels, of_joined_gates]


def of_folder(folder):
    model = onnx.load(folder / "model.onnx")
    constants = {t.name for t in model.graph.initializer}
    inputs = {}
    for i, v in enumerate(v for v in model.graph.input if v.name not in constants):
        with open(folder / f"test_data_set_0/input_{i}.pb", "rb") as file:
            tensor = onnx.TensorProto()
            tensor.ParseFromString(file.read())
        inputs[v.name] = numpy_helper.to_array(tensor)
    return model, inputs, folder.name


# ---- Inputs -----------------------------------------------------------------------------


def resized(model, inputs, rng):
    """Inputs with other sizes of the dimensions that have names."""
    sizes, out = {}, {}
    shapes = {v.name: v.type.tensor_type.shape.dim for v in model.graph.input}
    for name, array in inputs.items():
        shape = []
        for d, old in zip(shapes[name], array.shape):
            if d.HasField("dim_value"):
                shape.append(d.dim_value)
            else:
                shape.append(sizes.setdefault(d.dim_param or (name, len(shape)),
                                              int(rng.choice(SIZES))))
        out[name] = drawn(array, shape, rng)
    return out


def drawn(array, shape, rng):
    if array.dtype.kind == "f":
        return rng.normal(0, 1, shape).astype(array.dtype)
    if array.dtype == bool or array.size == 0:
        return rng.integers(0, 2, shape).astype(array.dtype)
    return rng.integers(array.min(), array.max() + 1, shape).astype(array.dtype)


def as_declared(model, inputs, rng):
    """Inputs with the sizes that the model still accepts."""
    shapes = {v.name: v.type.tensor_type.shape.dim for v in model.graph.input}
    out, sizes = {}, {}
    for name, array in inputs.items():
        shape = [d.dim_value if d.HasField("dim_value") else s
                 for d, s in zip(shapes[name], array.shape)]
        for d, s in zip(shapes[name], shape):
            if d.HasField("dim_value") and d.dim_param:
                sizes[d.dim_param] = s
        out[name] = array if list(array.shape) == shape else drawn(array, shape, rng)
    return out


def variants(model, inputs, rng):
    """What they are, dictionaries of inputs, and whether all numbers stay finite."""
    first = as_declared(model, inputs, rng)
    yield "drawn", first, True
    yield "of other sizes", resized(model, inputs, rng), True

    def changed(how):
        return {n: how(a.copy()) if a.dtype.kind == "f" and a.ndim and a.size else a
                for n, a in first.items()}

    def ties(a):
        a = np.round(a)
        rows = a.reshape(-1, a.shape[-1])
        rows[rng.random(len(rows)) < 0.4] = rows[0]
        rows[rng.random(len(rows)) < 0.3] = 0
        return a

    def nan(a):
        rows = a.reshape(-1, a.shape[-1])
        rows[bad % len(rows)] = number
        return a

    yield "with ties", changed(ties), True
    yield "large", changed(lambda a: a * np.float32(50)), False
    bad, number = int(rng.integers(1 << 20)), rng.choice([np.nan, np.inf])
    yield "with a row of NaN or infinity", changed(nan), False


# ---- Runs -------------------------------------------------------------------------------


def moec(args, model, out, *options):
    """Exit code and text."""
    try:
        done = subprocess.run([args.moec, model, "-o", out, "-q", *options], timeout=60,
                              capture_output=True, text=True)
    except subprocess.TimeoutExpired:
        return -1, "takes more than a minute"
    return done.returncode, done.stderr.strip()[:300]


def run_one(path, inputs, threads):
    """Outputs, or the message of an error."""
    library = moec_library.Library(path)
    given = {n: (helper.np_dtype_to_tensor_dtype(a.dtype), a) for n, a in inputs.items()}
    instance = moec_library.Instance(library, given, threads)
    try:
        instance.run()
        return [instance.output(i, helper.tensor_dtype_to_np_dtype(instance.outputs[i].dtype))
                for i in range(library.table.n_outputs)]
    except RuntimeError as error:
        return str(error)
    finally:
        instance.close()


def in_a_child(work, seconds=30):
    """What work() gives, computed in a process of its own; None if that dies."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        signal.alarm(seconds)
        try:
            with os.fdopen(write, "wb") as pipe:
                pickle.dump(work(), pipe)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        data = pipe.read()
    status = os.waitpid(child, 0)[1]
    return pickle.loads(data) if status == 0 else None


def by_runtime(model, inputs):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = onnxruntime.InferenceSession(str(model), options,
                                               providers=["CPUExecutionProvider"])
        return session.run(None, inputs)
    except Exception as error:
        return str(error)


def loss(want):
    """The relative error of one rounding of results, as a share of that of f32."""
    return {2: 5e-3 if want.dtype == np.float16 else 4e-2}.get(want.dtype.itemsize, RTOL)


def difference(got, want, finite=True, strict=False):
    """What is wrong with outputs where those wanted are finite."""
    if isinstance(got, str) or isinstance(want, str):
        if isinstance(want, str) and (isinstance(got, str) or not strict):
            return None
        return f"got {got if isinstance(got, str) else 'results'}, " \
               f"want {want if isinstance(want, str) else 'results'}"
    for i, (g, w) in enumerate(zip(got, want)):
        if g.shape != w.shape:
            return f"output {i}: shape {g.shape}, want {w.shape}"
        if w.dtype.kind not in "fV" and w.dtype.name != "bfloat16":
            wrong = g != w
        else:
            rtol = loss(w)
            g, w = g.astype(np.float64), w.astype(np.float64)
            known = np.isfinite(w) & (True if finite or strict else ~np.isnan(g))
            scale = float(np.abs(w[np.isfinite(w)]).max(initial=0))
            with np.errstate(all="ignore"):
                close = np.isclose(g, w, rtol=rtol, atol=ATOL + rtol * scale)
            wrong = ~close & known
        if wrong.any():
            at = tuple(int(n) for n in np.argwhere(wrong)[0])
            return (f"output {i}: {int(wrong.sum())} of {w.size}, first at {at}: got {g[at]}, "
                    f"want {w[at]}")
    return None


# ---- The test ---------------------------------------------------------------------------


def build(args, index):
    """A model, its inputs and what they are."""
    rng = np.random.default_rng([args.seed, index])
    if args.folders:
        folder = pathlib.Path(args.folders[index % len(args.folders)])
        model, inputs, text = of_folder(folder)
    else:
        model, inputs, text = SOURCES[int(rng.integers(len(SOURCES)))](rng)
    told = []
    for _ in range(int(rng.choice([1, 1, 1, 2, 3]))):
        how = None
        for _ in range(20):
            how = mutations.mutate(model, rng, args.way)
            if how is not None:
                break
        told.append(how)
    return model, inputs, f"{text}; {'; '.join(str(t) for t in told)}", rng


def check(args, index, folder):
    """How it went, and texts of what is wrong."""
    model, inputs, text, rng = build(args, index)
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    code, error = moec(args, path, folder / "model.moeir", f"--passes={PASSES}")
    if code in (3, 4, 5):
        return "refused", text, []
    if code != 0:
        return "ended", text, [f"exit {code}: {error}"]
    ir = (folder / "model.moeir").read_text()
    if not any(sign in ir for sign in SIGNS):
        return "plain", text, []
    options = ["--isa=x86-64"]
    code, error = moec(args, path, folder / "with.so", *options)
    other, plain_error = moec(args, path, folder / "plain.so", *options, f"--disable-pass={RULES}")
    if code != 0 or other != 0:
        return "found", text, [f"exit {code}, plain {other}: {error or plain_error}"]
    problems = []
    for kind, given, finite in variants(model, inputs, rng):
        threads = int(rng.choice([1, 1, 2]))
        outcome = in_a_child(lambda: [run_one(folder / f"{w}.so", given, threads)
                                      for w in ("plain", "with")])
        if outcome is None:
            if finite or args.strict:
                problems.append(f"{kind}: ends the process")
            continue
        plain, got = outcome
        problem = difference(got, plain, finite, args.strict)
        if problem is not None:
            problems.append(f"{kind}: {problem}{judged(path, given, got, plain)}")
    return "found", text, problems


def judged(path, inputs, got, plain):
    if onnxruntime is None:
        return ""
    theirs = in_a_child(lambda: by_runtime(path, inputs))  # it may end the process
    if theirs is None:
        return "; ONNX Runtime ends the process"
    if isinstance(theirs, str):
        return f"; ONNX Runtime: {theirs.strip()[:120]}"
    return (f"; ONNX Runtime agrees with{' this' if difference(got, theirs) is None else ''}"
            f"{' plain' if difference(plain, theirs) is None else ''}")


def pipeline(moec_path):
    """The passes up to where experts become plain operations."""
    text = subprocess.run([moec_path, "opt", "--list-passes"], capture_output=True, text=True,
                          check=True).stdout
    line = next(t for t in text.splitlines() if t.startswith("-O2"))
    return line.split()[1].split(",moe_expand")[0]


def main():
    global PASSES
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--moec", required=True)
    parser.add_argument("--seed", type=int, default=int(os.environ.get("MOEC_TEST_SEED", "1")))
    parser.add_argument("--count", type=int, default=800)
    parser.add_argument("--only", type=int)
    parser.add_argument("--part", type=int, default=1)
    parser.add_argument("--keep", type=pathlib.Path, help="folder for models that fail")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--way", help="the only kind of change: insert, rewire, ..")
    parser.add_argument("--strict", action="store_true")
    parser.add_argument("folders", nargs="*")
    args = parser.parse_args()
    PASSES = pipeline(args.moec)
    tally, failures = {}, 0
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        for index in indices(args, args.count):
            if index < args.first and args.only is None:
                continue
            how, text, problems = check(args, index, folder)
            tally[how] = tally.get(how, 0) + 1
            if args.only is not None:
                print(how, text)
            failures += bool(problems)
            for problem in problems[:2]:
                print(f"--seed {args.seed} --only {index}: {text}: {problem}", flush=True)
            if args.keep and (problems or args.only is not None):
                args.keep.mkdir(parents=True, exist_ok=True)
                (args.keep / f"{args.seed}_{index}.onnx").write_bytes(
                    (folder / "model.onnx").read_bytes())
    print(f"{tally}: {failures} failures")
    return failures > 0


if __name__ == "__main__":
    sys.exit(main())
