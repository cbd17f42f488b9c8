#!/usr/bin/env python3
"""Writes single operators with random attributes and operands as cases.

usage: operator_cases.py [--seed N] [--count N] [--only NAME] OUT_DIR

For operators of which the backend suite has few cases. Results are those of
ONNX Runtime, or of the onnx package's reference implementation where that says
more precisely what the definition is. Operands that are sizes, axes or bounds
are constants or inputs; half of the models have symbolic dimensions. What the
oracle rejects is skipped. The same seed writes the same models.
"""
import argparse
import pathlib
import shutil
import sys

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

import random_cases

OPSET = 21


class Node:
    """One node: operands are data (inputs) or settings (either)."""

    def __init__(self, rng, operator, n_out=1, opset=OPSET, oracle="ort", **attrs):
        self.rng, self.operator, self.n_out = rng, operator, n_out
        self.opset, self.oracle, self.attrs = opset, oracle, attrs
        self.names, self.inputs, self.constants = [], {}, {}

    def data(self, value):
        name = f"x{len(self.names)}"
        self.names.append(name)
        self.inputs[name] = np.asarray(value)
        return self

    def setting(self, value):
        value = np.asarray(value)
        if self.rng.random() < 0.5:
            return self.data(value)
        name = f"c{len(self.names)}"
        self.names.append(name)
        self.constants[name] = value
        return self

    def missing(self):
        self.names.append("")
        return self


def floats(rng, shape, low=-3, high=3):
    return rng.uniform(low, high, shape).astype(np.float32)


def shape_of(rng, rank, low=1, high=6):
    return tuple(int(d) for d in rng.integers(low, high, rank))


def choice(rng, *options):
    return options[int(rng.integers(len(options)))]


def resize(rng):
    mode = choice(rng, "nearest", "linear", "cubic")
    rank = int(rng.integers(1, 4))
    shape = shape_of(rng, rank, 2, 7)
    transform = choice(rng, "half_pixel", "half_pixel_symmetric",
                       "pytorch_half_pixel", "align_corners", "asymmetric",
                       "tf_crop_and_resize")
    attrs = {"mode": mode, "coordinate_transformation_mode": transform}
    if mode == "nearest":
        attrs["nearest_mode"] = choice(rng, "round_prefer_floor", "floor", "ceil",
                                       "round_prefer_ceil")
    else:
        attrs["exclude_outside"] = int(rng.integers(2))
        if transform != "tf_crop_and_resize":
            attrs["antialias"] = int(rng.integers(2))
    if mode == "cubic":
        attrs["cubic_coeff_a"] = choice(rng, -0.5, -0.75)
    axes = list(range(rank))
    if rng.random() < 0.4:
        axes = [int(a) for a in rng.permutation(rank)[:int(rng.integers(1, rank + 1))]]
        attrs["axes"] = axes
    n = Node(rng, "Resize", opset=19, oracle="reference", **attrs)
    n.data(floats(rng, shape))
    if transform == "tf_crop_and_resize":
        low = rng.uniform(-0.1, 0.5, len(axes))
        high = low + rng.uniform(0.2, 0.7, len(axes))
        n.setting(np.concatenate([low, high]).astype(np.float32))
    else:
        n.missing()
    if rng.random() < 0.5:
        # Powers of two and the like: no rounding of the products of sizes.
        n.setting(np.array([choice(rng, 0.5, 0.75, 1, 1.5, 2, 3, 0.25 * 3)
                            for _ in axes], np.float32))
        return n
    if transform == "tf_crop_and_resize":
        low_size = 2
    else:
        low_size = 1
        n.attrs["keep_aspect_ratio_policy"] = choice(rng, "stretch", "not_larger",
                                                     "not_smaller")
    n.missing().setting(rng.integers(low_size, 10, len(axes)).astype(np.int64))
    return n


def grid_sample(rng):
    n_spatial = choice(rng, 2, 2, 3)
    shape = shape_of(rng, 2, 1, 3) + shape_of(rng, n_spatial, 2, 6)
    grid = (shape[0], *shape_of(rng, n_spatial), n_spatial)
    mode = choice(rng, "linear", "nearest", "cubic")
    if n_spatial == 3 and mode == "cubic":
        mode = "linear"
    n = Node(rng, "GridSample", opset=20, oracle="reference", mode=mode,
             padding_mode=choice(rng, "zeros", "border", "reflection"),
             align_corners=int(rng.integers(2)))
    return n.data(floats(rng, shape)).data(floats(rng, grid, -1.7, 1.7))


