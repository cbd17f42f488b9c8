#!/usr/bin/env python3
"""Writes model cases as ONNX and looks whether they are still the same models.

    check_onnx.py --moec build/release/moec CASE...

For each case (a folder with model.onnx, case.json and test_data_set_*):
moec writes OUT.onnx, twice, with the same bytes; onnx.checker accepts it with
inferred shapes; it has the inputs and outputs that the model had; ONNX Runtime's
results are those of the data sets; and moec compiles it again with results that
pass its own `verify`. With --external all large weights are in a file beside it.
"""
import argparse
import ctypes
import json
import pathlib
import subprocess
import sys
import tempfile

try:
    import numpy as np
    import onnx
    import onnxruntime as ort
    from onnx import numpy_helper
except ImportError as error:
    print(f"SKIPPED: {error}")
    sys.exit(77)


def load(path, type_proto):
    """The value of a .pb file as Python has it."""
    data = path.read_bytes()
    kind = type_proto.WhichOneof("value")
    if kind == "optional_type":
        proto = onnx.OptionalProto.FromString(data)
        return numpy_helper.to_optional(proto)
    if kind == "sequence_type":
        return numpy_helper.to_list(onnx.SequenceProto.FromString(data))
    return numpy_helper.to_array(onnx.TensorProto.FromString(data))


def same_type(a, b):
    """Whether kinds, element types and ranks agree, as far as both tell them."""
    kind = a.WhichOneof("value")
    if kind != b.WhichOneof("value"):
        return False
    if kind != "tensor_type":
        return same_type(getattr(a, kind).elem_type, getattr(b, kind).elem_type)
    a, b = a.tensor_type, b.tensor_type
    ranks = not (a.HasField("shape") and b.HasField("shape")) or \
        len(a.shape.dim) == len(b.shape.dim)
    return a.elem_type == b.elem_type and ranks


def difference(got, want, case):
    """How two values differ, or None."""
    if want is None or got is None:
        return None if want is None and got is None else "one of them is absent"
    if isinstance(want, list):
        if not isinstance(got, list) or len(got) != len(want):
            return "sequences of different lengths"
        found = [difference(g, w, case) for g, w in zip(got, want)]
        return next((f for f in found if f), None)
    got, want = np.asarray(got), np.asarray(want)
    if got.shape != want.shape or got.dtype != want.dtype:
        return f"{got.dtype}{list(got.shape)}, expected {want.dtype}{list(want.shape)}"
    if want.dtype.kind not in "fc":
        return None if np.array_equal(got, want) else "elements differ"
    close = np.isclose(got.astype(np.float64), want.astype(np.float64), equal_nan=True,
                       rtol=case.get("rtol", 1e-3), atol=case.get("atol", 1e-5))
    if close.all():
        return None
    return f"{np.count_nonzero(~close)} of {close.size} elements are beyond the tolerance"


def of_inputs(model):
    given = {t.name for t in model.graph.initializer}
    return [i for i in model.graph.input if i.name not in given]


def check_boundary(before, after):
    for what, a, b in (("inputs", of_inputs(before), list(after.graph.input)),
                       ("outputs", list(before.graph.output), list(after.graph.output))):
        if [v.name for v in a] != [v.name for v in b]:
            return f"{what} are {[v.name for v in b]}, expected {[v.name for v in a]}"
        for x, y in zip(a, b):
            if not same_type(x.type, y.type):
                return f"type of {x.name}: {y.type}, expected {x.type}"
    return None


def run_moec(moec, *args):
    done = subprocess.run([moec, *map(str, args)], capture_output=True, text=True)
    return None if done.returncode == 0 else f"moec {args[0]}: exit {done.returncode}: {done.stderr.strip()[:500]}"


def feed(value, type_proto):
    """As ONNX Runtime takes it: numpy has not all element types."""
    if type_proto.WhichOneof("value") != "tensor_type" or value.dtype.kind != "V":
        return value
    return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(
        np.ascontiguousarray(value).view(np.uint16), type_proto.tensor_type.elem_type)


