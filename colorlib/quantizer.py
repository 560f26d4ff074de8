"""The 313 ab bins: soft encoding, annealed mean, prior, rebalancing weights.

Not here: the loss that uses the encoding (`colorlib.losses`), and color conversion.
Sections 2.1 to 2.3 of Zhang et al. 2016.

A pixel's 8-bit (a, b) is one of 65 536 *ab codes*, ``(a + 128) * 256 + (b + 128)``. So the
encoding of every possible pixel is a table, computed once; the report fitted a ball tree and
searched it again for each image.
"""

import functools

import numpy as np

from colorlib import colorspace

SPACING = 10
"""Distance of neighboring bins along a and b (Zhang et al. 2016, section 2.1)."""

BIN_ROWS = {
    -90: (50, 90), -80: (20, 90), -70: (0, 90), -60: (-20, 90), -50: (-30, 100),
    -40: (-40, 100), -30: (-50, 100), -20: (-50, 100), -10: (-60, 100), 0: (-70, 100),
    10: (-80, 90), 20: (-80, 90), 30: (-90, 90), 40: (-100, 90), 50: (-100, 80),
    60: (-110, 80), 70: (-110, 80), 80: (-110, 70), 90: (-110, 70), 100: (-90, 0),
}  # fmt: skip
"""First and last b of the bins at each a: the published grid, in its order."""

