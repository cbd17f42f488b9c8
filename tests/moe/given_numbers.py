#!/usr/bin/env python3
"""Layers whose experts are named by numbers: of a hash, of a table, or given.

usage: given_numbers.py --moec MOEC [--keep FOLDER] [NAME..]

Each model is compiled with recognition and with --disable-pass=moe: outputs agree,
also for numbers that name no expert, and where one run ends with an error the other
one does. The report has the experts and k of FORMS, or no layer.
"""
import argparse
import pathlib
import sys
import tempfile

import numpy as np

from compiled import Compiled, difference
from graph import BOOL, F32, I64, Graph

D, F, E, IDS = 8, 12, 4, 50
FORMS = {}


def form(experts, k, numbers=(0, E), fails=False, slots=()):
    """A model of x[T, D] and ids[T] or ids[T, 2] between these numbers; experts 0: no
    layer."""

    def add(write):
        FORMS[write.__name__] = (write, experts, k, numbers, fails, slots)
        return write

    return add


def expert(g, x):
    h = g.op("Relu", g.op("Add", g.op("MatMul", x, g.const(g.random(D, F))),
                          g.const(g.random(F))))
    return g.op("MatMul", h, g.const(g.random(F, D)))


def column(g, ids):
    return g.unsqueeze(ids, 1)


def equal(g, ids, e):
    return g.op("Equal", ids, g.const(np.int64(e)))


def masked_sum(g, x, ids, numbers):
    total = None
    for e in numbers:
        y = g.op("Mul", expert(g, x), g.cast(equal(g, column(g, ids), e), F32))
        total = y if total is None else g.op("Add", total, y)
    return total


def gated_sum(g, x, gates, n):
    total = None
    for e in range(n):
        y = g.op("Mul", expert(g, x), g.slice(gates, e, e + 1, 1))
        total = y if total is None else g.op("Add", total, y)
    return total


def picked(g, x, index, n=E):
    up = g.op("Gather", g.const(g.random(n, D, F)), index, axis=0)
    down = g.op("Gather", g.const(g.random(n, F, D)), index, axis=0)
    h = g.op("Relu", g.op("MatMul", g.unsqueeze(x, 1), up))
    return g.squeeze(g.op("MatMul", h, down), 1)


def stack(g, x, n=E):
    return g.op("Concat", *[g.unsqueeze(expert(g, x), 1) for _ in range(n)], axis=1)


def table(g, ids, *shape, n=E):
    """Numbers of each id; those of a row differ unless shape says that they repeat."""
    if shape and shape[0] == "repeats":
        rows = g.rng.integers(0, n, (IDS, shape[1]))
    elif shape:
        rows = np.array([g.rng.permutation(n)[:shape[0]] for _ in range(IDS)])
    else:
        rows = g.rng.integers(0, n, IDS)
    return g.op("Gather", g.const(rows), ids, axis=0)


def one_hot(g, index, n):
    return g.op("OneHot", index, g.const(np.int64(n)), g.const(np.array([0, 1], np.float32)),
                axis=-1)


def two_slots(g, x, index, n):
    """Weights [T, 2] by scores of the chosen ones."""
    scores = g.op("MatMul", x, g.const(g.random(D, n)))
    return g.op("Softmax", g.op("GatherElements", scores, index, axis=1), axis=-1)


@form(E, 1)
def gathered(g, x, ids):
    return picked(g, x, ids)


@form(E, 1, (-E, E))
def gathered_from_the_end(g, x, ids):
    return picked(g, x, ids)


@form(E, 1, (E, E + 3), fails=True)
def gathered_out_of_range(g, x, ids):
    return picked(g, x, ids)


@form(E, 1)
def matrices_of_rows(g, x, ids):
    rows = g.op("Gather", g.const(g.random(E, D * D)), ids, axis=0)
    return g.squeeze(g.op("MatMul", g.unsqueeze(x, 1), g.reshape(rows, -1, D, D)), 1)


@form(E, 1, (-2, E + 2))
def masks(g, x, ids):
    return masked_sum(g, x, ids, range(E))


@form(3, 1, (0, 9))
def masks_of_some(g, x, ids):
    return masked_sum(g, x, ids, (7, 2, 5))


@form(E, 1, (0, 10**9))
def masks_of_a_hash(g, x, ids):
    h = g.op("Mod", g.op("Mul", ids, g.const(np.int64(2654435761))), g.const(np.int64(E)))
    return masked_sum(g, x, h, range(E))


