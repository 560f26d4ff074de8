"""Temporal smoothing: remove the flicker from the colors of consecutive frames.

Not here: the prediction of a frame's colors (`colorlib.colorize`) and film files
(`colorlib.video.io`). Neither the paper nor the report colors films: the network sees each frame
alone, and where it is uncertain its prediction changes with the grain.

The colors of a frame are averaged with those of the frames before it (exponential moving average)
on the network's small grid. Where something moved, the new colors get more weight; at a cut the
average is reset.
"""

import dataclasses
import itertools

import cv2
import numpy as np

SMOOTHING = 0.85
"""Weight of the previous frames where nothing moves."""

STILL, MOVED = 1.5, 6.0
"""Changes of L on the small grid: below the first it is grain, above the second it is motion."""

CUT = 10.0
"""Mean change of L over the frame, on the small grid, from which it is another scene."""


@dataclasses.dataclass(frozen=True)
class TemporalSmoothing:
    """The state of the moving average after a frame.

    Attributes
    ----------
    ab : ndarray of float32, shape (h, w, 2)
        The smoothed (a, b) of the frame.
    lightness : ndarray of float32, shape (h, w)
        L, 0..100, averaged over the same frames with the same weights.
    """

    ab: np.ndarray
    lightness: np.ndarray


def smooth(before, ab, lightness, smoothing=SMOOTHING):
    """Smooth a frame's colors with those of the frames before it.

    Parameters
    ----------
    before : TemporalSmoothing or None
        The state after the previous frame; None for the first frame.
    ab : ndarray of float32, shape (h, w, 2)
        Predicted (a, b).
    lightness : ndarray of float32, shape (h, w)
        L in 0..100, from `on_grid`.
    smoothing : float
        0..1, the weight of `before` where nothing moves: 0 returns `ab` unchanged, 1 keeps a
        color until something moves.

    Returns
    -------
    TemporalSmoothing
        The state after this frame.
    """
    new = TemporalSmoothing(ab, lightness)
    if before is None or not smoothing or before.lightness.shape != lightness.shape:
        return new
    # the brightness of an old film flickers as a whole, which is not motion: subtract the median
    change = lightness - before.lightness
    change = np.abs(change - np.median(change))
    if change.mean() > CUT:
        return new
    moved = np.clip((change - STILL) / (MOVED - STILL), 0, 1)
    share = 1 - np.float32(smoothing) * (1 - moved)
    return TemporalSmoothing(
        before.ab + share[..., None] * (ab - before.ab),
        before.lightness + share * (lightness - before.lightness),
    )


def on_grid(lightness, ab):
    """Resize L to the resolution of the predicted colors.

    Parameters
    ----------
    lightness : ndarray of float32, shape (height, width)
        L in 0..100.
    ab : ndarray, shape (h, w, 2)
        Only its shape is used.

    Returns
    -------
    ndarray of float32, shape (h, w)
        Area averages of `lightness`.
    """
    height, width = ab.shape[:2]
    return cv2.resize(lightness, (width, height), interpolation=cv2.INTER_AREA)


def flicker(abs_in_time, still=None):
    """Measure how much colors change from frame to frame.

    Parameters
    ----------
    abs_in_time : sequence of ndarray, each of shape (h, w, 2)
        (a, b) of consecutive frames.
    still : ndarray of bool, shape (h, w), optional
        Where nothing moves; by default the whole frame.

    Returns
    -------
    float
        Mean distance in the ab plane between the colors of two consecutive frames, in Lab units.
    """
    chosen = slice(None) if still is None else still
    steps = itertools.pairwise(abs_in_time)
    return float(np.mean([np.linalg.norm((b - a)[chosen], axis=-1).mean() for a, b in steps]))
