#!/usr/bin/env python3
"""Writes malformed models, one folder each, and what moec must say to them.

usage: make_malformed.py DIR

DIR/cases.json lists what table.py describes, with `model`, the path of the
model below DIR. Names begin with the class of fault (classes.txt): M01 to M12
are of the container, M43 to M56 of the data of tensors; the others are in files
of their own.
"""

import json
import hashlib
import os
import pathlib
import stat
import sys

import model_cases
import semantic_cases
import wire as w
from table import (CASES, IO, LIMIT, MALFORMED, UNSUPPORTED, case, elements,
                   of_run)

def good_model():
    """y = x + w, small enough to be cut at every byte."""
    weight = w.tensor(w.FLOAT, [2], w.blob(9, b"\0\0\x80?\0\0\0@"))
    return w.model(w.graph([w.node("Add", ["x", "w"], ["y"])], [weight],
                           [w.value_info("x", w.FLOAT, [2])],
                           [w.value_info("y", w.FLOAT, [2])]))


def around(tensor, dtype=w.FLOAT, dims=(2,)):
    """A model that hands out its only weight."""
    return w.model(w.graph([w.node("Identity", ["w"], ["y"])], [tensor], [],
                           [w.value_info("y", dtype, dims)]))


# ---- Container --------------------------------------------------------------


