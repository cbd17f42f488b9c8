"""Shapes and meaning, M57 to M70, and Mixture-of-Experts layers, M71 to M78."""

import wire as w
from table import (LIMIT, MALFORMED, UNSUPPORTED, bytes_of, case, elements,
                   floats, ints, npy, of_run, one)

F = w.FLOAT
NAN, INF = float("nan"), float("inf")
REFUSED = (UNSUPPORTED, MALFORMED)


def dims_cases():
    case("m57-matmul", MALFORMED, "3",
         one("MatMul", [("x", F, [2, 3]), ("z", F, [4, 5])]))
    case("m57-matmul-scalar", MALFORMED, "expected no scalars",
         one("MatMul", [("x", F, [2, 3]), ("z", F, [])]))
    case("m57-gemm", MALFORMED, "", one(
        "Gemm", [("x", F, [2, 3]), ("z", F, [4, 5])], [w.a_int("transA", 1)]))
    case("m57-gemm-bias", MALFORMED, "", one(
        "Gemm", [("x", F, [2, 3]), ("z", F, [3, 5]), ("c", F, [2, 4])]))
    image, kernel = ("x", F, [1, 4, 5, 5]), ("k", F, [6, 4, 3, 3])
    for name, inputs, attributes in [
            ("channels", [image, ("k", F, [6, 3, 3, 3])], []),
            ("group", [image, kernel], [w.a_int("group", 3)]),
            ("group-zero", [image, kernel], [w.a_int("group", 0)]),
            ("group-negative", [image, kernel], [w.a_int("group", -1)]),
            ("stride-zero", [image, kernel], [w.a_ints("strides", [0, 1])]),
            ("stride-negative", [image, kernel],
             [w.a_ints("strides", [1, -1])]),
            ("dilation-zero", [image, kernel], [w.a_ints("dilations", [1, 0])]),
            ("kernel-shape", [image, kernel],
             [w.a_ints("kernel_shape", [2, 2])]),
            ("kernel-large", [image, ("k", F, [6, 4, 9, 9])], []),
            ("dilation-huge", [image, kernel],
             [w.a_ints("dilations", [2**62, 1])]),
            ("pads-huge", [image, kernel],
             [w.a_ints("pads", [2**62, 1, 2**62, 1])]),
            ("bias", [image, kernel, ("b", F, [5])], []),
            ("rank", [("x", F, [4, 5]), kernel], [])]:
        case(f"m57-conv-{name}", MALFORMED, "", one("Conv", inputs, attributes))
    for name, attributes in [
            ("zero", [w.a_ints("kernel_shape", [0, 2])]),
            ("negative", [w.a_ints("kernel_shape", [-2, 2])]),
            ("large", [w.a_ints("kernel_shape", [9, 2])]),
            ("missing", [])]:
        case(f"m57-pool-{name}", MALFORMED, "", one("MaxPool", [image],
                                                    attributes))


def reshape_cases():
    x = ("x", F, [2, 3])
    for name, shape, attributes in [
            ("two-unknown", [-1, -1], []), ("not-divisible", [4, -1], []),
            ("count", [7], []), ("negative", [-2, 3], []),
            ("zero-and-unknown", [0, -1], [w.a_int("allowzero", 1)]),
            ("zero-beyond-rank", [2, 3, 0], []),
            ("product", [2**32, 2**32, 6], [])]:
        case(f"m58-reshape-{name}",
             (MALFORMED, LIMIT) if name == "product" else MALFORMED, "",
             one("Reshape", [x, ints("s", *shape)], attributes))
    huge = (LIMIT, MALFORMED)
    case("m58-expand", huge, "",
         one("Expand", [x, ints("s", 2**40, 2**40, 1, 1)]))
    case("m58-expand-negative", MALFORMED, "",
         one("Expand", [x, ints("s", -1, 3)]))
    case("m58-tile", huge, "",
         one("Tile", [x, ints("r", 2**40, 2**40)]))
    case("m58-tile-negative", MALFORMED, "",
         one("Tile", [x, ints("r", -1, 1)]))
    case("m58-constant-of-shape", huge, "",
         one("ConstantOfShape", [ints("s", 2**40, 2**40)]))
    case("m58-constant-of-shape-negative", MALFORMED, "",
         one("ConstantOfShape", [ints("s", -1)]))
    # Fits 64 bits, but no memory: the model compiles, and cannot be run.
    case("m58-constant-of-shape-large", (0, LIMIT), "",
         one("ConstantOfShape", [ints("s", 2**50)]),
         run=of_run(LIMIT, "memory"))


