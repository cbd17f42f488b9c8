#!/usr/bin/env python3
"""Writes the backend suite of the installed onnx package as folders of cases.

usage: write_cases.py [--form FORM] OUT_DIR

Writes the generated node cases as OUT_DIR/<name> and the package's data folders
as OUT_DIR/<folder>-<name>: model.onnx, test_data_set_<n>/{input,output}_<m>.pb
and case.json with the tolerances of the suite. A stamp of the package's version
and of this script makes a second run do nothing. Prints the number of cases.

Forms: as-is; constant, the node cases that have integer vectors or scalars beside
other inputs (axes, shapes, indices) with these as constants of the model, like
exporters write them; dynamic, all node cases so, and with all dimensions of the
other inputs symbolic.
"""
import argparse
import hashlib
import json
import pathlib
import re
import shutil
import sys
import warnings

import numpy as np
import onnx
from onnx import numpy_helper

DATA_FOLDERS = ("simple", "pytorch-operator", "pytorch-converted")
# Whole networks; the suite feeds them a ramp, and keeps what should come out.
# The tolerances are the suite's.
LIGHT_RTOL = {"densenet121": 2e-3}
# Zeros that the suite's FFT, in f32, misses by more than the suite allows.
NODE_ATOL = {"test_dft_inverse": 1e-6, "test_dft_inverse_opset19": 1e-6}

# Values come from a generator of random numbers: the suite itself can only
# compare their types and shapes.
RANDOM = re.compile(
    r"test_(bernoulli|training_dropout(?!_zero_ratio)|randomnormal|randomuniform"
    r"|multinomial)")


def to_proto(value, type_proto, name):
    """A value of a data set as the message that its file holds."""
    if isinstance(value, (onnx.TensorProto, onnx.SequenceProto,
                          onnx.OptionalProto)):
        return value
    kind = type_proto.WhichOneof("value")
    if kind == "optional_type":
        return numpy_helper.from_optional(value, name)
    if kind == "sequence_type" or isinstance(value, list):
        return numpy_helper.from_list(value, name)
    if kind == "map_type":
        return numpy_helper.from_dict(value, name)
    return numpy_helper.from_array(np.asarray(value), name)


def operators_of(graph, into):
    for node in graph.node:
        name = node.op_type
        if node.domain not in ("", "ai.onnx"):
            name = f"{node.domain}.{name}"
        into.add(name)
        for attribute in node.attribute:
            if attribute.HasField("g"):
                operators_of(attribute.g, into)
            for inner in attribute.graphs:
                operators_of(inner, into)
    return into


def make_dynamic(model, data_sets):
    """All dimensions of inputs are symbols, outputs have no shape."""
    model, data_sets = make_constant(model, data_sets) or (model, data_sets)
    for i, info in enumerate(model.graph.input):
        if info.type.WhichOneof("value") != "tensor_type":
            continue
        for j, dim in enumerate(info.type.tensor_type.shape.dim):
            dim.dim_param = f"d{i}_{j}"
    for info in model.graph.output:
        if info.type.WhichOneof("value") == "tensor_type":
            info.type.tensor_type.ClearField("shape")
    del model.graph.value_info[:]
    return model, data_sets


def make_constant(model, data_sets):
    """Integers of rank 0 and 1 become constants; None where there are none."""
    if len(data_sets) != 1 or len(model.graph.input) < 2:
        return None
    inputs, outputs = data_sets[0]
    kept = []
    for info, value in zip(list(model.graph.input), inputs, strict=True):
        fixed = (isinstance(value, np.ndarray | np.generic) and kept
                 and value.dtype in (np.int32, np.int64) and value.ndim <= 1)
        if not fixed:
            kept.append(value)
            continue
        model.graph.initializer.append(
            numpy_helper.from_array(np.asarray(value), info.name))
        model.graph.input.remove(info)
    return (model, [(kept, outputs)]) if len(kept) < len(inputs) else None


FORMS = {"as-is": lambda model, data_sets: (model, data_sets),
         "dynamic": make_dynamic, "constant": make_constant}


def describe(folder, name, operator, rtol, atol):
    text = json.dumps({
        "name": name,
        "operator": operator,
        "rtol": rtol,
        "atol": atol,
        "compare": "type" if RANDOM.match(name) else "values",
    }, indent=1)
    (folder / "case.json").write_text(text + "\n")


