#!/usr/bin/env python3
"""Generate the `classic_*` model cases: MoE layers of the research literature, odd control-flow forms, and negatives.

    python make_classic.py --out DIR [--only SUBSTRING]

Each case becomes DIR/<name>/{model.onnx, case.json, test_data_set_<i>/{input,output}_<j>.pb}.
Reference outputs are computed by the eager torch module in float64 and rounded to float32; they never come
from the exported graph.
"""
import argparse
import collections
import copy
import dataclasses
import json
import logging
import os
import shutil
import warnings
import zlib
from typing import Any, Callable

import numpy as np
import onnx
import onnx.parser
import onnxruntime as ort
import torch
import torch.nn.functional as F
from onnx import numpy_helper
from torch import nn

warnings.filterwarnings("ignore")
logging.disable(logging.WARNING)
torch.set_num_threads(1)
ort.set_default_logger_severity(4)

H, I, E, K = 32, 48, 8, 2
TOKENS = [(1,), (3,), (17,), (40,)]
BATCHES = [(1, 1), (1, 3), (2, 17), (3, 9)]


# ---------------------------------------------------------------- case description and registry

@dataclasses.dataclass
class Case:
    form: str                                   # letter of the list of forms in moe-in-onnx.md
    why: str
    model: nn.Module | None = None              # exported; eager float64 run is the reference
    proto: onnx.ModelProto | None = None        # hand-built graph instead of an exported module
    ref: Any = None                             # reference module when it is not `model`
    inputs: Callable = None                     # (generator, *size) -> tuple of tensors
    sizes: list = dataclasses.field(default_factory=lambda: TOKENS)
    dims: list = dataclasses.field(default_factory=lambda: [{0: "T"}])      # dynamic axes of each input
    names: list = dataclasses.field(default_factory=lambda: ["x"])
    outputs: list = dataclasses.field(default_factory=lambda: ["y"])
    layers: list = dataclasses.field(default_factory=list)
    expect: str = "recognise"
    via: tuple = ("ts",)                        # exporters: "ts" (dynamo=False), "dynamo" (dynamo=True)
    opset: dict = dataclasses.field(default_factory=dict)
    coverage: bool = True                       # insist that every expert is hit by some data set
    sparsify: bool | None = None                # False: dense by definition, skipping an expert would be wrong
    family: str = "classic"
    source: str = ""
    reference: str = ""
    example: int = 2                            # data set that the exporter traces with
    rtol: float = 1e-4
    atol: float = 1e-5


CASES = {}


def case(fn):
    CASES[fn.__name__] = fn
    return fn


# ---------------------------------------------------------------- routing log, used in eager runs only

ROUTES = None


def seen(owner, idx, mask=None):
    """Note which experts `owner` chose (idx: any shape; mask: which entries count). No-op while exporting."""
    if ROUTES is not None:
        ROUTES.setdefault(id(owner), set()).update((idx if mask is None else idx[mask]).reshape(-1).tolist())


# ---------------------------------------------------------------- export, reference, data sets

def init(model, name, std=0.2, router=1.0):
    """Seeded N(0, std) weights; `router` scales the router so that choices spread."""
    g = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    with torch.no_grad():
        for key, p in model.named_parameters():
            if "norm" in key and p.dim() == 1:
                p.copy_(1 + 0.1 * torch.randn(p.shape, generator=g))
            else:
                p.copy_(torch.randn(p.shape, generator=g) * (std if p.dim() > 1 else 0.1))
            if "router" in key:
                p.mul_(router)
    return model.eval()


def export(c, exporter, args):
    if exporter == "ts":
        import io
        f = io.BytesIO()
        axes = {n: d for n, d in zip(c.names, c.dims) if d}
        torch.onnx.export(c.model, args, f, dynamo=False, opset_version=c.opset.get("ts", 17), input_names=c.names,
                          output_names=c.outputs, dynamic_axes=axes)
        m = onnx.load_from_string(f.getvalue())
    else:
        known = {}
        shapes = tuple({a: known.setdefault(n, torch.export.Dim(n)) for a, n in d.items()} if d else None for d in c.dims)
        kw = dict(dynamo=True, opset_version=c.opset.get("dynamo", 20), input_names=c.names, output_names=c.outputs,
                  external_data=False, verbose=False)
        try:
            p = torch.onnx.export(c.model, args, dynamic_shapes=shapes, **kw)
        except Exception:
            shapes = tuple({a: torch.export.Dim.DYNAMIC for a in d} if d else None for d in c.dims)
            p = torch.onnx.export(c.model, args, dynamic_shapes=shapes, **kw)
        m = p.model_proto
    return strip(m)


def strip(m):
    """Drop debugging text (stack traces with local paths) that exporters put on nodes."""
    def graph(g):
        del g.metadata_props[:]
        for n in g.node:
            n.doc_string = ""
            del n.metadata_props[:]
            for a in n.attribute:
                for s in [a.g] if a.HasField("g") else a.graphs:
                    graph(s)
        for v in list(g.value_info) + list(g.input) + list(g.output):
            del v.metadata_props[:]
            v.doc_string = ""
        for t in g.initializer:
            t.doc_string = ""
            del t.metadata_props[:]
    graph(m.graph)
    for f in m.functions:
        del f.metadata_props[:]
        f.doc_string = ""
        for n in f.node:
            n.doc_string = ""
            del n.metadata_props[:]
            for a in n.attribute:
                for s in [a.g] if a.HasField("g") else a.graphs:
                    graph(s)
    del m.metadata_props[:]
    m.doc_string = ""
    return m


def histogram(m):
    count = collections.Counter()

    def nodes(ns):
        for n in ns:
            count[(n.domain or "ai.onnx") + "::" + n.op_type] += 1
            for a in n.attribute:
                for s in [a.g] if a.HasField("g") else a.graphs:
                    nodes(s.node)
    nodes(m.graph.node)
    for f in m.functions:
        nodes(f.node)
    return dict(sorted(count.items()))


def run_ref(ref, args):
    with torch.no_grad():
        y = ref(*[a.double() if a.is_floating_point() else a for a in args])
    y = y if isinstance(y, (tuple, list)) else (y,)
    return [t.float().numpy() if t.is_floating_point() else t.numpy() for t in y]


def close(c, a, b, share=1.0):
    return all(x.shape == y.shape and bool(np.all(np.abs(x - y) <= share * (c.atol + c.rtol * np.abs(y)))) for x, y in zip(a, b))


def make_data(c, ref, name):
    """Inputs and outputs of every data set; retries seeds until experts are covered and routing is away from ties."""
    global ROUTES
    problem = ""
    for seed in range(200):
        g = torch.Generator().manual_seed(zlib.crc32(name.encode()) + seed)
        sets, hits, problem = [], [], ""
        for size in c.sizes:
            args = c.inputs(g, *size)
            ROUTES = {}
            out = run_ref(ref, args)
            hits.append(ROUTES)
            ROUTES = None
            noisy = [a * (1 + 1e-6 * torch.randn(a.shape, generator=g, dtype=torch.float64)).float() if a.is_floating_point() else a
                     for a in args]
            if not close(c, run_ref(ref, noisy), out, 0.5):
                problem = "unstable"
            sets.append((args, out))
        total = {}
        for h in hits:
            for key, s in h.items():
                total.setdefault(key, set()).update(s)
        want = c.layers[0]["experts"] if c.layers else 0
        if c.coverage and want and (not total or any(len(s) < want for s in total.values())):
            problem = problem or f"experts hit: {[len(s) for s in total.values()]} of {want}"
        if not problem:
            return sets, [len(s) for key, s in total.items() if key != "dropped"]
    raise RuntimeError(f"{name}: {problem}")


