"""Whole layers: router, dispatch, experts and combine in drawn spellings.

make_layer(g, spec, x) builds the layer that `spec` names and gives y[T, H]. A
spec is a dictionary of words and numbers, drawn by draw(); "mutation" in it
breaks one thing. What is not in the spec (spellings of small parts) is drawn by
the graph's generator.
"""
import numpy as np
from onnx import TensorProto, helper, numpy_helper

import assigned
import blocks
import capacity
from blocks import D, H
from graph import BOOL, F32, I64

KINDS = tuple(blocks.WEIGHTS)

# ---- Gates ----------------------------------------------------------------------


def gates(g, spec, idx, w):
    """G[T, E]: the weight of each expert, 0 where it is not selected."""
    e, spelling = spec["experts"], spec["gates"]
    fill = np.float32(0.01 if spec.get("mutation") == "fill" else 0)
    if spelling == "scatter":
        shape = g.op("Concat", g.size(idx, 0), g.const([e]), axis=0)
        value = numpy_helper.from_array(np.full(1, fill, np.float32))
        zeros = g.op("ConstantOfShape", shape, value=value)
        return g.op("ScatterElements", zeros, idx, w, axis=1)
    if spelling.startswith("one_hot"):
        hot = g.op("OneHot", idx, g.const(np.int64(e)), g.const(np.array([fill, 1], np.float32)),
                   axis=-1)
    else:
        hot = g.cast(g.op("Equal", g.unsqueeze(idx, -1), g.const(np.arange(e))), F32)
        if fill:
            hot = g.op("Max", hot, g.const(fill))
    if spelling.endswith("product"):
        return g.squeeze(g.op("MatMul", g.unsqueeze(w, 1), hot), 1)
    return g.sum(g.op("Mul", hot, g.unsqueeze(w, -1)), 1)


def masked_softmax(g, spec, x):
    """Gates by a softmax over what is left of the logits: [T, E], idx, w."""
    e, k = spec["experts"], spec["k"]
    scores = blocks.logits(g, x, e)
    values, idx = blocks.topk(g, scores, k)
    fill = {"finite_mask": -1e4, "small_mask": -3.0}.get(spec.get("mutation"), -np.inf)
    if g.pick("scatter", "condition") == "scatter":
        shape = g.op("Shape", scores)
        value = numpy_helper.from_array(np.full(1, fill, np.float32))
        filled = g.op("ConstantOfShape", shape, value=value)
        masked = g.op("ScatterElements", filled, idx, values, axis=1)
    elif g.pick(True, False):
        kept = g.op("GreaterOrEqual", scores, g.slice(values, k - 1, k, 1))
        masked = g.op("Where", kept, scores, g.const(fill))
    else:
        out = g.op("Less", scores, g.op("ReduceMin", values, g.const([-1]), keepdims=1))
        masked = g.op("Where", out, g.const(fill), scores)
    all_gates = g.op("Softmax", masked, axis=-1)
    return all_gates, idx, g.op("GatherElements", all_gates, idx, axis=1)


def column(g, gate, e):
    """G[:, e] as [T, 1]."""
    if g.pick(True, False):
        return g.slice(gate, e, e + 1, 1)
    return g.unsqueeze(g.op("Gather", gate, g.const(np.int64(e)), axis=1), -1)


# ---- Gathered weights -----------------------------------------------------------


def gathered(g, spec, x, idx, w, experts):
    k = spec["k"]
    if spec["dispatch"] == "flat":
        rows = g.reshape(g.op("Expand", g.unsqueeze(x, 1), g.const([1, k, 1])), -1, 1, g.width)
        y = experts.call_gathered(rows, g.reshape(idx, -1), spec["by_nd"])
        y = g.reshape(y, -1, k, g.width)
    else:
        rows = g.unsqueeze(x, 1, 2)
        y = g.reshape(experts.call_gathered(rows, idx, spec["by_nd"]), -1, k, g.width)
    return weighted_sum(g, spec, y, w)


