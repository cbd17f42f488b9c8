"""Dispatch into buffers of experts that have a capacity.

An expert has places for `capacity` rows. Routes get them in the order in which
they are counted; those that find no place are dropped. make(g, spec, x, idx, w,
experts) writes it as models of GShard and its followers do:

choice    one expert a token; k slots counted token by token ("tokens") or slot by
          slot ("slots_first"); each slot on its own behind the slots before
          ("each_slot"); two rounds of choosing ("rounds")
hot       how experts become one-hot rows
counter   the type in which routes are counted
count     where 1 is taken off: "after" the sum, before it ("exclusive"), after it
          was masked ("masked")
pick      how a route's number is taken out of those of all experts
limit     how routes without a place are cut off
into, back  products, or a scatter into the buffers and a gather from them
dump      where rows without a place go: to the first one, behind all of them, to the
          last one of their expert
each      experts on the whole buffers or one by one
groups    1, or 2: tokens compete in groups
behind    each slot on its own begins behind all routes of the slots before, or behind
          those that found a place
bound     the capacity is a number, or follows from the number of tokens, or from data
dropped   what a token without any place gives: nothing, or itself
"""
import numpy as np

from blocks import logits
from graph import BOOL, F32, I32, I64

TYPES = {"float": (F32, np.float32), "int64": (I64, np.int64), "int32": (I32, np.int32)}


def draw(pick, k, fixed):
    """The choices of this form for k experts of a token; `fixed` are not drawn."""
    spec = {"choice": pick("tokens", "slots_first", "each_slot", "rounds") if k > 1 else "one",
            "hot": pick("equal", "one_hot", "eye"), "counter": pick("float", "int64", "int32"),
            "count": pick("after", "exclusive", "masked"), "pick": pick("sum", "max", "gather"),
            "limit": pick("less", "less_or_equal", "not_greater", "cut_before", "minus_one",
                          "none"),
            "capacity": pick(2, 3), "bound": pick("number", "number", "size", "data"),
            "behind": pick("all", "kept"),
            "into": pick("product", "product", "scatter_nd", "scatter_elements"),
            "back": pick("product", "product", "gather", "gather_zero"),
            "dump": pick("first", "behind", "clamp"),
            "each": pick("whole", "whole", "slice", "split", "gather"),
            "groups": pick(1, 1, 2), "dropped": pick("nothing", "nothing", "kept")} | fixed
    if spec["choice"] in ("each_slot", "rounds"):
        spec["count"] = "after"
    if spec["count"] == "masked":
        spec["pick"] = pick("max", "none")
    if spec["groups"] > 1 or spec["pick"] == "none":
        spec |= {"into": "product", "back": "product"}
    if spec["into"] != "product" or spec["back"] != "product":
        spec["limit"] = pick("less", "less_or_equal", "not_greater")
    return spec


# ---- Small parts --------------------------------------------------------------------


class Layer:
    """What all parts need: g, the specification, sizes."""

    def __init__(self, g, spec, x):
        self.g, self.spec = g, spec
        self.e, self.mutation = spec["experts"], spec.get("mutation")
        self.type, self.dtype = TYPES[spec["counter"]]
        self.lead = 1 if spec["groups"] > 1 else 0  # dimensions in front of tokens
        if spec["bound"] == "number":
            self.c = g.const([spec["capacity"]])
            self.places = g.const(np.arange(spec["capacity"]))
        elif spec["bound"] == "data":  # 1 or more, which only a run knows
            first = g.reshape(g.slice(g.slice(x, 0, 1, 0), 0, 1, 1), 1)
            first = g.op("Mul", g.op("Abs", first), g.const(np.float32(3)))
            self.c = g.op("Max", g.cast(g.op("Floor", first), I64), g.const([1]))
            self.places = g.range(self.c)
        else:  # at least one, and half of what tokens would need
            n = g.op("Add", g.size(x, 0), g.const([2 * self.e - 1]))
            self.c = g.op("Max", g.op("Div", n, g.const([2 * self.e])), g.const([1]))
            self.places = g.range(self.c)

    def number(self, n):
        return self.g.typed(self.dtype(n))

    def capacity_as(self, to):
        return self.c if to == I64 else self.g.cast(self.c, to)

    def reshape(self, x, *dims):
        """Dimensions are numbers or names of i64[1]."""
        g = self.g
        if all(isinstance(d, int) for d in dims):
            return g.reshape(x, *dims)
        dims = [d if isinstance(d, str) else g.const([d]) for d in dims]
        return g.op("Reshape", x, g.op("Concat", *dims, axis=0))

    def columns(self, x):
        """The slots of [.., k], one by one."""
        g, k = self.g, self.spec["k"]
        if g.pick(True, False):
            return [g.op("Gather", x, g.const(np.int64(j)), axis=-1) for j in range(k)]
        parts = g.op("Split", x, n_out=k, axis=-1, num_outputs=k) if k > 1 else [x]
        return [g.squeeze(part, -1) for part in parts]

    def all_places(self):
        return self.g.op("Mul", self.c, self.g.const([self.e]))


