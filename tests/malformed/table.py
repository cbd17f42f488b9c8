"""The table of malformed models: what make_malformed.py and the files with
cases share. A case's name begins with its class, M01 to M78 (classes.txt)."""

import struct

import wire as w

UNSUPPORTED, MALFORMED, LIMIT, IO = 3, 4, 5, 6

CASES = []


def case(name, expected, words, data, options=(), prepare=None, run=None,
         nodes=0):
    """`expected` is the exit code of `moec MODEL -o FILE`, or several that are
    right; 0: it compiles. `words` are in its messages. `prepare(folder)` adds
    other files beside the model. `run`, for models that compile: of_run(...).
    `nodes` of those with many, which may take the time that code takes.
    """
    CASES.append({"name": name,
                  "exit": list(expected) if isinstance(expected, tuple)
                          else [expected],
                  "words": words, "options": list(options), "data": data,
                  "prepare": prepare, "run": run, "nodes": nodes})


def of_run(expected, words, *inputs, outputs=()):
    """What `moec run` does with these inputs (npy(...) files): its exit code,
    words of its messages, and the bytes of the first outputs."""
    return {"exit": expected, "words": words, "inputs": list(inputs),
            "outputs": [o.hex() for o in outputs]}


NPY_TYPES = {w.FLOAT: ("<f4", "f"), w.INT64: ("<i8", "q"), w.BOOL: ("|b1", "?"),
             w.INT32: ("<i4", "i"), w.UINT8: ("|u1", "B")}


def elements(dtype, values):
    return struct.pack(f"<{len(values)}{NPY_TYPES[dtype][1]}", *values)


def npy(dtype, dims, values):
    shape = "(" + "".join(f"{d}, " for d in dims) + ")"
    header = (f"{{'descr': '{NPY_TYPES[dtype][0]}', 'fortran_order': False, "
              f"'shape': {shape}}}").encode()
    header += b" " * (64 - (len(header) + 11) % 64) + b"\n"
    return (b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header +
            elements(dtype, values))


def ints(name, *values, dims=None):
    """An int64 initializer."""
    return w.tensor(w.INT64, [len(values)] if dims is None else dims,
                    w.blob(9, elements(w.INT64, values)), name)


def floats(name, *values, dims=None):
    return w.tensor(w.FLOAT, [len(values)] if dims is None else dims,
                    w.blob(9, elements(w.FLOAT, values)), name)


def bytes_of(name, dtype, dims, data):
    return w.tensor(dtype, dims, w.blob(9, data), name)


def one(op, inputs, attributes=(), outputs=("y",), opset=21, domain="",
        arguments=None):
    """A model of one node. An input is (name, dtype, dims), an initializer
    (bytes), or "" for one left out. Outputs have no declared types."""
    infos = [w.value_info(*i) for i in inputs if isinstance(i, tuple)]
    inits = [i for i in inputs if isinstance(i, bytes)]
    if arguments is None:
        arguments = [i if isinstance(i, str) else
                     i[0] if isinstance(i, tuple) else name_of(i)
                     for i in inputs]
    extra = b"" if domain == "" else w.opset(domain, 1)
    return w.model(w.graph([w.node(op, arguments, outputs, attributes,
                                   name="n", domain=domain)],
                           inits, infos, [w.untyped(o) for o in outputs]),
                   opset=opset, extra=extra)


def name_of(tensor):
    """The name, which tensors of wire.py have last."""
    at = tensor.rindex(b"\x42")
    for start in range(at, -1, -1):  # the tag may be a byte of the name
        if tensor[start] == 0x42 and tensor[start + 1] == len(tensor) - start - 2:
            return tensor[start + 2:].decode()
    raise ValueError("no name")
