"""Simple reference methods for the trained cases; results go into quality.json of each case.

    python baselines.py trained_charlm trained_digits trained_bigrouter

Sections written: routing (statistics), pruning, quantisation (language model), gating (wide router).
Scores are computed on calibration.npz, quality is measured on test.npz. Plain methods, meant to be beaten.
"""
import argparse
import copy
import os

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

import train_bigrouter
import train_charlm
import train_digits
import trained_common as tc

CASES = {"trained_charlm": train_charlm.build, "trained_digits": train_digits.build,
         "trained_bigrouter": train_bigrouter.build}


# ---------------------------------------------------------------- what a layer sees and does

def capture(model, moes, inputs, batch=8):
    """Input rows and router logits of every MoE layer: [(x [N, H], logits [N, E]), ...]."""
    seen = [[] for _ in moes]
    hooks = [m.register_forward_pre_hook(lambda _, args, rows=rows: rows.append(args[0].flatten(0, -2)))
             for m, rows in zip(moes, seen)]
    with torch.no_grad():
        for part in inputs.split(batch if inputs.dtype == torch.int64 else len(inputs)):
            model(part)
    for hook in hooks:
        hook.remove()
    rows = [torch.cat(parts) for parts in seen]
    with torch.no_grad():
        return [(x, m.router(x)) for m, x in zip(moes, rows)]


def routing_statistics(moe, logits):
    levels = [0.01, 0.05, 0.25, 0.5, 0.75, 0.95]
    idx, _ = moe.select(logits)
    count = torch.bincount(idx.flatten(), minlength=moe.experts)
    load = count / count.sum()
    load_entropy = float(-(load * load.clamp_min(1e-30).log()).sum())
    prob = logits.softmax(-1)
    top = logits.topk(moe.router.k + 1, -1).values

    def quantiles(v):
        return {f"{p:g}": round(float(torch.quantile(v, p)), 5) for p in levels}

    stats = {"tokens": len(logits), "slots": int(count.sum()), "experts_unused": int((count == 0).sum()),
             "load_entropy": round(load_entropy, 4), "load_entropy_max": round(float(np.log(moe.experts)), 4),
             "effective_experts": round(float(np.exp(load_entropy)), 2),
             "router_entropy_mean": round(float(-(prob * prob.clamp_min(1e-30).log()).sum(-1).mean()), 4),
             "margin_top1_top2": quantiles(top[:, 0] - top[:, 1]),
             "margin_boundary_k": quantiles(top[:, -2] - top[:, -1])}
    if moe.experts <= 64:
        stats["tokens_per_expert"] = count.tolist()
    else:
        stats["tokens_per_expert_quantiles"] = {f"{p:g}": int(torch.quantile(count.float(), p)) for p in (0, *levels, 1)}
    return stats


def all_outputs(moe, x):
    with torch.no_grad():
        return torch.stack([moe.expert(e, x) for e in range(moe.experts)], 1)  # [N, E, H]


def combine(moe, logits, outputs, keep):
    """Layer output when the router knows only the experts in `keep`."""
    idx, w = moe.select(logits[:, keep])
    idx = torch.tensor(keep)[idx]
    rows = torch.arange(len(idx))[:, None]
    return (outputs[rows, idx] * w.unsqueeze(-1)).sum(1)


# ---------------------------------------------------------------- pruning

def scores(moe, logits, outputs):
    """criterion -> one score per expert, the lowest are pruned."""
    idx, w = moe.select(logits)
    gate = torch.zeros_like(logits).scatter(1, idx, w)
    routed = (gate > 0).float()
    count = routed.sum(0)
    mass = (gate * outputs.norm(dim=-1)).sum(0)
    mean = (outputs * routed.unsqueeze(-1)).sum(0) / count.clamp_min(1)[:, None]
    spread = ((outputs - mean) ** 2).sum(-1)
    return {"frequency": count, "reap": mass / count.clamp_min(1), "mass": mass,
            "mean_output": (gate ** 2 * spread).sum(0)}, mean


def greedy_order(moe, logits, outputs, smallest):
    """Backward greedy: drop the expert whose loss changes the layer output least, the router choosing among the rest."""
    full = combine(moe, logits, outputs, list(range(moe.experts)))
    keep, dropped = list(range(moe.experts)), []
    users_only = getattr(moe.router, "renorm", True)  # weights of a token then depend on its chosen experts alone
    while len(keep) > smallest:
        now = combine(moe, logits, outputs, keep)
        error = ((now - full) ** 2).sum(-1)
        chosen = torch.tensor(keep)[moe.select(logits[:, keep])[0]]
        best = None
        for e in keep:
            rest = [i for i in keep if i != e]
            rows = (chosen == e).any(1).nonzero()[:, 0] if users_only else torch.arange(len(logits))
            after = combine(moe, logits[rows], outputs[rows], rest)
            rise = float((((after - full[rows]) ** 2).sum(-1) - error[rows]).sum())
            if best is None or rise < best[0]:
                best = (rise, e)
        keep.remove(best[1])
        dropped.append(best[1])
    return dropped


