"""Certificates of experts that are left out, looked at again without the compiler's help.

check(layer, record) takes a layer of pruned_layers.py and a record of the report: what
the witnesses prove is computed anew, in rational numbers where that decides, else
with more slack than rounding can need. adversarial(layer, experts) gives rows that come
as near as possible to choosing these experts.
"""
from fractions import Fraction

import numpy as np

UNIT = Fraction(1, 2**24)  # of rounding to f32


def exact(array):
    return [Fraction(float(x)) for x in array]


# ---- Bounds, more generous than rounding is


def radius(layer):
    """What a row behind the norm is no longer than, gamma aside; None where there is none."""
    return None if layer.norm is None else np.sqrt(layer.width) * (1 + 1e-5)


def reach(layer, w):
    """How large |x.w| can be; inf for rows of any length."""
    if not np.any(w):
        return 0.0
    if layer.norm is None:
        return np.inf
    return radius(layer) * np.linalg.norm(w.astype(np.float64) * layer.gamma) * (1 + 1e-5)


def logits(layer):
    far = np.array([reach(layer, w) for w in layer.gate.T])
    middle = np.zeros(layer.experts) if layer.bias is None else layer.bias.astype(np.float64)
    if layer.mask is not None:
        middle = np.where(layer.mask, layer.fill, middle)
        far = np.where(layer.mask, 0, far)
    far = np.where(np.isneginf(middle), 0, far)
    return middle - far, middle + far


def choices(layer):
    """(lower, upper) bounds; -inf stands for masked ones, -MOST for numbers of any size."""
    lo, hi = logits(layer)
    if layer.score == "sigmoid":
        with np.errstate(over="ignore"):
            lo, hi = 1 / (1 + np.exp(-lo)) * (1 - 1e-5), 1 / (1 + np.exp(-hi)) * (1 + 1e-5)
        hi = np.minimum(hi, 1)
    elif layer.score == "softmax":
        lo, hi = np.zeros_like(lo), np.where(np.isneginf(hi), 0.0, 1.0)
    elif not layer.norm:
        lo = np.where(np.isneginf(hi), -np.inf, -1e300)
    if layer.select is not None: # rounded as the sum is
        lo, hi = ((a.astype(np.float32) + layer.select).astype(np.float64) for a in (lo, hi))
    return lo, hi


def size_of(layer):
    return layer.experts // layer.groups[0] if layer.groups else layer.experts


def same_group(layer, a, b):
    return a // size_of(layer) == b // size_of(layer)


# ---- Experts that are never chosen


def are_k_others(layer, record):
    e, found = record["expert"], record["witnesses"]
    right = len(set(found)) == len(found) == layer.k and e not in found
    return right and all(same_group(layer, e, j) for j in found)


def check_masked(layer, record):
    e = record["expert"]
    hidden = layer.mask is not None and layer.mask[e] and np.isneginf(layer.fill)
    hidden = hidden or layer.bias is not None and np.isneginf(layer.bias[e])
    if not record["witnesses"]:
        problems = [] if hidden and layer.score == "softmax" else ["its weight is not 0"]
        return problems + ([] if layer.select is None else ["something is added"])
    hidden = hidden or layer.select is not None and np.isneginf(layer.select[e])
    return check_bounded(layer, record) + ([] if hidden else ["it is not masked"])


def check_bounded(layer, record):
    e, (lo, hi) = record["expert"], choices(layer)
    below = [j for j in record["witnesses"] if not (lo[j] > hi[e] or lo[j] == hi[e] and j < e)]
    problems = [f"{below} do not always come before it"] if below else []
    return problems + ([] if are_k_others(layer, record) else ["not k others of its group"])


def check_dominated(layer, record):
    e, (lo, hi) = record["expert"], choices(layer)
    gate = layer.gate.astype(np.float64)
    problems = [] if are_k_others(layer, record) else ["not k others of its group"]
    if layer.select is not None or layer.score == "sigmoid":
        problems.append("choices are not in the order of logits")
    for j in record["witnesses"]:
        if lo[j] > hi[e]:
            continue
        bias = 0.0 if layer.bias is None else float(layer.bias[j]) - float(layer.bias[e])
        above = bias - reach(layer, gate[:, j] - gate[:, e])
        lost = sum(reach(layer, gate[:, i]) for i in (j, e)) * (layer.width + 2) * 2.0**-24
        if not above > lost + (2.0**-13 if layer.score == "softmax" else 0):
            problems.append(f"{j} is not always above it")
    return problems


def check_outranked(layer, record):
    lo, hi = (a.reshape(layer.groups[0], -1).max(axis=1) for a in choices(layer))
    own, above = record["expert"] // size_of(layer), [w // size_of(layer)
                                                      for w in record["witnesses"]]
    problems = [f"group {g} does not always come before its own" for g in above
                if not (lo[g] > hi[own] or lo[g] == hi[own] and g < own)]
    if len(set(above)) != layer.groups[1]:
        problems.append("not as many groups as are kept")
    return problems


