"""Building blocks shared by the train_*.py scripts: text windows, a small MoE language model, export, test data.

Weight layout is the one of stacked Hugging Face experts: gate_up_proj [E, 2F, H] (gate rows first), down_proj [E, H, F].
"""
import collections
import json
import math
import os
import pathlib
import time
from pydoc_data.topics import topics

import numpy as np
import onnx
import onnxruntime
import torch
import torch.nn as nn
import torch.nn.functional as F
from onnx import numpy_helper

MODULES = ("argparse contextlib dataclasses difflib doctest enum fractions heapq inspect mailbox os pathlib pdb pickle "
           "pprint pydoc random shutil socket statistics tempfile threading traceback typing zipfile").split()
CHUNK = 8192  # the text is split by chunks of this many bytes, so that windows of different splits never touch


# ---------------------------------------------------------------- text

def python_text():
    """Documentation topics and library sources of the Python that runs this, one after the other."""
    library = pathlib.Path(os.__file__).parent
    parts = [f"### topic: {name}\n\n{text.strip()}\n" for name, text in sorted(topics.items())]
    parts += [f"### module: {name}.py\n\n" + (library / f"{name}.py").read_text(encoding="utf-8").strip() + "\n"
              for name in MODULES]
    return "".join(part + "\n" for part in parts).encode()


def load_text(path=None):
    text = pathlib.Path(path).read_bytes() if path else python_text()
    return np.frombuffer(text, dtype=np.uint8)


def split_chunks(text):
    """Every 16th chunk is for calibration, every 16th for testing, the others for training."""
    parts = {"train": [], "calibration": [], "test": []}
    for i, start in enumerate(range(0, len(text) - CHUNK + 1, CHUNK)):
        name = {5: "calibration", 11: "test"}.get(i % 16, "train")
        parts[name].append(text[start:start + CHUNK])
    return {name: np.stack(chunks) for name, chunks in parts.items()}


def windows(chunks, count, length):
    """`count` windows of length + 1 bytes, spread evenly over the chunks."""
    per_chunk = CHUNK // (length + 1)
    flat = chunks[:, :per_chunk * (length + 1)].reshape(-1, length + 1)
    pick = np.linspace(0, len(flat) - 1, count).round().astype(int)
    return flat[pick].astype(np.int64)


def batches(chunks, batch, length, steps, seed):
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        row = rng.integers(0, len(chunks), batch)
        col = rng.integers(0, CHUNK - length, batch)
        yield torch.from_numpy(np.stack([chunks[r, c:c + length + 1] for r, c in zip(row, col)]).astype(np.int64))


# ---------------------------------------------------------------- model