def write(root, name, c, m, exporter, sets, hit):
    onnx.checker.check_model(m, full_check=False)
    d = os.path.join(root, name)
    shutil.rmtree(d, ignore_errors=True)
    os.makedirs(d)
    blob = m.SerializeToString()
    with open(os.path.join(d, "model.onnx"), "wb") as f:
        f.write(blob)
    names_in, names_out = [v.name for v in m.graph.input], [v.name for v in m.graph.output]
    res, worst, rel = {"runs": True, "max_abs_err": 0.0, "max_rel_err": 0.0}, 0.0, 0.0
    try:
        opt = ort.SessionOptions()
        opt.intra_op_num_threads = 1
        sess = ort.InferenceSession(blob, opt, providers=["CPUExecutionProvider"])
    except Exception as ex:
        res, sess = {"runs": False, "error": str(ex)[:300]}, None
    agree = True
    for i, (args, outs) in enumerate(sets):
        s = os.path.join(d, f"test_data_set_{i}")
        os.makedirs(s)
        for j, (n, a) in enumerate(zip(names_in, args)):
            with open(os.path.join(s, f"input_{j}.pb"), "wb") as f:
                f.write(numpy_helper.from_array(a.numpy(), n).SerializeToString())
        for j, (n, a) in enumerate(zip(names_out, outs)):
            with open(os.path.join(s, f"output_{j}.pb"), "wb") as f:
                f.write(numpy_helper.from_array(a, n).SerializeToString())
        if sess:
            try:
                got = sess.run(None, {n: a.numpy() for n, a in zip(names_in, args)})
            except Exception as ex:
                res, sess = {"runs": False, "error": f"set {i}: {str(ex)[:300]}"}, None
                continue
            agree &= close(c, got, outs, 1 / 3)
            for x, y in zip(got, outs):
                if x.shape == y.shape and y.size:
                    worst = max(worst, float(np.abs(x - y).max()))
                    rel = max(rel, float((np.abs(x - y) / (np.abs(y) + 1e-3)).max()))
    if sess:
        res.update(max_abs_err=worst, max_rel_err=rel)
    src = c.source or (f"torch {torch.__version__}, {type(c.model).__name__}" if c.model is not None else f"onnx {onnx.__version__}, hand-built")
    if exporter == "ts":
        src += ", torch.onnx.export(dynamo=False)"
    elif exporter == "dynamo":
        src += ", torch.onnx.export(dynamo=True)"
    opset = {o.domain or "ai.onnx": o.version for o in m.opset_import}
    info = {
        "name": name, "family": c.family, "form": c.form, "source": f"{src}, opset {opset.get('ai.onnx')}",
        "moe_layers": c.layers, "expect": c.expect, "why": c.why,
        "reference": c.reference or ("eager torch module" if c.proto is None else "torch module written apart from the graph") + ", float64, rounded to float32",
        "rtol": c.rtol, "atol": c.atol,
        "experts_hit": hit, "ort": res, "ops": histogram(m), "opset": opset, "ir_version": m.ir_version,
        "nodes": sum(histogram(m).values()), "bytes": len(blob)}
    if c.sparsify is not None:
        info["sparsify"] = c.sparsify
    with open(os.path.join(d, "case.json"), "w") as f:
        json.dump(info, f, indent=1)
        f.write("\n")
    state = "ok" if sess and agree else ("ORT DISAGREES" if sess else "ORT cannot run: " + res["error"][:150])
    print(f"{name:46s} {info['nodes']:5d} nodes {len(blob):8d} B  err {worst:.1e}  hit {hit}  {state}", flush=True)


def build(root, prefix, name, fn):
    c = fn()
    ref = c.ref if c.ref is not None else c.model
    if isinstance(ref, nn.Module):
        ref = copy.deepcopy(ref).double()
    sets, hit = make_data(c, ref, name)
    if c.proto is not None:
        write(root, f"{prefix}_{name}", c, c.proto, "onnx", sets, hit)
        return
    for exporter in c.via:
        full = f"{prefix}_{name}_{exporter}"
        try:
            m = export(c, exporter, sets[c.example][0])
        except Exception as ex:
            print(f"{full:46s} EXPORT FAILED: {type(ex).__name__}: {str(ex)[:600]}", flush=True)
            continue
        write(root, full, c, m, exporter, sets, hit)


def main(prefix, default_out):
    p = argparse.ArgumentParser()
    p.add_argument("--out", default=default_out)
    p.add_argument("--only", default="")
    a = p.parse_args()
    for name, fn in CASES.items():
        if a.only in name:
            try:
                build(a.out, prefix, name, fn)
            except Exception as ex:
                print(f"{name}: FAILED: {type(ex).__name__}: {str(ex)[:500]}", flush=True)


def tokens(h=H):
    return lambda g, t: (torch.randn(t, h, generator=g),)


def sequences(h=H):
    return lambda g, b, s: (torch.randn(b, s, h, generator=g),)


BS = dict(inputs=sequences(), sizes=BATCHES, dims=[{0: "B", 1: "S"}])


# ---------------------------------------------------------------- building blocks

class MLP(nn.Module):
    def __init__(self, h=H, i=I, act=F.relu, bias=True):
        super().__init__()
        self.up, self.down, self.act = nn.Linear(h, i, bias=bias), nn.Linear(i, h, bias=bias), act

    def forward(self, x):
        return self.down(self.act(self.up(x)))


class GatedMLP(nn.Module):
    def __init__(self, h=H, i=I, act=F.silu):
        super().__init__()
        self.gate, self.up, self.down = (nn.Linear(a, b, bias=False) for a, b in [(h, i), (h, i), (i, h)])
        self.act = act

    def forward(self, x):
        return self.down(self.act(self.gate(x)) * self.up(x))


class RMSNorm(nn.Module):
    def __init__(self, h=H):
        super().__init__()
        self.norm_weight = nn.Parameter(torch.ones(h))

    def forward(self, x):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * self.norm_weight


class Residual(nn.Module):
    """x + block(norm(x)) for each block: the shape of a transformer without attention."""
    def __init__(self, *blocks, h=H):
        super().__init__()
        self.norms, self.blocks = nn.ModuleList([RMSNorm(h) for _ in blocks]), nn.ModuleList(blocks)

    def forward(self, x):
        for n, b in zip(self.norms, self.blocks):
            x = x + b(n(x))
        return x


def dense_gates(owner, logits, k):
    """Softmax over the k best logits (k = 1: over all, or the weight would always be 1), scattered into zeros [T,E]."""
    v, idx = torch.topk(logits if k > 1 else torch.softmax(logits, -1), k, dim=-1)
    seen(owner, idx)
    return torch.zeros_like(logits).scatter(-1, idx, torch.softmax(v, -1) if k > 1 else v)


def layer(n=E, k=K, note=""):
    return {"experts": n, "k": k, "note": note}


# ---------------------------------------------------------------- 1 noisy top-k gating