def greedy_sequential(model, find, calibration, counts):
    """Greedy layer by layer, each layer on the activations that the already pruned layers before it produce."""
    keeps = []
    for i, count in enumerate(counts):
        small = pruned_copy(model, find, keeps)
        moe = find(small)[i]
        x, logits = capture(small, [moe], calibration)[0]
        dropped = greedy_order(moe, logits, all_outputs(moe, x), count)
        keeps.append(sorted(set(range(moe.experts)) - set(dropped)))
    return keeps


def pruned_copy(model, find, keeps):
    """Only the first len(keeps) layers are pruned."""
    small = copy.deepcopy(model)
    for moe, keep in zip(find(small), keeps):
        total = moe.experts
        for module in moe.modules():
            for name, p in list(module.named_parameters(recurse=False)):
                if p.shape[0] == total:
                    setattr(module, name, nn.Parameter(p[keep].detach().clone()))
        moe.experts = len(keep)
    return small


def mean_output_copy(model, find, keeps, means):
    """Router untouched; a pruned expert answers with its mean output on calibration tokens."""
    changed = copy.deepcopy(model)
    for moe, keep, mean in zip(find(changed), keeps, means):
        def expert(e, x, moe=moe, keep=set(keep), mean=mean):
            return type(moe).expert(moe, e, x) if e in keep else mean[e].expand(len(x), -1)
        moe.expert = expert
    return changed


def prune(model, find, calibration, test_quality, ratios=(0.75, 0.5, 0.25), greedy_tokens=8192):
    """test_quality(model, quick=False) -> dict. Every layer keeps the same share of its experts."""
    moes = find(model)
    table = {"full": test_quality(model)}
    per_layer = []
    for moe, (x, logits) in zip(moes, capture(model, moes, calibration)):
        outputs = all_outputs(moe, x)
        score, mean = scores(moe, logits, outputs)
        order = {name: s.argsort(stable=True).tolist() for name, s in score.items()}
        pick = torch.linspace(0, len(x) - 1, min(len(x), greedy_tokens)).long()
        order["greedy"] = greedy_order(moe, logits[pick], outputs[pick], round(min(ratios) * moe.experts))
        per_layer.append((order, mean, logits, outputs))

    def output_error(keeps):
        worst = []
        for moe, keep, (_, _, logits, outputs) in zip(moes, keeps, per_layer):
            full = combine(moe, logits, outputs, list(range(moe.experts)))
            worst.append(float((combine(moe, logits, outputs, keep) - full).norm() / full.norm()))
        return [round(e, 4) for e in worst]

    def keep_best(criterion, drop):
        return [sorted(set(range(moe.experts)) - set(order[criterion][:count]))
                for moe, (order, *_), count in zip(moes, per_layer, drop)]

    for ratio in ratios:
        drop = [moe.experts - round(ratio * moe.experts) for moe in moes]
        row = {}
        for name in ("frequency", "reap", "mass", "greedy"):
            keeps = keep_best(name, drop)
            row[name] = {**test_quality(pruned_copy(model, find, keeps)),
                         "layer_output_error_on_calibration": output_error(keeps), "kept": keeps}
        if len(moes) > 1:
            keeps = greedy_sequential(model, find, calibration, [m.experts - n for m, n in zip(moes, drop)])
            row["greedy_sequential"] = {**test_quality(pruned_copy(model, find, keeps)), "kept": keeps}
        keeps = keep_best("mean_output", drop)
        means = [mean for _, mean, *_ in per_layer]
        row["mean_output"] = {**test_quality(mean_output_copy(model, find, keeps, means)), "kept": keeps}
        runs = []
        for seed in range(5):
            rng = np.random.default_rng(seed)
            keeps = [sorted(rng.permutation(m.experts)[n:].tolist()) for m, n in zip(moes, drop)]
            runs.append(test_quality(pruned_copy(model, find, keeps), quick=True))
        row["random"] = {key: float(np.mean([r[key] for r in runs])) for key in runs[0]}
        row["random"].update({key + "_std": float(np.std([r[key] for r in runs])) for key in runs[0]})
        table[f"keep_{ratio:g}"] = row
        for name, values in row.items():
            print(f"keep {ratio:g} {name}:", {k: round(v, 4) for k, v in values.items() if isinstance(v, float)}, flush=True)
    table["notes"] = (
        "frequency / reap / mass: lowest pruned, reap = mean over routed tokens of gate * |output|, mass = "
        "its sum; greedy: backward, least squared change of the layer output (greedy_sequential: with the "
        "earlier layers pruned). For these and random the router knows only the kept experts. mean_output: "
        "least gate^2 * variance pruned, router untouched, pruned experts give their mean. For the language "
        "models loss is over test.npz (differences between methods have a standard error of about 0.01) and "
        "loss_large over test_large.npz (about 0.003).")
    return table


