"""Layers with experts that no input needs, and layers that come near to that."""
import dataclasses

import numpy as np

from pruned_layers import D, E, H

F = np.float32


@dataclasses.dataclass
class Case:
    name: str
    layer: dict
    wanted: set  # (rule, expert, same_as)
    any_order: bool = True  # the same experts when they are reordered
    leaves: set = None  # experts that leave the router
    exact: bool = True  # the same bits
    shrinks: bool = False  # the file has no weights of theirs


def rest(seed, width=D, hidden=H, **more):
    """A layer of which nothing can be left out, with changes."""
    rng = np.random.default_rng(seed)

    def draw(*shape):
        return rng.normal(0, 0.5, shape).astype(F)

    layer = {"gate": draw(width, E), "up": draw(E, width, hidden), "up_bias": draw(E, hidden),
             "down": draw(E, hidden, width), "down_bias": draw(E, width)}
    layer.update(more)
    return layer


def at(value, *places, n=E, fill=0.0):
    """f32[n] with the value at these places."""
    out = np.full(n, fill, F)
    out[list(places)] = value
    return out


def masked():
    bias = at(-np.inf, 2, 5)
    hit = {("masked", 2, None), ("masked", 5, None)}
    mask = at(1, 2, 5) > 0
    yield Case("softmax_bias", rest(1, bias=bias), hit)
    yield Case("softmax_bias_dense", rest(1, bias=bias, form="dense"), hit)
    yield Case("softmax_where", rest(1, mask=mask), hit)
    yield Case("logits_bias", rest(1, bias=bias, score="none"), hit)
    yield Case("sigmoid_select", rest(1, select=bias, score="sigmoid"), hit)
    yield Case("not_renormalised", rest(1, bias=bias, renorm=False), hit)
    # -1e30 is not -inf: logits of -2e30 are finite, too.
    yield Case("finite_bias", rest(1, bias=at(-1e30, 2, 5)), set())
    yield Case("finite_where", rest(1, mask=mask, fill=-1e30, score="none"), set())
    yield Case("finite_select", rest(1, select=at(-0.5, 2, 5), score="sigmoid"), set())
    # One is left, so another one is chosen, masked as it is.
    most = at(-np.inf, *range(1, E))
    # Which one that is, is up to ties: the first.
    yield Case("too_few_left", rest(1, bias=most, score="none"),
               {("masked", e, None) for e in range(2, E)}, False)
    # Groups: a masked expert is behind k of its own group only.
    yield Case("groups", rest(1, select=bias, score="sigmoid", groups=(2, 1)), hit, False)
    yield Case("small_groups", rest(1, select=bias, score="sigmoid", groups=(4, 2)), set(), False)


def bounded():
    above = at(1.5, 0, 1, 2)
    hit = {("bounded", e, None) for e in range(3, E)}
    yield Case("sigmoid_bias", rest(2, select=above, score="sigmoid"), hit)
    yield Case("softmax_bias_above", rest(2, select=above, renorm=False), hit)
    # Two lie above, and all others come third.
    one = {("bounded", e, None) for e in range(2, E)}
    yield Case("two_above", rest(2, select=at(1.5, 0, 1), score="sigmoid"), one)
    yield Case("one_above", rest(2, select=at(1.5, 0), score="sigmoid"), set())
    # A sigmoid of 1 and one of 0 + 1 are equal: the lower number comes first.
    yield Case("equal_behind", rest(2, select=at(1.0, 0, 1), score="sigmoid"), one, False)
    last = at(1.0, E - 2, E - 1)
    yield Case("equal_before", rest(2, select=last, score="sigmoid"), set(), False)
    ulp = at(np.nextafter(F(1), F(2)), E - 2, E - 1)
    yield Case("one_ulp_above", rest(2, select=ulp, score="sigmoid"),
               {("bounded", e, None) for e in range(E - 2)}, False)
    ulp = at(np.nextafter(F(1), F(0)), 0, 1)
    yield Case("one_ulp_below", rest(2, select=ulp, score="sigmoid"), set(), False)