class NoisyTopKDispatch(nn.Module):
    """Shazeer et al. 2017, evaluation path: w_noise exists but is unused; each expert runs on the rows that chose it."""
    def __init__(self):
        super().__init__()
        self.w_gate, self.w_noise = nn.Parameter(torch.zeros(H, E)), nn.Parameter(torch.zeros(H, E))
        self.experts = nn.ModuleList([MLP() for _ in range(E)])

    def forward(self, x):
        logits = x @ self.w_gate
        if self.training:
            logits = logits + torch.randn_like(logits) * F.softplus(x @ self.w_noise)
        gates = dense_gates(self, logits, K)
        y = torch.zeros_like(x)
        for e, f in enumerate(self.experts):
            rows = (gates[:, e] > 0).nonzero().squeeze(1)
            y = y.index_add(0, rows, f(x[rows]) * gates[rows, e].unsqueeze(1))
        return y


class NoisyTopKEinsum(nn.Module):
    def __init__(self):
        super().__init__()
        self.w_gate, self.w_noise = nn.Parameter(torch.zeros(H, E)), nn.Parameter(torch.zeros(H, E))
        self.w1, self.w2 = nn.Parameter(torch.zeros(E, H, I)), nn.Parameter(torch.zeros(E, I, H))

    def forward(self, x):
        gates = dense_gates(self, x @ self.w_gate, K)
        h = F.relu(torch.einsum("td,edh->teh", x, self.w1))
        return torch.einsum("ted,te->td", torch.einsum("teh,ehd->ted", h, self.w2), gates)


@case
def noisy_topk_dispatch():
    return Case("b5", "Dispatch by NonZero of a gate column and index_add back: sparse already, but rows are found E times; one sort of the routes does it",
                model=init(Residual(NoisyTopKDispatch(), NoisyTopKDispatch()), "noisy1"), inputs=tokens(), via=("ts", "dynamo"),
                layers=[layer(), layer()])


@case
def noisy_topk_einsum():
    return Case("d3", "All experts through Einsum with weights that are exactly zero off the top-k: a compiler gains E/k by running the chosen experts only",
                model=init(Residual(NoisyTopKEinsum(), NoisyTopKEinsum()), "noisy2"), inputs=tokens(), via=("ts", "dynamo"),
                layers=[layer(), layer()])


# ---------------------------------------------------------------- 2 capacity: Switch, GShard

class SwitchCapacity(nn.Module):
    """Top-1; position inside the expert's buffer by CumSum; tokens beyond the capacity are dropped (output 0)."""
    def __init__(self):
        super().__init__()
        self.router = nn.Linear(H, E, bias=False)
        self.w1, self.w2 = nn.Parameter(torch.zeros(E, H, I)), nn.Parameter(torch.zeros(E, I, H))

    def forward(self, x):
        t = x.shape[0]
        cap = (5 * t) // (4 * E) + 1                                     # capacity factor 1.25
        p, e = torch.softmax(self.router(x), -1).max(-1)
        onehot = F.one_hot(e, E)
        pos = ((torch.cumsum(onehot, 0) - 1) * onehot).sum(-1)
        keep = pos < cap
        seen(self, e, keep)
        if ROUTES is not None:
            ROUTES.setdefault("dropped", set()).update(range(E) if not keep.all() else [])
        slot = torch.where(keep, e * cap + pos, torch.zeros_like(e))
        rows = x * keep.unsqueeze(1).to(x.dtype)
        buf = torch.zeros(E * cap, H, dtype=x.dtype).scatter_add(0, slot.unsqueeze(1).expand(-1, H), rows).view(E, -1, H)
        out = torch.bmm(F.relu(torch.bmm(buf, self.w1)), self.w2).view(-1, H)
        return out[slot] * (p * keep.to(x.dtype)).unsqueeze(1)


class GShardTop2(nn.Module):
    """Top-2 with dispatch and combine tensors [T,E,C]; first choices fill the buffers before second choices."""
    def __init__(self):
        super().__init__()
        self.router = nn.Linear(H, E, bias=False)
        self.w1, self.w2 = nn.Parameter(torch.zeros(E, H, I)), nn.Parameter(torch.zeros(E, I, H))

    def forward(self, x):
        t = x.shape[0]
        cap = (2 * t) // E + 1
        p = torch.softmax(self.router(x), -1)
        e1 = p.argmax(-1)
        m1 = F.one_hot(e1, E).to(x.dtype)
        e2 = (p * (1 - m1)).argmax(-1)
        m2 = F.one_hot(e2, E).to(x.dtype)
        pos1 = torch.cumsum(m1, 0) * m1 - m1
        pos2 = (torch.cumsum(m2, 0) - 1 + m1.sum(0, keepdim=True)) * m2
        k1, k2 = m1 * (pos1 < cap), m2 * (pos2 < cap)
        seen(self, torch.cat([e1, e2]), torch.cat([k1, k2]).sum(-1) > 0)
        if ROUTES is not None:
            ROUTES.setdefault("dropped", set()).update(range(E) if k2.sum() < t else [])
        g1, g2 = (p * m1).sum(-1), (p * m2).sum(-1)
        s = g1 + g2 + 1e-9
        slots = torch.arange(cap).to(x.dtype)
        place = lambda g, keep, pos: (g / s)[:, None, None] * keep[:, :, None] * (pos.sum(-1)[:, None, None] == slots)
        combine = place(g1, k1, pos1) + place(g2, k2, pos2)
        dispatch = (combine > 0).to(x.dtype)
        buf = torch.einsum("tec,td->ecd", dispatch, x)
        out = torch.einsum("ech,ehd->ecd", F.relu(torch.einsum("ecd,edh->ech", buf, self.w1)), self.w2)
        return torch.einsum("tec,ecd->td", combine, out)


@case
def switch_capacity():
    return Case("e2", "Top-1 with capacity: which tokens are dropped depends on token order, so the CumSum must be kept; the padded buffers need not be computed",
                model=init(SwitchCapacity(), "switch"), inputs=tokens(), via=("ts", "dynamo"), layers=[layer(E, 1, "capacity 5T/(4E)+1, drops")])


@case
def gshard_top2():
    return Case("e1", "Dispatch and combine einsums of cost T*E*C*H: a compiler can replace them with indexed copies; drops must be kept",
                model=init(GShardTop2(), "gshard"), inputs=tokens(), via=("ts", "dynamo"), layers=[layer(E, 2, "capacity 2T/E+1, drops")])


# ---------------------------------------------------------------- 3 two-level hierarchical MoE

G, M = 3, 4                                                              # groups, experts of a group


class HierarchicalDense(nn.Module):
    def __init__(self):
        super().__init__()
        self.outer, self.inner = nn.Linear(H, G), nn.Linear(H, G * M)
        self.experts = nn.ModuleList([MLP() for _ in range(G * M)])

    def forward(self, x):
        outer = dense_gates(object(), self.outer(x), 2)
        v, i = torch.topk(self.inner(x).reshape(-1, G, M), 2, dim=-1)
        inner = torch.zeros(x.shape[0], G, M, dtype=x.dtype).scatter(-1, i, torch.softmax(v, -1))
        w = (outer.unsqueeze(-1) * inner).reshape(-1, G * M)
        seen(self, w.nonzero()[:, 1]) if ROUTES is not None else None
        ROUTES is None or [ROUTES.pop(key) for key in list(ROUTES) if key != id(self)]
        return sum(w[:, e:e + 1] * f(x) for e, f in enumerate(self.experts))