def index_cases():
    """What depends on data is checked by the run."""
    x = ("x", F, [3, 2])
    index = ("i", w.INT64, [2])
    xs = npy(F, [3, 2], range(6))
    for name, values, code in [("fine", [0, -3], 0), ("high", [0, 3], MALFORMED),
                               ("low", [-4, 0], MALFORMED),
                               ("lowest", [0, -2**63], MALFORMED)]:
        words = "" if code == 0 else "index"
        case(f"m59-gather-{name}", 0, "", one("Gather", [x, index]),
             run=of_run(code, words, xs, npy(w.INT64, [2], values)))
        case(f"m59-gather-nd-{name}", 0, "",
             one("GatherND", [x, ("i", w.INT64, [2, 1])]),
             run=of_run(code, words, xs, npy(w.INT64, [2, 1], values)))
        case(f"m59-gather-elements-{name}", 0, "",
             one("GatherElements", [x, ("i", w.INT64, [1, 2])]),
             run=of_run(code, words, xs, npy(w.INT64, [1, 2], values)))
        case(f"m59-scatter-nd-{name}", 0, "",
             one("ScatterND", [x, ("i", w.INT64, [2, 1]), ("u", F, [2, 2])]),
             run=of_run(code, words, xs, npy(w.INT64, [2, 1], values),
                        npy(F, [2, 2], range(4))))
        case(f"m59-scatter-elements-{name}", 0, "", one(
            "ScatterElements", [x, ("i", w.INT64, [1, 2]), ("u", F, [1, 2])]),
            run=of_run(code, words, xs, npy(w.INT64, [1, 2], values),
                       npy(F, [1, 2], range(2))))
        if code != 0:
            case(f"m59-constant-{name}", (0, MALFORMED), "",
                 one("Gather", [x, ints("i", *values)]),
                 run=of_run(MALFORMED, "", xs))
    for name, axis in [("range", 2), ("lowest", -2**63), ("highest", 2**63 - 1)]:
        for op in ("Softmax", "ArgMax", "Gather", "Concat", "Flatten"):
            inputs = [x, index] if op == "Gather" else [x]
            at = axis + 1 if op == "Flatten" and axis == 2 else axis
            case(f"m60-{op.lower()}-{name}", MALFORMED, "axis",
                 one(op, inputs, [w.a_int("axis", at)]))
    case("m60-axes-twice", MALFORMED, "",
         one("ReduceMax", [x, ints("a", 0, -2)]))
    case("m60-perm", MALFORMED, "perm",
         one("Transpose", [x], [w.a_ints("perm", [1, 1])]))
    case("m61-fixed", MALFORMED, "",
         one("Add", [x, ("z", F, [4, 2])]))
    case("m61-rank", MALFORMED, "",
         one("Where", [("c", w.BOOL, [2, 1, 3]), x, ("z", F, [2, 2])]))
    case("m61-at-run-time", 0, "",
         one("Add", [("x", F, ["N"]), ("z", F, ["M"])]),
         run=of_run(MALFORMED, "", npy(F, [2], [1, 2]), npy(F, [3], [1, 2, 3])))
    case("m61-at-run-time-fine", 0, "",
         one("Add", [("x", F, ["N"]), ("z", F, ["M"])]),
         run=of_run(0, "", npy(F, [1], [1]), npy(F, [3], [1, 2, 3]),
                    outputs=[elements(F, [2, 3, 4])]))


