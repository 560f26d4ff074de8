"""The bins against the published counts, the encoding against scikit-learn's ball tree."""

import numpy as np
import pytest
from sklearn.neighbors import BallTree

from colorlib import colorspace, quantizer

CODES = np.arange(quantizer.CODES)


def srgb_cube(step):
    levels = np.arange(0, 256, step, dtype=np.uint8)
    return np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), -1).reshape(-1, 1, 3)


def test_313_bins_sorted_by_a_then_b():
    centers = quantizer.bin_centers()
    assert centers.shape == (313, 2) and quantizer.BINS == 313
    assert (np.lexsort(centers.T[::-1]) == np.arange(313)).all()
    np.testing.assert_array_equal(
        centers[[0, 4, 5, -1]], [[-90, 50], [-90, 90], [-80, 20], [100, 0]]
    )


def test_the_bins_are_those_that_srgb_colors_need():
    # outside ground truth: 262 bins are the nearest of some sRGB color; on every third level of
    # red, green and blue one of them is missed
    ab = colorspace.rgb_to_lab(srgb_cube(3))[:, 0, 1:]
    nearest = BallTree(quantizer.bin_centers()).query(ab, k=1)[1]
    assert len(np.unique(nearest)) in (261, 262)


@pytest.mark.parametrize("neighbors", [5, 10])
def test_table_equals_a_ball_tree_for_every_code(neighbors):
    tree = BallTree(quantizer.bin_centers())
    distances, indices = tree.query(quantizer.code_colors(), k=neighbors + 1)
    bins, weights = quantizer.soft_encoding(neighbors)
    expected = np.exp(-(distances[:, :neighbors] ** 2) / (2 * quantizer.SIGMA**2))
    expected /= expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(weights, expected, atol=2e-6)
    # where the last neighbor and the one after are equally far, either is right
    clear = distances[:, neighbors] - distances[:, neighbors - 1] > 1e-6
    np.testing.assert_array_equal(
        np.sort(bins[clear], axis=1), np.sort(indices[clear, :neighbors], axis=1)
    )
    ours = np.linalg.norm(quantizer.bin_centers()[bins] - quantizer.code_colors()[:, None], axis=-1)
    np.testing.assert_allclose(ours, distances[:, :neighbors], atol=1e-3)


def test_ties_go_to_the_lower_index():
    corner = quantizer.nearest_codes(np.array([5.0, 5.0]))
    bins, weights = quantizer.soft_encoding(4)
    assert list(bins[corner]) == sorted(bins[corner])
    np.testing.assert_allclose(weights[corner], 0.25)


def test_dense_encoding_holds_the_table_and_nothing_else():
    dense = quantizer.encode_dense(CODES[::97])
    np.testing.assert_allclose(dense.sum(axis=-1), 1, atol=1e-6)
    assert ((dense > 0).sum(axis=-1) <= quantizer.NEIGHBORS).all()
    np.testing.assert_array_equal(dense.argmax(axis=-1), quantizer.nearest_bins(CODES[::97]))


def test_codes_and_colors_are_inverse():
    np.testing.assert_array_equal(quantizer.nearest_codes(quantizer.code_colors()), CODES)
    with pytest.raises(TypeError, match="uint8"):
        quantizer.ab_codes(np.zeros(2, np.uint8), np.zeros(2, np.int32))


def test_temperature_zero_is_the_mode_and_one_the_mean(rng):
    logits = rng.normal(size=(50, 313)).astype(np.float32) * 3
    centers = quantizer.bin_centers()
    np.testing.assert_array_equal(quantizer.annealed_mean(logits, 0), centers[logits.argmax(-1)])
    near_zero = quantizer.annealed_mean(logits, 1e-4)
    np.testing.assert_allclose(near_zero, centers[logits.argmax(-1)], atol=1e-3)
    probabilities = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    np.testing.assert_allclose(
        quantizer.annealed_mean(logits, 1), probabilities @ centers, atol=1e-3
    )


