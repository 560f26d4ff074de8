"""Check whether the bytes of a file are a usable color image: its status and the reason.

The report kept its downloads unchecked (chapter 3); here every image is decoded. Not here: the
sources of the bytes (`colorlib.data.download`, `colorlib.data.crawler`) and the record of all
images (`colorlib.data.manifest`).
"""

import dataclasses
import enum
import hashlib
import io

import numpy as np
from PIL import Image

from colorlib import images

MINIMUM_SIDE = 64
"""Pixels of the shorter side below which an image is rejected."""

PLACEHOLDERS = frozenset({"880a7a58e05d3e83797f27573bb6d35c"})
"""MD5 of pictures that servers send in place of a deleted photograph: Flickr's, 2051 bytes."""

SUFFIXES = {
    "JPEG": ".jpg",
    "MPO": ".jpg",  # several JPEG in one file, written by some phones
    "PNG": ".png",
    "WEBP": ".webp",
    "TIFF": ".tif",
    "BMP": ".bmp",
    "AVIF": ".avif",
    "HEIF": ".heic",
    "GIF": None,
}
"""The formats that `images` decodes, and the ending of their files; None: converted to PNG."""


class FetchError(ValueError):
    """An unusable source or destination; the message names it and the remedy."""


class Status(enum.StrEnum):
    """The status of a requested image; only good images are kept."""

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
    """An image's status and the reason; the other fields are set if it could be decoded."""

    status: Status
    why: str = ""
    file: str = ""
    width: int = 0
    height: int = 0
    bytes: int = 0
    sha256: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Validation:
    """The outcome for an image, the bytes to keep and the ending of its file."""

    outcome: Outcome
    data: bytes = b""
    suffix: str = ""


def validate(data):
    """Check whether the bytes of a file are a usable color image.

    Parameters
    ----------
    data : bytes
        The whole file.

    Returns
    -------
    Validation
        An image is good if it has color and at least `MINIMUM_SIDE` pixels a side. Its bytes
        are kept unchanged; only a GIF is converted to a PNG of its first frame.
    """
    if hashlib.md5(data, usedforsecurity=False).hexdigest() in PLACEHOLDERS:
        return Validation(Outcome(Status.PLACEHOLDER, "known by its hash", bytes=len(data)))
    try:
        suffix, animated = _kind(data)
        rgb = images.read(io.BytesIO(data))
    except Exception as error:  # Pillow raises nearly anything on damaged files
        return Validation(Outcome(Status.NO_IMAGE, _reason(error), bytes=len(data)))
    height, width = rgb.shape[:2]
    status, why = _status(rgb, animated)
    data = data if suffix else _png(rgb)
    sha256 = hashlib.sha256(data).hexdigest()
    outcome = Outcome(status, why, "", width, height, len(data), sha256)
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
    step = max(1, max(height, width) // 128)  # a sample of the pixels is enough
    if images.is_grey(rgb[::step, ::step]):
        return Status.GREY, "has no color to learn from"
    return Status.GOOD, "first of several frames" if animated else ""


# The message of `images.read` without the file's name, which is unknown here, and the remedy.
def _reason(error):
    if not isinstance(error, images.ImageError):
        return f"is damaged ({error})"
    return str(error).rpartition(">: ")[2].partition("; ")[0]


def _png(rgb):
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(rgb)).save(buffer, format="PNG")
    return buffer.getvalue()
