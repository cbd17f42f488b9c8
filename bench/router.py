"""Routers: what they take for each token beyond the product with the gate, and the
same operations by ONNX Runtime, run in turn."""

import subprocess

import numpy as np
import onnx
from onnx import TensorProto, helper

import moec_library
import runs
import subjects

HIDDEN = 64
TOKENS = 4096
SHAPES = ((8, 2), (64, 8), (128, 8), (256, 8), (512, 10), (128, 32), (1024, 8), (4096, 8), (128, 128))

TEXT = """func @f(%0 "x": f32[T,{H}], %1 "gate": f32[{H},{E}]) {{
  {body}
}}
"""
PRODUCT = "%2 = matmul(%0, %1)\n  return(%2)"
ROUTE = """%2, %3 = moe.route(%0, %1) {{k = {k}, score = ["softmax"], score_values = [0.0], norm = ["sum"], norm_values = [0.0], weight = ["divide_by_norm"], weight_values = [0.0]}}
  return(%2, %3)"""


def compile_text(args, name, body, **sizes):
    source, library = args.out / f"{name}.moeir", args.out / f"{name}.so"
    source.write_text(TEXT.format(H=HIDDEN, body=body.format(**sizes), **sizes))
    command = [args.moec, source, "-o", library]
    if args.isa:
        command.append(f"--isa={args.isa}")
    subprocess.run(command, check=True)
    return moec_library.Library(library)


def onnx_model(args, experts, k, routes):
    """The chain of operators that exporters write."""
    nodes = [helper.make_node("MatMul", ["x", "gate"], ["logits"])]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["T", experts])]
    constants = []
    if routes:
        nodes += [helper.make_node("Softmax", ["logits"], ["p"], axis=-1),
                  helper.make_node("TopK", ["p", "k"], ["v", "expert"], axis=-1),
                  helper.make_node("ReduceSum", ["v", "axis"], ["s"], keepdims=1),
                  helper.make_node("Div", ["v", "s"], ["weight"])]
        outputs = [helper.make_tensor_value_info("expert", TensorProto.INT64, ["T", k]),
                   helper.make_tensor_value_info("weight", TensorProto.FLOAT, ["T", k])]
        constants = [helper.make_tensor("k", TensorProto.INT64, [1], [k]),
                     helper.make_tensor("axis", TensorProto.INT64, [1], [-1])]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["T", HIDDEN]),
              helper.make_tensor_value_info("gate", TensorProto.FLOAT, [HIDDEN, experts])]
    graph = helper.make_graph(nodes, "router", inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    path = args.out / f"router_{experts}_{k}_{routes}.onnx"
    onnx.save(model, path)
    return path


def subjects_of(args, experts, k, threads):
    rng = np.random.default_rng(7)
    x = rng.standard_normal((TOKENS, HIDDEN), np.float32)
    gate = rng.standard_normal((HIDDEN, experts), np.float32) / 8
    result = []
    for routes in (False, True):
        library = compile_text(args, f"router_{experts}_{k}_{routes}", ROUTE if routes else PRODUCT, E=experts, k=k)
        named = {"x": (TensorProto.FLOAT, x), "gate": (TensorProto.FLOAT, gate)}
        result.append(subjects.Moec(library, named, threads, args.variant))
    for routes in (False, True):
        inputs = {"x": (TensorProto.FLOAT, x), "gate": (TensorProto.FLOAT, gate)}
        result.append(subjects.Ort(onnx_model(args, experts, k, routes), inputs, threads))
    return result


def main(args):
    args.out.mkdir(parents=True, exist_ok=True)
    result = []
    print(f"{'E':>5} {'k':>4} {'th':>2} {'moec ns/token':>14} {'beyond product':>15} {'ORT beyond':>11}")
    for experts, k in SHAPES:
        for threads in args.threads:
            all_of_it = subjects_of(args, experts, k, threads)
            times = [[] for _ in all_of_it]
            for each in all_of_it:
                each.run()
            for _ in range(args.rounds):
                for subject, seconds in zip(all_of_it, times, strict=True):
                    seconds.append(subjects.sample(subject.run, threads, args.seconds))
            product, route, ort_product, ort_route = (min(t) / TOKENS * 1e9 for t in times)
            print(f"{experts:5} {k:4} {threads:2} {route:14.0f} {route - product:15.0f} "
                  f"{ort_route - ort_product:11.0f}", flush=True)
            result.append({"experts": experts, "k": k, "threads": threads, "tokens": TOKENS,
                           "product_ns": product, "route_ns": route, "ort_product_ns": ort_product,
                           "ort_route_ns": ort_route, "ort_to_moec": runs.ratio(times[3], times[1])})
    return result
