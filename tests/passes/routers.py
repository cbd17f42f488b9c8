#!/usr/bin/env python3
"""Routers in many spellings, and near misses: what moe_router makes of each, and
that its moe.route gives the same bits as the operations that were there.

    tests/passes/routers.py --moec build/release/moec [--only NAME]

A case is a text in which $names stand for values; $e and $w are the experts and
weights of tokens. It is run three times on the same numbers, ties, infinities and
NaN among them: as it stands, as moe.route by plain operations, and as the -O2
pipeline evaluates moe.route.
"""
import argparse
import pathlib
import random
import re
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from random_graphs import PLAIN, difference, outputs, write_npy  # noqa: E402

PIPELINE = "dce,canonicalize,cse,canonicalize,dce,fold,canonicalize,cse,dce,fold,canonicalize,cse,dce,{}dce,unpack,widen,dce,layout,hoist," \
           "canonicalize,cse,dce,narrow,fuse,lower,dce,plan"


def constant(dtype, shape, data):
    return f"constant {{dtype = {dtype}, shape = {shape}, data = [{', '.join(map(str, data))}]}}"


def iota(n):
    return constant("i64", [n], list(range(n)))


def scalar(x, dtype="f32"):
    return constant(dtype, [], [x])


TOP = "$v, $e = topk({}) {{axis = 1, k = {}}}"
TOP2 = TOP.format("$p", 2)
SOFT = "$p = softmax($x) {axis = 1}"
SIGMOID = "$p = sigmoid($x)"
SUM = "$s = reduce_sum($v) {axes = [1]}"
DIVIDE = "$w = div($v, $s)"
BIAS = f"$b = {constant('f32', [8], [0.1, -0.2, 0.3, -0.4, 0.25, 0.0, -0.1, 0.15])}"
GATHERED = "$v = gather_elements($p, $e) {axis = 1}"


def groups(mask, best="sum"):
    """Scores $c of 8 in 4 groups, of which 2 are kept."""
    lines = ["$g = reshape($c) {shape = [T, 4, 2]}"]
    if best == "sum":
        lines += ["$gv, $gi = topk($g) {axis = 2, k = 2}", "$gs = reduce_sum($gv) {axes = [2], keepdims = 0}"]
    else:
        lines += ["$gs = reduce_max($g) {axes = [2], keepdims = 0}"]
    lines += ["$kv, $ki = topk($gs) {axis = 1, k = 2, sorted = 0}"]
    if mask == "one-hot":
        lines += ["$k3 = reshape($ki) {shape = [T, 2, 1]}", f"$n4 = {iota(4)}", "$q = eq($k3, $n4)",
                  "$qi = cast($q) {to = i64}", "$m4 = reduce_max($qi) {axes = [1], keepdims = 0}"]
    else:
        on, off = (0.0, 1.0) if mask == "zeros" else (1.0, 0.0)
        lines += [f"$one = {scalar(on)}", "$ones = expand($one) {shape = [T, 2]}", f"$zero = {scalar(off)}",
                  "$zeros = expand($zero) {shape = [T, 4]}",
                  "$m4 = scatter_elements($zeros, $ki, $ones) {axis = 1, reduction = \"none\"}"]
    lines += ["$m5 = reshape($m4) {shape = [T, 4, 1]}", "$m6 = expand($m5) {shape = [T, 4, 2]}",
              "$m7 = reshape($m6) {shape = [T, 8]}"]
    return lines


def one_hot(name, index):
    return [f"$i{name} = reshape({index}) {{shape = [T, 1]}}", f"$n{name} = {iota(8)}", f"$o{name} = eq($i{name}, $n{name})",
            f"$h{name} = cast($o{name}) {{to = f32}}"]


ARG = "{} = arg_max({}) {{axis = 1, keepdims = {}}}"
LIMITED = groups("ones") + ["$m8 = cast($m7) {to = bool}", f"$fill = {scalar(0.0)}", "$l = select($m8, $c, $fill)"]

GSHARD = [SOFT, ARG.format("$e1", "$p", 0)] + one_hot("a", "$e1") + [
    f"$one = {scalar(1.0)}", "$rest = sub($one, $ha)", "$q = mul($p, $rest)", ARG.format("$e2", "$q", 0)] + one_hot(
        "b", "$e2") + ["$p1 = mul($p, $ha)", "$w1 = reduce_sum($p1) {axes = [1]}", "$p2 = mul($hb, $p)",
                       "$w2 = reduce_sum($p2) {axes = [1]}"]
