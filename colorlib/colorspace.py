"""Convert between sRGB and CIE Lab; each function states its ranges and dtypes.

Not here: the quantization of ab (`colorlib.quantizer`). OpenCV converts (D65, 2
degrees). The gamut is treated here, since OpenCV clips silently, which changes L.
Section 2 of Zhang et al. 2016: the network is given L and predicts (a, b).

Three representations:

========== ======= ============================= ==========================
name       dtype   L                             a, b
========== ======= ============================= ==========================
float Lab  float32 0..100                        about -86..98, -108..94
8-bit Lab  uint8   L * 255 / 100, rounded        a + 128, b + 128, rounded
sRGB       uint8 or float32, 0..255 or 0..1
========== ======= ============================= ==========================
"""

import functools

import cv2
import numpy as np

L_MAX = 100.0
AB_OFFSET = 128
"""What is added to a and b in 8-bit Lab."""

TOLERANCE = 5e-4
"""Tolerance of linear RGB outside 0..1, so that rounding excludes no 8-bit color."""

CURVE_LEVELS = 2**16
"""Levels of linear RGB at which sRGB's curve is tabulated: a twentieth of 8 bits' finest step."""

STEPS = 10
"""Halvings of the interval in which the largest chroma is sought: 10 find it to 0.1%."""

WHITE = np.array([0.950456, 1.0, 1.088754], np.float32)
"""The D65 white point in XYZ (as OpenCV has it)."""

XYZ_TO_LINEAR_RGB = np.array(
    [
        [3.240479, -1.53715, -0.498535],
        [-0.969256, 1.875991, 0.041556],
        [0.055648, -0.204043, 1.057311],
    ],
    np.float32,
)
"""ITU-R BT.709 primaries, D65."""

LAB_TO_F = np.array(
    [
        [1 / 116, 1 / 500, 0, 16 / 116],
        [1 / 116, 0, 0, 16 / 116],
        [1 / 116, 0, -1 / 200, 16 / 116],
    ],
    np.float32,
)
"""From (L, a, b, 1) to the cube roots of X, Y and Z (CIE 15, where they are not dark)."""


def rgb_to_lab(rgb):
    """Convert sRGB to float Lab.

    Parameters
    ----------
    rgb : ndarray, shape (..., 3)
        uint8 in 0..255 or floating point in 0..1.

    Returns
    -------
    ndarray of float32, shape (..., 3)
        L in 0..100, a and b about -108..98.

    Raises
    ------
    ValueError
        If the last axis does not have length 3.
    TypeError
        If the dtype is neither uint8 nor floating point.
    """
    return _convert(_unit_range(rgb), cv2.COLOR_RGB2Lab)


def lab_to_rgb(lab):
    """Convert float Lab to sRGB.

    Parameters
    ----------
    lab : ndarray of floating point, shape (..., 3)
        L in 0..100.

    Returns
    -------
    ndarray of float32, shape (..., 3)
        0..1. Colors outside of sRGB are clipped per channel, which changes their L:
        call `clip_to_gamut` first where L has to stay.
    """
    lab = np.asarray(lab)
    if not np.issubdtype(lab.dtype, np.floating):
        raise TypeError(f"float Lab expected, not {lab.dtype}; use lab8_to_rgb for 8-bit Lab")
    return np.clip(_convert(lab.astype(np.float32, copy=False), cv2.COLOR_Lab2RGB), 0, 1)


def lab_to_rgb16(lab):
    """Convert float Lab to 16-bit sRGB, by the formulas; `lab_to_rgb` is faster and coarser.

    Parameters
    ----------
    lab : ndarray of floating point, shape (..., 3)
        L in 0..100, all of it `in_gamut`; else it is clipped per channel.

    Returns
    -------
    ndarray of uint16, shape (..., 3)
        0..65535.
    """
    linear = np.clip(_linear_rgb(np.asarray(lab, np.float32)), 0, 1)
    return np.rint(_curved(linear) * 65535).astype(np.uint16)


def lab_to_rgb8(lab):
    """Convert float Lab to 8-bit sRGB; the chroma of colors outside the gamut is reduced.

    The result is that of `clip_to_gamut`, `lab_to_rgb` and `to_uint8`, except for one level in few
    pixels. It starts sooner: OpenCV first makes tables, which takes longer than a small photograph.

    Parameters
    ----------
    lab : ndarray of floating point, shape (..., 3)
        L in 0..100.

    Returns
    -------
    ndarray of uint8, shape (..., 3)
        0..255.
    """
    lab = np.asarray(lab, np.float32)
    if not lab.size:
        return np.empty(lab.shape, np.uint8)
    linear = _linear_rgb(lab)
    outside = np.flatnonzero(~_fits(linear, TOLERANCE))
    pulled_in = _pulled_in(lab.reshape(-1, 3)[outside], TOLERANCE)
    linear.reshape(-1, 3)[outside] = _linear_rgb(pulled_in)
    linear *= np.float32(CURVE_LEVELS - 1)
    linear += np.float32(0.5)
    levels = np.clip(linear, 0, CURVE_LEVELS - 1, out=linear).astype(np.uint16)
    return cv2.LUT(levels.reshape(-1, 3), _curve8()).reshape(lab.shape)


def rgb_to_lab8(rgb):
    """Convert 8-bit sRGB to 8-bit Lab: fast, good enough to train on.

    Parameters
    ----------
    rgb : ndarray of uint8, shape (..., 3)
        0..255.

    Returns
    -------
    ndarray of uint8, shape (..., 3)
        L * 255 / 100, a + 128, b + 128.
    """
    return _convert(_require_uint8(rgb), cv2.COLOR_RGB2Lab)