def test_annealed_mean_is_numerically_safe():
    logits = np.zeros((2, 313), np.float32)
    logits[0, 7], logits[1, :] = 1e4, -np.inf
    logits[1, 9] = -1e4
    for temperature in (1e-300, 1e-6, 0.38, 1, 100):
        colors = quantizer.annealed_mean(logits, temperature)
        assert np.isfinite(colors).all()
        np.testing.assert_allclose(colors[1], quantizer.bin_centers()[9], atol=1e-4)


@pytest.mark.parametrize("temperature", [-0.1, np.nan, np.inf])
def test_impossible_temperatures_are_refused(temperature):
    with pytest.raises(ValueError, match="temperature"):
        quantizer.annealed_mean(np.zeros(313), temperature)


def test_encode_then_decode_stays_close():
    codes = np.unique(quantizer.nearest_codes(colorspace.rgb_to_lab(srgb_cube(5))[..., 1:]))
    with np.errstate(divide="ignore"):
        decoded = quantizer.annealed_mean(np.log(quantizer.encode_dense(codes)))
    error = np.linalg.norm(decoded - quantizer.code_colors()[codes], axis=-1)
    assert error.mean() < 1.85
    assert error.max() < 2.75


def test_prior_counts_pixels():
    grey = np.full((4, 8, 8, 3), 128, np.uint8)
    unsmoothed = quantizer.prior(quantizer.code_histogram(grey), sigma=0)
    expected = quantizer.encode_dense(quantizer.nearest_codes(np.zeros(2)))
    np.testing.assert_allclose(unsmoothed, expected, atol=1e-6)


def test_prior_is_smoothed_in_the_plane_and_not_along_the_index():
    centers = quantizer.bin_centers()
    end = int(np.flatnonzero((centers == [0, 100]).all(axis=1))[0])
    histogram = np.zeros(quantizer.CODES)
    histogram[quantizer.nearest_codes(centers[end])] = 1
    prior = quantizer.prior(histogram)
    assert np.isclose(prior.sum(), 1)
    near = np.linalg.norm(centers - centers[end], axis=1) < 31
    assert prior[near].sum() > 0.999
    assert prior[end + 1] < 1e-9  # its neighbor in the list is at the other end of the plane


def test_prior_of_nothing_is_refused():
    with pytest.raises(ValueError, match="empty"):
        quantizer.prior(np.zeros(quantizer.CODES))


@pytest.mark.parametrize("lam", [0.1, 0.5, 1.0])
def test_rebalancing_weights_average_to_one(lam, patches):
    prior = quantizer.prior(quantizer.code_histogram(patches))
    weights = quantizer.rebalancing_weights(prior, lam)
    assert np.isclose((prior * weights).sum(), 1, atol=1e-5)
    assert (np.argsort(weights)[::-1][:5] != np.argsort(prior)[::-1][:5]).all() or lam == 1
    if lam == 1:
        np.testing.assert_allclose(weights, 1, atol=1e-6)


def test_rebalancing_weights_refuse_what_has_no_meaning():
    with pytest.raises(ValueError, match=r"0\.\.1"):
        quantizer.rebalancing_weights(np.full(313, 1 / 313), 1.5)
    with pytest.raises(ValueError, match="never occur"):
        quantizer.rebalancing_weights(np.eye(313)[0], 0)


def test_rebalancing_a_prediction_is_bayes_rule(rng):
    prior = rng.dirichlet(np.ones(313))
    likelihood = rng.dirichlet(np.ones(313))
    weights = quantizer.rebalancing_weights(prior)
    logits = np.log(prior * likelihood)  # what a calibrated network says
    new = np.exp(quantizer.rebalance(logits, weights))
    expected = prior * weights * likelihood
    np.testing.assert_allclose(new / new.sum(), expected / expected.sum(), rtol=1e-5)
    np.testing.assert_array_equal(quantizer.rebalance(logits, weights, 0), logits)


@pytest.mark.parametrize("arguments", [(0, 5.0), (314, 5.0), (5, 0.0)])
def test_impossible_encodings_are_refused(arguments):
    with pytest.raises(ValueError, match="neighbors"):
        quantizer.soft_encoding(*arguments)
