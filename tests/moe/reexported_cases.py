#!/usr/bin/env python3
"""Model cases that other tools wrote again: the same layers, the same results.

usage: reexported_cases.py --moec MOEC [--tool NAME]... [--part N] [--keep FOLDER] [CASE...]

Every case with layers, and every one that only looks so, goes through each of
TOOLS. What comes out is compiled and run: its results must be those of the case,
and its layers those that are found in the original (see recognised_cases.py).

A tool that ends with an error is named with it, and so is one whose model ONNX
Runtime does not take, or computes other results with, where moec has trouble with
it, too. Gaps that are known are lines of unrecognised_reexports.txt, checked both ways.
"""
import argparse
import collections
import json
import pathlib
import sys
import tempfile
import zlib

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper, version_converter

import recognised_cases

HERE = pathlib.Path(__file__).resolve().parent
LEAST_OPSET = 13  # that version_converter is asked for
LEAST_JUDGED = 0.5  # of the models of a tool: else the tool is of no use here

# ---- Tools ----------------------------------------------------------------------


def by_onnxslim(source, target):
    import onnxslim
    onnx.save(onnxslim.slim(str(source)), target)


def by_onnxsim(source, target):
    import onnxsim
    model, checked = onnxsim.simplify(onnx.load(source))
    if not checked:
        raise RuntimeError("its own check failed")
    onnx.save(model, target)


def options():
    made = onnxruntime.SessionOptions()
    made.log_severity_level = 4
    made.intra_op_num_threads = 1
    return made


def session(path, made):
    return onnxruntime.InferenceSession(str(path), made, ["CPUExecutionProvider"])


def by_ort_basic(source, target):
    made = options()
    made.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    made.optimized_model_filepath = str(target)
    session(source, made)


def opset_of(model):
    return next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))


def by_converter_up(source, target):
    model = onnx.load(source)
    onnx.save(version_converter.convert_version(model, onnx.defs.onnx_opset_version()), target)


def by_converter_down(source, target):
    """To the least opset that the converter reaches."""
    model, reason = onnx.load(source), "there is none below"
    for opset in range(LEAST_OPSET, opset_of(model)):
        try:
            onnx.save(version_converter.convert_version(model, opset), target)
            return
        except RuntimeError as error:
            reason = error
    raise RuntimeError(f"no lower opset: {reason}")


TOOLS = {"onnxslim": by_onnxslim, "onnxsim": by_onnxsim, "ort_basic": by_ort_basic,
         "converter_up": by_converter_up, "converter_down": by_converter_down}

# ---- What ONNX Runtime says of a model --------------------------------------------


def load_tensor(path):
    tensor = onnx.TensorProto()
    tensor.ParseFromString(path.read_bytes())
    return numpy_helper.to_array(tensor)


def tensors(data_set, kind):
    count = len(list(data_set.glob(f"{kind}_*.pb")))
    return [load_tensor(data_set / f"{kind}_{i}.pb") for i in range(count)]


def objection(path, case, stated):
    """What ONNX Runtime has against a model with the data of a case, or None."""
    made = options()
    made.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        run = session(path, made)
        names = [i.name for i in run.get_inputs()]
        for data_set in sorted(case.glob("test_data_set_*")):
            got = run.run(None, dict(zip(names, tensors(data_set, "input"))))
            for i, want in enumerate(tensors(data_set, "output")):
                if got[i].shape != want.shape:
                    return f"{data_set.name}: shape {got[i].shape}, not {want.shape}"
                if not np.allclose(got[i].astype(np.float64), want.astype(np.float64),
                                   rtol=stated["rtol"], atol=stated["atol"], equal_nan=True):
                    return f"{data_set.name}: other results"
    except Exception as error:  # of many types, for models it does not take
        return str(error)
    return None


# ---- One case --------------------------------------------------------------------


class Original:
    def __init__(self, moec, case):
        self.case = case
        self.stated = json.loads((case / "case.json").read_text())
        self.row = recognised_cases.Row(moec, case)

    def objection(self):
        return objection(self.case / "model.onnx", self.case, self.stated)


