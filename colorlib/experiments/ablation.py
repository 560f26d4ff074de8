"""The settings of the report's published code, together and one at a time.

Not here: the experiment that records it (`benchmarks/ablation.py`), and its result (notebook 08).
Figures 5 and 7 of the report show erratic validation curves, which it could not explain.

Crops and images have Model-64's sizes, since a batch of one image gives BatchNorm only as many
values as a layer has positions. The rest is small, so that a training takes a minute. Widths scale
the rate: with Adam a step of the same rate moves a layer's output in proportion to the number of
its inputs, so a network of a sixteenth of the channels gets about sixteen times the rate (Yang et
al. 2022, arXiv 2203.03466).
"""

import dataclasses

import cv2
import keras
import numpy as np

from colorlib import callbacks, colorspace, config, generator, quantizer, table, training
from colorlib.experiments import l2_search

PAPERS_L2 = 1e-3
"""Zhang et al. 2016 in Caffe's units: (PAPERS_L2 / 2) |w|^2 beside a loss summed over pixels."""

SIZE, CROP = 64, 56
"""Sides in pixels of the images and of the training crops."""

POINT = 600
"""Training images between two points of a validation curve."""

STILL_POINT, STILL_POINTS = 100, 10
"""The same while no weight moves, and how many points of that kind there are."""


@dataclasses.dataclass(frozen=True)
class Recipe:
    """A way to train and to validate.

    Attributes
    ----------
    settings : colorlib.config.TrainConfig
        An epoch is a point of the validation curve, `POINT` images.
    wrapped : bool
        The network sees `raw_lightness` of L instead of L brought to -1..1.
    bilinear : bool
        Targets are `bilinear_codes`, instead of means over 4x4 pixels.
    validation : {"center", "whole", "random"}
        Validate on crops of the training's size, on whole images, or on crops that are drawn anew
        for each point, as the report's text says.
    """

    settings: config.TrainConfig
    wrapped: bool = False
    bilinear: bool = False
    validation: str = "center"

    def replace(self, **changes):
        """Return a copy with some fields, or some of its settings', changed."""
        own = {key: changes.pop(key) for key in list(changes) if key in vars(self)}
        return dataclasses.replace(self, settings=self.settings.replace(**changes), **own)


