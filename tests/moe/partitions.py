#!/usr/bin/env python3
"""Layers that take rows apart by conditions and put them together again.

usage: partitions.py --moec MOEC [--keep FOLDER] [NAME..]

Trees of choices, rows of each expert that are joined, written, or sorted back, and
conditions of each expert alone.
Each model is compared with itself under --disable-pass=moe, and the report with what
stands above it; what breaks one obligation has no layer, or another one.
"""
import sys

import numpy as np

import given_numbers
from given_numbers import D, E, column, equal, expert, form, main
from graph import F32, I32

OTHERS = set(given_numbers.FORMS)


def below(g, ids, limit):
    return g.op("Less", column(g, ids), g.const(np.int64(limit)))


def above(g, x, feature, limit=0.0):
    """A condition on a feature of the row."""
    return g.op("Greater", g.slice(x, feature, feature + 1, 1), g.const(np.float32(limit)))


def reversed_rows(g, x):
    return g.op("Slice", x, g.const([-1]), g.const([-2**31]), g.const([0]), g.const([-1]))


# ---- Trees ---------------------------------------------------------------------------------


@form(3, 1, (0, 9))
def intervals(g, x, ids):
    rest = g.op("Where", below(g, ids, 6), expert(g, x), expert(g, x))
    return g.op("Where", below(g, ids, 3), expert(g, x), rest)


@form(4, 1, (0, 9))
def tree_of_scores(g, x, ids):
    del ids
    left = g.op("Where", above(g, x, 1), expert(g, x), expert(g, x))
    right = g.op("Where", above(g, x, 2), expert(g, x), expert(g, x))
    return g.op("Where", above(g, x, 0), left, right)


@form(2, 1, (0, 9))
def tree_with_a_leaf_twice(g, x, ids):
    """Outside of an interval one expert, inside another one."""
    inside, outside = expert(g, x), expert(g, x)
    rest = g.op("Where", below(g, ids, 6), inside, outside)
    return g.op("Where", below(g, ids, 3), outside, rest)


@form(3, 1, (-2, 5))
def tree_of_numbers_and_scores(g, x, ids):
    rest = g.op("Where", above(g, x, 3), expert(g, x), expert(g, x))
    return g.op("Where", equal(g, column(g, ids), 2), expert(g, x), rest)


@form(4, 1, (0, 9))
def deep_tree(g, x, ids):
    y = expert(g, x)
    for limit in (7, 4, 2):
        y = g.op("Where", g.op("Not", below(g, ids, limit)), y, expert(g, x))
    return y


@form(2, 1, (0, 9))
def tree_that_others_read(g, x, ids):
    """The inner choice is added to the outer one: one layer of two, and a choice."""
    inner = g.op("Where", below(g, ids, 6), expert(g, x), expert(g, x))
    return g.op("Add", inner, g.op("Where", below(g, ids, 3), expert(g, x), inner))


@form(0, 0, (0, 9))
def tree_of_features(g, x, ids):
    """One choice is made for each feature."""
    del ids
    rest = g.op("Where", g.op("Greater", x, g.const(np.float32(0))), expert(g, x), expert(g, x))
    return g.op("Where", above(g, x, 0), expert(g, x), rest)


@form(0, 0, (0, 9))
def tree_of_other_tokens(g, x, ids):
    """One leaf is about another row."""
    last = reversed_rows(g, x)
    rest = g.op("Where", below(g, ids, 6), expert(g, last), expert(g, x))
    return g.op("Where", below(g, ids, 3), expert(g, x), rest)


# ---- Rows that are joined ------------------------------------------------------------------


def best(g, x):
    return g.op("ArgMax", g.op("MatMul", x, g.const(g.random(D, E))), axis=-1, keepdims=0)


def places_of(g, ids, e):
    return g.squeeze(g.op("NonZero", equal(g, ids, e)), 0)


def parts(g, x, ids, numbers=range(E)):
    """The rows of each number, joined: what they gave, and where they were."""
    rows, at = [], []
    for e in numbers:
        at.append(places_of(g, ids, e))
        rows.append(expert(g, g.op("Gather", x, at[-1], axis=0)))
    return g.op("Concat", *rows, axis=0), g.op("Concat", *at, axis=0)


