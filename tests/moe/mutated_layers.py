#!/usr/bin/env python3
"""Layers in which one obligation is broken: they keep meaning what they mean.

usage: mutated_layers.py --moec MOEC [--seed N] [--count N] [--only I] [--part N]

Each model has one layer of layers.py and its mutation. The result must be that of
a run with --disable-pass=moe. Where running the selected experts only would give
something else, or where it could not be proved that it does not (REFUSED), the
layer must not be in the report as a sparse one. Sound twins, built with the same
numbers, show that a mutation changes results (DIFFERS), though not each one.
"""
import argparse
import collections
import pathlib
import sys
import tempfile

import numpy as np

import layers
from compiled import Compiled, difference, indices, layers_by_prefix, passes
from graph import F32, Graph

LOOPS = {"form": "loop", "k": 2, "experts": 4}
GROUPS = {"form": "grouped", "k": 2, "experts": 4}
CHAIN = {"form": "dense", "dispatch": "chain", "k": 2, "experts": 4}
BATCHED = {"form": "dense", "k": 2, "experts": 4}
MASKED = {"router": "masked_softmax"}
PLACES = {"form": "capacity", "experts": 4, "groups": 1, "capacity": 2, "bound": "number",
          "into": "product", "back": "product", "dropped": "nothing"}
MOVES = PLACES | {"into": "scatter_nd", "back": "gather"}
BIASED = {"kind": "mlp_bias"}
ASSIGNED = {"form": "assigned", "experts": 4, "k": 1, "kind": "mlp"}

