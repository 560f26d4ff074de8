"""Metrics on cases that are computed by hand, and in parts as at once."""

import numpy as np
import pytest

from colorlib import losses, metrics, quantizer, samples


def shifted(true, *errors):
    """Colors that lie so far from the true ones, along a."""
    return np.asarray(true, float) + np.stack([errors, np.zeros(len(errors))], axis=-1)


def test_auc_of_four_pixels():
    true = np.zeros((4, 2))
    counts = metrics.error_counts(shifted(true, 0, 50, 100, 200), true)
    # within t: a quarter up to 49, half from 50, three quarters from 100; in between, two ramps
    area = 49 * 0.25 + 0.375 + 49 * 0.5 + 0.625 + 50 * 0.75
    assert metrics.auc(counts) == pytest.approx(100 * area / 150)


def test_auc_of_the_best_and_the_worst():
    true = np.zeros((3, 2))
    assert metrics.auc(metrics.error_counts(true, true)) == 100
    assert metrics.auc(metrics.error_counts(shifted(true, 151, 200, 150.001), true)) == 0
    # at exactly 150 the last threshold counts it, and half of the last strip is its area
    just = metrics.error_counts(shifted(true, 150, 150, 150), true)
    assert metrics.auc(just) == pytest.approx(100 * 0.5 / 150)
    with pytest.raises(ValueError, match="no pixels"):
        metrics.auc(np.zeros_like(just))


def test_errors_are_euclidean_and_fall_into_the_column_they_are_within():
    true = np.zeros((1, 2))
    for ab, column in (((3, 4), 5), ((3, 4.01), 6), ((0, 0), 0), ((0.3, 0), 1), ((-200, 0), 151)):
        counts = metrics.error_counts(np.array([ab], float), true)
        assert counts.sum() == 1 and counts.sum(axis=0)[column] == 1


def test_rebalanced_auc_of_two_bins_goes_by_the_true_color():
    true = np.array([(0, 0), (0, 0), (0, 0), (60, 60)], float)
    predicted = np.zeros((4, 2))  # grey: right three times, 85 off for the orange pixel
    counts = metrics.error_counts(predicted, true)
    orange = (84 * 0 + 0.5 + 65) / 150  # within from t = 85 on
    assert metrics.auc(counts) == pytest.approx(100 * (3 + orange) / 4)
    weights = np.zeros(quantizer.BINS)
    grey_bin, orange_bin = quantizer.nearest_bins(quantizer.nearest_codes(true[[0, 3]]))
    weights[grey_bin], weights[orange_bin] = 1 / 0.75, 1 / 0.25
    rebalanced = metrics.auc(counts, weights)
    assert rebalanced == pytest.approx(100 * (1 + orange) / 2)
    assert metrics.auc(counts, 7 * weights) == pytest.approx(rebalanced)


def test_psnr():
    true = np.full((2, 4, 4, 3), 100, np.uint8)
    predicted = true.copy()
    predicted[0] += 5
    predicted[1, 0, 0, 0] = 90  # 100 over 48 values
    expected = [10 * np.log10(255**2 / 25), 10 * np.log10(255**2 * 48 / 100)]
    np.testing.assert_allclose(metrics.psnr(predicted, true), expected, rtol=1e-6)
    assert metrics.psnr(true[0], true[0]) == metrics.PSNR_MAX
    assert metrics.psnr(true[0] * 0, true[0] * 0 + 255) == 0
    # uint8 would wrap
    assert metrics.psnr(true[0] - 100, true[0]) == metrics.psnr(true[0], true[0] - 100)


def test_colorfulness():
    grey = np.repeat(np.arange(16, dtype=np.uint8).reshape(4, 4, 1), 3, axis=-1)
    assert metrics.colorfulness(grey) == 0
    red = np.zeros((4, 4, 3), np.uint8)
    red[..., 0] = 200  # red - green: 200, yellow - blue: 100, nowhere any spread
    assert metrics.colorfulness(red) == pytest.approx(0.3 * np.hypot(200, 100))
    half = red.copy()
    half[:2] = 0  # means and spreads: 100 and 50
    assert metrics.colorfulness(half) == pytest.approx(1.3 * np.hypot(100, 50))
    np.testing.assert_allclose(
        metrics.colorfulness(np.stack([grey, red, half])),
        [metrics.colorfulness(image) for image in (grey, red, half)],
    )


def test_cross_entropy_and_accuracy_are_those_of_the_training(rng):
    codes = rng.integers(0, quantizer.CODES, (3, 4, 5))
    logits = (10 * rng.normal(size=(3, 4, 5, quantizer.BINS))).astype(np.float32)
    ours = metrics.cross_entropy(logits, codes)
    theirs = np.asarray(losses.SoftCrossEntropy(reduction=None)(codes, logits))
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)
    np.testing.assert_array_equal(
        metrics.accuracy(logits, codes), np.asarray(losses._hits(codes, logits))
    )


def test_one_distribution_for_all_pixels(rng):
    codes = rng.integers(0, quantizer.CODES, (2, 3, 3))
    uniform = np.zeros(quantizer.BINS)
    np.testing.assert_allclose(metrics.cross_entropy(uniform, codes), np.log(313), rtol=1e-6)
    # three in four pixels green, one red: the prior's accuracy is the share of its mode
    green, red = quantizer.nearest_codes(np.array([(-40.0, 40.0), (60.0, 40.0)]))
    four = np.array([green, green, green, red])
    prior = np.full(quantizer.BINS, 1e-9)
    prior[quantizer.nearest_bins(four)] = (0.7, 0.7, 0.7, 0.3)
    assert metrics.accuracy(np.log(prior), four).mean() == 0.75


def test_the_target_itself_is_the_best_prediction(rng):
    codes = rng.integers(0, quantizer.CODES, (4, 5))
    perfect = np.log(quantizer.encode_dense(codes).clip(1e-30))
    np.testing.assert_allclose(
        metrics.cross_entropy(perfect, codes), metrics.target_entropy(codes), rtol=1e-4, atol=1e-6
    )


def test_parts_give_what_the_whole_gives(rng):
    true_rgb = samples.patches(7, 16)
    rgb = np.clip(true_rgb.astype(int) + rng.integers(-20, 20, true_rgb.shape), 0, 255)
    rgb = rgb.astype(np.uint8)
    true, predicted = rng.uniform(-80, 80, (2, 7, 16, 16, 2))
    weights = rng.uniform(1, 9, quantizer.BINS)
    whole, parts = metrics.ColorTally(), metrics.ColorTally()
    whole.add(predicted, true, rgb, true_rgb)
    for part in (slice(0, 1), slice(1, 5), slice(5, 7)):
        parts.add(predicted[part], true[part], rgb[part], true_rgb[part])
    assert parts.images == 7
    assert parts.result(weights) == pytest.approx(whole.result(weights), rel=1e-12)
    np.testing.assert_array_equal(parts.counts, whole.counts)
