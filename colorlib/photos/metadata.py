"""Collect the metadata of an image file, EXIF, XMP, texts and resolution, for its colored version.

Not here: pixels (`colorlib.photos.photo`) and color profiles (`colorlib.icc`). Unreadable metadata
is dropped, so that it never prevents the coloring.

Metadata that describes the old pixels is removed: the orientation, which has been applied, the
thumbnail, which is grey, and the layout of a TIFF file's strips.
"""

import re

from PIL import ExifTags, Image

from colorlib import images

COLOR_SPACE = ExifTags.Base.ColorSpace
"""EXIF's color space: 1 is sRGB, 65535 another one."""

DESCRIPTIVE = {*range(269, 273), 285, 297, 305, 306, 315, 316}
"""Tags of TIFF 6.0 up to 532 that describe the photograph, not the layout of its bytes."""

ELSEWHERE = {282, 283, 296, 700, 34675}
"""Resolution, XMP and profile: each format stores them in its own way."""

XMP_ORIENTATION = rb"(tiff:Orientation(?:=[\"']|>))[0-9]"

LONGEST_TEXT = 2**16
"""Characters in a text of a PNG file; longer ones are left out."""


class Text(str):
    """An EXIF text that keeps its bytes: Pillow reads it as Latin-1 and would write ASCII."""

    def encode(self, *_):
        """Return the bytes that Pillow read."""
        return super().encode("latin-1")


def preserved(value):
    """Prepare a value that Pillow read from EXIF to be written with the same bytes.

    Parameters
    ----------
    value : object

    Returns
    -------
    object
        A `Text` for a str, a dict of such values for a dict, otherwise the value itself.
    """
    if isinstance(value, dict):
        return {tag: preserved(item) for tag, item in value.items()}
    return Text(value) if isinstance(value, str) else value


def collect(image, srgb=True):
    """Gather what belongs to a photograph, ready to be written beside new pixels.

    Parameters
    ----------
    image : PIL.Image.Image
        As Pillow opened it.
    srgb : bool
        Whether the new pixels are in the color space of the old ones; if not, the color space
        in EXIF is set to sRGB.

    Returns
    -------
    dict
        What the file has of ``exif`` (bytes), ``xmp`` (bytes), ``dpi`` (pair of float), ``comment``
        (bytes) and ``texts`` (dict of str to str).
    """
    found = {
        "exif": images.attempt(lambda: _exif(image, srgb)),
        "xmp": images.attempt(lambda: _xmp(image)),
        "dpi": images.attempt(lambda: _dpi(image)),
        "comment": images.attempt(lambda: bytes(image.info["comment"])),
        "texts": images.attempt(lambda: _texts(image)),
    }
    return {name: value for name, value in found.items() if value}


def _exif(image, srgb):
    old, new = image.getexif(), Image.Exif()
    for tag, value in old.items():
        layout = 254 <= tag <= 532 and tag not in DESCRIPTIVE
        if not layout and tag not in ELSEWHERE and not isinstance(value, dict):
            new[tag] = preserved(value)
    for group in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
        values = images.attempt(lambda group=group: dict(old.get_ifd(group)))
        new.pop(group, None)
        if values:
            values.pop(ExifTags.IFD.Interop, None)
            if COLOR_SPACE in values and not srgb:
                values[COLOR_SPACE] = 1
            new.get_ifd(group).update(preserved(values))
    if not len(new) and not new._ifds:
        return None
    data = new.tobytes()
    Image.Exif().load(data)
    return data


def _xmp(image):
    xmp = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp")
    xmp = xmp.encode() if isinstance(xmp, str) else xmp
    return xmp and re.sub(XMP_ORIENTATION, rb"\g<1>1", xmp.rstrip(b"\0"))


def _dpi(image):
    dpi = tuple(float(value) for value in image.info["dpi"])
    return dpi if len(dpi) == 2 and all(1 < value <= 65535 for value in dpi) else None


def _texts(image):
    if image.format != "PNG":
        return None
    return {
        name: str(text)
        for name, text in image.text.items()
        if name != "XML:com.adobe.xmp" and len(text) <= LONGEST_TEXT
    }