COLUMNS = ["$c1 = reshape($e1) {shape = [T, 1]}", "$c2 = reshape($e2) {shape = [T, 1]}", "$e = concat($c1, $c2) {axis = 1}"]


def mixer_round(r, c):
    return [f"$e{r} = arg_max({c}) {{axis = 1, keepdims = 1}}", f"$m{r} = reduce_max({c}) {{axes = [1]}}",
            f"$f{r} = max($a, $m{r})", f"$d{r} = sub($m{r}, $x)", f"$r{r} = div($d{r}, $f{r})",
            f"$t{r} = lt($thr, $r{r})", f"$y{r} = select($t{r}, $inf, {c})", f"$g{r} = softmax($y{r}) {{axis = 1}}",
            f"$w{r} = gather_elements($g{r}, $e{r}) {{axis = 1}}"]


MIXER = ["$a = abs($x)", f"$thr = {scalar(0.02)}", f"$inf = {scalar('-inf')}"] + mixer_round(1, "$x") + [
    "$infs = expand($inf) {shape = [T, 1]}",
    "$c2 = scatter_elements($x, $e1, $infs) {axis = 1, reduction = \"none\"}"] + mixer_round(2, "$c2") + [
        "$e = concat($e1, $e2) {axis = 1}", "$w = concat($w1, $w2) {axis = 1}"]

X = [("x", "f32", ["T", 8])]
XH = [("h", "f32", ["T", 16]), ("gate", "f32", [16, 8])]
SPELLED = ["$mx = reduce_max($x) {axes = [1]}", "$dx = sub($x, $mx)", "$ex = exp($dx)", "$sx = reduce_sum($ex) {axes = [1]}",
           "$p = div($ex, $sx)"]
SIGMOID_SPELLED = ["$nx = neg($x)", "$ex = exp($nx)", f"$one = {scalar(1.0)}", "$ey = add($ex, $one)", "$p = div($one, $ey)"]
NORM = 'norm = ["sum"], norm_values = [0.0], weight = ["divide_by_norm"], weight_values = [0.0]'
SOFTMAX = 'score = ["softmax"], score_values = [0.0]'