def check_tied(layer, record):
    e = record["expert"]
    same = [layer.gate.T] + [b for b in (layer.bias, layer.select) if b is not None]
    problems = [f"{j} differs from it, or loses ties" for j in record["witnesses"]
                if j > e or any(a[j].tobytes() != a[e].tobytes() for a in same)]
    return problems + ([] if are_k_others(layer, record) else ["not k others of its group"])


def check_enumerated(layer, record):
    """One token for each row of the table: where all tokens are one row, mixing changes nothing."""
    e, n = record["expert"], len(layer.tables[0])
    problems = [] if record["rows"] == n else ["not all rows were looked at"]
    if layer.source not in ("row", "two", "tanh") or any(
            layer.source == "two" and len(t) != n for t in layer.tables):
        problems.append("the input is no row of a table")
    first = e - e % size_of(layer)
    for row in range(n):
        z = layer.rows(np.array([row])).astype(np.float64)[0] @ layer.gate
        z = z if layer.bias is None else z + layer.bias
        if layer.score == "softmax":
            z = np.exp(z - z.max()) / np.exp(z - z.max()).sum()
        elif layer.score == "sigmoid":
            z = 1 / (1 + np.exp(-z))
        z = z if layer.select is None else z + layer.select
        z = z[first:first + size_of(layer)]
        if (z > z[e - first] + 0.5 * record["slack"]).sum() < layer.k or record["slack"] <= 0:
            problems.append(f"row {row} may choose it")
    return problems


# ---- Experts that lie between others


def solved(a, b):
    """x with a x = b by elimination, in rational numbers; None where a has no inverse."""
    n = len(a)
    a = [list(row) + [y] for row, y in zip(a, b)]
    for i in range(n):
        pivot = next((r for r in range(i, n) if a[r][i] != 0), None)
        if pivot is None:
            return None
        a[i], a[pivot] = a[pivot], a[i]
        a[i] = [x / a[i][i] for x in a[i]]
        for r in range(n):
            if r != i and a[r][i] != 0:
                a[r] = [x - a[r][i] * y for x, y in zip(a[r], a[i])]
    return [row[n] for row in a]


def least_maximum(points, offsets, slack):
    """For p.x + offset of these d + 1 points, less slack |x|: whether the largest one is above
    0 for every x but 0 and, where there are offsets, by how much at least. Half the
    square of the radius of the ball between the points is the margin to prove."""
    d = len(points[0])
    matrix = [[p[i] for p in points] for i in range(d)] + [[Fraction(1)] * (d + 1)]
    weights = solved(matrix, [Fraction(0)] * d + [Fraction(1)])
    if weights is None or min(weights) <= 0:
        return None
    # |p| <= radius keeps weights above 0: their slopes are rows of the inverse.
    columns = [solved(matrix, [Fraction(int(i == j)) for j in range(d + 1)]) for i in range(d)]
    square = min(w * w / slope for w, slope in
                 ((weights[i], sum(c[i] ** 2 for c in columns)) for i in range(d + 1)) if slope)
    mean = sum(w * c for w, c in zip(weights, offsets))
    spread = max(offsets) - min(offsets)
    part = min(Fraction(1), mean / (2 * spread)) if spread else Fraction(1)
    if part <= 0 or part * part * square <= slack * slack:
        return None
    return mean - part * spread


def check_hull(layer, record):
    e, k = record["expert"], layer.k
    members, n = record["witnesses"], layer.width + 1
    problems = []
    if layer.score != "none" or layer.norm is not None and layer.select is not None:
        problems.append("choices are no logits")
    if record.get("sets") != k or len(members) != k * n or len(set(members)) != k * n:
        return problems + ["not k sets of d + 1 experts, all different"]
    if e in members or not all(same_group(layer, e, j) for j in members):
        problems.append("a corner is the expert itself, or of another group")
    bias = np.zeros(layer.experts)
    size = np.zeros(layer.experts)
    for b in (layer.bias, layer.select):
        if b is not None:
            bias, size = bias + b.astype(np.float64), size + np.abs(b.astype(np.float64))
    if not np.isfinite(bias[members + [e]]).all():
        return problems + ["a corner is masked"]
    rows = [exact(w) for w in layer.gate.T]
    length = [Fraction(float(np.linalg.norm(w.astype(np.float64)) * (1 + 1e-12)))
              for w in layer.gate.T]
    for at in range(0, k * n, n):
        group = members[at:at + n]
        points = [[a - b for a, b in zip(rows[j], rows[e])] for j in group]
        offsets = [Fraction(bias[j]) - Fraction(bias[e]) for j in group]
        slack = (max(length[j] for j in group) + length[e]) * (layer.width + 2) * UNIT
        lost = 4 * UNIT * Fraction(max(size[j] for j in group) + size[e])
        above = least_maximum(points, offsets, slack)
        if above is None or (lost > 0 and above <= lost):
            problems.append(f"{group} are not around it")
    if not size[members + [e]].any():
        first = [j for j in range(e) if same_group(layer, e, j) and np.isfinite(bias[j])]
        if len(first) < k:
            problems.append("of a row of zeros it is chosen")
    return problems