class Inner(nn.Module):
    def __init__(self, n, k):
        super().__init__()
        self.gate, self.experts, self.k = nn.Linear(H, n), nn.ModuleList([MLP() for _ in range(n)]), k

    def forward(self, x):
        gates = dense_gates(self, self.gate(x), self.k)
        y = torch.zeros_like(x)
        for e, f in enumerate(self.experts):
            rows = (gates[:, e] > 0).nonzero().squeeze(1)
            y = y.index_add(0, rows, f(x[rows]) * gates[rows, e].unsqueeze(1))
        return y


class HierarchicalNested(nn.Module):
    """Each outer expert is a whole MoE layer that routes the rows it received."""
    def __init__(self):
        super().__init__()
        self.gate, self.groups = nn.Linear(H, G), nn.ModuleList([Inner(M, 2) for _ in range(G)])

    def forward(self, x):
        gates = dense_gates(object(), self.gate(x), 1)
        y = torch.zeros_like(x)
        for g, f in enumerate(self.groups):
            rows = (gates[:, g] > 0).nonzero().squeeze(1)
            y = y.index_add(0, rows, f(x[rows]) * gates[rows, g].unsqueeze(1))
        return y


@case
def hierarchical_dense():
    return Case("g1", "Two gates multiplied: 4 of 12 weights are non-zero, each a product of two exact zeros-elsewhere tensors; gain 3x",
                model=init(HierarchicalDense(), "hier1"), inputs=tokens(), via=("ts", "dynamo"),
                layers=[layer(G * M, 4, "3 groups, 2 kept; 4 experts each, 2 kept")])


@case
def hierarchical_nested():
    return Case("g1", "MoE inside an expert's region on a data-dependent number of rows (possibly none)",
                model=init(HierarchicalNested(), "hier2"), inputs=tokens(), via=("ts", "dynamo"), coverage=False,
                layers=[layer(G, 1, "outer")] + [layer(M, 2, f"inner of group {g}") for g in range(G)])


# ---------------------------------------------------------------- 4 product-key experts

class ProductKeys(nn.Module):
    """PEER: half-queries against sqrt(E) keys each, outer sum of the two top-k lists, experts are single rows."""
    def __init__(self, n=32, k=4, dk=16):
        super().__init__()
        self.n, self.k, self.dk = n, k, dk
        self.query, self.keys = nn.Linear(H, 2 * dk, bias=False), nn.Parameter(torch.zeros(2, n, dk))
        self.down, self.up = nn.Embedding(n * n, H), nn.Embedding(n * n, H)

    def forward(self, x):
        q = self.query(x).reshape(-1, 2, self.dk)
        s1, i1 = torch.topk(q[:, 0] @ self.keys[0].T, self.k)
        s2, i2 = torch.topk(q[:, 1] @ self.keys[1].T, self.k)
        s = (s1.unsqueeze(2) + s2.unsqueeze(1)).flatten(1)
        ids = (i1.unsqueeze(2) * self.n + i2.unsqueeze(1)).flatten(1)
        v, best = torch.topk(s, self.k)
        ids = ids.gather(1, best)
        seen(self, ids)
        h = F.gelu((self.down(ids) * x.unsqueeze(1)).sum(-1)) * torch.softmax(v, -1)
        return (h.unsqueeze(-1) * self.up(ids)).sum(1)


@case
def product_keys():
    return Case("g4", "1024 rank-1 experts chosen by two half-key top-k: already sparse; gain is a fused gather-dot-axpy without [T,k,H] copies",
                model=init(Residual(ProductKeys()), "peer"), inputs=tokens(), via=("ts", "dynamo"), coverage=False,
                layers=[layer(1024, 4, "product keys 32x32, rank-1 experts")])


# ---------------------------------------------------------------- 5 expert choice, 6 Soft MoE, 7 MMoE

class ExpertChoice(nn.Module):
    """Each expert takes its C best tokens; a token may get none or many experts."""
    def __init__(self):
        super().__init__()
        self.router = nn.Linear(H, E, bias=False)
        self.w1, self.w2 = nn.Parameter(torch.zeros(E, H, I)), nn.Parameter(torch.zeros(E, I, H))

    def forward(self, x):
        cap = (2 * x.shape[0] + E - 1) // E
        s = torch.softmax(self.router(x), -1).transpose(0, 1)
        w, idx = torch.topk(s, cap, dim=1)                               # [E,C] over tokens
        seen(self, torch.arange(E))
        rows = x[idx.reshape(-1)].reshape(E, -1, H)
        out = torch.bmm(F.gelu(torch.bmm(rows, self.w1)), self.w2) * w.unsqueeze(-1)
        to = idx.reshape(-1, 1).expand(-1, H)                            # scatter_add: index_add of duplicates exports wrongly
        return torch.zeros_like(x).scatter_add(0, to, out.reshape(-1, H))


class SoftMoE(nn.Module):
    def __init__(self, slots=2):
        super().__init__()
        self.phi = nn.Parameter(torch.zeros(H, E, slots))
        self.w1, self.w2 = nn.Parameter(torch.zeros(E, H, I)), nn.Parameter(torch.zeros(E, I, H))

    def forward(self, x):
        logits = torch.einsum("bnd,des->bnes", x, self.phi)
        dispatch = torch.softmax(logits, 1)
        combine = torch.softmax(logits.flatten(2), -1).reshape(logits.shape)
        slots = torch.einsum("bnd,bnes->besd", x, dispatch)
        out = torch.einsum("besh,ehd->besd", F.gelu(torch.einsum("besd,edh->besh", slots, self.w1)), self.w2)
        return torch.einsum("besd,bnes->bnd", out, combine)


class MMoE(nn.Module):
    """Multi-gate MoE of recommenders: every task mixes the same six experts with its own softmax; no zeros."""
    def __init__(self, f=20, d=24, n=6):
        super().__init__()
        self.experts = nn.ModuleList([nn.Sequential(nn.Linear(f, I), nn.BatchNorm1d(I), nn.ReLU(), nn.Linear(I, d), nn.ReLU()) for _ in range(n)])
        self.gates = nn.ModuleList([nn.Linear(f, n) for _ in range(2)])
        self.towers = nn.ModuleList([nn.Sequential(nn.Linear(d, 16), nn.ReLU(), nn.Linear(16, 1)) for _ in range(2)])

    def forward(self, x):
        bank = torch.stack([f(x) for f in self.experts], 1)
        return tuple(torch.sigmoid(t((torch.softmax(g(x), -1).unsqueeze(-1) * bank).sum(1))) for g, t in zip(self.gates, self.towers))


@case
def expert_choice():
    return Case("g3", "TopK over tokens: every expert has exactly C rows, a token may get none; TopK's k is computed from T",
                model=init(Residual(ExpertChoice()), "choice"), inputs=tokens(), via=("ts", "dynamo"), layers=[layer(E, 2, "expert choice, C = ceil(2T/E)")])


@case
def soft_moe():
    return Case("d6", "Every slot mixes all tokens and every token mixes all slots: no weight is ever zero, so nothing may be skipped",
                model=init(SoftMoE(), "soft"), **BS, via=("ts", "dynamo"), coverage=False, expect="either", sparsify=False,
                layers=[layer(E, E, "soft: dense only")])


@case
def mmoe():
    return Case("d4", "Two softmax gates over one dense bank: nothing to skip; gain is one GEMM for all experts and one for both gates",
                model=init(MMoE(), "mmoe"), inputs=tokens(20), via=("ts", "dynamo"), coverage=False, expect="either", sparsify=False,
                outputs=["ctr", "cvr"], layers=[layer(6, 6, "task 1"), layer(6, 6, "task 2, same bank")])