def write(g, into, at, rows, reduction="none"):
    return g.op("ScatterND", into, g.unsqueeze(at, 1), rows, reduction=reduction)


def like(g, x):
    return g.zeros(g.op("Shape", x))


@form(E, 1)
def joined_and_written(g, x, ids):
    rows, at = parts(g, x, ids)
    return write(g, like(g, x), at, rows)


@form(E, 1)
def joined_and_written_by_score(g, x, ids):
    del ids
    rows, at = parts(g, x, best(g, x))
    return write(g, like(g, x), at, rows)


@form(E, 1, (-2, E + 2))
def joined_and_written_over(g, x, ids):
    """Tokens whose number is no expert's keep what they had."""
    rows, at = parts(g, x, ids)
    return write(g, x, at, rows)


@form(E, 1)
def joined_and_weighed(g, x, ids):
    """Between the join and the write rows are multiplied by their tokens' weights."""
    del ids
    p = g.op("Softmax", g.op("MatMul", x, g.const(g.random(D, E))), axis=-1)
    rows, at = parts(g, x, g.op("ArgMax", p, axis=-1, keepdims=0))
    own = g.op("Gather", g.max(p, 1, keepdims=1), at, axis=0)
    return write(g, like(g, x), at, g.op("Mul", rows, own))


@form(E, 1)
def stitched(g, x, ids):
    """As TensorFlow's dynamic_stitch is written: as many rows as were joined."""
    del ids
    rows, at = parts(g, x, best(g, x))
    at = g.op("Expand", g.unsqueeze(at, 1), g.op("Shape", rows))
    return g.op("ScatterElements", like(g, rows), at, rows, axis=0)


@form(E, 1)
def sorted_back(g, x, ids):
    del ids
    rows, at = parts(g, x, best(g, x))
    _, order = g.op("TopK", at, g.size(at, 0), n_out=2, axis=0, largest=0)
    return g.op("Gather", rows, order, axis=0)


@form(E, 1)
def sorted_back_by_negatives(g, x, ids):
    """As tf.argsort is written."""
    del ids
    rows, at = parts(g, x, best(g, x))
    down = g.op("Neg", g.cast(at, I32))
    _, order = g.op("TopK", down, g.size(at, 0), n_out=2, axis=0)
    return g.op("Gather", rows, g.cast(order, I32), axis=0)


@form(E, 1)
def put_back_by_an_inverse(g, x, ids):
    del ids
    rows, at = parts(g, x, best(g, x))
    count = g.range(g.size(at, 0))
    order = g.op("ScatterElements", g.op("Mul", at, g.const(np.int64(0))), at, count, axis=0)
    return g.op("Gather", rows, order, axis=0)


@form(0, 0)
def sorted_down(g, x, ids):
    """In the other order rows are other tokens'."""
    del ids
    rows, at = parts(g, x, best(g, x))
    _, order = g.op("TopK", at, g.size(at, 0), n_out=2, axis=0)
    return g.op("Gather", rows, order, axis=0)


@form(0, 0)
def put_in_the_order_of_the_join(g, x, ids):
    """The places themselves are no inverse."""
    del ids
    rows, at = parts(g, x, best(g, x))
    return g.op("Gather", rows, at, axis=0)


@form(0, 0, slots=(2,))
def joined_and_written_twice(g, x, ids):
    """Of two slots the row that comes last is left."""
    rows, at = [], []
    for e in range(E):
        at.append(g.squeeze(g.slice(g.op("NonZero", equal(g, ids, e)), 0, 1, 0), 0))
        rows.append(expert(g, g.op("Gather", x, at[-1], axis=0)))
    return write(g, like(g, x), g.op("Concat", *at, axis=0), g.op("Concat", *rows, axis=0))


@form(0, 0)
def joined_with_one_twice(g, x, ids):
    """Two experts write the rows of one number."""
    rows, at = parts(g, x, ids, (0, 1, 2, 3, 1))
    return write(g, like(g, x), at, rows)