def weighted_sum(g, spec, y, w):
    """sum over j of w[t, j] * y[t, j, :]"""
    if spec.get("mutation") == "shifted_weights":
        w = g.op("Concat", g.slice(w, 1, 2**62, 0), g.slice(w, 0, 1, 0), axis=0)
    combine = spec["combine"]
    if combine == "matmul":
        return g.squeeze(g.op("MatMul", g.unsqueeze(w, 1), y), 1)
    if combine == "einsum":
        return g.op("Einsum", w, y, equation="tk,tkh->th")
    scaled = g.op("Mul", y, g.unsqueeze(w, -1))
    if combine == "reduce":
        return g.sum(scaled, 1)
    slots = [g.op("Gather", scaled, g.const(np.int64(j)), axis=1) for j in range(spec["k"])]
    return add_chain(g, slots)


def add_chain(g, terms):
    total = terms[0]
    for term in terms[1:]:
        total = g.op("Add", total, term)
    return total


# ---- Loops over experts -----------------------------------------------------------


def selected(g, spec, e, idx, gate):
    """Tokens of expert e, i64[n], and their slots or None."""
    dispatch = spec["dispatch"]
    if dispatch == "gate_column":
        hit = g.op("Greater", g.squeeze(column(g, gate, e), 1), g.const(np.float32(0)))
        return g.squeeze(g.op("NonZero", hit), 0), None
    if dispatch == "any":
        hit = g.cast(g.op("Equal", idx, g.const(np.int64(e))), F32)
        hit = g.cast(g.max(hit, -1), BOOL)
        return g.squeeze(g.op("NonZero", hit), 0), None
    if dispatch == "one_hot":
        hot = g.op("OneHot", idx, g.const(np.int64(spec["experts"])), g.const(np.array([0, 1])),
                   axis=-1)
        mask = g.op("Gather", g.op("Transpose", hot, perm=[2, 1, 0]), g.const(np.int64(e)), axis=0)
        slot, token = g.op("Split", g.op("NonZero", mask), n_out=2, axis=0, num_outputs=2)
    else:
        mask = g.op("Equal", idx, g.const(np.int64(e)))
        token, slot = g.op("Split", g.op("NonZero", mask), n_out=2, axis=0, num_outputs=2)
    return g.squeeze(token, 0), g.squeeze(slot, 0)


def token_of(g, spec, x, route):
    """The token of each route, by division or out of 0, 0, .. 1, 1, ..."""
    k = spec["k"] + (spec.get("mutation") == "wrong_divisor")
    if spec.get("tokens") == "table":
        n = g.size(x, 0)
        copies = g.op("Expand", g.unsqueeze(g.range(n), 1), g.const([1, k]))
        return g.op("Gather", g.reshape(copies, -1), route, axis=0)
    return g.op("Div", route, g.const(np.int64(k)))


def rows_of(g, spec, x, token):
    if spec["rows"] == "nd":
        return g.op("GatherND", x, g.unsqueeze(token, -1))
    return g.op("Gather", x, token, axis=0)


def weights_of(g, spec, e, token, slot, w, gate):
    """[n, 1]"""
    if slot is None:
        return g.op("Gather", column(g, gate, e), token, axis=0)
    if spec["weights"] == "flat":
        at = g.op("Add", g.op("Mul", token, g.const(np.int64(spec["k"]))), slot)
        return g.unsqueeze(g.op("Gather", g.reshape(w, -1), at, axis=0), -1)
    at = g.op("Concat", g.unsqueeze(token, -1), g.unsqueeze(slot, -1), axis=1)
    return g.unsqueeze(g.op("GatherND", w, at), -1)


def add_rows(g, spec, total, token, y, shape):
    """total with rows y added at token."""
    combine = spec["combine"]
    reduction = {"reduce_max": "max"}.get(spec.get("mutation"), "add")
    if combine == "scatter_nd":
        return g.op("ScatterND", total, g.unsqueeze(token, -1), y, reduction=reduction)
    at = g.op("Expand", g.unsqueeze(token, -1), g.op("Shape", y))
    if combine == "scatter_elements":
        return g.op("ScatterElements", total, at, y, axis=0, reduction=reduction)
    alone = g.op("ScatterElements", g.zeros(shape), at, y, axis=0)
    return g.op("Add", total, alone)