def view_cases():
    """An output is a view of what is computed: its memory is large enough."""
    model = w.model(w.graph(
        [w.node("Exp", ["x"], ["e"]), w.node("Reshape", ["e", "shape"], ["y"])],
        [ints("shape", -1, 8, 5)], [w.value_info("x", F, ["A", 8])],
        [w.untyped("y")]))
    for rows in (3, 33, 39999):
        case(f"m61-view-of-{rows}", 0, "", model, run=of_run(
            MALFORMED, "number of elements",
            npy(F, [rows, 8], [0] * 8 * rows)))
    case("m61-view-of-5", 0, "", model, run=of_run(
        0, "", npy(F, [5, 8], [0] * 40), outputs=[elements(F, [1] * 40)]))


def string_cases():
    x = w.value_info("x", F, [2, 3])
    words = w.node("Constant", [], ["s"], [w.a_strings("value_strings",
                                                       ["a", "b"])])
    relu = w.node("Relu", ["x"], ["y"])
    case("m62-strings-unused", 0, "", w.model(w.graph(
        [words, relu], [], [x], [w.untyped("y")])),
        run=of_run(0, "", npy(F, [2, 3], range(6))))
    case("m62-strings-given", UNSUPPORTED, "of str ", w.model(w.graph(
        [words, relu], [], [x], [w.untyped("y"), w.untyped("s")])))
    names = w.value_info("x", w.STRING, [2, "N"])
    parts = w.node("SplitToSequence", ["x", "n"], ["s"], [w.a_int("axis", 1)])
    case("m62-strings-split", UNSUPPORTED, "for strings", w.model(w.graph(
        [parts, w.node("SequenceAt", ["s", "i"], ["y"])], [ints("i", 0, dims=[])],
        [names, w.value_info("n", w.INT64, [])], [w.untyped("y")])))
    case("m62-complex128", UNSUPPORTED, "of c128", w.model(w.graph(
        [w.node("Identity", ["x"], ["y"])], [],
        [w.value_info("x", 15, [2])], [w.untyped("y")])))
    case("m62-strings-taken", UNSUPPORTED, 'input "s" has strings', w.model(
        w.graph([relu], [], [x, w.value_info("s", w.STRING, [2])],
                [w.untyped("y")])))


