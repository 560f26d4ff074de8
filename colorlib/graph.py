"""Write a network's layers and weights as an ONNX graph.

Not here: what reads the weights and computes the graph (`colorlib.inference`). The format is
described at https://onnx.ai/onnx/intro/concepts.html; `colorlib.protobuf` writes its bytes.
"""

import numpy as np

from colorlib import protobuf, table

OUTPUTS = {table.BINS: "logits", 2: "ab"}
"""The name of a graph's output, by its number of channels."""

OPSET, IR_VERSION = 17, 8
"""Versions of the format, of 2022, which current programs can read."""

CONSTANTS = {
    "zero": np.float32(0),
    "six": np.float32(6),
    "twice": np.array([1, 1, 2, 2], np.float32),
    "first": np.array([0, 0]),
    "last": np.array([2**31 - 1, 2**31 - 1]),
    "sides": np.array([2, 3]),
    "second": np.array([2, 2]),
}
"""Constants of a graph."""

NEAREST = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}

OPERATORS = {
    "batch_norm": ("BatchNormalization", (), {}),
    "frozen_batch_norm": ("BatchNormalization", (), {}),
    "relu": ("Relu", (), {}),
    "relu6": ("Clip", ("zero", "six"), {}),
    "leaky_relu": ("LeakyRelu", (), {"alpha": table.LEAKY_SLOPE}),
    "tanh": ("Tanh", (), {}),
    "add": ("Add", (), {}),
    "max_pool": ("MaxPool", (), {}),
    "subsample": ("Slice", ("first", "last", "sides", "second"), {}),
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
        For each layer that has some, by its name: ``kernel`` (channels out, channels in, k, k;
        of a transposed convolution in, out, k, k) and perhaps ``bias``, or ``gamma``, ``beta``,
        ``mean`` and ``variance``.
    size : tuple of int, optional
        Height and width of the input, which then is one image; any number and size if None.
    embed : bool
        Whether the weights are in the graph, or only their names and shapes.

    Returns
    -------
    bytes
        An ONNX file: from L in 0..100, float32 (batch, height, width, 1), to ``logits``, float32
        (batch, height / 4, width / 4, 313), or to ``ab``, float32 (batch, height, width, 2): what
        the Keras model takes and gives. A network that takes hints has a second input, ``hints``,
        float32 (batch, height, width, 3): a, b, and 1 where they are given, else three zeros.
    """
    taken, channels = table.inputs(rows), table.output_channels(rows)
    given, stride = OUTPUTS[channels], table.strides(rows)[rows[-1].name]
    nodes = [
        *(protobuf.node("Transpose", [x], [_output(x)], perm=[0, 3, 1, 2]) for x in taken),
        *(node for row in rows for node in _nodes(row, weights.get(row.name, ()))),
        protobuf.node("Transpose", [_output(rows[-1].name)], [given], perm=[0, 2, 3, 1]),
    ]
    used = {name for row in rows if row.kind in OPERATORS for name in OPERATORS[row.kind][1]}
    constants = {name: CONSTANTS[name] for name in CONSTANTS if name in used}
    constants |= {name: x for row in rows for name, x in _constants(row).items()}
    tensors = [protobuf.tensor(x, name) for name, x in constants.items()]
    tensor = protobuf.tensor if embed else protobuf.placeholder
    tensors += [tensor(array, name) for name, array in by_name(weights).items()]
    sides, batch = size or ("height", "width"), 1 if size else "batch"
    divided = [side // stride if size else f"{side}/{stride}" for side in sides]
    return protobuf.model(
        "colorizer",
        nodes,
        [protobuf.value(name, [batch, *sides, table.CHANNELS[name]]) for name in taken],
        [protobuf.value(given, [batch, *(divided if stride > 1 else sides), channels])],
        tensors,
        OPSET,
        IR_VERSION,
    )


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
    if row.kind == "rescale":
        scale, offset = _constants(row)
        product = f"{row.name}/product"
        return [
            protobuf.node("Mul", [*inputs, scale], [product]),
            protobuf.node("Add", [product, offset], [_output(row.name)], row.name),
        ]
    if row.kind in OPERATORS:
        kind, constants, settings = OPERATORS[row.kind]
        if kind == "BatchNormalization":
            settings = {"epsilon": row.epsilon}
        elif kind == "MaxPool":
            settings = {"kernel_shape": [row.stride] * 2, "strides": [row.stride] * 2}
        inputs += constants
        return [protobuf.node(kind, inputs, [_output(row.name)], row.name, **settings)]
    summed = f"{row.name}/sum" if row.relu else _output(row.name)
    convolution = protobuf.node(
        "ConvTranspose" if row.kind == "transposed" else "Conv",
        inputs,
        [summed],
        row.name,
        strides=[row.stride] * 2,
        dilations=[row.dilation] * 2,
        pads=[side for side in _margins(row) for _ in range(2)],
        group=row.channels if row.kind == "depthwise" else 1,
    )
    if not row.relu:
        return [convolution]
    return [convolution, protobuf.node("Relu", [summed], [_output(row.name)])]


# What a convolution adds before the first and after the last pixel; a transposed one takes it off.
def _margins(row):
    reach = row.dilation * (row.kernel - 1) - (0 if row.symmetric else row.stride - 1)
    return reach // 2, reach - reach // 2  # TensorFlow's "same": the larger half after


def _constants(row):
    if row.kind != "rescale":
        return {}
    scale = np.asarray(row.scale, np.float32).reshape(-1, 1, 1)
    return {f"{row.name}/scale": scale, f"{row.name}/offset": np.float32(row.offset)}


def _output(layer):
    return f"{layer}/output"