def one_hot(layer, idx):
    """[.., E] of the counter's type."""
    g, e, spelling = layer.g, layer.e, layer.spec["hot"]
    if spelling == "one_hot":
        hot = g.op("OneHot", idx, g.const(np.int64(e)), g.const(np.array([0, 1])), axis=-1)
        return hot if layer.type == I64 else g.cast(hot, layer.type)
    if spelling == "eye":
        return g.op("Gather", g.typed(np.eye(e, dtype=layer.dtype)), idx, axis=0)
    return g.cast(g.op("Equal", g.unsqueeze(idx, -1), g.const(np.arange(e))), layer.type)


def count(layer, hot, axis):
    """Each expert's routes, counted along the axis: 0, 1, .. where hot is 1."""
    g, how = layer.g, layer.spec["count"]
    if layer.mutation == "wrong_axis":
        axis += 1
    shape = g.op("Shape", hot)
    if layer.mutation == "one_group":
        hot, axis = g.reshape(hot, -1, layer.e), 0
    at = g.const(np.int64(axis))
    if how == "exclusive":
        total = g.op("CumSum", hot, at, exclusive=1)
    else:
        total = g.op("CumSum", hot, at)
        if how == "masked":
            total = g.op("Mul", total, hot)
        total = g.op("Sub", total, layer.number(1))
    return g.op("Reshape", total, shape) if layer.mutation == "one_group" else total


def fits(layer, rank, spelling=None):
    g = layer.g
    c = layer.capacity_as(layer.type)
    spelling = spelling or layer.spec["limit"]
    if layer.mutation == "overflow":
        return g.op("LessOrEqual", rank, c)
    if spelling == "less_or_equal":
        return g.op("LessOrEqual", rank, g.op("Sub", c, layer.number(1)))
    if spelling == "not_greater":
        return g.op("Not", g.op("GreaterOrEqual", rank, c))
    return g.op("Less", rank, c)


def places_of(layer, rank, to=F32):
    """[.., C] with a 1 at the number."""
    g = layer.g
    same = g.op("Equal", g.unsqueeze(g.cast(rank, I64), -1), layer.places)
    return g.cast(same, to)


# ---- Numbers of routes ----------------------------------------------------------------


def number_of(layer, rank, hot, idx):
    """The route's number out of those of all experts [.., E]."""
    g, pick = layer.g, layer.spec["pick"]
    if layer.spec["count"] == "masked":
        return g.max(rank, -1)
    if pick == "gather":
        return g.squeeze(g.op("GatherElements", rank, g.unsqueeze(idx, -1), axis=-1), -1)
    rank = g.op("Mul", rank, hot)
    return g.max(rank, -1) if pick == "max" else g.sum(rank, -1)


