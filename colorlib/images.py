"""Read image files as upright, color-managed pixels, and write them.

Not here: color science (`colorlib.colorspace`) and many images at once (`colorlib.store`).
Training, coloring, crawler, page and game use this decoder, so all see the same pixels. Pillow
reads the files; OpenCV reads color with 16 bits per channel.
"""

import contextlib
import errno
import functools
import io
import os
import stat
import struct
from pathlib import Path

import cv2
import numpy as np
from PIL import ExifTags, Image, TiffImagePlugin, UnidentifiedImageError

from colorlib import files, icc

EXTENSIONS = {
    **dict.fromkeys((".jpg", ".jpeg", ".jpe", ".jfif"), "JPEG"),
    **{".png": "PNG", ".webp": "WEBP", ".tif": "TIFF", ".tiff": "TIFF", ".bmp": "BMP"},
    **{".avif": "AVIF", ".heic": "HEIF", ".heif": "HEIF", ".hif": "HEIF"},
}
"""Endings of files that can be written, and Pillow's names of their formats; GIF can only be read.

Pillow could tell, but would import all its formats first.
"""

READABLE = (*EXTENSIONS, ".gif")
"""Endings of photographs that are taken from a folder or as an upload."""

FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "AVIF", "HEIF")
"""The formats that Pillow may read; for others, such as EPS, it would start programs."""

BOMB = 2
"""Factor on Pillow's MAX_IMAGE_PIXELS above which it opens no file: 178 megapixels."""

LONGEST_SIDE = 2**19
"""Maximum side in pixels, which limits the size of a band of rows."""

BAND = 2**20
"""Pixels processed at once in floating point or as copies."""

IN_MEMORY = 2**24
"""Pixels, at most, of a JPEG that is encoded in memory before it is written."""

END_OF_JPEG = b"\xff\xd9"
"""The marker with which each JPEG file ends."""

GREY_TOLERANCE = 3
"""Largest difference between channels, in 8-bit levels, that still counts as grey."""

SUBFILE = 254
BITS_PER_SAMPLE = TiffImagePlugin.BITSPERSAMPLE
PHOTOMETRIC = TiffImagePlugin.PHOTOMETRIC_INTERPRETATION
PLANES = TiffImagePlugin.PLANAR_CONFIGURATION
"""Tags of TIFF; the first one says what kind of page it is."""

