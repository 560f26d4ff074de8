"""The configuration of a training: frozen dataclasses, named presets and paths.

Not here: anything that acts on a configuration (`colorlib.training`) or reads data.
The report's values are those of its chapters 4 and 5.
"""

import dataclasses
import os
from pathlib import Path

import platformdirs

PACKAGE = Path(__file__).resolve().parent

ROOT = PACKAGE.parent
"""The repository, if this is a clone of it."""

INSTALLED = (PACKAGE / "recorded").is_dir()
"""Whether this is an installed package, with the runs that color by default, and no clone."""

RECORDED = PACKAGE / "recorded" if INSTALLED else ROOT / "data" / "runs"
"""The runs that come with the package; read-only unless it is the same folder as `RUNS`."""

HOME = (
    ROOT
    if not INSTALLED and os.access(ROOT, os.W_OK)
    else platformdirs.user_data_path("colorlib", appauthor=False)
)
"""The folder for a user's own files: in the clone, or the user's data folder if that fails."""

DATA = HOME / "data"

RUNS = DATA / "runs"
"""The folder of a user's own runs; in a writable clone it holds the recorded runs as well."""

FIGURES = Path(os.environ.get("COLORLIB_FIGURES") or HOME / "build" / "figures").absolute()
"""The folder for the notebooks' figures; only ``make figures`` writes to ``figures/``."""

DEFAULT_RUN = "transfer"
"""The recorded run that colors photographs by default."""

HINTS_RUN = "hints"
"""The recorded run that colors photographs by a user's hints."""

SCALES = ("smoke", "full")

WIDTHS = (1 / 64, 2)
"""Least and greatest factor on the channel counts: one channel, and twice the paper's."""


def scale():
    """Return how large the notebooks' live computations are.

    Returns
    -------
    str
        ``"smoke"`` (the default: seconds to minutes on two cores) or ``"full"`` (what the
        report did), from the environment variable ``COLORLIB_SCALE``.

    Raises
    ------
    ValueError
        If the variable holds anything else.
    """
    value = os.environ.get("COLORLIB_SCALE", "smoke")
    if value not in SCALES:
        raise ValueError(f"COLORLIB_SCALE is {value!r}: set it to one of {', '.join(SCALES)}")
    return value


