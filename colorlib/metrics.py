"""Metrics of predicted colors, computed from arrays.

Not here: which images are measured, and what the numbers are compared with
(`colorlib.evaluate`). Section 3.1 of Zhang et al. 2016; colorfulness is Hasler and Suesstrunk's.

A data set is measured in parts: sums of `error_counts` and of the other functions' results over
batches give what all images at once would have given (`ColorTally`).
"""

import numpy as np

from colorlib import quantizer

MAX_THRESHOLD = 150
"""Largest error, in ab units, at which the share of pixels is counted (section 3.1)."""

PSNR_MAX = 80.0
"""PSNR of equal images, in dB, so that averages over images stay finite."""

COLORFULNESS_MEAN = 0.3
"""Factor of the mean chroma beside its spread (Hasler and Suesstrunk 2003, equation for M3)."""


def cross_entropy(logits, codes):
    """Compare predicted distributions with the soft-encoded true colors.

    Parameters
    ----------
    logits : ndarray of floating point, shape (..., 313) or (313,)
        Unnormalized log-probabilities of each pixel, or of all pixels alike.
    codes : ndarray of int, shape (...)
        True ab codes, 0..65535.

    Returns
    -------
    ndarray of float64, shape (...)
        The loss of each pixel, in nats, not rebalanced; `losses.SoftCrossEntropy` averages it.
        A uniform prediction has ln 313 = 5.746.
    """
    logits = np.asarray(logits)
    peak = logits.max(axis=-1)
    log_sum = peak + np.log(np.exp(logits - peak[..., None]).sum(axis=-1, dtype=np.float64))
    bins, weights = quantizer.soft_encoding()
    everywhere = np.broadcast_to(logits, (*np.shape(codes), quantizer.BINS))
    chosen = np.take_along_axis(everywhere, bins[codes], axis=-1)
    return log_sum - (weights[codes] * chosen).sum(axis=-1, dtype=np.float64)


def target_entropy(codes):
    """Return the entropy of soft-encoded colors, below which no cross-entropy can go.

    Parameters
    ----------
    codes : ndarray of int, shape (...)
        True ab codes, 0..65535.

    Returns
    -------
    ndarray of float32, shape (...)
        The entropy of each pixel, in nats.
    """
    _, weights = quantizer.soft_encoding()
    logs = np.log(weights, out=np.zeros_like(weights), where=weights > 0)
    return -(weights * logs).sum(axis=-1)[codes]


def accuracy(logits, codes):
    """Return for each pixel whether the likeliest bin is the nearest to the true color.

    Parameters
    ----------
    logits, codes
        As for `cross_entropy`.

    Returns
    -------
    ndarray of bool, shape (...)
        Their mean is the accuracy, 0..1. One bin for all pixels, chosen at random, has 1/313.
    """
    return quantizer.nearest_bins(codes) == np.argmax(logits, axis=-1)


def error_counts(predicted, true):
    """Count pixels by the bin of their true color and by the error of their prediction.

    Parameters
    ----------
    predicted, true : ndarray of floating point, shape (..., 2)
        (a, b), -128..127.

    Returns
    -------
    ndarray of int64, shape (313, 152)
        Column t: Euclidean errors in ab units above t - 1 and at most t; the last one: above
        150. Counts of parts of a data set can simply be added.
    """
    errors = np.linalg.norm(np.asarray(predicted) - true, axis=-1)
    columns = np.minimum(np.ceil(errors), MAX_THRESHOLD + 1).astype(np.int64)
    bins = quantizer.nearest_bins(quantizer.nearest_codes(true))
    shape = (quantizer.BINS, MAX_THRESHOLD + 2)
    cells = bins * shape[1] + columns
    return np.bincount(cells.ravel(), minlength=shape[0] * shape[1]).reshape(shape)


