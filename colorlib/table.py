"""The networks as data: Table 1 of the report, the authors' released ones, and a decoder on a
classifier's features.

Not here: what computes them, which is `colorlib.model` for training and `colorlib.inference`
for coloring. Nothing heavy is imported, so that coloring can start at once.

Table 1 is the network of Zhang et al. 2016, version 2. Its authors released version 1 of it, and
the network of Zhang et al. 2017 ("Real-Time User-Guided Image Colorization with Learned Deep
Priors", arXiv 1705.02999): https://github.com/richzhang/colorization, folder ``colorizers``. The
other networks take the encoder of a classifier, EfficientNet-Lite (Tan and Le 2019, "EfficientNet",
arXiv 1905.11946), and put a small decoder on it that joins its features of all resolutions (Lin et
al. 2017, "Feature Pyramid Networks", arXiv 1612.03144; for colors, Larsson et al. 2016, arXiv
1603.06668). Those whose names end in ``_hints`` take a user's hints as well.
"""

import math
from typing import NamedTuple

BINS = 313
"""Colors to choose from (`colorlib.quantizer` holds them)."""

INPUT_MULTIPLE = 8
"""Input sides of Table 1 have to be multiples of this: three layers halve the resolution."""

STRIDE = 4
"""Input pixels a side for each pixel of the output, in every network that is trained here."""

LIGHTNESS_SCALE, LIGHTNESS_OFFSET = 1 / 50, -1.0
"""The first layer's scaling of L from 0..100 to -1..1."""

AB_SCALE = 110.0
"""Factor on the output of the network of 2017, which is in -1..1, to give (a, b)."""

BATCH_NORM_EPSILON = 1e-3
"""Added to the variance in BatchNorm; Keras' default."""

TORCH_EPSILON = 1e-5
"""Added to the variance in BatchNorm; PyTorch's default."""

LEAKY_SLOPE = 0.2
"""Slope of a leaky ReLU below zero."""


class ConvRow(NamedTuple):
    """A row of Table 1, or of one like it.

    Attributes
    ----------
    name : str
    channels : int
        At width 1.
    stride : float
        0.5 is an upsampling by 2 before the convolution; with a kernel of 4 it is a transposed
        convolution of stride 2.
    dilation : int
    batch_norm : bool
        Whether BatchNorm follows the layer.
    kernel : int
        Side of the convolution's kernel.
    shortcut : str
        Name of an earlier row: a 3x3 convolution of its features is added before the activation.
    activation : str
        ``"relu"``, ``"leaky_relu"``, ``"tanh"`` or, for none, ``""``.
    """

    name: str
    channels: int
    stride: float = 1
    dilation: int = 1
    batch_norm: bool = False
    kernel: int = 3
    shortcut: str = ""
    activation: str = "relu"


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
    ConvRow("conv_1x1", BINS, kernel=1, activation=""),
)
"""The layers of the network, first to last; the last gives logits, so it has no ReLU."""

ZHANG_2016 = (
    *TABLE_1[:16],
    ConvRow("conv7_1", 512),
    ConvRow("conv7_2", 512),
    ConvRow("conv7_3", 512, batch_norm=True),
    ConvRow("conv8_1", 256, stride=0.5, kernel=4),
    ConvRow("conv8_2", 256),
    ConvRow("conv8_3", 256),
    TABLE_1[-1],
)
"""The released network of 2016, version 1 of the paper: wider blocks 7 and 8, block 8 without
BatchNorm."""

ZHANG_2017 = (
    *ZHANG_2016[:19],
    ConvRow("conv8_1", 256, stride=0.5, kernel=4, shortcut="conv3_3"),
    ConvRow("conv8_2", 256),
    ConvRow("conv8_3", 256, batch_norm=True),
    ConvRow("conv9_1", 128, stride=0.5, kernel=4, shortcut="conv2_2"),
    ConvRow("conv9_2", 128, batch_norm=True),
    ConvRow("conv10_1", 128, stride=0.5, kernel=4, shortcut="conv1_2"),
    ConvRow("conv10_2", 128, activation="leaky_relu"),
    ConvRow("conv_ab", 2, kernel=1, activation="tanh"),
)
"""The released network of 2017: it goes up to the full resolution and gives (a, b) themselves."""

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
"""Channels of the encoder's first convolution, in every variant."""

DECODER_CHANNELS = (192, 192, 96, 96)
"""Channels of the decoder at strides 32, 16, 8 and 4, at width 1."""

ENCODER = "encoder_"
"""Prefix of the names of the encoder's layers."""

INPUT = "lightness"
"""The name of every network's input: L in 0..100."""

HINTS = "hints"
"""The name of the second input of a network that takes hints: a, b, and 1 where they are given."""

CHANNELS = {INPUT: 1, HINTS: 3}
"""Channels of the inputs."""

