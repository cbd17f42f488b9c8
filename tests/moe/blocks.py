"""Routers and experts that layers.py puts together.

Each function builds one spelling; which one is drawn by the graph's generator.
Rows x[T, D]; a router gives the experts of a token, idx i64[T, k], and their
weights, w f32[T, k].
"""
import numpy as np

from graph import BOOL, F32, WIDTH

D = H = WIDTH  # unless the graph says otherwise; equal: an expert may be the identity

# ---- Routers ------------------------------------------------------------------


def logits(g, x, n_experts, scale=1.5):
    """Scores [T, E] by one of three spellings of a linear layer."""
    w = g.random(g.width, n_experts, scale=scale)
    b = g.random(n_experts)
    spelling = g.pick("matmul", "gemm", "bias")
    if spelling == "gemm":
        return g.op("Gemm", x, g.const(np.ascontiguousarray(w.T)), transB=1)
    scores = g.op("MatMul", x, g.const(w))
    return scores if spelling == "matmul" else g.op("Add", scores, g.const(b))


def topk(g, scores, k, **attributes):
    return g.op("TopK", scores, g.const([k]), n_out=2, axis=-1, **attributes)


def renormalised(g, w):
    total = g.sum(w, -1, keepdims=1)
    spelling = g.pick("plain", "epsilon", "clip")
    if spelling == "epsilon":
        total = g.op("Add", total, g.const(np.float32(1e-6)))
    if spelling == "clip":
        total = g.op("Clip", total, g.const(np.float32(1e-9)))
    return g.op("Div", w, total)


def softmax_topk(g, x, e, k):
    w, idx = topk(g, g.op("Softmax", logits(g, x, e), axis=-1), k)
    return idx, w


def softmax_topk_renormalised(g, x, e, k):
    idx, w = softmax_topk(g, x, e, k)
    return idx, renormalised(g, w)


def topk_softmax(g, x, e, k):
    values, idx = topk(g, logits(g, x, e), k)
    return idx, g.op("Softmax", values, axis=-1)


def topk_of_logits(g, x, e, k):
    """Chosen by logits, weighed by the softmax over all experts."""
    scores = logits(g, x, e)
    _, idx = topk(g, scores, k, sorted=0)
    return idx, g.op("GatherElements", g.op("Softmax", scores, axis=-1), idx, axis=1)


def sigmoid_bias(g, x, e, k):
    """A bias takes part in the choice alone."""
    scores = g.op("Sigmoid", logits(g, x, e))
    _, idx = topk(g, g.op("Add", scores, g.const(g.random(e, scale=0.2))), k)
    w = renormalised(g, g.op("GatherElements", scores, idx, axis=1))
    return idx, g.op("Mul", w, g.const(np.float32(2.5)))


def argmax(g, x, e, k):
    scores = g.op("Softmax", logits(g, x, e), axis=-1)
    return g.op("ArgMax", scores, axis=-1, keepdims=1), g.max(scores, -1, keepdims=1)


def temperature(g, x, e, k):
    scores = g.op("Div", logits(g, x, e), g.const(np.float32(0.7)))
    w, idx = topk(g, g.op("Softmax", scores, axis=-1), k)
    return idx, w