def open_session(path):
    """A session, or None where ONNX Runtime lacks a kernel."""
    try:
        return ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:
        if "NOT_IMPLEMENTED" in str(error):
            return None
        raise


def to_array(value):
    if value.element_type() != onnx.TensorProto.BFLOAT16:
        return value.numpy()
    dtype = onnx.helper.tensor_dtype_to_np_dtype(onnx.TensorProto.BFLOAT16)
    size = 2 * int(np.prod(value.shape()))
    return np.frombuffer(ctypes.string_at(value.data_ptr(), size), dtype).reshape(value.shape())


def run(session, feeds):
    if any(isinstance(v, ort.OrtValue) for v in feeds.values()):
        feeds = {n: v if isinstance(v, ort.OrtValue) else ort.OrtValue.ortvalue_from_numpy(v)
                 for n, v in feeds.items()}
        return [to_array(v) for v in session.run_with_ort_values(None, feeds)]
    return session.run(None, feeds)


def check_results(out, folder, case):
    session = open_session(out)
    if session is None:  # it should lack one for the source too
        return "ONNX Runtime runs the source" if open_session(folder / "model.onnx") else None
    model = onnx.load(out, load_external_data=False)
    sets = sorted(folder.glob("test_data_set_*"))
    if not sets:
        return "no data sets"
    for data in sets:
        feeds = {}
        for i, value in enumerate(model.graph.input):
            feeds[value.name] = feed(load(data / f"input_{i}.pb", value.type), value.type)
        got = run(session, feeds)
        for i, value in enumerate(model.graph.output):
            reference = data / f"output_{i}.pb"
            if not reference.exists():
                continue
            why = difference(got[i], load(reference, value.type), case)
            if why:
                return f"{data.name}: output {value.name}: {why}"
    return None


def check(moec, folder, scratch, args):
    case = json.loads((folder / "case.json").read_text())
    out, again = scratch / "out.onnx", scratch / "again.onnx"
    options = ["--inline-limit=0"] if args.external else []
    options += [f"-O{args.level}"] if args.level is not None else []
    why = run_moec(moec, folder / "model.onnx", "-o", out, *options) or \
        run_moec(moec, folder / "model.onnx", "-o", again, *options)
    if why:
        return why
    if out.read_bytes().replace(b"out.onnx.data", b"") != \
            again.read_bytes().replace(b"again.onnx.data", b"") and not args.external:
        return "other bytes the second time"
    onnx.checker.check_model(str(out), full_check=True)
    why = check_boundary(onnx.load(folder / "model.onnx", load_external_data=False),
                         onnx.load(out, load_external_data=False))
    if not args.no_run:
        why = why or check_results(out, folder, case)
    return why or run_moec(moec, "verify", out, valid_data(folder, scratch))


def valid_data(folder, scratch):
    """A case without inputs that the source refuses in a run: such checks are not
    written."""
    data = pathlib.Path(tempfile.mkdtemp(dir=scratch))
    for path in [folder / "case.json", *folder.glob("test_data_set_*")]:
        (data / path.name).symlink_to(path.resolve())
    return data


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--moec", required=True)
    parser.add_argument("--external", action="store_true", help="weights in a file of their own")
    parser.add_argument("--level", help="the -O level")
    parser.add_argument("--no-run", action="store_true", help="without ONNX Runtime")
    parser.add_argument("cases", nargs="+", type=pathlib.Path)
    args = parser.parse_args()
    ort.set_default_logger_severity(3)
    bad = 0
    for folder in args.cases:
        with tempfile.TemporaryDirectory() as scratch:
            try:
                why = check(args.moec, folder, pathlib.Path(scratch), args)
            except Exception as error:  # whatever the checker or the runtime says
                why = f"{type(error).__name__}: {str(error)[:500]}"
        if why:
            print(f"{folder.name}: {why}")
            bad += 1
    print(f"{len(args.cases) - bad} of {len(args.cases)} right")
    return min(bad, 1)


if __name__ == "__main__":
    sys.exit(main())