SCALED_HINTS, SEEN, SIGNED_HINTS = "hints_to_unit_range", "seen", "hints_signed"
"""The layers that scale the hints, and put them beside the lightness or their negatives."""


class Family(NamedTuple):
    """A table of convolutions, and the settings that its rows do not have.

    Attributes
    ----------
    rows : tuple of ConvRow
    scale, offset : float
        Scaling of L to the network's own range.
    epsilon : float
        Added to the variance in BatchNorm.
    symmetric : bool
        Whether convolutions of stride 2 are padded alike on all sides, as PyTorch does it, or as
        TensorFlow's ``"same"``.
    hints : bool
        Whether it takes hints.
    """

    rows: tuple
    scale: float = LIGHTNESS_SCALE
    offset: float = LIGHTNESS_OFFSET
    epsilon: float = BATCH_NORM_EPSILON
    symmetric: bool = False
    hints: bool = False


_TORCH = dict(scale=1 / 100, offset=-0.5, epsilon=TORCH_EPSILON, symmetric=True)

FAMILIES = {
    "table_1": Family(TABLE_1),
    "published": Family(
        tuple(row._replace(batch_norm=row.batch_norm and row.name != "conv8_3") for row in TABLE_1)
    ),
    "zhang_2016": Family(ZHANG_2016, **_TORCH),
    "zhang_2017": Family(ZHANG_2017, **_TORCH, hints=True),
}
"""The networks that a table of convolutions describes."""

HINTED = "_hints"
"""Ends the name of a network on an encoder that takes hints."""

NETWORKS = (*FAMILIES, *LITE_SCALES, *(f"{variant}{HINTED}" for variant in LITE_SCALES))
"""The networks that a configuration can name."""


DOUBLING = ("nearest", "bilinear", "transposed")
"""Kinds of layers that double the resolution."""