# ---------------------------------------------------------------- 8 convolutional experts, routed per image

class ConvExpert(nn.Module):
    def __init__(self, c, kernel):
        super().__init__()
        self.depth = nn.Conv2d(c, c, kernel, padding=kernel // 2, groups=c, bias=False)
        self.point, self.bn = nn.Conv2d(c, c, 1, bias=False), nn.BatchNorm2d(c)

    def forward(self, x):
        return F.silu(self.bn(self.point(self.depth(x))))


class ConvMoE(nn.Module):
    """Vision MoE: one routing decision per image, experts are depthwise-separable convolutions of different kernel size."""
    def __init__(self, k, c=12, kernels=(3, 5, 7, 1)):
        super().__init__()
        self.k, self.router = k, nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(c, 16, 1), nn.SiLU(), nn.Conv2d(16, len(kernels), 1))
        self.experts = nn.ModuleList([ConvExpert(c, n) for n in kernels])

    def forward(self, x):
        w = dense_gates(self, self.router(x).flatten(1), self.k)
        return x + sum(w[:, e].reshape(-1, 1, 1, 1) * f(x) for e, f in enumerate(self.experts))


def images(c):
    return lambda g, n, h, w: (torch.randn(n, c, h, w, generator=g) + torch.randn(n, c, 1, 1, generator=g),)


IMAGE = dict(inputs=images(12), sizes=[(1, 8, 8), (3, 9, 7), (7, 12, 10), (9, 5, 6)], dims=[{0: "N", 2: "h", 3: "w"}])


@case
def conv_top1():
    return Case("d5", "All four conv experts run on every image although one has non-zero weight: gain 4x, by whole images, never by pixels",
                model=init(ConvMoE(1), "conv1", 0.4), **IMAGE, via=("ts", "dynamo"), layers=[layer(4, 1, "kernels 3/5/7/1, per image")])


@case
def conv_top2():
    return Case("d5", "Two such layers, two of four conv experts per image: rows of the bank are whole images of dynamic height and width",
                model=init(nn.Sequential(ConvMoE(2), ConvMoE(2)), "conv2", 0.4), **IMAGE, layers=[layer(4, 2, "kernels 3/5/7/1, per image")] * 2)


# ---------------------------------------------------------------- 9 experts of different architectures

class Zero(nn.Module):
    def forward(self, x):
        return torch.zeros_like(x)


def zoo():
    return nn.ModuleList([nn.Linear(H, H), MLP(act=torch.tanh), nn.Identity(), GatedMLP(i=40), Zero()])


class MixedDispatch(nn.Module):
    def __init__(self):
        super().__init__()
        self.gate, self.experts = nn.Linear(H, 5), zoo()

    def forward(self, x):
        w, idx = torch.topk(torch.softmax(self.gate(x), -1), 2)
        seen(self, idx)
        y = torch.zeros_like(x)
        for e, f in enumerate(self.experts):
            row, slot = torch.where(idx == e)
            y = y.index_add(0, row, f(x[row]) * w[row, slot].unsqueeze(1))
        return y


class MixedDense(MixedDispatch):
    def forward(self, x):
        gates = dense_gates(self, self.gate(x), 2)
        return sum(gates[:, e:e + 1] * f(x) for e, f in enumerate(self.experts))


@case
def mixed_dispatch():
    return Case("g6", "Experts are linear, tanh MLP, identity, gated MLP and zero: bodies cannot be stacked; identity and zero cost nothing",
                model=init(MixedDispatch(), "mixed1"), inputs=tokens(), via=("ts", "dynamo"), layers=[layer(5, 2, "linear, MLP, identity, gated, zero")])


@case
def mixed_dense():
    return Case("d1", "The same bank as a masked sum; exporters may fold the zero expert's term away, which leaves four terms of five",
                model=init(Residual(MixedDense(), MixedDense()), "mixed2"), inputs=tokens(), via=("ts", "dynamo"),
                layers=[layer(5, 2, "linear, MLP, identity, gated, zero")] * 2)


# ---------------------------------------------------------------- 10 control flow, functions, sequences