BINS = sum((last - first) // SPACING + 1 for first, last in BIN_ROWS.values())
"""How many bins there are: 313."""

CODES = 256 * 256
"""How many ab codes there are."""

NEIGHBORS = 5
"""Bins in a pixel's soft encoding (the paper's text; its code uses 10)."""

SIGMA = 5.0
"""Width of the Gaussians that weigh neighbors and smooth the prior, in ab units (section 2.2)."""

TEMPERATURE = 0.38
"""T of the annealed mean (section 2.3)."""

PRIOR_FLOOR = 1e-6
"""Least frequency of a bin: some never occur, but need a logarithm and a weight."""

LAMBDA = 0.5
"""Share of the uniform distribution in the rebalancing weights (section 2.2)."""


@functools.cache
def bin_centers():
    """Return the centers of the bins.

    Returns
    -------
    ndarray of float32, shape (313, 2)
        (a, b), sorted by a, then b. Read-only.
    """
    rows = [(a, np.arange(first, last + 1, SPACING)) for a, (first, last) in BIN_ROWS.items()]
    centers = np.concatenate([np.stack([np.full(len(b), a), b], axis=1) for a, b in rows])
    return _read_only(centers.astype(np.float32))


def ab_codes(a8, b8):
    """Return the code of 8-bit a and b.

    Parameters
    ----------
    a8, b8 : ndarray of uint8, shape (...)
        a + 128 and b + 128, as `colorspace.rgb_to_lab8` gives them.

    Returns
    -------
    ndarray of int32, shape (...)
        0..65535.
    """
    if a8.dtype != np.uint8 or b8.dtype != np.uint8:
        raise TypeError(f"ab codes come from uint8 a and b, not {a8.dtype} and {b8.dtype}")
    return a8.astype(np.int32) * 256 + b8


def nearest_codes(ab):
    """Return the codes of float ab values, rounded to the nearest.

    Parameters
    ----------
    ab : ndarray of floating point, shape (..., 2)
        -128..127; what lies outside is clipped.

    Returns
    -------
    ndarray of int32, shape (...)
    """
    shifted = np.rint(np.asarray(ab)) + colorspace.AB_OFFSET
    ab8 = np.clip(shifted, 0, 255).astype(np.uint8)
    return ab_codes(ab8[..., 0], ab8[..., 1])


@functools.cache
def code_colors():
    """Return the (a, b) of every ab code.

    Returns
    -------
    ndarray of float32, shape (65536, 2)
        -128..127. Read-only.
    """
    a, b = np.divmod(np.arange(CODES), 256)
    return _read_only(np.stack([a, b], axis=1).astype(np.float32) - colorspace.AB_OFFSET)


@functools.cache
def soft_encoding(neighbors=NEIGHBORS, sigma=SIGMA):
    """Return the soft encoding of every ab code.

    Parameters
    ----------
    neighbors : int
        Number of the nearest bins that share the weight, by a Gaussian of their distance.
    sigma : float
        Width of that Gaussian, in ab units.

    Returns
    -------
    bins : ndarray of int32, shape (65536, neighbors)
        The nearest bins, nearest first; of two at the same distance the lower index first.
    weights : ndarray of float32, shape (65536, neighbors)
        Each row sums to 1. Both are read-only.

    Raises
    ------
    ValueError
        If `neighbors` is not in 1..313 or `sigma` is not positive.
    """
    if not 1 <= neighbors <= BINS or sigma <= 0:
        raise ValueError(f"need 1 <= neighbors <= {BINS} and sigma > 0: {neighbors=}, {sigma=}")
    squared = _squared_distances(code_colors(), bin_centers()).astype(np.int32)
    # whole numbers, so distance and index fit in one key and no tie is left to chance
    keys = squared * BINS + np.arange(BINS, dtype=np.int32)
    keys = np.sort(np.partition(keys, neighbors - 1)[:, :neighbors])
    distances, bins = np.divmod(keys, BINS)
    weights = np.exp(-(distances - distances[:, :1]) / (2 * sigma**2))
    weights /= weights.sum(axis=1, keepdims=True)
    return _read_only(bins.astype(np.int32)), _read_only(weights.astype(np.float32))


def encode_dense(codes, neighbors=NEIGHBORS, sigma=SIGMA):
    """Write soft encodings out as dense distributions, for teaching and for tests.

    Parameters
    ----------
    codes : ndarray of int, shape (...)
        ab codes.
    neighbors, sigma
        As for `soft_encoding`.

    Returns
    -------
    ndarray of float32, shape (..., 313)
        Each sums to 1.
    """
    bins, weights = soft_encoding(neighbors, sigma)
    dense = np.zeros((*np.shape(codes), BINS), np.float32)
    np.put_along_axis(dense, bins[codes], weights[codes], axis=-1)
    return dense


def nearest_bins(codes):
    """Return the bin nearest to each ab code.

    Parameters
    ----------
    codes : ndarray of int, shape (...)
        ab codes.

    Returns
    -------
    ndarray of int32, shape (...)
        0..312.
    """
    return soft_encoding()[0][codes, 0]


def annealed_mean(logits, temperature=TEMPERATURE):
    """Turn distributions over the bins into colors (equation 2 of the paper).

    Parameters
    ----------
    logits : ndarray of floating point, shape (..., 313)
        Unnormalized log-probabilities; the logarithm of a distribution serves as well.
    temperature : float
        1 gives the distribution's mean, 0 its mode, 0.38 the paper's compromise.

    Returns
    -------
    ndarray of float32, shape (..., 2)
        (a, b).

    Raises
    ------
    ValueError
        If the temperature is negative or not finite.
    """
    if not 0 <= temperature < np.inf:
        raise ValueError(f"the temperature has to be finite and not negative: {temperature}")
    logits = np.asarray(logits, np.float32)
    if temperature == 0:
        return bin_centers()[logits.argmax(axis=-1)]
    # the maximum goes first: dividing by a small temperature then gives minus infinity, weight 0
    shifted = logits - logits.max(axis=-1, keepdims=True)
    with np.errstate(over="ignore"):
        shifted /= np.float32(max(temperature, np.finfo(np.float32).tiny))
    weights = np.exp(shifted, out=shifted)
    return (weights @ bin_centers()) / weights.sum(axis=-1, keepdims=True)


def code_histogram(rgb):
    """Count the ab codes of 8-bit images.

    Parameters
    ----------
    rgb : ndarray of uint8, shape (..., height, width, 3)
        sRGB.

    Returns
    -------
    ndarray of int64, shape (65536,)
        Histograms of parts of a data set can simply be added.
    """
    lab8 = colorspace.rgb_to_lab8(rgb)
    codes = ab_codes(lab8[..., 1], lab8[..., 2])
    return np.bincount(codes.ravel(), minlength=CODES)


def prior(histogram, sigma=SIGMA):
    """Estimate how often each bin occurs, smoothed in ab space (section 2.2 of the paper).

    Parameters
    ----------
    histogram : ndarray, shape (65536,)
        How often each ab code occurs.
    sigma : float
        Width of the smoothing Gaussian in ab units; 0 leaves the estimate unsmoothed.

    Returns
    -------
    ndarray of float64, shape (313,)
        Positive where the smoothing reaches, sums to 1.

    Raises
    ------
    ValueError
        If the histogram is empty.
    """
    if histogram.sum() == 0:
        raise ValueError("the prior of no pixels is undefined: the histogram is empty")
    bins, weights = soft_encoding()
    counts = np.bincount(bins.ravel(), (weights * histogram[:, None]).ravel(), minlength=BINS)
    if sigma > 0:
        kernel = np.exp(-_squared_distances(bin_centers(), bin_centers()) / (2 * sigma**2))
        # each bin spreads exactly its own count, also at the edge of the gamut
        counts = (kernel / kernel.sum(axis=1, keepdims=True)).T @ counts
    return counts / counts.sum()


def rebalancing_weights(prior, lam=LAMBDA):
    """Compute weights that favor rare bins (section 2.2, equation 4 of the paper's version 2).

    Parameters
    ----------
    prior : ndarray, shape (313,)
        How often each bin occurs; sums to 1.
    lam : float
        0 weighs with 1 / prior, 1 weighs all bins alike.

    Returns
    -------
    ndarray of float32, shape (313,)
        Scaled so that the expected weight, sum(prior * weights), is 1.

    Raises
    ------
    ValueError
        If `lam` is not in 0..1, or 0 while a bin never occurs.
    """
    if not 0 <= lam <= 1:
        raise ValueError(f"lambda has to be in 0..1: {lam}")
    mixture = (1 - lam) * prior + lam / BINS
    if (mixture == 0).any():
        raise ValueError("lambda 0 gives bins that never occur an infinite weight: smooth first")
    weights = 1 / mixture
    return (weights / (prior * weights).sum()).astype(np.float32)


def rebalance(logits, weights, strength=1.0):
    """Favor rare bins in what a network trained without rebalancing predicts.

    By Bayes' rule, if bin q had been `weights[q]` times as frequent in training, a calibrated
    network would give it that much more probability. So rebalancing can be applied after the
    training, with any strength.

    Parameters
    ----------
    logits : ndarray of floating point, shape (..., 313)
        Predicted.
    weights : ndarray, shape (313,)
        From `rebalancing_weights`.
    strength : float
        0 changes nothing, 1 applies the weights in full.

    Returns
    -------
    ndarray, shape (..., 313)
        Logits.
    """
    return logits + (strength * np.log(weights)).astype(np.asarray(logits).dtype)


def _squared_distances(left, right):
    # |l - r|^2 = |l|^2 - 2 l r + |r|^2, exact in float32 for the whole numbers of codes and bins
    return (left**2).sum(axis=1)[:, None] - 2 * left @ right.T + (right**2).sum(axis=1)


def _read_only(array):
    array.flags.writeable = False
    return array