@form(0, 0)
def joined_of_two_routers(g, x, ids):
    """Rows of one router's choices write over those of another one."""
    rows, at = [], []
    for e, index in ((0, ids), (1, ids), (0, best(g, x)), (1, best(g, x))):
        at.append(places_of(g, index, e))
        rows.append(expert(g, g.op("Gather", x, at[-1], axis=0)))
    return write(g, like(g, x), g.op("Concat", *at, axis=0), g.op("Concat", *rows, axis=0))


@form(0, 0)
def sorted_back_without_one(g, x, ids):
    """There are fewer rows than tokens."""
    del ids
    rows, at = parts(g, x, best(g, x), range(E - 1))
    _, order = g.op("TopK", at, g.size(at, 0), n_out=2, axis=0, largest=0)
    y = g.op("Gather", rows, order, axis=0)
    return g.op("Add", x, g.sum(y, 0, 1))


def written_over(g, x, ids, numbers, into):
    for e in numbers:
        at = places_of(g, ids, e)
        into = write(g, into, at, expert(g, g.op("Gather", x, at, axis=0)))
    return into


@form(E, 1)
def written_over_one_for_all(g, x, ids):
    """The first expert computes all rows, the others write over it."""
    del ids
    return written_over(g, x, best(g, x), range(1, E), expert(g, x))


@form(2, 1, (0, 2))
def condition_written_over_one_for_all(g, x, ids):
    at = g.squeeze(g.op("NonZero", g.op("Less", ids, g.const(np.int64(1)))), 0)
    return write(g, expert(g, x), at, expert(g, g.op("Gather", x, at, axis=0)))


@form(0, 0)
def written_over_two_for_all(g, x, ids):
    """What is left is two experts'."""
    del ids
    return written_over(g, x, best(g, x), range(2, E), expert(g, x))


@form(0, 0)
def written_over_other_rows(g, x, ids):
    """What is left is about other rows."""
    del ids
    return written_over(g, x, best(g, x), range(1, E), expert(g, reversed_rows(g, x)))


@form(0, 0)
def written_over_one_who_reads_all(g, x, ids):
    """The others compute with what the first one gave."""
    del ids
    first = expert(g, x)
    return written_over(g, first, best(g, x), range(1, E), first)


# ---- A condition for each expert -----------------------------------------------------------


def column_above(g, p, e, limit=0.3):
    return g.op("Greater", g.slice(p, e, e + 1, 1), g.const(np.float32(limit)))


def probabilities(g, x, n=E):
    return g.op("Softmax", g.op("MatMul", x, g.const(g.random(D, n))), axis=-1)


def between(g, ids, low, high):
    ids = column(g, ids)
    return g.op("And", g.op("Less", ids, g.const(np.int64(high))),
                g.op("Not", g.op("Less", ids, g.const(np.int64(low)))))


def total_of(g, ys):
    total = None
    for y in ys:
        total = y if total is None else g.op("Add", total, y)
    return total


def masked(g, y, condition):
    return g.op("Mul", y, g.cast(condition, F32))


def rows_where(g, into, x, condition, reduction, weight=None):
    at = g.squeeze(g.op("NonZero", g.squeeze(condition, 1)), 0)
    y = expert(g, g.op("Gather", x, at, axis=0))
    if weight is not None:
        y = g.op("Mul", y, g.op("Gather", weight, at, axis=0))
    return write(g, into, at, y, reduction)


@form(E, 0)
def limits_one_by_one(g, x, ids):
    del ids
    p = probabilities(g, x)
    return total_of(g, [masked(g, expert(g, x), column_above(g, p, e)) for e in range(E)])


@form(E, 0)
def limits_of_rows(g, x, ids):
    del ids
    p, total = probabilities(g, x), like(g, x)
    for e in (2, 0, 3, 1):
        total = rows_where(g, total, x, column_above(g, p, e), "add", g.slice(p, e, e + 1, 1))
    return total


