"""Faults of models, graphs and attributes: M13 to M42."""

import wire as w
from table import (LIMIT, MALFORMED, UNSUPPORTED, case, elements, floats, ints,
                   npy, of_run, one)

F = w.FLOAT
X = ("x", F, [2])


def info(name, dims=(2,), dtype=F):
    return w.value_info(name, dtype, dims)


def graph(nodes, inits=(), inputs=("x",), outputs=("y",), extra=b""):
    return w.graph(nodes, inits, [info(i) for i in inputs],
                   [w.untyped(o) for o in outputs], extra)


def relu(x="x", y="y", **more):
    return w.node("Relu", [x], [y], **more)


def versions():
    good = graph([relu()])
    for name, version, code, words in [
            ("missing", None, MALFORMED, "IR version 0"),
            ("zero", 0, MALFORMED, "IR version 0"),
            ("negative", -1, MALFORMED, "IR version -1"),
            ("newer", 10000, UNSUPPORTED, "IR version 10000 is not")]:
        case(f"m13-{name}", code, words, w.model(good, ir_version=version))
    case("m14-no-graph", MALFORMED, "no graph",
         w.integer(1, 10) + w.blob(8, w.blob(1, "") + w.integer(2, 21)))
    case("m14-empty-graph", MALFORMED, "no outputs", w.model(w.graph()))
    case("m14-no-outputs", MALFORMED, "no outputs",
         w.model(graph([relu()], outputs=())))
    case("m15-missing", MALFORMED, "opset", w.model(good, opset=None))
    case("m15-missing-for-domain", MALFORMED, "has no opset import", w.model(
        graph([w.node("Any", ["x"], ["y"], domain="com.example")])))
    case("m15-twice", MALFORMED, "opset",
         w.model(good, extra=w.opset("", 13)))
    for name, version, code, words in [
            ("new", 10000, UNSUPPORTED, "opset"), ("zero", 0, MALFORMED, "opset"),
            ("negative", -5, MALFORMED, "opset"),
            ("huge", 2**63 - 1, MALFORMED, "is not a version"),
            ("first", 1, 0, "")]:
        case(f"m16-{name}", code, words, w.model(good, opset=version))
    case("m17-no-such-operator", UNSUPPORTED, "operator Rleu is not supported",
         w.model(graph([w.node("Rleu", ["x"], ["y"])])))
    case("m17-later-operator", UNSUPPORTED, "since opset",
         one("Gelu", [X], opset=13))
    case("m17-deprecated", UNSUPPORTED, "Upsample is not supported",
         one("Upsample", [("x", F, [1, 1, 2, 2]), floats("s", 1, 1, 2, 2)],
             opset=13))
    case("m17-domain", UNSUPPORTED, "com.example", w.model(
        graph([w.node("Any", ["x"], ["y"], domain="com.example")]),
        extra=w.opset("com.example", 1)))
    case("m18-metadata-twice", MALFORMED, "\"key\" is given twice", w.model(good, extra=b"".join(
        w.blob(14, w.blob(1, "key") + w.blob(2, v)) for v in "ab")))
    case("m19-training", 0, "training information is ignored",
         w.model(good, extra=w.blob(20, w.blob(2, w.graph()))))


def names():
    case("m20-two-nodes", MALFORMED, "defined more than once",
         w.model(graph([relu(), relu()])))
    case("m20-input-again", MALFORMED, "defined more than once",
         w.model(graph([relu(y="x")], outputs=("x",))))
    case("m20-one-node", MALFORMED, "defined more than once", one(
        "Split", [X], [w.a_int("num_outputs", 2)], outputs=("y", "y")))
    case("m21-order", 0, "topological order",
         w.model(graph([relu("h", "y"), relu("x", "h")])),
         run=of_run(0, "", npy(F, [2], [-1, 2])))
    case("m22-cycle", MALFORMED, "cycle",
         w.model(graph([relu("b", "a"), relu("a", "b"), relu("b", "y")])))
    case("m22-own-input", MALFORMED, "cycle", w.model(graph([relu("y", "y")])))
    case("m23-undefined", MALFORMED, "is not defined anywhere",
         w.model(graph([relu("nowhere")])))
    case("m23-left-out", MALFORMED, "input 0",
         w.model(graph([relu("")])))
    case("m24-nothing", MALFORMED, "the node has no outputs",
         w.model(graph([relu(), w.node("Relu", [], [])])))
    for name, inputs, outputs in [("inputs-few", ["x"], ["y"]),
                                  ("inputs-many", ["x", "x", "x"], ["y"]),
                                  ("outputs-many", ["x", "x"], ["y", "z"])]:
        case(f"m25-{name}", MALFORMED, name.split("-")[0],
             w.model(graph([w.node("Add", inputs, outputs)])))
    case("m25-outputs-none", MALFORMED, "output",
         w.model(graph([relu(), w.node("Add", ["x", "x"], [])])))
    case("m26-not-produced", MALFORMED, "no node produces this output",
         w.model(graph([relu()], outputs=("z",))))
    case("m26-twice", MALFORMED, "is declared twice",
         w.model(graph([relu()], outputs=("y", "y"))))
    case("m26-input-is-output", 0, "",
         w.model(graph([], outputs=("x",))),
         run=of_run(0, "", npy(F, [2], [-1, 2])))