def fill_folder(folder, case):
    """A case with the data of another and no model yet."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").unlink(missing_ok=True)
    (folder / "case.json").write_bytes((case / "case.json").read_bytes())
    for data_set in case.glob("test_data_set_*"):
        link = folder / data_set.name
        link.unlink(missing_ok=True)
        link.symlink_to(data_set.resolve())


def problems_of(row, original):
    """Where the original has problems already, right results are asked for."""
    if not original.row.problems:
        return row.problems
    return row.problems if row.status != 0 else []


def read_known(path):
    """(tool, case) -> number of its line."""
    found = {}
    for number, line in enumerate(path.read_text().splitlines(), 1):
        words = line.split("#")[0].split()
        if words:
            found[tuple(words)] = number
    return found


class Run:
    def __init__(self, args, scratch):
        self.args, self.scratch = args, scratch
        self.known = read_known(args.known)
        self.used = set()
        self.judged, self.skipped = collections.Counter(), collections.Counter()
        self.failed = 0

    def say(self, tool, case, text):
        print(f"{tool:15} {case.name:42} {text}", flush=True)

    def skip(self, tool, case, reason):
        self.skipped[tool] += 1
        reason = " ".join(reason.split()).replace(f"{self.scratch}/", "")[:240]
        self.say(tool, case, f"skipped: {tool} {reason}")

    def check(self, original, tool):
        case, folder = original.case, self.scratch / tool / original.case.name
        fill_folder(folder, case)
        try:
            TOOLS[tool](case / "model.onnx", folder / "model.onnx")
        except Exception as error:  # of as many types as there are tools
            return self.skip(tool, case, f"fails: {error}")
        problems = problems_of(recognised_cases.Row(self.args.moec, folder), original)
        if problems and original.objection() is None:
            said = objection(folder / "model.onnx", case, original.stated)
            if said is not None:
                return self.skip(tool, case, f"breaks the model: {said}")
        self.judged[tool] += 1
        return self.judge(tool, case, problems)

    def judge(self, tool, case, problems):
        line = self.known.get((tool, case.name))
        self.used.add((tool, case.name))
        if problems:
            self.failed += line is None
            self.say(tool, case, ("known gap: " if line else "WRONG: ") + "; ".join(problems))
        elif line:
            self.failed += 1
            self.say(tool, case, f"WRONG: as it should be; remove line {line} of "
                                 f"{self.args.known.name}")

    def check_all(self, cases):
        for case in cases:
            original = Original(self.args.moec, case)
            for tool in self.args.tool:
                self.check(original, tool)
        whole = not self.args.cases and self.args.part == 1
        for (tool, case), line in self.known.items():
            if whole and tool in self.args.tool and (tool, case) not in self.used:
                self.failed += 1
                print(f"{self.args.known.name}, line {line}: {tool} makes no model of {case}")
        for tool in self.args.tool:
            n = self.judged[tool] + self.skipped[tool]
            print(f"{tool}: {self.judged[tool]} of {n} models judged")
            if whole and self.judged[tool] < LEAST_JUDGED * n:
                self.failed += 1
                print(f"{tool} makes too few models")


def has_layers(case):
    stated = json.loads((case / "case.json").read_text())
    return bool(stated.get("moe_layers")) or stated.get("expect") == "must_not_recognise"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--moec", required=True)
    parser.add_argument("--tool", action="append", choices=TOOLS, help="[all]")
    parser.add_argument("--part", type=int, default=1, help="one of so many cases")
    parser.add_argument("--known", type=pathlib.Path, default=HERE / "unrecognised_reexports.txt")
    parser.add_argument("--keep", type=pathlib.Path, help="folder for the models")
    parser.add_argument("cases", nargs="*", type=pathlib.Path, metavar="CASE")
    args = parser.parse_args()
    args.tool = args.tool or list(TOOLS)
    onnxruntime.set_default_logger_severity(4)
    cases = recognised_cases.find(args.cases or [recognised_cases.MODELS])
    cases = [case for case in cases if has_layers(case)
             and zlib.crc32(case.name.encode()) % args.part == 0]
    with tempfile.TemporaryDirectory() as scratch:
        run = Run(args, args.keep or pathlib.Path(scratch))
        run.check_all(cases)
    print(f"{len(cases)} cases, {sum(run.judged.values())} models judged, "
          f"{sum(run.skipped.values())} skipped, {run.failed} failures")
    return run.failed > 0 or not cases


if __name__ == "__main__":
    sys.exit(main())
