#!/usr/bin/env python3
"""Writes a reference data set as raw little-endian bytes, for programs that read neither protobuf nor NumPy files.

    python write_raw.py CASE/test_data_set_<i> OUT

OUT receives input_<j>.<type> and output_<j>.<type>, elements in C order, where type is i64, f32 and so on. The shapes
are those of the data set and are printed.
"""
import argparse
import pathlib

import numpy as np
import onnx
from onnx import numpy_helper


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data_set", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    args = parser.parse_args()

    args.out.mkdir(parents=True, exist_ok=True)
    for path in sorted(args.data_set.glob("*put_*.pb")):
        array = numpy_helper.to_array(onnx.TensorProto.FromString(path.read_bytes()))
        little = array.astype(array.dtype.newbyteorder("<"))
        target = args.out / f"{path.stem}.{array.dtype.kind}{array.dtype.itemsize * 8}"
        target.write_bytes(np.ascontiguousarray(little).tobytes())
        print(f"{target}: {array.dtype} {list(array.shape)}")


if __name__ == "__main__":
    main()