def dominated():
    gamma = np.linspace(0.5, 1.5, D).astype(F)
    rng = np.random.default_rng(5) # columns differ by less than their size
    gate = (rng.normal(0, 0.05, (D, E)) + rng.normal(0, 1, (D, 1))).astype(F)
    reach = np.sqrt(D) * max(np.linalg.norm((gate[:, i] - gate[:, j]) * gamma)
                             for i in range(E) for j in range(E))
    hit = {("dominated", 3, None), ("dominated", 6, None)}
    for norm in ("rms", "layer"):
        for score in ("softmax", "none"):
            far = rest(3, gate=gate, gamma=gamma, norm=norm, score=score,
                       bias=at(-1.01 * F(reach), 3, 6))
            yield Case(f"{norm}_{score}", far, hit)
            near = dict(far, bias=at(-0.2 * F(reach), 3, 6))
            yield Case(f"{norm}_{score}_near", near, set())
    yield Case("without_a_norm", rest(3, gate=gate, bias=at(-100.0, 3, 6)), set())
    # Bounds of each logit are enough.
    small = gate - gate.mean(axis=1, keepdims=True)
    far = rest(3, gate=small, gamma=gamma, norm="rms", score="sigmoid",
               bias=at(-2 * F(reach), 3, 6))
    yield Case("by_bounds_of_sigmoids", far, {("bounded", 3, None), ("bounded", 6, None)})
    # Sigmoids of what differs may be the same.
    yield Case("saturated", rest(3, gate=gate, gamma=gamma, norm="rms", score="sigmoid",
                                 bias=at(-1.01 * F(reach), 3, 6)), set())


def tied():
    """Rows of the gate that are equal; k = 2."""
    gate = rest(9)["gate"]
    same = gate.copy()
    same[:, [3, 6, 7]] = same[:, [1]]
    hit = {("tied", 6, None), ("tied", 7, None)}
    for score in ("softmax", "sigmoid", "none"):
        yield Case(score, rest(9, gate=same, score=score), hit, False)
    yield Case("equal_biases", rest(9, gate=same, bias=at(0.3, 1, 3, 6, 7)), hit, False)
    yield Case("equal_selection", rest(9, gate=same, score="sigmoid",
                                       select=at(0.3, 1, 3, 6, 7)), hit, False)
    # Fewer than k, another bias, another last bit, a group of its own.
    few = gate.copy()
    few[:, 6] = few[:, 1]
    yield Case("too_few", rest(9, gate=few), set())
    yield Case("other_bias", rest(9, gate=same, bias=at(1e-6, 6, 7)), set(), False)
    near = same.copy()
    near[0, [6, 7]] = np.nextafter(near[0, [6, 7]], F(9))
    yield Case("other_bit", rest(9, gate=near), set(), False)
    yield Case("other_group", rest(9, gate=same, score="sigmoid", groups=(2, 1)), set(), False)
    inside = gate.copy()
    inside[:, [2, 3]] = inside[:, [0]]
    yield Case("same_group", rest(9, gate=inside, score="sigmoid", groups=(2, 1)),
               {("tied", 3, None)}, False)


def around(n, radius, turn=0.0):
    """n rows of a gate of two numbers, on a circle: float64[2, n]."""
    angle = np.arange(n) * (2 * np.pi / n) + turn
    return radius * np.stack([np.cos(angle), np.sin(angle)])