def loop(g, spec, x, idx, w, experts):
    mutation = spec.get("mutation")
    needs_gates = spec["dispatch"] in ("gate_column", "any")
    gate = gates(g, spec, idx, w) if needs_gates else None
    shape = g.op("Shape", x)
    total = g.zeros(shape)
    terms = []
    for e in range(spec["experts"]):
        if spec["dispatch"] == "routes":
            mask = g.op("Equal", g.reshape(idx, -1), g.const(np.int64(e)))
            route = g.squeeze(g.op("NonZero", mask), 0)
            token = token_of(g, spec, x, route)
            weight = g.unsqueeze(g.op("Gather", g.reshape(w, -1), route, axis=0), -1)
        else:
            token, slot = selected(g, spec, e, idx, gate)
            weight = weights_of(g, spec, e, token, slot, w, gate)
        y = g.op("Mul", experts.call(e, rows_of(g, spec, x, token), mutation), weight)
        if mutation == "shifted_rows" and e == 1:
            n = g.size(x, 0)
            token = g.op("Mod", g.op("Add", token, g.const([1])), n)
        if spec["combine"] == "sum":
            at = g.op("Expand", g.unsqueeze(token, -1), g.op("Shape", y))
            terms.append(g.op("ScatterElements", g.zeros(shape), at, y, axis=0))
        else:
            total = add_rows(g, spec, total, token, y, shape)
    return g.op("Sum", *terms) if terms else total


# ---- Sorted and grouped -----------------------------------------------------------


def ends_of_groups(g, spec, ids, e):
    """Where each expert's rows end, i64[E]."""
    histogram = spec["histogram"]
    if histogram in ("scatter", "grown"):
        zeros = g.const(np.zeros(e, np.int64))
        if histogram == "grown":  # as long as the greatest number asks for, E at least
            most = g.op("ReduceMax", ids, g.const([0]), keepdims=1)
            size = g.op("Max", g.op("Add", most, g.const([1])), g.const([e]))
            zeros = g.op("ConstantOfShape", size,
                         value=numpy_helper.from_array(np.zeros(1, np.int64)))
        ones = g.op("ConstantOfShape", g.op("Shape", ids),
                    value=numpy_helper.from_array(np.ones(1, np.int64)))
        counts = g.op("ScatterElements", zeros, ids, ones, axis=0, reduction="add")
    elif histogram == "one_hot":
        hot = g.op("OneHot", ids, g.const(np.int64(e)), g.const(np.array([0, 1])), axis=-1)
        counts = g.sum(hot, 0)
    else:
        same = g.op("Equal", g.unsqueeze(ids, 0), g.unsqueeze(g.const(np.arange(e)), -1))
        counts = g.sum(g.cast(same, I64), 1)
    ends = g.op("CumSum", counts, g.const(np.int64(0)))
    return counts, ends


def group_rows(g, spec, rows, counts, ends):
    """Rows of each expert in turn."""
    e, n = spec["experts"], spec["ranges"]
    if n == "split" and spec["histogram"] == "grown":
        n = "slice"
    if n == "split":
        return g.op("Split", rows, counts, n_out=e, axis=0)
    if spec["histogram"] == "grown":
        at = [g.const([0])] + [g.op("Gather", ends, g.const([i]), axis=0) for i in range(e)]
    else:
        at = [g.const([0])] + [g.slice(ends, i, i + 1, 0) for i in range(e)]
    if spec.get("mutation") == "shifted_group":
        at[1] = g.op("Max", g.op("Sub", at[1], g.const([1])), g.const([0]))
    if n == "slice":
        return [g.slice(rows, at[i], at[i + 1], 0) for i in range(e)]
    one = g.const(np.int64(1))
    return [g.op("Gather", rows,
                 g.op("Range", g.squeeze(at[i], 0), g.squeeze(at[i + 1], 0), one), axis=0)
            for i in range(e)]