@form(E, 1, (0, IDS))
def masks_of_a_table(g, x, ids):
    return masked_sum(g, x, table(g, ids), range(E))


@form(E, 1, (-1, E + 1))
def chosen(g, x, ids):
    y = g.zeros(g.op("Shape", x))
    for e in range(E):
        y = g.op("Where", equal(g, column(g, ids), e), expert(g, x), y)
    return y


@form(E, 1, (-1, E + 1))
def chosen_or_other(g, x, ids):
    y = expert(g, x)
    for e in range(E - 1):
        y = g.op("Where", equal(g, column(g, ids), e), expert(g, x), y)
    return y


@form(E, 1, (0, 99))
def chosen_by_remainders(g, x, ids):
    ids = g.op("Mod", ids, g.const(np.int64(E)))
    return chosen_or_other(g, x, ids)


@form(E, 1, (-1, E + 1))
def looped(g, x, ids):
    total = g.zeros(g.op("Shape", x))
    for e in range(E):
        rows = g.squeeze(g.op("NonZero", equal(g, ids, e)), 0)
        y = expert(g, g.op("Gather", x, rows, axis=0))
        total = g.op("ScatterND", total, g.unsqueeze(rows, -1), y, reduction="add")
    return total


@form(E, 1, (-1, E + 1))
def looped_over(g, x, ids):
    total = g.zeros(g.op("Shape", x))
    for e in range(E):
        rows = g.squeeze(g.op("NonZero", equal(g, ids, e)), 0)
        y = expert(g, g.op("Gather", x, rows, axis=0))
        total = g.op("ScatterND", total, g.unsqueeze(rows, -1), y)
    return total


@form(E, 1)
def one_hot_einsum(g, x, ids):
    h = g.op("Einsum", x, g.const(g.random(E, D, F)), equation="td,edf->tef")
    y = g.op("Einsum", g.op("Relu", h), g.const(g.random(E, F, D)), equation="tef,efh->teh")
    return g.op("Einsum", y, one_hot(g, ids, E), equation="teh,te->th")


@form(E, 1)
def rows_of_a_unit_matrix(g, x, ids):
    return gated_sum(g, x, g.op("Gather", g.const(np.eye(E, dtype=np.float32)), ids, axis=0), E)


@form(E, 1)
def scattered_ones(g, x, ids):
    ids = column(g, ids)
    zeros = g.zeros(g.op("Concat", g.size(x, 0), g.const([E]), axis=0))
    ones = g.op("Expand", g.const(np.float32(1)), g.op("Shape", ids))
    return gated_sum(g, x, g.op("ScatterElements", zeros, ids, ones, axis=1), E)


@form(E, 1, (-E, E))
def taken_of_a_stack(g, x, ids):
    index = g.op("Expand", g.reshape(ids, -1, 1, 1),
                 g.op("Concat", g.size(x, 0), g.const([1, D]), axis=0))
    return g.squeeze(g.op("GatherElements", stack(g, x), index, axis=1), 1)


@form(E, 1)
def taken_by_tuples(g, x, ids):
    return g.op("GatherND", stack(g, x), g.unsqueeze(ids, -1), batch_dims=1)


def remainders(g, ids):
    return g.op("Mod", ids, g.const(np.int64(E)))


@form(E, 1, (0, 99))
def taken_by_coordinates(g, x, ids):
    y = g.op("Concat", *[g.unsqueeze(expert(g, x), 0) for _ in range(E)], axis=0)
    index = g.op("Concat", column(g, remainders(g, ids)), column(g, g.range(g.size(x, 0))),
                 axis=1)
    return g.op("GatherND", y, index)


@form(E, 1, (0, 99))
def taken_of_parts(g, x, ids):
    y = g.op("Concat", *[expert(g, x) for _ in range(E)], axis=0)
    index = g.op("Mul", remainders(g, ids), g.size(x, 0))
    return g.op("Gather", y, g.op("Add", index, g.range(g.size(x, 0))), axis=0)


@form(E, 1, (0, 99))
def taken_of_a_flat_stack(g, x, ids):
    index = g.op("Mul", g.range(g.size(x, 0)), g.const(np.int64(E)))
    return g.op("Gather", g.reshape(stack(g, x), -1, D),
                g.op("Add", index, remainders(g, ids)), axis=0)


@form(0, 0, (-1, E))
def rows_of_the_token_before(g, x, ids):
    """Behind what all experts made of a token lies that of the next one."""
    index = g.op("Mul", g.range(g.size(x, 0)), g.const(np.int64(E)))
    return g.op("Gather", g.reshape(stack(g, x), -1, D), g.op("Add", index, ids), axis=0)