# name: (arguments, lines, what the moe.route says; None: there must be none)
CASES = {
    "mixtral": (X, [SOFT, TOP2, SUM, DIVIDE], f"{{k = 2, {SOFTMAX}, {NORM}}}"),
    "qwen_without_norm": (X, [SOFT, TOP2, "$w = $v"], f"{{k = 2, {SOFTMAX}}}"),
    "with_gate": (XH, ["$x = matmul($h, $gate)", SOFT, TOP2, "$w = $v"], "(%0, %1) {k = 2"),
    "with_gate_and_bias": (XH, [BIAS, "$y = matmul($h, $gate)", "$x = add($b, $y)", TOP.format("$x", 3),
                                "$w = softmax($v) {axis = 1}"], '(%0, %1, %3) {k = 3, weight = ["softmax"]'),
    "logits_with_other_users_are_given": (
        XH, ["$x = matmul($h, $gate)", SOFT, TOP2, "$w = $v", "$other = neg($x)"], "moe.route(%3) {k = 2", ["$other"]),
    "spelled_softmax": (X, SPELLED + [TOP2, "$w = $v"], f"{{k = 2, {SOFTMAX}}}"),
    "spelled_softmax_of_selected": (
        X, [TOP.format("$x", 3), "$mx = reduce_max($v) {axes = [1]}", "$dx = sub($v, $mx)", "$ex = exp($dx)",
            "$sx = reduce_sum($ex) {axes = [1]}", "$w = div($ex, $sx)"], '{k = 3, weight = ["softmax"], weight_values = [0.0]}'),
    "spelled_sigmoid_with_bias": (
        X, SIGMOID_SPELLED + [BIAS, "$c = add($p, $b)", TOP.format("$c", 2), "$w = gather_elements($p, $e) {axis = 1}"],
        '{k = 2, score = ["neg", "exp", "add", "div_into"], score_values = [0.0, 0.0, 1.0, 1.0]}'),
    "bias_stays_in_the_weights": (X, [SIGMOID, BIAS, "$c = add($p, $b)", TOP.format("$c", 2), "$w = $v"],
                                  'score = ["sigmoid"], score_values = [0.0], source = "choice"}'),
    "epsilon_added": (X, [SIGMOID, TOP2, SUM, f"$eps = {scalar(1e-6)}", "$t = add($s, $eps)", "$w = div($v, $t)"],
                      'norm = ["sum", "add"], norm_values = [0.0, 9.9999999747524271e-07]'),
    "epsilon_clamped_and_scaled": (
        X, [SIGMOID, TOP2, SUM, f"$eps = {scalar(0.5)}", "$t = max($s, $eps)", "$n = div($v, $t)", f"$sc = {scalar(2.5)}",
            "$w = mul($n, $sc)"], 'norm = ["sum", "max"], norm_values = [0.0, 0.5], weight = ["divide_by_norm", "mul"]'),
    "norm_of_p_2": (X, [SOFT, TOP2, "$v2 = mul($v, $v)", "$s = reduce_sum($v2) {axes = [1]}", "$n = sqrt($s)",
                        "$w = div($v, $n)"], 'norm = ["square", "sum", "sqrt"]'),
    "times_a_reciprocal": (X, [SOFT, TOP2, SUM, f"$one = {scalar(1.0)}", "$n = div($one, $s)", "$w = mul($v, $n)"],
                           'norm = ["sum", "div_into"], norm_values = [0.0, 1.0], weight = ["multiply_by_norm"]'),
    "sqrt_softplus": (X, ["$ex = exp($x)", "$l = log1p($ex)", "$p = sqrt($l)", BIAS, "$c = add($b, $p)", TOP.format("$c", 3),
                          GATHERED, SUM, DIVIDE], 'score = ["exp", "log1p", "sqrt"]'),
    "cast_between": ([("x", "f16", ["T", 8])],
                     ["$y = cast($x) {to = f32}", "$p = softmax($y) {axis = 1}", "$q = cast($p) {to = bf16}",
                      TOP.format("$q", 2), SUM, "$n = div($v, $s)", "$w = cast($n) {to = f32}"],
                     'score = ["f32", "softmax", "bf16"], score_values = [0.0, 0.0, 0.0]'),
    "half": ([("x", "f16", ["T", 8])], [SOFT, TOP2, SUM, DIVIDE],
             f'{{k = 2, {SOFTMAX}, source = "choice", {NORM}}}'),
    "groups_of_deepseek": (
        X, [SIGMOID, BIAS, "$c = add($p, $b)"] + groups("ones") + [
            "$m8 = cast($m7) {to = bool}", f"$fill = {scalar('-inf')}", "$l = select($m8, $c, $fill)",
            TOP.format("$l", 3), GATHERED, SUM, DIVIDE],
        "groups = 4, group_best = 2, groups_kept = 2, group_fill = -inf"),
    "groups_filled_with_0": (X, [SIGMOID, BIAS, "$c = add($p, $b)"] + LIMITED + [TOP.format("$l", 3), "$w = $v"],
                             'groups_kept = 2, group_fill = 0.0, source = "choice"}'),
    "groups_by_maximum_inverted": (
        X, ["$c = softmax($x) {axis = 1}"] + groups("zeros", "max") + [
            "$m8 = cast($m7) {to = bool}", f"$fill = {scalar(-1.0)}", "$l = select($m8, $fill, $c)",
            TOP.format("$l", 3), "$w = gather_elements($c, $e) {axis = 1}"],
        "groups = 4, group_best = 1, groups_kept = 2, group_fill = -1.0"),
    "groups_by_one_hot_negated": (
        X, ["$c = softmax($x) {axis = 1}"] + groups("one-hot", "max") + [
            "$m8 = cast($m7) {to = bool}", "$m9 = not($m8)", f"$fill = {scalar(0.0)}", "$l = select($m9, $fill, $c)",
            TOP.format("$l", 3), "$w = gather_elements($c, $e) {axis = 1}"],
        "groups = 4, group_best = 1, groups_kept = 2, group_fill = 0.0"),
    "groups_multiplied": (X, [SIGMOID, "$c = reshape($p) {shape = [T, 8]}"] + groups("ones") + [
        "$l = mul($c, $m7)", TOP.format("$l", 3), "$w = $v"], 'groups_kept = 2, group_multiply = 1, source = "choice"}'),
    "selected_by_logits": (X, [SOFT, TOP.format("$x", 2), "$w = gather_elements($p, $e) {axis = 1}"],
                           f"{{k = 2, {SOFTMAX}, by_logits = 1}}"),
    "sigmoid_of_selected_logits": (X, [TOP.format("$x", 1), "$w = sigmoid($v)"], '{k = 1, weight = ["sigmoid"]'),
    "selected_by_biased_softmax_weighed_by_sigmoid": (
        X, [SOFT, BIAS, "$c = add($p, $b)", TOP.format("$c", 2), "$q = sigmoid($x)", "$w = gather_elements($q, $e) {axis = 1}"],
        f'{{k = 2, {SOFTMAX}, source = "logits", weight = ["sigmoid"]'),
    "weights_of_other_scores": (X, [SIGMOID, "$q = softmax($x) {axis = 1}", TOP2, "$w = gather_elements($q, $e) {axis = 1}"],
                                '(%0, _, _, _, _, %2) {k = 2, score = ["sigmoid"], score_values = [0.0], source = "mixing"'),
    "mixing_is_given": (X + [("y", "f32", ["T", 8])], [TOP.format("$x", 2), "$v2 = gather_elements($y, $e) {axis = 1}",
                                                       "$s = reduce_sum($v2) {axes = [1]}", "$w = div($v2, $s)"],
                        '(%0, _, _, _, _, %1) {k = 2, source = "mixing"'),
    "scale_of_experts": (X, [SOFT, TOP2, SUM, "$n = div($v, $s)", BIAS, "$sc = gather($b, $e) {axis = 0}", "$w = mul($n, $sc)"],
                         'weight = ["divide_by_norm", "expert_scale"]'),
    "first_of_more": (X, [SOFT, "$pv, $pi = topk($p) {axis = 1, k = 3}",
                          "$v = slice($pv) {start = [0, 0], length = [T, 2], step = [1, 1]}",
                          "$e = slice($pi) {start = [0, 0], length = [T, 2], step = [1, 1]}", SUM, DIVIDE],
                      f"{{k = 2, {SOFTMAX}, {NORM}}}"),
    "switch": (X, [SOFT, ARG.format("$e", "$p", 0), "$w = reduce_max($p) {axes = [1], keepdims = 0}"],
               f"{{k = 1, {SOFTMAX}, rounds = 1}}"),
    "largest_logit": (X, [ARG.format("$e", "$x", 1), "$w = reduce_max($x) {axes = [1]}"],
                      '{k = 1, rounds = 1, source = "largest"}'),
    "last_of_equal_ones": (X, ["$e = arg_max($x) {axis = 1, keepdims = 1, select_last_index = 1}",
                               "$w = gather_elements($x, $e) {axis = 1}"], "{k = 1, rounds = 1, last_index = 1}"),
    "gshard": (X, GSHARD + ["$s = add($w1, $w2)", f"$eps = {scalar(1e-9)}", "$t = add($s, $eps)", "$d1 = div($w1, $t)",
                            "$d2 = div($w2, $t)"] + COLUMNS + ["$w = concat($d1, $d2) {axis = 1}"],
               'rounds = 1, remove_multiply = 1, norm = ["sum", "add"]'),
    "nllb": (X, [SOFT, ARG.format("$e1", "$p", 1)] + one_hot("a", "$e1") + [
        f"$inf = {scalar('-inf')}", "$q = select($oa, $inf, $p)", ARG.format("$e2", "$q", 1),
        "$w1 = reduce_max($p) {axes = [1]}", "$w2 = reduce_max($q) {axes = [1]}", "$w = concat($w1, $w2) {axis = 1}",
        "$e = concat($e1, $e2) {axis = 1}"], 'rounds = 1, removed = -inf, source = "largest"}'),
    "rounds_of_topk": (X, [SOFT, "$v1, $e1 = topk($p) {axis = 1, k = 1}", f"$no = {scalar(-1.0)}",
                           "$nos = expand($no) {shape = [T, 1]}",
                           "$q = scatter_elements($p, $e1, $nos) {axis = 1, reduction = \"none\"}",
                           "$v2, $e2 = topk($q) {axis = 1, k = 1}", "$e = concat($e1, $e2) {axis = 1}",
                           "$w = concat($v1, $v2) {axis = 1}"], 'rounds = 1, removed = -1.0, source = "largest"}'),
    "sparse_mixer": (X, MIXER, 'rounds = 1, removed = -inf, source = "mixer", mixer = 0.019999999552965164}'),
    "three_axes": ([("x", "f32", ["T", 3, 8])], [
        "$p = softmax($x) {axis = 2}", "$v, $e = topk($p) {axis = 2, k = 2}", "$s = reduce_sum($v) {axes = [2]}", DIVIDE],
        f"{{k = 2, {SOFTMAX}, {NORM}}}"),
    "temperature_and_cap": (X, [f"$c = {scalar(30.0)}", "$y = div($x, $c)", "$z = tanh($y)", "$u = mul($c, $z)",
                                "$p = softmax($u) {axis = 1}", TOP2, "$w = $v"],
                            'score = ["div", "tanh", "mul", "softmax"], score_values = [30.0, 0.0, 30.0, 0.0]'),
    "what_is_not_understood_is_the_logits": (
        X, ["$y = cum_sum($x) {axis = 1}", "$p = softmax($y) {axis = 1}", TOP2, "$w = $v"], f"{{k = 2, {SOFTMAX}}}"),

    # ---- Near misses ----
    "other_scores_that_come_later": (X, [SIGMOID, TOP2, "$q = softmax($x) {axis = 1}",
                                         "$w = gather_elements($q, $e) {axis = 1}"], None),
    "smallest": (X, [SOFT, "$v, $e = topk($p) {axis = 1, k = 2, largest = 0}", "$w = $v"], None),
    "softmax_over_tokens_is_given": (X, ["$p = softmax($x) {axis = 0}", TOP2, "$w = $v"], "{k = 2}"),
    "softmax_of_weights_over_tokens": (X, [TOP.format("$x", 2), "$w = softmax($v) {axis = 0}"], None),
    "sum_over_tokens": (X, [SOFT, TOP2, "$s = reduce_sum($v) {axes = [0]}", "$w = div($v, $s)"], None),
    "sum_of_all_scores": (X, [SIGMOID, TOP2, "$s = reduce_sum($p) {axes = [1]}", "$w = div($v, $s)"], None),
    "values_of_another_topk": (X, [SOFT, "$u, $e = topk($x) {axis = 1, k = 2}", "$v, $f = topk($p) {axis = 1, k = 2}",
                                   "$w = $v"], None),
    "weights_at_other_experts": (X, [SOFT, TOP2, "$q, $f = topk($x) {axis = 1, k = 2, largest = 0}",
                                     "$w = gather_elements($p, $f) {axis = 1}"], None),
    "slices_differ": (X, [SOFT, "$pv, $pi = topk($p) {axis = 1, k = 3}",
                          "$w = slice($pv) {start = [0, 1], length = [T, 2], step = [1, 1]}",
                          "$e = slice($pi) {start = [0, 0], length = [T, 2], step = [1, 1]}"], None),
    "slice_of_unsorted": (X, [SOFT, "$pv, $pi = topk($p) {axis = 1, k = 3, sorted = 0}",
                              "$w = slice($pv) {start = [0, 0], length = [T, 2], step = [1, 1]}",
                              "$e = slice($pi) {start = [0, 0], length = [T, 2], step = [1, 1]}"], None),
    "last_of_more": (X, [SOFT, "$pv, $pi = topk($p) {axis = 1, k = 3}",
                         "$w = slice($pv) {start = [0, 1], length = [T, 2], step = [1, 1]}",
                         "$e = slice($pi) {start = [0, 1], length = [T, 2], step = [1, 1]}"], None),
    "groups_of_other_scores_are_given": (
        X, [SIGMOID, "$c = softmax($x) {axis = 1}"] + LIMITED[:-1] + ["$l = select($m8, $p, $fill)", TOP.format("$l", 3), "$w = $v"],
        "{k = 3}"),
    "groups_interleaved_are_given": (
        X, [SIGMOID, "$c = reshape($p) {shape = [T, 8]}"] + LIMITED[:-6] + [
            "$m5 = reshape($m4) {shape = [T, 1, 4]}", "$m6 = expand($m5) {shape = [T, 2, 4]}",
            "$m7 = reshape($m6) {shape = [T, 8]}", "$m8 = cast($m7) {to = bool}", f"$fill = {scalar(0.0)}",
            "$l = select($m8, $c, $fill)", TOP.format("$l", 3), "$w = $v"], "{k = 3}"),
    "masked_sum_of_logits": (X, [ARG.format("$e", "$x", 0)] + one_hot("a", "$e") + [
        "$y = mul($x, $ha)", "$w = reduce_sum($y) {axes = [1], keepdims = 0}"], None),
    "removal_of_another_expert": (X, [
        SOFT, ARG.format("$e1", "$p", 1), "$e3 = arg_min($p) {axis = 1, keepdims = 1}"] + one_hot("a", "$e3") + [
            f"$inf = {scalar('-inf')}", "$q = select($oa, $inf, $p)", ARG.format("$e2", "$q", 1),
            "$w1 = reduce_max($p) {axes = [1]}", "$w2 = reduce_max($q) {axes = [1]}", "$w = concat($w1, $w2) {axis = 1}",
            "$e = concat($e1, $e2) {axis = 1}"], None),
    "removal_of_all_others": (X, [SOFT, ARG.format("$e1", "$p", 1)] + one_hot("a", "$e1") + [
        f"$inf = {scalar('-inf')}", "$q = select($oa, $p, $inf)", ARG.format("$e2", "$q", 1),
        "$w1 = reduce_max($p) {axes = [1]}", "$w2 = reduce_max($q) {axes = [1]}", "$w = concat($w1, $w2) {axis = 1}",
        "$e = concat($e1, $e2) {axis = 1}"], None),
    "columns_exchanged": (X, [SOFT, ARG.format("$e1", "$p", 1)] + one_hot("a", "$e1") + [
        f"$inf = {scalar('-inf')}", "$q = select($oa, $inf, $p)", ARG.format("$e2", "$q", 1),
        "$w1 = reduce_max($p) {axes = [1]}", "$w2 = reduce_max($q) {axes = [1]}", "$w = concat($w2, $w1) {axis = 1}",
        "$e = concat($e1, $e2) {axis = 1}"], None),
    "mixer_of_other_logits": (X, [line.replace("sub($m1, $x)", "sub($m1, $a)") for line in MIXER], None),
    "scale_at_other_numbers": (X, [SOFT, TOP2, BIAS, "$f, $g = topk($x) {axis = 1, k = 2}",
                                   "$sc = gather($b, $g) {axis = 0}", "$w = mul($v, $sc)"], None),
    "slots_reversed": (X, [SOFT, "$v, $f = topk($p) {axis = 1, k = 2}",
                           "$e = slice($f) {start = [0, 1], length = [T, 2], step = [1, -1]}", "$w = $v"], None),
    "norm_of_other_weights": (X, [SOFT, TOP2, "$u, $f = topk($x) {axis = 1, k = 2}", "$s = reduce_sum($u) {axes = [1]}",
                                  "$w = div($v, $s)"], None),
}