def sized(seed, gate, **more):
    """rest, of as many experts as the gate has columns."""
    gate = np.asarray(gate).astype(F)
    layer = rest(seed, width=gate.shape[0])
    n = -(-gate.shape[1] // E)
    for name in ("up", "up_bias", "down", "down_bias"):
        scale = np.repeat(np.linspace(1, 0.5, n, dtype=F), E)[:gate.shape[1]]
        array = np.concatenate([layer[name]] * n)[:gate.shape[1]]
        layer[name] = array * scale.reshape(-1, *[1] * (array.ndim - 1))
    return dict(layer, gate=gate, score="none", **more)


def hull():
    """Rows of the gate that lie between others'; k = 2. Ties are by number, so only in this
    order."""
    def case(name, gate, wanted, **more):
        hit = {("hull", e, None) for e in wanted}
        return Case(name, sized(21, gate, **more), hit, False)

    centre = np.array([[0.3], [-0.2]])
    two = np.concatenate([around(3, 2, 0.1), around(3, 1, 0.7)], 1) + centre
    gate = np.concatenate([two, centre], 1)
    yield case("two_triangles", gate, {6})
    yield case("two_triangles_one_number", gate[:, 1:], {})
    yield case("one_triangle", np.delete(gate, 5, 1), {})
    yield case("one_triangle_k_1", gate[:, [0, 1, 2, 6]], {3}, k=1)
    yield case("loop", gate, {6}, form="loop")
    # A row of zeros: all logits are equal, and the first k are chosen.
    yield case("the_first", gate[:, [6, 0, 1, 2, 3, 4, 5]], {})
    yield case("the_second", gate[:, [0, 6, 1, 2, 3, 4, 5]], {})
    yield case("the_third", gate[:, [0, 1, 6, 2, 3, 4, 5]], {2})
    # exp as it is computed may turn the order of neighbours around.
    for score in ("softmax", "sigmoid"):
        yield Case(f"by_{score}", dict(sized(21, gate), score=score), set(), False)
    # On an edge, beside it, inside by less than what is rounded.
    edge = gate.copy()
    edge[:, 6] = (edge[:, 0] + edge[:, 1]) / 2
    yield case("on_an_edge", edge, {})
    for name, part, wanted in (("beside_an_edge", -1e-3, {}), ("within_rounding", 1e-7, {}),
                               ("inside", 1e-3, {6})):
        near = np.concatenate([around(3, 2), around(3, 3)], 1)
        middle = (near[:, 0] + near[:, 1]) / 2
        yield case(name, np.concatenate([near, middle[:, None] * (1 - part)], 1), wanted)
    masked = np.zeros(7, F)
    masked[4] = -np.inf
    layer = sized(21, gate, bias=masked)
    yield Case("a_corner_is_masked", layer, {("masked", 4, None)}, False)
    # Biases: a mean of others' that lies above, whoever has the first numbers.
    first = gate[:, [6, 0, 1, 2, 3, 4, 5]]
    biases = np.array([-0.1, 0.05, 0.1, 0.02, 0.03, -0.02, 0], F)
    yield case("biases", first, {0}, bias=biases)
    yield case("biases_of_the_choice", first, {0}, select=biases)
    yield case("bias_above", first, {}, bias=np.array([0.2, *biases[1:]], F))
    masked = np.full(8, 0.1, F)
    masked[7] = -np.inf
    yield Case("equal_biases", sized(21, np.concatenate([gate, centre + 1], 1), bias=masked),
               {("masked", 7, None)}, False)
    # As a sum the biases are small, but not their rounding.
    yield case("large_biases", first, {}, bias=biases + F(1e5),
               select=at(-99999.5, 6, n=7, fill=-1e5))
    # Corners in its group, and in the other one.
    far = around(7, 1) + [[9], [9]]
    yield case("own_group", np.concatenate([far, gate], 1), {13}, groups=(2, 1))
    yield case("other_group", np.concatenate([gate[:, :6], far, gate[:, 6:]], 1), {},
               groups=(2, 1))
    # A plane in space has no inside.
    flat = np.concatenate([gate, np.full((1, 7), 0.5)])
    yield case("flat", flat, {})
    space = np.random.default_rng(5).normal(0, 1, (3, 40))
    space[:, 39] = 0
    yield case("space", space, {3, 5, 6, 8, 10, 12, 19, 20, 22, 23, 29, 32, 33, 38, 39})


def unpicked(layer, rows, k=2):
    """Records of experts that are not among the k largest logits of any row."""
    z = rows.astype(np.float64) @ layer["gate"]
    return {("enumerated", e, None)
            for e in set(range(E)) - set(np.argsort(-z, axis=1)[:, :k].ravel().tolist())}


def enumerated():
    """The router's input is a row of a table."""
    rng = np.random.default_rng(31)
    table, second = rng.normal(0, 1, (2, 3, D)).astype(F)
    plain = rest(31, score="none", tables=[table])
    hit = unpicked(plain, table)
    assert 0 < len(hit) < E - 2
    for score in ("none", "softmax", "sigmoid"):
        yield Case(score, dict(plain, score=score), hit)
        yield Case(f"{score}_loop", dict(plain, score=score, form="loop"), hit)
    bias = rng.normal(0, 0.01, E).astype(F)
    yield Case("selection_bias", dict(plain, score="softmax", select=bias), hit)
    # The norms' bounds do not matter; a row is longer or shorter by a number.
    yield Case("rms", dict(plain, norm="rms", gamma=np.ones(D, F)), hit)
    yield Case("layer", dict(plain, norm="layer", gamma=np.ones(D, F)),
               unpicked(plain, table - table.mean(axis=1, keepdims=True)))
    turn = rng.normal(0, 0.5, (D, D)).astype(F)
    yield Case("tanh", dict(plain, tables=[table, turn], source="tanh"),
               unpicked(plain, np.tanh(table @ turn)))
    # Two tables by one number, of as many rows; of other ones, -1 is not the same row.
    two = dict(plain, tables=[table, second], source="two")
    yield Case("two_tables", two, unpicked(plain, table + second))
    longer = np.concatenate([second, second[:1]])
    yield Case("longer_table", dict(two, tables=[longer, table]), set())
    yield Case("other_numbers", dict(two, source="other"), set())
    # Rows that are mixed are none of the table.
    yield Case("row_before", dict(plain, source="before"), set())
    yield Case("pairs_of_rows", dict(plain, source="pairs"), set())
    yield Case("mean_of_rows", dict(plain, source="mean"), set())
    # One row that chooses all that is left.
    left = sorted(e for _, e, _ in hit)[:2]
    last = plain["gate"][:, left].sum(axis=1)[None] * 9
    more = np.concatenate([table, last.astype(F)])
    yield Case("one_row_more", dict(plain, tables=[more]), unpicked(plain, more))
    # Equal numbers: not decided by bounds, though the lower number wins.
    same = plain["gate"].copy()
    first = int(np.argsort(-(table[0].astype(np.float64) @ same))[1])
    behind = max(left + [first + 1])
    same[:, behind] = same[:, first]
    yield Case("equal_columns", dict(plain, gate=same),
               {r for r in unpicked(dict(plain, gate=same), table) if r[1] != behind}, False)
    # Two others of its own group.
    z = (table.astype(np.float64) @ plain["gate"]).reshape(-1, 2, E // 2)
    kept = np.argsort(-z, axis=2)[:, :, :2] + np.arange(2)[:, None] * (E // 2)
    yield Case("groups", dict(plain, score="sigmoid", groups=(2, 1)),
               {("enumerated", e, None) for e in set(range(E)) - set(kept.ravel().tolist())}, False)


def outranked():
    """Groups of 2 or 4 that are never kept."""
    hit = {("outranked", 0, None), ("outranked", 1, None)}
    select = at(1.5, *range(2, E))
    more = {"score": "sigmoid", "groups": (E // 2, 2)}
    yield Case("selection", rest(10, select=select, **more), hit, False)
    # One other group of three may be below it, or as good with a higher number.
    yield Case("two_groups", rest(10, select=at(1.5, 2, 3, 4, 5), **more),
               {("outranked", e, None) for e in (0, 1, 6, 7)}, False)
    yield Case("one_above", rest(10, select=at(1.5, 2, 3), **more), set(), False)
    yield Case("not_by_enough", rest(10, select=at(0.9, *range(2, E)), **more), set(), False)
    yield Case("one_of_each", rest(10, select=at(1.5, 2, 4, 6), **more), hit, False)
    yield Case("equal_bounds", rest(10, select=at(1.0, *range(2, E)), **more), set(), False)
    yield Case("lower_numbers_win", rest(10, select=at(1.0, *range(E - 2)), **more),
               {("outranked", E - 2, None), ("outranked", E - 1, None)}, False)


def zero():
    down = rest(4)["down"].copy()
    down[3] = 0
    hit = {("zero", 3, None)}
    plain = rest(4, down=down, down_bias=None)
    yield Case("no_output", plain, hit)
    yield Case("no_output_dense", dict(plain, form="dense"), hit)
    yield Case("no_output_loop", dict(plain, form="loop"), hit)
    yield Case("negative_zero", dict(plain, down=np.where(down == 0, F(-0.0), down)), hit)
    bias = np.zeros((E, D), F) + F(0.1)
    bias[3] = 0
    yield Case("bias_of_zero", dict(plain, down_bias=bias), hit)
    one = bias.copy()
    one[3, 5] = F(1e-30)
    yield Case("bias_but_zero", dict(plain, down_bias=one), set())
    last = down.copy()
    last[3, H - 1, D - 1] = F(1e-38)
    yield Case("one_weight", dict(plain, down=last), set())
    up, up_bias = rest(4)["up"].copy(), np.zeros((E, H), F)
    up[3] = 0
    silu = rest(4, up=up, up_bias=None, act="silu", gated=rest(5)["up"], down_bias=None)
    yield Case("gate_of_zero", silu, hit)
    yield Case("other_gate_of_zero",
               dict(silu, up=rest(4)["up"], gated=np.where(up == 0, F(0), rest(5)["up"])), hit)
    # relu(x 0 + b) is zero for b <= 0 only.
    up_bias[3] = -1
    off = rest(4, up=up, up_bias=up_bias, down_bias=None)
    yield Case("relu_off", off, hit)
    up_bias = up_bias.copy()
    up_bias[3, 7] = F(1e-20)
    yield Case("relu_but_one", dict(off, up_bias=up_bias), set())
    # A row of any size can exceed b = -1; behind a norm it cannot.
    small = np.where(up == 0, F(0.01), rest(4)["up"])
    up_bias = np.zeros((E, H), F)
    up_bias[3] = -1
    wide = rest(4, up=small, up_bias=up_bias, down_bias=None)
    yield Case("relu_of_any_row", wide, set())
    gamma = np.ones(D, F)
    yield Case("relu_behind_norm", dict(wide, norm="rms", gamma=gamma), hit)
    small = np.where(up == 0, F(0.2), rest(4)["up"])
    yield Case("relu_behind_norm_on", dict(wide, norm="rms", gamma=gamma, up=small), set())


def duplicate():
    def twice(layer, names=("up", "up_bias", "down", "down_bias"), of=1, to=(4, 6)):
        out = dict(layer)
        for name in names:
            out[name] = layer[name].copy()
            out[name][list(to)] = layer[name][of]
        return out

    hit = {("duplicate", 4, 1), ("duplicate", 6, 1)}
    copies = twice(rest(6))
    yield Case("copies", copies, hit)
    yield Case("copies_loop", dict(copies, form="loop"), hit)
    yield Case("one_matrix_differs", twice(rest(6), ("up", "up_bias", "down_bias")), set())
    bit = dict(copies, down=copies["down"].copy())
    bit["down"][4, 7, 3] = np.nextafter(bit["down"][4, 7, 3], F(9))
    yield Case("one_bit", bit, {("duplicate", 6, 1)})
    sign = twice(rest(6, down_bias=np.zeros((E, D), F)))
    sign["down_bias"][4, 2] = F(-0.0)
    yield Case("sign_of_zero", sign, {("duplicate", 6, 1)})
    yield Case("all_the_same", twice(rest(6), to=tuple(range(E))),
               {("duplicate", e, 0) for e in range(1, E)})
    both = dict(copies, bias=at(-np.inf, 1))
    yield Case("first_is_masked", both, {("masked", 1, None), ("duplicate", 6, 4)})
    # Four times the same column, whole numbers: the last two are never chosen.
    rng = np.random.default_rng(9)
    gate = np.repeat(rng.integers(-2, 3, (D, E // 4)), 4, axis=1).astype(F)
    yield Case("ties", twice(rest(6, gate=gate, integers=True, score="none")),
               {("duplicate", 4, 1), *(("tied", e, None) for e in (2, 3, 6, 7))}, False)


def permuted():
    """Experts 4 and 6 are expert 1 with its neurons in another order."""
    rng = np.random.default_rng(41)

    def turned(layer, names=("up", "up_bias", "gated", "down"), rest=("down_bias",)):
        out = dict(layer)
        for e in (4, 6):
            order = rng.permutation(layer["up"].shape[2])
            for name in (*names, *rest):
                if layer.get(name) is None:
                    continue
                out[name] = out[name].copy()
                of = layer[name][1]
                if name in names:
                    of = of[order] if name in ("down", "up_bias") else of[:, order]
                out[name][e] = of
        return out

    def case(name, layer, wanted=True):
        hit = {("permuted", 4, 1), ("permuted", 6, 1)} if wanted else set()
        return Case(name, layer, hit, exact=not wanted)

    plain = turned(rest(41))
    yield case("biases", plain)
    yield case("biases_loop", dict(plain, form="loop"))
    yield case("dense", dict(turned(rest(41, up_bias=None)), form="dense"))
    yield case("wide", turned(rest(41, width=40, hidden=56)))
    both = turned(rest(42, up_bias=None, down_bias=None, act="silu", gated=rest(43)["up"]))
    yield case("gated", both)
    for fused in ("halves", "turns"):
        yield case(fused, dict(both, fused=fused))
    # Gate and up change places, or only one of them is in another order.
    for name in ("up", "gated", "down"):
        layer = dict(both)
        layer[name] = both[name].copy()
        layer[name][[4, 6]] = rest(42, gated=rest(43)["up"])[name][1]
        yield case(f"all_but_{name}", layer, False)
    swapped = dict(both, up=both["up"].copy(), gated=both["gated"].copy())
    swapped["up"][[4, 6]], swapped["gated"][[4, 6]] = both["gated"][[4, 6]], both["up"][[4, 6]]
    yield Case("gate_for_up", swapped, {("permuted", 6, 4)}, exact=False)
    other = dict(plain, down_bias=plain["down_bias"].copy())
    other["down_bias"][[4, 6], 3] += [1, 2]
    yield case("another_bias", other, False)
    # One neuron twice in place of another one; one bit; the sign of a zero.
    twice = dict(plain, **{n: plain[n].copy() for n in ("up", "up_bias", "down")})
    for e in (4, 6):
        twice["up"][e][:, 0], twice["up_bias"][e][0] = twice["up"][e][:, 1], twice["up_bias"][e][1]
        twice["down"][e][0] = twice["down"][e][1]
    yield case("a_neuron_twice", twice, False)
    bit = dict(plain, down=plain["down"].copy())
    bit["down"][[4, 6], 5, 7] = np.nextafter(bit["down"][[4, 6], 5, 7], F(9))
    yield case("one_bit", bit, False)
    zeros = rest(41)
    zeros["up_bias"][:] = 0
    zeros = turned(zeros)
    zeros["up_bias"][[4, 6], 2] = F(-0.0)
    yield case("sign_of_zero", zeros, False)
    copies = dict(plain, **{n: plain[n].copy() for n in ("up", "up_bias", "down", "down_bias")})
    for n in ("up", "up_bias", "down", "down_bias"):
        copies[n][6] = copies[n][1]
    yield Case("a_copy_and_a_permuted_one", copies, {("duplicate", 6, 1), ("permuted", 4, 1)},
               False, exact=False)


def wide():
    """Widths that products have panels for; banks are stacks of what stays."""
    wide = {"width": 40, "hidden": 56}
    bias, copies = at(-np.inf, 2, 5), rest(6, **wide)
    hit = {("masked", 2, None), ("masked", 5, None)}
    for name in ("up", "up_bias", "down", "down_bias"):
        copies[name][4] = copies[name][1]
    for form in ("gathered", "loop", "dense"):
        yield Case(f"masked_{form}", rest(1, bias=bias, form=form, **wide), hit, shrinks=True)
    for form in ("gathered", "loop"):
        yield Case(f"copies_{form}", dict(copies, form=form), {("duplicate", 4, 1)},
                   shrinks=True)
    # One expert stays.
    yield Case("one_left", rest(2, k=1, select=at(1.5, 3), score="sigmoid", **wide),
               {("bounded", e, None) for e in range(E) if e != 3}, shrinks=True)


def renumbered():
    """Experts that leave the router, too; those that stay get other numbers."""
    bias, rng = at(-np.inf, 2, 5), np.random.default_rng(8)
    both = {"bias": rng.normal(0, 1, E).astype(F), "select": bias, "score": "sigmoid"}
    for form in ("gathered", "loop"):
        yield Case(form, rest(1, form=form, **both),
                   {("masked", 2, None), ("masked", 5, None)}, leaves={2, 5})
    many = rest(1)
    many = {n: np.concatenate([a, F(0.7) * a, 2 * a], axis=int(n == "gate"))
            for n, a in many.items()}
    dead = {("bounded", e, None) for e in range(12, 3 * E)}
    # 16 columns and more are a product of panels, fewer are sums: other bits.
    few = at(1.5, *range(12), n=3 * E)
    yield Case("few_stay", dict(many, select=few, score="sigmoid"), dead)
    dead = {("bounded", e, None) for e in range(20, 3 * E)}
    most = at(1.5, *range(20), n=3 * E)
    yield Case("most_stay", dict(many, select=most, score="sigmoid"), dead,
               leaves=set(range(20, 3 * E)))
    yield Case("sum_over_all", dict(many, select=most, renorm=False), dead)
    yield Case("logits", dict(many, bias=at(-np.inf, 7, n=3 * E), score="none"),
               {("masked", 7, None)}, leaves={7})


def neurons():
    """Hidden features of which 20 of 48 add nothing, others in each expert."""
    rng = np.random.default_rng(11)
    hidden, off = 48, [np.sort(rng.permutation(48)[:20]) for _ in range(E)]
    size = {"width": 24, "hidden": hidden}
    hit = {("neurons", e, None) for e in range(E)}

    def without(array, axis, value=0):
        array = array.copy()
        for e in range(E):
            index = [slice(None)] * (array.ndim - 1)
            index[axis] = off[e]
            array[(e, *index)] = value
        return array

    plain = rest(12, **size)
    no_down = dict(plain, down=without(plain["down"], 0))
    yield Case("no_way_out", no_down, hit)
    yield Case("no_way_out_loop", dict(no_down, form="loop"), hit)
    # relu(x 0 + b), b <= 0
    relu = dict(plain, up=without(plain["up"], 1), up_bias=without(plain["up_bias"], 0, -0.25))
    yield Case("relu_off", relu, hit)
    bias = without(plain["up_bias"], 0, -0.25)
    for e in range(E):
        bias[e, off[e][:5]] = F(1e-6)
    yield Case("but_for_a_bias", dict(relu, up_bias=bias), set())
    silu = rest(13, **size, act="silu", up_bias=None, gated=rest(14, **size)["up"],
                down_bias=None)
    yield Case("gate_of_zero", dict(silu, up=without(silu["up"], 1)), hit)
    yield Case("up_of_zero", dict(silu, gated=without(silu["gated"], 1)), hit)
    for fused in ("halves", "turns"):
        for form in ("gathered", "loop"):
            yield Case(f"{fused}_{form}", dict(silu, up=without(silu["up"], 1), fused=fused,
                                               form=form), hit)
    yield Case("half_of_both", dict(
        silu, fused="halves", down=without(silu["down"], 0)), hit)
    # One expert needs all of them.
    one = no_down["down"].copy()
    one[5] = plain["down"][5]
    yield Case("one_needs_all", dict(plain, down=one), set())
    # An expert that needs all of them, but is never chosen.
    yield Case("but_masked", dict(plain, down=one, bias=at(-np.inf, 5)),
               {("masked", 5, None)} | (hit - {("neurons", 5, None)}))
    yield Case("few_columns", dict(
        rest(12, hidden=hidden), down=without(rest(12, hidden=hidden)["down"], 0)), hit,
        exact=False)


def all_cases():
    for family in (masked, bounded, dominated, tied, hull, enumerated, outranked, zero,
                   duplicate, permuted, wide, renumbered, neurons):
        for case in family():
            case.name = f"{family.__name__}/{case.name}"
            yield case