def container_cases():
    case("m01-empty", MALFORMED, "file is empty", b"")
    whole = good_model()
    for length in range(1, len(whole)):
        case(f"m02-cut-at-{length:03d}", MALFORMED, "", whole[:length])

    for name, words, data in [
            ("elf", "an ELF file", b"\x7fELF\2\1\1" + bytes(64)),
            ("gzip", "a gzip archive", b"\x1f\x8b\x08\0" + bytes(20)),
            ("zip", "PyTorch", b"PK\3\4\0\0\x08\x08" + bytes(20)),
            ("json", "JSON", b'{"irVersion": "8", "graph": {}}'),
            ("text", "ONNX in text form", b"<\n  ir_version: 8\n>\nagraph () "),
            ("ort", ".ort", b"\x1c\0\0\0ORTM" + bytes(20)),
            ("safetensors", "safetensors",
             b'\x0c\0\0\0\0\0\0\0{"a": [1,2]}abcd'),
            ("gguf", "GGUF", b"GGUF\3\0\0\0" + bytes(20)),
            ("hdf5", "HDF5", b"\x89HDF\r\n\x1a\n" + bytes(20)),
            ("numpy", "NumPy", b"\x93NUMPY\1\0v\0{'descr': '<f4'}"),
            ("pickle", "pickle", b"\x80\2}q\0X\3\0\0\0abc"),
            ("lfs", "Git LFS",
             b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n"),
            ("html", "a web page", b"<!DOCTYPE html>\n<html></html>\n"),
    ]:
        case(f"m03-{name}", MALFORMED, words, data)

    head = w.integer(1, 10)
    case("m04-varint-11-bytes", MALFORMED, "exceeds 64 bits",
         b"\x08" + b"\x85" + b"\x80" * 9 + b"\0")
    case("m04-varint-65-bits", MALFORMED, "exceeds 64 bits",
         b"\x08" + b"\xff" * 9 + b"\2")
    case("m04-varint-cut", MALFORMED, "byte 0", b"\x08\x8a\x8a")
    case("m05-length-beyond-the-end", MALFORMED, "runs past the end",
         head + b"\x3a\x7f\x0a\0")
    case("m05-length-of-2-gib", MALFORMED, "runs past the end",
         head + b"\x3a" + w.varint(2**31) + b"\x0a\0")
    case("m05-length-wraps", MALFORMED, "runs past the end",
         head + b"\x3a" + w.varint(2**64 - 1) + b"\x0a\0")
    for levels in (128, 1000, 9000, 1000000):
        case(f"m06-graphs-{levels}", LIMIT, "graphs nested deeper",
             w.model(w.nest([1, 5, 6], levels)))
    case("m06-types", LIMIT, "messages nested deeper",
         w.model(w.blob(11, w.blob(2, w.nest([4, 1], 100000)))))
    case("m06-function", LIMIT, "graphs nested deeper",
         w.model(w.graph(), extra=w.blob(25, w.nest(
             [7, 5, 6], 1, w.nest([1, 5, 6], 1000)))))
    case("m07-empty-nodes", LIMIT, "take more than the limit",
         w.model(b"\x0a\0" * 4000000))
    case("m08-dims", LIMIT, "tensor of rank 1000000",
         around(w.packed(1, [1] * 1000000) + w.integer(2, w.FLOAT) +
                w.blob(8, "w")))
    case("m09-wire-type", MALFORMED, "wire type 0 where the field has 2",
         head + w.integer(7, 1) + b"\xff\xff")
    case("m09-group", MALFORMED, "groups", head + b"\xfb\1\x08\1\xfc\1")
    case("m09-wire-type-7", MALFORMED, "wire type does not exist",
         head + b"\xff\1\x08\1")
    case("m10-two-versions", MALFORMED, "given twice",
         good_model() + w.integer(1, 10))
    case("m10-two-graphs", MALFORMED, "given twice",
         w.model(w.graph(), extra=w.blob(7, w.graph())))
    case("m11-not-utf8", MALFORMED, "is not UTF-8",
         w.model(w.graph([w.node("Add", [b"x\xff", "w"], ["y"])])))
    case("m11-nul", MALFORMED, "byte 0x00 in a string",
         w.model(w.graph([w.node("Add", ["x\0y", "w"], ["y"])])))
    case("m11-long-name", LIMIT, "name of 10000000 bytes",
         w.model(w.graph(name="n" * 10000000)))
    # Escape sequences and marks that turn the direction of writing.
    for name, text in [("escape", "\x1b[31mred\x1b[0m"), ("bell", "\a\b\r"),
                       ("bidi", "a\u202eb\u2066c"), ("c1", "a\u009b31mb")]:
        case(f"m11-{name}", UNSUPPORTED, "NoSuchOperator", w.model(w.graph(
            [w.node("NoSuchOperator", ["x"], ["y"], name=text,
                    domain="com.example")],
            [], [w.value_info("x", w.FLOAT, [2])],
            [w.value_info("y", w.FLOAT, [2])],
        ), extra=w.blob(8, w.blob(1, "com.example") + w.integer(2, 1))))
    case("m12-zeros-behind", MALFORMED, "field number 0",
         good_model() + bytes(16))
    case("m12-two-models", MALFORMED, "two messages in one file",
         good_model() * 2)


# ---- Tensors ----------------------------------------------------------------


def tensor_cases():
    raw8 = w.blob(9, b"\0\0\x80?\0\0\0@")
    for name, dtype, expected, words in [
            ("undefined", 0, MALFORMED, "no element type"),
            ("absent", None, MALFORMED, "no element type"),
            ("29", 29, MALFORMED, "element type 29 does not exist"),
            ("negative", -1, MALFORMED, "element type -1 does not exist"),
            ("33-bits", 2**32 + 1, MALFORMED, "exceeds 32 bits")]:
        case(f"m43-type-{name}", expected, words,
             around(w.tensor(dtype, [2], raw8)))
    case("m43-raw-strings", MALFORMED, "expected string_data",
         around(w.tensor(w.STRING, [1], w.blob(9, bytes(16))), w.STRING, [1]))

    case("m44-negative", MALFORMED, "is -2",
         around(w.tensor(w.FLOAT, [-2], raw8)))
    case("m44-empty-with-data", MALFORMED, "raw_data has 8 bytes, expected 0",
         around(w.tensor(w.FLOAT, [0], raw8), dims=[0]))
    case("m44-count-overflows", MALFORMED, "exceeds 64 bits",
         around(w.tensor(w.UINT8, [2**32, 2**32], raw8), w.UINT8,
                [2**32, 2**32]))
    case("m44-bytes-overflow", MALFORMED, "exceeds 64 bits",
         around(w.tensor(w.DOUBLE, [2**62], raw8), w.DOUBLE, [2**62]))
    case("m44-empty", 0, "", around(w.tensor(w.FLOAT, [0, 3], w.blob(9, b"")),
                                    dims=[0, 3]), run=of_run(0, ""))
    case("m44-huge", MALFORMED, "raw_data has 8 bytes",
         around(w.tensor(w.FLOAT, [2**40], raw8), dims=[2**40]))

    for length in (1, 7, 9, 16):
        case(f"m45-raw-{length}", MALFORMED, f"raw_data has {length} bytes",
             around(w.tensor(w.FLOAT, [2], w.blob(9, bytes(length)))))
    case("m45-no-data", MALFORMED, "has no elements",
         around(w.tensor(w.FLOAT, [2])))

    case("m46-raw-and-typed", MALFORMED, "both raw_data and float_data",
         around(w.tensor(w.FLOAT, [2], raw8 + w.blob(4, bytes(8)))))
    case("m46-wrong-field", MALFORMED, "are in int32_data, expected float_data",
         around(w.tensor(w.FLOAT, [2], w.packed(5, [1, 2]))))

    case("m47-int4-short", MALFORMED, "raw_data has 1 bytes, expected 2",
         around(w.tensor(w.INT4, [3], w.blob(9, b"\x21")), w.INT4, [3]))
    case("m47-uint2-long", MALFORMED, "raw_data has 2 bytes, expected 1",
         around(w.tensor(w.UINT2, [4], w.blob(9, b"\x21\0")), w.UINT2, [4]))

    # Three elements 1, 2, -8; the fourth does not count.
    case("m47-int4-rest", 0, "", w.model(w.graph(
        [w.node("Cast", ["w"], ["y"], [w.a_int("to", w.INT64)])],
        [w.tensor(w.INT4, [3], w.blob(9, b"\x21\xf8"))], [],
        [w.value_info("y", w.INT64, [3])])),
        run=of_run(0, "", outputs=[elements(w.INT64, [1, 2, -8])]))

    typed_value_cases(raw8)


def typed_value_cases(raw8):
    case("m48-float-data", MALFORMED, "float_data has 12 bytes, expected 8",
         around(w.tensor(w.FLOAT, [2], w.blob(4, bytes(12)))))
    case("m48-int64-data", MALFORMED, "int64_data has 3 values, expected 2",
         around(w.tensor(w.INT64, [2], w.packed(7, [1, 2, 3])), w.INT64))
    case("m48-string-data", MALFORMED, "string_data has 1 strings, expected 2",
         around(w.tensor(w.STRING, [2], w.blob(6, "a")), w.STRING))
    case("m48-string-not-utf8", MALFORMED, "is not UTF-8",
         around(w.tensor(w.STRING, [1], w.blob(6, b"\xff")), w.STRING, [1]))

    for name, dtype, value in [("uint8", w.UINT8, 300), ("int8", w.INT8, 200),
                               ("bool", w.BOOL, 7),
                               ("float16", w.FLOAT16, 2**16),
                               ("int32", w.INT32, 2**40)]:
        case(f"m49-{name}", MALFORMED, "value 0 of int32_data",
             around(w.tensor(dtype, [1], w.packed(5, [value])), dtype, [1]))
    alignment_cases()
    sparse_cases()
    case("m52-scalar", MALFORMED, "number of trips", w.model(w.graph(
        [w.node("Loop", ["m", "", "x"], ["y"], [w.a_graph("body", w.graph(
            [w.node("Identity", ["c"], ["k"]), w.node("Neg", ["a"], ["b"])], [],
            [w.value_info("i", w.INT64, []), w.value_info("c", w.BOOL, []),
             w.value_info("a", w.FLOAT, [2])],
            [w.untyped("k"), w.untyped("b")]))])],
        [w.tensor(w.INT64, [100000], w.blob(9, bytes(800000)), "m")],
        [w.value_info("x", w.FLOAT, [2])], [w.untyped("y")])))
    case("m52-segment", UNSUPPORTED, "segments", around(
        w.tensor(w.FLOAT, [2], raw8 + w.blob(3, w.integer(1, 0)))))


def alignment_cases():
    for extra in range(8):  # at all places relative to multiples of 8
        data = elements(w.INT64, [1 << 40, -2])
        case(f"m50-{extra}", 0, "", w.model(
            w.graph([w.node("Identity", ["w"], ["y"])],
                    [w.tensor(w.INT64, [2], w.blob(9, data))], [],
                    [w.value_info("y", w.INT64, [2])], name="g" * (extra + 1))),
            run=of_run(0, "", outputs=[data]))


def sparse_cases():
    def sparse(values, n_values, indices, shape, dims):
        parts = w.blob(1, w.tensor(w.FLOAT, [n_values],
                                   w.blob(9, bytes(4 * values))))
        parts += w.blob(2, w.tensor(w.INT64, shape, w.packed(7, indices), "i"))
        parts += b"".join(w.integer(3, d) for d in dims)
        return w.model(w.graph(
            [w.node("Identity", ["w"], ["y"])], [], [],
            [w.value_info("y", w.FLOAT, dims)], w.blob(15, parts)))

    case("m51-count", MALFORMED, "indices of a sparse tensor are",
         sparse(2, 2, [0], [1], [4]))
    case("m51-unsorted", MALFORMED, "not above the one before it",
         sparse(2, 2, [2, 1], [2], [4]))
    case("m51-duplicate", MALFORMED, "not above the one before it",
         sparse(2, 2, [1, 1], [2], [4]))
    case("m51-out-of-range", MALFORMED, "out of range",
         sparse(1, 1, [4], [1], [4]))
    case("m51-negative", MALFORMED, "out of range",
         sparse(1, 1, [-1], [1], [4]))
    case("m51-rank-0", MALFORMED, "no dimensions", sparse(1, 1, [0], [1], []))
    case("m51-bomb", LIMIT, "exceeds the limit",
         sparse(1, 1, [0], [1], [2**20, 2**20]))


# ---- External data ----------------------------------------------------------


def write_weights(folder):
    (folder / "w.bin").write_bytes(bytes(8))
    (folder / "sub").mkdir()
    (folder / "sub" / "w.bin").write_bytes(bytes(8))


def add(function):
    """Weights and one thing more."""
    def prepare(folder):
        write_weights(folder)
        function(folder)
    return prepare


def make_device(folder):
    """/dev/zero under another name where that may be made, or a link to it."""
    try:
        os.mknod(folder / "zero", stat.S_IFCHR | 0o600, os.makedev(1, 5))
    except PermissionError:
        (folder / "zero").symlink_to("/dev/zero")


def external_model(*keys, dims=(2,), data=b""):
    return around(w.external(w.FLOAT, dims, keys, data), dims=dims)


def external_cases():
    def location(name, expected, words, path, prepare=write_weights,
                 options=()):
        case(f"m53-{name}", expected, words,
             external_model(("location", path)), options, prepare)

    location("absolute", MALFORMED, "absolute path", "/etc/passwd")
    location("environ", MALFORMED, "absolute path", "/proc/self/environ")
    location("parent", MALFORMED, "leaves the directory", "../cases.json")
    location("parent-inside", MALFORMED, "leaves the directory",
             "sub/../../cases.json")
    location("empty-name", MALFORMED, "location is empty", "")
    location("ort-memory", MALFORMED, "another program's memory",
             "*/_ORT_MEM_ADDR_/*")
    location("missing", IO, "cannot open external data", "nowhere.bin")
    location("directory", IO, "not a regular file", "sub")
    location("link", IO, "reached by a symbolic link", "link",
             add(lambda f: (f / "link").symlink_to("../cases.json")))
    location("link-inside", IO, "reached by a symbolic link", "link",
             add(lambda f: (f / "link").symlink_to("w.bin")))
    location("link-parent", IO, "reached by a symbolic link", "up/cases.json",
             add(lambda f: (f / "up").symlink_to("..")))
    location("link-out-of-root", IO, "leads out of", "link",
             add(lambda f: (f / "link").symlink_to("/etc/passwd")),
             ["--external-data-root=."])
    location("hard-link", IO, "hard links", "hard",
             add(lambda f: os.link(f / "w.bin", f / "hard")))
    location("pipe", IO, "not a regular file", "pipe",
             add(lambda f: os.mkfifo(f / "pipe")))
    location("device", IO, "not a regular file", "zero", add(make_device))
    location("empty-file", MALFORMED, "has 0 bytes; the tensor needs 8",
             "empty", add(lambda f: (f / "empty").write_bytes(b"")))

    def keys(name, expected, words, *pairs):
        case(name, expected, words,
             external_model(("location", "w.bin"), *pairs),
             prepare=write_weights)

    for name, value in [("negative", "-1"), ("hex", "0x0"), ("empty", ""),
                        ("wraps", str(2**64)), ("float", "1.0")]:
        keys(f"m54-offset-{name}", MALFORMED, "not a number of bytes",
             ("offset", value))
        keys(f"m54-length-{name}", MALFORMED, "not a number of bytes",
             ("length", value))
    # Two tensors of the same bytes.
    case("m54-overlapping", 0, "", w.model(w.graph(
        [w.node("Add", ["w", "v"], ["y"])],
        [w.external(w.FLOAT, [2], [("location", "w.bin")]),
         w.external(w.FLOAT, [1], [("location", "w.bin"), ("offset", "4")],
                    name="v")], [], [w.value_info("y", w.FLOAT, [2])])),
        prepare=write_weights, run=of_run(0, "", outputs=[bytes(8)]))
    case("m54-unaligned", 0, "", around(
        w.external(w.FLOAT, [1], [("location", "w.bin"), ("offset", "3"),
                                  ("length", "4")]), dims=[1]),
        prepare=write_weights, run=of_run(0, "", outputs=[bytes(4)]))
    keys("m54-offset-behind", MALFORMED, "from byte 8 on", ("offset", "8"))
    keys("m54-offset-near-end", MALFORMED, "from byte 1 on", ("offset", "1"))
    keys("m54-offset-huge", MALFORMED, "from byte 9223372036854775800 on",
         ("offset", "9223372036854775800"))
    keys("m54-length-other", MALFORMED, "has 4 bytes, expected 8",
         ("length", "4"))
    keys("m55-unknown", MALFORMED, "key '__class__' is not known",
         ("__class__", "x"))
    keys("m55-twice", MALFORMED, "key 'location' is given twice",
         ("location", "sub/w.bin"))
    keys("m55-checksum", MALFORMED, "not a SHA-1", ("checksum", "12345"))
    for name, data, options, code, words in [
            ("right", bytes(8), ["--verify-checksums"], 0, ""),
            ("wrong", b"other", ["--verify-checksums"], IO,
             "does not have the checksum"),
            ("not-compared", b"other", [], 0, "")]:
        case(f"m55-checksum-{name}", code, words, external_model(
            ("location", "w.bin"),
            ("checksum", hashlib.sha1(data).hexdigest())), options,
            write_weights)
    case("m55-no-location", MALFORMED, "no location",
         external_model(("offset", "0")))
    case("m56-both", MALFORMED, "both inline and external",
         external_model(("location", "w.bin"), data=w.blob(9, bytes(8))),
         prepare=write_weights)


def add_all_cases():
    container_cases()
    tensor_cases()
    external_cases()
    model_cases.add_cases()
    semantic_cases.add_cases()


def main():
    out = pathlib.Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    add_all_cases()
    for entry in CASES:
        folder = out / entry["name"]
        folder.mkdir()
        (folder / "model.onnx").write_bytes(entry.pop("data"))
        entry["model"] = f"{entry['name']}/model.onnx"
        prepare = entry.pop("prepare")
        if prepare is not None:
            prepare(folder)
        if entry["run"] is not None:
            inputs = entry["run"].pop("inputs")
            for i, data in enumerate(inputs):
                (folder / f"input_{i}.npy").write_bytes(data)
    assert len({entry["name"] for entry in CASES}) == len(CASES)
    (out / "cases.json").write_text(json.dumps(CASES, indent=1))
    print(len(CASES), "cases written")


if __name__ == "__main__":
    main()
