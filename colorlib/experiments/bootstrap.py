"""Turn scores of single images into metrics of groups, with intervals; choose the best and worst.

Not here: what predicts the colors (`colorlib.colorize`), and which images and groups there are
(`benchmarks/compare.py`). Section 3.1 of Zhang et al. 2016 for the metrics.

All metrics are ratios of sums over images. So an image's score is a row of such sums, a group's is
the sum of its rows, and a bootstrap sample's is a sum in which a row may occur several times.
"""

import functools

import numpy as np

from colorlib import metrics

COLUMNS = (
    "images",
    "pixels",
    "area",
    "weight",
    "weighted_area",
    "psnr",
    "colorfulness",
    "cross_entropy",
)
"""Numbers of a score: counts, the pixels' shares of the AuC without and with weights, metrics."""

DRAWS = 1000
"""Bootstrap samples behind an interval."""

COVERAGE = 0.95
"""Share of the bootstrap samples that an interval holds."""

PAPER = {
    "grey": (89.1, 58.0),
    "random": (84.2, 57.3),
    "Larsson et al.": (91.7, 65.9),
    "Zhang et al., L2 loss": (91.2, 64.4),
    "Zhang et al., classification": (91.6, 65.1),
    "Zhang et al., rebalanced": (89.5, 67.3),
}
"""AuC and rebalanced AuC in percent on ImageNet: table 1 of Zhang et al. 2016."""


def score(predicted_ab, true_ab, predicted_rgb, true_rgb, weights, cross_entropy=None):
    """Score images one by one.

    Parameters
    ----------
    predicted_ab, true_ab : ndarray of floating point, shape (n, height, width, 2)
        (a, b).
    predicted_rgb, true_rgb : ndarray of uint8, shape (n, height, width, 3)
        sRGB.
    weights : ndarray, shape (313,)
        Weight of a pixel, by the bin of its true color, for the rebalanced AuC (`metrics.auc`).
    cross_entropy : ndarray, shape (n,), optional
        Cross-entropy of each image in nats per pixel, where a distribution was predicted.

    Returns
    -------
    ndarray of float64, shape (n, 8)
        A row of `COLUMNS` for each image.
    """
    rows = []
    for predicted, true in zip(predicted_ab, true_ab, strict=True):
        counts = metrics.error_counts(predicted, true)
        pixels, area = counts.sum(axis=1), counts @ _areas()
        rows.append((1, pixels.sum(), area.sum(), weights @ pixels, weights @ area))
    unknown = np.full(len(rows), np.nan)
    ends = (
        metrics.psnr(predicted_rgb, true_rgb),
        metrics.colorfulness(predicted_rgb),
        unknown if cross_entropy is None else cross_entropy,
    )
    return np.column_stack([np.array(rows, np.float64), *ends])


def metrics_of(sums):
    """Turn sums of scores into metrics.

    Parameters
    ----------
    sums : ndarray of float64, shape (..., 8)
        Sums of rows from `score`, or rows.

    Returns
    -------
    dict of str to ndarray of float64, shape (...)
        ``auc`` and ``rebalanced_auc`` in percent, ``psnr`` in dB, ``colorfulness`` and
        ``cross_entropy`` in nats per pixel; the last is NaN where no distribution was predicted.
    """
    images, pixels, area, weight, weighted, noise, colorfulness, nats = np.moveaxis(sums, -1, 0)
    return {
        "auc": area / pixels,
        "rebalanced_auc": weighted / weight,
        "psnr": noise / images,
        "colorfulness": colorfulness / images,
        "cross_entropy": nats / images,
    }


def summarize(scores, units=None):
    """Return the metrics of all images, with bootstrap intervals.

    Parameters
    ----------
    scores : ndarray of float64, shape (n, 8)
        From `score`.
    units : array-like, shape (n,), optional
        Images with the same unit are drawn together: for example those of a class, to estimate
        what other classes of this kind would give. Each image is drawn alone by default.

    Returns
    -------
    dict of str to list of float
        Value, lower and upper end of the interval of each metric; those that are not known are
        left out.
    """
    return _intervals(*(metrics_of(part) for part in _sums(scores, units)))


def mean(values):
    """Return the mean of one number an image, with a bootstrap interval.

    Parameters
    ----------
    values : ndarray of floating point, shape (n,)

    Returns
    -------
    list of float
        Mean, lower and upper end of the interval.
    """
    parts = _sums(np.asarray(values)[:, None], None)
    return _intervals(*({"mean": part[..., 0] / len(values)} for part in parts))["mean"]


def gains(scores, baseline, units=None):
    """Return by how much predictions are better than others of the same images.

    Parameters
    ----------
    scores, baseline : ndarray of float64, shape (n, 8)
        From `score`; row for row the same images.
    units
        As for `summarize`.

    Returns
    -------
    dict of str to list of float
        Difference of each metric, with the ends of its interval.
    """
    pairs = _pairs(scores, baseline, units)
    return _intervals(*({name: one[name] - two[name] for name in one} for one, two in pairs))


def shares(scores, truth, units=None):
    """Return how colorful predictions are, as a share of the truth.

    Parameters
    ----------
    scores, truth : ndarray of float64, shape (n, 8)
        From `score`; row for row the same images.
    units
        As for `summarize`.

    Returns
    -------
    dict of str to list of float
        ``relative_colorfulness``, 1 for the truth's, with the ends of its interval.
    """
    name = "colorfulness"
    pairs = _pairs(scores, truth, units)
    return _intervals(*({f"relative_{name}": one[name] / two[name]} for one, two in pairs))


def best_and_worst(scores, baseline, count, sample=None):
    """Choose images to show by a rule: the largest and the smallest gain in rebalanced AuC.

    Parameters
    ----------
    scores, baseline : ndarray of float64, shape (n, 8)
        From `score`; row for row the same images.
    count : int
        Number of images of each kind.
    sample : int, optional
        Choose only from so many images, drawn at random with seed 0; by default from all.

    Returns
    -------
    best, worst : ndarray of int, shape (count,)
        Rows: the best first, the worst last.
    gain : ndarray of float64, shape (n,)
        Gain of each image, in percentage points.
    """
    gain = metrics_of(scores)["rebalanced_auc"] - metrics_of(baseline)["rebalanced_auc"]
    drawn = np.random.default_rng(0).permutation(len(gain))[:sample]
    order = drawn[np.argsort(-gain[drawn], kind="stable")]
    return order[:count], order[-count:], gain


@functools.lru_cache(maxsize=1)
def _areas():
    # what a pixel of each column of `error_counts` adds to the AuC
    return np.array([metrics.auc(column[None]) for column in np.eye(metrics.MAX_THRESHOLD + 2)])


# Equal units give equal draws, so that differences are paired.
def _sums(scores, units):
    if units is not None:
        _, numbers = np.unique(units, return_inverse=True)
        grouped = np.zeros((numbers.max() + 1, scores.shape[1]))
        np.add.at(grouped, numbers, scores)
        scores = grouped
    chances = np.full(len(scores), 1 / len(scores))
    times = np.random.default_rng(0).multinomial(len(scores), chances, DRAWS)
    return scores.sum(axis=0), times @ scores


def _pairs(scores, others, units):
    sums = (_sums(part, units) for part in (scores, others))
    return [(metrics_of(one), metrics_of(two)) for one, two in zip(*sums, strict=True)]


def _intervals(values, samples):
    tails = (50 * (1 - COVERAGE), 50 * (1 + COVERAGE))
    return {
        name: [float(value), *np.percentile(samples[name], tails).tolist()]
        for name, value in values.items()
        if np.isfinite(value)
    }