REFUSED, DIFFERS = "refused", "differs"
# name, what is mutated, and what is claimed of it
MUTATIONS = [
    # An expert that mixes its rows is none of one row. Where only one does, the
    # others may still be taken for a layer, and a difference for two layers.
    ("mean", LOOPS | BIASED, {DIFFERS}),
    ("softmax", LOOPS | BIASED, {REFUSED, DIFFERS}),
    ("mean", GROUPS | BIASED, {DIFFERS}),
    ("softmax", GROUPS | BIASED, {REFUSED, DIFFERS}),
    ("mean", CHAIN | BIASED | {"mask": "mul"}, {DIFFERS}),
    ("softmax", CHAIN | BIASED | {"mask": "where"}, {REFUSED, DIFFERS}),
    ("mean_of_one", LOOPS, {DIFFERS}),
    ("mean_of_one", GROUPS, {DIFFERS}),
    ("softmax_of_one", CHAIN, {DIFFERS}),
    # The weight of an unselected expert is not exactly zero.
    ("fill", CHAIN | {"router": "softmax_topk", "mask": "mul"}, {REFUSED, DIFFERS}),
    ("fill", BATCHED | {"dispatch": "batched", "router": "topk_softmax"}, {REFUSED, DIFFERS}),
    ("small_mask", CHAIN | MASKED | {"mask": "mul"}, {REFUSED, DIFFERS}),
    ("small_mask", BATCHED | MASKED | {"dispatch": "batched"}, {REFUSED, DIFFERS}),
    ("finite_mask", CHAIN | MASKED | {"mask": "mul"}, {REFUSED}),
    ("finite_mask", BATCHED | MASKED | {"dispatch": "tile"}, {REFUSED}),
    # Rows come back elsewhere than they were taken.
    ("shifted_rows", LOOPS | {"combine": "scatter_nd"}, {DIFFERS}),
    ("shifted_rows", LOOPS | {"combine": "scatter_elements"}, {DIFFERS}),
    ("wrong_inverse", GROUPS | {"combine": "reduce"}, {REFUSED, DIFFERS}),
    ("wrong_divisor", LOOPS | {"dispatch": "routes", "tokens": "div"}, {REFUSED, DIFFERS}),
    ("wrong_divisor", LOOPS | {"dispatch": "routes", "tokens": "table"}, {REFUSED, DIFFERS}),
    ("wrong_divisor", GROUPS | {"tokens": "div"}, {REFUSED, DIFFERS}),
    ("shifted_group", GROUPS | {"ranges": "slice"}, {DIFFERS}),
    ("shifted_group", GROUPS | {"ranges": "range"}, {DIFFERS}),
    ("reduce_max", GROUPS | {"combine": "each_group", "inverse": "sort"}, {REFUSED, DIFFERS}),
    ("wrong_divisor", GROUPS | {"combine": "each_group"}, {REFUSED, DIFFERS}),
    # Terms are not added: of equal indices the last one wins, or the largest.
    ("no_reduction", GROUPS | {"combine": "scatter_nd"}, {REFUSED, DIFFERS}),
    ("no_reduction", GROUPS | {"combine": "scatter_elements"}, {REFUSED, DIFFERS}),
    ("reduce_max", LOOPS | {"combine": "scatter_nd"}, {REFUSED, DIFFERS}),
    ("reduce_max", LOOPS | {"combine": "scatter_elements"}, {REFUSED, DIFFERS}),
    # Routes of an expert share a place, or have one in another expert's buffer.
    ("no_base", PLACES | {"k": 2, "choice": "each_slot"}, {REFUSED, DIFFERS}),
    ("no_base", PLACES | {"k": 2, "choice": "rounds"}, {REFUSED, DIFFERS}),
    ("wrong_axis", PLACES | {"k": 1, "count": "after", "pick": "sum"}, {REFUSED, DIFFERS}),
    ("overflow", MOVES | {"k": 1, "count": "after", "pick": "sum", "dump": "behind",
                          "back": "gather_zero"}, {REFUSED, DIFFERS}),
    # Rows without a place are added to others; results of others are taken for them.
    ("dump_not_zero", MOVES | {"k": 2, "choice": "tokens", "count": "after", "pick": "sum",
                               "dump": "first"}, {REFUSED, DIFFERS}),
    ("dump_not_zero", MOVES | {"k": 1, "count": "after", "pick": "gather", "dump": "clamp"},
     {REFUSED, DIFFERS}),
    ("weights_stay", MOVES | {"k": 2, "choice": "slots_first", "count": "exclusive",
                              "pick": "max", "dump": "first"}, {REFUSED, DIFFERS}),
    ("weights_stay", MOVES | {"k": 1, "count": "after", "pick": "sum", "dump": "clamp"},
     {REFUSED, DIFFERS}),
    ("one_group", PLACES | {"k": 2, "choice": "tokens", "groups": 2}, {DIFFERS}),
    # Sound, but not what they look like.
    ("other_router", LOOPS | {"router": "softmax_topk"}, {DIFFERS}),
    ("other_router", GROUPS | {"router": "topk_softmax"}, {DIFFERS}),
    ("other_router", CHAIN | {"router": "softmax_topk"}, {DIFFERS}),
    ("other_router", {"form": "gathered", "router": "softmax_topk", "k": 2}, {DIFFERS}),
    ("shifted_weights", {"form": "gathered", "router": "softmax_topk", "k": 2}, {DIFFERS}),
    ("shifted_weights", GROUPS | {"combine": "einsum", "router": "softmax_topk"}, {DIFFERS}),
    ("unmasked", CHAIN | BIASED, {DIFFERS}),
    # Rows are written over by masks, but not each once and where it came from.
    ("shifted_mask", ASSIGNED, {DIFFERS}),
    ("both_masks", ASSIGNED, {DIFFERS}),
    ("adds", ASSIGNED | {"over": "tokens"}, {REFUSED, DIFFERS}),
    ("doubled", ASSIGNED, {DIFFERS}),
    ("second_use", LOOPS, set()),
    ("second_use", GROUPS, set()),
    ("second_use", CHAIN, set()),
    ("second_use", {"form": "gathered"}, set()),
]


