"""Degrade lightness at random, to that of an old, blurred, noisy or compressed photograph.

Not here: crops and mirroring, which change colors and lightness alike (`colorlib.generator`).

A network that has seen nothing but small JPEGs reads the traces of the compression, and fails on
photographs that have none. So a training crop's lightness gets the damage that a photograph may
have; the colors to predict stay those of the original.
"""

import cv2
import numpy as np

from colorlib import colorspace

GAMMA = (0.6, 1.6)
"""Least and greatest exponent of the tone curve."""

FADED = (15.0, 15.0)
"""Maximum rise of black and fall of white, in L: old prints have neither."""

BLUR = (0.4, 1.5)
"""Least and greatest standard deviation of the Gaussian, in pixels."""

SHRINK = (1.0, 2.5)
"""Least and greatest factor by which an image is shrunk before it is enlarged again."""

GRAIN = (0.5, 5.0)
"""Least and greatest standard deviation of the noise, in L."""

GRAIN_SIZE = (0.0, 1.0)
"""Least and greatest standard deviation, in pixels, of the Gaussian that makes noise coarse."""

QUALITY = (30, 95)
"""Least and greatest quality of the JPEG."""


def degrade(lightness, share, rng):
    """Degrade some images of a batch, each with random parameters.

    Parameters
    ----------
    lightness : ndarray of float32, shape (n, height, width, 1)
        L in 0..100; changed in place.
    share : float
        Probability of each kind of degradation for each image; the kinds are independent.
    rng : numpy.random.Generator
    """
    for image in lightness[..., 0]:
        for kind, chosen in zip(KINDS, rng.random(len(KINDS)) < share, strict=True):
            if chosen:
                image[:] = np.clip(kind(image, rng), 0, colorspace.L_MAX)


def change_tone(lightness, rng):
    """Apply a tone curve.

    Parameters
    ----------
    lightness : ndarray of float32, shape (height, width)
        L in 0..100.
    rng : numpy.random.Generator

    Returns
    -------
    ndarray of float32, shape (height, width)
    """
    gamma = np.exp(rng.uniform(*np.log(GAMMA)))
    return colorspace.L_MAX * (lightness / colorspace.L_MAX) ** np.float32(gamma)


def fade(lightness, rng):
    """Raise black and lower white; parameters as of `change_tone`."""
    black, white = rng.uniform(0, FADED)
    share = 1 - (black + white) / colorspace.L_MAX
    return np.float32(black) + lightness * np.float32(share)


def blur(lightness, rng):
    """Blur with a Gaussian; parameters as of `change_tone`."""
    return cv2.GaussianBlur(lightness, (0, 0), rng.uniform(*BLUR))


def lose_resolution(lightness, rng):
    """Shrink and enlarge again; parameters as of `change_tone`."""
    height, width = lightness.shape
    factor = rng.uniform(*SHRINK)
    smaller = max(1, round(width / factor)), max(1, round(height / factor))
    small = cv2.resize(lightness, smaller, interpolation=cv2.INTER_AREA)
    interpolation = cv2.INTER_CUBIC if rng.random() < 0.5 else cv2.INTER_LINEAR
    return cv2.resize(small, (width, height), interpolation=interpolation)


def add_grain(lightness, rng):
    """Add noise, fine or coarse; parameters as of `change_tone`."""
    noise = rng.standard_normal(lightness.shape, np.float32)
    size = rng.uniform(*GRAIN_SIZE)
    if size > 0.3:  # a narrower Gaussian changes nothing
        noise = cv2.GaussianBlur(noise, (0, 0), size)
        noise /= noise.std()
    return lightness + np.float32(rng.uniform(*GRAIN)) * noise


def compress_randomly(lightness, rng):
    """Compress as a JPEG of a random quality; parameters as of `change_tone`."""
    return compress(lightness, int(rng.integers(*QUALITY, endpoint=True)))


def compress(lightness, quality):
    """Compress lightness as the luma of a JPEG, and read it again.

    Parameters
    ----------
    lightness : ndarray of float32, shape (height, width)
        L in 0..100.
    quality : int
        Quality of the JPEG, 1..100.

    Returns
    -------
    ndarray of float32, shape (height, width)
        L in 0..100.
    """
    scale = np.float32(255 / colorspace.L_MAX)
    coded = np.rint(lightness * scale).clip(0, 255).astype(np.uint8)
    _, data = cv2.imencode(".jpg", coded, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return cv2.imdecode(data, cv2.IMREAD_GRAYSCALE) / scale


KINDS = (change_tone, fade, blur, lose_resolution, add_grain, compress_randomly)
"""The kinds of degradation, in the order in which they happen to a photograph."""
