"""What is measured against each other: moec, a peer, the limit of the machine."""

import ctypes as c
import time

import numpy as np
import onnxruntime as ort

import moec_library

PAUSE = 0.004  # seconds in which the threads of another subject go to sleep


def make_session(model, threads, optimise=True):
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    if not optimise:
        options.graph_optimization_level = (
            ort.GraphOptimizationLevel.ORT_DISABLE_ALL)
    return ort.InferenceSession(model, options, ["CPUExecutionProvider"])


class Moec:
    name = "moec"

    def __init__(self, library, inputs, threads, variant=None):
        self.instance = moec_library.Instance(library, inputs, threads, variant)
        self.run = self.instance.run

    def output(self, index, numpy_type):
        return self.instance.output(index, numpy_type)


class Ort:
    name = "ort"

    def __init__(self, path, inputs, threads):
        self.session = make_session(str(path), threads)
        self.binding = self.session.io_binding()
        taken = {i.name for i in self.session.get_inputs()}
        self.kept = []
        for name, (dtype, array) in inputs.items():
            if name in taken:
                self._bind(name, dtype, np.asarray(array, order="C"))
        for output in self.session.get_outputs():
            self.binding.bind_output(output.name, "cpu")

    def _bind(self, name, dtype, array):
        native = array.dtype.kind in "biuf" and array.dtype.isbuiltin == 1
        value = (ort.OrtValue.ortvalue_from_numpy(array) if native else
                 ort.OrtValue.ortvalue_from_numpy_with_onnx_type(array, dtype))
        self.kept += [array, value]
        self.binding.bind_ortvalue_input(name, value)

    def run(self):
        self.session.run_with_iobinding(self.binding)

    def output(self, index):
        return self.binding.get_outputs()[index].numpy()


class Probe:
    """The limits of the machine (bench/limits.h)."""

    def __init__(self, path):
        lib = c.CDLL(str(path))
        self.operations = lib.probe_operations
        self.operations.restype = c.c_double
        self.operations.argtypes = [c.c_char_p, c.c_uint, c.c_double]
        self.read = lib.probe_read
        self.read.restype = c.c_double
        self.read.argtypes = [c.c_void_p, c.c_size_t, c.c_uint, c.c_uint]
        self.buffer = lib.probe_buffer
        self.buffer.restype = c.c_void_p
        self.buffer.argtypes = [c.c_size_t]
        self.fork_join = lib.probe_fork_join
        self.fork_join.restype = c.c_double
        self.fork_join.argtypes = [c.c_uint]


class Limit:
    """Seconds of a run at the limit: the products at the peak of fp32
    arithmetic or all weights read once in sequence, whichever is longer."""

    def __init__(self, probe, operations, weight_bytes, threads):
        page = 4096
        self.probe, self.work, self.threads = probe, operations, threads
        self.bytes = -(-weight_bytes // (page * threads)) * page * threads
        self.data = probe.buffer(self.bytes) if self.bytes else None
        self.passes = max(3, (64 << 20) // max(1, self.bytes))

    def sample(self):
        seconds = 0.0
        if self.work:
            rate = self.probe.operations(b"f32", self.threads, 0.004)
            seconds = self.work / rate
        if self.bytes:
            rate = self.probe.read(self.data, self.bytes, self.threads,
                                   min(self.passes, 2000))
            seconds = max(seconds, self.bytes / rate)
        return seconds


def _block(run, count, clock):
    start = clock()
    for _ in range(count):
        run()
    return (clock() - start) / count


def sample(run, threads, seconds):
    """Seconds of a run: the least of blocks of runs over about `seconds`. One
    thread is timed by its own clock: what others take from it is not counted."""
    clock = time.thread_time if threads == 1 else time.perf_counter
    time.sleep(PAUSE)
    run()
    least = _block(run, 1, clock)
    count = max(1, int(0.0003 / max(least, 1e-7)))
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        least = min(least, _block(run, count, clock))
    return least