def initializers():
    weight = floats("w", 1, 2)
    add = w.node("Add", ["x", "w"], ["y"])
    case("m27-twice", MALFORMED, "more than once",
         w.model(graph([add], [weight, weight])))
    sparse = w.blob(15, w.blob(1, weight) + w.blob(2, ints("i", 0, 1)) +
                    w.integer(3, 2))
    case("m27-sparse-and-dense", MALFORMED, "more than once",
         w.model(graph([add], [weight], extra=sparse)))
    # Files of IR version 3 should list it as an input; nothing is gained by
    # refusing those that do not.
    case("m27-not-an-input", 0, "", w.model(graph([add], [weight]),
                                            ir_version=3),
         run=of_run(0, "", npy(F, [2], [1, 2]),
                    outputs=[elements(F, [2, 4])]))
    case("m28-no-name", MALFORMED, "no name",
         w.model(graph([relu()], [floats("", 1, 2)])))
    case("m28-no-input-name", MALFORMED, "no name",
         w.model(graph([relu()], inputs=("x", ""))))


def branch(output, dims=(2,), dtype=F, nodes=(), inputs=(), name="body"):
    outputs = output if isinstance(output, list) else [output]
    return w.graph(nodes, [], [info(i) for i in inputs],
                   [w.value_info(o, dtype, dims) for o in outputs], name=name)


def if_model(then, other, outputs=("y",), condition=([], w.BOOL)):
    node = w.node("If", ["c"], outputs, [w.a_graph("then_branch", then),
                                         w.a_graph("else_branch", other)])
    return w.model(w.graph([node], [], [info("c", *condition), info("x")],
                           [w.untyped(o) for o in outputs]))


def bodies():
    yes = branch("t", nodes=[relu("x", "t")])
    # Not allowed, but without doubt: the inner name is meant.
    shadow = branch("t", nodes=[w.node("Constant", [], ["x"], [w.a_tensor(
        "value", floats("v", 7, 8))]), relu("x", "t")])
    case("m29-shadows", (0, MALFORMED), "", if_model(shadow, shadow),
         run=of_run(0, "", npy(w.BOOL, [], [True]), npy(F, [2], [1, 2]),
                    outputs=[elements(F, [7, 8])]))
    case("m29-capture", MALFORMED, "is not defined anywhere",
         if_model(branch("t", nodes=[relu("nowhere", "t")]), yes))
    case("m30-counts", MALFORMED, "output", if_model(
        branch(["t", "u"], nodes=[relu("x", "t"), relu("x", "u")]), yes))
    case("m30-inputs", MALFORMED, "input",
         if_model(branch("t", nodes=[relu("i", "t")], inputs=("i",)), yes))
    case("m30-types", (UNSUPPORTED, MALFORMED), "output 0", if_model(
        branch("t", dtype=w.INT64, nodes=[w.node(
            "Cast", ["x"], ["t"], [w.a_int("to", w.INT64)])]), yes))
    case("m30-condition", MALFORMED, "",
         if_model(yes, yes, condition=([], w.FLOAT)))
    case("m30-no-branch", MALFORMED, "else_branch", one(
        "If", [("c", w.BOOL, [])], [w.a_graph("then_branch", yes)]))


def loop_model(trips, body, inits=(), outputs=("y",), state=("x",)):
    node = w.node("Loop", [trips and "m", "", *state], outputs,
                  [w.a_graph("body", body)])
    return w.model(w.graph([node], [*([trips] if trips else []), *inits],
                           [info("x")], [w.untyped(o) for o in outputs]))


def loop_body(extra=(), outputs=("k", "b")):
    return w.graph([w.node("Identity", ["c"], ["k"]), relu("a", "b"), *extra],
                   [], [info("i", [], w.INT64), info("c", [], w.BOOL),
                        info("a")], [w.untyped(o) for o in outputs])


