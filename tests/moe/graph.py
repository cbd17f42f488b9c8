"""Writing ONNX graphs as expressions: g.op("Add", a, b) gives the result's name."""
import numpy as np
from onnx import TensorProto, checker, helper, numpy_helper

OPSET = 18
F32, I64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
WIDTH, INSIDE = 8, 12  # of a layer's rows, and inside of its experts
I32 = TensorProto.INT32


class Graph:
    """A graph that grows; nodes and values are named with the current prefix."""

    def __init__(self, rng, width=WIDTH, inside=INSIDE):
        self.rng, self.width, self.inside = rng, width, inside
        self.prefix = ""
        self.nodes, self.constants, self.inputs, self.outputs = [], {}, [], []
        self.count = 0

    def name(self, hint):
        self.count += 1
        return f"{self.prefix}{hint}_{self.count}"

    def op(self, kind, *inputs, n_out=1, **attributes):
        name = self.name(kind)
        outputs = [name] if n_out == 1 else [f"{name}.{i}" for i in range(n_out)]
        self.nodes.append(helper.make_node(kind, list(inputs), outputs, name=name, **attributes))
        return outputs[0] if n_out == 1 else outputs

    def const(self, array):
        """A constant, f32 or i64; equal ones are one initialiser."""
        array = np.asarray(array)
        array = array.astype(np.float32 if array.dtype.kind == "f" else array.dtype)
        if array.dtype.kind == "i":
            array = array.astype(np.int64)
        return self.typed(array)

    def typed(self, array):
        """A constant of the array's own type."""
        array = np.asarray(array)
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self.constants:
            self.count += 1
            self.constants[key] = numpy_helper.from_array(array, f"c_{self.count}")
        return self.constants[key].name

    def random(self, *shape, scale=0.5):
        return self.rng.normal(0, scale, shape).astype(np.float32)

    def pick(self, *choices):
        return choices[int(self.rng.integers(len(choices)))]

    # What is needed everywhere.

    def reshape(self, x, *shape):
        return self.op("Reshape", x, self.const(list(shape)))

    def unsqueeze(self, x, *axes):
        return self.op("Unsqueeze", x, self.const(list(axes)))

    def squeeze(self, x, *axes):
        return self.op("Squeeze", x, self.const(list(axes)))

    def sum(self, x, axis, keepdims=0):
        return self.op("ReduceSum", x, self.const([axis]), keepdims=keepdims)

    def max(self, x, axis, keepdims=0):
        return self.op("ReduceMax", x, self.const([axis]), keepdims=keepdims)

    def cast(self, x, to):
        return self.op("Cast", x, to=to)

    def size(self, x, axis):
        """One dimension as i64[1]."""
        return self.op("Shape", x, start=axis, end=axis + 1)

    def slice(self, x, start, end, axis):
        """Bounds are numbers or names of i64[1]."""
        bounds = [b if isinstance(b, str) else self.const([b]) for b in (start, end)]
        return self.op("Slice", x, *bounds, self.const([axis]))

    def range(self, n):
        """0 .. n - 1 for n: i64[1]."""
        return self.op("Range", self.const(np.int64(0)), self.squeeze(n, 0),
                       self.const(np.int64(1)))

    def zeros(self, shape):
        """f32 zeros of a computed shape."""
        value = numpy_helper.from_array(np.zeros(1, np.float32))
        return self.op("ConstantOfShape", shape, value=value)

    def model(self, check=True):
        graph = helper.make_graph(
            self.nodes, "layers",
            [helper.make_tensor_value_info(n, t, s) for n, t, s in self.inputs],
            [helper.make_tensor_value_info(n, t, s) for n, t, s in self.outputs],
            list(self.constants.values()))
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)],
                                  ir_version=8)
        if check:
            checker.check_model(model)
        return model
