"""Train case trained_bigrouter: a byte-level model with one layer of 4096 one-neuron experts behind a flat dense router.

    python train_bigrouter.py --out trained_bigrouter          (about 10 minutes on one core)

The router is an ordinary matrix [E, H]; nothing but the task and the balance loss shapes its rows.
"""
import argparse
import os
import platform

import torch
import torch.nn as nn
import torch.nn.functional as F

import trained_common as tc
from train_charlm import CASES, write_lm_case


class TinyMoe(nn.Module):
    """Experts of a few neurons: y = sum over the top-k of w_e * up_e^T gelu(down_e x), w = softmax over the chosen."""

    kind = "GELU, one row in and one row out per neuron"

    def __init__(self, dim, experts, k, width):
        super().__init__()
        self.experts, self.width = experts, width
        self.router = nn.Linear(dim, experts, bias=False)
        self.router.k = k
        self.down = nn.Parameter(torch.randn(experts, width * dim) / dim ** 0.5)
        self.up = nn.Parameter(torch.randn(experts, width * dim) / (width * k) ** 0.5)

    def forward(self, x):
        flat = x.reshape(-1, x.shape[-1])
        logits = self.router(flat)
        idx, w = self.select(logits)
        if self.training:
            self.logits, self.chosen = logits, idx
        return self.mix(flat, idx, w).view_as(x)

    def select(self, logits):
        idx = logits.topk(self.router.k, -1).indices
        return idx, self.weigh(logits, idx)

    def weigh(self, logits, idx):
        return logits.gather(1, idx).softmax(-1)

    def mix(self, x, idx, w):
        t, k, d = *idx.shape, x.shape[1]
        down = F.embedding(idx, self.down).view(t, k * self.width, d)
        up = F.embedding(idx, self.up).view(t, k * self.width, d)
        act = F.gelu((down @ x.unsqueeze(-1)).squeeze(-1)).view(t, k, self.width) * w.unsqueeze(-1)
        return (act.view(t, 1, -1) @ up).squeeze(1)


class DenseFfn(nn.Module):
    def __init__(self, dim, width):
        super().__init__()
        self.inner, self.outer = nn.Linear(dim, width), nn.Linear(width, dim)

    def forward(self, x):
        return self.outer(F.gelu(self.inner(x)))


def build(dim=64, heads=4, experts=4096, k=8, width=1):
    return tc.ByteLm(dim, heads, [DenseFfn(dim, 4 * dim), TinyMoe(dim, experts, k, width)])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default=os.path.join(CASES, "trained_bigrouter"))
    parser.add_argument("--text", help="a file to learn from instead of the installed Python's own text")
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--balance", type=float, default=0.01)
    parser.add_argument("--seed", type=int, default=2)
    parser.add_argument("--checkpoint", help="load this instead of training if it exists, else save to it")
    args = parser.parse_args()

    torch.set_num_threads(1)
    torch.manual_seed(args.seed)
    parts = tc.split_chunks(tc.load_text(args.text))
    model = build()
    info = tc.train_or_load(model, args.checkpoint, lambda: tc.train_lm(
        model, parts["train"], args.steps, args.batch, args.length, args.lr, args.balance, args.seed))
    info.update({k: v for k, v in vars(args).items() if k not in ("out", "text", "checkpoint")})
    write_lm_case(model, args.out, parts, "", args.seed, args.length, info,
                  family="byte-level language model with many tiny experts (PEER-like, flat router), trained", form="c1",
                  source=f"train_bigrouter.py, torch {torch.__version__}, torch.onnx.export(dynamo=True), opset 20",
                  why="Thousands of one-neuron experts with a trained flat router: to judge hierarchical gating.",
                  data=f"documentation topics and standard-library sources of Python {platform.python_version()}, PSF licence")


if __name__ == "__main__":
    main()
