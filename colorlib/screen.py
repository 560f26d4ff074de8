"""Colors for the screen: as `colorlib.colorize` paints them, several times as fast.

Not here: files, and what is shown (`colorlib.preview`). Colors are brought into the gamut by a
table instead of a search, which is nearly exact: good for a slider, not for a file.
"""

import functools

import cv2
import numpy as np

from colorlib import colorize, colorspace

QUALITY = 90
"""Of the JPEGs that are shown."""

LARGEST_CHROMA = 150.0
"""More than any sRGB color has."""

HUES, LEVELS = 360, 200
"""Steps of the table of the gamut, around the circle and from black to white."""


def paint(lightness, ab, follow_edges=False):
    """Do what `colorize.apply_colors` does, several times as fast and nearly as exactly.

    Off by two 8-bit levels at most on the sample photographs; at saturation 2 by a dozen, rarely.

    Parameters
    ----------
    lightness : ndarray of float32, shape (height, width)
        L in 0..100.
    ab : ndarray of float32, shape (h, w, 2)
        (a, b) at any resolution; brought to that of `lightness`.
    follow_edges : bool
        As for `colorize.apply_colors`.

    Returns
    -------
    ndarray of uint8, shape (height, width, 3)
        sRGB.
    """
    a, b = cv2.split(colorize.enlarge(lightness, ab, follow_edges))
    chroma, hue = cv2.cartToPolar(a, b)
    column, row = hue * np.float32(HUES / (2 * np.pi)), lightness * np.float32(LEVELS / 100)
    limit = cv2.remap(chroma_limits(), column, row, cv2.INTER_LINEAR)
    factor = np.minimum(limit / np.maximum(chroma, np.float32(1e-3)), 1)
    rgb = colorspace.lab_to_rgb(cv2.merge([lightness, a * factor, b * factor]))
    return cv2.convertScaleAbs(rgb, alpha=255)


@functools.cache
def chroma_limits():
    """Tabulate the largest chroma that sRGB can show.

    Returns
    -------
    ndarray of float32, shape (201, 361)
        By L in steps of 0.5 and by hue angle in steps of a degree. Read-only.
    """
    hues = np.linspace(0, 2 * np.pi, HUES + 1, dtype=np.float32)
    lab = np.empty((LEVELS + 1, HUES + 1, 3), np.float32)
    lab[..., 0] = np.linspace(0, colorspace.L_MAX, LEVELS + 1)[:, None]
    lab[..., 1], lab[..., 2] = LARGEST_CHROMA * np.cos(hues), LARGEST_CHROMA * np.sin(hues)
    clipped = colorspace.clip_to_gamut(lab)
    limits = np.hypot(clipped[..., 1], clipped[..., 2])
    limits.flags.writeable = False
    return limits


def jpeg(rgb):
    """Encode an image for the browser.

    Parameters
    ----------
    rgb : ndarray of uint8, shape (height, width, 3)
        sRGB.

    Returns
    -------
    bytes
    """
    options = [cv2.IMWRITE_JPEG_QUALITY, QUALITY]
    return cv2.imencode(".jpg", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), options)[1].tobytes()