def auc(counts, weights=None):
    """Return the area under the curve of pixels within a threshold of the true color.

    For each threshold 0, 1, ... 150 the share of pixels whose error is at most that; the area
    under this curve by the trapezoidal rule, divided by that of a perfect prediction.

    Parameters
    ----------
    counts : ndarray, shape (313, 152)
        From `error_counts`.
    weights : ndarray, shape (313,), optional
        Weight of each pixel, by the bin of its *true* color; their scale does not matter. For the
        paper's rebalanced AuC: `quantizer.rebalancing_weights` of the training images' prior, with
        a lambda of 0. By default all are equal.

    Returns
    -------
    float
        0..100, in percent.

    Raises
    ------
    ValueError
        If there are no pixels.
    """
    by_error = counts.sum(axis=0) if weights is None else np.asarray(weights, np.float64) @ counts
    if by_error.sum() == 0:
        raise ValueError("the AuC of no pixels is undefined: the counts are all zero")
    within = np.cumsum(by_error)[: MAX_THRESHOLD + 1] / by_error.sum()
    return float(100 * np.trapezoid(within) / MAX_THRESHOLD)


def psnr(predicted, true):
    """Return the peak signal-to-noise ratio of images.

    Parameters
    ----------
    predicted, true : ndarray of uint8, shape (..., height, width, 3)
        sRGB.

    Returns
    -------
    ndarray of float64, shape (...)
        One number for each image, in dB, over all three channels; at most 80, for equal images.
    """
    difference = np.asarray(predicted, np.float32) - true
    squared = np.mean(difference**2, axis=(-3, -2, -1), dtype=np.float64) / 255**2
    return -10 * np.log10(np.maximum(squared, 10 ** (-PSNR_MAX / 10)))


def colorfulness(rgb):
    """Return the colorfulness of images.

    Parameters
    ----------
    rgb : ndarray of uint8, shape (..., height, width, 3)
        sRGB.

    Returns
    -------
    ndarray of float64, shape (...)
        A number for each image: 0 is grey, 15 slightly, 45 quite, 82 highly colorful, in the words
        of Hasler and Suesstrunk 2003, "Measuring colourfulness in natural images" (their M3).
    """
    red, green, blue = np.moveaxis(np.asarray(rgb, np.float32), -1, 0)
    red_green, yellow_blue = red - green, (red + green) / 2 - blue
    moments = [
        moment(opponent, axis=(-2, -1), dtype=np.float64)
        for moment in (np.std, np.mean)
        for opponent in (red_green, yellow_blue)
    ]
    return np.hypot(*moments[:2]) + COLORFULNESS_MEAN * np.hypot(*moments[2:])


class ColorTally:
    """Metrics of predicted colors over a data set, a batch at a time, in constant memory.

    Attributes
    ----------
    images : int
        Number of images that were added.
    counts : ndarray of int64, shape (313, 152)
        The sum of their `error_counts`.
    """

    def __init__(self):
        self.images, self.counts = 0, 0
        self._psnr = self._colorfulness = 0.0

    def add(self, predicted_ab, true_ab, predicted_rgb, true_rgb):
        """Add a batch of images.

        Parameters
        ----------
        predicted_ab, true_ab : ndarray of floating point, shape (n, height, width, 2)
            (a, b).
        predicted_rgb, true_rgb : ndarray of uint8, shape (n, height, width, 3)
            sRGB.
        """
        self.images += len(true_rgb)
        self.counts = self.counts + error_counts(predicted_ab, true_ab)
        self._psnr += psnr(predicted_rgb, true_rgb).sum()
        self._colorfulness += colorfulness(predicted_rgb).sum()

    def __add__(self, other):
        """Return the metrics of both sets of images together."""
        both = ColorTally()
        both.images, both.counts = self.images + other.images, self.counts + other.counts
        both._psnr = self._psnr + other._psnr
        both._colorfulness = self._colorfulness + other._colorfulness
        return both

    def result(self, weights):
        """Return the metrics of all images that were added.

        Parameters
        ----------
        weights : ndarray, shape (313,)
            For the rebalanced AuC; see `auc`.

        Returns
        -------
        dict of str to float
            ``auc`` and ``rebalanced_auc`` in percent, over all pixels; ``psnr`` in dB and
            ``colorfulness``, averaged over the images.
        """
        return {
            "auc": auc(self.counts),
            "rebalanced_auc": auc(self.counts, weights),
            "psnr": float(self._psnr / self.images),
            "colorfulness": float(self._colorfulness / self.images),
        }