class RmsNorm(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * self.weight


class Attention(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.heads, self.head_dim = heads, dim // heads
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.out = nn.Linear(dim, dim, bias=False)

    def forward(self, x):
        b, s, d = x.shape
        q, k, v = self.qkv(x).view(b, s, 3, self.heads, self.head_dim).permute(2, 0, 3, 1, 4).unbind(0)
        score = q @ k.transpose(-1, -2) / math.sqrt(self.head_dim)
        pos = torch.arange(s, device=x.device)
        score = score.masked_fill(pos[None, :] > pos[:, None], float("-inf"))
        return self.out((score.softmax(-1) @ v).transpose(1, 2).reshape(b, s, d))


class Router(nn.Module):
    """softmax over all experts, then top-k, then (optionally) weights divided by their sum."""

    def __init__(self, dim, experts, k, renorm):
        super().__init__()
        self.k, self.renorm = k, renorm
        self.weight = nn.Parameter(torch.randn(experts, dim) / math.sqrt(dim))

    def forward(self, x):
        return F.linear(x, self.weight)

    def select(self, logits):
        w, idx = logits.softmax(-1).topk(self.k, dim=-1)
        return idx, w / w.sum(-1, keepdim=True) if self.renorm else w


class Moe(nn.Module):
    """SwiGLU experts. `form` says how forward computes: grouped (training), gather or dense (what is exported)."""

    kind = "SwiGLU"

    def __init__(self, dim, experts, k, width, renorm=True):
        super().__init__()
        self.experts, self.width, self.form = experts, width, "grouped"
        self.router = Router(dim, experts, k, renorm)
        self.gate_up_proj = nn.Parameter(torch.randn(experts, 2 * width, dim) / math.sqrt(dim))
        self.down_proj = nn.Parameter(torch.randn(experts, dim, width) / math.sqrt(width))

    def select(self, logits):
        return self.router.select(logits)

    def expert(self, e, x):
        gate, up = F.linear(x, self.gate_up_proj[e]).chunk(2, -1)
        return F.linear(F.silu(gate) * up, self.down_proj[e])

    def forward(self, x):
        flat = x.reshape(-1, x.shape[-1])
        logits = self.router(flat)
        idx, w = self.select(logits)
        if self.training:
            self.logits, self.chosen = logits, idx  # for the balance loss and for statistics
        y = getattr(self, self.form)(flat, idx, w)
        return y.view_as(x)

    def grouped(self, x, idx, w):
        order = idx.flatten().argsort(stable=True)
        rows = order // idx.shape[1]
        counts = torch.bincount(idx.flatten(), minlength=self.experts).tolist()
        parts = [self.expert(e, g) for e, g in enumerate(x[rows].split(counts)) if len(g)]
        y = torch.cat(parts) * w.flatten()[order, None]
        return torch.zeros_like(x).index_add(0, rows, y)

    def gather(self, x, idx, w):
        """Weights gathered per (token, slot), as Hugging Face's batched_mm does."""
        t, k = idx.shape
        flat = idx.reshape(-1)
        rows = x.unsqueeze(1).expand(-1, k, -1).reshape(t * k, -1, 1)
        gate, up = torch.bmm(self.gate_up_proj[flat], rows).squeeze(-1).chunk(2, -1)
        y = torch.bmm(self.down_proj[flat], (F.silu(gate) * up).unsqueeze(-1)).squeeze(-1)
        return (y.view(t, k, -1) * w.unsqueeze(-1)).sum(1)

    def dense(self, x, idx, w):
        """All experts on all tokens, mixed with a [T, E] weight matrix that is zero for unselected experts."""
        mix = torch.zeros(x.shape[0], self.experts, dtype=x.dtype).scatter(1, idx, w)
        gate, up = torch.einsum("th,efh->tef", x, self.gate_up_proj).chunk(2, -1)
        y = torch.einsum("tef,ehf->teh", F.silu(gate) * up, self.down_proj)
        return (y * mix.unsqueeze(-1)).sum(1)


class Block(nn.Module):
    def __init__(self, dim, heads, ffn):
        super().__init__()
        self.norm1, self.attn = RmsNorm(dim), Attention(dim, heads)
        self.norm2, self.ffn = RmsNorm(dim), ffn

    def forward(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.ffn(self.norm2(x))


class ByteLm(nn.Module):
    """Causal byte-level model: bytes [B, S] int64 -> logits [B, S, 256]; S <= max_len."""

    def __init__(self, dim, heads, ffns, max_len=128):
        super().__init__()
        self.embed = nn.Embedding(256, dim)
        self.pos = nn.Parameter(torch.zeros(max_len, dim))
        self.blocks = nn.ModuleList(Block(dim, heads, ffn) for ffn in ffns)
        self.norm = RmsNorm(dim)
        self.head = nn.Linear(dim, 256, bias=False)
        nn.init.normal_(self.embed.weight, std=0.3)
        nn.init.normal_(self.pos, std=0.1)

    def forward(self, bytes_in):
        x = self.embed(bytes_in) + self.pos[:bytes_in.shape[1]]
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))

    def moes(self):
        return [b.ffn for b in self.blocks if hasattr(b.ffn, "router")]


def balance_loss(moes):
    """Switch-style: experts * sum over experts of (share of slots) * (mean probability)."""
    total = 0.0
    for moe in moes:
        prob = moe.logits[::moe.experts // 64 + 1].softmax(-1)  # a sample of tokens will do for wide routers
        share = torch.bincount(moe.chosen.flatten(), minlength=prob.shape[1]) / moe.chosen.numel()
        total = total + prob.shape[1] * (share * prob.mean(0)).sum()
    return total


def lm_loss(model, data, batch=8):
    """Mean cross-entropy in nats per byte over windows [N, S + 1]."""
    model.eval()
    with torch.no_grad():
        losses = [F.cross_entropy(model(d[:, :-1]).flatten(0, 1), d[:, 1:].flatten(), reduction="sum")
                  for d in torch.as_tensor(data).split(batch)]
    return float(torch.stack(losses).sum()) / (len(data) * (data.shape[1] - 1))


def train_lm(model, chunks, steps, batch, length, lr, balance, seed, log=100):
    decay = [p for p in model.parameters() if p.ndim >= 2]
    rest = [p for p in model.parameters() if p.ndim < 2]
    opt = torch.optim.AdamW([{"params": decay, "weight_decay": 0.01}, {"params": rest, "weight_decay": 0.0}],
                            lr=lr, betas=(0.9, 0.97))
    warm = max(1, steps // 20)
    sched = torch.optim.lr_scheduler.LambdaLR(
        opt, lambda i: min(1.0, (i + 1) / warm) * (0.03 + 0.97 * 0.5 * (1 + math.cos(math.pi * i / steps))))
    model.train()
    start, mean = time.time(), None
    for step, data in enumerate(batches(chunks, batch, length, steps, seed)):
        loss = F.cross_entropy(model(data[:, :-1]).flatten(0, 1), data[:, 1:].flatten())
        (loss + balance * balance_loss(model.moes())).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        opt.step()
        sched.step()
        opt.zero_grad()
        mean = loss.item() if mean is None else 0.98 * mean + 0.02 * loss.item()
        if step % log == 0 or step == steps - 1:
            print(f"step {step:5d}  loss {mean:.4f}  {time.time() - start:6.1f} s", flush=True)
    return mean, time.time() - start


def train_or_load(model, checkpoint, train):
    """Returns {"loss", "seconds"}; training is skipped if the checkpoint exists."""
    if checkpoint and os.path.exists(checkpoint):
        saved = torch.load(checkpoint)
        model.load_state_dict(saved["model"])
        return saved["info"]
    loss, seconds = train()
    info = {"loss": loss, "seconds": round(seconds, 1)}
    if checkpoint:
        torch.save({"model": model.state_dict(), "info": info}, checkpoint)
    return info


# ---------------------------------------------------------------- case files

def export(model, example, path, names, dynamic_shapes, opset=20):
    model.eval()
    program = torch.onnx.export(model, (example,), dynamo=True, opset_version=opset, dynamic_shapes=dynamic_shapes,
                                input_names=names[0], output_names=names[1], verbose=False)
    program.save(path, external_data=False)
    onnx.checker.check_model(path)
    stripped = onnx.load(path)
    for node in stripped.graph.node:  # tracebacks of the exporter: large, and they name directories of this machine
        del node.metadata_props[:]
    for value in list(stripped.graph.value_info) + list(stripped.graph.input) + list(stripped.graph.output):
        del value.metadata_props[:]
    for init in stripped.graph.initializer:
        del init.metadata_props[:]
    stripped.doc_string = ""
    onnx.save(stripped, path)


def write_test_data(case_dir, number, names, arrays):
    """arrays = (inputs, outputs), each a list; files input_<j>.pb and output_<j>.pb."""
    folder = os.path.join(case_dir, f"test_data_set_{number}")
    os.makedirs(folder, exist_ok=True)
    for kind, name_list, array_list in zip(("input", "output"), names, arrays):
        for j, (name, array) in enumerate(zip(name_list, array_list)):
            with open(os.path.join(folder, f"{kind}_{j}.pb"), "wb") as f:
                f.write(numpy_helper.from_array(np.ascontiguousarray(array), name).SerializeToString())


def read_tensor(path):
    with open(path, "rb") as f:
        return numpy_helper.to_array(onnx.TensorProto.FromString(f.read()))


def check_with_ort(case_dir):
    session = onnxruntime.InferenceSession(os.path.join(case_dir, "model.onnx"), providers=["CPUExecutionProvider"])
    worst_abs = worst_rel = 0.0
    for folder in sorted(d for d in os.listdir(case_dir) if d.startswith("test_data_set_")):
        folder = os.path.join(case_dir, folder)
        feed = {x.name: read_tensor(os.path.join(folder, f"input_{j}.pb")) for j, x in enumerate(session.get_inputs())}
        for j, got in enumerate(session.run(None, feed)):
            want = read_tensor(os.path.join(folder, f"output_{j}.pb"))
            err = np.abs(got.astype(np.float64) - want)
            worst_abs = max(worst_abs, float(err.max()))
            worst_rel = max(worst_rel, float((err / np.maximum(np.abs(want), 1e-3)).max()))
    return {"runs": True, "max_abs_err": worst_abs, "max_rel_err": worst_rel}


def ort_loss(case_dir, inputs, targets, batch):
    """Mean cross-entropy of model.onnx under onnxruntime: the number that a compiled model should reproduce."""
    session = onnxruntime.InferenceSession(os.path.join(case_dir, "model.onnx"), providers=["CPUExecutionProvider"])
    name, total = session.get_inputs()[0].name, 0.0
    for start in range(0, len(inputs), batch):
        logits = torch.from_numpy(session.run(None, {name: inputs[start:start + batch]})[0])
        target = torch.from_numpy(targets[start:start + batch])
        total += float(F.cross_entropy(logits.flatten(0, -2), target.flatten(), reduction="sum"))
    return total / targets.size


def write_case(case_dir, **fields):
    model = onnx.load(os.path.join(case_dir, "model.onnx"))
    ops = collections.Counter(f"{n.domain}::{n.op_type}" for n in model.graph.node)
    for function in model.functions:
        ops.update(f"{n.domain}::{n.op_type}" for n in function.node)
    fields.update(name=os.path.basename(os.path.normpath(case_dir)), ort=check_with_ort(case_dir),
                  ops=dict(sorted(ops.items())), opset={o.domain: o.version for o in model.opset_import},
                  ir_version=model.ir_version, nodes=len(model.graph.node),
                  bytes=os.path.getsize(os.path.join(case_dir, "model.onnx")))
    with open(os.path.join(case_dir, "case.json"), "w") as f:
        json.dump(fields, f, indent=1)
        f.write("\n")


def update_quality(case_dir, **fields):
    path = os.path.join(case_dir, "quality.json")
    data = json.load(open(path)) if os.path.exists(path) else {}
    data.update(fields)
    with open(path, "w") as f:
        json.dump(data, f, indent=1)
        f.write("\n")


# ---------------------------------------------------------------- parameters inside an exported model

def parameter_map(model, path):
    """parameter name -> initializer name, found by comparing values: exporters rename, and transpose some ("transpose:")."""
    tensors = [(i.name, numpy_helper.to_array(i)) for i in onnx.load(path).graph.initializer]
    found = {}
    for name, param in model.named_parameters():
        want = param.detach().numpy()
        for init, have in tensors:
            if have.shape == want.shape and np.array_equal(have, want):
                found[name] = init
                break
            if want.ndim == 2 and have.shape == want.T.shape and np.array_equal(have, want.T):
                found[name] = "transpose:" + init
                break
        else:
            raise ValueError(f"parameter {name} is not in {path}")
    return found


def load_parameters(model, case_dir):
    """Fill `model` from model.onnx with the map kept in case.json."""
    with open(os.path.join(case_dir, "case.json")) as f:
        names = json.load(f)["parameters"]
    tensors = {i.name: numpy_helper.to_array(i) for i in onnx.load(os.path.join(case_dir, "model.onnx")).graph.initializer}
    with torch.no_grad():
        for name, param in model.named_parameters():
            init = names[name]
            value = torch.from_numpy(tensors[init.removeprefix("transpose:")].copy())
            param.copy_(value.t() if init.startswith("transpose:") else value)
    return model.eval()


# ---------------------------------------------------------------- choosing test inputs

def routing(model, moes, inputs):
    """Logits of every MoE layer for one forward pass, each [tokens, experts]."""
    model.train()  # keeps the logits
    with torch.no_grad():
        model(inputs)
    model.eval()
    return [m.logits for m in moes]


def boundary_margin(logits, k):
    """Distance between the k-th and the next logit; a smaller rounding difference cannot change the choice."""
    top = logits.topk(k + 1, -1).values
    return top[:, k - 1] - top[:, k]


def choose_sets(model, moes, candidates, shapes, min_margin=1e-4):
    """For each shape the first candidate input, cut to it, that has no near tie; reports margins and experts hit."""
    chosen, hit, report = [], [set() for _ in moes], []
    stream = iter(candidates)
    for shape in shapes:
        while True:
            inputs = next(stream)[:shape[0], :shape[1]]
            logits = routing(model, moes, inputs)
            margin = min(float(boundary_margin(lg, m.router.k).min()) for lg, m in zip(logits, moes))
            if margin >= min_margin:
                break
        used = [set(lg.topk(m.router.k, -1).indices.flatten().tolist()) for lg, m in zip(logits, moes)]
        for all_used, now in zip(hit, used):
            all_used |= now
        report.append({"shape": list(inputs.shape), "min_routing_margin": margin,
                       "experts_without_tokens": [m.experts - len(now) for m, now in zip(moes, used)]})
        chosen.append(inputs)
    return chosen, [len(h) for h in hit], report