class Text:
    """The functions of a case: one that returns experts and weights, and one in
    which experts are applied."""

    def __init__(self, args, lines, extra=()):
        self.numbers, self.args, self.lines, self.n = {}, [], [], 0
        for name, dtype, dims in args:
            self.args.append(f"{self.define('$' + name)}: {dtype}[{','.join(map(str, dims))}]")
        for line in lines:
            same = re.fullmatch(r"(\$\w+) = (\$\w+)", line)
            if same:
                self.numbers[same[1]] = self.numbers[same[2]]
                continue
            left, right = line.split(" = ", 1)
            right = re.sub(r"\$\w+", lambda m: self.numbers[m[0]], right)
            left = ", ".join(self.define(name) for name in left.split(", "))
            self.lines.append(f"  {left} = {right}")
        self.extra = [self.numbers[name] for name in extra]
        self.e, self.w = self.numbers["$e"], self.numbers["$w"]

    def define(self, name):
        self.numbers[name] = f"%{self.n}"
        self.n += 1
        return self.numbers[name]

    def plain(self):
        results = [self.e, self.w] + self.extra
        return f"func @f({', '.join(self.args)}) {{\n" + "\n".join(self.lines) + f"\n  return({', '.join(results)})\n}}\n"

    def applied(self, routes):
        n = self.n
        lines = self.lines + [
            f"  %{n} = reshape({self.e}) {{shape = [{routes}]}}", f"  %{n + 1} = reshape({self.w}) {{shape = [{routes}]}}",
            f"  %{n + 2} = moe.experts(%{n}, _, %{n + 7}) {{experts = 8, k = 1, tokens = {routes}, token_values = 1, "
            f"banks = [0], structure = {[0] * 8}, position = {[0] * 8}, rows = n}} (%{n + 3}: f32[n,2]) {{",
            f"    yield(%{n + 3})", "  }",
            f"  %{n + 4} = moe.combine(%{n + 2}, %{n + 1}) {{k = 1, tokens = {routes}, out_dtype = f32}}"]
        args = self.args + [f"%{n + 7}: f32[{routes},2]"]
        results = [f"%{n + 4}"] + self.extra
        return f"func @f({', '.join(args)}) {{\n" + "\n".join(lines) + f"\n  return({', '.join(results)})\n}}\n"