def regions(rng, count, height, width):
    y, x = rng.uniform(-1, height, count), rng.uniform(-1, width, count)
    h, w = rng.uniform(0.3, height, count), rng.uniform(0.3, width, count)
    return np.stack([x, y, x + w, y + h], 1).astype(np.float32)


def roi_align(rng):
    shape = shape_of(rng, 2, 1, 4) + shape_of(rng, 2, 4, 9)
    count = int(rng.integers(0, 5))
    n = Node(rng, "RoiAlign", opset=16, mode=choice(rng, "avg", "avg", "max"),
             output_height=int(rng.integers(1, 4)),
             output_width=int(rng.integers(1, 4)),
             sampling_ratio=int(rng.integers(0, 4)),
             spatial_scale=choice(rng, 0.5, 1.0),
             coordinate_transformation_mode=choice(rng, "half_pixel",
                                                   "output_half_pixel"))
    n.data(floats(rng, shape, 0, 3)).data(regions(rng, count, *shape[2:]))
    return n.data(rng.integers(0, shape[0], count).astype(np.int64))


def max_roi_pool(rng):
    shape = shape_of(rng, 2, 1, 4) + shape_of(rng, 2, 4, 9)
    count = int(rng.integers(1, 5))
    batch = rng.integers(0, shape[0], (count, 1)).astype(np.float32)
    rois = np.floor(regions(rng, count, *shape[2:]))
    n = Node(rng, "MaxRoiPool", pooled_shape=list(shape_of(rng, 2, 1, 4)),
             spatial_scale=choice(rng, 0.5, 1.0))
    return n.data(floats(rng, shape)).data(np.concatenate([batch, rois], 1))


def non_max_suppression(rng):
    batch, classes, count = shape_of(rng, 2, 1, 3) + (int(rng.integers(1, 40)),)
    centre = int(rng.integers(2))
    boxes = floats(rng, (batch, count, 4), 0.1, 4)
    if not centre and rng.random() < 0.5:
        boxes[..., 2:] += boxes[..., :2]
    scores = np.round(floats(rng, (batch, classes, count), 0, 1), 2)
    n = Node(rng, "NonMaxSuppression", opset=11, center_point_box=centre)
    n.data(boxes).data(scores)
    n.setting(np.array([int(rng.integers(0, 20))], np.int64))
    n.setting(np.array([choice(rng, 0.0, 0.3, 0.5, 0.9)], np.float32))
    if rng.random() < 0.5:
        n.setting(np.array([choice(rng, 0.2, 0.5)], np.float32))
    return n


def unique(rng):
    shape = shape_of(rng, int(rng.integers(1, 4)), 1, 7)
    if rng.random() < 0.3:
        shape = (int(rng.integers(30, 200)), *shape[1:2])
    attrs = {"sorted": int(rng.integers(2))}
    if rng.random() < 0.6:
        attrs["axis"] = int(rng.integers(-len(shape), len(shape)))
    x = rng.integers(-2, 3, shape).astype(choice(rng, np.float32, np.int64, np.int8))
    return Node(rng, "Unique", n_out=4, opset=11, **attrs).data(x)


def pool(rng):
    n_spatial = int(rng.integers(1, 4))
    shape = shape_of(rng, 2, 1, 3) + shape_of(rng, n_spatial, 3, 9)
    kernel = shape_of(rng, n_spatial, 1, 4)
    attrs = {"kernel_shape": kernel, "strides": shape_of(rng, n_spatial, 1, 4),
             "ceil_mode": int(rng.integers(2))}
    operator = choice(rng, "MaxPool", "AveragePool", "LpPool")
    if operator != "MaxPool" or rng.random() < 0.5:
        attrs["dilations"] = shape_of(rng, n_spatial, 1, 3)
    if rng.random() < 0.4:
        attrs["auto_pad"] = choice(rng, "SAME_UPPER", "SAME_LOWER", "VALID")
        attrs["dilations"] = [1] * n_spatial
    else:
        pads = [int(rng.integers(0, k)) for k in kernel]
        attrs["pads"] = pads + [int(rng.integers(0, k)) for k in kernel]
    n_out = 1
    if operator == "MaxPool":
        n_out = int(rng.integers(1, 3))
        attrs["storage_order"] = int(rng.integers(2))
    if operator == "AveragePool":
        attrs["count_include_pad"] = int(rng.integers(2))
    if operator == "LpPool":
        attrs["p"] = int(rng.integers(1, 4))
    return Node(rng, operator, n_out=n_out, opset=22, **attrs).data(
        floats(rng, shape))