def value_cases():
    x = ("x", F, [2, 3])
    for name, k in [("large", 4), ("negative", -1), ("lowest", -2**63)]:
        case(f"m62-topk-{name}", MALFORMED, "k",
             one("TopK", [x, ints("k", k)], outputs=("y", "i")))
        case(f"m62-topk-{name}-at-run-time", 0, "",
             one("TopK", [x, ("k", w.INT64, [1])], outputs=("y", "i")),
             run=of_run(MALFORMED, "", npy(F, [2, 3], range(6)),
                        npy(w.INT64, [1], [k])))
    any_size = ("x", F, [2, "N"])
    case("m62-topk-of-any-size", 0, "",
         one("TopK", [any_size, ints("k", 4)], outputs=("y", "i")),
         run=of_run(MALFORMED, "k is 4, outside its range of 0 to 3",
                    npy(F, [2, 3], range(6))))
    split = w.node("SplitToSequence", ["x", "n"], ["s"], [w.a_int("axis", 1)])
    at = w.node("SequenceAt", ["s", "i"], ["y"])
    for name, values, words in [("last", [2], ""), ("beyond", [3], "position")]:
        graph = w.graph([split, at], [ints("i", 1, dims=[])],
                        [w.value_info(*any_size),
                         w.value_info("n", w.INT64, [])], [w.untyped("y")])
        case(f"m62-sequence-at-{name}", 0, "", w.model(graph),
             run=of_run(MALFORMED if words else 0, words,
                        npy(F, [2, 3], range(6)), npy(w.INT64, [], values)))
    both = w.node("ConcatFromSequence", ["s"], ["y"], [w.a_int("axis", 0)])
    graph = w.graph([split, both], [], [
        w.value_info(*any_size), w.value_info("n", w.INT64, ["K"])],
        [w.untyped("y")])
    case("m62-concat-of-no-elements", 0, "", w.model(graph), run=of_run(
        MALFORMED, "is 0, outside its range of 1 to",
        npy(F, [2, 0], []), npy(w.INT64, [0], [])))
    case("m62-topk-none", 0, "",
         one("TopK", [x, ints("k", 0)], outputs=("y", "i")),
         run=of_run(0, "", npy(F, [2, 3], range(6))))
    case("m62-one-hot", MALFORMED, "", one("OneHot", [
        ("i", w.INT64, [2]), ints("d", -1, dims=[]), floats("v", 0, 1)]))
    case("m62-pad", MALFORMED, "",
         one("Pad", [x, ints("p", -2, 0, -1, 0)]))
    case("m62-pad-huge", (MALFORMED, LIMIT), "",
         one("Pad", [x, ints("p", 2**62, 0, 2**62, 0)]))
    case("m62-slice", MALFORMED, "step", one("Slice", [
        x, ints("s", 0), ints("e", 2), ints("a", 0), ints("t", 0)]))
    case("m62-slice-extremes", 0, "", one("Slice", [
        x, ints("s", 2**63 - 1), ints("e", -2**63), ints("a", 0),
        ints("t", -2**63)]), run=of_run(0, "", npy(F, [2, 3], range(6))))
    image = ("x", F, [1, 1, 2, 2])
    for name, scale in [("zero", 0), ("negative", -1), ("nan", NAN),
                        ("inf", INF), ("huge", 1e30)]:
        case(f"m62-resize-{name}", (MALFORMED, LIMIT), "", one(
            "Resize", [image, floats("s", 1, 1, scale, 1)],
            arguments=["x", "", "s"]))
    for name, values in [("zero", [0, 5, 0]), ("nan", [0, NAN, 1]),
                         ("inf", [0, INF, 1]), ("nan-step", [0, 5, NAN])]:
        numbers = [floats(n, v, dims=[]) for n, v in zip("sld", values)]
        case(f"m62-range-{name}", (MALFORMED, LIMIT), "",
             one("Range", numbers))
    huge = [ints("s", 0, dims=[]), ints("l", 2**63 - 1, dims=[]),
            ints("d", 1, dims=[])]
    case("m62-range-huge", (LIMIT, MALFORMED), "", one("Range", huge))
    scalars = [(n, w.INT64, []) for n in "sld"]
    for name, values, code in [("zero", [0, 5, 0], MALFORMED),
                               ("huge", [-2**63, 2**63 - 1, 1],
                                (LIMIT, MALFORMED)),
                               ("empty", [5, 0, 1], 0)]:
        case(f"m62-range-{name}-at-run-time", 0, "", one("Range", scalars),
             run=of_run(code, "",
                        *[npy(w.INT64, [], [v]) for v in values]))


