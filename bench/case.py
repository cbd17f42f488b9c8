"""Model cases: which there are, their data, and the work that a run takes."""

import pathlib

import numpy as np
import onnx
from onnx import helper, inliner, numpy_helper

PRODUCTS = {"MatMul", "Gemm", "Conv", "Einsum", "MatMulInteger"}


def find(paths):
    """Folders with a model.onnx: the paths given or those inside of them."""
    found = []
    for path in map(pathlib.Path, paths):
        if (path / "model.onnx").exists():
            found.append(path)
        else:
            found += sorted(p.parent for p in path.glob("*/model.onnx"))
    return found


def data_bytes(data_set):
    return sum(f.stat().st_size for f in data_set.glob("*.pb"))


def data_sets(case):
    return sorted(case.glob("test_data_set_*"), key=data_bytes)


def load_tensor(path):
    tensor = onnx.TensorProto()
    tensor.ParseFromString(path.read_bytes())
    return tensor


def load_inputs(case, data_set, dims=None):
    """Name -> (ONNX element type, array); with dims, the elements of inputs of
    that rank repeated until they fill it."""
    model = onnx.load(case / "model.onnx", load_external_data=False)
    constants = {i.name for i in model.graph.initializer}
    inputs = [i for i in model.graph.input if i.name not in constants]
    values = {}
    for i, info in enumerate(inputs):
        if not info.type.HasField("tensor_type"):
            raise ValueError("an input is no tensor")
        path = data_set / f"input_{i}.pb"
        if path.exists():
            tensor = load_tensor(path)
            array = numpy_helper.to_array(tensor)
            if dims is not None and array.ndim == len(dims):
                array = np.resize(array, dims)
            values[info.name] = (tensor.data_type, array)
    return values


def _attribute(node, name, default):
    for attribute in node.attribute:
        if attribute.name == name:
            return helper.get_attribute_value(attribute)
    return default


def _einsum_operations(node, shapes):
    equation = _attribute(node, "equation", b"").decode().replace(" ", "")
    terms = equation.split("->")[0].split(",")
    sizes = {}
    for term, shape in zip(terms, shapes):
        if "." in term:
            return None
        sizes.update(zip(term, shape))
    return 2.0 * float(np.prod([float(s) for s in sizes.values()]))


def _operations(node, shapes, out_shape):
    """Multiplications and additions of a product, None when not known."""
    if node.op_type == "Einsum":
        return _einsum_operations(node, shapes)
    out = float(np.prod([float(d) for d in out_shape]))
    if node.op_type == "Conv":
        return 2.0 * out * float(np.prod(shapes[1][1:]))
    depth = shapes[0][-1]
    if node.op_type == "Gemm" and _attribute(node, "transA", 0):
        depth = shapes[0][0]
    return 2.0 * out * depth


def _has_inner_products(graph):
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH and (
                    _has_inner_products(attribute.g) or
                    any(n.op_type in PRODUCTS for n in attribute.g.node)):
                return True
    return False


def weight_bytes(case):
    """Bytes of initializers; external data are not read."""
    model = onnx.load(case / "model.onnx", load_external_data=False)
    bits = {onnx.TensorProto.DOUBLE: 64, onnx.TensorProto.INT64: 64,
            onnx.TensorProto.FLOAT: 32, onnx.TensorProto.INT32: 32,
            onnx.TensorProto.FLOAT16: 16, onnx.TensorProto.BFLOAT16: 16}
    return sum(int(np.prod(i.dims, dtype=np.int64)) *
               bits.get(i.data_type, 8) // 8 for i in model.graph.initializer)


def product_operations(case, inputs, make_session):
    """Operations of the products of the graph as written, run on the inputs with
    their operands as outputs; None where bodies of loops hide some."""
    model = onnx.load(case / "model.onnx")
    model = inliner.inline_local_functions(model)
    if _has_inner_products(model.graph):
        return None
    products = [n for n in model.graph.node if n.op_type in PRODUCTS]
    constants = {i.name: list(i.dims) for i in model.graph.initializer}
    wanted = []
    for node in products:
        for name in list(node.input[:2]) + list(node.output[:1]):
            if name not in constants and name not in wanted:
                wanted.append(name)
    outputs = {o.name for o in model.graph.output}
    extra = [helper.make_empty_tensor_value_info(n) for n in wanted
             if n not in outputs]
    model.graph.output.extend(extra)
    session = make_session(model.SerializeToString())
    arrays = session.run(wanted, {n: a for n, (_, a) in inputs.items()})
    shapes = constants | {n: a.shape for n, a in zip(wanted, arrays)}
    each = [_operations(n, [shapes[i] for i in n.input[:2]],
                        shapes[n.output[0]]) for n in products]
    return None if None in each else sum(each)
