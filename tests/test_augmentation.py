"""Degradations of lightness: they change the input, and leave the colors unchanged."""

import numpy as np
import pytest

from colorlib import augmentation, colorspace, generator, samples

RGB = np.stack([samples.square(name, 64) for name in samples.NAMES[:4]])


def lightness():
    return np.stack([colorspace.rgb_to_lab(rgb)[..., :1] for rgb in RGB])


@pytest.mark.parametrize("kind", augmentation.KINDS, ids=lambda kind: kind.__name__)
def test_each_kind_changes_lightness_and_keeps_what_is_there(kind):
    image = lightness()[0, ..., 0]
    changed = kind(image.copy(), np.random.default_rng(1))
    assert changed.dtype == np.float32
    assert changed.shape == image.shape
    assert np.abs(changed - image).max() > 0.1
    assert np.corrcoef(changed.ravel(), image.ravel())[0, 1] > 0.8


def test_a_share_of_0_changes_nothing_and_of_1_everything():
    plain = lightness()
    none, every = plain.copy(), plain.copy()
    augmentation.degrade(none, 0.0, np.random.default_rng(0))
    augmentation.degrade(every, 1.0, np.random.default_rng(0))
    np.testing.assert_array_equal(none, plain)
    assert (np.abs(every - plain).mean(axis=(1, 2, 3)) > 1).all()
    assert every.min() >= 0
    assert every.max() <= colorspace.L_MAX


def test_fading_raises_black_and_lowers_white():
    ends = np.array([[0.0, 100.0]], np.float32)
    faded = augmentation.fade(ends, np.random.default_rng(0))[0]
    assert 0 < faded[0] < 15
    assert 85 < faded[1] < 100


def test_compression_loses_more_at_a_lower_quality():
    image = lightness()[0, ..., 0]
    errors = [np.abs(augmentation.compress(image, q) - image).mean() for q in (30, 75, 100)]
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 0.5


def test_batches_have_degraded_lightness_and_the_same_colors():
    def batch(degrade, train=True):
        return generator.ColorBatches(RGB, 4, 56, train, degrade=degrade, workers=0).batch(0, 0)

    plain, degraded, again = batch(0.0), batch(0.5), batch(0.5)
    np.testing.assert_array_equal(plain[1], degraded[1])
    assert np.abs(plain[0] - degraded[0]).mean() > 1
    np.testing.assert_array_equal(degraded[0], again[0])
    np.testing.assert_array_equal(batch(0.5, train=False)[0], batch(0.0, train=False)[0])


def test_degrade_is_a_probability():
    with pytest.raises(ValueError, match=r"0\.\.1, not 1\.5"):
        generator.ColorBatches(RGB, 4, 56, degrade=1.5)