def optimised(moec, source, passes):
    done = subprocess.run([moec, "opt", f"--passes={passes}", str(source)], capture_output=True, text=True, timeout=60,
                          check=False)
    if done.returncode != 0:
        raise RuntimeError(f"moec opt ends with {done.returncode}: {done.stderr}")
    return done.stdout


def without_experts(text):
    """The function after the pass, its experts and weights as results."""
    experts = re.search(r"  (%\d+) = moe\.experts\((%\d+), _, (%\d+)\)(.|\n)*?\n  \}[^\n]*\n", text)
    combine = re.search(r"  (%\d+) = moe\.combine\((%\d+), (%\d+)\)[^\n]*\n", text)
    text = text.replace(experts[0], "").replace(combine[0], "")
    text = re.sub(rf", {experts[3]}: f32\[[^\]]*\]", "", text)
    text = re.sub(r"return\(%\d+", f"return({experts[2]}, {combine[3]}", text)
    numbers = {}
    return re.sub(r"%\d+", lambda m: numbers.setdefault(m[0], f"%{len(numbers)}"), re.sub(r", n >= 0", "", text))


SPECIAL = [0.0, -0.0, 1.0, -1.0, 0.5, 1e-40, 30.0, -60.0]


def row(rng, n):
    kind = rng.randrange(6)
    if kind == 0:
        return [rng.choice(SPECIAL) for _ in range(n)]
    if kind == 1:
        return [float(rng.randrange(3)) for _ in range(n)]
    values = [rng.gauss(0, 2) for _ in range(n)]
    if kind == 2:
        values[rng.randrange(n)] = rng.choice([float("nan"), float("inf"), float("-inf")])
    return values