WHITE_IS_ZERO, PLANAR = 0, 2
"""Values of the last two: negatives, and a plane for each channel, which OpenCV mixes up."""


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
        sRGB, upright (EXIF orientation applied), 0..255. Other color spaces are converted by
        the file's profile, CMYK and palettes too; 16 bits are rounded to 8, and transparent
        pixels are blended with white.

    Raises
    ------
    ImageError
        If there is no such file, it is a folder, it is no image, it is cut off, or its header
        announces so many pixels that decoding it could exhaust the memory.
    """
    with opened(path) as image:
        return to_rgb(image)


def read_with_alpha(path):
    """Decode an image file as `read` does, and return its transparency too.

    Parameters
    ----------
    path : path-like or binary file object
        As for `read`.

    Returns
    -------
    rgb : ndarray of uint8, shape (height, width, 3)
        As from `read`, but not blended with white.
    alpha : ndarray of uint8, shape (height, width), or None
        Opacity, if the file has any.

    Raises
    ------
    ImageError
        As `read` does.
    """
    with opened(path) as image:
        return _rgb_and_alpha(image)


def to_rgb(image):
    """Decode an opened image file as `read` does.

    Parameters
    ----------
    image : PIL.Image.Image
        From `opened`, not loaded yet.

    Returns
    -------
    ndarray of uint8, shape (height, width, 3)
        sRGB.
    """
    pixels, alpha = _rgb_and_alpha(image)
    return pixels if alpha is None else over_white(np.dstack([pixels, alpha]))


def _rgb_and_alpha(image):
    profile = image.info.get("icc_profile")
    pixels, alpha, transform = decode(image)
    pixels = to_depth(pixels, np.uint8)
    if not transform.srgb:
        pixels = np.asarray(icc.to_srgb(Image.fromarray(pixels), profile))
    elif pixels.ndim == 2:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB)
    alpha = None if alpha is None else np.ascontiguousarray(to_depth(alpha, np.uint8))
    return np.ascontiguousarray(pixels), alpha


def decode(image):
    """Decode an opened image file at its full depth.

    Parameters
    ----------
    image : PIL.Image.Image
        From `opened`, not loaded yet.

    Returns
    -------
    pixels : ndarray of uint8 or uint16, shape (height, width) or (height, width, 3)
        Upright, in the file's own color space where `colorlib.icc` can read it, else sRGB.
    alpha : ndarray of the same dtype, shape (height, width), or None
        Opacity, if there is any.
    transform : colorlib.icc.LightnessTransform
        The conversion from the pixels to L; ``srgb`` is set if the pixels are sRGB.

    Raises
    ------
    ImageError
        If it has a side of more than `LONGEST_SIDE` pixels or 16 bits that can't be read.
    """
    if max(image.size) > LONGEST_SIDE:
        raise ImageError(f"is {max(image.size)} pixels long; cut it first")
    pixels, alpha, transform = _pixels(image)
    # Pillow and OpenCV turn the pixels of TIFF files themselves
    turn = 1 if image.format == "TIFF" else _orientation(image)
    return _upright(pixels, turn), None if alpha is None else _upright(alpha, turn), transform


@contextlib.contextmanager
def opened(path):
    """Open an image file; an error inside the block becomes an `ImageError` that names it.

    Parameters
    ----------
    path : path-like or binary file object

    Yields
    ------
    PIL.Image.Image
        Only its header has been read.

    Raises
    ------
    ImageError
        As `read` does.
    """
    with explained_reading(path):
        is_path = isinstance(path, str | Path)
        if is_path:
            _refuse_pipe(path)
        # given a path, Pillow maps the file into memory, and garbles TIFF files that it turns
        with (
            Path(path).open("rb") if is_path else contextlib.nullcontext(path) as file,
            Image.open(file, formats=_formats(file)) as image,
        ):
            yield image


@contextlib.contextmanager
def explained_reading(path):
    """Turn an error while an image file is read into an `ImageError` that names it."""
    name = path if isinstance(path, str | Path) else getattr(path, "name", path)
    try:
        yield
    except ImageError as error:
        raise ImageError(str(error) if str(name) in str(error) else f"{name}: {error}") from None
    except FileNotFoundError:
        raise ImageError(f"{name}: no such file; check the path") from None
    except IsADirectoryError:
        raise ImageError(f"{name}: is a folder; name the image files inside it") from None
    except PermissionError:
        raise ImageError(f"{name}: may not be read; check its permissions") from None
    except UnidentifiedImageError:
        is_empty = isinstance(path, str | Path) and not Path(path).stat().st_size
        reason = "is empty" if is_empty else "is not an image Pillow can read"
        raise ImageError(f"{name}: {reason}; give a JPEG, PNG, WebP, TIFF or BMP") from None
    except Image.DecompressionBombError:
        limit = BOMB * Image.MAX_IMAGE_PIXELS // 10**6
        raise ImageError(f"{name}: has over {limit} megapixels; make it smaller first") from None
    except MemoryError:
        raise ImageError(f"{name}: takes more memory than there is; make it smaller") from None
    except Exception as error:  # Pillow raises nearly anything on damaged files
        if getattr(error, "errno", None):
            raise ImageError(f"{name}: can't be read ({error.strerror}); get it again") from None
        reason = files.reason(error)
        raise ImageError(f"{name}: is damaged or cut off ({reason}); get it again") from None


def write(path, rgb, quality=95):
    """Write an image atomically: under a temporary name, which is then renamed.

    Parameters
    ----------
    path : path-like
        The ending decides the format.
    rgb : ndarray of uint8, shape (height, width, 3)
        sRGB, 0..255.
    quality : int, default 95
        Quality of JPEG and WebP, 1..100.

    Raises
    ------
    ImageError
        If the ending names no known format or the file can't be written.
    """
    image_format = format_of(path)
    with explained_writing(path), files.replacing(path) as temporary:
        save(Image.fromarray(rgb), temporary, image_format, quality=quality)


def save(image, path, image_format, **options):
    """Let Pillow write a file.

    Parameters
    ----------
    image : PIL.Image.Image
    path : path-like
    image_format : str
        Pillow's name of the format.
    **options
        Options of Pillow's writer for the format.

    Raises
    ------
    OSError, ValueError, struct.error
        If not all of the file can be written, or the format can't hold it.

    Notes
    -----
    Where Pillow writes to a file's descriptor, it does not see that a full disk took only a part.
    So it gets a file without a descriptor. While it encodes a JPEG for such a file it holds
    Python's lock, and other photographs wait: a small one is written to memory instead.
    """
    is_small = image.width * image.height <= IN_MEMORY
    if is_small and image_format == "JPEG" and hasattr(os, "memfd_create"):
        with os.fdopen(os.memfd_create("jpeg"), "w+b") as memory:
            image.save(memory, image_format, **options)
            memory.seek(0)
            data = memory.read()
        if not data.endswith(END_OF_JPEG):  # there is a limit on the size of all files
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        Path(path).write_bytes(data)
    else:
        with _NoDescriptor(io.FileIO(path, "w+")) as file:
            image.save(file, image_format, **options)


class _NoDescriptor(io.BufferedRandom):
    def fileno(self):
        raise io.UnsupportedOperation("fileno")


def format_of(path):
    """Return the format in which a file of this name is written.

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
    suffix = Path(path).suffix.lower()
    if suffix not in EXTENSIONS:
        raise ImageError(f"{path}: unknown ending; use one of {' '.join(EXTENSIONS)}")
    if EXTENSIONS[suffix] == "HEIF":
        _register_heif()
    return EXTENSIONS[suffix]


