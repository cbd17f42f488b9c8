"""Train the byte-level MoE language model of case trained_charlm and write the case.

    python train_charlm.py --out trained_charlm          (about 10 minutes on one core)

The text is the documentation topics and standard-library sources of the Python that runs this (PSF licence).
"""
import argparse
import os
import platform

import numpy as np
import torch
from torch.export import Dim

import trained_common as tc

CASES = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def build(dim=96, heads=4, experts=32, k=4, width=64, renorm=True):
    return tc.ByteLm(dim, heads, [tc.Moe(dim, experts, k, width, renorm) for _ in range(2)])


def write_lm_case(model, out, parts, dispatch, seed, length, train_info, **case_fields):
    """model.onnx, calibration.npz, test.npz, test_large.npz, test_data_sets, case.json and the start of quality.json.

    `dispatch` is the form in which the MoE layers are exported, "" if they have only one.
    """
    os.makedirs(out, exist_ok=True)
    moes = model.moes()
    calibration = tc.windows(parts["calibration"], 64, length)
    test, large = (tc.windows(parts["test"], count, length) for count in (64, 512))
    np.savez_compressed(os.path.join(out, "calibration.npz"), bytes_in=calibration[:, :-1])
    np.savez_compressed(os.path.join(out, "test.npz"), bytes_in=test[:, :-1], targets=test[:, 1:])
    np.savez_compressed(os.path.join(out, "test_large.npz"), bytes_in=large[:, :-1], targets=large[:, 1:])

    path = os.path.join(out, "model.onnx")
    for moe in moes:
        moe.form = dispatch
    names = (["bytes_in"], ["logits"])
    tc.export(model, torch.from_numpy(test[:2, :16]), path, names,
              {"bytes_in": {0: Dim.DYNAMIC, 1: Dim.DYNAMIC}})
    for moe in moes:
        moe.form = "grouped"

    rng = np.random.default_rng(seed)
    pool = tc.windows(parts["test"], 512, length)[:, :-1]
    stream = (torch.from_numpy(pool[rng.permutation(len(pool))[:4]]) for _ in range(10000))
    sets, hit, report = tc.choose_sets(model, moes, stream, [(1, 1), (1, 3), (2, 17), (1, length), (2, length)])
    for i, inputs in enumerate(sets):
        with torch.no_grad():
            logits = model(inputs)
        tc.write_test_data(out, i, names, ([inputs.numpy()], [logits.numpy()]))

    tc.write_case(out, rtol=1e-3, atol=1e-3, expect="recognise",
                  moe_layers=[{"experts": m.experts, "k": m.router.k,
                               "note": m.kind + f", {m.width} neurons per expert"} for m in moes],
                  reference="torch eager float32" + (", experts computed one by one on their own tokens, which is not "
                                                     "the exported form" if dispatch else ""),
                  data_sets=report, experts_hit_by_all_sets=hit, parameters=tc.parameter_map(model, path), **case_fields)
    tc.update_quality(out, full={"unit": "nats per byte",
                                 "train_loss_smoothed": train_info["loss"],
                                 "calibration_loss": tc.lm_loss(model, calibration),
                                 "test_loss": tc.lm_loss(model, test),
                                 "test_loss_onnxruntime": tc.ort_loss(out, test[:, :-1], test[:, 1:], 1),
                                 "test_large_loss": tc.lm_loss(model, large)},
                      training=train_info)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default=os.path.join(CASES, "trained_charlm"))
    parser.add_argument("--text", help="a file to learn from instead of the installed Python's own text")
    parser.add_argument("--steps", type=int, default=2200)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--balance", type=float, default=0.01)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--checkpoint", help="load this instead of training if it exists, else save to it")
    args = parser.parse_args()

    torch.set_num_threads(1)
    torch.manual_seed(args.seed)
    parts = tc.split_chunks(tc.load_text(args.text))
    model = build()
    info = tc.train_or_load(model, args.checkpoint, lambda: tc.train_lm(
        model, parts["train"], args.steps, args.batch, args.length, args.lr, args.balance, args.seed))
    info.update({k: v for k, v in vars(args).items() if k not in ("out", "text", "checkpoint")})
    write_lm_case(model, args.out, parts, "gather", args.seed, args.length, info,
                  family="byte-level language model, trained", form="c1",
                  source=f"train_charlm.py, torch {torch.__version__}, torch.onnx.export(dynamo=True), opset 20",
                  why="A really trained MoE, so that pruning and quantising experts can be judged by held-out loss.",
                  data=f"documentation topics and standard-library sources of Python {platform.python_version()}, PSF licence")


if __name__ == "__main__":
    main()
