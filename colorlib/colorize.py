"""Image in -> color image out, any size.

Not here: the command line (`colorlib.__main__`) and training. Section 2.3 of Zhang et al. 2016.

The network sees a small copy of the photograph and says which (a, b) belongs where; the
photograph keeps its own lightness at its own resolution.
"""

import functools

import cv2
import numpy as np

from colorlib import colorspace, config, quantizer, runs
from colorlib.model import INPUT_MULTIPLE

MAX_ASPECT = 8
"""The longer side of what the network sees is at most this many times the shorter one."""

BAND = 2**20
"""Pixels that are brought to sRGB at once."""


class Colorizer:
    """A trained network, ready to color photographs.

    Parameters
    ----------
    network : keras.Model
        From L, shape (1, height, width, 1), to logits at a quarter of that.
    working_size : int
        Side in pixels to which a photograph's shorter side is brought for the network.
    temperature : float
        Of the annealed mean: lower is more vivid, higher more timid.

    Raises
    ------
    ValueError
        If the working size is smaller than 8.
    """

    def __init__(self, network, working_size=64, temperature=quantizer.TEMPERATURE):
        if working_size < INPUT_MULTIPLE:
            raise ValueError(f"the working size has to be at least {INPUT_MULTIPLE} pixels")
        self.network, self.working_size, self.temperature = network, working_size, temperature

    def __call__(self, rgb):
        """Color a photograph.

        Parameters
        ----------
        rgb : ndarray of uint8, shape (height, width, 3)
            sRGB, grey or not: only its L is looked at.

        Returns
        -------
        ndarray of uint8, shape (height, width, 3)
            The same L, new colors, all of which sRGB can show.
        """
        lightness = colorspace.rgb_to_lab(rgb)[..., 0]
        return apply_colors(lightness, self.predict_ab(lightness))

    def predict_ab(self, lightness):
        """Predict the colors of a photograph, at the network's output resolution.

        Parameters
        ----------
        lightness : ndarray of float32, shape (height, width)
            L in 0..100.

        Returns
        -------
        ndarray of float32, shape (h, w, 2)
            (a, b), with h and w a quarter of the working resolution.
        """
        return quantizer.annealed_mean(self.predict_logits(lightness), self.temperature)

    def predict_logits(self, lightness):
        """Predict the distribution over the bins; `predict_ab` without the decoding.

        Parameters
        ----------
        lightness : ndarray of float32, shape (height, width)
            L in 0..100.

        Returns
        -------
        ndarray of float32, shape (h, w, 313)
            Logits.
        """
        height, width = working_shape(*lightness.shape, self.working_size)
        small = _shrink(lightness, height, width)
        return np.asarray(self.network.predict_on_batch(small[None, ..., None])[0])


def working_shape(height, width, working_size):
    """Choose the shape in which the network sees a photograph.

    Parameters
    ----------
    height, width : int
        Of the photograph.
    working_size : int
        Wished for the shorter side, in pixels.

    Returns
    -------
    tuple of int
        Height and width, multiples of 8, in nearly the photograph's proportions.
    """
    scale = working_size / min(height, width)
    limit = MAX_ASPECT * working_size
    sides = (min(side * scale, limit) for side in (height, width))
    return tuple(INPUT_MULTIPLE * max(1, round(side / INPUT_MULTIPLE)) for side in sides)


def apply_colors(lightness, ab):
    """Put predicted colors on a photograph's own lightness.

    Parameters
    ----------
    lightness : ndarray of float32, shape (height, width)
        L in 0..100.
    ab : ndarray of float32, shape (h, w, 2)
        (a, b) at any resolution; brought smoothly to the photograph's.

    Returns
    -------
    ndarray of uint8, shape (height, width, 3)
        sRGB.
    """
    height, width = lightness.shape
    full = cv2.resize(ab, (width, height), interpolation=cv2.INTER_CUBIC)
    out = np.empty((height, width, 3), np.uint8)
    # a band of rows at a time, so that little memory goes into what clipping keeps in between
    rows = max(1, BAND // width)
    for top in range(0, height, rows):
        band = slice(top, top + rows)
        lab = colorspace.clip_to_gamut(np.dstack([lightness[band], full[band]]))
        out[band] = colorspace.to_uint8(colorspace.lab_to_rgb(lab))
    return out


@functools.cache
def default_colorizer():
    """Load the recorded run that ships with the course.

    Returns
    -------
    Colorizer
        Loaded once and kept.
    """
    return colorizer_for(config.DEFAULT_RUN)


def colorizer_for(run, temperature=quantizer.TEMPERATURE, working_size=None):
    """Make a colorizer of a recorded run.

    Parameters
    ----------
    run : str, path-like or colorlib.training.Run
        The run, its name in ``data/runs``, or its folder.
    temperature : float
        Of the annealed mean.
    working_size : int, optional
        The run's own by default.

    Returns
    -------
    Colorizer

    Raises
    ------
    colorlib.runs.RunError
        If there is no such run, or it is damaged.
    """
    run = run if isinstance(run, runs.Run) else runs.load_run(run)
    return Colorizer(run.model(), working_size or run.settings.working_size, temperature)


def _shrink(lightness, height, width):
    shrinks = height * width < lightness.size
    how = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    resized = cv2.resize(lightness, (width, height), interpolation=how)
    return np.clip(resized, 0, colorspace.L_MAX)