def counted_routes(layer, idx):
    """One-hot rows [.., T, E] or [.., T, k, E], and numbers of routes along them."""
    g, choice, lead = layer.g, layer.spec["choice"], layer.lead
    hot = one_hot(layer, idx)
    if choice == "one":
        return hot, count(layer, hot, lead)
    k, e = layer.spec["k"], layer.e
    groups = [layer.spec["groups"]] * lead
    if choice == "tokens":
        flat = g.reshape(hot, *groups, -1, e)
        return hot, g.reshape(count(layer, flat, lead), *groups, -1, k, e)
    perm = list(range(lead)) + [lead + 1, lead, lead + 2]
    flat = g.reshape(g.op("Transpose", hot, perm=perm), *groups, -1, e)
    rank = g.reshape(count(layer, flat, lead), *groups, k, -1, e)
    return hot, g.op("Transpose", rank, perm=perm)


def counted_parts(layer, idx):
    """The same for each slot on its own; its numbers start behind the slots before."""
    g, base = layer.g, None
    for one in idx:
        hot = one_hot(layer, one)
        rank = count(layer, hot, layer.lead)
        if base is not None and layer.mutation != "no_base":
            rank = g.op("Add", rank, base)
        whole = hot
        if layer.spec["behind"] == "kept":
            hot = g.op("Mul", hot, g.cast(fits(layer, rank, "less"), layer.type))
        total = g.sum(hot, layer.lead, keepdims=1)
        base = total if base is None else g.op("Add", base, total)
        yield one, whole, rank


# ---- Products -------------------------------------------------------------------------


def gates(layer, hot, rank, idx, w):
    """dispatch and combine [.., E, C] of routes hot[.., E], rank[.., E], w[..]."""
    g, spec = layer.g, layer.spec
    if spec["limit"] == "cut_before":
        hot = g.op("Mul", hot, g.cast(fits(layer, rank, "less"), layer.type))
    if spec["pick"] == "none":  # -1 has no place
        hits = places_of(layer, rank)
        hits = g.op("Mul", hits, g.unsqueeze(g.cast(hot, F32), -1))
    else:
        number = number_of(layer, rank, hot, idx)
        if spec["limit"] == "minus_one":  # the number of no place
            number = g.op("Where", fits(layer, number), number, layer.number(-1))
        elif spec["limit"] not in ("cut_before", "none"):
            keep = g.cast(fits(layer, number), layer.type)
            hot = g.op("Mul", hot, g.unsqueeze(keep, -1))
        hits = g.op("Mul", g.unsqueeze(g.cast(hot, F32), -1),
                    g.unsqueeze(places_of(layer, number), -2))
    combine = g.op("Mul", hits, g.unsqueeze(w, -1, -2))
    return g.pick(hits, g.cast(g.cast(combine, BOOL), F32)), combine


def all_gates(layer, idx, w):
    """dispatch and combine [.., T, E, C]"""
    g, choice = layer.g, layer.spec["choice"]
    if choice in ("rounds", "each_slot"):
        idx, w = (x if isinstance(x, list) else layer.columns(x) for x in (idx, w))
        both = [gates(layer, hot, rank, one, weight)
                for weight, (one, hot, rank) in zip(w, counted_parts(layer, idx))]
        return [add_chain(g, terms) for terms in zip(*both)]
    if choice == "one":
        idx, w = layer.columns(idx)[0], layer.columns(w)[0]
    both = gates(layer, *counted_routes(layer, idx), idx, w)
    return both if choice == "one" else [g.sum(x, -3) for x in both]


def add_chain(g, terms):
    total = terms[0]
    for term in terms[1:]:
        total = g.op("Add", total, term)
    return total


def into_by_product(layer, dispatch, x):
    """[E, C, D], [E, 2, C, D]"""
    g = layer.g
    if layer.lead:
        return g.op("Einsum", dispatch, x, equation="gtec,gtd->egcd")
    if g.pick(True, False):
        return g.op("Einsum", dispatch, x, equation="tec,td->ecd")
    flat = g.op("Transpose", layer.reshape(dispatch, 0, -1), perm=[1, 0])
    return layer.reshape(g.op("MatMul", flat, x), layer.e, layer.c, g.width)


