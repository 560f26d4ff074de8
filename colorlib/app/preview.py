"""The preview of a colored photograph: decode a network's output fast enough for a slider.

Not here: widgets (`colorlib.app.studio`), and the exact colors of the download
(`colorlib.colorize`). Section 2.3 of Zhang et al. 2016.

The network runs once; temperature, vividness and saturation only decode its output again. A preview
has at most a megapixel, and its colors come from a table of sRGB's gamut, which is nearly exact.
"""

import dataclasses
import functools
import math
import tempfile
from pathlib import Path, PurePosixPath

import cv2
import numpy as np

from colorlib import colorize, colorspace, images
from colorlib.photos import photo

QUALITY = 90
"""JPEG quality of the preview."""

LARGEST_CHROMA = 150.0
"""A chroma larger than that of any sRGB color."""

HUES, LEVELS = 360, 200
"""Steps of the table of the gamut, over the hue angle and from black to white."""


def paint(lightness, ab, follow_edges=False):
    """Compute `colorize.apply_colors` approximately, several times faster.

    The error is at most two 8-bit levels on the sample photographs; at saturation 2 it is rarely a
    dozen.

    Parameters
    ----------
    lightness : ndarray of float32, shape (height, width)
        L in 0..100.
    ab : ndarray of float32, shape (h, w, 2)
        (a, b) at any resolution; it is enlarged to that of `lightness`.
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
    """Tabulate the largest chroma inside sRGB's gamut.

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


MEGABYTE = 2**20

LARGEST_FILE = 40 * MEGABYTE
"""Largest upload in bytes."""

LARGEST_PHOTOGRAPH = 64 * 2**20
"""Largest upload in pixels: the largest usual cameras have as many; they take half a gigabyte."""

WANTED = "no photograph by its name; choose a JPEG, PNG, TIFF, WebP, BMP, GIF, AVIF or HEIC file"
"""What is said of a file with another ending, after "is"."""

SCREEN = 2**20
"""Largest number of pixels that are shown."""

LONGEST_ON_SCREEN = 4096
"""Longest side, in pixels, of a picture that is shown."""


@dataclasses.dataclass(frozen=True)
class Picture:
    """A photograph, and its preview.

    Attributes
    ----------
    name : str
        Name of its file.
    photograph : colorlib.photos.photo.Photograph
        At its full resolution.
    lightness : ndarray of float32, shape (height, width)
        L in 0..100, of at most `SCREEN` pixels.
    truth : ndarray of float32, shape (height, width, 2), or None
        (a, b) of the same pixels, if the photograph is in color.
    views : dict of int to ndarray
        Inputs of networks made from it, by their working size (`predict`).
    """

    name: str
    photograph: photo.Photograph
    lightness: np.ndarray
    truth: np.ndarray | None
    views: dict = dataclasses.field(default_factory=dict)

    def grey(self):
        """Draw the photograph without its colors.

        Returns
        -------
        ndarray of uint8, shape (height, width, 3)
            sRGB.
        """
        return paint(self.lightness, np.zeros((1, 1, 2), np.float32))


class Prediction(colorize.Colorizer):
    """A network's output for one photograph: a colorizer that need not run the network again.

    Parameters
    ----------
    logits : ndarray of float32, shape (h, w, 313)
        The output of the network.
    decoding : colorlib.config.DecodeConfig
    weights : ndarray, shape (313,)
        As for `colorize.Colorizer`.
    """

    def __init__(self, logits, decoding, weights):
        super().__init__(None, decoding, weights)
        self.logits = logits

    def predict(self, view, points=None):
        """Return the stored output, whatever the view."""
        return self.logits

    def decoded_with(self, **decoding):
        """Return the same output with other settings of its decoding.

        Parameters
        ----------
        **decoding
            ``temperature``, ``vividness``, ``saturation``.

        Returns
        -------
        Prediction
        """
        return Prediction(self.logits, self.decoding.replace(**decoding), self.weights)


def from_bytes(name, data):
    """Make a picture of an uploaded file.

    Parameters
    ----------
    name : str
        The browser's name of the file; only its last part and its ending are used.
    data : bytes

    Returns
    -------
    Picture

    Raises
    ------
    colorlib.images.ImageError
        If the file is too large, of another type, damaged, or has too many pixels.
    """
    name = _plain_name(name)
    check_file(name, len(data))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"upload{Path(name).suffix.lower()}"
        path.write_bytes(data)
        try:
            _check_pixels(path)
            return from_file(path, name)
        except images.ImageError as error:
            raise images.ImageError(str(error).replace(str(path), name)) from None


