"""Odd and hostile image files: each is made by a function, and named with what it has to get."""

import io
import os
import struct
import zlib

import cv2
import numpy as np
import pillow_heif
import tifffile
from PIL import Image, ImageCms, PngImagePlugin

from colorlib import samples

pillow_heif.register_heif_opener()

RGB = samples.square("chelsea", 48)
RGBA = np.dstack([RGB, RGB[::-1, :, 0]])
GREY16 = np.linspace(0, 65535, 48 * 40).astype(np.uint16).reshape(48, 40)
RGB16 = cv2.merge([GREY16, GREY16[::-1], GREY16[:, ::-1]])


def saved(image, image_format, **options):
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def array(values, image_format, **options):
    return saved(Image.fromarray(values), image_format, **options)


def cv(values, suffix):
    return cv2.imencode(suffix, values)[1].tobytes()


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, *chunks, depth=8, color=0):
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0))
    end = chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunk(*x) for x in chunks) + end


def with_chunk(kind, data):
    plain = array(RGB, "PNG")
    return plain[:33] + chunk(kind, data) + plain[33:]


def bad_exif_jpeg(exif):
    plain = array(RGB, "JPEG")
    segment = b"\xff\xe1" + struct.pack(">H", len(exif) + 8) + b"Exif\0\0" + exif
    return plain[:2] + segment + plain[2:]


def looping_exif():
    # an EXIF directory whose Exif pointer is itself, and whose next directory is itself
    entry = struct.pack("<HHII", 0x8769, 4, 1, 8)
    return b"II*\0\x08\0\0\0" + struct.pack("<H", 1) + entry + struct.pack("<I", 8)


def long_text():
    info = PngImagePlugin.PngInfo()
    info.add_text("Comment", "x" * 500_000, zip=True)
    return array(RGB, "PNG", pnginfo=info)


def text_bomb():
    info = PngImagePlugin.PngInfo()
    info.add_text("Comment", "x" * 80_000_000, zip=True)
    return array(RGB, "PNG", pnginfo=info)


def frames(image_format):
    others = [Image.fromarray(RGB[::-1])]
    return saved(Image.fromarray(RGB), image_format, save_all=True, append_images=others)


def many_frames():
    plain = frames("PNG")
    where = plain.index(b"acTL")
    end = where + 12  # the chunk's number of frames and of plays, then its checksum
    told = b"acTL" + struct.pack(">I", 2**24) + plain[where + 8 : end]
    return plain[:where] + told + struct.pack(">I", zlib.crc32(told)) + plain[end + 4 :]


def lying_tiff():
    data = bytearray(array(RGB, "TIFF"))
    where = data.index(struct.pack("<HHI", 273, 4, 1))  # where its pixels begin
    data[where + 8 : where + 12] = struct.pack("<I", 2**31)
    return bytes(data)


def tiff(values, **options):
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, values, **options)
    return buffer.getvalue()


def enormous_jpeg():
    plain = array(RGB, "JPEG")
    where = plain.index(b"\xff\xc0") + 5
    return plain[:where] + b"\xff\xdc\xff\xdc" + plain[where + 4 :]


def floats():
    values = np.linspace(0, 1, RGB[..., 0].size, dtype=np.float32).reshape(RGB.shape[:2])
    values[0, 0], values[0, 1] = np.nan, np.inf
    return array(values, "TIFF")


def lab():
    source, target = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    return saved(
        ImageCms.profileToProfile(Image.fromarray(RGB), source, target, outputMode="LAB"), "TIFF"
    )


JPEG, PNG = array(RGB, "JPEG"), array(RGB, "PNG")