def check_width(width):
    """Check a factor on the channel counts.

    Parameters
    ----------
    width : float

    Raises
    ------
    ValueError
        If it is not within `WIDTHS`.
    """
    least, greatest = WIDTHS
    if not least <= width <= greatest:
        raise ValueError(f"a width of {width} has to be in 1/{1 / least:.0f}..{greatest}")


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """All settings of a training, except the photographs.

    Attributes
    ----------
    image_size, crop : int
        Side in pixels of the stored images and of the random crops the network sees.
    network : str
        Table 1 of the report, another network of the paper's authors, or a decoder on a
        classifier's encoder: one of `table.NETWORKS`, described in `table.layers`.
    width : float
        Factor on every channel count but the last; of a decoder on an encoder, on the decoder's.
    epochs, batch_size : int
        Passes over the training images, and images per step.
    optimizer : {"adam", "adamw"}
        AdamW subtracts ``weight_decay`` times the weights, independently of the gradient.
    learning_rate : float
        The highest rate of the schedule.
    decay : float
        How fast Adam's rate falls, as in old Keras: rate / (1 + decay * iterations).
    plateau_patience : int
        Epochs without a better validation loss after which the rate is multiplied by
        ``plateau_factor``; 0 is off.
    schedule : {"constant", "cosine"}
        ``"cosine"`` warms up linearly over ``warmup`` of all steps, then falls to zero.
    l2 : float
        Factor of the sum of squares of every kernel, added to the *averaged* loss.
    initializer : str
        A Keras initializer for the kernels: ``"he_normal"``, ``"glorot_normal"``, ...
    start_from_prior : bool
        Begin with the colors' frequencies as every pixel's prediction (`model.start_from_prior`).
    pretrained : bool
        Begin with the classifier's own weights in its encoder (`pretrained.load_encoder`).
    start_from : str
        The name or folder of a recorded run (`runs.find`) whose weights the training begins with.
        This network may be wider, or take hints (`model.start_from`). If it is empty, the training
        begins with random weights.
    interpolation : float
        Weight, above 0 and at most 1, of the trained weights in the recorded ones; the rest is that
        of the weights of ``start_from`` (`model.interpolate`, WiSE-FT). 1 is off.
    ema : float
        Momentum of an exponential average of the weights over the steps; the average is what is
        validated and recorded. 0 is off.
    batch_norm_momentum : float
        How slowly BatchNorm's running statistics follow the batches.
    rebalance : float or None
        Lambda of the class rebalancing of Zhang et al. 2016, section 2.2; None is off.
    flip : bool
        Mirror half of the training crops.
    crop_scale : float or None
        Smallest share of the image's area that a training crop covers before it is resized to
        ``crop`` (random resized crops); None cuts crops at the images' own resolution.
    degrade : float
        Probability of each kind of degradation of a training crop's lightness
        (`augmentation.degrade`): tone, fading, blur, lost resolution, grain, JPEG. 0 is off.
    encoder_rate : float
        Factor on the learning rate of a classifier's encoder; 0 keeps its weights as they are.
    precision : str
        A Keras dtype policy: with ``"float64"`` (not on JAX), the last digits, in which
        processors differ, do not grow into colors that differ.
    seed : int
        Decides initial weights, order, crops and flips.

    Raises
    ------
    ValueError
        If the width is not within `WIDTHS`.
    """

    image_size: int = 64
    crop: int = 56
    network: str = "table_1"
    width: float = 1.0
    epochs: int = 300
    batch_size: int = 128
    optimizer: str = "adam"
    learning_rate: float = 1e-4
    beta_1: float = 0.9
    beta_2: float = 0.99
    weight_decay: float = 0.0
    decay: float = 0.0
    plateau_patience: int = 0
    plateau_factor: float = 0.2
    schedule: str = "constant"
    warmup: float = 0.0
    l2: float = 0.0
    initializer: str = "he_normal"
    start_from_prior: bool = False
    pretrained: bool = True
    start_from: str = ""
    interpolation: float = 1.0
    ema: float = 0.0
    batch_norm_momentum: float = 0.99
    rebalance: float | None = None
    flip: bool = False
    crop_scale: float | None = None
    degrade: float = 0.0
    encoder_rate: float = 1.0
    precision: str = "float32"
    seed: int = 0

    def __post_init__(self):
        check_width(self.width)

    def replace(self, **changes):
        """Return a copy with some fields changed."""
        return dataclasses.replace(self, **changes)

    def to_dict(self):
        """Return the fields as a plain dict, ready for JSON."""
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True)
class DecodeConfig:
    """How a network's output is decoded to colors; it can be changed after the training.

    Attributes
    ----------
    working_size : int
        Side in pixels to which a photograph's shorter side is resized for the network.
    temperature : float
        T of the annealed mean (Zhang et al. 2016, section 2.3): 1 is the mean, 0 the mode.
    vividness : float
        Rebalancing strength, how much rare colors are favored: 0 as the network was trained, 1
        as if it had been trained with class rebalancing (`quantizer.rebalance`).
    saturation : float
        Factor on the colors' distance from grey: 0 leaves a grey photograph.
    follow_edges : bool
        Whether colors change where the photograph's lightness does (guided filter), or smoothly.
    jpeg_quality : int
        Quality, 1..100, of a JPEG that the network's copy of the lightness goes through first; a
        network that learned from small JPEGs takes clean edges for colors. 0 is off.
    """

    working_size: int = 64
    temperature: float = 0.38
    vividness: float = 0.0
    saturation: float = 1.0
    follow_edges: bool = False
    jpeg_quality: int = 0

    def replace(self, **changes):
        """Return a copy with some fields changed; None leaves a field as it is."""
        given = {name: value for name, value in changes.items() if value is not None}
        return dataclasses.replace(self, **given)

    def to_dict(self):
        """Return the fields as a plain dict, ready for JSON."""
        return dataclasses.asdict(self)


REPORT_64 = TrainConfig(network="published", batch_size=1, decay=1e-3, plateau_patience=10, l2=1e-4)
"""Model-64 as the report trained it: its text, and where that is silent its published code.

The text gives neither the batch size (1 in the code) nor BatchNorm's momentum (Keras' 0.99). Its
Table 1 has a BatchNorm after conv8_3; the code has none in block 8. The text crops validation
images at random; the code does not crop them, and we take their centers. Not in a preset: the code
wraps L in bytes, does not scale it, and resizes the targets bilinearly (`experiments.ablation`).
"""

REPORT_256 = REPORT_64.replace(image_size=256, crop=176, epochs=90)
"""Model-256 as the report trained it, like `REPORT_64`. The code says 300 epochs, the text 90."""

MODEL_64_QUARTER = TrainConfig(
    width=0.25,
    epochs=15,
    batch_size=64,
    optimizer="adamw",
    learning_rate=1e-3,
    weight_decay=1e-2,
    schedule="cosine",
    warmup=0.05,
    start_from_prior=True,
    flip=True,
    precision="mixed_bfloat16",
)
"""Model-64 at a quarter of its width: notebook 05 measures each change from REPORT_64."""

