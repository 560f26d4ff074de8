"""Hints: some pixels' true colors, given to a network beside the lightness.

Not here: the networks that take them (`colorlib.table`). Section 3.3 of Zhang et al. 2017,
"Real-Time User-Guided Image Colorization with Learned Deep Priors", arXiv 1705.02999.

An image's hints are an array (height, width, 3): a and b of CIE Lab and 1 where they are given,
three zeros elsewhere. For the training they are drawn at random out of the colors to predict, as a
user might have set them.
"""

import numpy as np

from colorlib.table import CHANNELS, HINTS

NONE = 0.2
"""Share of the images without any hint, beside those whose number of points is drawn as 0: a
network has to color without hints as well. Not in the paper."""

WHOLE = 0.01
"""Share of the images whose colors are given everywhere, so that hints are copied faithfully."""

POINTS = 1 / 8
"""Parameter of the geometric distribution of the number of points, which begins with 0."""

LARGEST = 9
"""Side in pixels of the largest patch; the sides are uniform in 1..9."""

SPREAD = 1 / 4
"""Standard deviation of the points' places about the center, in an image's sides."""


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
        Hints. Of a patch the mean color is given.
    """
    number = ab8.shape[1]
    share = rng.random(number)
    points = rng.geometric(POINTS, number) - 1
    points[share < NONE + WHOLE] = 0
    drawn = patches(ab8, *random_patches(points, ab8.shape[2:], rng))
    for image in np.flatnonzero((share >= NONE) & (share < NONE + WHOLE)):
        drawn[image] = whole(ab8[:, image])
    return drawn


def random_patches(points, size, rng):
    """Draw places and sizes of patches.

    Parameters
    ----------
    points : ndarray of int, shape (n,)
        How many for each image.
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


def whole(ab8):
    """Give all of an image's colors.

    Parameters
    ----------
    ab8 : ndarray of uint8, shape (2, height, width)

    Returns
    -------
    ndarray of float32, shape (height, width, 3)
        Hints.
    """
    a, b = ab8.astype(np.float32) - 128
    return np.stack([a, b, np.ones_like(a)], axis=-1)