def write_inputs(folder, args, tokens):
    rng = random.Random(tokens)
    result = []
    for i, (_, dtype, dims) in enumerate(args):
        dims = [tokens if d == "T" else d for d in dims]
        rows = 1
        for d in dims[:-1]:
            rows *= d
        data = [x for _ in range(rows) for x in row(rng, dims[-1])]
        path = folder / f"{i}.npy"
        write_npy(path, dtype, dims, data)
        result.append(f"--input={i}={path}")
    return result


def check(moec, name, args, lines, expected, extra=()):
    """What is wrong, or None."""
    text = Text(args, lines, extra)
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        plain, applied, route = folder / "plain.moeir", folder / "applied.moeir", folder / "route.moeir"
        plain.write_text(text.plain())
        shape = first_shape(optimised(moec, plain, "dce"))
        applied.write_text(text.applied("*".join(shape.split(","))))
        found = optimised(moec, applied, "dce,canonicalize,cse,dce,moe_router,dce")
        what = [line.strip() for line in found.splitlines() if "moe.route(" in line]
        if expected is None:
            return f"became {what[0]}" if what else None
        if not what or expected not in what[0]:
            return f"expected {expected}\nfound    {what[0] if what else found}"
        route.write_text(without_experts(found))
        wrong = compare(moec, folder, plain, route, args)
        if wrong is not None:
            return f"{wrong}\n{route.read_text()}"
    return None