def expose_some(g, rng):
    """Makes inner values outputs too: an expert's hidden rows, its rows' weights."""
    candidates = [n for n in g.nodes if n.op_type in ("Relu", "Erf", "Tanh", "Sigmoid", "MatMul")]
    for i, at in enumerate(rng.permutation(len(candidates))[:2]):
        g.outputs.append((g.reshape(candidates[at].output[0], -1), F32, [f"N{i}"]))


def build(seed, index):
    """A mutated layer and its sound twin, as models of the same numbers."""
    name, fixed, claims = MUTATIONS[index % len(MUTATIONS)]
    models, specs = [], []
    for mutated in (True, False):
        rng = np.random.default_rng([seed, index])
        g = Graph(rng)
        g.prefix = "L0/"
        g.inputs.append(("x", F32, ["T", layers.D]))
        spec = layers.draw(rng, **fixed)
        if spec["router"] == "argmax" and fixed.get("k") != 1:  # k stays 2
            spec |= {"router": "softmax_topk", "k": fixed.get("k", 2)}
        if mutated:
            spec["mutation"] = name
        y = layers.make_layer(g, spec, "x")
        g.outputs.append((y, F32, ["T", layers.H]))
        if mutated and name == "second_use":
            expose_some(g, rng)
        models.append(g.model())
        specs.append(spec)
    x = np.random.default_rng([seed, index, 1]).normal(0, 1, (9, layers.D))
    return models, {"x": x.astype(np.float32)}, specs[0], claims


def differs_from_twin(moec, folder, twin, inputs, plain, recognises):
    """Whether the mutation changes the result."""
    compiled = Compiled(moec, folder, twin, inputs)
    sound = compiled.run(*(["--disable-pass=moe"] if recognises else []))
    return sound is not None and difference(plain[0], sound[0]) is not None


def check_model(args, index, folder, recognises, changed):
    """The specification, and texts of what is wrong; notes in changed[mutation]
    whether results are those of a sound layer."""
    (model, twin), inputs, spec, claims = build(args.seed, index)
    compiled = Compiled(args.moec, folder, model, inputs)
    plain = compiled.run(*(["--disable-pass=moe"] if recognises else []))
    if plain is None:
        return spec, [compiled.error]
    problems = []
    if recognises:
        outputs, report = compiled.run_and_report()
        if outputs is None:
            return spec, [compiled.error]
        problems += [difference(a, b) for a, b in zip(outputs, plain)]
        found, _ = layers_by_prefix(report, 1)
        if REFUSED in claims and any(layer["sparse"] for layer in found[0]):
            problems.append("is in the report as a sparse layer")
    if DIFFERS in claims:
        changed[spec["mutation"], spec["form"]] |= differs_from_twin(
            args.moec, folder, twin, inputs, plain, recognises)
    return spec, [p for p in problems if p]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--moec", required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=10 * len(MUTATIONS), help="models")
    parser.add_argument("--only", type=int, help="one model of the seed")
    parser.add_argument("--part", type=int, default=1, help="one of so many models")
    parser.add_argument("--keep", type=pathlib.Path, help="folder for the latest model")
    args = parser.parse_args()
    recognises = "moe" in passes(args.moec)
    print(f"seed {args.seed}, {args.count} models"
          f"{'' if recognises else '; this moec recognises nothing'}", flush=True)
    failed, changed = collections.Counter(), collections.defaultdict(bool)
    with tempfile.TemporaryDirectory() as folder:
        if args.keep:
            args.keep.mkdir(parents=True, exist_ok=True)
        for index in indices(args, args.count):
            spec, problems = check_model(args, index, args.keep or folder, recognises,
                                         changed)
            for problem in problems:
                failed[spec["mutation"]] += 1
                print(f"--seed {args.seed} --only {index}: {layers.text_of(spec)}: {problem}",
                      flush=True)
    for (mutation, form), differs in changed.items():
        if not differs and args.only is None and args.part == 1:
            failed[mutation] += 1
            print(f"{mutation} in {form} changes no result: what does it test?")
    print(f"{sum(failed.values())} failures {dict(failed) or ''}")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