def pad(rng):
    shape = shape_of(rng, int(rng.integers(1, 4)), 2, 6)
    rank = len(shape)
    mode = choice(rng, "constant", "reflect", "edge", "wrap")
    axes = [int(a) for a in rng.permutation(rank)[:int(rng.integers(1, rank + 1))]]
    low, high = (-1, 3) if mode == "constant" else (0, 2)
    pads = rng.integers(low, high, 2 * len(axes)).astype(np.int64)
    n = Node(rng, "Pad", opset=19, mode=mode)
    n.data(floats(rng, shape)).setting(pads)
    if mode == "constant":
        n.setting(np.float32(0.5))
    else:
        n.missing()
    signs = rng.integers(0, 2, len(axes)) * rank
    return n.setting(np.array(axes, np.int64) - signs)


def slicing(rng):
    shape = shape_of(rng, int(rng.integers(1, 4)), 0 if rng.random() < 0.2 else 1, 8)
    rank = len(shape)
    axes = rng.permutation(rank)[:int(rng.integers(1, rank + 1))]
    far = np.iinfo(np.int64).max
    steps = [choice(rng, 1, 2, 3, -1, -2, far) for _ in axes]
    starts = [int(rng.integers(-shape[a], shape[a] + 1)) for a in axes]
    ends = [choice(rng, *range(-9, 10), far if step > 0 else -far)
            for step in steps]
    n = Node(rng, "Slice", opset=13).data(floats(rng, shape))
    n.setting(np.array(starts, np.int64)).setting(np.array(ends, np.int64))
    n.setting((axes - rng.integers(0, 2, len(axes)) * rank).astype(np.int64))
    return n.setting(np.array(steps, np.int64))


REDUCTIONS = ("ReduceSum ReduceMean ReduceMax ReduceMin ReduceProd ReduceL1 "
              "ReduceL2 ReduceLogSum ReduceLogSumExp ReduceSumSquare").split()


def reduction(rng):
    shape = shape_of(rng, int(rng.integers(1, 5)))
    rank = len(shape)
    axes = rng.permutation(rank)[:int(rng.integers(0, rank + 1))]
    operator = choice(rng, *REDUCTIONS)
    n = Node(rng, operator, opset=18, keepdims=int(rng.integers(2)),
             noop_with_empty_axes=int(rng.integers(2)))
    if len(axes) == 0 and operator not in ("ReduceSum", "ReduceMean"):
        n.attrs["noop_with_empty_axes"] = 0
    n.data(floats(rng, shape, 0.1, 3))
    signs = rng.integers(0, 2, len(axes)) * rank
    return n.setting((axes - signs).astype(np.int64))


def running(rng):
    shape = shape_of(rng, int(rng.integers(1, 5)), 1, 8)
    n = Node(rng, "CumSum", opset=14, exclusive=int(rng.integers(2)),
             reverse=int(rng.integers(2)))
    axis = int(rng.integers(-len(shape), len(shape)))
    return n.data(floats(rng, shape)).setting(np.int64(axis))


def squeezing(rng):
    shape = list(shape_of(rng, int(rng.integers(1, 4))))
    rank = len(shape)
    if rng.random() < 0.5:
        k = int(rng.integers(1, 3))
        axes = rng.permutation(rank + k)[:k]
        signs = rng.integers(0, 2, k) * (rank + k)
        return (Node(rng, "Unsqueeze", opset=13).data(floats(rng, shape))
                .setting((axes - signs).astype(np.int64)))
    axes = rng.permutation(rank)[:int(rng.integers(1, rank + 1))]
    for a in axes:
        shape[a] = 1
    signs = rng.integers(0, 2, len(axes)) * rank
    return (Node(rng, "Squeeze", opset=13).data(floats(rng, shape))
            .setting((axes - signs).astype(np.int64)))