def first_shape(text):
    """Dimensions of the first result, as text."""
    name = re.search(r"return\((%\d+)", text)[1]
    for line in text.splitlines():
        left = line.split(" = ")[0].strip()
        if name in left.split(", "):
            types = re.findall(r"\w+\[[^\]]*\]", line.rsplit(" : ", 1)[1])
            return types[left.split(", ").index(name)].split("[")[1][:-1]
    raise RuntimeError(f"{name} has no definition in\n{text}")


def compare(moec, folder, plain, route, args):
    pairs = [(37, PLAIN, f"moe_route,{PLAIN}"), (1100, PIPELINE.format(""), PIPELINE.format("moe_block,moe_route,"))]
    for i, (tokens, before, after) in enumerate(pairs):
        inputs = write_inputs(folder, args, tokens)
        wrong, want = outputs(moec, plain, folder, f"plain{i}", before, inputs)
        if wrong is None:
            wrong, got = outputs(moec, route, folder, f"route{i}", after, inputs)
        if wrong is None:
            wrong = differ(want, got)
        if wrong is not None:
            return wrong
    return None


def differ(want, got):
    if not isinstance(want, dict) or not isinstance(got, dict):
        return f"{want} without, {got} with moe.route"
    flat = [{i: ((kind, ()), elements) for i, ((kind, _), elements) in enumerate(x.values())} for x in (want, got)]
    return difference(*flat)


