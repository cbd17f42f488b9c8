"""Train case trained_digits: scikit-learn's 8x8 digits, one residual layer of 16 experts (top-2), dense-masked export.

    python train_digits.py --out trained_digits          (seconds)

There is no balance loss, so some experts end up rarely or never used. Late in training the idlest few are overwritten
with slightly disturbed copies of the busiest ("revival"), which then drift apart only a little and stay near duplicates.
"""
import argparse
import os
import time

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch.export import Dim

import trained_common as tc

CASES = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


class MlpMoe(nn.Module):
    """ReLU experts with biases; top-k on logits, then softmax over the chosen."""

    def __init__(self, dim, experts, k, width):
        super().__init__()
        self.experts, self.width, self.form = experts, width, "dense"
        self.router = nn.Linear(dim, experts)
        self.router.k = k
        nn.init.normal_(self.router.weight, std=1 / dim ** 0.5)
        self.w1 = nn.Parameter(torch.randn(experts, width, dim) / dim ** 0.5)
        self.b1 = nn.Parameter(torch.zeros(experts, width))
        self.w2 = nn.Parameter(torch.randn(experts, dim, width) / width ** 0.5)
        self.b2 = nn.Parameter(torch.zeros(experts, dim))

    def revive(self, count, noise):
        """Overwrite the `count` idlest experts (and their router rows) with disturbed copies of the busiest."""
        order = torch.bincount(self.chosen.flatten(), minlength=self.experts).argsort(descending=True, stable=True)
        source, target = order[:count], order[-count:]
        with torch.no_grad():
            for p in (self.w1, self.b1, self.w2, self.b2, self.router.weight, self.router.bias):
                p[target] = p[source] + noise * p[source].std() * torch.randn_like(p[source])

    def expert(self, e, x):
        return F.linear(F.relu(F.linear(x, self.w1[e], self.b1[e])), self.w2[e], self.b2[e])

    def forward(self, x):
        logits = self.router(x)
        idx, w = self.select(logits)
        if self.training:
            self.logits, self.chosen = logits, idx
        return getattr(self, self.form)(x, idx, w)

    def select(self, logits):
        top, idx = logits.topk(self.router.k, -1)
        return idx, top.softmax(-1)

    def dense(self, x, idx, w):
        mix = torch.zeros(x.shape[0], self.experts, dtype=x.dtype).scatter(1, idx, w)
        hidden = F.relu(torch.einsum("th,efh->tef", x, self.w1) + self.b1)
        y = torch.einsum("tef,ehf->teh", hidden, self.w2) + self.b2
        return (y * mix.unsqueeze(-1)).sum(1)

    def loop(self, x, idx, w):
        """Every expert on its own rows only: an independent reference for the dense form."""
        y = torch.zeros_like(x)
        for e in range(self.experts):
            rows, slots = (idx == e).nonzero(as_tuple=True)
            y.index_add_(0, rows, self.expert(e, x[rows]) * w[rows, slots, None])
        return y


class Classifier(nn.Module):
    def __init__(self, inputs, dim, moe, classes):
        super().__init__()
        self.stem, self.norm = nn.Linear(inputs, dim), tc.RmsNorm(dim)
        self.moe, self.head = moe, nn.Linear(dim, classes)

    def forward(self, x):
        h = F.relu(self.stem(x))
        return self.head(h + self.moe(self.norm(h)))


def accuracy(model, x, y):
    model.eval()
    with torch.no_grad():
        logits = model(x)
    return {"accuracy": float((logits.argmax(-1) == y).float().mean()), "loss": float(F.cross_entropy(logits, y))}


def train(model, x, y, steps, batch, lr, seed, revived, noise=0.01, jitter=0.0):
    opt = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.01)
    sched = torch.optim.lr_scheduler.CosineAnnealingLR(opt, steps)
    gen = torch.Generator().manual_seed(seed)
    start = time.time()
    model.train()
    for step in range(steps):
        if step == steps * 9 // 10:
            model(x)
            model.moe.revive(revived, noise)
        pick = torch.randint(len(x), (batch,), generator=gen)
        loss = F.cross_entropy(model(x[pick] + jitter * torch.randn(batch, x.shape[1], generator=gen)), y[pick])
        loss.backward()
        opt.step()
        sched.step()
        opt.zero_grad()
    return loss.item(), time.time() - start