def columns(rng):
    spatial = int(rng.integers(1, 4))
    if spatial == 1:
        spatial = 2
    image = shape_of(rng, spatial, 4, 8)
    block = shape_of(rng, spatial, 1, 4)
    dilations = shape_of(rng, spatial, 1, 3)
    strides = shape_of(rng, spatial, 1, 3)
    pads = [int(p) for p in rng.integers(0, 2, 2 * spatial)]
    blocks = [(image[i] + pads[i] + pads[spatial + i]
               - (block[i] - 1) * dilations[i] - 1) // strides[i] + 1
              for i in range(spatial)]
    if min(blocks) < 1:
        return columns(rng)
    batch, channels = shape_of(rng, 2, 1, 3)
    x = floats(rng, (batch, channels * int(np.prod(block)), int(np.prod(blocks))))
    n = Node(rng, "Col2Im", opset=18, oracle="reference", dilations=dilations, strides=strides,
             pads=pads).data(x)
    return n.setting(np.array(image, np.int64)).setting(np.array(block, np.int64))


def centre(rng):
    shape = shape_of(rng, int(rng.integers(1, 4)), 1, 8)
    axes = [int(a) for a in rng.permutation(len(shape))]
    axes = axes[:int(rng.integers(1, len(axes) + 1))]
    n = Node(rng, "CenterCropPad", opset=18, oracle="reference", axes=axes)
    return n.data(floats(rng, shape)).setting(
        rng.integers(1, 9, len(axes)).astype(np.int64))


def unpool(rng):
    shape = shape_of(rng, 2, 1, 3) + shape_of(rng, 2, 2, 5)
    kernel = shape_of(rng, 2, 2, 4)
    out = [shape[2 + i] * kernel[i] for i in range(2)]
    total = int(shape[0] * shape[1] * out[0] * out[1])
    index = rng.permutation(total)[:int(np.prod(shape))].reshape(shape)
    n = Node(rng, "MaxUnpool", opset=11, kernel_shape=kernel, strides=kernel)
    return n.data(floats(rng, shape)).data(index.astype(np.int64))


def fourier(rng):
    shape = shape_of(rng, int(rng.integers(1, 3)), 2, 9)
    inverse, onesided = int(rng.integers(2)), int(rng.integers(2))
    last = 2 if inverse else (1 if onesided else choice(rng, 1, 2))
    rank = len(shape) + 1
    axis = int(rng.integers(0, rank - 1))
    n = Node(rng, "DFT", opset=20, oracle="reference", inverse=inverse,
             onesided=onesided)
    n.data(floats(rng, (*shape, last)))
    length = choice(rng, None, 3, 4, 8, 9)
    if length is None:
        n.missing()
    else:
        n.setting(np.int64(length))
    return n.setting(np.int64(axis - (rank if rng.random() < 0.5 else 0)))


def short_time(rng):
    length = int(rng.integers(12, 40))
    frame = int(rng.integers(3, 10))
    n = Node(rng, "STFT", opset=17, oracle="reference", onesided=1)
    n.data(floats(rng, (int(rng.integers(1, 3)), length, 1)))
    n.setting(np.int64(rng.integers(1, 6)))
    if rng.random() < 0.5:
        return n.data(floats(rng, (frame,), 0, 1))
    return n.missing().setting(np.int64(frame))


def window(rng):
    operator = choice(rng, "HannWindow", "HammingWindow", "BlackmanWindow")
    return Node(rng, operator, opset=17, oracle="reference",
                periodic=int(rng.integers(2))).setting(
                    np.int64(rng.integers(2, 30)))


def batch_norm(rng):
    shape = shape_of(rng, int(rng.integers(2, 5)), 2, 6)
    channels = (shape[1],)
    n = Node(rng, "BatchNormalization", n_out=3, opset=15, oracle="reference",
             training_mode=1, epsilon=1e-3, momentum=0.7)
    n.data(floats(rng, shape))
    for low, high in ((-2, 2), (-2, 2), (-2, 2), (0.5, 2)):
        n.data(floats(rng, channels, low, high))
    return n


