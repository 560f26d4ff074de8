"""Photographs with all that belongs to them: an image file -> L at its full depth, and back.

Not here: which colors they get (`colorlib.colorize`) and image files as training data, whose
8-bit RGB is all that counts (`colorlib.images`).

What is kept of a file: its resolution, its 16 bits per channel where the format can hold them in
color (PNG, TIFF), its transparency, what it says in EXIF, XMP and texts, its pixels per inch and
an sRGB profile. The orientation is applied. `colorlib.profiles` says what becomes of other color
spaces.
"""

import dataclasses

import numpy as np
from PIL import Image, PngImagePlugin

from colorlib import deep, images, metadata, profiles

QUALITY = 95
"""Of JPEG, WebP, AVIF and HEIF."""

PNG_COMPRESSION = 3
"""Of zlib: a third of the time of Pillow's 6, for files 1% larger."""

DEEP_FORMATS = ("PNG", "TIFF")
"""Formats that can hold color in 16 bits per channel."""

OPAQUE_FORMATS = ("JPEG", "BMP")
"""Formats without transparency, or with one that few programs read."""


@dataclasses.dataclass(frozen=True)
class Photograph:
    """A decoded image file.

    Attributes
    ----------
    pixels : ndarray of uint8 or uint16, shape (height, width) or (height, width, 3)
        Upright, in the file's own color space.
    alpha : ndarray of the same dtype, shape (height, width), or None
        Opacity, if there is any.
    way : colorlib.profiles.Lightness
        The way from the pixels to L.
    profile : bytes or None
        The ICC profile that fits new, sRGB pixels.
    kept : dict
        From `metadata.collect`.
    pages : int
        Pages or frames that the file has; this is one of them.
    duration : float or None
        Milliseconds for which this frame of an animation is shown.
    """

    pixels: np.ndarray
    alpha: np.ndarray | None = None
    way: profiles.Lightness = dataclasses.field(default_factory=profiles.srgb)
    profile: bytes | None = None
    kept: dict = dataclasses.field(default_factory=dict)
    pages: int = 1
    duration: float | None = None

    @property
    def shape(self):
        """Height and width in pixels."""
        return self.pixels.shape[:2]

    def lightness(self, rows=slice(None)):
        """Compute L of some rows.

        Parameters
        ----------
        rows : slice

        Returns
        -------
        ndarray of float32, shape (rows, width)
            0..100.
        """
        return self.way(self.pixels[rows])


def read(path):
    """Read a photograph.

    Parameters
    ----------
    path : path-like
        JPEG, PNG, WebP, TIFF, BMP, GIF, AVIF or HEIF; of several frames the first.

    Returns
    -------
    Photograph

    Raises
    ------
    colorlib.images.ImageError
        As `images.read` does.
    """
    with images.opened(path) as image:
        return decode(image, metadata.count_pages(image))


def decode(image, pages=1):
    """Decode the page at which an opened image file stands.

    Parameters
    ----------
    image : PIL.Image.Image
        From `images.opened`, this page of it not loaded yet.
    pages : int
        How many the file has.

    Returns
    -------
    Photograph

    Raises
    ------
    colorlib.images.ImageError
        As `images.decode` does.
    """
    embedded = image.info.get("icc_profile")
    stays = profiles.is_srgb(embedded)
    pixels, alpha, way = images.decode(image)
    kept = metadata.collect(image, srgb=stays or not embedded)
    profile = embedded if stays else embedded and profiles.srgb_profile()
    return Photograph(pixels, alpha, way, profile, kept, pages)


def count_pixels(path):
    """Read from a file's header how many pixels it has.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    int

    Raises
    ------
    colorlib.images.ImageError
        As `images.read` does.
    """
    with images.opened(path) as image:
        return image.width * image.height


def write(path, pixels, profile=None, kept=None):
    """Write colored pixels with all that belongs to their photograph, or nothing at all.

    Parameters
    ----------
    path : path-like
        The ending decides the format.
    pixels : ndarray of uint8 or uint16, shape (height, width, 3 or 4)
        sRGB, and alpha. uint16 only where `depth_in` says so; alpha is laid over white where the
        format has none.
    profile : bytes, optional
    kept : dict, optional
        The photograph's.

    Returns
    -------
    bool
        Whether the metadata could be kept: some may be too long for the format, or damaged.

    Raises
    ------
    colorlib.images.ImageError
        If the ending names no known format or the file can't be written.
    """
    image_format = images.format_of(path)
    if image_format in OPAQUE_FORMATS and pixels.shape[2] == 4:
        pixels = images.over_white(pixels)
    try:
        _write(path, image_format, pixels, profile, kept or {})
        return True
    except images.ImageError:
        if not kept:
            raise
    _write(path, image_format, pixels, profile, {})
    return False


def depth_in(path, photograph):
    """Say in what depth a photograph's colors go into a file of this name.

    Parameters
    ----------
    path : path-like
    photograph : Photograph

    Returns
    -------
    type
        ``np.uint16`` if the photograph has so many bits and the format holds them, else
        ``np.uint8``.

    Raises
    ------
    colorlib.images.ImageError
        If the ending names no known format.
    """
    holds_16_bits = images.format_of(path) in DEEP_FORMATS
    return np.uint16 if holds_16_bits and photograph.pixels.dtype == np.uint16 else np.uint8


def _write(path, image_format, pixels, profile, kept):
    with images.explained_writing(path), images.replacing(path) as temporary:
        if image_format == "TIFF":
            deep.write_tiff(temporary, [(pixels, profile, kept)])
        elif pixels.dtype == np.uint16:
            deep.write_png(temporary, pixels, profile, kept)
        else:
            Image.fromarray(pixels).save(
                temporary, format=image_format, **options(image_format, profile, kept)
            )


def options(image_format, profile=None, kept=None):
    """Say how Pillow is to write a photograph.

    Parameters
    ----------
    image_format : str
        Pillow's name of the format.
    profile : bytes, optional
    kept : dict, optional
        From `metadata.collect`.

    Returns
    -------
    dict
        For `PIL.Image.Image.save`.
    """
    kept = kept or {}
    options = {"quality": QUALITY, **{name: kept[name] for name in ("exif", "dpi") if name in kept}}
    if profile:
        options["icc_profile"] = profile
    if image_format == "JPEG" and "comment" in kept:
        options["comment"] = kept["comment"]
    texts = dict(kept.get("texts", {}))
    if image_format == "PNG" and "xmp" in kept:
        texts["XML:com.adobe.xmp"] = kept["xmp"].decode(errors="replace")
    elif "xmp" in kept:
        options["xmp"] = kept["xmp"]
    if image_format == "PNG":
        options["compress_level"] = PNG_COMPRESSION
        options["pnginfo"] = PngImagePlugin.PngInfo()
        for name, text in texts.items():
            options["pnginfo"].add_itxt(name, text)
    return options