# ---- What experts compute


def dead_features(layer, e):
    """Hidden features of an expert that are 0 for every row, or go nowhere."""
    hidden = layer.up.shape[2]
    bias = np.zeros(hidden) if layer.up_bias is None else layer.up_bias[e].astype(np.float64)
    far = np.array([reach(layer, w) for w in layer.up[e].T])
    off = bias + far * (1 + 1e-5) <= 0 if layer.act == "relu" else (bias == 0) & (far == 0)
    if layer.gated is not None:
        off |= ~layer.gated[e].any(axis=0)
    return off | ~layer.down[e].any(axis=1)


def check_zero(layer, record):
    e = record["expert"]
    problems = [] if dead_features(layer, e).all() else ["not all of its features are 0"]
    if layer.down_bias is not None and layer.down_bias[e].any():
        problems.append("it has a bias")
    return problems


def check_neurons(layer, record):
    n = int(dead_features(layer, record["expert"]).sum())
    return [] if n >= record["neurons"] else [f"{n} of its features are 0, fewer than said"]


def banks(layer):
    every = (layer.up, layer.up_bias, layer.gated, layer.down, layer.down_bias)
    return [b for b in every if b is not None]


def check_duplicate(layer, record):
    e, j = record["expert"], record["same_as"]
    same = all(b[e].tobytes() == b[j].tobytes() for b in banks(layer))
    return [] if same and j < e else ["they are not the same"]


def neurons_of(layer, e):
    """All numbers of each hidden feature, as bytes, sorted."""
    parts = [layer.up[e], layer.down[e].T]
    parts += [] if layer.up_bias is None else [layer.up_bias[e][None]]
    parts += [] if layer.gated is None else [layer.gated[e]]
    return sorted(column.tobytes() for column in np.concatenate(parts).T)


def check_permuted(layer, record):
    e, j = record["expert"], record["same_as"]
    problems = [] if neurons_of(layer, e) == neurons_of(layer, j) else ["neurons differ"]
    if layer.down_bias is not None and layer.down_bias[e].tobytes() != layer.down_bias[j].tobytes():
        problems.append("biases differ")
    return problems + ([] if record["exactness"] == "EX1" else ["sums run in another order"])


# ---- All of them


CHECKS = {"masked": check_masked, "bounded": check_bounded, "dominated": check_dominated,
          "outranked": check_outranked, "tied": check_tied, "hull": check_hull,
          "enumerated": check_enumerated,
          "zero": check_zero, "neurons": check_neurons, "duplicate": check_duplicate,
          "permuted": check_permuted}


def check(layer, record):
    """What is wrong with a certificate."""
    problems = CHECKS[record["rule"]](layer, record)
    return [f"{record['rule']} of expert {record['expert']}: {p}" for p in problems]


def climb(layer, e, x, steps=40):
    """Moves a row to where e's logit is as far above the k-th best of the others as it gets."""
    gate = layer.gate.astype(np.float64)
    bias = np.zeros(layer.experts) if layer.bias is None else layer.bias.astype(np.float64)
    usual = np.linalg.norm(gate, axis=0).mean() + 1e-30
    for step in range(steps):
        z = np.where(np.isfinite(bias), x @ gate + bias, -np.inf)
        z[e] = -np.inf
        rival = np.argsort(-z, kind="stable")[min(layer.k, layer.experts - 1) - 1]
        x = x + (gate[:, e] - gate[:, rival]) / usual * np.linalg.norm(x) / (step + 2)
    return x


def adversarial(layer, experts, rng, most=120):
    """Rows that come near to choosing experts, of three sizes."""
    gate, rows = layer.gate.astype(np.float64), []
    for e in sorted(experts):
        starts = [gate[:, e], gate[:, e] - gate.mean(axis=1), *rng.normal(0, 1, (2, layer.width))]
        for start in starts:
            x = climb(layer, e, start)
            rows += [x * scale / (np.linalg.norm(x) + 1e-30) for scale in (1e-3, 1, 30)]
    rows = [rows[i] for i in rng.permutation(len(rows))[:most]]
    x = np.array(rows, np.float32).reshape(-1, layer.width)
    return np.round(x * 3) if layer.integers else x