@form(0, 0, (0, 99))
def rows_with_another_stride(g, x, ids):
    """Fewer are stepped over than lie there for each token."""
    index = g.op("Mul", g.range(g.size(x, 0)), g.const(np.int64(E - 1)))
    return g.op("Gather", g.reshape(stack(g, x), -1, D),
                g.op("Add", index, remainders(g, ids)), axis=0)


@form(0, 0, (0, 99))
def rows_of_parts_as_of_a_stack(g, x, ids):
    """All tokens of an expert lie together, not all experts' results of a token."""
    y = g.op("Concat", *[expert(g, x) for _ in range(E)], axis=0)
    index = g.op("Mul", g.range(g.size(x, 0)), g.const(np.int64(E)))
    return g.op("Gather", y, g.op("Add", index, remainders(g, ids)), axis=0)


@form(0, 0, (0, 99))
def coordinates_of_other_rows(g, x, ids):
    """Rows are counted from the last one."""
    y = g.op("Concat", *[g.unsqueeze(expert(g, x), 0) for _ in range(E)], axis=0)
    rows = g.op("Sub", g.op("Sub", g.size(x, 0), g.const([1])), g.range(g.size(x, 0)))
    index = g.op("Concat", column(g, remainders(g, ids)), column(g, rows), axis=1)
    return g.op("GatherND", y, index)


@form(0, 0, (0, 99))
def coordinates_of_half_the_rows(g, x, ids):
    """Two tokens after each other have the row of one."""
    rows = g.op("Div", g.range(g.size(x, 0)), g.const(np.int64(2)))
    index = g.op("Concat", column(g, rows), column(g, remainders(g, ids)), axis=1)
    return g.op("GatherND", stack(g, x), index)


@form(E, 1, (0, 99))
def sorted_by_remainders(g, x, ids):
    ids = g.op("Mod", ids, g.const(np.int64(E)))
    _, order = g.op("TopK", ids, g.size(x, 0), n_out=2, axis=0, largest=0)
    rows = g.op("Gather", x, order, axis=0)
    hits = g.cast(g.op("Equal", column(g, ids), g.const(np.arange(E))), I64)
    count = g.sum(hits, 0)
    ends = g.op("CumSum", count, g.const(np.int64(0)))
    starts = g.op("Sub", ends, count)
    parts = []
    for e in range(E):
        part = g.op("Slice", rows, g.slice(starts, e, e + 1, 0), g.slice(ends, e, e + 1, 0),
                    g.const([0]))
        parts.append(expert(g, part))
    return g.op("ScatterND", g.zeros(g.op("Shape", x)), g.unsqueeze(order, -1),
                g.op("Concat", *parts, axis=0))


@form(8, 2, (0, IDS))
def two_of_a_table(g, x, ids):
    index = table(g, ids, 2, n=8)
    y = g.op("MatMul", g.unsqueeze(x, 1, 2),
             g.op("Gather", g.const(g.random(8, D, D)), index, axis=0))
    y = g.op("Mul", g.squeeze(y, 2), g.unsqueeze(two_slots(g, x, index, 8), -1))
    return g.sum(y, 1)


@form(8, 2, (0, IDS))
def two_of_a_table_by_gates(g, x, ids):
    index = table(g, ids, 2, n=8)
    hot = g.op("Mul", one_hot(g, index, 8), g.unsqueeze(two_slots(g, x, index, 8), -1))
    return gated_sum(g, x, g.sum(hot, 1), 8)


@form(8, 2, (0, IDS))
def two_that_may_be_one(g, x, ids):
    index = table(g, ids, "repeats", 2, n=8)
    hot = g.op("Mul", one_hot(g, index, 8), g.unsqueeze(two_slots(g, x, index, 8), -1))
    return gated_sum(g, x, g.sum(hot, 1), 8)


@form(8, 2, (0, IDS))
def rows_of_two_that_may_be_one(g, x, ids):
    index = table(g, ids, "repeats", 2, n=8)
    total = g.zeros(g.op("Shape", x))
    for e in range(8):
        hit = g.cast(g.max(g.cast(equal(g, index, e), I64), -1), BOOL)
        rows = g.squeeze(g.op("NonZero", hit), 0)
        y = expert(g, g.op("Gather", x, rows, axis=0))
        total = g.op("ScatterND", total, g.unsqueeze(rows, -1), y, reduction="add")
    return total


