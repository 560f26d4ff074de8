"""The networks as data: Table 1 of the report, and a decoder on a classifier's features.

Not here: what computes them, which is `colorlib.model` for training and `colorlib.inference`
for coloring. Nothing heavy is imported, so that coloring can start at once.

Table 1 is the network of Zhang et al. 2016, version 2. The other networks take the encoder of a
classifier, EfficientNet-Lite (Tan and Le 2019, "EfficientNet", arXiv 1905.11946), and put a small
decoder on it that joins its features of all resolutions (Lin et al. 2017, "Feature Pyramid
Networks", arXiv 1612.03144; for colors, Larsson et al. 2016, arXiv 1603.06668).
"""

import math
from typing import NamedTuple

BINS = 313
"""Colors to choose from (`colorlib.quantizer` holds them)."""

INPUT_MULTIPLE = 8
"""Input sides of Table 1 have to be multiples of this: three layers halve the resolution."""

STRIDE = 4
"""Input pixels a side for each pixel of every network's output."""

LIGHTNESS_SCALE, LIGHTNESS_OFFSET = 1 / 50, -1.0
"""The first layer's scaling of L from 0..100 to -1..1."""

BATCH_NORM_EPSILON = 1e-3
"""Added to the variance in BatchNorm; Keras' default."""


class ConvRow(NamedTuple):
    """A row of Table 1.

    Attributes
    ----------
    name : str
        Of the layer.
    channels : int
        At width 1.
    stride : float
        0.5 is an upsampling by 2 before the convolution.
    dilation : int
    batch_norm : bool
        Whether BatchNorm follows the layer.
    kernel : int
        Side of the convolution's kernel.
    """

    name: str
    channels: int
    stride: float = 1
    dilation: int = 1
    batch_norm: bool = False
    kernel: int = 3


TABLE_1 = (
    ConvRow("conv1_1", 64),
    ConvRow("conv1_2", 64, stride=2, batch_norm=True),
    ConvRow("conv2_1", 128),
    ConvRow("conv2_2", 128, stride=2, batch_norm=True),
    ConvRow("conv3_1", 256),
    ConvRow("conv3_2", 256),
    ConvRow("conv3_3", 256, stride=2, batch_norm=True),
    ConvRow("conv4_1", 512),
    ConvRow("conv4_2", 512),
    ConvRow("conv4_3", 512, batch_norm=True),
    ConvRow("conv5_1", 512, dilation=2),
    ConvRow("conv5_2", 512, dilation=2),
    ConvRow("conv5_3", 512, dilation=2, batch_norm=True),
    ConvRow("conv6_1", 512, dilation=2),
    ConvRow("conv6_2", 512, dilation=2),
    ConvRow("conv6_3", 512, dilation=2, batch_norm=True),
    ConvRow("conv7_1", 256),
    ConvRow("conv7_2", 256),
    ConvRow("conv7_3", 256, batch_norm=True),
    ConvRow("conv8_1", 128, stride=0.5),
    ConvRow("conv8_2", 128),
    ConvRow("conv8_3", 128, batch_norm=True),
    ConvRow("conv_1x1", BINS, kernel=1),
)
"""The layers of the network, first to last; the last gives logits, so it has no ReLU."""

LITE_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
"""Stages of EfficientNet-Lite0: blocks, kernel, stride, expansion, channels."""

LITE_SCALES = {"lite0": (1.0, 1.0), "lite2": (1.1, 1.2)}
"""Factors on the channels and on the blocks of the encoders that can be chosen."""

STEM_CHANNELS = 32
"""Of the encoder's first convolution, in every variant."""

DECODER_CHANNELS = (192, 192, 96, 96)
"""Of the decoder at strides 32, 16, 8 and 4, at width 1."""

ENCODER = "encoder_"
"""Prefix of the names of the encoder's layers."""

INPUT = "lightness"
"""The name of every network's input: L in 0..100."""

NETWORKS = ("table_1", "published", *LITE_SCALES)
"""The networks that a configuration can name."""


class Layer(NamedTuple):
    """A layer of a network.

    Attributes
    ----------
    name : str
    kind : str
        ``"convolution"`` or ``"depthwise"`` (with padding as TensorFlow's ``"same"``),
        ``"batch_norm"``, ``"frozen_batch_norm"`` (its statistics never change), ``"relu6"``,
        ``"add"``, ``"concatenate"``, ``"nearest"`` or ``"bilinear"`` (both double the resolution).
    inputs : tuple of str
        Names of the layers it reads; `INPUT` is L brought to -1..1.
    channels, kernel, stride, dilation : int
        Of a convolution.
    bias : bool
        Whether a convolution adds one.
    relu : bool
        Whether a convolution ends with a ReLU.
    """

    name: str
    kind: str
    inputs: tuple
    channels: int = 0
    kernel: int = 1
    stride: int = 1
    dilation: int = 1
    bias: bool = True
    relu: bool = False


