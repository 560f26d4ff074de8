"""Which images count: the bytes of a file -> its fate, and why.

Not here: where the bytes come from (`colorlib.data.download`, `colorlib.data.crawler`) and the book
kept over them (`colorlib.data.manifest`). Chapter 3 of the report: what its crawler brought was
kept unseen; here every image is looked at.
"""

import dataclasses
import enum
import hashlib
import io

import numpy as np
from PIL import Image

from colorlib import images

MINIMUM_SIDE = 64
"""Pixels of the shorter side below which an image does not count."""

PLACEHOLDERS = frozenset({"880a7a58e05d3e83797f27573bb6d35c"})
"""MD5 of pictures that stand for a photograph that is gone; this one is Flickr's, 2051 bytes."""

SUFFIXES = {
    "JPEG": ".jpg",
    "MPO": ".jpg",  # several JPEG in one, as some telephones make them
    "PNG": ".png",
    "WEBP": ".webp",
    "TIFF": ".tif",
    "BMP": ".bmp",
    "AVIF": ".avif",
    "HEIF": ".heic",
    "GIF": None,
}
"""What `images` decodes, and the ending each format is kept under; None: kept as PNG."""


class FetchError(ValueError):
    """A source or a destination that can't be used; the message names it and the remedy."""


class Status(enum.StrEnum):
    """What became of an image that was asked for; only the first is kept."""

    GOOD = "good"
    REFUSED = "refused"
    SERVER_ERROR = "server error"
    TIMED_OUT = "timed out"
    UNREACHABLE = "unreachable"
    CUT_OFF = "cut off"
    TOO_LARGE = "too large"
    BAD_ADDRESS = "bad address"
    BAD_REDIRECT = "bad redirect"
    UNREADABLE = "unreadable"
    NO_IMAGE = "no image"
    TOO_SMALL = "too small"
    GREY = "grey"
    PLACEHOLDER = "placeholder"
    IDENTICAL = "identical"
    REPEATED = "repeated"
    NOT_NEEDED = "not needed"
    NOT_TRIED = "not tried"


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """An image's fate and why; the rest is known of images that decode."""

    fate: Status
    why: str = ""
    file: str = ""
    width: int = 0
    height: int = 0
    bytes: int = 0
    sha256: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Validation:
    """Whether an image counts, and as which bytes and under which ending to keep it."""

    outcome: Outcome
    data: bytes = b""
    suffix: str = ""


def validate(data, placeholders=PLACEHOLDERS):
    """Say whether the bytes of a file are a color image worth keeping.

    Parameters
    ----------
    data : bytes
        Of a whole file, as it came.
    placeholders : collection of str
        MD5 of files that stand for a photograph that is gone.

    Returns
    -------
    Verdict
        Good are color images of at least `MINIMUM_SIDE` pixels a side, once upright. They are
        kept as they came; only a GIF becomes a PNG of its first frame.
    """
    if hashlib.md5(data, usedforsecurity=False).hexdigest() in placeholders:
        return Validation(Outcome(Status.PLACEHOLDER, "known by its hash", bytes=len(data)))
    try:
        suffix, animated = _kind(data)
        rgb = images.read(io.BytesIO(data))
    except Exception as error:  # Pillow raises nearly anything on damaged files
        return Validation(Outcome(Status.NO_IMAGE, _reason(error), bytes=len(data)))
    height, width = rgb.shape[:2]
    fate, why = _status(rgb, animated)
    data = data if suffix else _png(rgb)
    sha256 = hashlib.sha256(data).hexdigest()
    outcome = Outcome(fate, why, "", width, height, len(data), sha256)
    return Validation(outcome, data, suffix or ".png")


def _kind(data):
    if not data:
        raise images.ImageError("is empty")
    if bytes(data[:512]).lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        raise images.ImageError("is a web page")
    with images.opened(io.BytesIO(data)) as image:
        if image.width * image.height > Image.MAX_IMAGE_PIXELS:
            limit = Image.MAX_IMAGE_PIXELS // 10**6
            raise images.ImageError(f"has over {limit} megapixels")
        animated = getattr(image, "is_animated", False) and image.format != "MPO"
        return SUFFIXES[image.format], animated


def _status(rgb, animated):
    height, width = rgb.shape[:2]
    if min(height, width) < MINIMUM_SIDE:
        return Status.TOO_SMALL, f"{width}x{height}, at least {MINIMUM_SIDE} a side are needed"
    step = max(1, max(height, width) // 128)  # a sample says it as well, sooner
    if images.is_grey(rgb[::step, ::step]):
        return Status.GREY, "has no color to learn from"
    return Status.GOOD, "first of several frames" if animated else ""


# The message of `images.read` without the name, which means nothing here, and the remedy.
def _reason(error):
    if not isinstance(error, images.ImageError):
        return f"is damaged ({error})"
    return str(error).rpartition(">: ")[2].partition("; ")[0]


def _png(rgb):
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(rgb)).save(buffer, format="PNG")
    return buffer.getvalue()