class IfPerExpert(nn.Module):
    """`if any token chose it` around each expert; scripted as a whole, so that every test becomes an ONNX If."""
    def __init__(self):
        super().__init__()
        self.gate, self.experts = nn.Linear(H, E), nn.ModuleList([MLP() for _ in range(E)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        v, idx = torch.topk(self.gate(x), 2, dim=-1)
        if not torch.jit.is_scripting():
            seen(self, idx)
        gates = torch.zeros([x.size(0), len(self.experts)], dtype=x.dtype).scatter(1, idx, torch.softmax(v, -1))
        y = torch.zeros_like(x)
        for e, f in enumerate(self.experts):
            g = gates[:, e]
            if bool((g > 0).any()):
                y = y + f(x) * g.unsqueeze(1)
        return y


@case
def if_per_expert():
    m = init(IfPerExpert(), "ifs")
    return Case("f2", "If around each expert, taken when any token chose it: the guard is a no-op for the result; inside it all tokens are computed",
                model=torch.jit.script(m), ref=m, inputs=tokens(), layers=[layer(note="If(any) per expert")])


class CondPerExpert(IfPerExpert):
    """The same guard through torch.cond, the only conditional that torch.export keeps."""
    def forward(self, x):
        gates = dense_gates(self, self.gate(x), K)
        y = torch.zeros_like(x)
        for e, f in enumerate(self.experts):
            g = gates[:, e:e + 1]
            y = y + torch.cond((g > 0).any(), lambda x, g, f=f: f(x) * g, lambda x, g: torch.zeros_like(x) * g, (x, g))
        return y


@case
def cond_per_expert():
    return Case("f2", "torch.cond per expert: branches become functions or subgraphs that take weights as inputs",
                model=init(CondPerExpert(), "cond"), inputs=tokens(), via=("dynamo",), layers=[layer(note="If(any) per expert")])


def graph(text, weights, ir=10):
    """A model in ONNX text syntax plus named initializers."""
    m = onnx.parser.parse_model(text)
    m.ir_version = ir
    m.graph.initializer.extend(numpy_helper.from_array(np.ascontiguousarray(a), n) for n, a in weights.items())
    return m


def params(module, **names):
    """Float32 arrays of module parameters: params(m, w1="w1", ...) or with a transform: (path, fn)."""
    get = lambda p: dict(module.named_parameters())[p].detach()
    return {n: (get(p) if isinstance(p, str) else p[1](get(p[0]))).numpy() for n, p in names.items()}


class Bank(nn.Module):
    """Plain top-k MoE with stacked weights [E,H,I], [E,I,H] and biases; the reference of the hand-built graphs."""
    def __init__(self, n=E, k=K, h=H, i=I):
        super().__init__()
        self.wr, self.k, self.n = nn.Parameter(torch.zeros(h, n)), k, n
        self.w1, self.b1 = nn.Parameter(torch.zeros(n, h, i)), nn.Parameter(torch.zeros(n, i))
        self.w2, self.b2 = nn.Parameter(torch.zeros(n, i, h)), nn.Parameter(torch.zeros(n, h))
        with torch.no_grad():
            for b in (self.b1, self.b2):
                b.normal_(0, 0.1)

    def forward(self, x):
        v, idx = torch.topk(torch.softmax(x @ self.wr, -1), self.k)
        seen(self, idx)
        v = v / v.sum(-1, keepdim=True)
        y = torch.zeros_like(x)
        for t in range(x.shape[0]):
            for w, e in zip(v[t], idx[t]):
                y[t] += w * (F.relu(x[t] @ self.w1[e] + self.b1[e]) @ self.w2[e] + self.b2[e])
        return y


ROUTER = """
   logits = MatMul(x, wr)
   p = Softmax <axis = -1> (logits)
   k = Constant <value_ints = [%d]> ()
   v, idx = TopK <axis = -1> (p, k)
   m1 = Constant <value_ints = [-1]> ()
   s = ReduceSum(v, m1)
   w = Div(v, s)
""" % K
DENSE = """
   zeros = Sub(p, p)
   gates = ScatterElements <axis = 1> (zeros, idx, w)
"""
BANK = dict(wr="wr", w1="w1", b1="b1", w2="w2", b2="b2")


@case
def loop_over_experts():
    ref = init(Bank(), "loop")
    m = graph("""<ir_version: 10, opset_import: ["" : 18]>
classic_loop (float[T,32] x) => (float[T,32] y) {""" + ROUTER + DENSE + """
   zero = Constant <value = float {0}> ()
   shape = Shape(x)
   init = Expand(zero, shape)
   trips = Constant <value = int64 {8}> ()
   go = Constant <value = bool {1}> ()
   y = Loop (trips, go, init) <body = expert (int64 e, bool c, float[T,32] acc) => (bool c_out, float[T,32] acc_out) {
      c_out = Identity(c)
      w1e = Gather <axis = 0> (w1, e)
      b1e = Gather <axis = 0> (b1, e)
      w2e = Gather <axis = 0> (w2, e)
      b2e = Gather <axis = 0> (b2, e)
      a = MatMul(x, w1e)
      ab = Add(a, b1e)
      h = Relu(ab)
      o = MatMul(h, w2e)
      ob = Add(o, b2e)
      g = Gather <axis = 1> (gates, e)
      last = Constant <value_ints = [1]> ()
      gu = Unsqueeze(g, last)
      term = Mul(ob, gu)
      acc_out = Add(acc, term)
   }>
}""", params(ref, **BANK))
    return Case("f3", "Loop with eight trips over experts, weights and gate column taken by the trip number from the outer scope, all tokens in each trip",
                proto=m, ref=ref, inputs=tokens(), layers=[layer(note="Loop over experts")])


@case
def function_per_block():
    ref = init(Residual(Bank(), Bank()), "function")
    w = {f"{n}_{i}": a for i in range(2) for n, a in params(ref.blocks[i], **BANK).items()}
    w.update({f"n{i}": ref.norms[i].norm_weight.detach().numpy() for i in range(2)})
    m = graph("""<ir_version: 10, opset_import: ["" : 18, "classic" : 1]>
classic_function (float[B,S,32] x) => (float[B,S,32] y) {
   a = classic.MoEBlock <k = 2, eps = 1e-6> (x, n0, wr_0, w1_0, b1_0, w2_0, b2_0)
   y = classic.MoEBlock <k = 2, eps = 1e-6> (a, n1, wr_1, w1_1, b1_1, w2_1, b2_1)
}
<domain: "classic", opset_import: ["" : 18]>
Norm <eps> (x, g) => (y) {
   e = Constant <value_float: float = @eps> ()
   x2 = Mul(x, x)
   ax = Constant <value_ints = [-1]> ()
   m = ReduceMean(x2, ax)
   me = Add(m, e)
   r = Sqrt(me)
   n = Div(x, r)
   y = Mul(n, g)
}
<domain: "classic", opset_import: ["" : 18]>
Expert (x, w1, b1, w2, b2) => (y) {
   a = MatMul(x, w1)
   ab = Add(a, b1)
   h = Relu(ab)
   o = MatMul(h, w2)
   y = Add(o, b2)
}
<domain: "classic", opset_import: ["" : 18, "classic" : 1]>
MoEBlock <k, eps> (xs, g, wr, w1, b1, w2, b2) => (y) {
   shape = Shape(xs)
   n = classic.Norm <eps: float = @eps> (xs, g)
   flat = Constant <value_ints = [-1, 32]> ()
   x = Reshape(n, flat)
   logits = MatMul(x, wr)
   p = Softmax <axis = -1> (logits)
   kk = Constant <value_int: int = @k> ()
   m1 = Constant <value_ints = [-1]> ()
   kv = Reshape(kk, m1)
   v, idx = TopK <axis = -1> (p, kv)
   s = ReduceSum(v, m1)
   w = Div(v, s)
   zeros = Sub(p, p)
   gates = ScatterElements <axis = 1> (zeros, idx, w)
   gt = Transpose <perm = [1, 0]> (gates)
   gu = Unsqueeze(gt, m1)
   mid = Constant <value_ints = [1]> ()
   b1u = Unsqueeze(b1, mid)
   b2u = Unsqueeze(b2, mid)
   o = classic.Expert (x, w1, b1u, w2, b2u)
   t = Mul(o, gu)
   first = Constant <value_ints = [0]> ()
   r = ReduceSum <keepdims = 0> (t, first)
   back = Reshape(r, shape)
   y = Add(xs, back)
}""", w)
    return Case("f1", "One model-local function per MoE block, called by two layers with weights as arguments, attributes k and eps by reference, functions inside functions",
                proto=m, ref=ref_flat(ref), **BS, layers=[layer(note="function MoEBlock"), layer(note="function MoEBlock")])


class ref_flat(nn.Module):
    """Run a [T,H] module on [B,S,H]."""
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner(x.reshape(-1, x.shape[-1])).reshape(x.shape)


@case
def sequence_at():
    ref = init(Bank(), "sequence")
    text = """<ir_version: 10, opset_import: ["" : 18]>
classic_sequence (float[T,32] x) => (float[T,32] y) {""" + ROUTER + """
   flat_ids = Reshape(idx, m1)
   flat_w = Reshape(w, m1)
   n = Shape(flat_ids)
   sorted_ids, order = TopK <axis = 0, largest = 0> (flat_ids, n)
   row = Div(order, k)
   xs = Gather(x, row)
   ws = Gather(flat_w, order)
   ids_col = Unsqueeze(flat_ids, m1)
   zero = Constant <value = int64 {0}> ()
   one = Constant <value = int64 {1}> ()
   n_experts = Constant <value = int64 {8}> ()
   experts = Range(zero, n_experts, one)
   eq = Equal(ids_col, experts)
   eqi = Cast <to = 7> (eq)
   first = Constant <value_ints = [0]> ()
   sizes = ReduceSum <keepdims = 0> (eqi, first)
   parts = SplitToSequence <axis = 0> (xs, sizes)
   out0 = SequenceEmpty <dtype = 1> ()
""" + "".join(f"""
   i{e} = Constant <value = int64 {{{e}}}> ()
   x{e} = SequenceAt(parts, i{e})
   w1_{e} = Gather <axis = 0> (w1, i{e})
   a{e} = MatMul(x{e}, w1_{e})
   b1_{e} = Gather <axis = 0> (b1, i{e})
   ab{e} = Add(a{e}, b1_{e})
   h{e} = Relu(ab{e})
   w2_{e} = Gather <axis = 0> (w2, i{e})
   o{e} = MatMul(h{e}, w2_{e})
   b2_{e} = Gather <axis = 0> (b2, i{e})
   ob{e} = Add(o{e}, b2_{e})
   out{e + 1} = SequenceInsert(out{e}, ob{e})
""" for e in range(E)) + """
   ys = ConcatFromSequence <axis = 0> (out8)
   wu = Unsqueeze(ws, m1)
   yw = Mul(ys, wu)
   empty = Sub(x, x)
   row_col = Unsqueeze(row, m1)
   y = ScatterND <reduction = "add"> (empty, row_col, yw)
}"""
    return Case("f4", "Rows sorted by expert, SplitToSequence by counts, one SequenceAt per expert (some parts are empty), ConcatFromSequence, ScatterND add",
                proto=graph(text, params(ref, **BANK)), ref=ref, inputs=tokens(), layers=[layer(note="SplitToSequence/SequenceAt")])


@case
def grouped_matmul_function():
    ref = init(Bank(), "grouped")
    m = graph("""<ir_version: 10, opset_import: ["" : 18, "preview" : 1]>
classic_grouped (float[T,32] x) => (float[T,32] y) {""" + ROUTER + """
   a = preview.GroupedMatMul(x, w1, idx, b1)
   h = Relu(a)
   width = Constant <value_ints = [-1, 48]> ()
   rows = Reshape(h, width)
   col = Constant <value_ints = [-1, 1]> ()
   ids = Reshape(idx, col)
   o = preview.GroupedMatMul(rows, w2, ids, b2)
   tkh = Constant <value_ints = [-1, 2, 32]> ()
   ot = Reshape(o, tkh)
   wu = Unsqueeze(w, m1)
   t = Mul(ot, wu)
   mid = Constant <value_ints = [1]> ()
   y = ReduceSum <keepdims = 0> (t, mid)
}
<domain: "preview", opset_import: ["" : 18]>
GroupedMatMul (input, weights, group_indices, bias) => (output) {
   chosen = Gather <axis = 0> (weights, group_indices)
   two = Constant <value_ints = [1, 2]> ()
   rows = Unsqueeze(input, two)
   product = MatMul(rows, chosen)
   mid = Constant <value_ints = [2]> ()
   flat = Squeeze(product, mid)
   b = Gather <axis = 0> (bias, group_indices)
   output = Add(flat, b)
}""", params(ref, **BANK))
    return Case("h", "GroupedMatMul of the ONNX proposal as a model-local function, weights [G,K,N]: Gather copies k matrices for each token; the name and the body are both usable",
                proto=m, ref=ref, inputs=tokens(), layers=[layer(note="GroupedMatMul(input, weights[G,K,N], group_indices, bias)")])


# ---------------------------------------------------------------- 11, 12 dense batched MatMul, sequence-level routing

class DenseBmm(nn.Module):
    """All experts by batched MatMul [E,T,*], times scattered gate weights, summed over E."""
    def __init__(self, n, k, i, norm=True):
        super().__init__()
        self.n, self.k, self.norm = n, k, norm
        self.router = nn.Linear(H, n, bias=False)
        self.gate_up, self.down = nn.Parameter(torch.zeros(n, H, 2 * i)), nn.Parameter(torch.zeros(n, i, H))

    def weights(self, x):
        v, idx = torch.topk(torch.softmax(self.router(x), -1), self.k)
        seen(self, idx)
        v = v / v.sum(-1, keepdim=True) if self.norm else v
        return torch.zeros(x.shape[0], self.n, dtype=x.dtype).scatter(1, idx, v)

    def experts(self, x):
        g, u = torch.matmul(x.unsqueeze(0).expand(self.n, -1, -1), self.gate_up).chunk(2, -1)
        return torch.matmul(F.silu(g) * u, self.down)

    def forward(self, x):
        t = x.reshape(-1, H)
        y = self.experts(t) * self.weights(t).transpose(0, 1).unsqueeze(-1)
        return y.sum(0).reshape(x.shape)


class DenseBmmFirstToken(DenseBmm):
    """The router sees the first token of the sequence, expanded to all positions: S equal decisions."""
    def forward(self, x):
        t, r = x.reshape(-1, H), x[:, :1].expand(-1, x.shape[1], -1).reshape(-1, H)
        y = self.experts(t) * self.weights(r).transpose(0, 1).unsqueeze(-1)
        return y.sum(0).reshape(x.shape)


class MeanRouted(DenseBmm):
    """Router input is the mean over tokens: one decision per sequence, the whole sequence goes through k experts."""
    def forward(self, x):
        w = self.weights(x.mean(1))                                      # [B,E]
        g, u = torch.einsum("bsd,edf->besf", x, self.gate_up).chunk(2, -1)
        y = torch.einsum("besf,efd->besd", F.silu(g) * u, self.down)
        return (y * w[:, :, None, None]).sum(1)


class MeanRoutedGather(DenseBmm):
    """The same, but weights of the chosen expert are gathered for each sequence (k = 1)."""
    def forward(self, x):
        p, e = torch.softmax(self.router(x.mean(1)), -1).max(-1)
        seen(self, e)
        g, u = torch.bmm(x, self.gate_up[e]).chunk(2, -1)
        return torch.bmm(F.silu(g) * u, self.down[e]) * p[:, None, None]


@case
def dense_bmm_64():
    return Case("d2", "64 experts all computed by batched MatMul, 4 weights non-zero: 16 times too much work, the largest gain of dense to sparse",
                model=init(DenseBmm(64, 4, 16), "bmm64"), **{**BS, "sizes": [(1, 1), (1, 3), (2, 17), (4, 31)]}, via=("ts", "dynamo"), layers=[layer(64, 4)])


@case
def dense_bmm_sequence_gate():
    return Case("d2", "As before with 16 experts and one gate decision per sequence (router input broadcast over positions): the router needs B rows, not B*S",
                model=init(DenseBmmFirstToken(16, 2, 20), "bmmseq"), **{**BS, "sizes": [(1, 1), (1, 3), (2, 17), (16, 3), (9, 2)]}, via=("ts", "dynamo"),
                layers=[layer(16, 2, "equal routing of all positions of a sequence")])


@case
def mean_routed_dense():
    return Case("g10", "Router reads the mean over tokens: one row of weights per sequence over [B,E,S,H] expert outputs; gain E/k on whole sequences",
                model=init(MeanRouted(8, 2, 24, False), "mean1", router=3.0), **{**BS, "sizes": [(1, 1), (1, 3), (2, 17), (9, 4)]}, via=("ts", "dynamo"),
                layers=[layer(8, 2, "per sequence, weights not normalised")])


@case
def mean_routed_gather():
    return Case("g10", "Per-sequence top-1 with gathered weights [B,H,2I]: index the bank instead of copying it",
                model=init(MeanRoutedGather(6, 1, 24), "mean2", router=3.0), **{**BS, "sizes": [(1, 1), (1, 3), (2, 17), (9, 4)]}, via=("ts", "dynamo"),
                layers=[layer(6, 1, "per sequence, argmax")])


# ---------------------------------------------------------------- 13 negatives: look like MoE, must run right

NO = dict(expect="must_not_recognise", coverage=False, layers=[])


class OtherRouterSoft(nn.Module):
    """Router A's top-k gates are only an output; the mixture uses router B's full softmax."""
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(H, E), nn.Linear(H, E)
        self.experts = nn.ModuleList([MLP() for _ in range(E)])

    def forward(self, x):
        gates, w = dense_gates(self, self.a(x), K), torch.softmax(self.b(x), -1)
        return sum(w[:, e:e + 1] * f(x) for e, f in enumerate(self.experts)), gates


class OtherRouterWeights(OtherRouterSoft):
    """Rows are chosen by router A, weights are router B's own top-k values, paired by slot and not by expert."""
    def forward(self, x):
        _, idx = torch.topk(self.a(x), K)
        v, _ = torch.topk(torch.softmax(self.b(x), -1), K)
        seen(self, idx)
        y = torch.zeros_like(x)
        for e, f in enumerate(self.experts):
            row, slot = torch.where(idx == e)
            y = y.index_add(0, row, f(x[row]) * v[row, slot].unsqueeze(1))
        return y


class RowMixing(nn.Module):
    """Experts normalise over tokens: an expert's output for a row depends on rows that did not choose it."""
    def __init__(self):
        super().__init__()
        self.gate = nn.Linear(H, E)
        self.up = nn.ModuleList([nn.Linear(H, I) for _ in range(E)])
        self.down = nn.ModuleList([nn.Linear(I, H) for _ in range(E)])

    def forward(self, x):
        gates = dense_gates(self, self.gate(x), K)
        return sum(gates[:, e:e + 1] * d(torch.softmax(u(x), 0) * x.shape[0]) for e, (u, d) in enumerate(zip(self.up, self.down)))


class FiniteMask(nn.Module):
    """Unselected logits become -1e4, not -inf: for rows whose logits are lower than that, the unselected experts win."""
    def __init__(self):
        super().__init__()
        self.gate, self.experts = nn.Linear(H, E), nn.ModuleList([MLP() for _ in range(E)])

    def forward(self, x):
        s = self.gate(x)
        v, _ = torch.topk(s, K)
        w = torch.softmax(torch.where(s >= v[:, -1:], s, torch.full_like(s, -1e4)), -1)
        return sum(w[:, e:e + 1] * f(x) for e, f in enumerate(self.experts))


class DuplicateScatter(nn.Module):
    """Two heads vote for one expert each; they may name the same one, then weights add up."""
    def __init__(self):
        super().__init__()
        self.heads = nn.ModuleList([nn.Linear(H, E) for _ in range(2)])
        self.experts = nn.ModuleList([MLP() for _ in range(E)])

    def forward(self, x):
        w, idx = zip(*(torch.softmax(h(x), -1).max(-1) for h in self.heads))
        w, idx = torch.stack(w, 1), torch.stack(idx, 1)
        seen(self, idx)
        gates = torch.zeros(x.shape[0], E, dtype=x.dtype).scatter_add(1, idx, w)
        return sum(gates[:, e:e + 1] * f(x) for e, f in enumerate(self.experts))


class BeamStep(nn.Module):
    """One step of beam search: per-beam top-k, outer sum with the beams' scores, top-k again, states gathered by beam."""
    def __init__(self, vocab=97, beams=4):
        super().__init__()
        self.vocab, self.beams = vocab, beams
        self.head, self.embed = nn.Linear(H, vocab, bias=False), nn.Embedding(vocab, H)
        self.step = MLP()

    def forward(self, states, scores):                                   # [B,beams,H], [B,beams]
        lp = torch.log_softmax(self.head(states), -1)
        v, tok = torch.topk(lp, self.beams, -1)
        total, flat = torch.topk((scores.unsqueeze(-1) + v).flatten(1), self.beams, -1)
        beam = flat // self.beams
        tok = tok.flatten(1).gather(1, flat)
        kept = states.gather(1, beam.unsqueeze(-1).expand(-1, -1, H))
        return self.step(kept + self.embed(tok)), total, tok


class EmbeddingBag(nn.Module):
    """Weighted bag of k table rows per sample followed by an MLP: Gather of a big table and a weighted sum, but no router."""
    def __init__(self, rows=500):
        super().__init__()
        self.table, self.mlp = nn.Embedding(rows, H), MLP()

    def forward(self, ids, weights):
        w = torch.softmax(weights, -1)
        return self.mlp((self.table(ids) * w.unsqueeze(-1)).sum(1))


class SharedWeights(nn.Module):
    """Eight experts, one set of weights: equals the single expert, because the gates of a row add up to one."""
    def __init__(self):
        super().__init__()
        self.gate, self.expert = nn.Linear(H, E), MLP()

    def forward(self, x):
        gates = dense_gates(self, self.gate(x), K)
        return sum(gates[:, e:e + 1] * self.expert(x) for e in range(E))


def low_logits(g, t):
    x = torch.randn(t, H, generator=g)
    x[:, 0] = (torch.arange(t) % 3 == 1) * 1.0                           # every third row: all logits near -1.5e4
    return (x,)


@case
def not_other_router_soft():
    return Case("-", "A top-k over E beside a soft mixture over the same experts: sparsifying with the wrong router changes results",
                model=init(OtherRouterSoft(), "neg1"), inputs=tokens(), outputs=["y", "gates"], via=("ts", "dynamo"), sparsify=False, **NO)


@case
def not_other_router_weights():
    return Case("-", "Rows chosen by one router, weights from another router's TopK: skipping is right only with exactly these weights, a fused single router is wrong",
                model=init(OtherRouterWeights(), "neg2"), inputs=tokens(), via=("ts", "dynamo"), expect="either",
                layers=[layer(note="only if the weights stay those of the second router")])


@case
def not_row_mixing():
    return Case("-", "Softmax over tokens inside each expert: rows depend on each other, so unselected rows must still be computed",
                model=init(RowMixing(), "neg3"), inputs=tokens(), via=("ts", "dynamo"), sparsify=False, **NO)


@case
def not_finite_mask():
    m = init(FiniteMask(), "neg4")
    with torch.no_grad():
        m.gate.weight[:, 0] = -1.5e4
    return Case("-", "-1e4 is not -inf: in every third row the unselected experts carry all the weight",
                model=m, inputs=low_logits, via=("ts", "dynamo"), sparsify=False, **NO)


@case
def not_duplicate_scatter():
    return Case("-", "ScatterElements add with indices that may repeat: at most two experts per row, but k slots are not k different experts",
                model=init(DuplicateScatter(), "neg5"), inputs=tokens(), via=("ts", "dynamo"), expect="either",
                layers=[layer(note="two votes, possibly for one expert; weights add up")])


@case
def not_beam_search():
    return Case("-", "TopK, outer sum, TopK, Gather as in product keys, but it is beam search: nothing here is an expert",
                model=init(BeamStep(), "neg6"), inputs=lambda g, b: (torch.randn(b, 4, H, generator=g), -torch.rand(b, 4, generator=g) * 3),
                sizes=[(1,), (3,), (7,)], dims=[{0: "B"}, {0: "B"}], names=["states", "scores"], outputs=["next", "total", "token"],
                via=("ts", "dynamo"), **NO)


@case
def not_embedding_bag():
    return Case("-", "Gathered table rows with softmax weights and a sum over k: an embedding bag, the ids come from outside",
                model=init(EmbeddingBag(), "neg7"), inputs=lambda g, t: (torch.randint(0, 500, (t, 5), generator=g), torch.randn(t, 5, generator=g)),
                dims=[{0: "T"}] * 2, names=["ids", "weights"], via=("ts", "dynamo"), **NO)


@case
def shared_weights():
    return Case("d1", "All experts are one MLP: the best code computes it once; running it k times is right too",
                model=init(SharedWeights(), "neg8"), inputs=tokens(), via=("ts", "dynamo"), expect="either",
                layers=[layer(note="all experts share one set of weights")])


if __name__ == "__main__":
    main("classic", os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
