"""Write a network's layers and weights as an ONNX graph.

Not here: what reads the weights and computes the graph (`colorlib.inference`). The format is
described at https://onnx.ai/onnx/intro/concepts.html.
"""

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from colorlib import table

INPUT, OUTPUT = table.INPUT, "logits"
"""The names of a graph's input and output."""

OPSET, IR_VERSION = 17, 8
"""Versions of the format, of 2022, which current programs can read."""

CONSTANTS = {
    "lightness_scale": np.float32(table.LIGHTNESS_SCALE),
    "lightness_offset": np.float32(table.LIGHTNESS_OFFSET),
    "zero": np.float32(0),
    "six": np.float32(6),
    "twice": np.array([1, 1, 2, 2], np.float32),
}
"""Constants of a graph."""

NORM = ("BatchNormalization", (), {"epsilon": table.BATCH_NORM_EPSILON})

NEAREST = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}

OPERATORS = {
    "batch_norm": NORM,
    "frozen_batch_norm": NORM,
    "relu6": ("Clip", ("zero", "six"), {}),
    "add": ("Add", (), {}),
    "concatenate": ("Concat", (), {"axis": 1}),
    "nearest": ("Resize", ("", "twice"), {"mode": "nearest", **NEAREST}),
    "bilinear": ("Resize", ("", "twice"), {"mode": "linear"}),
}
"""ONNX's operator, constants and settings for each kind of layer that is no convolution."""


def build(rows, weights, size=None, embed=True):
    """Write a network as a graph.

    Parameters
    ----------
    rows : list of table.Layer
        From `table.layers`.
    weights : dict of str to dict of str to ndarray of float32
        For each layer that has some, by its name: ``kernel`` (channels out, channels in, k, k)
        and perhaps ``bias``, or ``gamma``, ``beta``, ``mean`` and ``variance``.
    size : tuple of int, optional
        Height and width of the input, which then is one image; any number and size if None.
    embed : bool
        Whether the weights are in the graph, or only their names and shapes.

    Returns
    -------
    onnx.ModelProto
        From L in 0..100, float32 (batch, height, width, 1), to logits, float32 (batch,
        height / 4, width / 4, 313): what the Keras model takes and gives.
    """
    nodes = [
        helper.make_node("Transpose", [INPUT], ["channels_first"], perm=[0, 3, 1, 2]),
        helper.make_node("Mul", ["channels_first", "lightness_scale"], ["scaled"]),
        helper.make_node("Add", ["scaled", "lightness_offset"], [_output(table.INPUT)]),
        *(node for row in rows for node in _nodes(row, weights.get(row.name, ()))),
        helper.make_node("Transpose", [_output(rows[-1].name)], [OUTPUT], perm=[0, 2, 3, 1]),
    ]
    used = {name for node in nodes for name in node.input}
    tensors = [numpy_helper.from_array(CONSTANTS[x], x) for x in CONSTANTS if x in used]
    tensor = numpy_helper.from_array if embed else _placeholder
    tensors += [tensor(array, name) for name, array in by_name(weights).items()]
    sides = size or ("height", "width")
    quarters = [side // table.STRIDE for side in size] if size else ["height/4", "width/4"]
    batch = 1 if size else "batch"
    graph = helper.make_graph(
        nodes,
        "colorizer",
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, [batch, *sides, 1])],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, [batch, *quarters, table.BINS])],
        tensors,
    )
    opsets = [helper.make_opsetid("", OPSET)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)


def by_name(weights):
    """Name each array as the graph does.

    Parameters
    ----------
    weights : dict of str to dict of str to ndarray
        As for `build`.

    Returns
    -------
    dict of str to ndarray
        ``LAYER/PART``.
    """
    return {f"{x}/{part}": array for x, parts in weights.items() for part, array in parts.items()}


def _nodes(row, parts):
    inputs = [*map(_output, row.inputs), *(f"{row.name}/{part}" for part in parts)]
    if row.kind in OPERATORS:
        kind, constants, settings = OPERATORS[row.kind]
        inputs += constants
        return [helper.make_node(kind, inputs, [_output(row.name)], row.name, **settings)]
    reach = row.dilation * (row.kernel - 1) - (row.stride - 1)
    before, after = reach // 2, reach - reach // 2  # TensorFlow's "same": the larger half after
    summed = f"{row.name}/sum" if row.relu else _output(row.name)
    convolution = helper.make_node(
        "Conv",
        inputs,
        [summed],
        row.name,
        strides=[row.stride] * 2,
        dilations=[row.dilation] * 2,
        pads=[before, before, after, after],
        group=row.channels if row.kind == "depthwise" else 1,
    )
    if not row.relu:
        return [convolution]
    return [convolution, helper.make_node("Relu", [summed], [_output(row.name)])]


def _output(layer):
    return f"{layer}/output"


# What computes the graph gets the numbers themselves, and so needs no copy of them in here.
def _placeholder(array, name):
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=array.shape)
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="elsewhere")
    return tensor
