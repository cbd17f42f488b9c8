"""Compiled models as Python sees them: include/moec/model.h through ctypes."""

import ctypes as c
import time

import numpy as np

MAX_RANK = 32


class Value(c.Structure):
    _fields_ = [
        ("struct_size", c.c_uint32), ("kind", c.c_uint32),
        ("dtype", c.c_int32), ("rank", c.c_int32), ("data", c.c_void_p),
        ("dims", c.c_void_p), ("strides", c.c_void_p),
        ("capacity", c.c_uint64), ("size", c.c_uint64),
        ("offsets", c.c_void_p), ("items", c.c_void_p),
        ("n_items", c.c_uint64), ("alias_input", c.c_int32),
        ("reserved", c.c_int32),
    ]


class Options(c.Structure):
    _fields_ = [
        ("struct_size", c.c_uint32), ("n_threads", c.c_int32),
        ("variant", c.c_char_p), ("fixed_memory", c.c_uint32),
        ("reserved", c.c_uint32), ("parallel_for", c.c_void_p),
        ("parallel_user", c.c_void_p), ("allocate", c.c_void_p),
        ("release", c.c_void_p), ("memory_user", c.c_void_p),
        ("pool", c.c_void_p),
    ]


class Io(c.Structure):
    _fields_ = [
        ("struct_size", c.c_uint32), ("kind", c.c_uint32),
        ("dtype", c.c_int32), ("rank", c.c_int32), ("name", c.c_char_p),
        ("dims", c.POINTER(c.c_int64)), ("dim_names", c.POINTER(c.c_char_p)),
        ("dim_symbols", c.POINTER(c.c_int32)), ("optional", c.c_uint32),
        ("reserved", c.c_uint32),
    ]


CREATE = c.CFUNCTYPE(c.c_int, c.POINTER(Options), c.POINTER(c.c_void_p))
DESTROY = c.CFUNCTYPE(None, c.c_void_p)
RUN = c.CFUNCTYPE(c.c_int, c.c_void_p, c.POINTER(Value), c.c_uint32,
                  c.POINTER(Value), c.c_uint32)
TEXT = c.CFUNCTYPE(c.c_char_p, c.c_void_p)


class Table(c.Structure):
    _fields_ = [
        ("struct_size", c.c_uint32), ("abi_version", c.c_uint32),
        ("name", c.c_char_p), ("compiler", c.c_char_p),
        ("n_inputs", c.c_uint32), ("n_outputs", c.c_uint32),
        ("inputs", c.POINTER(Io)), ("outputs", c.POINTER(Io)),
        ("n_variants", c.c_uint32), ("reserved", c.c_uint32),
        ("variants", c.POINTER(c.c_char_p)),
        ("create", CREATE), ("destroy", DESTROY), ("query", c.c_void_p),
        ("run", RUN), ("message", TEXT), ("variant", TEXT),
        ("pool_create", c.c_void_p), ("pool_destroy", c.c_void_p),
    ]


class Library:
    """A loaded `.so`; load_seconds is what dlopen() took."""

    def __init__(self, path, entry="moec_model"):
        start = time.perf_counter()
        handle = c.CDLL(str(path))
        function = getattr(handle, entry)
        function.restype = c.POINTER(Table)
        self.table = function().contents
        self.load_seconds = time.perf_counter() - start


class Instance:
    """An instance with inputs bound: dict of name -> (ONNX type, array)."""

    def __init__(self, library, inputs, threads, variant=None):
        self.table = table = library.table
        options = Options(struct_size=c.sizeof(Options), n_threads=threads,
                          variant=variant.encode() if variant else None)
        self.handle = c.c_void_p()
        start = time.perf_counter()
        status = table.create(options, self.handle)
        self.create_seconds = time.perf_counter() - start
        if status != 0:
            raise RuntimeError(f"create: status {status}")
        self.kept = []
        self.inputs = (Value * max(1, table.n_inputs))()
        for i in range(table.n_inputs):
            self._bind(self.inputs[i], inputs.get(table.inputs[i].name.decode()))
        self.outputs = (Value * max(1, table.n_outputs))()
        for value in self.outputs:
            value.struct_size = c.sizeof(Value)
        self.call = (self.handle, self.inputs, table.n_inputs, self.outputs,
                     table.n_outputs)

    def _bind(self, value, given):
        value.struct_size = c.sizeof(Value)
        if given is None:
            return
        dtype, array = given
        array = np.asarray(array, order="C")
        dims = (c.c_int64 * max(1, array.ndim))(*array.shape)
        self.kept += [array, dims]
        value.dtype, value.rank = dtype, array.ndim
        value.data = array.ctypes.data
        value.dims = c.addressof(dims)

    def run(self):
        """Outputs are in the instance's own memory, valid until the next run."""
        status = self.table.run(*self.call)
        if status != 0:
            text = self.table.message(self.handle).decode()
            raise RuntimeError(f"run: status {status}: {text}")

    def output(self, index, numpy_type):
        value = self.outputs[index]
        dims = (c.c_int64 * MAX_RANK).from_address(value.dims)[:value.rank]
        if value.size == 0:
            return np.zeros(dims, numpy_type)
        data = (c.c_char * value.size).from_address(value.data)
        return np.frombuffer(data, numpy_type).reshape(dims).copy()

    def variant(self):
        return self.table.variant(self.handle).decode()

    def close(self):
        self.table.destroy(self.handle)
        self.handle = None
