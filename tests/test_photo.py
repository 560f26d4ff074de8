"""A photograph is read and written with its metadata."""

import io
import re
import struct

import numpy as np
import odd_files
import pytest
import tifffile
from PIL import ExifTags, Image, PngImagePlugin
from test_icc import ADOBE

from colorlib import icc, images, samples
from colorlib.photos import metadata, photo

FORMATS = ["jpg", "png", "tif", "webp", "avif", "heic"]
RGB = samples.square("coffee", 64)


def exif(**also):
    """Make EXIF as a camera does: turned by 90 degrees, with a place and exposure."""
    tags = Image.Exif()
    tags[ExifTags.Base.Make] = "Leitz"
    tags[ExifTags.Base.Artist] = "Grandmother"
    tags[ExifTags.Base.Orientation] = also.get("orientation", 6)
    tags.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.ExposureTime] = 0.008
    tags.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.ColorSpace] = 65535
    tags.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitudeRef] = "N"
    return tags.tobytes()


def passed(tmp_path, name, pixels=None, **options):
    """Save a file with Pillow, read it and write it as a photograph; return both files opened."""
    source, target = tmp_path / f"in.{name}", tmp_path / f"out.{name}"
    Image.fromarray(RGB if pixels is None else pixels).save(source, **options)
    photograph = photo.read(source)
    new = np.dstack([photograph.pixels, photograph.alpha]) if photograph.alpha is not None else None
    new = photograph.pixels if new is None else new
    assert photo.write(target, np.ascontiguousarray(new), photograph.profile, photograph.kept)
    return photograph, in_memory(target)


def in_memory(path):
    """Open a file so that it need not be closed."""
    return Image.open(io.BytesIO(path.read_bytes()))


@pytest.mark.parametrize("name", FORMATS)
def test_exif_stays_and_the_orientation_is_applied(tmp_path, name):
    image_exif = exif(orientation=1) if name == "heic" else exif()
    photograph, out = passed(tmp_path, name, RGB[:48], exif=image_exif, quality=95)
    turned = RGB[:48] if name == "heic" else np.rot90(RGB[:48], -1)
    assert np.abs(photograph.pixels.astype(int) - turned).mean() < 6
    tags = out.getexif()
    assert tags[ExifTags.Base.Make] == "Leitz" and tags[ExifTags.Base.Artist] == "Grandmother"
    assert tags.get(ExifTags.Base.Orientation, 1) == 1
    exposure = tags.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.ExposureTime]
    assert float(exposure) == pytest.approx(0.008)
    assert tags.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitudeRef] == "N"


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation(tmp_path, orientation):
    path = tmp_path / "x.png"
    Image.fromarray(RGB[:40]).save(path, exif=exif(orientation=orientation))
    np.testing.assert_array_equal(photo.read(path).pixels, images.read(path))


def exif_of_bytes(text):
    """Make EXIF with an artist, and an offset of time that Pillow has no type for."""
    count = struct.pack("<H", 1)
    artist = struct.pack("<HHII", 315, 2, len(text) + 1, 38)
    pointer = struct.pack("<HHII", 0x8769, 4, 1, 39 + len(text))
    offset = struct.pack("<HHII", 0x9010, 2, len(text) + 1, 57 + len(text))
    first = b"II*\0\x08\0\0\0" + struct.pack("<H", 2) + artist + pointer + bytes(4)
    return b"Exif\0\0" + first + text + b"\0" + count + offset + bytes(4) + text + b"\0"


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
@pytest.mark.parametrize("source", ["jpg", "tif"])
@pytest.mark.parametrize("name", [*FORMATS, "deep.png", "deep.tif"])
def test_text_outside_ascii_keeps_its_bytes(tmp_path, source, name, encoding):
    text = "Müller ©".encode(encoding)
    Image.fromarray(RGB).save(tmp_path / "in.jpg", exif=exif_of_bytes(text))
    if source == "tif":
        tags = [(315, 2, len(text) + 1, text + b"\0", True)]
        tifffile.imwrite(tmp_path / "in.tif", RGB, photometric="rgb", metadata=None, extratags=tags)
    kept = photo.read(tmp_path / f"in.{source}").kept
    pixels = RGB.astype(np.uint16) * 257 if name.startswith("deep") else RGB
    assert photo.write(tmp_path / f"out.{name}", pixels, None, kept)
    with Image.open(tmp_path / f"out.{name}") as image:
        tags = image.getexif()
        assert tags[ExifTags.Base.Artist].encode("latin-1") == text
        if source == "jpg":
            offset = tags.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.OffsetTime]
            assert offset.encode("latin-1") == text


@pytest.mark.parametrize("name", FORMATS)
def test_profiles(tmp_path, name):
    for profile, expected in ((ADOBE, icc.srgb_profile()), (None, None)):
        options = {"icc_profile": profile, "exif": exif(orientation=1)} if profile else {}
        photograph, out = passed(tmp_path, name, **options)
        assert photograph.transform.srgb == (profile is None)
        assert out.info.get("icc_profile") == expected
        if profile:
            words = out.getexif().get_ifd(ExifTags.IFD.Exif)
            assert words[ExifTags.Base.ColorSpace] == 1, "it still says: not sRGB"
    _, out = passed(tmp_path, name, icc_profile=icc.srgb_profile())
    assert out.info["icc_profile"] == icc.srgb_profile()