def back_by_product(layer, combine, y):
    g = layer.g
    if layer.lead:
        return g.op("Einsum", combine, y, equation="gtec,egch->gth")
    if g.pick(True, False):
        return g.op("Einsum", combine, y, equation="tec,ech->th")
    return g.op("MatMul", layer.reshape(combine, 0, -1), g.reshape(y, -1, g.width))


def call_experts(layer, y):
    """Experts on [E, .., D]"""
    g, e, each = layer.g, layer.e, layer.spec["each"]
    if each == "whole":
        front = [layer.e, -1]
        out = layer.experts.call_all(g.reshape(y, *front, g.width))
        return layer.reshape(out, e, *[2] * layer.lead, layer.c, g.width)
    if each == "split":
        parts = g.op("Split", y, n_out=e, axis=0, num_outputs=e)
    elif each == "slice":
        parts = [g.slice(y, i, i + 1, 0) for i in range(e)]
    else:
        parts = [g.op("Gather", y, g.const(np.int64(i)), axis=0) for i in range(e)]
    outs = [layer.experts.call(i, g.squeeze(p, 0) if each == "split" else p)
            for i, p in enumerate(parts)]
    if each != "slice":
        outs = [g.unsqueeze(out, 0) for out in outs]
    return g.op("Concat", *outs, axis=0)


# ---- Scatters and gathers ----------------------------------------------------------------


def routed(layer, idx):
    """Experts and numbers of all routes, i64[R] each, and whether they have a place."""
    g, choice = layer.g, layer.spec["choice"]
    if choice in ("rounds", "each_slot"):
        idx = idx if isinstance(idx, list) else layer.columns(idx)
        numbers = [number_of(layer, rank, hot, one)
                   for one, hot, rank in counted_parts(layer, idx)]
        idx, number = (g.op("Concat", *[g.unsqueeze(x, -1) for x in xs], axis=-1)
                       for xs in (idx, numbers))
    else:
        if choice == "one":
            idx = layer.columns(idx)[0]
        number = number_of(layer, *counted_routes(layer, idx)[::-1], idx)
    number = g.reshape(number, -1)
    return g.reshape(idx, -1), g.cast(number, I64), fits(layer, number)


def buffer_numbers(layer, expert, number, keep, way):
    """Places in all buffers, and whether all others have a row of their own."""
    g = layer.g
    at = g.op("Mul", expert, layer.c)
    if way == "clamp":
        return g.op("Add", at, g.op("Min", number, g.op("Sub", layer.c, g.const([1])))), False
    at = g.op("Add", at, number)
    if way == "first":
        return g.op("Mul", at, g.cast(keep, I64)), False
    return g.op("Where", keep, at, layer.all_places()), True


def into_by_scatter(layer, x, routes):
    """[E, C, D]"""
    g, spec, k = layer.g, layer.spec, layer.spec["k"]
    at, behind = buffer_numbers(layer, *routes, spec["dump"])
    rows = x
    if k > 1:
        rows = g.op("Expand", g.unsqueeze(x, 1), g.const([1, k, 1]))
        rows = g.reshape(rows, -1, g.width)
    if not behind and layer.mutation != "dump_not_zero":
        rows = g.op("Mul", rows, g.unsqueeze(g.cast(routes[2], F32), -1))
    n = layer.all_places()
    if behind:
        n = g.op("Add", n, g.const([1]))
    zeros = g.zeros(g.op("Concat", n, g.const([g.width]), axis=0))
    at = g.unsqueeze(at, -1)
    if spec["into"] == "scatter_nd":
        y = g.op("ScatterND", zeros, at, rows, reduction="add")
    else:
        at = g.op("Expand", at, g.op("Shape", rows))
        y = g.op("ScatterElements", zeros, at, rows, axis=0, reduction="add")
    if behind:
        y = g.slice(y, 0, layer.all_places(), 0)
    return layer.reshape(y, layer.e, layer.c, g.width)


