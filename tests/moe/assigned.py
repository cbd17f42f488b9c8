"""Loops over experts whose results are assigned by masks: y[mask] = expert(x[mask]).

Of each token one expert counts. make(g, spec, x, idx, w, experts) writes it as
exporters do:

batch     what tokens are: [T], [1, T] or [T, 1]
hit       how the mask of an expert is made
limit     tokens of each expert that count, in each sequence; 0: all
take      x[mask] by places of rows, or element by element
put       rows are written by their places ("rows"), or element by element: all of
          them ("elements"), or those of a longer list ("cut")
weigh     weights on each expert's rows, or on the whole
over      what rows are written over: zeros, or the tokens themselves
"""
import numpy as np

from graph import BOOL, I64


def draw(pick):
    return {"batch": pick("flat", "one", "each"), "hit": pick("equal", "one_hot"),
            "limit": pick(0, 0, 2), "take": pick("rows", "rows", "elements"),
            "put": pick("rows", "elements", "cut", "cut"), "weigh": pick("rows", "whole"),
            "over": pick("zeros", "zeros", "tokens"), "k": 1}


def masks(g, spec, idx):
    """bool[tokens.., 1] of each expert."""
    e, tokens = spec["experts"], {"flat": 0, "one": 1, "each": 1}[spec["batch"]]
    idx = g.squeeze(idx, -1)
    if spec["hit"] == "one_hot":
        hot = g.op("OneHot", idx, g.const(np.int64(e)), g.const(np.array([0, 1])), axis=-1)
    else:
        hot = g.cast(g.op("Equal", g.unsqueeze(idx, -1), g.const(np.arange(e))), I64)
    if spec["limit"]:
        rank = g.op("CumSum", hot, g.const(np.int64(tokens)))
        fits = g.op("LessOrEqual", rank, g.const(np.int64(spec["limit"])))
        hot = g.op("Mul", hot, g.cast(fits, I64))
    hot = g.cast(hot, BOOL)
    return [g.slice(hot, i, i + 1, -1) for i in range(e)]


def places(g, mask):
    return g.op("Transpose", g.op("NonZero", mask), perm=[1, 0])


def elements_of(g, spec, mask, x):
    """The mask for each feature."""
    if spec["batch"] == "flat" and g.pick(True, False):
        return g.op("Expand", mask, g.const([1, g.width]))
    return g.op("Expand", mask, g.op("Shape", x))


def take(g, spec, x, mask):
    if spec["take"] == "rows":
        return g.op("GatherND", x, places(g, g.squeeze(mask, -1)))
    flat = g.op("GatherND", x, places(g, elements_of(g, spec, mask, x)))
    return g.reshape(flat, -1, g.width)


def put(g, spec, into, mask, rows, **more):
    if spec["put"] == "rows":
        return g.op("ScatterND", into, places(g, g.squeeze(mask, -1)), rows, **more)
    at = places(g, elements_of(g, spec, mask, into))
    flat = g.reshape(rows, -1)
    if spec["put"] == "cut":
        flat = g.slice(flat, 0, g.size(at, 0), 0)
    return g.op("ScatterND", into, at, flat, **more)


def mutated(g, spec, hits):
    """Masks that are read by, and written by."""
    mutation, axis = spec.get("mutation"), {"flat": 0, "one": 1, "each": 0}[spec["batch"]]
    if mutation == "both_masks":  # the second expert has the first one's tokens, too
        hits = [hits[0], g.op("Or", hits[0], hits[1])] + hits[2:]
    there = list(hits)
    if mutation == "shifted_mask":
        there[1] = g.op("Concat", g.slice(hits[1], 1, 2**62, axis), g.slice(hits[1], 0, 1, axis),
                        axis=axis)
    return list(zip(hits, there))


def make(g, spec, x, idx, w, experts):
    mutation = spec.get("mutation")
    batch = {"flat": [], "one": [1], "each": [-1]}[spec["batch"]]
    tokens = {"flat": [-1], "one": [-1], "each": [1]}[spec["batch"]]
    x = g.reshape(x, *batch, *tokens, g.width)
    idx, w = (g.reshape(v, *batch, *tokens, 1) for v in (idx, w))
    y = x if spec["over"] == "tokens" else g.zeros(g.op("Shape", x))
    for e, (mask, there) in enumerate(mutated(g, spec, masks(g, spec, idx))):
        rows = experts.call(e, take(g, spec, x, mask), mutation)
        if spec["weigh"] == "rows":
            rows = g.op("Mul", rows, take(g, spec | {"take": "rows"}, w, mask))
        adds = {"reduction": "add"} if mutation == "adds" and e == 1 else {}
        y = put(g, spec, y, there, rows, **adds)
        if mutation == "doubled" and e == 1:
            y = g.op("Mul", y, g.const(np.float32(2)))
    if spec["weigh"] == "whole":
        y = g.op("Mul", y, w)
    return g.reshape(y, -1, g.width)