# ---------------------------------------------------------------- quantisation of expert weights

def fake_quantise(w, bits, block):
    """Symmetric round-to-nearest along the last axis; one scale per row (block None) or per block."""
    size = w.shape[-1] if block is None else block
    padded = F.pad(w, (0, -w.shape[-1] % size)).unflatten(-1, (-1, size))
    top = 2 ** (bits - 1) - 1
    scale = padded.abs().amax(-1, keepdim=True).clamp_min(1e-12) / top
    return ((padded / scale).round().clamp(-top, top) * scale).flatten(-2)[..., :w.shape[-1]]


def quantise(model, find, names, test, test_quality):
    rows = {}

    def chosen(m):
        return [moe.select(logits)[0].sort(-1).values for moe, (_, logits) in zip(find(m), capture(m, find(m), test))]

    base = chosen(model)
    for bits in (8, 4, 3):
        for label, block in (("row", None), ("block32", 32)):
            changed = copy.deepcopy(model)
            error = []
            for moe in find(changed):
                for name in names:
                    p = getattr(moe, name)
                    q = fake_quantise(p.data, bits, block)
                    error.append(float((q - p.data).norm() / p.data.norm()))
                    p.data = q
            flips = [round(float((a != b).any(-1).float().mean()), 5) for a, b in zip(base, chosen(changed))]
            rows[f"int{bits}_{label}"] = {**test_quality(changed), "weight_rel_error": round(max(error), 5),
                                          "tokens_with_changed_routing": flips}
            print(f"int{bits} {label}", rows[f"int{bits}_{label}"], flush=True)
    return {"full": test_quality(model), **rows,
            "notes": "expert matrices only; symmetric, round to nearest, scale = max|w| / (2^(bits-1) - 1) along the inputs"}


# ---------------------------------------------------------------- hierarchical gating

def kmeans(x, count, seed=0, rounds=30):
    gen = torch.Generator().manual_seed(seed)
    centre = x[torch.randperm(len(x), generator=gen)[:count]].clone()
    for _ in range(rounds):
        label = torch.cdist(x, centre).argmin(1)
        for c in range(count):
            if (label == c).any():
                centre[c] = x[label == c].mean(0)
    label = torch.cdist(x, centre).argmin(1)
    used = label.unique()  # drop empty clusters
    return centre[used], torch.searchsorted(used, label)


def probe_mask(cluster_score, label, budget):
    """[N, E] mask of keys in the best clusters, as many clusters as fit into `budget` scored keys (at least one)."""
    count = cluster_score.shape[1]
    size = torch.bincount(label, minlength=count)
    order = cluster_score.argsort(-1, descending=True)
    fits = (size[order].cumsum(-1) + count) <= budget
    fits[:, 0] = True
    probed = torch.zeros_like(cluster_score, dtype=torch.bool).scatter(1, order, fits)
    return probed[:, label]