def loops():
    good = loop_body()
    case("m30-loop-outputs", MALFORMED, "",
         loop_model(ints("m", 2, dims=[]), loop_body(outputs=("k",))))
    case("m30-loop-state", MALFORMED, "",
         loop_model(ints("m", 2, dims=[]), good, state=()))
    case("m30-scan-inputs", MALFORMED, "num_scan_inputs", one(
        "Scan", [("x", F, [3, 2])], [w.a_int("num_scan_inputs", 5),
                                    w.a_graph("body", yes_body())]))
    case("m31-no-trips", 0, "", loop_model(ints("m", -1, dims=[]), good),
         run=of_run(0, "", npy(F, [2], [-1, 2])))
    case("m31-endless", (0, LIMIT), "",
         loop_model(ints("m", 2**63 - 1, dims=[]), good))
    case("m31-not-scalar", MALFORMED, "",
         loop_model(ints("m", 2, 2), good))
    case("m31-scan-directions", MALFORMED, "scan_input_directions", one(
        "Scan", [("x", F, [3, 2])],
        [w.a_int("num_scan_inputs", 1), w.a_graph("body", yes_body()),
         w.a_ints("scan_input_directions", [0, 1, 0])]))
    scan_of_opset_8()


def scan_of_opset_8():
    body = w.graph([w.node("Identity", ["e"], ["r"])], [], [info("e")],
                   [w.untyped("r")])
    inputs = [("n", w.INT64, [2]), ("x", F, [2, 3])]

    def scan(*attributes, inputs=inputs):
        return one("Scan", inputs, [w.a_int("num_scan_inputs", 1),
                                    w.a_graph("body", body), *attributes],
                   opset=8)

    rows = npy(F, [2, 3], [1, 2, 3, 4, 5, 6])
    case("m31-scan-lengths", 0, "", scan(),
         run=of_run(0, "", npy(w.INT64, [2], [3, 1]), rows,
                    outputs=[elements(F, [1, 2, 3, 4, 0, 0])]))
    case("m31-scan-length-too-large", 0, "", scan(),
         run=of_run(MALFORMED, "length", npy(w.INT64, [2], [3, 4]), rows))
    case("m31-scan-length-negative", 0, "", scan(),
         run=of_run(MALFORMED, "length", npy(w.INT64, [2], [-1, 3]), rows))
    case("m31-scan-two-directions", MALFORMED, "directions",
         scan(w.a_ints("directions", [0, 1])))
    case("m31-scan-without-steps", MALFORMED, "scanned input",
         scan(inputs=[("n", w.INT64, [2]), ("x", F, [2])]))
    case("m31-scan-batches-differ", MALFORMED, "batch",
         scan(inputs=[("n", w.INT64, [2]), ("x", F, [3, 3])]))


def yes_body():
    return w.graph([relu("a", "b")], [], [info("a")], [w.untyped("b")])


def call(name="f", x="x", y="y"):
    return w.node(name, [x], [y], domain="local")


def functions():
    local = w.opset("local", 1)

    def calls(*more, nodes=None):
        return w.model(graph(nodes or [call()]), extra=local + b"".join(more))

    case("m32-recursive", MALFORMED, "itself",
         calls(w.function("f", ["x"], ["y"], [call()],
                          [("", 21), ("local", 1)])))
    case("m32-mutual", MALFORMED, "itself", calls(
        w.function("f", ["x"], ["y"], [call("g")], [("local", 1)]),
        w.function("g", ["x"], ["y"], [call("f")], [("local", 1)])))
    deep = [w.function(f"f{i}", ["x"], ["y"], [call(f"f{i + 1}")],
                       [("local", 1)]) for i in range(3000)]
    case("m32-deep", LIMIT, "deep", calls(
        *deep, w.function("f3000", ["x"], ["y"], [relu()]),
        nodes=[call("f0")]))
    # Each calls the next twice.
    wide = [w.function(f"f{i}", ["x"], ["y"],
                       [call(f"f{i + 1}", "x", "h"),
                        call(f"f{i + 1}", "h", "y")], [("local", 1)])
            for i in range(40)]
    case("m32-doubling", LIMIT, "nodes after inlining functions", calls(
        *wide, w.function("f40", ["x"], ["y"], [relu()]), nodes=[call("f0")]))
    case("m32-many", LIMIT, "functions", calls(
        *[w.function(f"f{i}", ["x"], ["y"], [relu()]) for i in range(10001)],
        nodes=[call("f0")]))
    good = w.function("f", ["x"], ["y"], [relu()])
    case("m32-twice", MALFORMED, "is defined twice", calls(good, good))
    case("m32-attribute-twice", MALFORMED, "occurs twice", calls(
        w.function("f", ["x"], ["y"], [relu()], attributes=["a", "a"])))
    case("m32-output-twice", MALFORMED, "occurs twice", calls(
        w.function("f", ["x"], ["y", "y"], [relu()])))
    case("m32-output-missing", MALFORMED, "is not defined", calls(
        w.function("f", ["x"], ["z"], [relu()])))
    case("m32-no-opset", MALFORMED, "no opset import", calls(
        w.function("f", ["x"], ["y"],
                   [w.node("Any", ["x"], ["y"], domain="com.example")])))