def back_by_gather(layer, y, routes, w):
    g, k = layer.g, layer.spec["k"]
    y = g.reshape(y, -1, g.width)
    weight = g.unsqueeze(g.reshape(w, -1), -1)
    if layer.spec["back"] == "gather_zero":
        y = g.op("Concat", y, g.const(np.zeros((1, g.width), np.float32)), axis=0)
        at, _ = buffer_numbers(layer, *routes, "behind")
    else:
        at, _ = buffer_numbers(layer, *routes,
                               "clamp" if layer.spec["dump"] == "behind" else layer.spec["dump"])
        if layer.mutation != "weights_stay":
            weight = g.op("Mul", weight, g.unsqueeze(g.cast(routes[2], F32), -1))
    y = g.op("Mul", g.op("Gather", y, at, axis=0), weight)
    return y if k == 1 else g.sum(g.reshape(y, -1, k, g.width), 1)


# ---- The whole ------------------------------------------------------------------------------


def two_rounds(g, x, e):
    """Each round takes the best expert that is left: idx[..] and w[..] of both."""
    scores = g.op("Softmax", logits(g, x, e), axis=-1)
    first = g.op("ArgMax", scores, axis=-1, keepdims=0)
    hot = g.cast(g.op("Equal", g.unsqueeze(first, -1), g.const(np.arange(e))), F32)
    if g.pick(True, False):
        rest = g.op("Where", g.cast(hot, BOOL), g.const(np.float32(-np.inf)), scores)
    else:
        rest = g.op("Mul", scores, g.op("Sub", g.const(np.float32(1)), hot))
    second = g.op("ArgMax", rest, axis=-1, keepdims=0)
    w = [g.squeeze(g.op("GatherElements", scores, g.unsqueeze(i, -1), axis=-1), -1)
         for i in (first, second)]
    total = g.op("Add", *w)
    return [first, second], [g.op("Div", v, total) for v in w]


def rows_of_groups(g, spec, x):
    """Rows [T, D] for one group; those of two in one tensor."""
    if spec["groups"] == 1:
        return x
    return g.op("Concat", x, g.op("Mul", x, g.const(np.float32(-0.5))), axis=0)


def make(g, spec, x, idx, w, experts):
    """y[T, H] of rows_of_groups x."""
    layer = Layer(g, spec, x)
    layer.experts = experts
    if spec["choice"] == "rounds":
        idx, w = two_rounds(g, x, spec["experts"])
    rows, lists = x, isinstance(idx, list)
    if layer.lead:
        rows = g.reshape(x, 2, -1, g.width)
        tail = [] if lists else [spec["k"]]
        idx, w = ([g.reshape(v, 2, -1, *tail) for v in (xs if lists else [xs])]
                  for xs in (idx, w))
        if not lists:
            idx, w = idx[0], w[0]
    with_gates = "product" in (spec["into"], spec["back"])
    with_numbers = spec["into"] != "product" or spec["back"] != "product"
    dispatch, combine = all_gates(layer, idx, w) if with_gates else (None, None)
    routes = routed(layer, idx) if with_numbers else None
    if spec["into"] == "product":
        y = into_by_product(layer, dispatch, rows)
    else:
        y = into_by_scatter(layer, x, routes)
    y = call_experts(layer, y)
    if spec["back"] == "product":
        y = back_by_product(layer, combine, y)
    else:
        if lists:
            w = g.op("Concat", *[g.unsqueeze(v, -1) for v in w], axis=-1)
        y = back_by_gather(layer, y, routes, w)
    if spec["dropped"] == "kept":
        y = keep_dropped(layer, y, rows, combine, routes)
    return g.sum(y, 0) if layer.lead else y


def keep_dropped(layer, y, rows, combine, routes):
    """Tokens without a place stay as they are."""
    g, k = layer.g, layer.spec["k"]
    if combine is not None:
        has = g.op("Greater", g.op("ReduceSum", combine, g.const([-2, -1]), keepdims=0),
                   g.const(np.float32(0)))
    else:
        has = g.cast(g.max(g.reshape(g.cast(routes[2], F32), -1, k), 1), BOOL)
    return g.op("Where", g.unsqueeze(has, -1), y, rows)
