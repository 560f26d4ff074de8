"""Color conversion against scikit-image, round trips, and the edge of the gamut."""

import numpy as np
import pytest
from skimage.color import rgb2lab

from colorlib import colorspace

LEVELS = np.minimum(np.arange(0, 257, 8), 255).astype(np.uint8)
CUBE = np.stack(np.meshgrid(LEVELS, LEVELS, LEVELS, indexing="ij"), axis=-1).reshape(-1, 33, 3)


def test_agrees_with_scikit_image():
    assert np.abs(colorspace.rgb_to_lab(CUBE) - rgb2lab(CUBE)).max() < 0.31


def test_float_round_trip_gives_back_every_8_bit_color_but_for_less_than_a_level():
    back = colorspace.lab_to_rgb(colorspace.rgb_to_lab(CUBE)) * 255
    assert np.abs(back - CUBE).max() < 0.73


def test_8_bit_round_trip_loses_what_the_notebook_says():
    error = np.abs(colorspace.lab8_to_rgb(colorspace.rgb_to_lab8(CUBE)).astype(int) - CUBE)
    assert error.max() <= 23
    assert 0.65 < error.mean() < 0.75


def test_known_colors():
    red, grey = colorspace.rgb_to_lab(np.array([[255, 0, 0], [128, 128, 128]], np.uint8))
    np.testing.assert_allclose(red, [53.24, 80.09, 67.20], atol=0.3)
    np.testing.assert_allclose(grey, [53.59, 0, 0], atol=0.1)  # L is not luma: that is 50.2


@pytest.mark.parametrize("shape", [(3,), (5, 3), (4, 5, 3), (2, 4, 5, 3), (0, 3)])
def test_any_leading_shape(shape):
    rgb = np.full(shape, 200, np.uint8)
    assert colorspace.rgb_to_lab(rgb).shape == shape
    assert colorspace.rgb_to_lab(rgb).dtype == np.float32
    assert colorspace.rgb_to_lab8(rgb).dtype == np.uint8


def test_8_bit_and_float_input_mean_the_same():
    np.testing.assert_allclose(
        colorspace.rgb_to_lab(CUBE), colorspace.rgb_to_lab(CUBE / 255.0), atol=1e-4
    )


@pytest.mark.parametrize("dtype", [np.int16, np.int64, np.uint16, bool])
def test_other_dtypes_are_refused_by_name(dtype):
    with pytest.raises(TypeError, match=np.dtype(dtype).name):
        colorspace.rgb_to_lab(CUBE.astype(dtype))
    with pytest.raises(TypeError, match=np.dtype(dtype).name):
        colorspace.rgb_to_lab8(CUBE.astype(dtype))


def test_8_bit_lab_is_not_taken_for_float_lab():
    with pytest.raises(TypeError, match="lab8_to_rgb"):
        colorspace.lab_to_rgb(colorspace.rgb_to_lab8(CUBE))


def test_wrong_last_axis_is_refused():
    with pytest.raises(ValueError, match="3 channels"):
        colorspace.rgb_to_lab(np.zeros((3, 4), np.uint8))


def test_every_srgb_color_is_in_gamut_and_is_left_alone_by_clipping():
    lab = colorspace.rgb_to_lab(CUBE)
    assert colorspace.in_gamut(lab).all()
    np.testing.assert_array_equal(colorspace.clip_to_gamut(lab), lab)


def test_clipping_keeps_lightness_and_hue(rng):
    lab = np.column_stack([rng.uniform(0, 100, 999), rng.uniform(-110, 110, (999, 2))])
    lab = lab.astype(np.float32)
    clipped = colorspace.clip_to_gamut(lab)
    assert not colorspace.in_gamut(lab).all()
    assert colorspace.in_gamut(clipped).all()
    np.testing.assert_array_equal(clipped[:, 0], lab[:, 0])
    cross = lab[:, 1] * clipped[:, 2] - lab[:, 2] * clipped[:, 1]
    np.testing.assert_allclose(cross, 0, atol=0.05)
    back = colorspace.rgb_to_lab(colorspace.lab_to_rgb(clipped))
    np.testing.assert_allclose(back[:, 0], lab[:, 0], atol=0.5)


def test_clipping_keeps_as_much_color_as_fits():
    vivid = np.array([[50.0, 120.0, 0.0]], np.float32)
    clipped = colorspace.clip_to_gamut(vivid)
    assert not colorspace.in_gamut(clipped * np.array([1, 1.01, 1.01])).any()


def test_float_lab_to_8_bits_is_the_formulas_to_half_a_level(rng):
    lab = rng.uniform((0, -120, -120), (100, 120, 120), (200, 50, 3)).astype(np.float32)
    rgb = colorspace.lab_to_rgb8(lab)
    exact = colorspace.lab_to_rgb16(colorspace.clip_to_gamut(lab)) / 257
    assert rgb.dtype == np.uint8 and np.abs(rgb - exact).max() < 0.6
    by_opencv = colorspace.to_uint8(colorspace.lab_to_rgb(colorspace.clip_to_gamut(lab)))
    assert np.abs(rgb.astype(int) - by_opencv).max() <= 1


@pytest.mark.parametrize("shape", [(3,), (5, 3), (0, 3), (0, 5, 3)])
def test_float_lab_to_8_bits_takes_any_shape(shape):
    assert colorspace.lab_to_rgb8(np.zeros(shape, np.float32)).shape == shape
