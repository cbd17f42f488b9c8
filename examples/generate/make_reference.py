"""Makes generate's reference: input and output of a test data set of the model
as raw little-endian files.

    make_reference.py test_data_set_3 DIR    writes DIR/ids.i64, DIR/logits.f32
"""

import pathlib
import sys

import numpy as np
import onnx
import onnx.numpy_helper


def read(path):
    return onnx.numpy_helper.to_array(
        onnx.TensorProto.FromString(path.read_bytes()))


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    data, out = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    ids, logits = read(data / "input_0.pb"), read(data / "output_0.pb")
    if ids.shape[0] != 1 or logits.shape != (*ids.shape, 256):
        sys.exit(f"expected one sequence, found {ids.shape}, {logits.shape}")
    (out / "ids.i64").write_bytes(ids.astype("<i8").tobytes())
    (out / "logits.f32").write_bytes(logits.astype("<f4").tobytes())


if __name__ == "__main__":
    main()
