"""ICC profiles: compute L of pixels in any color space. ICC.1:2022, sections 7, 8.3 and 10.

Not here: the conversion between sRGB and Lab (`colorlib.colorspace`).

A photograph keeps its own L when it is colored, so only the conversion to L is needed of a profile.
Gray profiles, and RGB profiles of three curves and a matrix (Adobe RGB, Display P3, ProPhoto),
define it by a few numbers. They are read here and applied at the full depth of the pixels. ImageCms
applies profiles made of tables (CMYK, some scanners), in 8 bits: `to_srgb`.

The new colors are sRGB. A file with sRGB's profile keeps it. A file with another profile gets
sRGB's, since its own would make the new colors wrong. A file without a profile gets none.
"""

import dataclasses
import functools
import io
import struct

import cv2
import numpy as np
from PIL import ImageCms

DEPTH = 2**16
"""Levels at which curves are tabulated."""

PIECE = 2**16
"""8-bit pixels that are converted at once, so that all of it stays in a processor's cache."""

SRGB_MATRIX = np.array(
    [[0.4361, 0.3851, 0.1431], [0.2225, 0.7169, 0.0606], [0.0139, 0.0971, 0.7141]]
)
"""sRGB's primaries in XYZ, as profiles have them: adapted to D50 (IEC 61966-2-1)."""

SRGB_LUMINANCE = (0.21267127, 0.71515972, 0.07216882)
"""Y of sRGB's primaries under D65, to which `colorspace` refers."""


@dataclasses.dataclass(frozen=True)
class LightnessTransform:
    """The conversion from pixels to L.

    Attributes
    ----------
    curves : ndarray of float32, shape (channels, 65536)
        Luminance Y, in 0..1, that each level of each channel contributes: 3 channels, or 1.
    srgb : bool
        Whether the color space is sRGB.
    """

    curves: np.ndarray
    srgb: bool = False

    def __call__(self, pixels):
        """Compute L.

        Parameters
        ----------
        pixels : ndarray of uint8 or uint16, shape (height, width) or (height, width, 3)

        Returns
        -------
        ndarray of float32, shape (height, width)
            L in 0..100; different 16-bit levels have different L.
        """
        curves = self.curves[:, ::257] if pixels.dtype == np.uint8 else self.curves
        if pixels.ndim == 2:
            return _to_lightness(curves.sum(axis=0)).astype(np.float32)[pixels]
        channels = curves if len(curves) == 3 else np.repeat(curves / 3, 3, axis=0)
        if pixels.dtype == np.uint8:  # OpenCV's table is several times as fast as NumPy's
            return _lightness_of_8_bits(pixels, np.ascontiguousarray(channels.T)[None])
        channels = np.ascontiguousarray(channels)
        luminance = channels[0].take(pixels[..., 0])
        luminance += channels[1].take(pixels[..., 1])
        luminance += channels[2].take(pixels[..., 2])
        return _to_lightness(luminance)


@functools.cache
def srgb():
    """Return sRGB's conversion to L, for files without a color space.

    Returns
    -------
    LightnessTransform
    """
    return LightnessTransform(_weighted([_srgb_curve()] * 3, SRGB_LUMINANCE), srgb=True)


@functools.lru_cache(maxsize=8)
def lightness(data):
    """Read the conversion to L from a profile.

    Parameters
    ----------
    data : bytes
        An ICC profile.

    Returns
    -------
    LightnessTransform or None
        None if the profile is made of tables, for which `to_srgb` is meant, or damaged.
    """
    try:
        return _read(data)
    except (struct.error, ArithmeticError, ValueError, LookupError):
        return None


def is_srgb(data):
    """Return whether a profile is sRGB's.

    Parameters
    ----------
    data : bytes or None
        An ICC profile, if there is one.

    Returns
    -------
    bool
    """
    transform = lightness(data) if data else None
    return transform is not None and transform.srgb


def to_srgb(image, data):
    """Convert an image to sRGB by its profile; ignore the profile if that fails.

    Parameters
    ----------
    image : PIL.Image.Image
        8 bits per channel, of any mode; the profile of a Lab image is ignored.
    data : bytes or None
        Its ICC profile.

    Returns
    -------
    PIL.Image.Image
        RGB.
    """
    lab = image.mode == "LAB"
    try:
        source = ImageCms.ImageCmsProfile(
            ImageCms.createProfile("LAB") if lab else io.BytesIO(data)
        )
        if source.profile.xcolor_space == "RGB ":
            image = image.convert("RGB")  # a grey file's profile may be in color
        target = ImageCms.createProfile("sRGB")
        return ImageCms.profileToProfile(image, source, target, outputMode="RGB")
    except Exception:  # no profile, one of another mode, or a damaged one
        return image.convert("RGB")