def add_groups(g, spec, x, w, experts, order):
    """Rows of one group after the other, each added where its tokens are."""
    token, perm, counts, ends = order
    spec = spec | {"ranges": "slice"}
    tokens = group_rows(g, spec, token, counts, ends)
    if spec["rows"] == "nd":
        rows = [rows_of(g, spec, x, each) for each in tokens]
    else:
        rows = group_rows(g, spec, rows_of(g, spec, x, token), counts, ends)
    flat = g.reshape(w, -1)
    if g.pick(True, False):
        weights = group_rows(g, spec, g.op("Gather", flat, perm, axis=0), counts, ends)
    else:
        weights = [g.op("Gather", flat, each, axis=0)
                   for each in group_rows(g, spec, perm, counts, ends)]
    shape = g.op("Shape", x)
    total = g.zeros(shape)
    spec |= {"combine": "scatter_nd" if spec["inverse"] == "sort" else "scatter_then_add"}
    for e in range(spec["experts"]):
        y = experts.call(e, rows[e], spec.get("mutation"))
        y = g.op("Mul", y, g.unsqueeze(weights[e], -1))
        total = add_rows(g, spec, total, tokens[e], y, shape)
    return total


def grouped(g, spec, x, idx, w, experts):
    e, k, mutation = spec["experts"], spec["k"], spec.get("mutation")
    ids = g.reshape(idx, -1)
    n = g.size(ids, 0)
    _, perm = g.op("TopK", ids, n, n_out=2, axis=0, largest=0, sorted=1)
    token = token_of(g, spec, x, perm)
    counts, ends = ends_of_groups(g, spec, ids, e)
    if spec["combine"] == "each_group":
        return add_groups(g, spec, x, w, experts, (token, perm, counts, ends))
    parts = group_rows(g, spec, rows_of(g, spec, x, token), counts, ends)
    ys = [experts.call(i, part, mutation) for i, part in enumerate(parts)]
    y = g.op("Concat", *ys, axis=0)
    if spec["combine"] in ("scatter_nd", "scatter_elements"):
        weight = g.unsqueeze(g.op("Gather", g.reshape(w, -1), perm, axis=0), -1)
        y = g.op("Mul", y, weight)
        at, kind, more = g.unsqueeze(token, -1), "ScatterND", {}
        if spec["combine"] == "scatter_elements":
            at, kind, more = g.op("Expand", at, g.op("Shape", y)), "ScatterElements", {"axis": 0}
        if mutation != "no_reduction":
            more["reduction"] = "add"
        return g.op(kind, g.zeros(g.op("Shape", x)), at, y, **more)
    if mutation == "wrong_inverse":
        inverse = perm
    elif spec["inverse"] == "scatter":
        inverse = g.op("ScatterElements", perm, perm, g.range(n), axis=0)
    else:
        _, inverse = g.op("TopK", perm, n, n_out=2, axis=0, largest=0, sorted=1)
    y = g.reshape(g.op("Gather", y, inverse, axis=0), -1, k, g.width)
    return weighted_sum(g, spec, y, w)


# ---- Dense --------------------------------------------------------------------------


def dense_chain(g, spec, x, gate, experts):
    """Every expert on every token, one after the other."""
    mutation, terms = spec.get("mutation"), []
    for e in range(spec["experts"]):
        y = experts.call(e, x, mutation)
        c = column(g, gate, e)
        if mutation == "unmasked" and e == 1:
            terms.append(y)
        elif spec["mask"] == "where":
            hit = g.op("Greater", c, g.const(np.float32(0)))
            terms.append(g.op("Mul", g.op("Where", hit, y, g.const(np.float32(0))), c))
        else:
            terms.append(g.op("Mul", y, c))
    if spec["combine"] == "sum":
        return g.op("Sum", *terms)
    if spec["combine"] == "stack":
        return g.sum(g.op("Concat", *[g.unsqueeze(t, 0) for t in terms], axis=0), 0)
    return add_chain(g, terms)


def dense_batched(g, spec, x, gate, experts):
    """All experts by one batched product: [E, T, H]."""
    if spec["dispatch"] == "tile":
        rows = g.op("Tile", g.unsqueeze(x, 0), g.const([spec["experts"], 1, 1]))
    else:
        rows = g.unsqueeze(x, 0)
    y = experts.call_all(rows)
    if spec["combine"] == "einsum":
        return g.op("Einsum", gate, y, equation="te,eth->th")
    if spec["combine"] == "matmul":
        y = g.op("Transpose", y, perm=[1, 0, 2])
        return g.squeeze(g.op("MatMul", g.unsqueeze(gate, 1), y), 1)
    weight = g.unsqueeze(g.op("Transpose", gate, perm=[1, 0]), -1)
    return g.sum(g.op("Mul", y, weight), 0)