class Layer(NamedTuple):
    """A layer of a network.

    Attributes
    ----------
    name : str
    kind : str
        ``"convolution"``, ``"depthwise"`` or ``"transposed"`` (with padding as TensorFlow's
        ``"same"``), ``"batch_norm"``, ``"frozen_batch_norm"`` (its statistics never change),
        ``"rescale"`` (times `scale`, plus `offset`), ``"relu"``, ``"relu6"``, ``"leaky_relu"``,
        ``"tanh"``, ``"add"``, ``"concatenate"``, ``"subsample"`` (takes every second pixel),
        ``"max_pool"`` (the largest of `stride` by `stride` pixels), ``"nearest"`` or
        ``"bilinear"`` (both double the resolution).
    inputs : tuple of str
        Names of the layers it reads, or of the network's inputs.
    channels, kernel, stride, dilation : int
        Settings of a convolution.
    bias : bool
        Whether a convolution adds one.
    relu : bool
        Whether a convolution ends with a ReLU.
    symmetric : bool
        Whether a convolution is padded alike on all sides.
    epsilon : float
        Added to the variance in BatchNorm.
    scale, offset : float
        Settings of a rescaling; `scale` may be a tuple with a number for each channel.
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
    symmetric: bool = False
    epsilon: float = BATCH_NORM_EPSILON
    scale: float | tuple = 1.0
    offset: float = 0.0


def layers(network="table_1", width=1.0):
    """List the layers of a network, in the order in which they are computed.

    Parameters
    ----------
    network : str
        One of `NETWORKS`: ``"table_1"``; ``"published"``, the same without BatchNorm in block 8,
        as in the report's published code; ``"zhang_2016"`` or ``"zhang_2017"``, which were
        released; or a decoder on an EfficientNet-Lite encoder, ``"lite0"`` or ``"lite2"``, which
        takes hints as ``"lite0_hints"`` or ``"lite2_hints"``.
    width : float
        Factor on every channel count but the last, or on the decoder's.

    Returns
    -------
    list of Layer
        The last gives 313 logits at a quarter of the input's resolution; that of ``"zhang_2017"``
        (a, b) at the full one.

    Raises
    ------
    ValueError
        If there is no such network.
    """
    if network not in NETWORKS:
        raise ValueError(f"unknown network {network!r}; use one of {', '.join(NETWORKS)}")
    return _convolutions(FAMILIES[network], width) if network in FAMILIES else _lite(network, width)


def inputs(rows):
    """Return the names of a network's inputs.

    Parameters
    ----------
    rows : list of Layer

    Returns
    -------
    list of str
        `INPUT`, and perhaps `HINTS`.
    """
    read = {name for row in rows for name in row.inputs}
    return [name for name in CHANNELS if name in read]


def takes_hints(network):
    """Tell whether a network takes a user's hints.

    Parameters
    ----------
    network : str
        As for `layers`.

    Returns
    -------
    bool
    """
    return HINTS in inputs(layers(network))


def output_channels(rows):
    """Return the number of channels of a network's output.

    Parameters
    ----------
    rows : list of Layer

    Returns
    -------
    int
        `BINS`, or 2 of a network that gives (a, b).
    """
    return next(row.channels for row in reversed(rows) if row.channels)


def strides(rows):
    """Return the resolution of each layer's output.

    Parameters
    ----------
    rows : list of Layer

    Returns
    -------
    dict of str to int
        Input pixels a side for each of its pixels, by the layer's name.
    """
    found = dict.fromkeys(CHANNELS, 1)
    for row in rows:
        stride = 2 if row.kind == "subsample" else row.stride
        before = found[row.inputs[0]]
        found[row.name] = before // 2 if row.kind in DOUBLING else before * stride
    return found


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
    return max(strides(layers(network)).values())


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


def _convolutions(family, width):
    rows, features = _entrance(family), {}
    shared = {row.shortcut for row in family.rows}
    for row in family.rows:
        channels = row.channels if row is family.rows[-1] else round(row.channels * width)
        # what a shortcut reads is computed at every pixel; the next block reads every second one
        full = row.name in shared
        rows += _convolution(row, rows[-1].name, channels, family.symmetric, full)
        if row.shortcut:
            source, branch = features[row.shortcut], f"{row.name}_shortcut"
            rows.append(Layer(branch, "convolution", (source,), channels, 3))
            rows.append(Layer(f"{row.name}_sum", "add", (row.name, branch)))
        if row.activation and not rows[-1].relu:
            rows.append(Layer(f"{row.name}_{row.activation}", row.activation, (rows[-1].name,)))
        if row.batch_norm:
            name = f"{row.name}_bn"
            rows.append(Layer(name, "batch_norm", (rows[-1].name,), epsilon=family.epsilon))
        features[row.name] = rows[-1].name
        if full and row.stride == 2:
            rows.append(Layer(f"{row.name}_half", "subsample", (rows[-1].name,)))
    if row.activation == "tanh":
        rows.append(Layer("ab", "rescale", (rows[-1].name,), scale=AB_SCALE))
    return rows


def _entrance(family):
    lightness = "to_unit_range"
    rows = [Layer(lightness, "rescale", (INPUT,), scale=family.scale, offset=family.offset)]
    if family.hints:
        scale = (1 / AB_SCALE, 1 / AB_SCALE, 1.0)
        rows.append(Layer(SCALED_HINTS, "rescale", (HINTS,), scale=scale))
        rows.append(Layer(SEEN, "concatenate", (lightness, SCALED_HINTS)))
    return rows


def _convolution(row, x, channels, symmetric, full):
    relu = row.activation == "relu" and not row.shortcut
    if (row.stride, row.kernel) == (0.5, 4):
        return [Layer(row.name, "transposed", (x,), channels, 4, 2, relu=relu)]
    rows = [Layer(f"{row.name}_upsample", "nearest", (x,))] if row.stride == 0.5 else []
    stride = 1 if full else max(1, int(row.stride))
    settings = channels, row.kernel, stride, row.dilation
    x = rows[-1].name if rows else x
    alike = symmetric and stride > 1
    return [*rows, Layer(row.name, "convolution", (x,), *settings, relu=relu, symmetric=alike)]


def _lite(network, width):
    hints = network.endswith(HINTED)
    rows = _entrance(Family((), hints=hints))
    encoder, (*finer, coarsest) = encoder_layers(network.removesuffix(HINTED), rows[-1].name)
    rows += [*encoder, *(_signed_hints() if hints else ())]
    deepest, *others = (round(channels * width) for channels in DECODER_CHANNELS)
    rows.append(Layer("lateral_32", "convolution", (coarsest,), deepest, relu=True))
    x = rows[-1].name
    for stride, feature, channels in zip((16, 8, 4), finer[:0:-1], others, strict=True):
        kinds = "up", "lateral", "join", "decode", HINTS
        up, side, joined, out, pooled = (f"{kind}_{stride}" for kind in kinds)
        rows += [
            Layer(up, "bilinear", (x,)),
            Layer(side, "convolution", (feature,), channels),
            *([Layer(pooled, "max_pool", (SIGNED_HINTS,), stride=stride)] if hints else ()),
            Layer(joined, "concatenate", (side, up, pooled) if hints else (side, up)),
            Layer(out, "convolution", (joined,), channels, 3, relu=True),
            Layer(f"{out}_bn", "batch_norm", (out,)),
        ]
        x = rows[-1].name
    rows.append(Layer("decode_last", "convolution", (x,), others[-1], 3, relu=True))
    rows.append(Layer(TABLE_1[-1].name, "convolution", ("decode_last",), BINS))
    return rows


# The hints and their negatives are pooled by the maximum: it keeps a hint that is in one pixel of a
# square only, which would nearly vanish in a mean.
def _signed_hints():
    negative = f"{HINTS}_negative"
    return [
        Layer(negative, "rescale", (SCALED_HINTS,), scale=-1.0),
        Layer(SIGNED_HINTS, "concatenate", (SCALED_HINTS, negative)),
    ]


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