def arithmetic_cases():
    """Folded while compiling, and computed by the run: nothing traps."""
    lowest = -2**31
    for op in ("Div", "Mod"):
        for name, a, b in [("zero", 1, 0), ("overflow", lowest, -1)]:
            def operand(n, value):
                return bytes_of(n, w.INT32, [1], elements(w.INT32, [value]))
            case(f"m63-{op.lower()}-{name}-folded", 0, "",
                 one(op, [operand("a", a), operand("b", b)]), run=of_run(0, ""))
            case(f"m63-{op.lower()}-{name}", 0, "",
                 one(op, [("a", w.INT32, [1]), ("b", w.INT32, [1])]),
                 run=of_run(0, "", npy(w.INT32, [1], [a]),
                            npy(w.INT32, [1], [b])))
    case("m63-shift", 0, "",
         one("BitShift", [("a", w.UINT8, [2]), ("b", w.UINT8, [2])],
             [w.a_string("direction", "LEFT")]),
         run=of_run(0, "", npy(w.UINT8, [2], [1, 255]),
                    npy(w.UINT8, [2], [8, 200]), outputs=[bytes(2)]))
    values = [NAN, INF, -INF, 1e30, -1e30]
    for name, dtype in [("int32", w.INT32), ("int64", w.INT64),
                        ("uint8", w.UINT8), ("int4", w.INT4)]:
        case(f"m63-cast-{name}-folded", 0, "",
             one("Cast", [floats("x", *values)], [w.a_int("to", dtype)]))
        if dtype != w.INT4:
            case(f"m63-cast-{name}", 0, "",
                 one("Cast", [("x", F, [5])], [w.a_int("to", dtype)]),
                 run=of_run(0, "", npy(F, [5], values)))
    x = ("x", F, [2, 3])
    zero = bytes_of("z", w.UINT8, [], b"\0")
    for name, scale, point, attributes in [
            ("zero-point-type", floats("s", 1, dims=[]),
             floats("z", 0, dims=[]), []),
            ("zero-point-shape", floats("s", 1, dims=[]),
             bytes_of("z", w.UINT8, [3], bytes(3)), []),
            ("axis-length", floats("s", 1, 1),
             bytes_of("z", w.UINT8, [2], bytes(2)), [w.a_int("axis", 1)]),
            ("axis", floats("s", 1, 1, 1),
             bytes_of("z", w.UINT8, [3], bytes(3)), [w.a_int("axis", 5)]),
            ("block-negative", floats("s", 1, 1, dims=[2, 1]),
             bytes_of("z", w.UINT8, [2, 1], bytes(2)),
             [w.a_int("axis", 1), w.a_int("block_size", -3)]),
            ("block-not-dividing", floats("s", 1, 1, dims=[2, 1]),
             bytes_of("z", w.UINT8, [2, 1], bytes(2)),
             [w.a_int("axis", 1), w.a_int("block_size", 2)])]:
        case(f"m64-{name}", REFUSED, "",
             one("QuantizeLinear", [x, scale, point], attributes))
    for name, scale in [("zero", 0), ("nan", NAN), ("negative", -1)]:
        case(f"m64-scale-{name}", 0, "",
             one("QuantizeLinear", [x, floats("s", scale, dims=[]), zero]),
             run=of_run(0, "", npy(F, [2, 3], range(6))))


def chain(n, op="Relu"):
    names = ["x"] + [f"v{i}" for i in range(n - 1)] + ["y"]
    return w.model(w.graph(
        [w.node(op, [names[i]], [names[i + 1]]) for i in range(n)], [],
        [w.value_info("x", F, [2])], [w.value_info("y", F, [2])]))


def size_cases():
    double = [w.node("Concat", [f"v{i}"] * 2, [f"v{i + 1}"],
                     [w.a_int("axis", 0)]) for i in range(60)]
    case("m65-doubling", (0, LIMIT, MALFORMED), "", w.model(w.graph(
        double, [floats("v0", 1)], [], [w.untyped("v60")])))
    case("m65-doubling-short", 0, "", w.model(w.graph(
        double[:25], [floats("v0", 1)], [], [w.untyped("v25")])))
    expand = [w.node("Expand", [f"v{i}", f"s{i}"], [f"v{i + 1}"])
              for i in range(4)]
    case("m65-expand", (0, LIMIT), "", w.model(w.graph(
        expand, [floats("v0", 1)] + [ints(f"s{i}", *[4096] * (i + 1))
                                     for i in range(4)], [],
        [w.untyped("v4")])))
    sparse = [w.node("CumSum", ["v0", "a"], ["y"])]
    case("m65-constant-of-shape", (0, LIMIT), "", w.model(w.graph(
        [w.node("ConstantOfShape", ["s"], ["v0"])] + sparse,
        [ints("s", 2**31), ints("a", 0, dims=[])], [], [w.untyped("y")])))
    case("m67-chain", 0, "", chain(100000), ["-O0"], nodes=100000)
    case("m67-chain-o2", 0, "", chain(20000, "Sin"), nodes=20000)
    case("m66-nodes", 0, "", chain(1000000, "Identity"), nodes=1000000)
    case("m68-two-sizes", 0, "", w.model(w.graph(
        [w.node("Add", ["a", "b"], ["y"])], [],
        [w.value_info("a", F, ["N"]), w.value_info("b", F, ["N"])],
        [w.value_info("y", F, ["N"])])),
        run=of_run(MALFORMED, "N", npy(F, [2], [1, 2]),
                   npy(F, [3], [1, 2, 3])))
    for rank in (33, 65, 1025):
        case(f"m69-input-{rank}", LIMIT, "rank",
             one("Relu", [("x", F, [1] * rank)]))
        case(f"m69-unsqueeze-{rank}", LIMIT, "rank", one(
            "Unsqueeze", [("x", F, []), ints("a", *range(rank))]))
    case("m70-huge-input", (0, LIMIT), "",
         one("Relu", [("x", F, [2**20, 2**20, 2**20])]))
    case("m70-bytes-overflow", (LIMIT, MALFORMED), "",
         one("Relu", [("x", F, [2**31, 2**31])]))
    case("m70-huge-value", (0, LIMIT), "", one(
        "MatMul", [("x", F, [2**30, 1]), ("z", F, [1, 2**30])]))
    case("m70-limit", LIMIT, "memory limit", chain(5000),
         ["--memory-limit=1M"])