def srgb_profile():
    """Return an ICC profile of sRGB, dated as its standard so that it is the same every time.

    Returns
    -------
    bytes
    """
    data = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return data[:24] + struct.pack(">6H", 1999, 10, 18, 0, 0, 0) + data[36:]


def _lightness_of_8_bits(pixels, table):
    lightness = np.empty(pixels.shape[:2], np.float32)
    rows = max(1, PIECE // pixels.shape[1])
    for top in range(0, len(pixels), rows):
        shares = cv2.LUT(pixels[top : top + rows], table)
        luminance = cv2.transform(shares, np.ones((1, 3), np.float32))
        lightness[top : top + rows] = _to_lightness(luminance)
    return lightness


# From the relative luminance Y, in 0..1, to L (CIE 15): linear where it is dark. Without a mask, as
# in `colorspace`.
def _to_lightness(luminance):
    bright = np.maximum(luminance, luminance.dtype.type((6 / 29) ** 3))
    below = luminance - bright
    below *= (29 / 3) ** 3
    lightness = cv2.pow(bright, 1 / 3, bright).reshape(luminance.shape)  # np.cbrt has no AVX2
    lightness *= 116
    lightness -= 16
    lightness += below
    return np.clip(lightness, 0, 100, out=lightness)


def _read(data):
    count = struct.unpack_from(">I", data, 128)[0]
    entries = [struct.unpack_from(">4sII", data, 132 + 12 * i) for i in range(min(count, 100))]
    tags = {name: data[start : start + size] for name, start, size in entries}
    kind, connection = data[16:20], data[20:24]
    if kind == b"GRAY":
        curve = _curve(tags[b"kTRC"])
        curve = _luminance(100 * curve) if connection == b"Lab " else curve
        return LightnessTransform(_weighted([curve], [1]))
    if kind != b"RGB " or connection != b"XYZ " or b"A2B0" in tags:
        return None
    curves = [_curve(tags[name]) for name in (b"rTRC", b"gTRC", b"bTRC")]
    columns = [
        np.array(struct.unpack_from(">3i", tags[name], 8)) for name in (b"rXYZ", b"gXYZ", b"bXYZ")
    ]
    matrix = np.stack(columns, axis=1) / 65536
    if not 0.9 < matrix[1].sum() < 1.1:
        return None
    same = np.abs(matrix - SRGB_MATRIX).max() < 0.003
    if same and np.abs(np.stack(curves) - _srgb_curve()).max() < 0.01:
        return srgb()
    return LightnessTransform(_weighted(curves, matrix[1] / matrix[1].sum()))


def _curve(tag):
    x = np.linspace(0, 1, DEPTH)
    kind = tag[:4]
    if kind == b"curv":
        count = struct.unpack_from(">I", tag, 8)[0]
        values = np.frombuffer(tag, ">u2", count, 12).astype(np.float64)
        if count < 2:
            return x ** (values[0] / 256) if count else x
        return np.interp(x, np.linspace(0, 1, count), values / 65535)
    if kind == b"para":
        number = struct.unpack_from(">H", tag, 8)[0]
        values = struct.unpack_from(f">{(1, 3, 4, 5, 7)[number]}i", tag, 12)
        return np.clip(_parametric(x, number, [value / 65536 for value in values]), 0, 1)
    raise ValueError(f"no curve: {kind}")


def _parametric(x, number, values):
    # the function types 0 to 4 of ICC.1:2022, table 68, as cases of the last of them
    g, a, b, c, d, e, f = [*values, *(0,) * 7][:7]
    if number == 0:
        a, b, c, d, e, f = 1, 0, 0, 0, 0, 0
    elif number in (1, 2):
        e = f = c if number == 2 else 0
        c, d = 0, -b / a
    power = np.maximum(a * x + b, 0) ** g + e
    return np.where(x >= d, power, c * x + f)


def _srgb_curve():
    x = np.linspace(0, 1, DEPTH)
    return np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)


def _luminance(lightness):
    fy = (lightness + 16) / 116
    return np.where(lightness > 8, fy**3, lightness * (3 / 29) ** 3)


def _weighted(curves, weights):
    return (np.stack(curves) * np.reshape(weights, (-1, 1))).astype(np.float32)