@form(3, 0)
def conditions_on_the_row(g, x, ids):
    del ids
    zero = g.const(np.float32(0))
    return total_of(g, [g.op("Where", above(g, x, e), expert(g, x), zero) for e in range(3)])


@form(3, 0)
def conditions_behind_a_sum_of_some(g, x, ids):
    """The third part is 0 where its condition holds: it is no expert's, and the condition of
    the last one is made behind the sum of the first two."""
    del ids
    zero, total = g.const(np.float32(0)), None
    for e in range(4):
        condition, y = above(g, x, e), expert(g, x)
        part = g.op("Where", condition, zero, y) if e == 2 else g.op("Where", condition, y, zero)
        total = part if total is None else g.op("Add", total, part)
    return total


@form(3, 0)
def conditions_with_weights(g, x, ids):
    p = probabilities(g, x, 3)
    ys = []
    for e in range(3):
        w = g.op("Mul", g.slice(p, e, e + 1, 1), g.cast(below(g, ids, e + 1), F32))
        ys.append(g.op("Mul", w, expert(g, x)))
    return total_of(g, [x, *ys])


@form(3, 1, (-3, 12))
def intervals_one_by_one(g, x, ids):
    """No two of them meet; some numbers are in none."""
    bounds = ((0, 3), (3, 6), (6, 9))
    return total_of(g, [masked(g, expert(g, x), between(g, ids, *b)) for b in bounds])


@form(3, 1, (-3, 12))
def intervals_of_rows(g, x, ids):
    """Rows are written over those of x."""
    total = x
    for bounds in ((0, 3), (3, 6), (6, 9)):
        total = rows_where(g, total, x, between(g, ids, *bounds), "none")
    return total


@form(3, 1, (0, 9))
def else_of_two(g, x, ids):
    first, second = below(g, ids, 3), above(g, x, 0)
    other = g.op("Not", first)
    conditions = (first, g.op("And", other, second),
                  g.op("And", other, g.op("Not", second)))
    total = like(g, x)
    for condition in conditions:
        total = rows_where(g, total, x, condition, "none")
    return total


@form(0, 0, (-3, 12))
def intervals_that_meet(g, x, ids):
    """The row that is written last is left where two conditions hold."""
    total = x
    for bounds in ((0, 4), (3, 6), (6, 9)):
        total = rows_where(g, total, x, between(g, ids, *bounds), "none")
    return total


@form(0, 0, (0, 9))
def conditions_one_after_the_other(g, x, ids):
    """Each expert computes with what those before it left."""
    for limit in (3, 6, 8):
        x = g.op("Add", x, masked(g, expert(g, x), below(g, ids, limit)))
    return x


@form(0, 0, (0, 9))
def conditions_of_other_rows(g, x, ids):
    """One of the products is about another row."""
    y = masked(g, expert(g, x), below(g, ids, 6))
    return g.op("Add", y, masked(g, expert(g, reversed_rows(g, x)), above(g, x, 0)))


@form(0, 0, (0, 9))
def one_condition_for_two(g, x, ids):
    return total_of(g, [masked(g, expert(g, x), below(g, ids, 4)) for _ in range(2)])


@form(0, 0, (0, 9))
def condition_that_is_no_row(g, x, ids):
    """A condition of features has no row for each token."""
    y = masked(g, expert(g, x), g.op("Greater", x, g.const(np.float32(0))))
    return g.op("Add", y, masked(g, expert(g, x), below(g, ids, 4)))


@form(E, 1)
def ties_of_the_best(g, x, ids):
    """Equal scores: all of them have the greatest one."""
    del ids
    w = g.random(D, 2)
    p = g.op("Softmax", g.op("MatMul", x, g.const(np.hstack([w, w]))), axis=-1)
    best_of = g.op("Equal", p, g.max(p, 1, keepdims=1))
    gates = g.op("Where", best_of, p, g.const(np.float32(0)))
    return total_of(g, [g.op("Mul", expert(g, x), g.slice(gates, e, e + 1, 1))
                        for e in range(E)])


if __name__ == "__main__":
    sys.exit(main(__doc__, [name for name in given_numbers.FORMS if name not in OTHERS]))
