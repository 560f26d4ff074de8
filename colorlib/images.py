"""Image files: any file a camera or a browser wrote -> upright 8-bit RGB, and back to a file.

Not here: color science (`colorlib.colorspace`) and many images at once (`colorlib.store`).
Decoding is Pillow's.
"""

import contextlib
import functools
import secrets
import stat
import struct
from pathlib import Path

import cv2
import numpy as np
import pillow_heif
from PIL import Image, ImageOps, UnidentifiedImageError

EXTENSIONS = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".tif", ".tiff", ".bmp")
EXTENSIONS += (".avif", ".heic", ".heif", ".hif")
"""Of files that can be written; GIF can only be read."""

READABLE = (*EXTENSIONS, ".gif")
"""Endings of photographs that are taken from a folder or as an upload."""

FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "AVIF", "HEIF")
"""What Pillow may try; it would hand others, such as EPS, to programs of the system."""

BOMB = 2
"""Times Pillow's MAX_IMAGE_PIXELS, above which it refuses to open: 178 megapixels."""

GREY_TOLERANCE = 3
"""Largest difference between channels, in 8-bit levels, that still counts as grey."""


class ImageError(ValueError):
    """A file that is not a usable image; the message names the file and the remedy."""


def read(path):
    """Decode an image file.

    Parameters
    ----------
    path : path-like or binary file object
        JPEG, PNG, WebP, TIFF, BMP, GIF, AVIF or HEIF; of several frames the first.

    Returns
    -------
    ndarray of uint8, shape (height, width, 3)
        sRGB, upright (EXIF orientation applied), 0..255. Transparency is laid over white,
        CMYK and palettes are converted, 16-bit grey is reduced to 8 bits.

    Raises
    ------
    ImageError
        If there is no such file, it is a folder, it is no image, it is cut off, or its header
        announces so many pixels that decoding it could exhaust the memory.
    """
    with opened(path) as image:
        image.load()
        return np.asarray(_to_rgb(ImageOps.exif_transpose(image)))


@contextlib.contextmanager
def opened(path):
    """Open an image file, and name it in whatever goes wrong with it inside the block.

    Parameters
    ----------
    path : path-like or binary file object

    Yields
    ------
    PIL.Image.Image
        Of which only the header has been read.

    Raises
    ------
    ImageError
        As `read` does.
    """
    name = path if isinstance(path, str | Path) else getattr(path, "name", path)
    _register_heif()
    try:
        _refuse_pipe(path)
        with Image.open(path, formats=FORMATS) as image:
            yield image
    except ImageError:
        raise
    except FileNotFoundError:
        raise ImageError(f"{name}: no such file; check the path") from None
    except IsADirectoryError:
        raise ImageError(f"{name}: is a folder; name the image files inside it") from None
    except PermissionError:
        raise ImageError(f"{name}: may not be read; check its permissions") from None
    except UnidentifiedImageError:
        reason = "is empty" if _is_empty(path) else "is not an image Pillow can read"
        raise ImageError(f"{name}: {reason}; give a JPEG, PNG, WebP, TIFF or BMP") from None
    except Image.DecompressionBombError:
        limit = BOMB * Image.MAX_IMAGE_PIXELS // 10**6
        raise ImageError(f"{name}: has over {limit} megapixels; make it smaller first") from None
    except MemoryError:
        raise ImageError(f"{name}: takes more memory than there is; make it smaller") from None
    except Exception as error:  # Pillow raises nearly anything on damaged files
        if getattr(error, "errno", None):
            raise ImageError(f"{name}: can't be read ({error.strerror}); get it anew") from None
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ImageError(f"{name}: is damaged or cut off ({reason}); get it anew") from None


def write(path, rgb, quality=95):
    """Write an image under a temporary name, then rename it: never half a file.

    Parameters
    ----------
    path : path-like
        The ending decides the format.
    rgb : ndarray of uint8, shape (height, width, 3)
        sRGB, 0..255.
    quality : int, default 95
        Of JPEG and WebP.

    Raises
    ------
    ImageError
        If the ending names no known format or the file can't be written.
    """
    image_format = format_of(path)
    with explained_writing(path), replacing(path) as temporary:
        Image.fromarray(rgb).save(temporary, format=image_format, quality=quality)


def format_of(path):
    """Say in which format a file of this name is written.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    str
        Pillow's name of the format.

    Raises
    ------
    ImageError
        If the ending names no known format.
    """
    _register_heif()
    suffix = Path(path).suffix.lower()
    if suffix not in EXTENSIONS:
        raise ImageError(f"{path}: unknown ending; use one of {' '.join(EXTENSIONS)}")
    return Image.registered_extensions()[suffix]


@contextlib.contextmanager
def explained_writing(path):
    """Turn what goes wrong while a file is written into an `ImageError` that names it."""
    try:
        yield
    except ImageError:
        raise
    except (OSError, ValueError, MemoryError, struct.error) as error:
        reason = getattr(error, "strerror", None) or error or "out of memory"
        raise ImageError(f"{path}: can't be written ({reason}); choose another place") from None


@contextlib.contextmanager
def replacing(path):
    """Hand out a temporary path that becomes `path` if the block ends well, else vanishes."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    temporary.touch(exist_ok=False)  # with the rights that new files have here
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def is_grey(rgb, tolerance=GREY_TOLERANCE):
    """Say whether an image has no color worth learning from.

    Parameters
    ----------
    rgb : ndarray of uint8, shape (height, width, 3)
        sRGB.
    tolerance : int
        Largest difference between two channels of a pixel, in 8-bit levels, that counts as
        grey. Nearly all (99%) of the pixels have to be grey, so that JPEG noise does not matter.

    Returns
    -------
    bool
    """
    red, green, blue = np.moveaxis(rgb, -1, 0)
    # over an axis of length 3, max() would take six times as long
    spread = np.maximum(np.maximum(red, green), blue) - np.minimum(np.minimum(red, green), blue)
    return bool(np.mean(spread <= tolerance) >= 0.99)


def square(rgb, size):
    """Cut out the centre square and resize it.

    Parameters
    ----------
    rgb : ndarray of uint8, shape (height, width, 3)
        sRGB.
    size : int
        Side in pixels of the result.

    Returns
    -------
    ndarray of uint8, shape (size, size, 3)
        Averaged over areas when it shrinks, interpolated when it grows.
    """
    height, width = rgb.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    middle = rgb[top : top + side, left : left + side]
    if side == size:
        return middle.copy()
    return cv2.resize(middle, (size, size), interpolation=_interpolation(side, size))


def _interpolation(old, new):
    return cv2.INTER_AREA if new < old else cv2.INTER_CUBIC


def _to_rgb(image):
    if image.mode.startswith(("I", "F")):
        values = np.asarray(image, dtype=np.float64)
        top = 255.0 if values.max(initial=0) <= 255 else 65535.0
        image = Image.fromarray((np.clip(values / top, 0, 1) * 255).round().astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")


# A pipe or a device would keep Pillow waiting for ever.
def _refuse_pipe(path):
    if isinstance(path, str | Path) and not stat.S_ISREG(mode := Path(path).stat().st_mode):
        if stat.S_ISDIR(mode):
            raise IsADirectoryError
        raise ImageError(f"{path}: is no file but a pipe or a device; name an image file")


@functools.cache
def _register_heif():
    pillow_heif.register_heif_opener()


def _is_empty(path):
    return isinstance(path, str | Path) and Path(path).stat().st_size == 0
