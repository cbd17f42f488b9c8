"""Small changes of an ONNX model: numbers, attributes, operators, edges, nodes.

mutate(model, rng) changes the model once and tells how, or returns None where the
draw found no place. A changed model may be one that nobody accepts.
"""
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper, shape_inference

FLOATS = {TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16}
INTEGERS = {TensorProto.INT64, TensorProto.INT32}

# Operators that take one another's place, inputs and outputs being the same.
FAMILIES = [
    ("Less", "LessOrEqual", "Greater", "GreaterOrEqual", "Equal"),
    ("Add", "Sub", "Mul", "Div", "Max", "Min"),
    ("And", "Or", "Xor"),
    ("ArgMax", "ArgMin"),
    ("ReduceSum", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceL2"),
    ("Softmax", "LogSoftmax", "Hardmax"),
    ("Relu", "Sigmoid", "Tanh", "Neg", "Abs", "Identity", "Softplus", "Exp"),
    ("Floor", "Ceil", "Round"),
    ("ScatterND", "ScatterND"), ("CumSum", "CumSum"),
]
ATTRIBUTES = {  # of which the schema's default may stand unwritten
    "Softmax": {"axis": (-1, 0, 1, -2)}, "LogSoftmax": {"axis": (-1, 0, 1)},
    "TopK": {"largest": (0, 1), "axis": (-1, 0, 1), "sorted": (0, 1)},
    "ArgMax": {"axis": (-1, 0, 1), "select_last_index": (0, 1)},
    "CumSum": {"exclusive": (0, 1), "reverse": (0, 1)},
    "ScatterND": {"reduction": ("none", "add", "mul", "max", "min")},
    "ScatterElements": {"reduction": ("none", "add", "mul", "max", "min"), "axis": (0, 1, -1)},
    "Gather": {"axis": (0, 1, 2, -1)}, "GatherElements": {"axis": (0, 1, -1)},
    "GatherND": {"batch_dims": (0, 1)}, "Concat": {"axis": (0, 1, -1)},
    "Split": {"axis": (0, 1, -1)}, "OneHot": {"axis": (-1, 0, 1)},
    "NonZero": {}, "Trilu": {"upper": (0, 1)}, "Mod": {"fmod": (0, 1)},
    "LayerNormalization": {"axis": (-1, 0, 1)}, "Unique": {"sorted": (0, 1)},
    "Cast": {"to": (1, 6, 7, 9, 10, 16)},
}
COMMUTE = {"Add", "Mul", "Max", "Min", "And", "Or", "Xor", "Equal", "Sum"}


class Insertion:
    """New nodes in front of node `at` that change its operand x; each change by its name
    gives the new operand."""

    def __init__(self, edit, at, x, axis, np_type, rank):
        self.edit, self.at, self.x, self.axis = edit, at, x, axis
        self.np_type, self.rank = np_type, rank
        self.before = len(edit.graph.node)

    def op(self, kind, *inputs, **attributes):
        new = len(self.edit.graph.node) - self.before
        return self.edit.op(self.at + new, kind, *inputs, **attributes)

    def i64(self, *numbers):
        return self.edit.const(np.array(numbers, np.int64))

    def numeral(self, n):
        return self.edit.const(np.array(n, self.np_type))

    def as_x(self, y):
        return self.op("Cast", y, to=helper.np_dtype_to_tensor_dtype(np.dtype(self.np_type)))

    def piece(self, a, b, step=1):
        return self.op("Slice", self.x, self.i64(a), self.i64(b), self.i64(self.axis),
                       self.i64(step))

    def reduced(self, kind, x):
        return self.op(kind, x, self.i64(self.axis), keepdims=1)

    def plus(self, y):
        return self.op("Add", self.x, y)

    def over(self, y):
        return self.op("Div", self.x, self.op("Add", y, self.numeral(1)))

    def size(self):
        at = self.edit.const(np.array(self.axis, np.int64))
        return self.op("Gather", self.op("Shape", self.x), at)

    def scale(self):
        return self.op("Mul", self.x, self.numeral(self.edit.pick((0.5, -1, 2, 1e-3))))

    def shift(self):
        return self.plus(self.numeral(self.edit.pick((1, -1))))

    def zero(self):
        return self.op("Mul", self.x, self.numeral(0))

    def limit(self):
        return self.op("Max", self.x, self.numeral(0))

    def mod(self):
        return self.op("Mod", self.x, self.numeral(3))

    def negate(self):
        return self.op("Neg", self.x)

    def invert(self):
        return self.op("Not", self.x)

    def mean(self):
        return self.plus(self.reduced("ReduceMean", self.x))

    def sum(self):
        return self.plus(self.reduced("ReduceSum", self.x))

    def centre(self):
        return self.op("Sub", self.x, self.reduced("ReduceMean", self.x))

    def largest(self):
        return self.over(self.reduced("ReduceMax", self.op("Abs", self.x)))

    def quantise(self):
        """With one scale for all."""
        most = self.op("ReduceMax", self.op("Abs", self.x), keepdims=0)
        scale = self.op("Add", most, self.numeral(1))
        return self.op("Mul", self.op("Round", self.op("Div", self.x, scale)), scale)

    def softmax(self):
        return self.op("Softmax", self.x, axis=self.axis)

    def norm(self):
        return self.op("LpNormalization", self.x, axis=self.axis, p=2)

    def cumsum(self):
        return self.op("CumSum", self.x, self.i64(self.axis))

    def running(self):
        return self.plus(self.op("CumSum", self.x, self.i64(self.axis), exclusive=1))

    def reverse(self):
        return self.piece(-1, -2**62, -1)

    def roll(self):
        return self.op("Concat", self.piece(1, 2**62), self.piece(0, 1), axis=self.axis)

    def neighbour(self):
        return self.plus(self.roll())

    def first(self):
        return self.plus(self.piece(0, 1))

    def triangle(self):
        return self.op("Trilu", self.x, upper=int(self.edit.rng.integers(2)))

    def attention(self):
        perm = list(range(self.rank))
        perm[-2:] = [self.rank - 1, self.rank - 2]
        scores = self.op("MatMul", self.x, self.op("Transpose", self.x, perm=perm))
        return self.op("MatMul", self.op("Softmax", scores, axis=-1), self.x)

    def sort(self):
        size = self.op("Shape", self.x, start=self.axis, end=self.axis + 1)
        return self.op("TopK", self.x, size, axis=self.axis, n_out=2)

    def best(self):
        return self.plus(self.as_x(self.op("ArgMax", self.x, axis=self.axis, keepdims=1)))

    def dropout(self):
        return self.op("Dropout", self.x, self.numeral(0.5),
                       self.edit.const(np.array(True)), seed=3)

    def random(self):
        return self.plus(self.op("RandomUniformLike", self.x, seed=1.0))

    def count(self):
        return self.over(self.as_x(self.size()))

    def number(self):
        zero, one = (self.edit.const(np.array(n, np.int64)) for n in (0, 1))
        wanted = [1] * self.rank
        wanted[self.axis] = -1
        numbers = self.as_x(self.op("Range", zero, self.size(), one))
        return self.plus(self.op("Reshape", numbers, self.i64(*wanted)))

    def position(self):
        ones = self.op("Expand", self.numeral(1), self.op("Shape", self.x))
        return self.plus(self.op("CumSum", ones, self.i64(self.axis)))


class Edit:
    """A model, and what is known of its values."""

    def __init__(self, model, rng):
        self.model, self.rng, self.graph = model, rng, model.graph
        self.fresh = 0
        self.types = {}
        try:
            inferred = shape_inference.infer_shapes(model, data_prop=True).graph
        except Exception:  # a model that was changed before
            inferred = model.graph
        for value in (*inferred.value_info, *inferred.input, *inferred.output):
            t = value.type.tensor_type
            shape = None
            if t.HasField("shape"):
                shape = tuple(d.dim_value if d.HasField("dim_value") else d.dim_param or "?"
                              for d in t.shape.dim)
            self.types[value.name] = (t.elem_type, shape)
        for tensor in model.graph.initializer:
            self.types[tensor.name] = (tensor.data_type, tuple(tensor.dims))

    def pick(self, choices):
        choices = list(choices)
        return choices[int(self.rng.integers(len(choices)))] if choices else None

    def name(self):
        self.fresh += 1
        return f"mutated_{self.fresh}_{int(self.rng.integers(1 << 30))}"

    def const(self, array):
        tensor = numpy_helper.from_array(np.asarray(array), self.name())
        self.graph.initializer.append(tensor)
        return tensor.name

    def op(self, at, kind, *inputs, n_out=1, **attributes):
        """A node in front of the one with number `at`; what it gives first."""
        out = self.name()
        outputs = [out] + [self.name() for _ in range(n_out - 1)]
        node = helper.make_node(kind, list(inputs), outputs, name=out, **attributes)
        self.graph.node.insert(at, node)
        return out

    def all_nodes(self, graph=None):
        for node in (graph or self.graph).node:
            yield node
            for a in node.attribute:
                if a.type == onnx.AttributeProto.GRAPH:
                    yield from self.all_nodes(a.g)

    def rank(self, name):
        shape = self.types.get(name, (0, None))[1]
        return None if shape is None else len(shape)

    # Numbers.

    def constants(self):
        """(tensor, kind of the only user, its input's number)"""
        users = {}
        for node in self.all_nodes():
            for i, name in enumerate(node.input):
                users.setdefault(name, (node.op_type, i))
        for tensor in self.graph.initializer:
            yield tensor, users.get(tensor.name, ("?", 0))
        for node in self.all_nodes():
            if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value":
                yield node.attribute[0].t, users.get(node.output[0], ("?", 0))

    def change_integer(self):
        found = [(t, u) for t, u in self.constants() if t.data_type in INTEGERS
                 and 0 < int(np.prod(t.dims)) <= 4096]
        if not found:
            return None
        tensor, user = self.pick(found)
        a = numpy_helper.to_array(tensor).copy()
        flat = a.reshape(-1)
        at = int(self.rng.integers(flat.size))
        how = self.pick(("+1", "-1", "negate", "swap", "0", "1", "2", "all+1", "copy", "far"))
        if how == "+1":
            flat[at] = min(int(flat[at]), 2**31 - 2) + 1
        elif how == "-1":
            flat[at] = max(int(flat[at]), -2**31 + 2) - 1
        elif how == "negate":
            flat[at] = -flat[at]
        elif how in ("swap", "copy"):
            other = int(self.rng.integers(flat.size))
            flat[at], flat[other] = flat[other], flat[at] if how == "swap" else flat[other]
        elif how == "all+1":
            flat += 1
        elif how == "far":
            flat[at] = self.pick((-2, 3, 4, 8, 100, 2**31 - 1, -2**31))
        else:
            flat[at] = int(how)
        tensor.CopyFrom(numpy_helper.from_array(a, tensor.name))
        return f"integer {user[0]}.{user[1]} {list(a.shape)} at {at}: {how}"

    def change_float(self):
        found = [(t, u) for t, u in self.constants() if t.data_type in FLOATS
                 and int(np.prod(t.dims)) == 1 or t.data_type == TensorProto.BOOL
                 and int(np.prod(t.dims)) > 0]
        if not found:
            return None
        tensor, user = self.pick(found)
        a = numpy_helper.to_array(tensor).copy()
        if a.dtype == bool:
            a = ~a
        else:
            a[...] = self.pick((0, -0.0, 1, -1, 0.5, 2, 1e-6, 1e-30, -1e4, -10, -np.inf, np.inf,
                                float(a.reshape(-1)[0]) * 2, -float(a.reshape(-1)[0])))
        tensor.CopyFrom(numpy_helper.from_array(a, tensor.name))
        return f"number of {user[0]}.{user[1]}: {a.reshape(-1)[0]}"

    def change_weights(self):
        """Ties, zeros, equal experts, another order."""
        found = [(t, u) for t, u in self.constants() if t.data_type in FLOATS
                 and len(t.dims) and int(np.prod(t.dims)) > 1]
        if not found:
            return None
        tensor, user = self.pick(found)
        a = numpy_helper.to_array(tensor).copy()
        axis = int(self.rng.integers(a.ndim))
        how = self.pick(("equal", "zero", "zeros", "reverse", "round", "huge", "negative", "reals"))
        rows = np.moveaxis(a, axis, 0)
        i, j = self.rng.integers(len(rows), size=2)
        if how == "equal":
            rows[i] = rows[j]
        elif how == "zero":
            rows[i] = 0
        elif how == "zeros":
            a[...] = 0
        elif how == "reverse":
            rows[...] = rows[::-1].copy()
        elif how == "round":
            a[...] = np.round(a * 2) / 2
        elif how == "huge":
            rows[i] *= 100
        elif how == "negative":
            a[...] = -a
        else:
            a[...] = self.rng.normal(0, 0.5, a.shape)
        tensor.CopyFrom(numpy_helper.from_array(a, tensor.name))
        return f"weights of {user[0]}.{user[1]} {list(a.shape)}: {how} along {axis}"

    # Attributes and operators.

    def change_attribute(self):
        node = self.pick(n for n in self.all_nodes()
                         if n.op_type in ATTRIBUTES or any(a.type in (2, 7) for a in n.attribute))
        if node is None:
            return None
        known = ATTRIBUTES.get(node.op_type, {})
        names = sorted(set(known) | {a.name for a in node.attribute if a.type in (2, 7)})
        name = self.pick(names)
        if name is None:
            return None
        old = next((helper.get_attribute_value(a) for a in node.attribute if a.name == name), None)
        if name in known:
            new = self.pick(v for v in known[name] if v != old)
        elif isinstance(old, int):
            new = self.pick((old + 1, old - 1, 1 - old))
        else:
            new = list(old)
            self.rng.shuffle(new)
            new = [int(v) for v in new]
        kept = [a for a in node.attribute if a.name != name]
        del node.attribute[:]
        node.attribute.extend(kept)
        node.attribute.append(helper.make_attribute(name, new))
        return f"{node.op_type}.{name}: {old} -> {new}"

    def change_equation(self):
        node = self.pick(n for n in self.all_nodes() if n.op_type == "Einsum")
        if node is None:
            return None
        old = helper.get_attribute_value(node.attribute[0]).decode()
        letters = [i for i, c in enumerate(old) if c.isalpha()]
        i, j = int(self.pick(letters)), int(self.pick(letters))
        new = list(old)
        new[i], new[j] = new[j], new[i] if self.rng.random() < 0.7 else new[j]
        node.attribute[0].s = "".join(new).encode()
        return f"Einsum {old} -> {''.join(new)}"

    def change_operator(self):
        node = self.pick(n for n in self.all_nodes() if any(n.op_type in f for f in FAMILIES))
        if node is None:
            return None
        family = self.pick(f for f in FAMILIES if node.op_type in f)
        old, new = node.op_type, self.pick(k for k in family)
        node.op_type = new
        if new in ("ArgMin",) or old in ("ArgMax", "ArgMin"):
            return f"{old} -> {new}"
        return f"{old} -> {new}" if old != new else None

    def swap_inputs(self):
        node = self.pick(n for n in self.all_nodes()
                         if len(n.input) >= 2 and n.op_type not in COMMUTE)
        if node is None:
            return None
        i, j = (1, 2) if node.op_type == "Where" else self.rng.choice(
            len(node.input), 2, replace=False).tolist()
        node.input[i], node.input[j] = node.input[j], node.input[i]
        return f"{node.op_type}: inputs {i} and {j} swapped"

    # Edges.

    def produced_before(self, at):
        names = [v.name for v in self.graph.input] + [t.name for t in self.graph.initializer]
        for node in list(self.graph.node)[:at]:
            names += node.output
        return [n for n in names if n in self.types]

    def place(self, accept=lambda node, i: True):
        """An input of a node: (the node's number, the node, the input's number)."""
        found = [(at, node, i) for at, node in enumerate(self.graph.node)
                 for i, name in enumerate(node.input) if name and accept(node, i)]
        return self.pick(found)

    def rewire(self):
        place = self.place(lambda n, i: n.input[i] in self.types)
        if place is None:
            return None
        at, node, i = place
        dtype, shape = self.types[node.input[i]]
        loose = self.rng.random() < 0.3
        names = [n for n in self.produced_before(at) if n != node.input[i]
                 and self.types[n][0] == dtype
                 and (self.types[n][1] == shape or loose and shape is not None
                      and self.types[n][1] is not None and len(self.types[n][1]) == len(shape))]
        if not names:
            return None
        new = self.pick(names)
        old, node.input[i] = node.input[i], new
        return f"{node.op_type}.{i}: {old} -> {new}"

    def bypass(self):
        found = [(node, i) for node in self.graph.node for i, name in enumerate(node.input)
                 if name in self.types and len(node.output) == 1
                 and node.output[0] in self.types and self.types[name] == self.types[node.output[0]]]
        if not found:
            return None
        node, i = self.pick(found)
        for user in self.all_nodes():
            if user is not node:
                for k, name in enumerate(user.input):
                    if name == node.output[0]:
                        user.input[k] = node.input[i]
        return f"{node.op_type} is left out for its input {i}"

    def insert(self):
        """Something that is done to one use of a value."""
        place = self.place(lambda n, i: self.types.get(n.input[i], (0, None))[1] is not None)
        if place is None:
            return None
        at, node, i = place
        name = node.input[i]
        dtype, shape = self.types[name]
        rank, before = len(shape), len(self.graph.node)
        axis = int(self.rng.integers(rank)) if rank else 0
        how = None
        if dtype in FLOATS:
            np_type = helper.tensor_dtype_to_np_dtype(dtype)
            how = self.pick(("scale", "shift", "mean", "sum", "softmax", "centre", "limit", "cumsum",
                             "reverse", "roll", "largest", "norm", "quantise", "position", "zero",
                             "number", "random", "triangle", "count", "sort", "attention",
                             "neighbour", "first", "best", "dropout", "running"))
        elif dtype in INTEGERS:
            np_type = helper.tensor_dtype_to_np_dtype(dtype)
            how = self.pick(("shift", "limit", "reverse", "roll", "cumsum", "mod", "negate"))
        elif dtype == TensorProto.BOOL:
            np_type, how = None, self.pick(("invert", "reverse", "roll"))
        if how is None or rank == 0 and how not in ("scale", "shift", "limit", "invert", "negate"):
            return None
        if how in ("triangle", "attention") and rank < 2 or np_type not in (
                np.float32, None) and how in ("dropout", "random"):
            return None
        new = getattr(Insertion(self, at, name, axis, np_type, rank), how)()
        self.graph.node[at + len(self.graph.node) - before].input[i] = new
        return f"{how} along {axis} of {list(shape)} in front of {node.op_type}.{i}"

    def expose(self):
        """An inner value as an output."""
        outputs = {o.name for o in self.graph.output}
        name = self.pick(n for node in self.graph.node for n in node.output
                         if n in self.types and n not in outputs
                         and self.types[n][1] is not None)
        if name is None:
            return None
        dtype, shape = self.types[name]
        self.graph.output.append(helper.make_tensor_value_info(
            name, dtype, [d if isinstance(d, int) else f"{name}_{i}"
                          for i, d in enumerate(shape)]))
        return f"{name} is an output"

    def fix_dimension(self):
        """A dimension of the inputs that varied has one size."""
        names = sorted({d.dim_param for v in self.graph.input
                        for d in v.type.tensor_type.shape.dim if d.dim_param})
        if not names:
            return None
        name, size = self.pick(names), self.pick((0, 1, 2, 4, 8))
        for v in self.graph.input:
            for d in v.type.tensor_type.shape.dim:
                if d.dim_param == name:
                    d.dim_value = size
        return f"{name} = {size}"


WAYS = [Edit.change_integer] * 4 + [Edit.change_float] * 3 + [Edit.change_weights] * 2 + [
    Edit.change_attribute] * 3 + [Edit.change_equation] + [Edit.change_operator] * 3 + [
    Edit.swap_inputs] * 2 + [Edit.rewire] * 4 + [Edit.bypass] * 2 + [Edit.insert] * 4 + [
    Edit.expose, Edit.fix_dimension]


def mutate(model, rng, way=None):
    """`way`: the name of the only kind of change."""
    edit = Edit(model, rng)
    return edit.pick(WAYS)(edit) if way is None else getattr(edit, way)()