def groups(g, x, e, k):
    """Experts of the better half of the groups only."""
    n = e // 2 if e // 2 >= 2 else 2
    scores = g.op("Sigmoid", logits(g, x, e))
    best = g.max(g.reshape(scores, -1, n, e // n), -1)
    _, kept = topk(g, best, n // 2)
    ones = g.op("ConstantOfShape", g.op("Shape", kept),
                value=one_of(np.float32))
    mask = g.op("ScatterElements", g.op("Mul", best, g.const(np.float32(0))), kept, ones, axis=1)
    mask = g.op("Expand", g.unsqueeze(mask, -1), g.const([1, n, e // n]))
    mask = g.cast(g.reshape(mask, -1, e), BOOL)
    fill = np.float32(g.pick(-np.inf, 0.0))
    _, idx = topk(g, g.op("Where", mask, scores, g.const(fill)), k)
    return idx, renormalised(g, g.op("GatherElements", scores, idx, axis=1))


def one_of(dtype):
    from onnx import numpy_helper
    return numpy_helper.from_array(np.ones(1, dtype))


ROUTERS = {f.__name__: f for f in (
    softmax_topk, softmax_topk_renormalised, topk_softmax, topk_of_logits, sigmoid_bias, argmax,
    temperature, groups)}

# ---- Experts ------------------------------------------------------------------


def silu(g, x):
    return g.op("Mul", x, g.op("Sigmoid", x))


def gelu(g, x):
    inner = g.op("Erf", g.op("Div", x, g.const(np.float32(np.sqrt(2)))))
    outer = g.op("Mul", x, g.op("Add", inner, g.const(np.float32(1))))
    return g.op("Mul", outer, g.const(np.float32(0.5)))


def gelu_tanh(g, x):
    cube = g.op("Mul", g.op("Mul", g.op("Mul", x, x), x), g.const(np.float32(0.044715)))
    inner = g.op("Mul", g.op("Add", x, cube), g.const(np.float32(np.sqrt(2 / np.pi))))
    outer = g.op("Add", g.op("Tanh", inner), g.const(np.float32(1)))
    return g.op("Mul", g.op("Mul", x, g.const(np.float32(0.5))), outer)


def relu(g, x):
    return g.op("Relu", x)


def relu2(g, x):
    y = g.op("Relu", x)
    return g.op("Mul", y, y)


ACTIVATIONS = {f.__name__: f for f in (silu, gelu, gelu_tanh, relu, relu2)}

# Weights of an expert by name; 1-D ones are biases, added behind the row axis. D and
# H are the width of rows that come and go, F the width inside, G twice that.
WEIGHTS = {
    "mlp": {"up": "DF", "down": "FH"},
    "mlp_bias": {"up": "DF", "up_b": "F", "down": "FH", "down_b": "H"},
    "gated": {"gate": "DF", "up": "DF", "down": "FH"},
    "gated_bias": {"gate": "DF", "gate_b": "F", "up": "DF", "up_b": "F", "down": "FH",
                   "down_b": "H"},
    "fused": {"both": "DG", "down": "FH"},
    "interleaved": {"both": "DG", "both_b": "G", "down": "FH", "down_b": "H"},
    "low_rank": {"a": "D3", "b": "3F", "down": "FH"},
    "linear": {"down": "DH"},
    "adapter": {"up": "D2", "down": "2H"},
}
MIXED = ("mlp", "identity", "linear", "zero", "gated_bias")


def body(g, kind, act, x, get):
    """What an expert computes; get(name) gives a weight as the form needs it."""
    def product(v, name):
        y = g.op("MatMul", v, get(name))
        return g.op("Add", y, get(name + "_b")) if name + "_b" in WEIGHTS[kind] else y

    activation = ACTIVATIONS[act]
    if kind == "identity":
        return g.op("Identity", x)
    if kind == "zero":
        return g.op("Mul", x, g.const(np.float32(0)))
    if kind == "linear":
        return product(x, "down")
    if kind in ("mlp", "mlp_bias"):
        hidden = activation(g, product(x, "up"))
    elif kind == "low_rank":
        hidden = activation(g, product(product(x, "a"), "b"))
    elif kind == "adapter":
        return g.op("Add", x, product(activation(g, product(x, "up")), "down"))
    elif kind in ("gated", "gated_bias"):
        hidden = g.op("Mul", activation(g, product(x, "gate")), product(x, "up"))
    elif kind == "fused":
        gate, up = g.op("Split", product(x, "both"), n_out=2, axis=-1, num_outputs=2)
        hidden = g.op("Mul", activation(g, gate), up)
    else:
        both = product(x, "both")
        ends = (g.const([2**62]), g.const([-1]), g.const([2]))
        gate = g.op("Slice", both, g.const([0]), *ends)
        up = g.op("Slice", both, g.const([1]), *ends)
        limit = g.const(np.float32(1.5))
        gate = g.op("Min", gate, limit)
        up = g.op("Clip", up, g.const(np.float32(-1.5)), limit)
        gate = g.op("Mul", gate, g.op("Sigmoid", g.op("Mul", gate, g.const(np.float32(1.702)))))
        hidden = g.op("Mul", gate, g.op("Add", up, g.const(np.float32(1))))
    return product(hidden, "down")


class Experts:
    """Weights of E experts, each on its own or as banks [E, ..]."""

    def __init__(self, g, kind, act, n):
        self.g, self.act, self.n = g, act, n
        self.kinds = [MIXED[e % len(MIXED)] for e in range(n)] if kind == "mixed" else [kind] * n
        self.stacked = g.pick(True, False) and kind != "mixed"
        sizes = {"D": g.width, "H": g.width, "F": g.inside, "G": 2 * g.inside, "2": 2, "3": 3}
        self.weights = [{name: g.random(*(sizes[letter] for letter in shape))
                         for name, shape in WEIGHTS.get(k, {}).items()}
                        for k in self.kinds]

    def bank(self, name):
        return np.stack([w[name] for w in self.weights])

    def call(self, e, x, mutate=None):
        """Expert e on rows [n, D]."""
        g = self.g

        def get(name):
            if not self.stacked:
                return g.const(self.weights[e][name])
            return g.op("Gather", g.const(self.bank(name)), g.const(np.int64(e)), axis=0)

        y = body(g, self.kinds[e], self.act, x, get)
        # Of the results: what comes before is a value of the token like any other.
        if mutate == "mean" or (mutate == "mean_of_one" and e == 1):
            y = g.op("Sub", y, g.op("ReduceMean", y, g.const([0]), keepdims=1))
        if mutate == "softmax" or (mutate == "softmax_of_one" and e == 1):
            y = g.op("Softmax", y, axis=0)
        return y

    def call_all(self, x):
        """All experts on x[1, T, D] or [E, n, D]: [E, T, H]."""
        def get(name):
            bank = self.bank(name)
            return self.g.const(bank[:, None] if bank.ndim == 2 else bank)
        return body(self.g, self.kinds[0], self.act, x, get)

    def call_gathered(self, x, idx, by_nd):
        """Expert idx[i..] on x[i.., 1, D]: weights are gathered."""
        g = self.g

        def get(name):
            bank = self.bank(name)
            bank = g.const(bank[:, None] if bank.ndim == 2 else bank)
            if by_nd:
                return g.op("GatherND", bank, g.unsqueeze(idx, -1))
            return g.op("Gather", bank, idx, axis=0)
        return body(g, self.kinds[0], self.act, x, get)