def dense(g, spec, x, idx, w, experts, gate=None):
    gate = gates(g, spec, idx, w) if gate is None else gate
    form = dense_chain if spec["dispatch"] == "chain" else dense_batched
    return form(g, spec, x, gate, experts)


# ---- Images ------------------------------------------------------------------------------


def images(g, spec, x, idx, w, experts):
    """Convolutions on samples [T, 2, 2, 2], which are the rows reshaped."""
    image = g.reshape(x, -1, 2, 2, 2)
    gate = gates(g, spec, idx, w)
    filters = [(g.random(3, 2, 3, 3), g.random(3), g.random(2, 3, 1, 1))
               for _ in range(spec["experts"])]
    terms, total = [], g.zeros(g.op("Shape", image))
    for e, (first, bias, second) in enumerate(filters):
        part, token = image, None
        if spec["dispatch"] == "samples":
            token, _ = selected(g, spec | {"dispatch": "any"}, e, idx, gate)
            part = g.op("Gather", image, token, axis=0)
        y = g.op("Relu", g.op("Conv", part, g.const(first), g.const(bias), pads=[1, 1, 1, 1]))
        y = g.op("Conv", y, g.const(second))
        c = g.reshape(column(g, gate, e), -1, 1, 1, 1)
        if token is None:
            terms.append(g.op("Mul", y, c))
        else:
            y = g.op("Mul", y, g.op("Gather", c, token, axis=0))
            total = g.op("ScatterND", total, g.unsqueeze(token, -1), y, reduction="add")
    if terms:
        total = add_chain(g, terms)
    return g.op("Flatten", total, axis=1)


# ---- Loops over tokens ---------------------------------------------------------------------


def of_one_row(g, spec, row, idx, w, experts):
    """A layer of the one token row[H] with its slots idx[k], w[k]."""
    inner = FORMS[spec["inner"]](g, spec, g.unsqueeze(row, 0), g.unsqueeze(idx, 0),
                                 g.unsqueeze(w, 0), experts)
    return g.squeeze(inner, 0)


def tokens(g, spec, x, idx, w, experts):
    """A Scan over the tokens, or a Loop that looks them up."""
    values = (("row", x, F32, [g.width]), ("idx", idx, I64, [spec["k"]]),
              ("w", w, F32, [spec["k"]]))
    outside, g.nodes = g.nodes, []
    trip, more, y = g.name("trip"), g.name("more"), g.name("y")
    rows = [g.name(name) for name, _, _, _ in values]
    if spec["trips"] == "scan":
        infos = [helper.make_tensor_value_info(r, t, s) for r, (_, _, t, s) in zip(rows, values)]
    else:
        infos = [helper.make_tensor_value_info(trip, I64, []),
                 helper.make_tensor_value_info(more, BOOL, [])]
        rows = [g.op("Gather", value, trip, axis=0) for _, value, _, _ in values]
    inner = g.op("Identity", of_one_row(g, spec, *rows, experts))
    outputs = [helper.make_tensor_value_info(inner, F32, [g.width])]
    if spec["trips"] == "loop":
        go_on = g.op("Identity", more)
        outputs.insert(0, helper.make_tensor_value_info(go_on, BOOL, []))
    body = helper.make_graph(g.nodes, "body", infos, outputs)
    g.nodes = outside
    if spec["trips"] == "scan":
        node = helper.make_node("Scan", [x, idx, w], [y], body=body, num_scan_inputs=3)
    else:
        node = helper.make_node("Loop", [g.squeeze(g.size(x, 0), 0), ""], [y], body=body)
    node.name = y
    g.nodes.append(node)
    return y


# ---- The whole ----------------------------------------------------------------------------

FORMS = {
    "gathered": gathered, "loop": loop, "grouped": grouped, "dense": dense,
    "capacity": capacity.make, "images": images, "assigned": assigned.make,
    "tokens": tokens,
}