def types():
    case("m33-value-info-type", MALFORMED, "", w.model(graph(
        [relu("x", "h"), relu("h", "y")],
        extra=w.blob(13, info("h", [2], w.INT64)))))
    case("m33-value-info-shape", 0, "warning: node #0 (Relu)", w.model(graph(
        [relu("x", "h"), relu("h", "y")], extra=w.blob(13, info("h", [7])))))
    for name, dims, dtype in [("type", [2], w.INT64), ("shape", [3], F),
                              ("rank", [2, 1], F)]:
        case(f"m34-{name}", MALFORMED, "declared with", w.model(w.graph(
            [relu()], [], [info("x")], [info("y", dims, dtype)])))


def attributes():
    axis = w.a_int("axis", 0)
    X2 = ("x", F, [2, 3])
    case("m35-twice", MALFORMED, "occurs twice",
         one("Softmax", [X2], [axis, w.a_int("axis", 1)]))
    case("m36-tag", MALFORMED, "axis",
         one("Softmax", [X2], [w.attribute("axis", 2, w.real(2, 1))]))
    case("m36-type", MALFORMED, "axis",
         one("Softmax", [X2], [w.a_string("axis", "0")]))
    case("m36-unknown-type", MALFORMED, "",
         one("Softmax", [X2], [w.attribute("axis", 99, w.integer(3, 0))]))
    case("m37-two-values", MALFORMED, "",
         one("Softmax", [X2], [axis + w.blob(4, "0")]))
    case("m38-missing", MALFORMED, "to", one("Cast", [X]))
    case("m38-missing-list", MALFORMED, "axis",
         one("Concat", [X2, ("z", F, [2, 3])]))
    image = ("x", F, [1, 1, 5, 5])
    kernel = floats("k", *[1] * 9, dims=[1, 1, 3, 3])
    case("m39-auto-pad", MALFORMED, "SAME",
         one("Conv", [image, kernel], [w.a_string("auto_pad", "SAME")]))
    case("m39-approximate", MALFORMED, "approximate",
         one("Gelu", [X], [w.a_string("approximate", "erf2")]))
    case("m39-mode", MALFORMED, "mode", one(
        "Pad", [X, ints("p", 1, 1)], [w.a_string("mode", "mirror")]))
    case("m39-reduction", MALFORMED, "reduction", one(
        "ScatterND", [X, ints("i", 0, dims=[1, 1]), floats("u", 1)],
        [w.a_string("reduction", "avg")]))
    case("m39-to", MALFORMED, "", one("Cast", [X], [w.a_int("to", 99)]))
    case("m39-keepdims", MALFORMED, "keepdims",
         one("ReduceMax", [X2], [w.a_int("keepdims", 7)]))
    case("m40-ref-attr", MALFORMED, "function", one(
        "Softmax", [X2], [w.blob(1, "axis") + w.blob(21, "a") +
                         w.integer(20, 2)]))
    for name, pads in [("short", [1, 1]), ("long", [1] * 5)]:
        case(f"m41-pads-{name}", MALFORMED, "pads",
             one("Conv", [image, kernel], [w.a_ints("pads", pads)]))
    case("m41-pads-input", MALFORMED, "pads",
         one("Pad", [X, ints("pads", 1, 1, 1)]))
    for name, perm in [("twice", [0, 0]), ("short", [0]), ("range", [0, 2]),
                       ("negative", [0, -1]), ("lowest", [0, -2**63])]:
        case(f"m41-perm-{name}", MALFORMED, "perm",
             one("Transpose", [X2], [w.a_ints("perm", perm)]))
    for name, axes in [("twice", [0, 0]), ("same", [0, -2]), ("range", [2]),
                       ("lowest", [-2**63]), ("highest", [2**63 - 1])]:
        case(f"m41-axes-{name}", MALFORMED, "axes",
             one("ReduceSum", [X2, ints("axes", *axes)]))
        case(f"m41-unsqueeze-{name}", MALFORMED, "ax",
             one("Unsqueeze", [X2, ints("axes", *[a + 2 if a == 2 else a
                                                 for a in axes])])
             if name != "same" else
             one("Unsqueeze", [X2, ints("axes", 0, -3, 0)]))
    for name, value in [("nan", float("nan")), ("inf", float("inf")),
                        ("minus-inf", float("-inf"))]:
        case(f"m42-{name}", MALFORMED, "is not a finite number", one(
            "LayerNormalization", [X2, floats("s", 1, 1, 1)],
            [w.a_float("epsilon", value)]))
        case(f"m42-alpha-{name}", MALFORMED, "is not a finite number",
             one("LeakyRelu", [X], [w.a_float("alpha", value)]))


def add_cases():
    versions()
    names()
    initializers()
    bodies()
    loops()
    functions()
    types()
    attributes()