def deform_conv(rng):
    n_images, group, offset_group = (int(v) for v in rng.integers(1, 3, 3))
    channels = 2 * group * offset_group
    size = shape_of(rng, 2, 4, 7)
    kernel = shape_of(rng, 2, 1, 4)
    filters = group * int(rng.integers(1, 3))
    pads = [int(p) for p in rng.integers(0, 2, 4)]
    out = [size[i] + pads[i] + pads[2 + i] - kernel[i] + 1 for i in range(2)]
    k = int(np.prod(kernel))
    n = Node(rng, "DeformConv", opset=19, oracle="reference", group=group,
             offset_group=offset_group, pads=pads, kernel_shape=kernel)
    n.data(floats(rng, (n_images, channels, *size)))
    n.data(floats(rng, (filters, channels // group, *kernel)))
    n.data(floats(rng, (n_images, offset_group * k * 2, *out), -1.5, 1.5))
    n.data(floats(rng, (filters,)))
    return n.data(floats(rng, (n_images, offset_group * k, *out), 0, 1))


def legacy(rng):
    """Broadcasting as opset 6 has it; the oracle sees the modern form."""
    shape = shape_of(rng, 4, 2, 5)
    first = int(rng.integers(0, 4))
    count = int(rng.integers(1, 5 - first))
    x, y = floats(rng, shape), floats(rng, shape[first:first + count], 0.5, 2)
    operator = choice(rng, "Add", "Sub", "Mul", "Div")
    n = Node(rng, operator, opset=6, oracle="numpy", broadcast=1, axis=first)
    n.data(x).data(y)
    wide = y.reshape(y.shape + (1,) * (4 - first - count))
    n.result = [{"Add": np.add, "Sub": np.subtract, "Mul": np.multiply,
                 "Div": np.divide}[operator](x, wide)]
    return n


OPERATORS = (resize, grid_sample, roi_align, max_roi_pool, non_max_suppression,
             unique, pool, pad, slicing, reduction, running, squeezing, columns,
             centre, unpool, fourier, short_time, window, batch_norm,
             deform_conv, legacy)


def make_model(n, symbolic):
    outputs = [f"y{i}" for i in range(n.n_out)]
    node = helper.make_node(n.operator, n.names, outputs, **n.attrs)
    infos = []
    for name, value in n.inputs.items():
        dims = [f"{name}_{i}" if symbolic and value.ndim > 1 else d
                for i, d in enumerate(value.shape)]
        if n.operator in ("DFT", "STFT") and dims and value.ndim > 1:
            dims[-1] = value.shape[-1]
        infos.append(helper.make_tensor_value_info(
            name, helper.np_dtype_to_tensor_dtype(value.dtype), dims))
    constants = [onnx.numpy_helper.from_array(v, k)
                 for k, v in n.constants.items()]
    results = [onnx.ValueInfoProto(name=name) for name in outputs]
    graph = helper.make_graph([node], "operator", infos, results, constants)
    return helper.make_model(graph, opset_imports=[
        helper.make_opsetid("", n.opset)], ir_version=8)


def results_of(n, model, options):
    if n.oracle == "numpy":
        return n.result
    if n.oracle == "reference":
        return ReferenceEvaluator(model).run(None, n.inputs)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, n.inputs)


def with_types(model, outputs):
    for info, value in zip(model.graph.output, outputs, strict=True):
        info.CopyFrom(helper.make_tensor_value_info(
            info.name, helper.np_dtype_to_tensor_dtype(value.dtype), None))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=10,
                        help="cases of each operator")
    parser.add_argument("--only", help="one of the functions here")
    parser.add_argument("out_dir", type=pathlib.Path)
    args = parser.parse_args()
    if args.out_dir.exists() and any(args.out_dir.iterdir()):
        if not list(args.out_dir.glob("operator_*/case.json")):
            sys.exit(f"{args.out_dir} holds something else")
        shutil.rmtree(args.out_dir)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    written = skipped = 0
    for make in OPERATORS:
        if args.only not in (None, make.__name__):
            continue
        reason = None
        n = 0
        for i in range(3 * args.count):
            if n == args.count:
                break
            rng = np.random.default_rng((args.seed, OPERATORS.index(make), i))
            node = make(rng)
            model = make_model(node, rng.random() < 0.5)
            try:
                with np.errstate(all="ignore"):
                    outputs = [np.asarray(v)
                               for v in results_of(node, model, options)]
            except Exception as error:  # noqa: BLE001: any reason to reject
                skipped += 1
                reason = error
                continue
            with_types(model, outputs)
            name = f"operator_{make.__name__}_{args.seed}_{n:03}"
            random_cases.write_case(args.out_dir / name, model, node.inputs,
                                    outputs)
            n += 1
        written += n
        if n < args.count:
            sys.exit(f"most cases of {make.__name__} are rejected: {reason}")
    print(written, "cases,", skipped, "skipped")


if __name__ == "__main__":
    main()
