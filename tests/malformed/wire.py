"""Writes protobuf's wire format, right or wrong, and ONNX messages with it.

Needs nothing installed. A message is a bytes object; fields are joined with +.
"""

import struct

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


def varint(value):
    value &= 2**64 - 1
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def tag(number, wire_type):
    return varint(number << 3 | wire_type)


def integer(number, value):
    return tag(number, VARINT) + varint(value)


def blob(number, data):
    if isinstance(data, str):
        data = data.encode()
    return tag(number, BYTES) + varint(len(data)) + data


def packed(number, values):
    return blob(number, b"".join(varint(v) for v in values))


def nest(numbers, levels, inner=b""):
    """inner inside messages of these field numbers, `levels` times; linear."""
    parts = [inner]
    length = len(inner)
    for _ in range(levels):
        for number in reversed(numbers):
            head = tag(number, BYTES) + varint(length)
            parts.append(head)
            length += len(head)
    return b"".join(reversed(parts))


# Numbers of TensorProto.DataType.
FLOAT, UINT8, INT8, UINT16, INT16, INT32, INT64, STRING, BOOL, FLOAT16 = range(
    1, 11)
DOUBLE, UINT32, UINT64, COMPLEX64, COMPLEX128, BFLOAT16 = range(11, 17)
FLOAT8E4M3FN, UINT4, INT4, UINT2 = 17, 21, 22, 25


def tensor(dtype, dims, data=b"", name="w"):
    """`data` are whole fields: blob(9, ...) for raw_data and so on."""
    out = b"".join(integer(1, d) for d in dims)
    if dtype is not None:
        out += integer(2, dtype)
    return out + data + blob(8, name)


def external(dtype, dims, keys, data=b"", name="w"):
    entries = b"".join(
        blob(13, blob(1, key) + blob(2, value)) for key, value in keys)
    return tensor(dtype, dims, data + entries + integer(14, 1), name)


def value_info(name, dtype, dims):
    shape = b"".join(
        blob(1, integer(1, d) if isinstance(d, int) else blob(2, d))
        for d in dims)
    return blob(1, name) + blob(
        2, blob(1, integer(1, dtype) + blob(2, shape)))


def untyped(name):
    """A value of which nothing is said."""
    return blob(1, name)


def attribute(name, kind, value):
    """`value` is a whole field."""
    return blob(1, name) + value + integer(20, kind)


def real(number, value):
    return tag(number, FIXED32) + struct.pack("<f", value)


def a_int(name, value):
    return attribute(name, 2, integer(3, value))


def a_float(name, value):
    return attribute(name, 1, real(2, value))


def a_string(name, value):
    return attribute(name, 3, blob(4, value))


def a_strings(name, values):
    return attribute(name, 8, b"".join(blob(9, v) for v in values))


def a_ints(name, values):
    return attribute(name, 7, packed(8, values))


def a_tensor(name, value):
    return attribute(name, 4, blob(5, value))


def a_graph(name, value):
    return attribute(name, 5, blob(6, value))


def node(op_type, inputs, outputs, attributes=(), name="", domain=""):
    out = b"".join(blob(1, i) for i in inputs)
    out += b"".join(blob(2, o) for o in outputs)
    if name:
        out += blob(3, name)
    out += blob(4, op_type)
    out += b"".join(blob(5, a) for a in attributes)
    if domain:
        out += blob(7, domain)
    return out


def graph(nodes=(), initializers=(), inputs=(), outputs=(), extra=b"",
          name="g"):
    return (b"".join(blob(1, n) for n in nodes) + blob(2, name) +
            b"".join(blob(5, t) for t in initializers) +
            b"".join(blob(11, i) for i in inputs) +
            b"".join(blob(12, o) for o in outputs) + extra)


def opset(domain, version):
    """A field of a model."""
    return blob(8, blob(1, domain) + integer(2, version))


def function(name, inputs, outputs, nodes, opsets=(("", 21),), attributes=(),
             domain="local"):
    """A field of a model."""
    return blob(25, blob(1, name) +
                b"".join(blob(4, i) for i in inputs) +
                b"".join(blob(5, o) for o in outputs) +
                b"".join(blob(6, a) for a in attributes) +
                b"".join(blob(7, n) for n in nodes) +
                b"".join(blob(9, blob(1, d) + integer(2, v))
                         for d, v in opsets) + blob(10, domain))


def model(graph_bytes, ir_version=10, opset=21, extra=b""):
    """The graph comes last, so that a prefix of a model is none. None leaves a
    version out."""
    versions = b""
    if ir_version is not None:
        versions = integer(1, ir_version)
    versions += blob(2, "tests/malformed")
    if opset is not None:
        versions += blob(8, blob(1, "") + integer(2, opset))
    return versions + extra + blob(7, graph_bytes)