def from_file(path, name=None):
    """Make a picture of an image file.

    Parameters
    ----------
    path : path-like
    name : str, optional
        Its name; the file's by default.

    Returns
    -------
    Picture

    Raises
    ------
    colorlib.images.ImageError
        As `photo.read` does.
    """
    photograph = photo.read(path)
    small = dataclasses.replace(photograph, pixels=_shrunk(photograph.pixels), alpha=None)
    return Picture(name or Path(path).name, photograph, small.lightness(), _truth(small))


def check_file(name, size):
    """Refuse a file by its name and size, before it is read.

    Parameters
    ----------
    name : str
    size : int
        In bytes.

    Raises
    ------
    colorlib.images.ImageError
        If it is too large, empty, or its ending names no type that can be read.
    """
    if Path(name).suffix.lower() not in images.READABLE:
        raise images.ImageError(f"{name}: is {WANTED}")
    if size > LARGEST_FILE:
        limit = f"at most {LARGEST_FILE // MEGABYTE} MB are taken here"
        raise images.ImageError(
            f"{name}: has {size / MEGABYTE:.0f} MB, {limit}; make it smaller, "
            "or use the command `colorlib colorize`"
        )
    if not size:
        raise images.ImageError(f"{name}: is empty; choose another file")


def predict(colorizer, picture, points=None):
    """Run the network on a picture.

    Parameters
    ----------
    colorizer : colorlib.colorize.Colorizer
    picture : Picture
    points : colorlib.hints.Points, optional
        A user's hints.

    Returns
    -------
    Prediction
    """
    size = colorizer.decoding.working_size
    if size not in picture.views:
        picture.views[size] = colorizer.view(picture.photograph)
    logits = colorizer.predict(picture.views[size], points)
    return Prediction(logits, colorizer.decoding, colorizer.weights)


def colored(picture, prediction):
    """Color the preview of a picture.

    Parameters
    ----------
    picture : Picture
    prediction : Prediction

    Returns
    -------
    ndarray of uint8, shape (height, width, 3)
        sRGB.
    """
    ab = prediction.decode(prediction.logits)
    return paint(picture.lightness, ab, prediction.decoding.follow_edges)


def full_resolution(picture, prediction):
    """Color a photograph at its own resolution, as a file of its own type.

    Parameters
    ----------
    picture : Picture
    prediction : Prediction

    Returns
    -------
    name : str
        The photograph's, with ``-colored`` before the ending; a GIF becomes a PNG. Of several
        pages or frames it holds the first.
    data : bytes
        With its transparency, its depth and its metadata, as `colorlib colorize` writes it.

    Raises
    ------
    colorlib.images.ImageError
        If it can't be written.
    """
    name = PurePosixPath(picture.name)
    suffix = name.suffix if name.suffix.lower() in images.EXTENSIONS else ".png"
    photograph = picture.photograph
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"colored{suffix.lower()}"
        pixels = colorize.render(prediction, photograph, photo.depth_in(path, photograph))
        try:
            photo.write(path, pixels, photograph.profile, photograph.kept)
        except images.ImageError as error:  # it names a temporary file on the server
            why = str(error).removeprefix(f"{path}: ").replace("choose another place", "try again")
            raise images.ImageError(f"{name}: {why}") from None
        return f"{name.stem}-colored{suffix}", path.read_bytes()


def _check_pixels(path):
    count = photo.count_pixels(path)
    if count > LARGEST_PHOTOGRAPH:
        limit = f"at most {LARGEST_PHOTOGRAPH // 10**6} are taken here"
        raise images.ImageError(
            f"{path}: has {count // 10**6} megapixels, {limit}; make it smaller, "
            "or use the command `colorlib colorize`"
        )


def _plain_name(name):
    last = PurePosixPath(str(name).replace("\\", "/")).name
    return "".join(c for c in last if c.isprintable())[-100:] or "photograph"


def _shrunk(pixels):
    height, width = pixels.shape[:2]
    scale = min(1, math.sqrt(SCREEN / (height * width)), LONGEST_ON_SCREEN / max(height, width))
    if scale == 1:
        return np.ascontiguousarray(pixels)
    size = tuple(max(1, int(side * scale)) for side in (width, height))
    return cv2.resize(np.ascontiguousarray(pixels), size, interpolation=cv2.INTER_AREA)


def _truth(photograph):
    pixels = photograph.pixels
    if pixels.ndim == 2 or not photograph.transform.srgb:
        return None
    rgb = images.to_depth(pixels, np.uint8)
    return None if images.is_grey(rgb) else colorspace.rgb_to_lab(rgb)[..., 1:]
