"""Colors at a low resolution -> colors that follow a photograph's edges.

Not here: where the colors come from (`colorlib.colorize`). The paper enlarges its colors smoothly,
and so they run over the edges of things. He, Sun and Tang 2013, "Guided Image Filtering"; in its
fast form, He and Sun 2015, arXiv 1505.00996.

In a small neighborhood (a, b) is taken to be a linear function of L. Slope and offset vary slowly,
so they may be fitted on a small copy, and enlarged: where L has an edge, the color gets one.
"""

import cv2
import numpy as np

RADIUS = 8
"""Half the side of a neighborhood in pixels of the network's input: two of its answers' pixels."""

FLATNESS = 50.0
"""Variance of L below which a neighborhood counts as flat, and gets one color: 7 of 100 squared."""


def fit(lightness, ab):
    """Fit (a, b) as a linear function of L around each pixel.

    Parameters
    ----------
    lightness : ndarray of float32, shape (height, width)
        L in 0..100, of a small copy of the photograph.
    ab : ndarray of float32, shape (h, w, 2)
        (a, b) at any resolution.

    Returns
    -------
    ndarray of float32, shape (height, width, 4)
        Slopes of a and b, in units of (a, b) per unit of L, then their offsets.
    """
    ab = cv2.resize(ab, lightness.shape[::-1], interpolation=cv2.INTER_CUBIC)
    mean_l, mean_ab = _mean(lightness)[..., None], _mean(ab)
    variance = _mean(lightness * lightness)[..., None] - mean_l**2
    covariance = _mean(lightness[..., None] * ab) - mean_l * mean_ab
    slopes = covariance / (np.maximum(variance, 0) + np.float32(FLATNESS))
    return _mean(np.concatenate([slopes, mean_ab - slopes * mean_l], axis=-1))


def apply(lightness, fitted):
    """Give each pixel the (a, b) that belong to its L.

    Parameters
    ----------
    lightness : ndarray of float32, shape (height, width)
        L in 0..100.
    fitted : ndarray of float32, shape (height, width, 4)
        From `fit`, enlarged.

    Returns
    -------
    ndarray of float32, shape (height, width, 2)
        (a, b).
    """
    slope_a, slope_b, a, b = cv2.split(fitted)  # NumPy is slow along axes as short as this
    return cv2.merge([slope_a * lightness + a, slope_b * lightness + b])


def _mean(image):
    side = 2 * RADIUS + 1
    return cv2.blur(image, (side, side), borderType=cv2.BORDER_REPLICATE)