class Clusters:
    """Two-level gate: clusters of keys, scored by their centroid or by a regression of the best logit inside."""

    def __init__(self, keys, calibration, seed=0):
        self.keys = keys
        self.centre, self.label = kmeans(keys, round(len(keys) ** 0.5), seed)
        self.count = len(self.centre)
        distance = (keys - self.centre[self.label]).norm(dim=1)
        self.radius = torch.zeros(self.count).scatter_reduce(0, self.label, distance, "amax")
        best = self.best_in_cluster(calibration @ keys.T)
        a = torch.cat([calibration, torch.ones(len(calibration), 1)], 1)
        self.ridge = torch.linalg.solve(a.T @ a + 1e-2 * len(a) * torch.eye(a.shape[1]), a.T @ best)
        self.mean = calibration.mean(0)

    def spread(self):
        """Share of the variance of the keys that is left inside clusters: 1 = no cluster structure at all."""
        inside = ((self.keys - self.centre[self.label]) ** 2).sum()
        return float(inside / ((self.keys - self.keys.mean(0)) ** 2).sum())

    def best_in_cluster(self, logits):
        out = torch.full((len(logits), self.count), -torch.inf)
        return out.scatter_reduce(1, self.label.expand(len(logits), -1), logits, "amax")

    def by_centroid(self, q):
        return q @ self.centre.T

    def by_regression(self, q):
        return q @ self.ridge[:-1] + self.ridge[-1]

    def ball(self, q):
        return q @ self.centre.T + self.radius * q.norm(dim=1, keepdim=True)

    def ball_around_mean_input(self, q):
        inside = ((self.keys - self.centre[self.label]) @ self.mean)
        top = torch.full((self.count,), -torch.inf).scatter_reduce(0, self.label, inside, "amax")
        return q @ self.centre.T + top + self.radius * (q - self.mean).norm(dim=1, keepdim=True)


def coarse_rank(fraction, dim):
    return max(1, round(0.6 * fraction * dim))


def low_rank_mask(q, keys, calibration, fraction):
    """Coarse logits: exact ones for the mean input plus rank r for the deviation; the highest are then scored.

    A vector common to all keys moves all logits alike, so it is taken out first. r takes 60 % of the budget.
    """
    experts, dim = keys.shape
    rank = coarse_rank(fraction, dim)
    left = max(1, round(fraction * experts - rank - experts * rank / dim))
    keys, mean = keys - keys.mean(0), calibration.mean(0)
    moved = calibration - mean
    root = torch.linalg.cholesky(moved.T @ moved / len(moved) + 1e-4 * torch.eye(dim))
    u, s, vh = torch.linalg.svd(keys @ root, full_matrices=False)
    project = torch.linalg.solve_triangular(root.T, (s[:rank, None] * vh[:rank]).T, upper=True)
    coarse = keys @ mean + ((q - mean) @ project) @ u[:, :rank].T
    return torch.zeros(len(q), experts, dtype=torch.bool).scatter(1, coarse.topk(left, -1).indices, True)


def recall(moe, logits, mask):
    idx, w = moe.select(logits)
    found = mask.gather(1, idx).float()
    return found.sum(), (found * w).sum(), w.sum()


def gating(model, moe, calibration_x, test_x, test_quality, fractions=(0.05, 0.1, 0.2, 0.4)):
    keys, k = moe.router.weight.detach(), moe.router.k
    clusters = Clusters(keys, calibration_x)
    size = torch.bincount(clusters.label, minlength=clusters.count).float()
    gen = torch.Generator().manual_seed(0)
    shuffled = torch.randn(keys.shape, generator=gen)
    shuffled *= keys.norm(dim=1, keepdim=True) / shuffled.norm(dim=1, keepdim=True)
    control = Clusters(shuffled, calibration_x)
    top_energy = float((torch.linalg.svdvals(keys) ** 2)[:8].sum() / (keys ** 2).sum())
    result = {"clusters": clusters.count, "cluster_sizes": [int(size.min()), int(size.median()), int(size.max())],
              "variance_within_clusters": round(clusters.spread(), 4),
              "variance_within_clusters_random_keys": round(control.spread(), 4),
              "key_energy_in_top_8_directions": round(top_energy, 4)}

    def measure(make_mask, use_keys, overhead):
        hit = mass = total = n = scored = 0
        for q in test_x.split(1024):
            logits = q @ use_keys.T
            mask = make_mask(q)
            a, b, c = recall(moe, logits, mask)
            hit, mass, total, n, scored = hit + a, mass + b, total + c, n + len(q), scored + mask.sum()
        return {f"recall@{k}": round(float(hit / (n * k)), 4), "mass_recall": round(float(mass / total), 4),
                "scored_share": round(float(scored / (n * len(use_keys)) + overhead), 4)}

    def limited_quality(make_mask):
        """The model when only scored keys can be chosen; a softmax over all keys keeps its true denominator."""
        state = {}

        def select(logits):
            masked = logits.masked_fill(~state["mask"], -torch.inf)
            idx = masked.topk(k, -1).indices
            return idx, moe.weigh(logits.scatter(1, idx, masked.gather(1, idx)), idx)

        hook = moe.register_forward_pre_hook(lambda _, args: state.update(mask=make_mask(args[0].flatten(0, -2))))
        moe.select = select
        result = test_quality(model, quick=True)
        del moe.select
        hook.remove()
        return result

    for fraction in fractions:
        budget, probe, rank = fraction * len(keys), clusters.count / len(keys), coarse_rank(fraction, keys.shape[1])
        masks = {"centroid_probes": lambda q: probe_mask(clusters.by_centroid(q), clusters.label, budget),
                 "regressed_probes": lambda q: probe_mask(clusters.by_regression(q), clusters.label, budget),
                 "low_rank": lambda q: low_rank_mask(q, keys, calibration_x, fraction)}
        row = {}
        for name, make in masks.items():
            row[name] = measure(make, keys, rank / len(keys) + rank / keys.shape[1] if name == "low_rank" else probe)
            row[name].update(limited_quality(make))
        row["centroid_probes_random_keys"] = measure(
            lambda q: probe_mask(control.by_centroid(q), control.label, budget), shuffled, probe)
        result[f"scored_{fraction:g}"] = row
        print(f"scored {fraction:g}:", row, flush=True)

    exact = {"ball": [], "ball_around_mean_input": [], "best_possible_order": []}
    for q in test_x.split(1024):
        logits = q @ keys.T
        kth = logits.topk(k, -1).values[:, -1:]
        for name, bound in (("ball", clusters.ball(q)), ("ball_around_mean_input", clusters.ball_around_mean_input(q)),
                            ("best_possible_order", clusters.best_in_cluster(logits))):
            exact[name].append(((bound >= kth).float() @ size + clusters.count) / len(keys))
    result["exact_branch_and_bound_scored_share"] = {
        name: {"mean": round(float(torch.cat(v).mean()), 4), "p50": round(float(torch.cat(v).median()), 4),
               "p95": round(float(torch.quantile(torch.cat(v), 0.95)), 4)} for name, v in exact.items()}
    result["full"] = test_quality(model, quick=True)
    moe.mix = lambda x, idx, w: torch.zeros_like(x)
    result["layer_left_out"] = test_quality(model, quick=True)
    del moe.mix
    result["notes"] = (
        "scored_share counts the centroids too; low_rank: its coarse product is counted in full-key equivalents; "
        "mass_recall: found share of the mixing weight; exact: clusters whose upper bound reaches the k-th best logit")
    print(result["exact_branch_and_bound_scored_share"], flush=True)
    return result