def lab8_to_rgb(lab8):
    """Convert 8-bit Lab to 8-bit sRGB.

    Parameters
    ----------
    lab8 : ndarray of uint8, shape (..., 3)
        L * 255 / 100, a + 128, b + 128.

    Returns
    -------
    ndarray of uint8, shape (..., 3)
        0..255; not what went into `rgb_to_lab8`, but up to 23 levels away from it.
    """
    return _convert(_require_uint8(lab8), cv2.COLOR_Lab2RGB)


def to_uint8(rgb):
    """Round sRGB in 0..1 to 8 bits.

    Parameters
    ----------
    rgb : ndarray of floating point
        0..1; what lies outside is clipped.

    Returns
    -------
    ndarray of uint8, same shape
    """
    return np.clip(np.rint(np.asarray(rgb) * 255), 0, 255).astype(np.uint8)


def in_gamut(lab, tolerance=TOLERANCE):
    """Return which colors are inside sRGB's gamut.

    Parameters
    ----------
    lab : ndarray of floating point, shape (..., 3)
        Float Lab.
    tolerance : float
        How far linear RGB may lie outside of 0..1.

    Returns
    -------
    ndarray of bool, shape (...)
    """
    return _fits(_linear_rgb(np.asarray(lab, np.float32)), tolerance)


def clip_to_gamut(lab, tolerance=TOLERANCE):
    """Reduce the chroma of colors outside sRGB's gamut; L and the hue angle stay.

    Parameters
    ----------
    lab : ndarray of floating point, shape (..., 3)
        Float Lab, L in 0..100.
    tolerance : float
        As for `in_gamut`. What lies within it is clipped later, which can change L by half a unit
        where it is dark.

    Returns
    -------
    ndarray of float32, shape (..., 3)
    """
    lab = np.array(lab, np.float32)
    outside = ~in_gamut(lab, tolerance)
    lab[outside] = _pulled_in(lab[outside], tolerance)
    return lab


# Between grey and a color, at the same L, only X and Z change, and f of both changes linearly.
def _pulled_in(colors, tolerance):
    lightness, a, b = np.ascontiguousarray(colors.T)
    grey = (lightness + 16) / np.float32(116)
    toward_x_and_z = np.stack([a / 500, b / -200])
    xyz, matrix = np.empty_like(colors.T), XYZ_TO_LINEAR_RGB * WHITE
    xyz[1] = _from_f(grey)
    share = np.zeros_like(lightness)
    for step in 0.5 ** np.arange(1, STEPS + 1, dtype=np.float32):
        tried = share + step
        xyz[::2] = _from_f(grey + tried * toward_x_and_z)
        linear = matrix @ xyz
        fits = (linear.min(axis=0) >= -tolerance) & (linear.max(axis=0) <= 1 + tolerance)
        share += step * fits
    return np.stack([lightness, a * share, b * share], axis=-1)


def _fits(linear, tolerance):
    if not linear.size:
        return np.zeros(linear.shape[:-1], bool)
    # (..., 3) -> (pixels, 1, 3), an image to OpenCV, which is ten times as fast as NumPy here
    inside = cv2.inRange(linear.reshape(-1, 1, 3), (-tolerance,) * 3, (1 + tolerance,) * 3)
    return inside.reshape(linear.shape[:-1]) > 0


def _linear_rgb(lab):
    if not lab.size:
        return lab
    # f of CIE Lab for X, Y and Z, then its inverse, then the matrix; D65 is part of the matrix
    f = cv2.transform(np.ascontiguousarray(lab).reshape(-1, 1, 3), LAB_TO_F)
    return cv2.transform(_from_f(f), XYZ_TO_LINEAR_RGB * WHITE).reshape(lab.shape)


# CIE 15: X, Y and Z, in shares of white's, are the cube of f, and linear where they are dark. A
# mask would take two to seven times as long, the longer the more pixels are dark.
def _from_f(f):
    cubed = np.maximum(f, np.float32(6 / 29))
    below = f - cubed
    below *= np.float32(3 * (6 / 29) ** 2)
    return cubed * cubed * cubed + below


# sRGB's curve: IEC 61966-2-1.
def _curved(linear):
    curved = np.float32(1.055) * linear ** np.float32(1 / 2.4) - np.float32(0.055)
    return np.where(linear <= 0.0031308, linear * np.float32(12.92), curved)


@functools.cache
def _curve8():
    return to_uint8(_curved(np.linspace(0, 1, CURVE_LEVELS, dtype=np.float32)))


def _convert(pixels, code):
    if pixels.shape[-1:] != (3,):
        raise ValueError(f"the last axis has to be the 3 channels, but the shape is {pixels.shape}")
    if pixels.size == 0:
        return pixels.copy()
    width = pixels.shape[-2] if pixels.ndim > 1 else 1
    # (..., w, 3) -> (rows, w, 3): OpenCV takes one image, so all leading axes become rows
    rows = np.ascontiguousarray(pixels).reshape(-1, width, 3)
    return cv2.cvtColor(rows, code).reshape(pixels.shape)


def _unit_range(rgb):
    rgb = np.asarray(rgb)
    if rgb.dtype == np.uint8:
        return rgb.astype(np.float32) / 255
    if np.issubdtype(rgb.dtype, np.floating):
        return rgb.astype(np.float32, copy=False)
    raise TypeError(f"sRGB has to be uint8 (0..255) or floating point (0..1), not {rgb.dtype}")


def _require_uint8(pixels):
    pixels = np.asarray(pixels)
    if pixels.dtype != np.uint8:
        raise TypeError(f"8-bit conversion needs uint8, not {pixels.dtype}; use the float one")
    return pixels
