"""Layers of very many experts of rank one, chosen by product keys: time for each token,
and how much of the compiled model one token brings into memory, against the number of
experts."""

import pathlib
import re
import subprocess

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import moec_library
import subjects

WIDTH, HALF, K = 32, 16, 8
SIDES = (32, 100, 316, 1000)
TOKENS = (1, 16, 256)


def tensors(args, side, rng):
    """Weights; those of experts in a file."""
    small = {"query": (WIDTH, 2 * HALF), "keys_a": (HALF, side), "keys_b": (HALF, side)}
    result = [numpy_helper.from_array(rng.standard_normal(shape, np.float32), name)
              for name, shape in small.items()]
    numbers = {"k": [K], "halves": [HALF, HALF], "two": [2], "one": [1], "flat": [-1, side * side]}
    result += [numpy_helper.from_array(np.array(n, np.int64), name) for name, n in numbers.items()]
    data = args.out / f"keys_{side}.data"
    with open(data, "wb") as file:
        for name in ("down", "up"):
            offset = file.tell()
            rng.standard_normal((side * side, WIDTH), np.float32).tofile(file)
            tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=(side * side, WIDTH),
                                 data_location=TensorProto.EXTERNAL)
            for key, value in (("location", data.name), ("offset", offset),
                               ("length", file.tell() - offset)):
                tensor.external_data.add(key=key, value=str(value))
            result.append(tensor)
    return result


def compile_layer(args, side):
    make = helper.make_node
    nodes = [make("MatMul", ["x", "query"], ["q"]), make("Split", ["q", "halves"], ["qa", "qb"], axis=-1),
             make("MatMul", ["qa", "keys_a"], ["a"]), make("MatMul", ["qb", "keys_b"], ["b"]),
             make("Unsqueeze", ["a", "two"], ["a2"]), make("Unsqueeze", ["b", "one"], ["b2"]),
             make("Add", ["a2", "b2"], ["sums"]), make("Reshape", ["sums", "flat"], ["all"]),
             make("TopK", ["all", "k"], ["best", "expert"], axis=-1), make("Softmax", ["best"], ["weight"]),
             make("Gather", ["down", "expert"], ["d"]), make("Gather", ["up", "expert"], ["u"]),
             make("Unsqueeze", ["x", "one"], ["x2"]), make("Mul", ["x2", "d"], ["xd"]),
             make("ReduceSum", ["xd", "two"], ["h"], keepdims=0), make("Relu", ["h"], ["r"]),
             make("Mul", ["r", "weight"], ["rw"]), make("Unsqueeze", ["rw", "two"], ["rw2"]),
             make("Mul", ["rw2", "u"], ["ru"]), make("ReduceSum", ["ru", "one"], ["y"], keepdims=0)]
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["T", WIDTH]) for n in "xy"]
    graph = helper.make_graph(nodes, "keys", ends[:1], ends[1:],
                              tensors(args, side, np.random.default_rng(5)))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    source, library = args.out / f"keys_{side}.onnx", args.out / f"keys_{side}.so"
    onnx.save(model, source)
    command = [args.moec, source, "-o", library, *([f"--isa={args.isa}"] if args.isa else [])]
    subprocess.run(command, check=True)
    return library


def resident(library):
    """Bytes of the file that this process has in memory."""
    kib, ours = 0, False
    for line in pathlib.Path("/proc/self/smaps").read_text(encoding="utf-8").splitlines():
        if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
            ours = line.endswith(str(library.resolve()))
        elif ours and line.startswith("Rss:"):
            kib += int(line.split()[1])
    return kib * 1024


def main(args):
    args.out.mkdir(parents=True, exist_ok=True)
    result = []
    print(f"{'experts':>8} {'tokens':>6} {'th':>2} {'us/token':>9} {'KiB in memory after one token':>30}")
    for side in SIDES:
        path = compile_layer(args, side)
        library = moec_library.Library(path)
        touched = None
        for tokens in TOKENS:
            x = np.random.default_rng(7).standard_normal((tokens, WIDTH), np.float32)
            for threads in args.threads:
                subject = subjects.Moec(library, {"x": (TensorProto.FLOAT, x)}, threads, args.variant)
                before = resident(path)
                subject.run()
                if touched is None:
                    touched = resident(path) - before
                seconds = min(subjects.sample(subject.run, threads, args.seconds)
                              for _ in range(args.rounds))
                print(f"{side * side:8} {tokens:6} {threads:2} {seconds / tokens * 1e6:9.3f} "
                      f"{touched / 1024:30.0f}", flush=True)
                result.append({"experts": side * side, "tokens": tokens, "threads": threads,
                               "us": seconds / tokens * 1e6, "resident": touched})
    return result
