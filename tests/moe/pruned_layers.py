"""One Mixture-of-Experts layer as an ONNX model and in NumPy.

Layer(...) takes what matters to pruning: gate, biases, masks, how scores are made of
logits, a normalisation in front, the experts' matrices, how they are
spelled.
"""
import numpy as np

from graph import BOOL, F32, I64, Graph

D, H, E, K = 8, 12, 8, 2


def softmax(z):
    with np.errstate(invalid="ignore"):
        z = np.exp(z - z.max(axis=-1, keepdims=True))
    return z / z.sum(axis=-1, keepdims=True)


class Layer:
    """gate[D, E]; bias[E] of logits, select[E] of what is chosen by; mask: bool[E] of
    experts whose logits become `fill`; score: softmax, sigmoid, none; act: relu, silu;
    norm: rms, layer; up[E, D, H], up_bias[E, H], gated[E, D, H], down[E, H, D],
    down_bias[E, D]; form: gathered, dense,
    loop; groups: (count, kept); fused: halves, turns; tables: arrays[rows, D] whose rows x
    is made of, by numbers, as `source` says: row, two, other, before, pairs, mean, tanh."""

    def __init__(self, gate, bias=None, select=None, mask=None, fill=-np.inf, score="softmax",
                 norm=None, gamma=None, act="relu", up=None, up_bias=None, gated=None, down=None,
                 down_bias=None, form="gathered", k=K, groups=None, renorm=True, integers=False,
                 fused=None, tables=None, source="row"):
        self.__dict__.update(locals())
        del self.__dict__["self"]
        self.width, self.experts = self.gate.shape
        assert not (integers and norm)

    def reordered(self, order):
        kept = {n: v for n, v in self.__dict__.items() if n not in ("width", "experts")}
        for name in ("bias", "select", "mask", "up", "up_bias", "gated", "down", "down_bias"):
            if kept[name] is not None:
                kept[name] = kept[name][order]
        kept["gate"] = kept["gate"][:, order]
        return Layer(**kept)

    # As ONNX.

    def fetched(self, g, numbers):
        """Rows of tables."""
        if self.tables is None:
            return numbers
        rows = [g.op("Gather", g.const(t), numbers) for t in self.tables]
        if self.source == "two":
            return g.op("Add", *rows)
        if self.source == "other":
            other = g.op("Sub", g.const(np.int64(-1)), numbers)
            return g.op("Add", rows[0], g.op("Gather", g.const(self.tables[1]), other))
        if self.source == "before":
            one = g.slice(rows[0], 0, 1, 0)
            before = g.op("Concat", one, g.slice(rows[0], 0, -1, 0), axis=0)
            return g.op("Add", rows[0], before)
        if self.source == "pairs":
            both = g.op("Add", g.unsqueeze(rows[0], 0), g.unsqueeze(rows[0], 1))
            return g.reshape(both, -1, self.width)
        if self.source == "mean":
            mean = g.op("ReduceMean", rows[0], g.const([0]), keepdims=1)
            return g.op("Add", rows[0], mean)
        if self.source == "tanh":
            return g.op("Tanh", g.op("MatMul", rows[0], g.const(self.tables[1])))
        return rows[0]

    def normalised(self, g, x):
        if self.norm is None:
            return x
        gamma = g.const(self.gamma)
        if self.norm == "layer":
            return g.op("LayerNormalization", x, gamma, g.const(np.zeros(self.width)), axis=-1)
        mean = g.op("ReduceMean", g.op("Mul", x, x), g.const([-1]), keepdims=1)
        root = g.op("Sqrt", g.op("Add", mean, g.const(np.float32(1e-6))))
        return g.op("Mul", g.op("Div", x, root), gamma)

    def limited(self, g, choice):
        if self.groups is None:
            return choice
        count, kept = self.groups
        split = g.reshape(choice, -1, count, self.experts // count)
        _, best = g.op("TopK", g.max(split, 2), g.const([kept]), n_out=2, axis=-1)
        shape = g.op("Concat", g.size(choice, 0), g.const([count]), axis=0)
        ones = g.op("Expand", g.const(np.float32(1)), g.op("Shape", best))
        kept = g.op("ScatterElements", g.zeros(shape), best, ones, axis=1)
        whole = g.op("Shape", split)
        kept = g.reshape(g.op("Expand", g.unsqueeze(kept, 2), whole), -1, self.experts)
        return g.op("Where", g.cast(kept, BOOL), choice, g.const(np.float32(-np.inf)))

    def routed(self, g, x):
        z = g.op("MatMul", x, g.const(self.gate))
        if self.bias is not None:
            z = g.op("Add", z, g.const(self.bias))
        if self.mask is not None:
            mask = g.cast(g.const(self.mask.astype(np.int64)), BOOL)
            z = g.op("Where", mask, g.const(np.float32(self.fill)), z)
        scores = {"softmax": lambda: g.op("Softmax", z, axis=-1),
                  "sigmoid": lambda: g.op("Sigmoid", z), "none": lambda: z}[self.score]()
        choice = scores if self.select is None else g.op("Add", scores, g.const(self.select))
        w, idx = g.op("TopK", self.limited(g, choice), g.const([self.k]), n_out=2, axis=-1)
        if self.select is not None or self.groups is not None:
            w = g.op("GatherElements", scores, idx, axis=1)
        if self.score == "none":
            w = g.op("Softmax", w, axis=-1)
        elif self.renorm:
            w = g.op("Div", w, g.sum(w, -1, keepdims=1))
        return idx, w

    def activated(self, g, z):
        return g.op("Relu", z) if self.act == "relu" else g.op("Mul", z, g.op("Sigmoid", z))

    def expert(self, g, rows, of):
        """f(rows); of(array) gives the numbers of the rows' experts."""
        if self.fused:
            return self.fused_expert(g, rows, of)
        h = g.op("MatMul", rows, of(self.up))
        if self.up_bias is not None:
            h = g.op("Add", h, of(self.up_bias[:, None]))
        h = self.activated(g, h)
        if self.gated is not None:
            h = g.op("Mul", h, g.op("MatMul", rows, of(self.gated)))
        y = g.op("MatMul", h, of(self.down))
        return y if self.down_bias is None else g.op("Add", y, of(self.down_bias[:, None]))

    def fused_expert(self, g, rows, of):
        """Gate and up of one product, side by side or in turns."""
        both = [self.up, self.gated]
        halves = self.fused == "halves"
        both = np.concatenate(both, 2) if halves else np.stack(both, 3).reshape(
            self.experts, self.width, -1)
        h = g.op("MatMul", rows, of(both))
        n = self.up.shape[2]
        parts = [(0, n, 1), (n, 2 * n, 1)] if halves else [(0, 2 * n, 2), (1, 2 * n, 2)]
        gate, up = (g.op("Slice", h, g.const([a]), g.const([b]), g.const([-1]), g.const([c]))
                    for a, b, c in parts)
        return g.op("MatMul", g.op("Mul", self.activated(g, gate), up), of(self.down))

    def model(self):
        g = Graph(np.random.default_rng(0))
        g.inputs.append(("x", F32, ["T", self.width]) if self.tables is None
                        else ("x", I64, ["T"]))
        x = self.normalised(g, self.fetched(g, "x"))
        idx, w = self.routed(g, x)
        if self.form == "gathered":
            rows = g.unsqueeze(x, 1, 2)
            y = self.expert(g, rows, lambda a: g.op("Gather", g.const(a), idx, axis=0))
            y = g.sum(g.op("Mul", g.squeeze(y, 2), g.unsqueeze(w, -1)), 1)
        else:
            y = getattr(self, self.form)(g, x, idx, w)
        g.outputs.append((y, F32, [None, self.width]))
        return g.model()

    def dense(self, g, x, idx, w):
        hot = g.op("OneHot", idx, g.const(np.int64(self.experts)), g.const(np.array([0., 1.])),
                   axis=-1)
        gates = g.sum(g.op("Mul", hot, g.unsqueeze(w, -1)), 1)
        total = None
        for e in range(self.experts):
            y = self.expert(g, x, lambda a, e=e: g.const(a[e]))
            y = g.op("Mul", y, g.slice(gates, e, e + 1, 1))
            total = y if total is None else g.op("Add", total, y)
        return total

    def loop(self, g, x, idx, w):
        total = g.op("Mul", x, g.const(np.float32(0)))
        for e in range(self.experts):
            place = g.op("NonZero", g.op("Equal", idx, g.const(np.int64(e))))
            token = g.op("Gather", place, g.const(np.int64(0)), axis=0)
            place = g.op("Transpose", place, perm=[1, 0])
            y = self.expert(g, g.op("Gather", x, token), lambda a, e=e: g.const(a[e]))
            y = g.op("Mul", y, g.unsqueeze(g.op("GatherND", w, place), 1))
            total = g.op("ScatterND", total, g.unsqueeze(token, 1), y, reduction="add")
        return total

    # In NumPy.

    def selected(self, x):
        """Numbers of experts, and their weights. f32, so that ties are ties."""
        z = x @ self.gate
        if self.bias is not None:
            z = z + self.bias
        if self.mask is not None:
            z = np.where(self.mask, np.float32(self.fill), z)
        z = z.astype(np.float32)
        with np.errstate(over="ignore"):
            scores = {"softmax": softmax, "none": lambda z: z,
                      "sigmoid": lambda z: np.float32(1) / (np.float32(1) + np.exp(-z))}[
                          self.score](z)
        choice = scores if self.select is None else scores + self.select
        if self.groups is not None:
            count, kept = self.groups
            split = choice.reshape(len(x), count, -1)
            best = np.argsort(-split.max(axis=2), axis=1, kind="stable")[:, :kept]
            allowed = np.zeros((len(x), count, 1), bool)
            np.put_along_axis(allowed, best[:, :, None], True, 1)
            choice = np.where(allowed, split, -np.inf).reshape(len(x), -1)
        idx = np.argsort(-choice, axis=1, kind="stable")[:, :self.k]
        w = np.take_along_axis(scores, idx, 1).astype(np.float64)
        if self.score == "none":
            w = softmax(w)
        elif self.renorm:
            w = w / w.sum(axis=1, keepdims=True)
        return idx, w

    def looked_up(self, numbers):
        if self.tables is None:
            return numbers
        x = self.tables[0][numbers]
        if self.source == "two":
            x = x + self.tables[1][numbers]
        elif self.source == "other":
            x = x + self.tables[1][-1 - numbers]
        elif self.source == "before":
            x = x + np.concatenate([x[:1], x[:-1]])
        elif self.source == "pairs":
            x = (x[None] + x[:, None]).reshape(-1, self.width)
        elif self.source == "mean":
            x = x + x.mean(axis=0)
        elif self.source == "tanh":
            x = np.tanh(x.astype(np.float64) @ self.tables[1])
        return x

    def rows(self, x):
        """What the router and the experts get."""
        x = self.looked_up(x).astype(np.float64)
        if self.norm is not None:
            if self.norm == "layer":
                x = x - x.mean(axis=1, keepdims=True)
            epsilon = 1e-5 if self.norm == "layer" else 1e-6
            x = x / np.sqrt((x * x).mean(axis=1, keepdims=True) + epsilon) * self.gamma
        return x.astype(np.float32)

    def reference(self, x):
        x = self.rows(x).astype(np.float64)
        idx, w = self.selected(x.astype(np.float32))
        y = np.zeros_like(x)
        for t, slot in np.ndindex(idx.shape):
            e = idx[t, slot]
            h = x[t] @ self.up[e]
            if self.up_bias is not None:
                h = h + self.up_bias[e]
            h = np.maximum(h, 0) if self.act == "relu" else h / (1 + np.exp(-np.clip(h, -500, 500)))
            if self.gated is not None:
                h = h * (x[t] @ self.gated[e])
            f = h @ self.down[e]
            if self.down_bias is not None:
                f = f + self.down_bias[e]
            y[t] += w[t, slot] * f
        return y