ODD = {
    "one_pixel.png": array(RGB[:1, :1], "PNG"),
    "seven_by_three.jpg": array(RGB[:3, :7], "JPEG"),
    "three_by_4000.png": array(np.tile(RGB[:, :3], (84, 1, 1))[:4000], "PNG"),
    "4000_by_three.webp": array(np.tile(RGB[:3], (1, 84, 1))[:, :4000], "WEBP"),
    "bilevel.png": saved(Image.fromarray(RGB).convert("1"), "PNG"),
    "grey.jpg": array(RGB[..., 1], "JPEG"),
    "grey_alpha.png": saved(Image.fromarray(RGB).convert("LA"), "PNG"),
    "palette_clear.png": saved(Image.fromarray(RGB).quantize(9), "PNG", transparency=3),
    "palette.gif": saved(Image.fromarray(RGB).quantize(99), "GIF"),
    "moving.gif": frames("GIF"),
    "moving.webp": frames("WEBP"),
    "moving.png": frames("PNG"),
    "many_frames.png": many_frames(),
    "pages.tif": frames("TIFF"),
    "two_in_one.jpg": frames("MPO"),
    "alpha.webp": array(RGBA, "WEBP"),
    "alpha.tif": array(RGBA, "TIFF"),
    "alpha.bmp": array(RGBA, "BMP"),
    "alpha.avif": array(RGBA, "AVIF"),
    "alpha.heic": array(RGBA, "HEIF"),
    "cmyk.jpg": saved(Image.fromarray(RGB).convert("CMYK"), "JPEG"),
    "cmyk.tif": saved(Image.fromarray(RGB).convert("CMYK"), "TIFF"),
    "lab.tif": lab(),
    "ycbcr.tif": saved(Image.fromarray(RGB).convert("YCbCr"), "TIFF"),
    "float_nan.tif": floats(),
    "int32.tif": array(GREY16.astype(np.int32), "TIFF"),
    "grey16.png": array(GREY16, "PNG"),
    "grey16.tif": array(GREY16, "TIFF"),
    "negative16.tif": tiff(GREY16, photometric="miniswhite"),
    "whole32.tif": tiff(GREY16.astype(np.uint32) * 65537, photometric="minisblack"),
    "color16_tiles.tif": tiff(RGB16, photometric="rgb", tile=(16, 16)),
    "color16_big_end.tif": tiff(RGB16, photometric="rgb", byteorder=">"),
    "color16_pages.tif": tiff(np.stack([RGB16] * 2), photometric="rgb"),
    "color16.png": cv(RGB16, ".png"),
    "color16.tif": cv(RGB16, ".tiff"),
    "alpha16.png": cv(cv2.merge([RGB16, GREY16]), ".png"),
    "cast.jpg": array((RGB * [1, 0.8, 0.5]).astype(np.uint8), "JPEG"),
    "photo.avif": array(RGB, "AVIF"),
    "photo.heic": array(RGB, "HEIF"),
    "jpeg_named.png": JPEG,
    "exif_garbage.jpg": bad_exif_jpeg(b"II*\0garbage" * 9),
    "exif_loop.jpg": bad_exif_jpeg(looping_exif()),
    "exif_short.png": with_chunk(b"eXIf", b"MM"),
    "profile_garbage.jpg": array(RGB, "JPEG", icc_profile=b"no profile" * 40),
    "profile_cut.png": array(RGB, "PNG", icc_profile=b"\0" * 16 + b"RGB XYZ " + b"\0" * 110),
    "profile_of_grey.jpg": array(RGB, "JPEG", icc_profile=b"\0" * 16 + b"GRAYXYZ " + b"\xff" * 200),
    "dpi_zero.png": with_chunk(b"pHYs", struct.pack(">IIB", 0, 0, 1)),
    "xmp_garbage.webp": array(RGB, "WEBP", xmp=b"\xff\xfe<x:xmpmeta"),
    "long_text.png": long_text(),
    "junk_behind.jpg": JPEG + b"PK\x03\x04" + b"\0" * 999,
    "spaces and ünïcödé 写真.jpg": JPEG,
    "-dash.jpg": JPEG,
    "UPPER.JPG": JPEG,
    "new\nline.jpg": JPEG,
}
"""Name -> bytes of files that are colored."""

HOSTILE = {
    "empty.jpg": (b"", "is empty"),
    "text.png": (b"no image", "is not an image"),
    "page.jpg": (b"<!doctype html><title>404</title>", "is not an image"),
    "postscript.png": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "is not an image"),
    "vector.png": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "is not an image"),
    "cut.jpg": (JPEG[: len(JPEG) // 2], "is damaged"),
    "cut.png": (PNG[: len(PNG) // 2], "is damaged"),
    "header_only.png": (png(40, 40), "is damaged"),
    "bomb.png": (png(60_000, 60_000, (b"IDAT", zlib.compress(b"\0" * 99))), "megapixels"),
    "no_width.png": (png(0, 40, (b"IDAT", zlib.compress(b"\0" * 99))), "is "),
    "long_side.png": (png(2**20, 1, (b"IDAT", zlib.compress(bytes(2**20 + 1)))), "pixels long"),
    "bomb.jpg": (enormous_jpeg(), "megapixels"),
    "lying.tif": (lying_tiff(), "is damaged"),
    "cut16.png": (cv(RGB16, ".png")[:-20], "16 bits"),
    "apart16.tif": (
        tiff(np.moveaxis(RGB16, -1, 0), photometric="rgb", planarconfig="separate"),
        "interleaved channels",
    ),
    "cut.heic": (array(RGB, "HEIF")[:400], "is "),
    "cut.avif": (array(RGB, "AVIF")[:400], "is "),
    "text_bomb.png": (text_bomb(), "is "),
    "photo.psd": (b"8BPS\0\x01" + b"\0" * 99, "is not an image"),
}
"""Name -> bytes of files that are refused, and a part of the reason."""


def pipe(folder):
    """Make a pipe that nobody writes to, under the name of a photograph."""
    os.mkfifo(folder / "pipe.jpg")
    return folder / "pipe.jpg"