@contextlib.contextmanager
def explained_writing(path):
    """Turn an error of writing into an `ImageError` that names the file."""
    try:
        yield
    except ImageError:
        raise
    except (OSError, ValueError, MemoryError, struct.error) as error:
        reason = getattr(error, "strerror", None) or error or "out of memory"
        raise ImageError(f"{path}: can't be written ({reason}); choose another place") from None


def to_depth(values, depth):
    """Convert pixels from 8 to 16 bits or back.

    Parameters
    ----------
    values : ndarray of uint8 or uint16
    depth : {np.uint8, np.uint16}

    Returns
    -------
    ndarray of `depth`, same shape
        Rounded to the nearest level; itself if it has that depth.
    """
    if values.dtype == depth:
        return values
    if depth == np.uint16:
        return values.astype(np.uint16) * np.uint16(257)
    # 255 / 65535 in whole numbers: the nearest of 256 levels
    return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)


def over_white(pixels):
    """Blend transparent pixels with white.

    Parameters
    ----------
    pixels : ndarray of uint8 or uint16, shape (height, width, 4)
        sRGB and alpha.

    Returns
    -------
    ndarray of the same dtype, shape (height, width, 3)
    """
    top = np.iinfo(pixels.dtype).max
    rgb = np.empty((*pixels.shape[:2], 3), pixels.dtype)
    rows = max(1, BAND // pixels.shape[1])
    for start in range(0, len(pixels), rows):
        band = pixels[start : start + rows].astype(np.float32)
        opacity = band[..., 3:] / top
        rgb[start : start + rows] = np.rint(band[..., :3] * opacity + top * (1 - opacity))
    return rgb


def is_grey(rgb):
    """Return whether an image has too little color to learn from.

    Parameters
    ----------
    rgb : ndarray of uint8, shape (height, width, 3)
        sRGB.

    Returns
    -------
    bool
        Whether nearly all (99%) of the pixels are grey within `GREY_TOLERANCE`; the rest may be
        JPEG noise.
    """
    red, green, blue = np.moveaxis(rgb, -1, 0)
    # over an axis of length 3, max() would take six times as long
    spread = np.maximum(np.maximum(red, green), blue) - np.minimum(np.minimum(red, green), blue)
    return bool(np.mean(spread <= GREY_TOLERANCE) >= 0.99)


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
    interpolation = cv2.INTER_AREA if size < side else cv2.INTER_CUBIC
    return cv2.resize(middle, (size, size), interpolation=interpolation)


def _pixels(image):
    embedded = image.info.get("icc_profile")
    transform = icc.lightness(embedded) if embedded else icc.srgb()
    if _is_16_bit(image):
        return _deep_pixels(image, embedded, transform)
    image.load()
    if image.mode.startswith(("I", "F")):
        return *_grey(image), transform or icc.srgb()
    alpha = None
    if image.has_transparency_data:
        image = image.convert("RGBA")
        alpha = _array(image.getchannel("A"))
        image = image.convert("RGB")
    if not transform or image.mode == "LAB":
        image, transform = icc.to_srgb(image, embedded), icc.srgb()
    if image.mode not in ("L", "RGB"):
        image = image.convert("L" if image.mode == "1" else "RGB")
    return _array(image), alpha, transform


def _deep_pixels(image, embedded, transform):
    pixels = _read_16_bit(image)
    if pixels is None:
        raise ImageError(
            "its 16 bits can't be read; save it again, uncompressed and with interleaved channels"
        )
    pixels, alpha = pixels[..., :3], pixels[..., 3] if pixels.shape[2] == 4 else None
    if transform:
        return pixels, alpha, transform
    converted = icc.to_srgb(Image.fromarray(to_depth(pixels, np.uint8)), embedded)
    alpha = None if alpha is None else to_depth(alpha, np.uint8)
    return np.asarray(converted), alpha, icc.srgb()


def _array(image):
    if image.width * image.height <= BAND:
        return np.array(image)
    # band by band: Pillow makes several copies of what it hands to NumPy
    bands = len(image.getbands())
    pixels = np.empty((image.height, image.width, bands)[: 2 + (bands > 1)], np.uint8)
    rows = max(1, BAND // image.width)
    for top in range(0, image.height, rows):
        box = (0, top, image.width, min(top + rows, image.height))
        pixels[top : top + rows] = np.asarray(image.crop(box))
    return pixels


def _grey(image):
    values = np.asarray(image)
    tags = getattr(image, "tag_v2", {})
    if values.dtype != np.uint16:
        values = _as_16_bits(values)
    elif tags.get(BITS_PER_SAMPLE) == (12,):
        values = values << 4 | values >> 8
    if tags.get(PHOTOMETRIC) == WHITE_IS_ZERO:
        values = 65535 - values
    clear, alpha = image.info.get("transparency"), None
    if isinstance(clear, int):
        alpha = np.where(values == clear, 0, 65535).astype(np.uint16)
    return values, alpha


# A 32-bit file does not say which value is white: take the smallest usual one that is enough.
def _as_16_bits(values):
    if values.dtype == np.int32 and values.min() < 0:
        values = values.view(np.uint32)
    whites = (1, 255, 65535) if values.dtype.kind == "f" else (255, 65535, 2**32 - 1)
    values = np.nan_to_num(values.astype(np.float64), posinf=0, neginf=0)
    white = next((white for white in whites if values.max() <= white), values.max())
    return (np.clip(values / white, 0, 1) * 65535).round().astype(np.uint16)


def _upright(pixels, orientation):
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels


# Pillow would wait for ever for a pipe or a device.
def _refuse_pipe(path):
    if not stat.S_ISREG(mode := Path(path).stat().st_mode):
        if stat.S_ISDIR(mode):
            raise IsADirectoryError
        raise ImageError(f"{path}: is no file but a pipe or a device; name an image file")


# What a file may be, by its first bytes: HEIF, whose library starts slowly, only if they say so.
def _formats(file):
    file.seek(0)
    if file.read(8)[4:] != b"ftyp":
        return [name for name in FORMATS if name != "HEIF"]
    _register_heif()
    return FORMATS


@functools.cache
def _register_heif():
    import pillow_heif

    pillow_heif.register_heif_opener()


# EXIF's orientation, 1 to 8; 1, which is upright, if the value is missing or invalid.
def _orientation(image):
    value = attempt(lambda: image.getexif().get(ExifTags.Base.Orientation), 1)
    return value if value in range(1, 9) else 1


def page_numbers(image):
    """List the numbers by which Pillow finds a file's pages or frames.

    Parameters
    ----------
    image : PIL.Image.Image
        As Pillow opened it; the current page stays the same.

    Returns
    -------
    sequence of int
        The number of the current page comes first. It is the only one if the pages can't be
        counted, in an MPO file, whose others are views of the same photograph, and in a TIFF file
        whose others are masks or smaller copies of the first page. The file may
        say that it has millions of frames.
    """
    start = image.tell()
    if image.format == "MPO":
        return [start]
    info = dict(image.info)
    count = attempt(lambda: getattr(image, "n_frames", 1), 1)
    if image.format != "TIFF" and start == 0:
        return range(count)
    numbers = [number for number in range(count) if number != start]
    if image.format == "TIFF" and numbers:
        numbers = attempt(lambda: [k for k in numbers if _is_page(image, k)], [])
        turn_to(image, start)
        image.info.update(info)
    return [start, *numbers]


def turn_to(image, number):
    """Go to a page of a file, and drop what Pillow would keep from the page before.

    Parameters
    ----------
    image : PIL.Image.Image
    number : int
        From `page_numbers`.
    """
    if image.format == "TIFF":
        image.info.clear()  # profile and resolution would stay
    image.seek(number)


# Bits of TIFF 6.0's NewSubfileType: a smaller copy of another page, and a transparency mask.
def _is_page(image, number):
    image.seek(number)
    return not image.tag_v2.get(SUBFILE, 0) & 0b101


def attempt(read, otherwise=None):
    """Return what `read` returns, or `otherwise` if it fails on a damaged file."""
    try:
        return read()
    except Exception:  # Pillow raises nearly anything on damaged tags
        return otherwise


# Whether a file, not loaded yet, holds color, or grey with transparency, in 16 bits per channel:
# Pillow would load 8 bits. (Grey alone it loads in 16.) The frames of an animation are drawn over
# each other, which only Pillow does.
def _is_16_bit(image):
    animated = image.format == "PNG" and image.is_animated
    if image.mode not in ("RGB", "RGBA", "LA") or animated:
        return False
    if image.format == "PNG":
        return any("16" in str(tile.args) for tile in image.tile)
    return image.format == "TIFF" and set(image.tag_v2.get(BITS_PER_SAMPLE, ())) == {16}


# The current page of such a file, (height, width, 3 or 4), as stored; upright if it is a TIFF file.
# None if OpenCV can't read it in 16 bits or would mix its channels up.
def _read_16_bit(image):
    if image.format == "TIFF" and image.tag_v2.get(PLANES) == PLANAR:
        return None
    pixels = _page(image.fp, image.tell())
    if pixels is None or pixels.dtype != np.uint16 or pixels.ndim != 3:
        return None
    order = cv2.COLOR_BGRA2RGBA if pixels.shape[2] == 4 else cv2.COLOR_BGR2RGB
    return cv2.cvtColor(pixels, order)


# The file is mapped into memory, so that only the parts of this page are read.
def _page(file, number):
    try:
        data = np.memmap(file, np.uint8, "r")
    except OSError:  # the file is in memory already
        file.seek(0)
        data = np.frombuffer(file.read(), np.uint8)
    if not number:
        return cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    found, pages = cv2.imdecodemulti(data, cv2.IMREAD_UNCHANGED, range=(number, number + 1))
    return pages[0] if found else None
