#!/usr/bin/env python3
"""Benchmarks of moec. Figures are ratios of things run in turn: see
docs/performance.md.

    run.py runs [CASE...]      moec, ONNX Runtime and the limit of the machine
    run.py conv [WORD...]      the same for convolutions of usual shapes
    run.py experts [TOKENS...] a Mixture-of-Experts layer and the limit
    run.py images [IMAGES...]  the same with convolutions as experts
    run.py forms [TOKENS...]   a layer written in several ways: moec, moec without
                               recognition and ONNX Runtime
    run.py compile [CASE...]   time and memory of compiling
    run.py chain [N...]        compiling N elementwise nodes
    run.py big [MIB]           compiling that many MiB of weights
    run.py narrow [MIB]        running such weights in 16 bits and in 32
    run.py router              routers of Mixture-of-Experts layers
    run.py keys                layers of up to a million experts of rank one

A CASE is a folder with model.onnx and test_data_set_<i>/, or a folder of such.
"""

import argparse
import json
import os
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent


def dims(text):
    return [int(d) for d in text.split("x")]


def parse():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("what", nargs="?", default="runs",
                        choices=("runs", "conv", "experts", "images", "forms",
                                 "compile", "chain", "big", "narrow",
                                 "router", "keys"))
    parser.add_argument("paths", nargs="*", metavar="CASE|WORD|N")
    parser.add_argument("--build", type=pathlib.Path,
                        default=ROOT / "build" / "release")
    parser.add_argument("--moec", type=pathlib.Path,
                        help="the compiler [BUILD/moec]")
    parser.add_argument("--out", type=pathlib.Path, help="[BUILD/bench/out]")
    parser.add_argument("--json", type=pathlib.Path,
                        help="[BUILD/bench/WHAT.json]")
    parser.add_argument("--threads", type=int, nargs="+",
                        default=sorted({1, min(2, os.cpu_count() or 1)}))
    parser.add_argument("--isa", help="generate these variants only")
    parser.add_argument("--variant", help="run this variant")
    parser.add_argument("--data", type=int,
                        help="number of the data set [the largest]")
    parser.add_argument("--dims", type=dims, metavar="NxM",
                        help="repeat the data of inputs of that rank to this")
    parser.add_argument("--form", nargs="+", metavar="FORM",
                        default=("chain", "ladder", "unfused"),
                        help="of what chain makes: see make_chain.py [all]")
    parser.add_argument("--storage", nargs="+", choices=("raw", "external"),
                        default=("raw", "external"), help="of what big makes")
    parser.add_argument("--rows", type=int, nargs="+",
                        default=(1, 2, 4, 8, 16, 64, 512),
                        help="of the input of narrow")
    parser.add_argument("--layer", type=dims, metavar="ExHxIxK",
                        help="experts, width, width inside, experts of a token"
                             " [experts 16x1024x2816x4, images 8x64x128x2,"
                             " forms 8x256x704x2]")
    parser.add_argument("--type", choices=("f32", "f16", "bf16"),
                        default="f32", help="of the experts' weights")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.05,
                        help="of one sample [0.05]")
    parser.add_argument("--repeats", type=int, default=3, help="of compiling")
    args = parser.parse_intermixed_args()
    args.moec = args.moec or args.build / "moec"
    args.out = args.out or args.build / "bench" / "out"
    args.json = args.json or args.build / "bench" / f"{args.what}.json"
    return args


def main():
    args = parse()
    if args.what == "runs":
        import runs
        args.paths = args.paths or [ROOT / "tests" / "models"]
        result = runs.main(args)
    elif args.what == "conv":
        import make_convolutions
        import runs
        args.paths = make_convolutions.make_cases(args.out / "convolutions",
                                                  args.paths)
        result = runs.main(args)
    elif args.what == "narrow":
        import narrow
        result = narrow.main(args)
    elif args.what == "experts":
        import experts
        result = experts.main(args)
    elif args.what == "images":
        import images
        result = images.main(args)
    elif args.what == "forms":
        import layer_forms
        result = layer_forms.main(args)
    elif args.what == "router":
        import router
        result = router.main(args)
    elif args.what == "keys":
        import keys
        result = keys.main(args)
    elif args.what == "compile":
        import compiling
        args.paths = args.paths or [ROOT / "tests" / "models"]
        result = compiling.main(args)
    else:
        import compiling
        import make_big
        import make_chain
        default, make, unit = {
            "chain": ((2000, 20000, 200000), make_chain.make_chain, "nodes"),
            "big": ((1024,), make_big.make_big, "MiB"),
        }[args.what]
        sizes = [int(n) for n in args.paths] or default
        forms = ({"form": f} for f in args.form) if args.what == "chain" else (
            {"storage": s} for s in args.storage)
        result = [compiling.sized(args, sizes, make, unit, f) for f in forms]
    args.json.parent.mkdir(parents=True, exist_ok=True)
    args.json.write_text(json.dumps(result, indent=1) + "\n")
    print(f"{args.json}", file=sys.stderr)


if __name__ == "__main__":
    main()