def microsoft(op, inputs, attributes):
    return one(op, inputs, attributes, domain="com.microsoft")


def expert_cases():
    """com.microsoft's operators: what is wrong is refused, by name."""
    T, H, I, E = 3, 4, 8, 4
    x, router = ("x", F, [T, H]), ("r", F, [T, E])

    def bank(e=E, i=I, h=H, down=None):
        return [("a", F, [e, h, i]), "", ("b", F, [e, down or i, h])]

    def moe(name, code, inputs, attributes):
        case(name, code, "MoE", microsoft("MoE", inputs, attributes))

    k = w.a_int("k", 2)
    for name, value in [("zero", 0), ("negative", -1), ("more-than-experts", 5)]:
        moe(f"m71-k-{name}", REFUSED, [x, router, *bank()],
            [w.a_int("k", value)])
    moe("m71-no-experts", REFUSED, [x, ("r", F, [T, 0]), *bank(0)], [k])
    moe("m71-one-expert", REFUSED, [x, ("r", F, [T, 1]), *bank(1)], [k])
    moe("m72-experts", REFUSED, [x, router, *bank(E + 1)], [k])
    moe("m72-hidden", REFUSED, [x, router, *bank(h=H + 1)], [k])
    moe("m72-inner", REFUSED, [x, router, *bank(down=I + 1)], [k])
    moe("m72-swiglu-odd", REFUSED, [x, router, *bank(i=7)],
        [k, w.a_string("activation_type", "swiglu"),
         w.a_int("swiglu_fusion", 1)])
    moe("m72-activation", REFUSED, [x, router, *bank()],
        [k, w.a_string("activation_type", "swish2")])
    moe("m72-bias", REFUSED,
        [x, router, ("a", F, [E, H, I]), ("c", F, [E, I + 1]),
         ("b", F, [E, I, H])], [k])

    def packed(n, bits=4):
        return bytes_of(n, w.UINT8, [E, H, I * bits // 8],
                        bytes(E * H * I * bits // 8))

    scales = ("s", F, [E, I])
    for name, attributes, first in [
            ("bits", [w.a_int("expert_weight_bits", 3)], packed("a")),
            ("packed-size", [w.a_int("expert_weight_bits", 8)], packed("a")),
            ("block", [w.a_int("expert_weight_bits", 4),
                       w.a_int("block_size", 3)], packed("a"))]:
        case(f"m73-{name}", REFUSED, "QMoE", microsoft(
            "QMoE", [x, router, first, scales, "", packed("b"),
                     ("t", F, [E, H])], [k, *attributes]))
    router_cases()
    case("m75-index", 0, "", w.model(w.graph(
        [w.node("Gather", ["w", "e"], ["g"]),
         w.node("MatMul", ["x", "g"], ["y"])],
        [floats("w", *range(24), dims=[4, 2, 3])],
        [w.value_info("x", F, [5, 1, 2]), w.value_info("e", w.INT64, [5])],
        [w.untyped("y")])),
        run=of_run(MALFORMED, "index", npy(F, [5, 1, 2], range(10)),
                   npy(w.INT64, [5], [0, 1, 2, 3, 4])))
    case("m75-topk-times-rows-overflows", (LIMIT, MALFORMED), "", one(
        "Expand", [("x", F, [1, 4]), ints("s", 2**33, 2**33, 4)]))
    near_miss_cases()


def router_cases():
    """What a router does with useless scores is defined: NaN counts as the
    largest, ties take the lower index, and 0/0 is NaN."""
    def indices(*rows):
        return elements(w.INT64, [i for row in rows for i in row])

    topk = one("TopK", [("x", F, [4, 4]), ints("k", 2)], outputs=("v", "i"))
    scores = [1, NAN, 2, 3,  5, 5, 5, 5,  -INF, -INF, -INF, -INF,
              0, -0.0, 0, -1]
    values = [NAN, 3, 5, 5, -INF, -INF, 0, -0.0]
    case("m74-topk", 0, "", topk, run=of_run(
        0, "", npy(F, [4, 4], scores),
        outputs=[elements(F, values), indices([1, 3], [0, 1], [0, 1], [0, 1])]))
    case("m74-softmax-all-minus-inf", 0, "",
         one("Softmax", [("x", F, [1, 2])]),
         run=of_run(0, "", npy(F, [1, 2], [-INF, -INF])))
    case("m74-renormalised-zero", 0, "", w.model(w.graph(
        [w.node("ReduceSum", ["x", "a"], ["s"]),
         w.node("Div", ["x", "s"], ["d"]), w.node("IsNaN", ["d"], ["y"])],
        [ints("a", 1)], [w.value_info("x", F, [1, 2])], [w.untyped("y")])),
        run=of_run(0, "", npy(F, [1, 2], [0, 0]), outputs=[b"\1\1"]))


def dense_layer(mask="m0", act1="Relu"):
    """y = sum over experts e of mask_e(x) * act_e(x * w_e), as an exporter
    unrolls it, for two experts."""
    nodes = [w.node("ArgMax", ["x"], ["i"], [w.a_int("axis", 1)]),
             w.node("Equal", ["i", "c0"], ["b0"]),
             w.node("Equal", ["i", "c1"], ["b1"]),
             w.node("Cast", ["b0"], ["m0"], [w.a_int("to", F)]),
             w.node("Cast", ["b1"], ["m1"], [w.a_int("to", F)]),
             w.node("Mul", ["x", "w0"], ["h0"]),
             w.node("Mul", ["x", "w1"], ["h1"]),
             w.node("Relu", ["h0"], ["e0"]), w.node(act1, ["h1"], ["e1"]),
             w.node("Mul", ["e0", mask], ["t0"]),
             w.node("Mul", ["e1", "m1"], ["t1"]),
             w.node("Add", ["t0", "t1"], ["y"])]
    inits = [floats("w0", 2, dims=[1]), floats("w1", 3, dims=[1]),
             ints("c0", 0), ints("c1", 1)]
    return nodes, inits


def near_miss_cases():
    """Almost a layer: computes what it says."""
    x = [1, -2, 3, 4]  # tokens (1, -2) to expert 0 and (3, 4) to expert 1
    inputs = [w.value_info("x", F, [2, 2])]
    wanted = {
        "other-mask": (dense_layer(mask="m1"), [0, 0, 15, 20], ("y",)),
        "other-activation": (dense_layer(act1="Neg"), [2, 0, -9, -12], ("y",)),
        "result-used": (dense_layer(), [2, 0, 9, 12], ("y", "e1")),
        "layer": (dense_layer(), [2, 0, 9, 12], ("y",)),
    }
    for name, ((nodes, inits), result, outputs) in wanted.items():
        case(f"m76-{name}", 0, "", w.model(w.graph(
            nodes, inits, inputs, [w.untyped(o) for o in outputs])),
            run=of_run(0, "", npy(F, [2, 2], x),
                       outputs=[elements(F, result)]))


def add_cases():
    dims_cases()
    reshape_cases()
    index_cases()
    value_cases()
    string_cases()
    view_cases()
    arithmetic_cases()
    size_cases()
    expert_cases()