def layers(network="table_1", width=1.0):
    """List the layers of a network, in the order in which they are computed.

    Parameters
    ----------
    network : {"table_1", "published", "lite0", "lite2"}
        Table 1; the same without BatchNorm in block 8, as in the report's published code; or a
        decoder on an EfficientNet-Lite encoder.
    width : float
        Factor on every channel count of Table 1 but the 313 bins, or on the decoder's.

    Returns
    -------
    list of Layer
        The last gives 313 logits at a quarter of the input's resolution.

    Raises
    ------
    ValueError
        If there is no such network.
    """
    if network not in NETWORKS:
        raise ValueError(f"unknown network {network!r}; use one of {', '.join(NETWORKS)}")
    if network in LITE_SCALES:
        return _lite(network, width)
    return _table_1(width, last_batch_norm=network == "table_1")


def input_multiple(network="table_1"):
    """Return the number of which a network's input sides have to be multiples.

    Parameters
    ----------
    network : str
        As for `layers`.

    Returns
    -------
    int
    """
    return 32 if network in LITE_SCALES else INPUT_MULTIPLE


def encoder_layers(variant, source=INPUT):
    """List the layers of an EfficientNet-Lite encoder, without the classifier's head.

    Parameters
    ----------
    variant : {"lite0", "lite2"}
    source : str
        Name of its input.

    Returns
    -------
    layers : list of Layer
    features : list of str
        Names of the layers whose features have the strides 2, 4, 8, 16 and 32.
    """
    wider, deeper = LITE_SCALES[variant]
    x, name = source, f"{ENCODER}stem"
    rows = [Layer(name, "convolution", (x,), STEM_CHANNELS, 3, 2, bias=False)]
    rows += _normalized(name)
    x, channels, features, number = rows[-1].name, STEM_CHANNELS, [], 0
    for stage, (blocks, kernel, first_stride, expansion, base) in enumerate(LITE_STAGES):
        fixed = stage in (0, len(LITE_STAGES) - 1)
        target = _round_channels(base * wider)
        for block in range(blocks if fixed else math.ceil(blocks * deeper)):
            stride = first_stride if block == 0 else 1
            if stride == 2:
                features.append(x)
            wide = channels * expansion
            rows += _block(f"{ENCODER}{number}", x, channels, wide, target, kernel, stride)
            x, channels, number = rows[-1].name, target, number + 1
    return rows, [*features, x]


def _table_1(width, last_batch_norm):
    x, rows = INPUT, []
    for row in TABLE_1:
        last = row is TABLE_1[-1]
        if row.stride == 0.5:
            rows.append(Layer(f"{row.name}_upsample", "nearest", (x,)))
            x = rows[-1].name
        channels = row.channels if last else round(row.channels * width)
        stride = max(1, int(row.stride))
        convolution = (channels, row.kernel, stride, row.dilation)
        rows.append(Layer(row.name, "convolution", (x,), *convolution, relu=not last))
        if row.batch_norm and (last_batch_norm or row.name != "conv8_3"):
            rows.append(Layer(f"{row.name}_bn", "batch_norm", (row.name,)))
        x = rows[-1].name
    return rows


def _lite(variant, width):
    rows, (*finer, coarsest) = encoder_layers(variant)
    deepest, *others = (round(channels * width) for channels in DECODER_CHANNELS)
    rows.append(Layer("lateral_32", "convolution", (coarsest,), deepest, relu=True))
    x = rows[-1].name
    for stride, feature, channels in zip((16, 8, 4), finer[:0:-1], others, strict=True):
        up, side, joined, out = (f"{kind}_{stride}" for kind in ("up", "lateral", "join", "decode"))
        rows += [
            Layer(up, "bilinear", (x,)),
            Layer(side, "convolution", (feature,), channels),
            Layer(joined, "concatenate", (side, up)),
            Layer(out, "convolution", (joined,), channels, 3, relu=True),
            Layer(f"{out}_bn", "batch_norm", (out,)),
        ]
        x = rows[-1].name
    rows.append(Layer("decode_last", "convolution", (x,), others[-1], 3, relu=True))
    rows.append(Layer(TABLE_1[-1].name, "convolution", ("decode_last",), BINS))
    return rows


# An inverted bottleneck of MobileNetV2: Sandler et al. 2018, arXiv 1801.04381.
def _block(name, x, channels, wide, target, kernel, stride):
    rows, source = [], x
    if wide != channels:
        rows.append(Layer(f"{name}_expand", "convolution", (x,), wide, bias=False))
        rows += _normalized(rows[-1].name)
        x = rows[-1].name
    rows.append(Layer(f"{name}_depthwise", "depthwise", (x,), wide, kernel, stride, bias=False))
    rows += _normalized(rows[-1].name)
    project = f"{name}_project"
    rows.append(Layer(project, "convolution", (rows[-1].name,), target, bias=False))
    rows += _normalized(project)[:1]
    if stride == 1 and channels == target:
        rows.append(Layer(f"{name}_add", "add", (source, rows[-1].name)))
    return rows


def _normalized(name):
    norm = Layer(f"{name}_bn", "frozen_batch_norm", (name,))
    return [norm, Layer(f"{name}_relu", "relu6", (norm.name,))]


# Channels stay multiples of 8, and rounding takes away no more than a tenth.
def _round_channels(channels):
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded
