"""Color in 16 bits, which Pillow has no pixels for: PNG and TIFF files in and out.

Not here: files of 8 bits per channel (`colorlib.photographs`), though a TIFF file of those is
written here too, since it takes the same tags. Reading is OpenCV's, for pixels alone; PNG's chunks
are those of its specification (third edition, section 11), TIFF's tags those of TIFF 6.0.
"""

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, TiffImagePlugin

from colorlib import metadata

BITS_PER_SAMPLE = TiffImagePlugin.BITSPERSAMPLE
PHOTOMETRIC = TiffImagePlugin.PHOTOMETRIC_INTERPRETATION
PLANES = TiffImagePlugin.PLANAR_CONFIGURATION
"""Tags of TIFF."""

WHITE_IS_ZERO, APART = 0, 2
"""Values of the latter two: negatives, and a plane for each channel, which OpenCV mixes up."""

SIGNATURE_AND_HEADER = 33
"""Bytes of a PNG file up to the end of its first chunk, behind which the others may stand."""

STRIP = 2**20
"""Bytes of a TIFF file's strip, about."""

LARGEST_TIFF = 2**32
"""Bytes that a TIFF file's offsets can count."""

HEADER, LINK = 8, 4
"""Bytes of a TIFF file's header, and where in it stands where the first page's directory is."""


def is_deep(image):
    """Say whether a file holds color, or grey with transparency, in 16 bits per channel.

    Parameters
    ----------
    image : PIL.Image.Image
        As Pillow opened it, not loaded yet: it would give 8 bits. (Grey alone in 16 bits it does
        hold.)

    Returns
    -------
    bool
        Of an animation False: its frames are laid over each other, which only Pillow does.
    """
    animated = image.format == "PNG" and image.is_animated
    if image.mode not in ("RGB", "RGBA", "LA") or animated:
        return False
    if image.format == "PNG":
        return any("16" in str(tile.args) for tile in image.tile)
    return image.format == "TIFF" and set(image.tag_v2.get(BITS_PER_SAMPLE, ())) == {16}


def read(image):
    """Read the pixels of such a file.

    Parameters
    ----------
    image : PIL.Image.Image
        As Pillow opened it, not loaded yet; of several pages that where it stands.

    Returns
    -------
    ndarray of uint16, shape (height, width, 3 or 4), or None
        RGB or RGBA as they are stored, without a profile applied; a TIFF file's are upright.
        None if OpenCV can't read it, or not in 16 bits, or mixes its channels up.
    """
    if image.format == "TIFF" and image.tag_v2.get(PLANES) == APART:
        return None
    pixels = _page(image.fp, image.tell())
    if pixels is None or pixels.dtype != np.uint16 or pixels.ndim != 3:
        return None
    order = cv2.COLOR_BGRA2RGBA if pixels.shape[2] == 4 else cv2.COLOR_BGR2RGB
    return cv2.cvtColor(pixels, order)


def write_png(path, pixels, profile=None, kept=None):
    """Write a PNG file of 16 bits per channel.

    Parameters
    ----------
    path : path-like
    pixels : ndarray of uint16, shape (height, width, 3 or 4)
        RGB or RGBA.
    profile : bytes, optional
        An ICC profile.
    kept : dict, optional
        From `metadata.collect`.
    """
    kept = kept or {}
    order = cv2.COLOR_RGBA2BGRA if pixels.shape[2] == 4 else cv2.COLOR_RGB2BGR
    _, encoded = cv2.imencode(".png", cv2.cvtColor(pixels, order))
    chunks = []
    if profile:
        chunks.append((b"iCCP", b"ICC profile\0\0" + zlib.compress(profile)))
    if "dpi" in kept:
        per_metre = [round(dpi / 0.0254) for dpi in kept["dpi"]]
        chunks.append((b"pHYs", struct.pack(">IIB", *per_metre, 1)))
    if "exif" in kept:
        chunks.append((b"eXIf", kept["exif"].removeprefix(b"Exif\0\0")))
    texts = {name: text.encode() for name, text in kept.get("texts", {}).items()}
    if "xmp" in kept:
        texts["XML:com.adobe.xmp"] = kept["xmp"]
    for name, text in texts.items():
        chunks.append((b"iTXt", name.encode("latin-1", "replace") + b"\0\0\0\0\0" + text))
    with Path(path).open("wb") as file:
        file.write(encoded[:SIGNATURE_AND_HEADER])
        for kind, data in chunks:
            file.write(struct.pack(">I", len(data)) + kind + data)
            file.write(struct.pack(">I", zlib.crc32(kind + data)))
        file.write(encoded[SIGNATURE_AND_HEADER:])


def write_tiff(path, pages):
    """Write a TIFF file, uncompressed.

    Parameters
    ----------
    path : path-like
    pages : iterable
        Of each page its pixels (ndarray of uint8 or uint16, shape (height, width, 3 or 4), RGB or
        RGBA), its ICC profile (bytes or None) and what `metadata.collect` found. Each is written
        before the next one is asked for.

    Raises
    ------
    ValueError
        If they take over 4 GB, more than a TIFF file can have.
    """
    with Path(path).open("w+b") as file:
        link = LINK
        for page in pages:
            file.seek(0, 2)
            start = file.tell() or HEADER
            _write_page(file, *page)
            if file.tell() >= LARGEST_TIFF:
                raise ValueError("over 4 GB do not fit into a TIFF file; split it")
            file.seek(link)
            file.write(struct.pack("<I", start))
            file.seek(start)
            link = start + 2 + 12 * struct.unpack("<H", file.read(2))[0]


def _write_page(file, pixels, profile, kept):
    height, width, channels = pixels.shape
    row = width * channels * pixels.itemsize
    rows = max(1, STRIP // row)
    sizes = [row * min(rows, height - top) for top in range(0, height, rows)]
    directory = TiffImagePlugin.ImageFileDirectory_v2(b"II\x2a\x00\x08\x00\x00\x00")
    _describe(directory, profile, kept)
    layout = {
        TiffImagePlugin.IMAGEWIDTH: width,
        TiffImagePlugin.IMAGELENGTH: height,
        BITS_PER_SAMPLE: (8 * pixels.itemsize,) * channels,
        TiffImagePlugin.COMPRESSION: 1,
        PHOTOMETRIC: 2,
        TiffImagePlugin.SAMPLESPERPIXEL: channels,
        TiffImagePlugin.ROWSPERSTRIP: rows,
        TiffImagePlugin.STRIPOFFSETS: tuple(int(x) for x in np.cumsum([0, *sizes[:-1]])),
        TiffImagePlugin.STRIPBYTECOUNTS: tuple(sizes),
    }
    if channels == 4:
        layout[TiffImagePlugin.EXTRASAMPLES] = 2
    for tag, value in layout.items():
        directory[tag] = value
    directory.save(file)
    for top in range(0, height, rows):
        file.write(np.ascontiguousarray(pixels[top : top + rows], pixels.dtype.newbyteorder("<")))
    file.write(bytes(file.tell() % 2))  # a directory begins at an even place


# Mapped, not read: of a large file with many pages only what belongs to this one is in memory.
def _page(file, number):
    try:
        data = np.memmap(file, np.uint8, "r")
    except OSError:  # it is in memory already
        file.seek(0)
        data = np.frombuffer(file.read(), np.uint8)
    if not number:
        return cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    found, pages = cv2.imdecodemulti(data, cv2.IMREAD_UNCHANGED, range=(number, number + 1))
    return pages[0] if found else None


def _describe(directory, profile, kept):
    if "exif" in kept:
        exif = Image.Exif()
        exif.load(kept["exif"])
        for tag in exif:
            group = exif.get_ifd(tag) if tag in TiffImagePlugin.TiffTags.TAGS_V2_GROUPS else None
            directory[tag] = metadata.preserved(group or exif[tag])
    if "dpi" in kept:
        directory[TiffImagePlugin.RESOLUTION_UNIT] = 2
        directory[TiffImagePlugin.X_RESOLUTION], directory[TiffImagePlugin.Y_RESOLUTION] = kept[
            "dpi"
        ]
    if "xmp" in kept:
        directory[TiffImagePlugin.XMP] = kept["xmp"]
    if profile:
        directory[TiffImagePlugin.ICCPROFILE] = profile
