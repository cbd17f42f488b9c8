"""Cases of one convolution with bias and Relu each, of shapes that models have."""

import dataclasses

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


@dataclasses.dataclass
class Shape:
    name: str
    channels: int
    filters: int
    kernel: tuple
    image: tuple
    stride: int = 1
    dilation: int = 1
    groups: int = 1
    batch: int = 1
    op: str = "Conv"

    def pads(self):
        each = [(k - 1) * self.dilation // 2 for k in self.kernel]
        return each + each

    def label(self):
        return f"{self.name}_n{self.batch}"


SHAPES = [
    Shape("7x7_s2_3_64_224", 3, 64, (7, 7), (224, 224), stride=2),
    Shape("3x3_64_64_56", 64, 64, (3, 3), (56, 56)),
    Shape("3x3_256_256_14", 256, 256, (3, 3), (14, 14)),
    Shape("3x3_512_512_7", 512, 512, (3, 3), (7, 7)),
    Shape("3x3_s2_128_256_28", 128, 256, (3, 3), (28, 28), stride=2),
    Shape("3x3_16_16_32", 16, 16, (3, 3), (32, 32)),
    Shape("3x3_64_64_32", 64, 64, (3, 3), (32, 32)),
    Shape("1x1_64_256_56", 64, 256, (1, 1), (56, 56)),
    Shape("1x1_256_64_56", 256, 64, (1, 1), (56, 56)),
    Shape("1x1_256_256_64", 256, 256, (1, 1), (64, 64)),
    Shape("1x1_512_2048_7", 512, 2048, (1, 1), (7, 7)),
    Shape("1x1_s2_256_512_56", 256, 512, (1, 1), (56, 56), stride=2),
    Shape("1x1_12_12_32", 12, 12, (1, 1), (32, 32)),
    Shape("dw3x3_64_112", 64, 64, (3, 3), (112, 112), groups=64),
    Shape("dw3x3_s2_96_112", 96, 96, (3, 3), (112, 112), stride=2, groups=96),
    Shape("dw5x5_240_28", 240, 240, (5, 5), (28, 28), groups=240),
    Shape("dw7x7_96_56", 96, 96, (7, 7), (56, 56), groups=96),
    Shape("dw3x3_576_14", 576, 576, (3, 3), (14, 14), groups=576),
    Shape("grouped3x3_128_56", 128, 128, (3, 3), (56, 56), groups=32),
    Shape("dilated3x3_64_33", 64, 64, (3, 3), (33, 33), dilation=4),
    Shape("conv1d_k3_256_500", 256, 256, (3,), (500,)),
    Shape("conv1d_k31_dw_256_500", 256, 256, (31,), (500,), groups=256),
    Shape("3d_3x3x3_32_16", 32, 32, (3, 3, 3), (16, 16, 16)),
    Shape("transposed2x2_s2_128_28", 128, 64, (2, 2), (28, 28), stride=2,
          op="ConvTranspose"),
    Shape("maxpool3x3_s2_64_112", 64, 64, (3, 3), (112, 112), stride=2,
          op="MaxPool"),
    Shape("maxpool2x2_s2_64_56", 64, 64, (2, 2), (56, 56), stride=2,
          op="MaxPool"),
    Shape("averagepool3x3_192_28", 192, 192, (3, 3), (28, 28),
          op="AveragePool"),
    Shape("global_512_14", 512, 512, (1, 1), (14, 14),
          op="GlobalAveragePool"),
]


def batches(shapes, sizes=(1, 8)):
    return [dataclasses.replace(s, batch=n) for n in sizes for s in shapes]


def make_model(shape):
    if shape.op.endswith("Pool"):
        return make_graph(shape, make_pool(shape), [])
    rng = np.random.default_rng(7)
    taps = shape.channels // shape.groups * int(np.prod(shape.kernel))
    if shape.op == "Conv":
        dims = (shape.filters, shape.channels // shape.groups) + shape.kernel
        attributes = {"pads": shape.pads(), "dilations":
                      [shape.dilation] * len(shape.kernel)}
    else:
        dims = (shape.channels, shape.filters // shape.groups) + shape.kernel
        attributes = {}
    weights = rng.standard_normal(dims, np.float32) / np.float32(taps ** 0.5)
    bias = rng.standard_normal(shape.filters, np.float32)
    node = helper.make_node(shape.op, ["x", "w", "b"], ["y"], name="conv",
                            group=shape.groups,
                            strides=[shape.stride] * len(shape.kernel),
                            **attributes)
    return make_graph(shape, node, [numpy_helper.from_array(weights, "w"),
                                    numpy_helper.from_array(bias, "b")])


def make_pool(shape):
    attributes = {}
    if not shape.op.startswith("Global"):
        attributes = {"kernel_shape": shape.kernel, "pads": shape.pads(),
                      "strides": [shape.stride] * len(shape.kernel)}
    return helper.make_node(shape.op, ["x"], ["y"], name="pool", **attributes)


def make_graph(shape, node, weights):
    """The node with a Relu behind it; images of any number and size."""
    relu = helper.make_node("Relu", ["y"], ["z"], name="relu")
    free = [f"d{i}" for i in range(len(shape.image))]
    inputs = [helper.make_tensor_value_info(
        "x", TensorProto.FLOAT, ["N", shape.channels] + free)]
    outputs = [helper.make_tensor_value_info(
        "z", TensorProto.FLOAT, [None] * (2 + len(shape.image)))]
    graph = helper.make_graph([node, relu], shape.label(), inputs, outputs,
                              weights)
    model = helper.make_model(graph,
                              opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    return model


def make_case(folder, shape):
    data_set = folder / shape.label() / "test_data_set_0"
    data_set.mkdir(parents=True, exist_ok=True)
    onnx.save(make_model(shape), data_set.parent / "model.onnx")
    x = np.random.default_rng(8).standard_normal(
        (shape.batch, shape.channels) + shape.image, np.float32)
    tensor = numpy_helper.from_array(x, "x")
    (data_set / "input_0.pb").write_bytes(tensor.SerializeToString())
    return data_set.parent


def make_cases(folder, words):
    """Folders of the cases whose label contains one of the words, or of all."""
    chosen = [s for s in batches(SHAPES)
              if not words or any(w in s.label() for w in words)]
    return [make_case(folder, s) for s in chosen]
