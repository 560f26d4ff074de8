"""Hints: the colors of some pixels, given to a network beside the lightness.

Not here: the networks that take them (`colorlib.table`) and files of hints
(`colorlib.photos.hint_files`). Section 3 of Zhang et al. 2017, "Real-Time User-Guided Image
Colorization with Learned Deep Priors", arXiv 1705.02999.

A user's hints are points with colors. A network gets them as an array (height, width, 3): a and b
of CIE Lab and 1 where they are given, three zeros elsewhere. For the training they are drawn at
random from the colors to predict, as a user might give them.
"""

from typing import NamedTuple

import cv2
import numpy as np

from colorlib.table import CHANNELS, HINTS

PATCH = 3
"""Side of the square that gets a point's color, in pixels of the network's input. A single pixel is
worth 0.2 to 1.1 dB less with 1, 5 and 20 points of 16 photographs; 5 to 9 pixels are as good."""

SUGGESTIONS = 9
"""Colors that are suggested for a point, as many as in the paper."""

NONE = 0.2
"""Share of the images that get no hint, besides those whose number of points is drawn as 0: a
network has to color without hints as well. Not in the paper."""

WHOLE = 0.01
"""Share of the images whose colors are given everywhere, so that hints are copied faithfully."""

POINTS = 1 / 8
"""Parameter of the geometric distribution of the number of points, which begins with 0."""

LARGEST = 9
"""Side in pixels of the largest patch; the sides are uniform in 1..9."""

SPREAD = 1 / 4
"""Standard deviation of the points' places about the center, in an image's sides."""


class Points(NamedTuple):
    """A user's hints.

    Attributes
    ----------
    places : ndarray of floating point, shape (n, 2)
        x and y from the photograph's upper left corner, in 0..1.
    ab : ndarray of floating point, shape (n, 2)
        (a, b) there; a color's own lightness does not count.
    """

    places: np.ndarray
    ab: np.ndarray


def placed(points, height, width):
    """Give points to a network as the array that it takes.

    Parameters
    ----------
    points : Points
    height, width : int
        Size of the network's input in pixels.

    Returns
    -------
    ndarray of float32, shape (height, width, 3)
        Hints: squares of `PATCH` pixels; where they overlap, their mean.
    """
    columns, rows = (np.asarray(points.places) * (width, height)).astype(int).T
    cells = rows.clip(0, height - 1) * width + columns.clip(0, width - 1)
    sums = [
        np.bincount(cells, values, height * width).reshape(height, width)
        for values in (*np.asarray(points.ab).T, np.ones(len(cells)))
    ]
    spread = cv2.boxFilter(
        np.dstack(sums), -1, (PATCH, PATCH), normalize=False, borderType=cv2.BORDER_CONSTANT
    )
    return (spread / np.maximum(spread[..., 2:], 1)).astype(np.float32)


def suggestions(probabilities, centers, count=SUGGESTIONS):
    """Find the modes of a predicted distribution, as colors to choose from.

    Parameters
    ----------
    probabilities : ndarray of floating point, shape (313,)
    centers : ndarray of floating point, shape (313, 2)
        (a, b) of the bins (`quantizer.bin_centers`).
    count : int

    Returns
    -------
    ndarray of float64, shape (count, 2)
        (a, b) of the means of weighted k-means (section 3.4 of the paper), those with the largest
        share of the probability first. Fewer, if fewer bins have a probability.
    """
    from sklearn.cluster import KMeans  # takes longer to import than a photograph to color

    some = probabilities > probabilities.max() * 1e-3
    count = min(count, np.count_nonzero(some))
    means = KMeans(count, n_init=1, random_state=0)
    labels = means.fit_predict(centers[some], sample_weight=probabilities[some])
    shares = np.bincount(labels, probabilities[some], count)
    return means.cluster_centers_[np.argsort(-shares, kind="stable")]


def nothing(batch, height, width):
    """Return the hints of images without any.

    Parameters
    ----------
    batch, height, width : int
        Number of images, and their sides in pixels.

    Returns
    -------
    ndarray of float32, shape (batch, height, width, 3)
        Zeros.
    """
    return np.zeros((batch, height, width, CHANNELS[HINTS]), np.float32)


def random(ab8, rng):
    """Draw hints for a batch, as the paper does for its training.

    Parameters
    ----------
    ab8 : ndarray of uint8, shape (2, n, height, width)
        The true a + 128 and b + 128.
    rng : numpy.random.Generator

    Returns
    -------
    ndarray of float32, shape (n, height, width, 3)
        Hints; a patch has its mean color.
    """
    number = ab8.shape[1]
    share = rng.random(number)
    points = rng.geometric(POINTS, number) - 1
    points[share < NONE + WHOLE] = 0
    drawn = patches(ab8, *random_patches(points, ab8.shape[2:], rng))
    for image in np.flatnonzero((share >= NONE) & (share < NONE + WHOLE)):
        a, b = ab8[:, image].astype(np.float32) - 128
        drawn[image] = np.dstack([a, b, np.ones_like(a)])
    return drawn


def random_patches(points, size, rng):
    """Draw places and sizes of patches.

    Parameters
    ----------
    points : ndarray of int, shape (n,)
        Number of hints for each image.
    size : tuple of int
        Height and width of the images in pixels.
    rng : numpy.random.Generator

    Returns
    -------
    images, sides : ndarray of int, shape (k,)
        Each patch's image and side in pixels.
    corners : ndarray of int, shape (k, 2)
        Its first row and column.
    """
    images = np.repeat(np.arange(len(points)), points)
    sides = rng.integers(1, min(LARGEST, *size) + 1, len(images))
    centers = rng.normal(1 / 2, SPREAD, (len(images), 2)) * size
    corners = np.rint(centers - sides[:, None] / 2).astype(int)
    return images, sides, corners.clip(0, np.subtract(size, sides[:, None]))


def patches(ab8, images, sides, corners):
    """Give the mean colors of patches; where they overlap, one of them counts.

    Parameters
    ----------
    ab8 : ndarray of uint8, shape (2, n, height, width)
        As for `random`.
    images, sides, corners
        From `random_patches`.

    Returns
    -------
    ndarray of float32, shape (n, height, width, 3)
        Hints.
    """
    drawn = nothing(*ab8.shape[1:])
    for side in range(1, LARGEST + 1):  # few steps in Python, as threads do this side by side
        chosen = sides == side
        within = np.mgrid[:side, :side].reshape(2, -1)
        rows, columns = (corners[chosen].T[..., None] + within[:, None]).astype(int)
        where = images[chosen, None], rows, columns
        # (2, k, side * side) -> (k, 1, 2)
        means = ab8[:, *where].mean(axis=2, dtype=np.float32).T[:, None] - 128
        drawn[where] = np.concatenate([means, np.ones_like(means[..., :1])], axis=-1)
    return drawn