SOUND = Recipe(
    config.TrainConfig(
        image_size=SIZE,
        crop=CROP,
        width=1 / 16,
        epochs=16,
        batch_size=8,
        learning_rate=1.6e-3,
        l2=PAPERS_L2 / (2 * (CROP // table.STRIDE) ** 2),
        start_from_prior=True,
        batch_norm_momentum=0.95,
    )
)
"""A small recipe without a known fault: Adam at a constant rate."""

PUBLISHED = SOUND.replace(
    batch_size=1,
    batch_norm_momentum=0.99,
    wrapped=True,
    validation="whole",
    network="published",
    bilinear=True,
    decay=1e-3,
    l2=1e-4,
)
"""What the published code does otherwise. Both start from the prior, which saves the long time in
which a network learns how frequent the colors are."""

UNDONE = {
    "batch size 8": dict(batch_size=8),
    "momentum 0.999": dict(batch_norm_momentum=0.999),
    "L neither wrapped nor raw": dict(wrapped=False),
    "validation cropped": dict(validation="center"),
    "BatchNorm in block 8": dict(network="table_1"),
    "targets averaged": dict(bilinear=False),
    "rate kept": dict(decay=0.0),
    "the paper's L2": dict(l2=SOUND.settings.l2),
}
"""Changes that are taken back from `PUBLISHED`, one at a time."""

ALONE = {
    "batch size 1": dict(batch_size=1),
    "momentum 0.99": dict(batch_norm_momentum=0.99),
    "validation on random crops": dict(validation="random"),
}
"""Changes that are made to `SOUND`, one at a time."""

RECIPES = {
    "sound": SOUND,
    "published": PUBLISHED,
    **{f"undone: {name}": PUBLISHED.replace(**changes) for name, changes in UNDONE.items()},
    **{f"alone: {name}": SOUND.replace(**changes) for name, changes in ALONE.items()},
    "longer: published": PUBLISHED.replace(epochs=2 * SOUND.settings.epochs),
}


class Photographs(generator.ColorBatches):
    """Batches as a recipe makes them; an epoch has a given number of images.

    Parameters
    ----------
    rgb : ndarray of uint8, shape (n, size, size, 3)
        sRGB.
    recipe : Recipe
    crop : int
        Side in pixels.
    batch_size : int
    train : bool
        Whether crops and order are random.
    count : int
        Images in an epoch.
    """

    def __init__(self, rgb, recipe, crop, batch_size, train, count):
        super().__init__(rgb, batch_size, crop, train, seed=recipe.settings.seed, workers=0)
        self.recipe, self.steps = recipe, -(-count // batch_size)

    def __len__(self):
        return self.steps

    def batch(self, epoch, index):
        """Return lightness and codes of a batch, as `generator.ColorBatches.batch` does."""
        rgb = self.photographs(*divmod(epoch * self.steps + index, self.batches))
        lightness, codes = generator.encode(rgb)
        if self.recipe.wrapped:
            lightness = raw_lightness(lightness)
        return lightness, bilinear_codes(rgb) if self.recipe.bilinear else codes


def train(recipe, images, validation, point=POINT, progress=()):
    """Train by a recipe and record the validation loss; then go on with a rate of zero.

    In the second part no weight moves, and only BatchNorm's running statistics follow the batches.

    Parameters
    ----------
    recipe : Recipe
    images, validation : ndarray of uint8, shape (n, size, size, 3)
        sRGB: to train on, and to measure on.
    point : int
        Images between two measurements.
    progress : sequence of keras.callbacks.Callback
        Called with the first part.

    Returns
    -------
    dict
        Lists with a number for each point, in nats per pixel without the L2 penalty: ``loss``,
        the mean of the training since the last point; ``validation``; and ``still_loss`` and
        ``still``, the same two while no weight moves. And two numbers, the losses of the training
        images' frequencies of colors: ``training_prior`` on these images and ``prior`` in
        validation.

    Raises
    ------
    colorlib.callbacks.DivergedError
        If a loss is no finite number any more.
    KeyboardInterrupt
        After the batch during which Ctrl-C was pressed.
    """
    settings, still = recipe.settings, min(STILL_POINT, point)
    with callbacks.Interrupt() as interrupt:
        training.make_deterministic(settings.seed)
        crop, size = settings.crop, validation.shape[1]
        seen = Photographs(images, recipe, crop, settings.batch_size, True, point)
        random, side = recipe.validation == "random", size if recipe.validation == "whole" else crop
        measured = Photographs(validation, recipe, side, 250, random, len(validation))
        colors = Photographs(images, recipe, crop, 500, False, len(images))
        prior = quantizer.prior(_histogram(colors))
        network = training.new_network(settings, len(seen), prior)
        rules = [interrupt, callbacks.StopWhenDiverged("the ablation")]
        losses, curve = fit(network, seen, measured, settings.epochs, [*rules, *progress])
        network.optimizer.learning_rate = 0.0
        seen.steps = -(-still // settings.batch_size)
        seen_still, standing = fit(network, seen, measured, STILL_POINTS, rules)
    return {
        "loss": losses,
        "validation": curve,
        "still_loss": seen_still,
        "still": standing,
        "training_prior": _cross_entropy_of(prior, colors),
        "prior": _cross_entropy_of(prior, measured),
    }


def wrap_lightness(lightness):
    """Do what ``lab[..., 0] - 128`` does to OpenCV's 8-bit L: below 128 it wraps to the top.

    Parameters
    ----------
    lightness : ndarray of float, any shape
        L in 0..100.

    Returns
    -------
    ndarray of float32, same shape
        In 0..100: a sawtooth of L that falls from 100 to 0 at L = 50.
    """
    eight_bits = np.round(np.asarray(lightness) * 255 / 100).astype(np.uint8)
    return (eight_bits - np.uint8(128)).astype(np.float32) * np.float32(100 / 255)


def raw_lightness(lightness):
    """Make the input of the published code: 8-bit L minus 128 in bytes, and no scaling.

    Parameters
    ----------
    lightness : ndarray of float, any shape
        L in 0..100.

    Returns
    -------
    ndarray of float32, same shape
        The network's first layer, made for L in 0..100, scales it to 0..255.
    """
    eight_bits = wrap_lightness(lightness) * np.float32(255 / 100)
    return (eight_bits - table.LIGHTNESS_OFFSET) / np.float32(table.LIGHTNESS_SCALE)


def bilinear_codes(rgb):
    """Make targets as the published code does: 8-bit Lab, resized to a quarter bilinearly.

    At a quarter of the size OpenCV's bilinear interpolation sees only the middle 2x2 of each 4x4
    pixels.

    Parameters
    ----------
    rgb : ndarray of uint8, shape (n, size, size, 3)
        sRGB; the size is a multiple of 4.

    Returns
    -------
    ndarray of int32, shape (n, size / 4, size / 4)
        ab codes.
    """
    count, size = rgb.shape[:2]
    ab = colorspace.rgb_to_lab8(rgb.reshape(1, -1, 3)).reshape(count, size, size, 3)[..., 1:]
    quarter = (size // table.STRIDE,) * 2
    small = np.stack([cv2.resize(one, quarter, interpolation=cv2.INTER_LINEAR) for one in ab])
    return quantizer.ab_codes(small[..., 0], small[..., 1])


def roughness(curve):
    """Return how far, on average, a point of a curve lies from the middle of its two neighbors.

    Parameters
    ----------
    curve : array-like of float, shape (n,)
        A value for each epoch, n at least 3.

    Returns
    -------
    float
        The mean of |v[k] - (v[k-1] + v[k+1]) / 2|, in the curve's unit: 0 for a straight line
        however steep, and the whole height of the teeth for a sawtooth that goes up and down.

    Raises
    ------
    ValueError
        If there are fewer than 3 points.
    """
    values = np.asarray(curve, dtype=float)
    if values.ndim != 1 or len(values) < 3:
        raise ValueError(f"a curve of at least 3 points is needed, not {values.shape}")
    return float(np.abs(values[1:-1] - (values[:-2] + values[2:]) / 2).mean())


class CrossEntropy(keras.callbacks.Callback):
    """Collect the losses without the L2 penalty, in `training` and `validation`.

    The penalty of an epoch is that at its end.
    """

    def __init__(self):
        super().__init__()
        self.training, self.validation = [], []

    def on_epoch_end(self, epoch, logs=None):
        """Add a point to each."""
        self.training.append(l2_search.cross_entropy(self.model, logs["loss"]))
        self.validation.append(l2_search.cross_entropy(self.model, logs["val_loss"]))


def fit(network, seen, measured, epochs, rules):
    """Train, and return the losses of each epoch, in training and validation, without the penalty.

    Parameters
    ----------
    network : keras.Model
        Compiled.
    seen, measured : Photographs
        To train on, and to measure on.
    epochs : int
    rules : sequence of keras.callbacks.Callback

    Returns
    -------
    training, validation : list of float
        In the loss's own unit.
    """
    without_penalty = CrossEntropy()
    network.fit(
        seen,
        validation_data=measured,
        epochs=epochs,
        callbacks=[*map(callbacks.SetEpoch, (seen, measured)), *rules, without_penalty],
        shuffle=False,  # Keras would shuffle with a global random state
        verbose=0,
    )
    return without_penalty.training, without_penalty.validation


def _histogram(batches):
    codes = np.concatenate([batches[index][1].ravel() for index in range(len(batches))])
    return np.bincount(codes, minlength=quantizer.CODES)


def _cross_entropy_of(prior, batches):
    bins, weights = quantizer.soft_encoding()
    code_losses = -(weights * np.log(np.maximum(prior, quantizer.PRIOR_FLOOR))[bins]).sum(axis=-1)
    return float(np.average(code_losses, weights=_histogram(batches)))
