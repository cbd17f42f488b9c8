#!/usr/bin/env python3
"""Experts that no input needs are left out, with a certificate; near misses are not.

usage: pruned.py --moec MOEC [--only NAME] [--part N]

Each case of pruned_cases.py is a layer and what its report must have: exactly those
records, of rule, expert and the expert that it is the same as. Outputs are those of
--disable-pass=moe_prune, to the bit but for the sign of zero, for random tokens, tokens of
zeros, of large and of extreme numbers, and tokens that come near to choosing what was
left out; and those of a layer computed in Python. What each record says is proved anew
(certificates.py). Every case is tried again with its experts in another order, which
must find the same experts.
"""
import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
import zlib

import numpy as np

import certificates
import pruned_cases
from compiled import Compiled
from pruned_layers import Layer

TOKENS = 23


def inputs(layer, rng):
    """Tokens of all sizes; each is finite in what the layer computes of it."""
    if layer.tables is not None:
        n = min(len(t) for t in layer.tables)
        return np.concatenate([np.arange(-n, n), rng.integers(-n, n, TOKENS)])
    x = rng.normal(0, 1, (TOKENS, layer.width)).astype(np.float32)
    x[3:6] *= 100
    x[6] = 0
    x[7] = 1
    x[8] = -1
    x[9:12] *= 0.1
    for i in range(12, min(TOKENS, 12 + layer.width)):
        x[i] = 0
        x[i, i - 12] = 30 if i % 2 else -30
    if layer.integers:
        x = np.round(np.clip(x * 3, -50, 50)).astype(np.float32)
    return x


def records(report, layer):
    """{(rule, expert, same_as)} of the only layer, and what is wrong with them."""
    problems = []
    if len(report["layers"]) != 1:
        return set(), [f"{len(report['layers'])} layers in the report"]
    found = set()
    for record in report["layers"][0].get("pruned", []):
        found.add((record["rule"], record["expert"], record.get("same_as")))
        problems += certificates.check(layer, record)
    return found, problems


def named(wanted, place):
    """The records of a layer whose expert e has become number place[e]."""
    out = set()
    for rule, expert, same_as in wanted:
        out.add((rule, place[expert], None if same_as is None else place[same_as]))
    return out


def groups_of(records):
    """Duplicates as sets of numbers: which one the others share is the first."""
    parent = {}
    for rule, expert, same_as in records:
        if rule in ("duplicate", "permuted"):
            parent.setdefault(same_as, {same_as}).add(expert)
    return {frozenset(group) for group in parent.values()}


def leaving(report):
    return {r["expert"] for r in report["layers"][0].get("pruned", []) if r["leaves_router"]}


def never_chosen(dead, layer, x):
    """Experts left out that the layer in Python has chosen all the same."""
    return dead & set(layer.selected(layer.rows(x))[0].ravel().tolist())


def split(records):
    """Who shares with whom, and of the other records all."""
    return {r for r in records if r[2] is None}, groups_of(records)


def check(moec, layer, wanted, wanted_exact, leaves, folder):
    rng = np.random.default_rng(7)
    dead = {e for rule, e, _ in wanted if rule not in ("zero", "duplicate", "permuted", "neurons")}
    x = inputs(layer, rng)
    if layer.tables is None:
        near = certificates.adversarial(layer, dead or range(layer.experts), rng)
        x = np.concatenate([x, near])
    compiled = Compiled(moec, folder, layer.model(), {"x": x})
    got, report = compiled.run_and_report()
    if got is None:
        return [compiled.error]
    found, problems = records(report, layer)
    if len(report["layers"]) != 1:
        return problems
    if split(found) != split(wanted):
        problems.append(f"found {sorted(map(str, found))}, expected {sorted(map(str, wanted))}")
    if leaves is not None and leaving(report) != leaves:
        problems.append(f"experts {leaving(report)} left the router, expected {leaves}")
    chosen = never_chosen(dead & {e for _, e, _ in found}, layer, x)
    if chosen:
        problems.append(f"experts {chosen} are chosen")
    plain = compiled.run("--disable-pass=moe_prune")
    if plain is None:
        return problems + [compiled.error]
    exact = all(r["exactness"] == "EX0" for r in report["layers"][0].get("pruned", []))
    if exact != wanted_exact:
        problems.append("exactness")
    if exact and not np.array_equal(got[0], plain[0], equal_nan=True):
        rows = np.unique(np.argwhere(got[0] != plain[0])[:, 0])
        problems.append(f"differs from --disable-pass=moe_prune in tokens {rows}")
    want = layer.reference(x)[:TOKENS] # those behind lie where choices are close
    scale = np.abs(want).max(axis=1, keepdims=True) + 1e-30
    error = np.abs(got[0][:TOKENS] - want) / scale
    if not (error < 2e-4).all():
        problems.append(f"differs from the reference in tokens "
                        f"{np.unique(np.argwhere(~(error < 2e-4))[:, 0])}")
    return problems


def inspect(moec, folder, *options):
    library = f"{folder}/model.so"
    subprocess.run([moec, f"{folder}/model.onnx", "-o", library, "--isa=x86-64", "-q", *options],
                   check=True)
    text = subprocess.run([moec, "inspect", library, "--json"], check=True, capture_output=True,
                          text=True).stdout
    return json.loads(text)


def check_file(moec, layer, wanted, folder):
    """What experts need that are left out is not in the file; the certificates are."""
    (pathlib.Path(folder) / "model.onnx").write_bytes(layer.model().SerializeToString())
    small = inspect(moec, folder)
    whole = inspect(moec, folder, "--disable-pass=moe_prune")
    gone = len(wanted) * (layer.up[0].nbytes + layer.down[0].nbytes)
    problems = []
    if whole["weights_bytes"] - small["weights_bytes"] < gone:
        problems.append(f"weights have {small['weights_bytes']} bytes, "
                        f"{whole['weights_bytes']} as they were: expected {gone} less")
    layers = small["report"]["layers"]
    noted = layers[0].get("pruned", []) if layers else []
    if {(r["rule"], r["expert"]) for r in noted} != {r[:2] for r in wanted}:
        problems.append(f"the note has {noted}")
    return problems


def permuted(layer, wanted, rng):
    order = rng.permutation(layer.experts)
    place = np.argsort(order)
    return layer.reordered(order), named(wanted, [int(p) for p in place])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--moec", required=True)
    parser.add_argument("--only", help="one case")
    parser.add_argument("--part", type=int, default=1, help="one of so many in another order")
    args = parser.parse_args()
    failed = count = 0
    rng = np.random.default_rng(3)
    for case in pruned_cases.all_cases():
        layer = Layer(**case.layer)
        variants = [("", layer, case.wanted)]
        if case.any_order and zlib.crc32(case.name.encode()) % args.part == 0:
            variants.append((" in another order", *permuted(layer, case.wanted, rng)))
        for name, variant, wanted in variants:
            if args.only not in (None, case.name):
                continue
            with tempfile.TemporaryDirectory() as folder:
                problems = check(args.moec, variant, wanted, case.exact,
                                 case.leaves if variant is layer else None, folder)
                if case.shrinks and variant is layer:
                    problems += check_file(args.moec, variant, wanted, folder)
            count += 1
            for problem in problems:
                print(f"{case.name}{name}: {problem}", flush=True)
            failed += bool(problems)
    print(f"{count} layers, {failed} failures")
    return failed > 0 or count == 0


if __name__ == "__main__":
    sys.exit(main())
