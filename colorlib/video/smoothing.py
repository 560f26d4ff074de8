"""The colors of frames that follow one another -> the same without flicker.

Not here: how a frame's colors are predicted (`colorlib.colorize`) and film files
(`colorlib.video.io`, `colorlib.video.pipeline`). Neither the paper nor the report colors films: the
network sees each frame alone, and what it is unsure of changes with the grain.

The colors of a frame are mixed with those of the frames before it, an exponential mean on the
network's small grid. Where something moved the new colors count more, and a cut begins anew.
"""

import dataclasses
import itertools

import cv2
import numpy as np

SMOOTHING = 0.85
"""Share of a still place's color that comes from the frames before."""

STILL, MOVED = 1.5, 6.0
"""Changes of L on the small grid: up to the first all is grain, from the second all is new."""

CUT = 10.0
"""Mean change of L on the small grid, over all of the frame, that is another scene."""


@dataclasses.dataclass(frozen=True)
class TemporalSmoothing:
    """What a frame leaves to the one behind it.

    Attributes
    ----------
    ab : ndarray of float32, shape (h, w, 2)
        The frame's (a, b), without flicker.
    lightness : ndarray of float32, shape (h, w)
        The L, 0..100, that these colors belong to: a mean over the same frames.
    """

    ab: np.ndarray
    lightness: np.ndarray


def smooth(before, ab, lightness, smoothing=SMOOTHING):
    """Take the flicker out of a frame's colors.

    Parameters
    ----------
    before : Steady or None
        Of the frame before; None for the first one.
    ab : ndarray of float32, shape (h, w, 2)
        Predicted (a, b).
    lightness : ndarray of float32, shape (h, w)
        L in 0..100, from `on_grid`.
    smoothing : float
        0..1, the share of a still place's color that comes from `before`: 0 leaves `ab` as it is,
        1 keeps a color until something moves.

    Returns
    -------
    Steady
        That of this frame.
    """
    new = TemporalSmoothing(ab, lightness)
    if before is None or not smoothing or before.lightness.shape != lightness.shape:
        return new
    change = _change(before.lightness, lightness)
    if change.mean() > CUT:
        return new
    moved = np.clip((change - STILL) / (MOVED - STILL), 0, 1)
    share = 1 - np.float32(smoothing) * (1 - moved)
    return TemporalSmoothing(
        before.ab + share[..., None] * (ab - before.ab),
        before.lightness + share * (lightness - before.lightness),
    )


def on_grid(lightness, ab):
    """Bring L to the resolution of the predicted colors.

    Parameters
    ----------
    lightness : ndarray of float32, shape (height, width)
        L in 0..100.
    ab : ndarray, shape (h, w, 2)
        Only its shape counts.

    Returns
    -------
    ndarray of float32, shape (h, w)
        Means over areas.
    """
    height, width = ab.shape[:2]
    return cv2.resize(lightness, (width, height), interpolation=cv2.INTER_AREA)


def flicker(abs_in_time, still=None):
    """Measure how much colors change from frame to frame.

    Parameters
    ----------
    abs_in_time : sequence of ndarray, each of shape (h, w, 2)
        (a, b) of frames that follow one another.
    still : ndarray of bool, shape (h, w), optional
        Where nothing moves; all of the frame if left out.

    Returns
    -------
    float
        Mean distance in the ab plane between a place's colors in two frames, units of Lab.
    """
    chosen = slice(None) if still is None else still
    steps = itertools.pairwise(abs_in_time)
    return float(np.mean([np.linalg.norm((b - a)[chosen], axis=-1).mean() for a, b in steps]))


# An old film's brightness flickers as a whole, which is no movement: the median is taken off.
def _change(before, lightness):
    difference = lightness - before
    return np.abs(difference - np.median(difference))
