"""Table 1 of the report as data: the layers of the network of Zhang et al. 2016, version 2.

Not here: what computes them, which is `colorlib.model` for training and `colorlib.inference`
for coloring. Nothing heavy is imported, so that coloring can start at once.
"""

from typing import NamedTuple

BINS = 313
"""Colors to choose from (`colorlib.quantizer` holds them)."""

INPUT_MULTIPLE = 8
"""Input sides have to be multiples of this: three layers halve the resolution."""

LIGHTNESS_SCALE, LIGHTNESS_OFFSET = 1 / 50, -1.0
"""What the first layer does to L in 0..100: it brings it to -1..1."""

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