def near_duplicates(moe, x, threshold=0.1):
    """Pairs of experts whose outputs on x differ by less than `threshold` of their norm."""
    with torch.no_grad():
        out = torch.stack([moe.expert(e, x) for e in range(moe.experts)])
    size = out.flatten(1).norm(dim=1)
    return [[i, j, round(float((out[i] - out[j]).norm() / torch.minimum(size[i], size[j])), 5)]
            for i in range(moe.experts) for j in range(i + 1, moe.experts)
            if (out[i] - out[j]).norm() < threshold * torch.minimum(size[i], size[j])]


def write_classifier_case(model, out, splits, train_info, seed, **case_fields):
    """splits = {split: (x, y)} as float32 / int64 tensors."""
    os.makedirs(out, exist_ok=True)
    moe, (calibration, _), (test, label) = model.moe, splits["calibration"], splits["test"]
    np.savez_compressed(os.path.join(out, "calibration.npz"), x=calibration.numpy())
    np.savez_compressed(os.path.join(out, "test.npz"), x=test.numpy(), targets=label.numpy())
    path, names = os.path.join(out, "model.onnx"), (["x"], ["logits"])
    moe.form = "dense"
    tc.export(model, test[:3], path, names, {"x": {0: Dim.DYNAMIC}})
    moe.form = "loop"

    rng = np.random.default_rng(seed)
    stream = (test[rng.permutation(len(test))] for _ in range(10000))
    width = test.shape[1]
    sets, hit, report = tc.choose_sets(model, [moe], stream, [(1, width), (3, width), (17, width), (100, width)])
    for i, inputs in enumerate(sets):
        with torch.no_grad():
            shaken = (model(inputs * (1 + 1e-6 * torch.randn_like(inputs))) - model(inputs)).abs().max()
            tc.write_test_data(out, i, names, ([inputs.numpy()], [model(inputs).numpy()]))
        report[i]["output_change_for_1e-6_input_noise"] = float(shaken)
    with torch.no_grad():
        normed = model.norm(F.relu(model.stem(calibration)))
    tc.write_case(out, rtol=1e-4, atol=1e-4, expect="recognise",
                  moe_layers=[{"experts": moe.experts, "k": moe.router.k,
                               "note": f"ReLU MLP with biases, width {moe.width}"}],
                  reference="torch eager float32, experts computed one by one on their own rows, not the exported form",
                  data_sets=report, experts_hit_by_all_sets=hit, parameters=tc.parameter_map(model, path), **case_fields)
    full = {split: accuracy(model, x, y) for split, (x, y) in splits.items()}
    full["test"]["loss_onnxruntime"] = tc.ort_loss(out, test.numpy(), label.numpy(), len(test))
    tc.update_quality(out, full=full, training=train_info,
                      near_duplicate_experts={"threshold": 0.1, "pairs": near_duplicates(moe, normed)})


def split(x, y, sizes, seed):
    order = np.random.default_rng(seed).permutation(len(x))
    x, y = torch.from_numpy(x[order].astype(np.float32)), torch.from_numpy(y[order].astype(np.int64))
    ends = np.cumsum(sizes)
    return {"train": (x[:ends[0]], y[:ends[0]]), "calibration": (x[ends[0]:ends[1]], y[ends[0]:ends[1]]),
            "test": (x[ends[1]:], y[ends[1]:])}


def build():
    return Classifier(64, 24, MlpMoe(24, experts=16, k=2, width=16), 10)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default=os.path.join(CASES, "trained_digits"))
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--lr", type=float, default=4e-3)
    parser.add_argument("--jitter", type=float, default=0.15, help="noise added to training pixels (0..1)")
    parser.add_argument("--revived", type=int, default=4, help="idle experts overwritten with copies of busy ones")
    parser.add_argument("--seed", type=int, default=3)
    args = parser.parse_args()

    torch.set_num_threads(1)
    torch.manual_seed(args.seed)
    x, y = load_digits(return_X_y=True)
    data = split(x / 16, y, (900, 300), args.seed)
    model = build()
    loss, seconds = train(model, *data["train"], args.steps, args.batch, args.lr, args.seed, args.revived,
                          jitter=args.jitter)
    info = {"loss": loss, "seconds": round(seconds, 1), **{k: v for k, v in vars(args).items() if k != "out"}}
    write_classifier_case(model, args.out, data, info, args.seed,
                          family="classifier with a mixture of MLPs, trained", form="d2",
                          source=f"train_digits.py, torch {torch.__version__}, torch.onnx.export(dynamo=True), opset 20",
                          why="Trained experts, several rarely used or near duplicates: pruning must find them.",
                          data="scikit-learn load_digits (UCI optical recognition of handwritten digits, CC BY 4.0)")


if __name__ == "__main__":
    main()