def weights_of_slots(g, x):
    return g.op("Softmax", g.op("MatMul", x, g.const(g.random(D, 2))), axis=-1)


def picked_by_slots(g, x, ids):
    """[T, 2, D]"""
    y = g.op("MatMul", g.unsqueeze(x, 1, 2),
             g.op("Gather", g.const(g.random(8, D, D)), ids, axis=0))
    return g.squeeze(y, 2)


@form(8, 2, (-8, 8), slots=(2,))
def slots(g, x, ids):
    y = g.op("Mul", picked_by_slots(g, x, ids), g.unsqueeze(weights_of_slots(g, x), -1))
    return g.sum(y, 1)


@form(8, 2, (0, 8), slots=(2,))
def slots_by_a_product(g, x, ids):
    w = g.unsqueeze(weights_of_slots(g, x), 1)
    return g.squeeze(g.op("MatMul", w, picked_by_slots(g, x, ids)), 1)


@form(8, 2, (-1, 9), slots=(2,))
def slots_by_masks(g, x, ids):
    """Two slots of a token may name one expert."""
    w, total = weights_of_slots(g, x), None
    for e in range(8):
        gate = g.op("Where", equal(g, ids, e), w, g.const(np.float32(0)))
        y = g.op("Mul", expert(g, x), g.sum(gate, -1, 1))
        total = y if total is None else g.op("Add", total, y)
    return total


@form(8, 2, (0, 8), slots=(2,))
def slots_looped(g, x, ids):
    w, total = weights_of_slots(g, x), g.zeros(g.op("Shape", x))
    for e in range(8):
        places = g.op("NonZero", equal(g, ids, e))
        rows = g.squeeze(g.slice(places, 0, 1, 0), 0)
        own = g.op("GatherND", w, g.op("Transpose", places, perm=[1, 0]))
        y = g.op("Mul", expert(g, g.op("Gather", x, rows, axis=0)), g.unsqueeze(own, -1))
        total = g.op("ScatterND", total, g.unsqueeze(rows, -1), y, reduction="add")
    return total


@form(8, 2, (0, 8), slots=(2,))
def slots_of_a_stack(g, x, ids):
    index = g.op("Expand", g.unsqueeze(ids, -1),
                 g.op("Concat", g.size(x, 0), g.const([2, D]), axis=0))
    y = g.op("GatherElements", stack(g, x, 8), index, axis=1)
    return g.sum(g.op("Mul", y, g.unsqueeze(weights_of_slots(g, x), -1)), 1)


@form(4, 2, (0, 2))
def factors_of_slots(g, x, ids):
    """Behind the masks of slots there is a factor of each slot."""
    del ids
    scores = g.op("MatMul", x, g.const(g.random(D, 4)))
    w, index = g.op("TopK", scores, g.const([2]), n_out=2, axis=-1)
    total = None
    for e in range(4):
        gate = g.op("Where", equal(g, index, e), w, g.const(np.float32(0)))
        gate = g.op("Mul", gate, g.const(np.array([3, -2], np.float32)))
        y = g.op("Mul", expert(g, x), g.sum(gate, -1, 1))
        total = y if total is None else g.op("Add", total, y)
    return total


@form(8, 2, (0, IDS))
def rounds_that_may_repeat(g, x, ids):
    """Scores so far apart that the others underflow: the second round repeats the first."""
    del ids
    scores = g.op("Mul", x, g.const(np.float32(200)))
    p = g.op("Softmax", scores, axis=-1)
    first = one_hot(g, g.op("ArgMax", p, axis=-1, keepdims=0), 8)
    rest = g.op("Mul", p, g.op("Sub", g.const(np.float32(1)), first))
    second = one_hot(g, g.op("ArgMax", rest, axis=-1, keepdims=0), 8)
    gates = g.op("Add", g.op("Mul", first, p), g.op("Mul", second, p))
    return gated_sum(g, x, gates, 8)


@form(2, 1, (0, 2))
def one_of_two(g, x, ids):
    return g.op("Where", equal(g, column(g, ids), 1), expert(g, x), expert(g, x))


@form(2, 1, (0, 9))
def one_of_two_by_a_limit(g, x, ids):
    above = g.op("Greater", column(g, ids), g.const(np.int64(4)))
    share = g.cast(above, F32)
    rest = g.op("Sub", g.const(np.float32(1)), share)
    return g.op("Add", g.op("Mul", expert(g, x), share), g.op("Mul", expert(g, x), rest))


