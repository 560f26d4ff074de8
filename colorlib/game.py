"""Real or fake? Pairs of a photograph and its colored copy, in an order that a seed decides.

Not here: what the player says (`colorlib.answers`) and sees (`colorlib.board`). Section 3.1 of
Zhang et al. 2016, whose human test this is in small: they showed each pair for a second, we for as
long as the player likes.
"""

import dataclasses
import os
from pathlib import Path

import cv2
import numpy as np

from colorlib import colorize, config, images, samples

SIDE = 256
"""Of the squares that are shown, in pixels."""

LARGEST_SIDE = 512
"""Of the photograph that a square is cut from, its shorter side in pixels."""

SMALLEST_CROP = 0.6
"""Side of a square, in parts of the photograph's shorter side; at most it is 1."""

MOST_PHOTOGRAPHS = 100
"""That are taken from a folder."""

ATTEMPTS = 20
"""To cut out a square that has any color."""


@dataclasses.dataclass(frozen=True)
class Pair:
    """A photograph and its colored copy, cut alike.

    Attributes
    ----------
    name : str
        Of the photograph.
    real, colored : ndarray of uint8, shape (256, 256, 3)
        sRGB.
    real_is_left : bool
    """

    name: str
    real: np.ndarray
    colored: np.ndarray
    real_is_left: bool

    @property
    def real_side(self):
        """``"left"`` or ``"right"``."""
        return "left" if self.real_is_left else "right"


class Game:
    """Pairs in an order that a seed decides, without end.

    Parameters
    ----------
    photographs : dict of str to ndarray of uint8, shape (height, width, 3)
        In color; each comes once before any comes again.
    colorizer : colorlib.colorize.Colorizer
    seed : int
        Of order, squares and sides.

    Raises
    ------
    ValueError
        If there are no photographs.
    """

    def __init__(self, photographs, colorizer, seed):
        if not photographs:
            raise ValueError("there are no photographs in color to play with; name another folder")
        self.photographs, self.colorizer, self.seed = photographs, colorizer, seed
        self._colored = {}

    def pair(self, number):
        """Make a pair.

        Parameters
        ----------
        number : int
            Of the round, from 0.

        Returns
        -------
        Pair
            The same for the same seed and number.
        """
        names = list(self.photographs)
        lap, place = divmod(number, len(names))
        order = np.random.default_rng([self.seed, lap]).permutation(len(names))
        name = names[order[place]]
        rng = np.random.default_rng([self.seed, lap, place])
        real, colored = self._both(name)
        square = _square_with_color(real, rng)
        left = bool(rng.random() < 0.5)
        return Pair(name, _cut(real, square), _cut(colored, square), left)

    def _both(self, name):
        if name not in self._colored:
            real = _shrunk(self.photographs[name])
            # the whole photograph is colored, as a reader would, and cut afterwards
            self._colored[name] = (real, self.colorizer(real))
        return self._colored[name]


def sample_photographs():
    """Load the sample photographs.

    Returns
    -------
    dict of str to ndarray of uint8, shape (height, width, 3)
    """
    return {name: samples.load(name) for name in samples.NAMES}


def folder_photographs(folder, most=MOST_PHOTOGRAPHS):
    """Load a reader's own photographs.

    Parameters
    ----------
    folder : path-like
        Its subfolders are not looked into.
    most : int
        That are taken, by name.

    Returns
    -------
    found : dict of str to ndarray of uint8, shape (height, width, 3)
        By name.
    skipped : list of str
        A line for each file that can't be used, with the reason.

    Raises
    ------
    colorlib.images.ImageError
        If there is no such folder.
    """
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise images.ImageError(f"{folder}: no such folder; check the path")
    found, skipped = {}, []
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in images.READABLE or path.name.startswith("."):
            continue
        if len(found) == most:
            skipped.append(f"{path}: is one too many; {most} are taken")
            break
        try:
            rgb = _shrunk(images.read(path))
        except images.ImageError as error:
            skipped.append(str(error))
            continue
        if images.is_grey(rgb):
            skipped.append(f"{path}: is grey, so nothing could be told apart; leave it out")
        else:
            found[path.name] = rgb
    return found, skipped


def new_game(folder=None, run=config.DEFAULT_RUN, seed=None):
    """Set up a game.

    Parameters
    ----------
    folder : path-like, optional
        Of photographs in color; by default the sample photographs are played with.
    run : str
        The recorded run that colors.
    seed : int, optional
        By default another one each time.

    Returns
    -------
    Game

    Raises
    ------
    ValueError
        If there are no usable photographs (also as `images.ImageError`) or no such run.
    """
    photographs = folder_photographs(folder)[0] if folder else sample_photographs()
    seed = int.from_bytes(os.urandom(4), "big") if seed is None else seed
    return Game(photographs, colorize.colorizer_for(run), seed)


def _shrunk(rgb):
    scale = LARGEST_SIDE / min(rgb.shape[:2])
    if scale >= 1:
        return rgb
    size = tuple(round(side * scale) for side in rgb.shape[1::-1])
    return cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)


def _square_with_color(rgb, rng):
    for _ in range(ATTEMPTS):
        height, width = rgb.shape[:2]
        side = max(1, int(min(height, width) * rng.uniform(SMALLEST_CROP, 1)))
        top, left = rng.integers(height - side + 1), rng.integers(width - side + 1)
        square = (slice(top, top + side), slice(left, left + side))
        if not images.is_grey(rgb[square]):
            break
    return square


def _cut(rgb, square):
    return images.square(rgb[square], SIDE)