def draw(rng, form=None, **fixed):
    """A specification; `fixed` are choices that are not drawn."""
    def pick(*choices):
        return choices[int(rng.integers(len(choices)))]

    form = form or pick("gathered", "loop", "loop", "grouped", "grouped", "dense", "dense",
                        "capacity", "images", "assigned", "tokens")
    spec = {"form": form, "router": pick(*blocks.ROUTERS), "experts": pick(4, 8),
            "k": pick(1, 2, 2), "kind": pick(*KINDS), "act": pick(*blocks.ACTIVATIONS),
            "gates": pick("scatter", "scatter", "one_hot_sum", "one_hot_product", "equal_sum",
                          "equal_product")}
    if form == "gathered":
        spec |= {"dispatch": pick("flat", "slots"), "by_nd": pick(True, False),
                 "combine": pick("reduce", "matmul", "einsum", "slots")}
    if form == "loop":
        spec |= {"dispatch": pick("equal", "one_hot", "any", "gate_column", "routes"),
                 "tokens": pick("div", "table"),
                 "rows": pick("gather", "nd"), "weights": pick("flat", "nd"),
                 "combine": pick("scatter_nd", "scatter_elements", "scatter_then_add", "sum"),
                 "kind": pick(*KINDS, "mixed")}
    if form == "grouped":
        spec |= {"tokens": pick("div", "table")}
        spec |= {"histogram": pick("scatter", "grown", "one_hot", "equal"), "rows": pick("gather", "nd"),
                 "ranges": pick("slice", "split", "range"), "inverse": pick("scatter", "sort"),
                 "combine": pick("reduce", "matmul", "einsum", "scatter_nd", "scatter_elements",
                                 "each_group"),
                 "kind": pick(*KINDS, "mixed")}
    if form == "dense":
        spec |= {"dispatch": pick("chain", "chain", "batched", "tile")} | fixed
        if spec["dispatch"] == "chain":
            spec |= {"mask": pick("mul", "where"), "combine": pick("add", "sum", "stack"),
                     "kind": pick(*KINDS, "mixed")}
        else:
            spec |= {"combine": pick("reduce", "matmul", "einsum")}
        if rng.random() < 0.2:
            spec |= {"router": "masked_softmax"}
    if (spec | fixed)["router"] == "masked_softmax":
        spec |= {"gates": "given"}
    if form == "capacity":
        k = 1 if (spec | fixed)["router"] == "argmax" else (spec | fixed)["k"]
        spec |= {"k": k} | capacity.draw(pick, k, fixed)
        in_order = spec["choice"] in ("slots_first", "each_slot")
        if in_order and spec["router"] == "topk_of_logits":  # slots in any order
            spec["router"] = "softmax_topk"
    if form == "assigned":
        spec |= assigned.draw(pick) | {"kind": pick(*KINDS, "mixed")}
    if form == "tokens":
        spec |= {"inner": pick("gathered", "dense"), "trips": pick("scan", "loop")}
        gathered_row = spec["inner"] == "gathered"
        spec |= {"dispatch": pick("flat", "slots") if gathered_row else pick("chain", "batched"),
                 "by_nd": False, "mask": "mul", "combine": pick("reduce", "matmul", "einsum")}
        if spec["dispatch"] == "chain":
            spec |= {"combine": pick("add", "sum", "stack")}
    if form == "images":
        spec |= {"dispatch": pick("dense", "samples"), "kind": "conv"}
    spec |= fixed
    if spec["router"] == "argmax":
        spec["k"] = 1
    return spec


def make_layer(g, spec, x):
    mutation = spec.get("mutation")
    gate = None
    if spec["form"] == "capacity":
        x = capacity.rows_of_groups(g, spec, x)
    if spec["router"] == "masked_softmax":
        gate, idx, w = masked_softmax(g, spec, x)
    else:
        idx, w = blocks.ROUTERS[spec["router"]](g, x, spec["experts"], spec["k"])
    if mutation == "other_router":
        _, w = blocks.ROUTERS[spec["router"]](g, x, spec["experts"], spec["k"])
    kind = "linear" if spec["form"] == "images" else spec["kind"]
    experts = blocks.Experts(g, kind, spec["act"], spec["experts"])
    arguments = (g, spec, x, idx, w, experts)
    y = FORMS[spec["form"]](*arguments, **({"gate": gate} if gate is not None else {}))
    return y


def text_of(spec):
    return " ".join(f"{k}={v}" for k, v in spec.items())