# ---------------------------------------------------------------- cases

def run(case_dir, model):
    """All sections that fit the model kind (language model or classifier; few or many experts)."""
    model = tc.load_parameters(model, case_dir)
    torch.manual_seed(0)
    load = {name: np.load(os.path.join(case_dir, name + ".npz")) for name in ("calibration", "test")}
    is_lm = isinstance(model, tc.ByteLm)
    field = "bytes_in" if is_lm else "x"
    calibration, test = (torch.from_numpy(load[name][field]) for name in ("calibration", "test"))
    targets = torch.from_numpy(load["test"]["targets"])
    if is_lm:
        sets = {"loss": "test.npz", "loss_large": "test_large.npz"}
        windows = {}
        for key, name in sets.items():
            data = np.load(os.path.join(case_dir, name))
            windows[key] = np.concatenate([data["bytes_in"], data["targets"][:, -1:]], 1)

        def find(m):
            return m.moes()

        def quality(m, quick=False):
            return {key: tc.lm_loss(m, data) for key, data in windows.items() if key == "loss" or not quick}
    else:
        def find(m):
            m.moe.form = "loop"
            return [m.moe]

        def quality(m, quick=False):
            return train_digits.accuracy(m, test, targets)

    moes = find(model)
    seen = {"calibration": capture(model, moes, calibration), "test": capture(model, moes, test)}
    sections = {"routing": {name: [routing_statistics(moe, logits) for moe, (_, logits) in zip(moes, rows)]
                            for name, rows in seen.items()}}
    tc.update_quality(case_dir, **sections)
    with torch.no_grad():
        if moes[0].experts > 512:
            sections["gating"] = gating(model, moes[0], seen["calibration"][0][0], seen["test"][0][0], quality)
        else:
            sections["pruning"] = prune(model, find, calibration, quality)
            names = [n for n in ("gate_up_proj", "down_proj", "w1", "w2") if hasattr(moes[0], n)]
            sections["quantisation"] = quantise(model, find, names, test, quality)
    tc.update_quality(case_dir, **sections)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", help="case folders; default: " + " ".join(CASES))
    args = parser.parse_args()
    torch.set_num_threads(1)
    for case in args.cases or [os.path.join(train_charlm.CASES, name) for name in CASES]:
        name = os.path.basename(os.path.normpath(case))
        print("==", name, flush=True)
        run(case, CASES[name]())


if __name__ == "__main__":
    main()