def write_node_case(out, case, operator, form):
    made = FORMS[form](case.model, case.data_sets)
    if made is None:
        return 0
    model, data_sets = made
    folder = out / case.name
    folder.mkdir()
    (folder / "model.onnx").write_bytes(
        model.SerializeToString(deterministic=True))
    for index, (inputs, outputs) in enumerate(data_sets):
        data = folder / f"test_data_set_{index}"
        data.mkdir()
        graph = model.graph
        for kind, values, infos in (("input", inputs, graph.input),
                                    ("output", outputs, graph.output)):
            for j, (value, info) in enumerate(zip(values, infos, strict=True)):
                proto = to_proto(value, info.type, info.name)
                (data / f"{kind}_{j}.pb").write_bytes(
                    proto.SerializeToString(deterministic=True))
    describe(folder, case.name, operator, case.rtol,
             NODE_ATOL.get(case.name, case.atol))
    return 1


def node_operator(case, by_base):
    """The operator that a case is about; expanded ones count for their source."""
    base = re.split(r"_expanded", case.name)[0]
    if base != case.name and base in by_base:
        return by_base[base]
    names = {n.op_type for n in case.model.graph.node} - {"Constant"}
    if len(names) == 1:
        return names.pop()
    return case.model.graph.node[-1].op_type if names else "Constant"


def write_node_cases(out, form):
    from onnx.backend.test.case.node import collect_testcases
    cases = [c for c in collect_testcases(None) if c.model and c.data_sets]
    by_base = {}
    for case in cases:
        if "_expanded" not in case.name:
            by_base[case.name] = node_operator(case, {})
    return sum(write_node_case(out, case, node_operator(case, by_base), form)
               for case in cases)


def write_data_cases(out):
    data = pathlib.Path(onnx.__file__).parent / "backend/test/data"
    n = 0
    for kind in DATA_FOLDERS:
        for source in sorted((data / kind).glob("test_*")):
            if not (source / "model.onnx").exists():
                continue
            folder = out / f"{kind}-{source.name}"
            shutil.copytree(source, folder)
            given = {}
            if (source / "data.json").exists():
                given = json.loads((source / "data.json").read_text())
            model = onnx.load(source / "model.onnx", load_external_data=False)
            operators = sorted(operators_of(model.graph, set()) - {"Constant"})
            operator = operators[0] if len(operators) == 1 else f"({kind})"
            describe(folder, folder.name, operator, given.get("rtol", 1e-3),
                     given.get("atol", 1e-7))
            n += 1
    return n


def write_light_cases(out):
    data = pathlib.Path(onnx.__file__).parent / "backend/test/data/light"
    models = sorted(data.glob("light_*.onnx"))
    for path in models:
        name = path.stem.removeprefix("light_")
        folder = out / f"light-test_{name}"
        inputs = folder / "test_data_set_0"
        inputs.mkdir(parents=True)
        shutil.copy(path, folder / "model.onnx")
        shutil.copy(data / f"{path.stem}_output_0.pb", inputs / "output_0.pb")
        graph = onnx.load(path).graph
        constants = {t.name for t in graph.initializer}
        wanted = [i for i in graph.input if i.name not in constants]
        for j, info in enumerate(wanted):
            shape = [d.dim_value or 1 for d in info.type.tensor_type.shape.dim]
            n = int(np.prod(shape))
            ramp = (np.arange(n).reshape(shape) / n).astype(np.float32)
            (inputs / f"input_{j}.pb").write_bytes(
                numpy_helper.from_array(ramp, info.name).SerializeToString())
        describe(folder, folder.name, "(light)", LIGHT_RTOL.get(name, 1e-3), 1e-7)
    return len(models)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--form", choices=FORMS, default="as-is")
    parser.add_argument("out_dir", type=pathlib.Path)
    args = parser.parse_args()
    script = hashlib.sha256(pathlib.Path(__file__).read_bytes()).hexdigest()
    stamp = f"onnx {onnx.__version__} {args.form} {script[:16]}"
    stamp_file = args.out_dir / "stamp"
    if stamp_file.exists():
        first, count = stamp_file.read_text().splitlines()
        if first == stamp:
            print(count)
            return
    elif args.out_dir.exists() and any(args.out_dir.iterdir()):
        sys.exit(f"{args.out_dir} holds something else; it must be empty")
    warnings.simplefilter("ignore")
    part = args.out_dir.with_name(args.out_dir.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    count = f"{write_node_cases(part, args.form)} node cases"
    if args.form == "as-is":
        count += (f", {write_data_cases(part)} of data folders, "
                  f"{write_light_cases(part)} whole networks")
    (part / "stamp").write_text(f"{stamp}\n{count}\n")
    shutil.rmtree(args.out_dir, ignore_errors=True)
    part.rename(args.out_dir)
    print(count)


main()