MODEL_64 = MODEL_64_QUARTER.replace(
    width=0.5,
    epochs=7,
    learning_rate=5e-4,
    start_from_prior=False,
    start_from="model-64-quarter",
)
"""Model-64 as we train it on two cores: half the width, started from the quarter."""

MODEL_64_DEGRADED = MODEL_64.replace(
    epochs=10,
    batch_size=256,
    learning_rate=1e-3,
    degrade=0.2,
    ema=0.999,
    start_from="local-model-64-degraded",
)
"""Model-64 trained on degraded lightness, so that it does not react to a JPEG's traces.

This training was done twice in a row on a GPU; the first one started from ``model-64``.
"""

MODEL_256 = MODEL_64.replace(
    image_size=256,
    crop=176,
    epochs=10,
    batch_size=16,
    start_from="model-64",
    interpolation=0.5,
    batch_norm_momentum=0.9,
    crop_scale=0.2,
)
"""Model-64 fine-tuned on a few photographs: crops of random size, then weight interpolation.

``interpolation`` was chosen with ``benchmarks/interpolation.py``. An epoch has 36 steps only, so
BatchNorm's momentum is low."""

MODEL_256_DEGRADED = MODEL_256.replace(
    image_size=224,
    epochs=4,
    batch_size=128,
    learning_rate=1e-3,
    degrade=0.2,
    ema=0.99,
    batch_norm_momentum=0.95,
    start_from="model-64-degraded",
    interpolation=1.0,
)
"""`MODEL_64_DEGRADED`, trained further on many photographs; a GPU took two minutes for this."""

MODEL_64_FULL_WIDTH = MODEL_64_QUARTER.replace(width=1.0, epochs=10, batch_size=256)
"""Model-64 at the paper's width, from random weights; a GPU took a minute and a half for this."""

TRANSFER_DECODER = TrainConfig(
    image_size=128,
    crop=128,
    network="lite0",
    epochs=2,
    batch_size=16,
    optimizer="adamw",
    learning_rate=1e-3,
    weight_decay=1e-2,
    schedule="cosine",
    warmup=0.05,
    start_from_prior=True,
    batch_norm_momentum=0.95,
    flip=True,
    crop_scale=0.35,
    degrade=0.2,
    encoder_rate=0.0,
    precision="mixed_bfloat16",
)
"""A decoder that is trained on the frozen features of a classifier."""

TRANSFER_128 = TRANSFER_DECODER.replace(
    learning_rate=5e-4,
    start_from_prior=False,
    start_from="local-transfer-decoder",
    encoder_rate=0.2,
)
"""The network of `TRANSFER_DECODER`; all layers are trained further."""

TRANSFER_160 = TRANSFER_128.replace(
    image_size=192,
    crop=160,
    epochs=1,
    crop_scale=0.3,
    start_from="local-transfer-128",
)
"""`TRANSFER_128`, trained further on larger crops of more and larger photographs."""

TRANSFER_AVERAGED = TRANSFER_160.replace(
    epochs=2,
    learning_rate=4e-4,
    ema=0.999,
    start_from="local-transfer-160",
)
"""`TRANSFER_160`, trained further; the weights are an exponential moving average."""

TRANSFER = TRANSFER_AVERAGED.replace(
    crop=192,
    epochs=11,
    batch_size=64,
    learning_rate=1e-3,
    seed=2,
    start_from="local-transfer-averaged",
    interpolation=0.8,
)
"""`TRANSFER_AVERAGED`, trained further on more photographs; a GPU took four minutes for this."""

TRANSFER_FURTHER = TRANSFER_AVERAGED.replace(
    epochs=1,
    learning_rate=2e-4,
    seed=3,
    start_from="transfer",
)
"""The default network, trained further on photographs that are in part new."""

HINTS = TRANSFER.replace(
    network="lite0_hints",
    epochs=8,
    start_from="transfer",
    interpolation=1.0,
    encoder_rate=1.0,
    seed=0,
)
"""The default network, trained further to take hints (`colorlib.hints`)."""

OVERFIT = TrainConfig(
    crop=64,
    epochs=300,
    batch_size=1,
    learning_rate=1e-3,
    batch_norm_momentum=0.9,
)
"""One photograph, 300 iterations: a check that the network can learn at all."""

SEARCH = TrainConfig(
    image_size=32,
    crop=32,
    width=0.125,
    epochs=10,
    batch_size=16,
    learning_rate=3e-3,
    schedule="cosine",
    warmup=0.1,
    start_from_prior=True,
    batch_norm_momentum=0.9,
)
"""A trial of the search for the L2 constant: small and short, yet long enough to overfit."""

PRESETS = {name: value for name, value in vars().items() if isinstance(value, TrainConfig)}
"""All of these, by their names."""