GATE_OF_128 = """func @f(%0: f32[T,64], %1: f32[64,128], %2: f32[128]) {
  %3, %4 = moe.route(%0, %1, _, %2) {k = 8, score = ["sigmoid"], score_values = [0.0]}
  return(%3, %4)
}
"""


def check_memory(moec):
    """Scores of all tokens for all experts must not be stored, which they are
    without moe_block."""
    with tempfile.TemporaryDirectory() as temporary:
        source = pathlib.Path(temporary) / "gate.moeir"
        source.write_text(GATE_OF_128)
        found = {}
        for passes in ("moe_route,", "moe_block,moe_route,"):
            text = optimised(moec, source, PIPELINE.format(passes))
            main = text[text.index("func @f"):]
            found[passes] = re.findall(r"^.* : .*f32\[T,128\].*$", main, re.MULTILINE)
        if not found["moe_route,"]:
            return "no scores of all tokens even without moe_block: the test sees nothing"
        return "\n".join(found["moe_block,moe_route,"]) or None


def check_sizes(moec):
    """Any number of experts, all of them selected or few, in blocks and at once."""
    for experts, k, more in ((1, 1, ""), (1, 1, ", rounds = 1"), (7, 7, ", last_index = 1"), (33, 33, ""),
                             (130, 3, ", rounds = 1, removed = -inf"), (4096, 64, ""), (600, 600, "")):
        with tempfile.TemporaryDirectory() as temporary:
            folder = pathlib.Path(temporary)
            source = folder / "sizes.moeir"
            source.write_text(f"""func @f(%0: f32[T,{experts}], %1: f32[{experts}]) {{
  %2, %3 = moe.route(%0, _, _, %1) {{k = {k}, score = ["sigmoid"], score_values = [0.0]{more}}}
  return(%2, %3)
}}
""")
            inputs = write_inputs(folder, [("0", "f32", ["T", experts]), ("1", "f32", [1, experts])], 141)
            write_npy(folder / "1.npy", "f32", [experts], row(random.Random(1), experts))
            found = []
            for name, passes in (("at_once", "moe_route,"), ("blocks", "moe_block,moe_route,")):
                wrong, got = outputs(moec, source, folder, name, PIPELINE.format(passes), inputs)
                if wrong is not None:
                    return wrong
                found.append(got)
            wrong = differ(*found)
            if wrong is not None:
                return f"{k} of {experts}{more}: {wrong}"
    return None


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--moec", default="build/release/moec")
    parser.add_argument("--only", default="")
    args = parser.parse_args()
    bad = 0
    for name, case in CASES.items():
        if args.only not in name:
            continue
        wrong = check(args.moec, name, *case)
        if wrong is not None:
            print(f"{name}: {wrong}")
            bad += 1
    for name, check_all in (("memory", check_memory), ("sizes", check_sizes)):
        wrong = check_all(args.moec)
        if wrong is not None:
            print(f"{name}: {wrong}")
            bad += 1
    print(f"{len(CASES)} routers, {bad} wrong")
    return min(bad, 1)


if __name__ == "__main__":
    sys.exit(main())
