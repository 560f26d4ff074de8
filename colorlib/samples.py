"""The eight sample photographs, which come with the dependencies and are free to show.

No model is trained on them, except to overfit one on purpose.
China and flower come with scikit-learn; astronaut, chelsea (a cat), coffee, rocket and
motorcycle with scikit-image; Grace Hopper with matplotlib.
"""

import importlib.util
from pathlib import Path

import numpy as np

from colorlib import images

FILES = {
    "astronaut": ("skimage", "data/astronaut.png"),
    "chelsea": ("skimage", "data/chelsea.png"),
    "china": ("sklearn", "datasets/images/china.jpg"),
    "coffee": ("skimage", "data/coffee.png"),
    "flower": ("sklearn", "datasets/images/flower.jpg"),
    "grace_hopper": ("matplotlib", "mpl-data/sample_data/grace_hopper.jpg"),
    "motorcycle": ("skimage", "data/motorcycle_left.png"),
    "rocket": ("skimage", "data/rocket.jpg"),
}
"""Package, which is not imported for it, and file."""

NAMES = tuple(FILES)


def path(name):
    """Return the path of a sample photograph.

    Parameters
    ----------
    name : str
        One of `NAMES`.

    Returns
    -------
    pathlib.Path

    Raises
    ------
    KeyError
        If there is no sample of that name.
    """
    if name not in FILES:
        raise KeyError(f"no sample photograph {name!r}: choose from {', '.join(NAMES)}")
    package, file = FILES[name]
    return Path(importlib.util.find_spec(package).origin).parent / file


def load(name):
    """Decode a sample photograph.

    Parameters
    ----------
    name : str
        One of `NAMES`.

    Returns
    -------
    ndarray of uint8, shape (height, width, 3)
        sRGB, 300 to 1411 pixels a side.
    """
    return images.read(path(name))


def square(name, size):
    """Return the centre square of a sample photograph, resized by area.

    Parameters
    ----------
    name : str
        One of `NAMES`.
    size : int
        Side in pixels.

    Returns
    -------
    ndarray of uint8, shape (size, size, 3)
        sRGB.
    """
    return images.square(load(name), size)


def patches(count, size, seed=0):
    """Cut random squares out of the sample photographs, in place of a data set.

    Parameters
    ----------
    count : int
        Number of patches; they are taken from the photographs in turn.
    size : int
        Side in pixels of the result.
    seed : int
        Seed of NumPy's random generator.

    Returns
    -------
    ndarray of uint8, shape (count, size, size, 3)
        sRGB. Each square covers between a quarter and all of its photograph's shorter side.
    """
    rng = np.random.default_rng(seed)
    photographs = [load(name) for name in NAMES]
    squares = [_random_square(photographs[i % len(photographs)], rng) for i in range(count)]
    return np.stack([images.square(square, size) for square in squares])


def _random_square(rgb, rng):
    height, width = rgb.shape[:2]
    side = int(min(height, width) * rng.uniform(0.25, 1.0))
    top, left = rng.integers(height - side + 1), rng.integers(width - side + 1)
    return rgb[top : top + side, left : left + side]
