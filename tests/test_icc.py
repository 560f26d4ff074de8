"""L from a file's own color space, at full depth, compared with LittleCMS."""

import io
import struct

import numpy as np
import pytest
from PIL import Image, ImageCms
from skimage.color import rgb2lab

from colorlib import colorspace, icc, samples

ADOBE_MATRIX = [[0.6097, 0.2053, 0.1492], [0.3111, 0.6257, 0.0632], [0.0195, 0.0609, 0.7446]]
"""Adobe RGB (1998), adapted to D50."""


def fixed(*values):
    return b"".join(struct.pack(">i", round(value * 65536)) for value in values)


def profile(kind, curves, matrix=None):
    """Make an ICC profile of curves and a matrix."""
    tags = {b"wtpt": b"XYZ \0\0\0\0" + fixed(0.9642, 1, 0.8249)}
    if kind == b"GRAY":
        tags[b"kTRC"] = curves[0]
    else:
        for name, curve, column in zip("rgb", curves, np.transpose(matrix), strict=True):
            tags[name.encode() + b"TRC"] = curve
            tags[name.encode() + b"XYZ"] = b"XYZ \0\0\0\0" + fixed(*column)
    table, body = b"", b""
    for name, data in tags.items():
        table += struct.pack(">4sII", name, 132 + 12 * len(tags) + len(body), len(data))
        body += data + b"\0" * (-len(data) % 4)
    rest = struct.pack(">I", len(tags)) + table + body
    header = struct.pack(">I4sI4s4s4s", 128 + len(rest), b"", 0x02400000, b"mntr", kind, b"XYZ ")
    header += bytes(12) + b"acsp" + bytes(28) + fixed(0.9642, 1, 0.8249) + bytes(48)
    return header + rest


def gamma(value):
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(value * 256))


def parametric(number, *values):
    return b"para\0\0\0\0" + struct.pack(">HH", number, 0) + fixed(*values)


ADOBE = profile(b"RGB ", [gamma(2.2)] * 3, ADOBE_MATRIX)
SRGB_CURVE = parametric(3, 2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)


def lightness_by_littlecms(image, data):
    source, target = ImageCms.ImageCmsProfile(io.BytesIO(data)), ImageCms.createProfile("LAB")
    lab = ImageCms.profileToProfile(image, source, target, renderingIntent=1, outputMode="LAB")
    return np.asarray(lab.getchannel(0)) / 2.55


def test_srgb_is_skimages(rng):
    rgb = rng.integers(0, 256, (40, 50, 3)).astype(np.uint8)
    np.testing.assert_allclose(icc.srgb()(rgb), rgb2lab(rgb)[..., 0], atol=1e-3)


def test_16_bit_levels_stay_apart_and_come_back():
    grey = np.arange(65536, dtype=np.uint16)[None]
    lightness = icc.srgb()(grey)
    assert (np.diff(lightness[0]) > 0).all()
    lab = np.zeros((1, 65536, 3), np.float32)
    lab[..., 0] = lightness
    np.testing.assert_array_equal(colorspace.lab_to_rgb16(lab), np.repeat(grey[..., None], 3, -1))


@pytest.mark.parametrize(
    "data",
    [
        ADOBE,
        profile(b"RGB ", [parametric(0, 1.8)] * 3, ADOBE_MATRIX),
        profile(b"RGB ", [parametric(1, 2.0, 0.9, 0.1)] * 3, ADOBE_MATRIX),
        profile(b"RGB ", [parametric(4, 2.4, 0.95, 0.05, 0.08, 0.04, 0.0, 0.0)] * 3, ADOBE_MATRIX),
        icc.srgb_profile(),
    ],
    ids=["adobe", "power", "shifted", "cut", "srgb"],
)
def test_rgb_profiles_are_littlecms(data):
    rgb = samples.square("coffee", 96)
    expected = lightness_by_littlecms(Image.fromarray(rgb), data)
    assert np.abs(icc.lightness(data)(rgb) - expected).max() < 1.5


def test_grey_profiles():
    curve = np.linspace(0, 1, 33) ** 3
    table = b"curv\0\0\0\0" + struct.pack(">I", 33) + (curve * 65535).astype(">u2").tobytes()
    grey = np.arange(256, dtype=np.uint8)[None]
    lightness = icc.lightness(profile(b"GRAY", [table]))(grey)
    expected = icc._to_lightness(np.interp(grey / 255, np.linspace(0, 1, 33), curve))
    np.testing.assert_allclose(lightness, expected, atol=0.05)


def test_only_srgb_is_called_srgb():
    assert icc.lightness(icc.srgb_profile()).srgb
    assert icc.lightness(profile(b"RGB ", [SRGB_CURVE] * 3, icc.SRGB_MATRIX)).srgb
    assert not icc.lightness(ADOBE).srgb
    assert not icc.lightness(profile(b"RGB ", [gamma(1.8)] * 3, icc.SRGB_MATRIX)).srgb


@pytest.mark.parametrize("cut", [0, 10, 131, 133, 150, 250, 330])
def test_a_damaged_profile_is_none(cut):
    assert icc.lightness(ADOBE[:cut]) is None


def test_hostile_curves():
    endless = b"curv\0\0\0\0" + struct.pack(">I", 2**32 - 1)
    for curve in (endless, parametric(1, 1, 0, 1), parametric(9, 1), b"curv", b"mft2" + bytes(99)):
        assert icc.lightness(profile(b"RGB ", [curve] * 3, ADOBE_MATRIX)) is None


def test_an_image_that_does_not_fit_its_profile_is_taken_as_it_is():
    image = Image.fromarray(samples.square("coffee", 16))
    for data in (None, b"nonsense", profile(b"GRAY", [gamma(2.2)])):
        np.testing.assert_array_equal(icc.to_srgb(image, data), image)
