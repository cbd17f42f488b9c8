#!/usr/bin/env python3
"""Writes the cases control_*: If, Loop and Scan that are decided at run time.

usage: make_control.py OUT_DIR

Each is a few nodes of ONNX text (of opset 17 unless it says another) with the same computation in numpy, which gives
the reference. Needs onnx 1.23 and numpy.
"""
import json
import pathlib
import sys

import numpy as np
import onnx
import onnx.parser
from onnx import numpy_helper

HEAD = '<ir_version: 8, opset_import: ["" : 17]>\n'
CASES = {}


def case(why, text, *data_sets):
    """Registers a numpy function as the meaning of a model text."""
    def register(function):
        CASES["control_" + function.__name__] = (why, text, function, data_sets)
        return function
    return register


def f32(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def i64(value):
    return np.array(value, np.int64)


def flag(value):
    return np.array(value, bool)


@case("branches of different sizes; one result is an output as it is",
      """agraph (float[N,4] x, bool c) => (float[M,4] y, float[N] s) {
        y, s = If (c) <
          then_branch = t () => (float[M,4] a, float[N] r) {
            a = Concat <axis = 0> (x, x)
            axes = Constant <value_ints = [1]> ()
            r = ReduceSum <keepdims = 0> (x, axes)
          },
          else_branch = e () => (float[N,4] b, float[N] q) {
            b = Relu (x)
            q = ReduceMax <axes = [1], keepdims = 0> (b)
          }
        >
      }""",
      (f32(3, 4), flag(True)), (f32(5, 4), flag(False)), (f32(0, 4), flag(True)))
def if_of_other_sizes(x, c):
    if c:
        return np.concatenate([x, x]), x.sum(axis=1)
    b = np.maximum(x, 0)
    return b, b.max(axis=1) if len(b) else np.zeros(0, np.float32)


@case("a branch gives what it captures, twice, and a view of it",
      """agraph (float[N,4] x, bool c) => (float[N,4] y, float[N,4] z, float[M] v) {
        shape = Constant <value_ints = [-1]> ()
        y, z, v = If (c) <
          then_branch = t () => (float[N,4] a, float[N,4] b, float[M] f) {
            a = Identity (x)
            b = Identity (x)
            f = Reshape (x, shape)
          },
          else_branch = e () => (float[N,4] d, float[N,4] g, float[M] h) {
            d = Neg (x)
            g = Identity (d)
            h = Reshape (d, shape)
          }
        >
      }""",
      (f32(3, 4), flag(True)), (f32(2, 4), flag(False)))
def if_of_captured(x, c):
    x = x if c else -x
    return x, x, x.reshape(-1)


@case("branches of different ranks, as exporters write squeezes, twice; a loop has one",
      """agraph (float[A,B,8] x, int64 n) => (float[M,4] y, float[N] v, float[8] h) {
        one = Constant <value_int = 1> ()
        zero = Constant <value_int = 0> ()
        first = Constant <value_ints = [0]> ()
        second = Constant <value_ints = [1]> ()
        w = Constant <value = float[8] {1, 2, 3, 4, 5, 6, 7, 8}> ()
        size = Shape (x)
        b = Gather <axis = 0> (size, one)
        is_one = Equal (b, one)
        s = If (is_one) <
          then_branch = t () => (p) { p = Squeeze (x, second) },
          else_branch = e () => (q) { q = Identity (x) }
        >
        a = Gather <axis = 0> (size, zero)
        is_one_too = Equal (a, one)
        u = If (is_one_too) <
          then_branch = t2 () => (p2) { p2 = Squeeze (s, first) },
          else_branch = e2 () => (q2) { q2 = Identity (s) }
        >
        fours = Constant <value_ints = [-1, 4]> ()
        m = Mul (u, w)
        y = Reshape (m, fours)
        flat = Constant <value_ints = [-1]> ()
        v = Reshape (s, flat)
        h = Loop (n, , w) <
          body = each (int64 i, bool go, float[8] had) => (bool more, float[8] has) {
            more = Identity (go)
            c = If (is_one) <
              then_branch = t3 () => (p3) { p3 = Squeeze (x, second) },
              else_branch = e3 () => (q3) { q3 = Neg (x) }
            >
            eights = Constant <value_ints = [-1, 8]> ()
            rows = Reshape (c, eights)
            sum = ReduceSum <keepdims = 0> (rows, first)
            has = Add (had, sum)
          }
        >
      }""",
      (f32(2, 3, 8), i64(2)), (f32(1, 3, 8), i64(1)), (f32(2, 1, 8), i64(3)),
      (f32(1, 1, 8), i64(0)), (f32(0, 1, 8), i64(1)))
def if_of_other_ranks(x, n):
    w = np.arange(1, 9, dtype=np.float32)
    rows = (x if x.shape[1] == 1 else -x).reshape(-1, 8).sum(axis=0)
    return (x * w).reshape(-1, 4), x.reshape(-1), w + np.float32(n) * rows


@case("an operation that would fail is in the branch that is not taken",
      """agraph (float[N] x, int64[K] i) => (float[K] y) {
        zero = Constant <value_int = 0> ()
        n = Size (x)
        some = Greater (n, zero)
        y = If (some) <
          then_branch = t () => (float[K] a) { a = Gather (x, i) },
          else_branch = e () => (float[K] b) {
            s = Shape (i)
            b = ConstantOfShape (s)
          }
        >
      }""",
      (f32(5), i64([4, 0, -1])), (f32(0), i64([7, 9])))
def if_guards_a_gather(x, i):
    return x[i] if len(x) else np.zeros(len(i), np.float32)


@case("trips from an input; the state is exchanged in every trip",
      """agraph (int64 n, float[K] x, float[K] y) => (float[K] a, float[K] b, float[T,K] rows) {
        yes = Constant <value = bool {1}> ()
        a, b, rows = Loop (n, yes, x, y) <
          body = l (int64 i, bool c, float[K] p, float[K] q) => (bool d, float[K] q1, float[K] p1, float[K] r) {
            d = Identity (c)
            q1 = Identity (q)
            p1 = Identity (p)
            r = Sub (p, q)
          }
        >
      }""",
      (i64(0), f32(3), f32(3, seed=1)), (i64(1), f32(3), f32(3, seed=1)),
      (i64(5), f32(40), f32(40, seed=1)))
def loop_exchanges(n, x, y):
    rows = []
    for _ in range(n):
        rows.append(x - y)
        x, y = y, x
    return x, y, np.array(rows, np.float32).reshape(-1, len(x))


@case("the state grows in every trip until a condition on its values",
      """agraph (float[N] x, float limit) => (float[M] y, int64 trips) {
        zero = Constant <value_int = 0> ()
        top = Constant <value_int = 100> ()
        s0 = ReduceSum <keepdims = 0> (x)
        more = Less (s0, limit)
        y, trips = Loop (top, more, x, zero) <
          body = l (int64 i, bool c, float[P] p, int64 t) => (bool d, float[Q] q, int64 u) {
            one = Constant <value_int = 1> ()
            first = Constant <value_ints = [0]> ()
            last = Constant <value_ints = [1]> ()
            head = Slice (p, first, last)
            q = Concat <axis = 0> (p, head)
            s = ReduceSum <keepdims = 0> (q)
            d = Less (s, limit)
            u = Add (t, one)
          }
        >
      }""",
      (np.array([1, 2], np.float32), np.float32(10)),
      (np.array([3], np.float32), np.float32(1)),
      (np.array([.5, 1, 1], np.float32), np.float32(40)))
def loop_grows(x, limit):
    trips = 0
    while trips < 100 and x.sum() < limit:
        x = np.concatenate([x, x[:1]])
        trips += 1
    return x, i64(trips)


@case("stops early, with rows whose size only a trip tells",
      """agraph (float[N] x, int64 n) => (int64[T,K,1] rows) {
        yes = Constant <value = bool {1}> ()
        rows = Loop (n, yes) <
          body = l (int64 i, bool c) => (bool d, int64[K,1] r) {
            three = Constant <value_int = 3> ()
            zero = Constant <value_float = 0.0> ()
            d = Less (i, three)
            p = Greater (x, zero)
            nz = NonZero (p)
            t = Transpose (nz)
            r = Add (t, i)
          }
        >
      }""",
      (f32(9), i64(2)), (f32(20), i64(9)))
def loop_stops_early(x, n):
    rows, i = [], 0
    while i < n:
        rows.append(np.stack(np.nonzero(x > 0)).T + i)
        i += 1
        if not i - 1 < 3:
            break
    return i64(rows)


@case("a loop within a loop, both by data, and an if within",
      """agraph (int64 n, int64 m, float[K] x) => (float[K] y) {
        yes = Constant <value = bool {1}> ()
        y = Loop (n, yes, x) <
          body = l (int64 i, bool c, float[K] p) => (bool d, float[K] q) {
            d = Identity (c)
            q = Loop (m, yes, p) <
              body = k (int64 j, bool e, float[K] r) => (bool f, float[K] s) {
                f = Identity (e)
                two = Constant <value_int = 2> ()
                ij = Add (i, j)
                odd = Mod (ij, two)
                isodd = Cast <to = 9> (odd)
                s = If (isodd) <
                  then_branch = t () => (float[K] a) {
                    fj = Cast <to = 1> (j)
                    a = Add (r, fj)
                  },
                  else_branch = o () => (float[K] b) { b = Mul (r, x) }
                >
              }
            >
          }
        >
      }""",
      (i64(3), i64(4), f32(5)), (i64(0), i64(4), f32(5)),
      (i64(2), i64(1), f32(33)))
def loop_in_loop(n, m, x):
    y = x
    for i in range(n):
        for j in range(m):
            y = y + np.float32(j) if (i + j) % 2 else y * x
    return y


@case("writes a row of the state in each trip",
      """agraph (int64 n, float[T,K] x) => (float[T,K] y) {
        yes = Constant <value = bool {1}> ()
        shape = Constant <value_ints = [1, 1]> ()
        zero = Constant <value_ints = [0]> ()
        y = Loop (n, yes, x) <
          body = l (int64 i, bool c, float[T,K] p) => (bool d, float[T,K] q) {
            d = Identity (c)
            row = Gather <axis = 0> (p, i)
            twice = Add (row, row)
            at = Reshape (i, shape)
            up = Unsqueeze (twice, zero)
            q = ScatterND (p, at, up)
          }
        >
      }""",
      (i64(2), f32(4, 3)), (i64(4), f32(4, 3)))
def loop_writes_rows(n, x):
    y = x.copy()
    for i in range(n):
        y[i] = y[i] + y[i]
    return y


@case("scans of any length: both directions, other axes, state by matrix",
      """agraph (float[H] h, float[T,H] x, float[H,T] z, float[H,H] w) => (float[H] y, float[H,T] up, float[T,H] down) {
        y, up, down = Scan <num_scan_inputs = 2, scan_input_axes = [0, 1],
          scan_input_directions = [0, 1], scan_output_axes = [1, 0],
          scan_output_directions = [0, 1],
          body = s (float[H] p, float[H] a, float[H] b) => (float[H] q, float[H] u, float[H] v) {
            m = MatMul (p, w)
            ma = Add (m, a)
            q = Tanh (ma)
            u = Mul (q, b)
            v = Sub (q, b)
          }
        > (h, x, z)
      }""",
      (f32(4), f32(6, 4), f32(4, 6, seed=2), f32(4, 4, seed=3)),
      (f32(4), f32(1, 4), f32(4, 1, seed=2), f32(4, 4, seed=3)),
      (f32(17), f32(33, 17), f32(17, 33, seed=2), .1 * f32(17, 17, seed=3)))
def scan_two_ways(h, x, z, w):
    up, down = [], []
    for t in range(len(x)):
        b = z[:, len(x) - 1 - t]
        h = np.tanh(h @ w + x[t])
        up.append(h * b)
        down.append(h - b)
    return h, np.array(up).T, np.array(down[::-1])


@case("rows of a size that only the first trip tells, a state that grows to it",
      """agraph (float[E] h, float[T,D] x) => (float[F] y, float[T,F] rows) {
        y, rows = Scan <num_scan_inputs = 1, body = b (float[A] s, float[D] v)
            => (float[B] next, float[C] row) {
          next = Add (s, v)
          row = Neg (next)
        }> (h, x)
      }""",
      (f32(5), f32(7, 5, seed=1)), (f32(1), f32(3, 400, seed=2)))
def scan_of_new_rows(h, x):
    rows = []
    for v in x:
        h = h + v
        rows.append(-h)
    return h, np.stack(rows)


@case("a sequence of known length is carried, and chosen by an if",
      """agraph (int64 n, float[K] x, float[K] y, bool c) => (float[K] a, float[K] b) {
        yes = Constant <value = bool {1}> ()
        s = If (c) <
          then_branch = t () => (seq(float[K]) p) { p = SequenceConstruct (x, y) },
          else_branch = e () => (seq(float[K]) q) { q = SequenceConstruct (y, x) }
        >
        r = Loop (n, yes, s) <
          body = l (int64 i, bool d, seq(float[K]) u) => (bool f, seq(float[K]) v) {
            f = Identity (d)
            zero = Constant <value_int = 0> ()
            one = Constant <value_int = 1> ()
            u0 = SequenceAt (u, zero)
            u1 = SequenceAt (u, one)
            w = Add (u0, u1)
            v = SequenceConstruct (u1, w)
          }
        >
        i0 = Constant <value_int = 0> ()
        i1 = Constant <value_int = 1> ()
        a = SequenceAt (r, i0)
        b = SequenceAt (r, i1)
      }""",
      (i64(4), f32(3), f32(3, seed=1), flag(True)),
      (i64(1), f32(3), f32(3, seed=1), flag(False)))
def sequences_through_control(n, x, y, c):
    u = [x, y] if c else [y, x]
    for _ in range(n):
        u = [u[1], u[0] + u[1]]
    return u[0], u[1]


@case("a condition known only in the second trip",
      """agraph (float[K] x, float stop) => (float[K] y, float[T,K] rows) {
        many = Constant <value_int = 7> ()
        yes = Constant <value = bool {1}> ()
        y, rows = Loop (many, yes, x) <
          body = l (int64 i, bool c, float[K] p) => (bool d, float[K] q, float[K] r) {
            half = Constant <value_float = 0.5> ()
            q = Mul (p, half)
            m = ReduceMax <keepdims = 0> (q)
            d = Greater (m, stop)
            r = Identity (p)
          }
        >
      }""",
      (np.array([8, 1], np.float32), np.float32(1)),
      (np.array([8, 1], np.float32), np.float32(-1)))
def loop_until(x, stop):
    rows = []
    for _ in range(7):
        rows.append(x)
        x = x * np.float32(.5)
        if not x.max() > stop:
            break
    return x, np.array(rows)


@case("Scan of opset 8: a batch, lengths of its entries, both directions, rows after them are 0",
      """<ir_version: 3, opset_import: ["" : 8]>
      agraph (int64[B] n, float[B,H] h, float[B,T,H] x, float[B,T,H] z, float[H,H] w) => (float[B,H] y, float[B,T,H] up, float[B,T] sum) {
        y, up, sum = Scan <num_scan_inputs = 2, directions = [0, 1],
          body = s (float[H] p, float[H] a, float[H] b) => (float[H] q, float[H] u, float v) {
            m = MatMul (p, w)
            ma = Add (m, a)
            q = Tanh (ma)
            u = Mul (q, b)
            v = ReduceSum <keepdims = 0> (u)
          }
        > (n, h, x, z)
      }""",
      (i64([6, 3, 0]), f32(3, 4), f32(3, 6, 4, seed=1), f32(3, 6, 4, seed=2), f32(4, 4, seed=3)),
      (i64([1]), f32(1, 5), f32(1, 1, 5, seed=1), f32(1, 1, 5, seed=2), f32(5, 5, seed=3)),
      (i64([2, 2]), f32(2, 17), f32(2, 9, 17, seed=1), f32(2, 9, 17, seed=2), .1 * f32(17, 17, seed=3)),
      (i64([]), f32(0, 4), f32(0, 3, 4), f32(0, 3, 4), f32(4, 4, seed=3)))
def scan_of_lengths(n, h, x, z, w):
    h, up = h.copy(), np.zeros_like(x)
    for b, length in enumerate(n):
        for t in range(length):
            h[b] = np.tanh(h[b] @ w + x[b, t])
            up[b, t] = h[b] * z[b, length - 1 - t]
    return h, up, up.sum(axis=2)


@case("Scan of opset 8 without lengths, with two states of which one is whole numbers, a fixed batch",
      """<ir_version: 3, opset_import: ["" : 8]>
      agraph (float[2,3] h, int64[2] c, float[2,T,3] x) => (float[2,3] y, int64[2] k, int64[2,T] steps) {
        y, k, steps = Scan <num_scan_inputs = 1, directions = [1],
          body = s (float[3] p, int64 i, float[3] a) => (float[3] q, int64 j, int64 r) {
            one = Constant <value = int64 {1}> ()
            j = Add (i, one)
            r = Identity (j)
            half = Constant <value = float {0.5}> ()
            d = Mul (p, half)
            q = Sub (a, d)
          }
        > (, h, c, x)
      }""",
      (f32(2, 3), i64([4, -7]), f32(2, 5, 3, seed=1)), (f32(2, 3), i64([0, 9]), f32(2, 0, 3)))
def scan_of_batch(h, c, x):
    for t in reversed(range(x.shape[1])):
        h = x[:, t] - h * np.float32(.5)
    steps = x.shape[1]
    return h, c + steps, c[:, None] + 1 + np.arange(steps)


@case("branches of different ranks leave functions, one in the other, and branches around them",
      """<ir_version: 8, opset_import: ["" : 17, "local" : 1]>
      agraph (float[A,B,8] x, bool c, bool d) => (float[M,4] y, float[K] v, float[L,4] z, int64 rank) {
        s = local.squeezed (x)
        w = Constant <value = float[8] {1, 2, 3, 4, 5, 6, 7, 8}> ()
        m = Mul (s, w)
        fours = Constant <value_ints = [-1, 4]> ()
        y = Reshape (m, fours)
        u = If (c) <
          then_branch = t () => (a) {
            n = Neg (x)
            a = local.twice (n)
          },
          else_branch = e () => (b) {
            b = If (d) <
              then_branch = t2 () => (p) { p = ReduceSum <keepdims = 0> (x) },
              else_branch = e2 () => (q) {
                axis = Constant <value_ints = [2]> ()
                q = ReduceSum <keepdims = 0> (x, axis)
              }
            >
          }
        >
        flat = Constant <value_ints = [-1]> ()
        a1 = Abs (u)
        v = Reshape (a1, flat)
        z = local.rows (x)
        shape = Shape (a1)
        rank = Size (shape)
      }
      <domain: "local", opset_import: ["" : 17]>
      squeezed (x) => (s) {
        one = Constant <value_int = 1> ()
        axis = Constant <value_ints = [1]> ()
        size = Shape (x)
        b = Gather <axis = 0> (size, one)
        is_one = Equal (b, one)
        s = If (is_one) <
          then_branch = t () => (p) { p = Squeeze (x, axis) },
          else_branch = e () => (q) { q = Identity (x) }
        >
      }
      <domain: "local", opset_import: ["" : 17, "local" : 1]>
      twice (x) => (y) {
        s = local.squeezed (x)
        y = Add (s, s)
      }
      <domain: "local", opset_import: ["" : 17, "local" : 1]>
      rows (x) => (y) {
        s = local.twice (x)
        fours = Constant <value_ints = [-1, 4]> ()
        y = Reshape (s, fours)
      }""",
      *((f32(a, b, 8, seed=a), flag(c), flag(d)) for a, b in ((2, 3), (3, 1))
        for c, d in ((True, False), (False, True), (False, False))))
def if_of_ranks_in_functions(x, c, d):
    s = x[:, 0] if x.shape[1] == 1 else x
    u = -2 * s if c else x.sum() if d else x.sum(axis=2)
    y = s * np.arange(1, 9, dtype=np.float32)
    return (y.reshape(-1, 4), np.abs(u).reshape(-1), (2 * s).reshape(-1, 4),
            i64(np.ndim(u)))


@case("an inner If decides the rank of what its branch gives, in a loop",
      """agraph (float[A,B] x, int64 n) => (float[K] y, float[N,2] rows) {
        zero = Constant <value = float[2] {0, 0}> ()
        y, rows = Loop (n, , zero) <
          body = each (int64 i, bool go, float[2] had) => (bool more, float[2] has, float[2] row) {
            more = Identity (go)
            two = Constant <value_int = 2> ()
            k = Mod (i, two)
            one = Constant <value_int = 1> ()
            odd = Equal (k, one)
            many = Less (one, i)
            s = If (odd) <
              then_branch = t () => (a) {
                a = If (many) <
                  then_branch = t1 () => (b) { b = ReduceSum <keepdims = 0> (x) },
                  else_branch = e1 () => (c) { c = Identity (x) }
                >
              },
              else_branch = e () => (d) {
                d = ReduceMax <axes = [1], keepdims = 0> (x)
              }
            >
            scaled = Mul (s, s)
            total = ReduceSum <keepdims = 0> (scaled)
            flat = Constant <value_ints = [1]> ()
            t3 = Reshape (total, flat)
            has = Add (had, t3)
            row = Sub (t3, had)
          }
        >
      }""",
      (f32(2, 3), i64(5)), (f32(1, 1), i64(2)), (f32(4, 2), i64(0)))
def if_of_ranks_in_if(x, n):
    had, rows = np.zeros(2, np.float32), []
    for i in range(n):
        s = x.max(axis=1) if i % 2 == 0 else x.sum() if i > 1 else x
        total = np.square(s).sum(dtype=np.float32)
        rows.append(total - had)
        had = had + total
    return had, np.array(rows, np.float32).reshape(n, 2)


@case("nothing is done with what branches of different ranks give, but it is checked",
      """<ir_version: 8, opset_import: ["" : 17, "local" : 1]>
      agraph (float[A,B,8] x, bool c) => (float[A,B,8] y) {
        y = Neg (x)
        u = local.grown (x, c)
      }
      <domain: "local", opset_import: ["" : 17]>
      grown (x, c) => (u) {
        axis = Constant <value_ints = [1]> ()
        s = If (c) <
          then_branch = t () => (p) { p = Squeeze (x, axis) },
          else_branch = e () => (q) { q = Identity (x) }
        >
        u = Exp (s)
      }""",
      (f32(2, 1, 8), flag(True)), (f32(2, 3, 8), flag(False)))
def if_of_ranks_unused(x, c):
    return -x


@case("both branches give a constant from outside, and so does a loop",
      """agraph (float[A,B] x, bool c, int64 n) => (int64[1] y, float[A,B] z, int64[1] w, int64[1] v) {
        k = Constant <value_ints = [5]> ()
        y, z = If (c) <
          then_branch = t () => (a, b) {
            a = Identity (k)
            one = Constant <value_ints = [1]> ()
            s = Squeeze (x, one)
            b = Unsqueeze (s, one)
          },
          else_branch = e () => (d, f) {
            d = Identity (k)
            f = Neg (x)
          }
        >
        zeros = Constant <value_ints = [0]> ()
        l = Constant <value_ints = [3]> ()
        w = Loop (n, , zeros) <
          body = each (int64 i, bool go, int64[1] p) => (bool more, int64[1] p1) {
            more = Identity (go)
            p1 = Identity (l)
          }
        >
        v = If (c) <
          then_branch = t2 () => (g) { g = Identity (l) },
          else_branch = e2 () => (h) { h = Add (l, w) }
        >
      }""",
      (f32(4, 2), flag(False), i64(0)), (f32(4, 2), flag(False), i64(1)),
      (f32(3, 1), flag(True), i64(2)))
def constants_leave_branches(x, c, n):
    w = i64([3]) if n else i64([0])
    return i64([5]), x if c else -x, w, i64([3]) + (0 if c else w)


@case("a sequence grows in a loop; all ways to join it",
      """agraph (int64 n, float[K,3] x) => (float[M,3] rows, float[K,P] columns, float[K,T,3] stacked, int64 length) {
        yes = Constant <value = bool {1}> ()
        empty = SequenceEmpty <dtype = 1> ()
        s0 = SequenceInsert (empty, x)
        s = Loop (n, yes, s0) <
          body = l (int64 i, bool c, seq(float[K,3]) p) => (bool d, seq(float[K,3]) q) {
            d = Identity (c)
            f = Cast <to = 1> (i)
            y = Mul (x, f)
            q = SequenceInsert (p, y)
          }
        >
        rows = ConcatFromSequence <axis = 0> (s)
        columns = ConcatFromSequence <axis = 1> (s)
        stacked = ConcatFromSequence <axis = 1, new_axis = 1> (s)
        length = SequenceLength (s)
      }""",
      (i64(0), f32(2, 3)), (i64(4), f32(2, 3)), (i64(2), f32(0, 3)))
def sequence_grows(n, x):
    s = [x] + [x * np.float32(i) for i in range(n)]
    return np.concatenate(s), np.concatenate(s, 1), np.stack(s, 1), i64(n + 1)


@case("elements of different sizes, found, inserted and erased where data say",
      """agraph (float[N] x, int64[P] parts, int64 at) => (float[A] chosen, float[L] back, int64 length) {
        s = SplitToSequence <axis = 0> (x, parts)
        chosen = SequenceAt (s, at)
        twice = Add (chosen, chosen)
        more = SequenceInsert (s, twice, at)
        fewer = SequenceErase (more, at)
        zero = Constant <value_int = 0> ()
        last = SequenceErase (fewer)
        back = ConcatFromSequence <axis = 0> (more)
        length = SequenceLength (last)
      }""",
      (f32(9), i64([2, 3, 4]), i64(1)), (f32(9), i64([9]), i64(-1)),
      (f32(6), i64([0, 1, 0, 5]), i64(-2)))
def sequence_by_data(x, parts, at):
    s = np.split(x, np.cumsum(parts)[:-1])
    more = list(s)
    more.insert(at if at >= 0 else len(s) + at, s[at] + s[at])
    return s[at], np.concatenate(more), i64(len(s) - 1)


@case("parts of a size known at run time, along any axis",
      """agraph (float[N,M] x, int64 size) => (float[N,A] a, float[B,M] b, int64 n, float[N] row, float[M,N] all) {
        one = Constant <value_int = 1> ()
        s = SplitToSequence <axis = 1> (x, size)
        a = SequenceAt (s, one)
        t = SplitToSequence <axis = 0> (x, size)
        last = Constant <value_int = -1> ()
        b = SequenceAt (t, last)
        n = SequenceLength (s)
        u = SplitToSequence <axis = 1, keepdims = 0> (x)
        row = SequenceAt (u, last)
        all = ConcatFromSequence <axis = 0, new_axis = 1> (u)
      }""",
      (f32(5, 7), i64(3)), (f32(4, 4), i64(2)), (f32(1, 9), i64(4)))
def sequence_of_parts(x, size):
    columns = [x[:, i:i + size] for i in range(0, x.shape[1], size)]
    rows = [x[i:i + size] for i in range(0, x.shape[0], size)]
    return columns[1], rows[-1], i64(len(columns)), x[:, -1], x.T


@case("an if gives a longer sequence or a shorter one",
      """agraph (float[K] x, bool c) => (float[M] y, int64 n) {
        s = If (c) <
          then_branch = t () => (seq(float[K]) p) { p = SequenceConstruct (x, x, x) },
          else_branch = e () => (seq(float[K]) q) { q = SequenceConstruct (x) }
        >
        y = ConcatFromSequence <axis = 0> (s)
        n = SequenceLength (s)
      }""",
      (f32(4), flag(True)), (f32(4), flag(False)))
def if_of_sequences(x, c):
    return np.concatenate([x] * (3 if c else 1)), i64(3 if c else 1)


@case("sequences in and out, of any sizes",
      """agraph (seq(float[N,M]) s, int64 at, float[A,B] x) => (seq(float[P,Q]) t, float[C,D] last, int64 n) {
        t = SequenceInsert (s, x, at)
        end = Constant <value_int = -1> ()
        last = SequenceAt (t, end)
        n = SequenceLength (s)
      }""",
      ([f32(2, 3), f32(0, 4), f32(1, 1)], i64(1), f32(4, 2)),
      ([f32(5, 1)], i64(-1), f32(1, 7)))
def ports_of_sequences(s, at, x):
    t = list(s)
    t.insert(int(at), x)
    return t, t[-1], i64(len(s))


@case("rows whose size the first trip finds, in a number of trips that is known",
      """agraph (float[T,N] x) => (float[T,1,K] y, int64[T,1,K] at) {
        zero = Constant <value_float = 0.0> ()
        z, y, at = Scan <num_scan_inputs = 1,
          body = s (float p, float[N] a) => (float q, float[1,K] b, int64[1,K] k) {
            q = Identity (p)
            k = NonZero (a)
            b1 = Gather (a, k)
            b = Neg (b1)
          }
        > (zero, x)
      }""",
      (np.tile(np.array([0, 1, 1, 0, 2, 3, 3, 4], np.float32), (40, 1)),),
      (np.zeros((3, 5), np.float32),), (f32(0, 4),))
def scan_finds_sizes(x):
    at = [np.nonzero(row) for row in x]
    if not at:
        return np.zeros((0, 1, 0), np.float32), np.zeros((0, 1, 0), np.int64)
    rows = np.array([-row[k] for row, k in zip(x, at)])
    return rows.reshape(len(x), 1, -1), np.array(at)


def save(path, name, value):
    if value is None or isinstance(value, list):
        proto = numpy_helper.from_optional(value, name)
        if value is not None:
            proto = numpy_helper.from_list(value, name)
    else:
        proto = numpy_helper.from_array(np.asarray(value), name)
    path.write_bytes(proto.SerializeToString())


def write(name, out):
    why, text, function, data_sets = CASES[name]
    model = onnx.parser.parse_model(text if text.startswith("<") else HEAD + text)
    onnx.checker.check_model(model)
    folder = out / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    for i, inputs in enumerate(data_sets):
        data = folder / f"test_data_set_{i}"
        data.mkdir(exist_ok=True)
        results = function(*inputs)
        results = results if isinstance(results, tuple) else (results,)
        for kind, names, values in (("input", model.graph.input, inputs),
                                    ("output", model.graph.output, results)):
            for j, value in enumerate(values):
                save(data / f"{kind}_{j}.pb", names[j].name, value)
    (folder / "case.json").write_text(json.dumps({
        "name": name, "source": "tests/models/scripts/make_control.py",
        "moe_layers": [], "expect": "none", "why": why, "reference": "numpy",
        "rtol": 1e-4, "atol": 1e-5}, indent=1) + "\n")


def main():
    for name in CASES:
        write(name, pathlib.Path(sys.argv[1]))


if __name__ == "__main__":
    main()
