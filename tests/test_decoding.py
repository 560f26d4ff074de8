"""One decoder: training, coloring, crawler, page and game see the same photograph."""

import io

import numpy as np
import odd_files
import pytest
import tifffile
from PIL import Image
from test_icc import ADOBE, SRGB_CURVE, profile

from colorlib import colorspace, icc, images, samples, store
from colorlib.app import game, preview
from colorlib.data import validation
from colorlib.photos import photo

DISPLAY_P3 = profile(
    b"RGB ",
    [SRGB_CURVE] * 3,
    [[0.5151, 0.2920, 0.1571], [0.2412, 0.6922, 0.0666], [-0.0011, 0.0419, 0.7841]],
)
"""What telephones write: sRGB's curve, wider primaries."""

TABLES = ADOBE.replace(b"wtpt", b"A2B0")
"""A profile that only LittleCMS may read, and can't."""

GREY16 = np.arange(60 * 90, dtype=np.uint16).reshape(60, 90) * 12
RGB16 = np.dstack([GREY16, GREY16[::-1], GREY16[:, ::-1]])
TIFFS = {
    "grey8": ((GREY16 >> 8).astype(np.uint8), {"photometric": "minisblack"}),
    "grey16": (GREY16, {"photometric": "minisblack"}),
    "color8": ((RGB16 >> 8).astype(np.uint8), {"photometric": "rgb"}),
    "color16": (RGB16, {"photometric": "rgb"}),
    "color16_strips": (RGB16, {"photometric": "rgb", "rowsperstrip": 7}),
    "color16_tiles": (RGB16, {"photometric": "rgb", "tile": (16, 16)}),
}


def uniform(folder, color, icc_profile, name="x.png"):
    path = folder / name
    Image.new("RGB", (80, 80), color).save(path, icc_profile=icc_profile)
    return path


def turned(pixels, orientation):
    """Turn pixels as EXIF's orientation asks for."""
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    turns = {2: (1,), 3: (0, 1), 4: (0,), 6: (1,), 7: (0, 1), 8: (0,)}
    return np.flip(pixels, turns.get(orientation, ()))


# What the profiles' matrices say, for colors that sRGB can show.
@pytest.mark.parametrize(
    ("icc_profile", "color", "expected"),
    [
        (ADOBE, (120, 140, 100), (111, 141, 98)),
        (DISPLAY_P3, (200, 100, 60), (215, 93, 47)),
        (icc.srgb_profile(), (60, 200, 60), (60, 200, 60)),
        (None, (60, 200, 60), (60, 200, 60)),
    ],
)
def test_colors_are_the_profiles(tmp_path, icc_profile, color, expected):
    rgb = images.read(uniform(tmp_path, color, icc_profile))
    np.testing.assert_allclose(rgb[0, 0], expected, atol=2)


def test_everyone_sees_the_profiles_colors(tmp_path):
    color = (120, 140, 100)
    path = uniform(tmp_path, color, ADOBE)
    rgb = images.read(path)
    assert (rgb != color).any()
    store.pack(tmp_path, tmp_path / "x.h5", 32)
    np.testing.assert_array_equal(store.Store(tmp_path / "x.h5").read([0])[0], rgb[:32, :32])
    np.testing.assert_array_equal(game.folder_photographs(tmp_path)[0]["x.png"], rgb)
    assert validation.validate(path.read_bytes()).outcome.status == validation.Status.GOOD
    lab = colorspace.rgb_to_lab(rgb)
    np.testing.assert_allclose(preview.from_file(path).lightness, lab[..., 0], atol=0.5)


def test_16_bits_are_rounded_to_8(tmp_path):
    dark = np.full((8, 8), 200, np.uint16)
    for pixels in (dark, GREY16, RGB16):
        data = odd_files.cv(pixels[..., ::-1] if pixels.ndim == 3 else pixels, ".png")
        expected = np.rint(pixels / 257)
        expected = expected if pixels.ndim == 3 else np.dstack([expected] * 3)
        np.testing.assert_array_equal(images.read(io.BytesIO(data)), expected)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data:UserWarning")  # Pillow's, on purpose
@pytest.mark.parametrize("name", [*odd_files.ODD, "adobe", "p3", "tables"])
def test_training_and_coloring_agree(tmp_path, name):
    path = tmp_path / name
    if name in odd_files.ODD:
        path.write_bytes(odd_files.ODD[name])
    else:
        path = path.with_suffix(".jpg")
        used = {"adobe": ADOBE, "p3": DISPLAY_P3, "tables": TABLES}[name]
        Image.fromarray(samples.square("chelsea", 48)).save(path, icc_profile=used, quality=95)
    rgb, photograph = images.read(path), photo.read(path)
    assert rgb.shape == (*photograph.shape, 3) and rgb.flags.c_contiguous
    difference = np.abs(colorspace.rgb_to_lab(rgb)[..., 0] - photograph.lightness())
    if photograph.alpha is not None:
        difference[photograph.alpha < np.iinfo(photograph.alpha.dtype).max] = 0
    # a color outside of sRGB is clipped, so the mean counts
    assert difference.mean() < 0.5


@pytest.mark.parametrize("space", ["L", "RGB"])
def test_a_grey_file_may_have_a_profile_in_color(tmp_path, space):
    path = tmp_path / "x.jpg"
    Image.fromarray(GREY16.astype(np.uint8)).convert(space).save(path, icc_profile=ADOBE)
    lightness = colorspace.rgb_to_lab(images.read(path))[..., 0]
    np.testing.assert_allclose(lightness, photo.read(path).lightness(), atol=0.6)


def test_pixels_that_became_srgb_do_not_keep_their_profile(tmp_path):
    photograph = photo.read(uniform(tmp_path, (9, 9, 9), TABLES))
    assert photograph.transform.srgb and photograph.profile == icc.srgb_profile()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", TIFFS)
def test_tiff_files_are_turned_once(tmp_path, name, orientation):
    pixels, options = TIFFS[name]
    tags = [(274, 3, 1, orientation, True)]
    tifffile.imwrite(tmp_path / "x.tif", pixels, metadata=None, extratags=tags, **options)
    expected = turned(pixels, orientation)
    np.testing.assert_array_equal(photo.read(tmp_path / "x.tif").pixels, expected)
    expected = images.to_depth(expected, np.uint8)
    expected = expected if expected.ndim == 3 else np.dstack([expected] * 3)
    np.testing.assert_array_equal(images.read(tmp_path / "x.tif"), expected)


@pytest.mark.parametrize("mode", ["P", "RGBA", "CMYK", "1"])
def test_other_tiff_files_are_turned_once(tmp_path, mode):
    image = Image.fromarray((RGB16 >> 8).astype(np.uint8)).convert(mode)
    image.save(tmp_path / "upright.tif")
    image.save(tmp_path / "turned.tif", tiffinfo={274: 6})
    upright = images.read(tmp_path / "upright.tif")
    np.testing.assert_array_equal(images.read(tmp_path / "turned.tif"), turned(upright, 6))