@pytest.mark.parametrize("name", FORMATS)
def test_xmp_is_kept_with_a_corrected_orientation(tmp_path, name):
    xmp = b'<x:xmpmeta><rdf tiff:Orientation="6" dc:title="Summer"/></x:xmpmeta>'
    options = {"xmp": xmp}
    if name == "png":
        options = {"pnginfo": PngImagePlugin.PngInfo()}
        options["pnginfo"].add_itxt("XML:com.adobe.xmp", xmp.decode())
    elif name == "tif":
        options = {"tiffinfo": {700: xmp}}
    _, out = passed(tmp_path, name, **options)
    found = out.info.get("xmp") or out.info["XML:com.adobe.xmp"].encode()
    assert b'tiff:Orientation="6"' not in found and b"Summer" in found


@pytest.mark.parametrize("name", ["jpg", "png", "tif", "bmp"])
def test_pixels_per_inch(tmp_path, name):
    _, out = passed(tmp_path, name, dpi=(300, 300))
    assert out.info["dpi"] == pytest.approx((300, 300), rel=1e-3)


def test_texts_and_comments(tmp_path):
    info = PngImagePlugin.PngInfo()
    info.add_text("Title", "Sommer 1931")
    _, out = passed(tmp_path, "png", pnginfo=info)
    assert out.text["Title"] == "Sommer 1931"
    _, out = passed(tmp_path, "jpg", comment=b"Box 7")
    assert out.info["comment"] == b"Box 7"


def test_16_bit_files_keep_their_words_too(tmp_path):
    deep = samples.square("coffee", 32).astype(np.uint16) * 257
    xmp = b"<x:xmpmeta>words</x:xmpmeta>"
    source = tmp_path / "in.png"
    Image.fromarray(RGB).save(source, exif=exif())
    kept = {**photo.read(source).kept, "xmp": xmp, "dpi": (600.0, 600.0)}
    for name in ("x.png", "x.tif"):
        photo.write(tmp_path / name, deep, ADOBE, kept)
        again = photo.read(tmp_path / name)
        np.testing.assert_array_equal(again.pixels, deep)
        assert again.kept["xmp"] == xmp and again.kept["dpi"] == pytest.approx((600, 600), rel=1e-3)
        tags = in_memory(tmp_path / name).getexif()
        assert tags[ExifTags.Base.Make] == "Leitz"
        assert ExifTags.Base.ExposureTime in tags.get_ifd(ExifTags.IFD.Exif)
        assert not again.transform.srgb


def test_16_bit_pixels_come_at_full_depth(tmp_path):
    for name in ("grey16.png", "grey16.tif", "color16.png", "color16.tif", "alpha16.png"):
        (tmp_path / name).write_bytes(odd_files.ODD[name])
        photograph = photo.read(tmp_path / name)
        expected = odd_files.GREY16 if "grey" in name else odd_files.RGB16[..., ::-1]
        np.testing.assert_array_equal(photograph.pixels, expected)
        assert (photograph.alpha is not None) == ("alpha" in name)
    np.testing.assert_array_equal(photograph.alpha, odd_files.GREY16)


def test_whole_numbers_of_32_bits_and_negatives(tmp_path):
    for name, expected in (
        ("negative16.tif", 65535 - odd_files.GREY16),
        ("whole32.tif", odd_files.GREY16),
    ):
        (tmp_path / name).write_bytes(odd_files.ODD[name])
        np.testing.assert_array_equal(photo.read(tmp_path / name).pixels, expected)


@pytest.mark.parametrize("name", ["jpg", "bmp"])
def test_where_there_is_no_alpha_it_is_laid_over_white(tmp_path, name):
    clear = np.dstack([RGB, np.zeros(RGB.shape[:2], np.uint8)])
    photo.write(tmp_path / f"x.{name}", clear)
    assert (images.read(tmp_path / f"x.{name}") == 255).all()


def test_damaged_words_are_left_out(tmp_path):
    kept = {"exif": b"Exif\0\0II*\0" + b"\xff" * 70_000, "dpi": (72.0, 72.0)}
    assert not photo.write(tmp_path / "x.jpg", RGB, None, kept)
    assert images.read(tmp_path / "x.jpg").shape == RGB.shape
    image = in_memory(tmp_path / "x.jpg")
    image.getexif = lambda: 1 / 0
    image.info = {"xmp": 7, "dpi": "no", "comment": None}
    assert metadata.collect(image) == {} and images._orientation(image) == 1


def test_the_layout_of_a_tiff_file_is_not_carried_over(tmp_path):
    settings = {"compression": "tiff_lzw", "tiffinfo": {271: "Leitz", 317: 2}}
    Image.fromarray(RGB).save(tmp_path / "x.tif", **settings)
    words = Image.Exif()
    words.load(photo.read(tmp_path / "x.tif").kept["exif"])
    assert dict(words) == {271: "Leitz"}


def test_the_preview_is_not_carried_over(tmp_path):
    path = tmp_path / "x.jpg"
    Image.fromarray(RGB).save(path, exif=exif())
    data = path.read_bytes()
    assert b"\xff\xd8" not in photo.read(path).kept["exif"] and data.count(b"Leitz") == 1


def test_writing_is_all_or_nothing(tmp_path):
    for name in ("nowhere/x.png", "x.xyz"):
        with pytest.raises(images.ImageError, match=re.escape(str(tmp_path / name))):
            photo.write(tmp_path / name, RGB)
    with pytest.raises(images.ImageError, match="can't be written"):
        photo.write(tmp_path / "x.webp", np.zeros((2, 20_000, 3), np.uint8))
    assert not list(tmp_path.iterdir())