@form(2, 1, (0, 2))
def rows_of_one_of_two(g, x, ids):
    total = g.zeros(g.op("Shape", x))
    mask = equal(g, ids, 1)
    for side in (mask, g.op("Not", mask)):
        rows = g.op("Transpose", g.op("NonZero", side), perm=[1, 0])
        total = g.op("ScatterND", total, rows, expert(g, g.op("GatherND", x, rows)))
    return total


@form(E, 1, (0, 99))
def prototypes(g, x, ids):
    """A choice in each of two groups; one of them is looked at."""
    del ids
    scores = g.reshape(g.op("MatMul", x, g.const(g.random(D, 2 * E))), -1, 2, E)
    index = g.op("ArgMax", scores, axis=-1, keepdims=0)
    return masked_sum(g, x, g.squeeze(g.slice(index, 1, 2, 1), 1), range(E))


@form(0, 0, (0, 2))
def two_of_other_tokens(g, x, ids):
    """Where the condition holds not the token itself is computed with."""
    last = g.op("Slice", x, g.const([-1]), g.const([-2**31]), g.const([0]), g.const([-1]))
    return g.op("Where", equal(g, column(g, ids), 1), expert(g, x), expert(g, last))


@form(0, 0, (0, IDS))
def embedded(g, x, ids):
    rows = g.op("Gather", g.const(g.random(IDS, D)), ids, axis=0)
    return g.op("Add", g.op("Mul", expert(g, x), rows), rows)


@form(0, 0, (0, IDS))
def factors(g, x, ids):
    rows = g.op("Gather", g.const(g.random(IDS, D)), ids, axis=0)
    y = g.op("MatMul", g.unsqueeze(expert(g, x), 1), g.unsqueeze(rows, -1))
    return g.op("Mul", x, g.squeeze(y, 2))


@form(0, 0, (-1, 3))
def left_out(g, x, ids):
    ids = column(g, ids)
    y = g.op("Where", equal(g, ids, 1), x, g.op("Neg", x))
    return g.op("Where", equal(g, ids, 0), g.const(np.float32(0)), y)


@form(0, 0, (-3, 9))
def masks_of_two_numbers(g, x, ids):
    """Masks of a number and of its remainder are no router's."""
    y = masked_sum(g, x, ids, (1,))
    rest = g.op("Mod", ids, g.const(np.int64(E)))
    return g.op("Add", y, masked_sum(g, x, rest, (2,)))


@form(0, 0)
def the_same_for_all(g, x, ids):
    """Places are not numbers of experts."""
    del ids
    place = g.range(g.size(x, 0))
    return masked_sum(g, x, place, range(2))


def check(moec, name, folder):
    write, experts, k, numbers, fails, slots = FORMS[name]
    rng = np.random.default_rng(sum(name.encode()))
    g = Graph(rng, D, F)
    g.inputs += [("x", F32, ["T", D]), ("ids", I64, ["T", *slots])]
    g.outputs.append((write(g, "x", "ids"), F32, ["T", D]))
    problems = []
    for n in (1, 17):
        inputs = {"x": rng.normal(0, 1, (n, D)).astype(np.float32),
                  "ids": rng.integers(*numbers, (n, *slots))}
        compiled = Compiled(moec, folder, g.model(), inputs)
        plain = compiled.run("--disable-pass=moe")
        outputs, report = compiled.run_and_report()
        if fails:
            if plain is not None or outputs is not None:
                problems.append("gives results for numbers out of range")
            continue
        if plain is None or outputs is None:
            problems.append(compiled.error)
            continue
        problems.append(difference(outputs[0], plain[0]))
        found = [(layer["experts"], layer["k"]) for layer in report["layers"]]
        if found != [(experts, k)] * (experts > 0):
            problems.append(f"layers {found} in the report")
    return [p for p in problems if p is not None]


def main(doc, forms):
    """Checks these forms, or those of them that are named."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--moec", required=True)
    parser.add_argument("--keep", type=pathlib.Path, help="folder for the latest model")
    parser.add_argument("names", nargs="*", default=list(forms))
    args = parser.parse_args()
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        for name in args.names or forms:
            if args.keep:
                args.keep.mkdir(parents=True, exist_ok=True)
            for problem in check(args.moec, name, args.keep or folder):
                print(f"{name}: {problem}")
                failed += 1
    print(f"{len(args.names or forms)} models, {failed} failures")
    return failed > 0


if __name__ == "__main__":
    sys.exit(main(__doc__, FORMS))
