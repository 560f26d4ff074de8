"""The game "real or fake?": pairs of a photograph and its colored copy, answers and the score.

Not here: the widgets (`colorlib.app.game_view`). It is a small version of the human test in section
3.1 of Zhang et al. 2016. They showed each pair for a second; here there is no time limit.
"""

import csv
import dataclasses
import io
import math
import os
import statistics
from pathlib import Path

import cv2
import filelock
import numpy as np

from colorlib import colorize, config, images, samples

PAPER = 0.323
"""Share of the trials in which the paper's full method fooled people (table 1, AMT)."""

GUESSING = 0.5
"""The share if the copies can't be distinguished."""

ANSWERS = config.DATA / "real_or_fake.csv"
"""The file of answers; git ignores it."""

FIELDS = ("time", "game", "round", "photograph", "run", "real", "chosen", "fooled", "seconds")
"""Columns of that file."""


@dataclasses.dataclass(frozen=True)
class Score:
    """How often a player took the colored copy for the photograph.

    Attributes
    ----------
    fooled, trials : int
    """

    fooled: int = 0
    trials: int = 0

    def plus(self, fooled):
        """Count one more trial.

        Parameters
        ----------
        fooled : bool

        Returns
        -------
        Score
        """
        return Score(self.fooled + bool(fooled), self.trials + 1)

    def interval(self):
        """Compute the confidence interval of the share.

        Returns
        -------
        tuple of float
            As from `wilson`; (0, 1) before the first trial.
        """
        return wilson(self.fooled, self.trials)


def wilson(successes, trials, confidence=0.95):
    """Compute Wilson's confidence interval of a share (1927), which is valid for few trials too.

    Parameters
    ----------
    successes, trials : int
    confidence : float
        In 0..1, without the ends.

    Returns
    -------
    tuple of float
        Its ends; (0, 1) without a trial.

    Raises
    ------
    ValueError
        If there are more successes than trials.
    """
    if not trials:
        return 0.0, 1.0
    if not 0 <= successes <= trials:
        raise ValueError(f"{successes} of {trials} trials can't have succeeded")
    z = statistics.NormalDist().inv_cdf((1 + confidence) / 2)
    share, more = successes / trials, z**2 / trials
    middle, half = share + more / 2, math.sqrt(more * (share * (1 - share) + more / 4))
    return max(0.0, (middle - half) / (1 + more)), min(1.0, (middle + half) / (1 + more))


def append_answer(answer, path=ANSWERS):
    """Append an answer to the file as a line of CSV, under a lock.

    Parameters
    ----------
    answer : dict
        With the keys `FIELDS`.
    path : path-like
        Made, with a header, if missing. A last line without its end is completed first.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(path.with_name(f".{path.name}.lock")), path.open("a+b") as file:
        end = file.seek(0, os.SEEK_END)
        text = "" if end else _line(FIELDS)
        if end:
            file.seek(end - 1)
            text = "" if file.read(1) == b"\n" else "\n"
        file.write((text + _line(answer[field] for field in FIELDS)).encode())
        file.flush()
        os.fsync(file.fileno())


def score_of(path=ANSWERS, run=None):
    """Count the answers in the file.

    Parameters
    ----------
    path : path-like
        Lines that are no answers are skipped.
    run : str, optional
        Count only the answers about this run.

    Returns
    -------
    Score
    """
    path = Path(path)
    if not path.is_file():
        return Score()
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        rows = [row for row in csv.DictReader(file) if row.get("fooled") in ("0", "1")]
    rows = [row for row in rows if run in (None, row["run"])]
    return Score(sum(row["fooled"] == "1" for row in rows), len(rows))


def _line(values):
    text = io.StringIO()
    # a spreadsheet would read a name that begins with these as a formula
    safe = [f"'{v}" if str(v).startswith(("=", "+", "-", "@")) else v for v in values]
    csv.writer(text, lineterminator="\n").writerow(safe)
    return text.getvalue()


SIDE = 256
"""Side of the squares that are shown, in pixels."""

LARGEST_SIDE = 512
"""Shorter side, in pixels, of the photograph that a square is cut from."""

SMALLEST_CROP = 0.6
"""Smallest side of a square, as a share of the photograph's shorter side."""

MOST_PHOTOGRAPHS = 100
"""Largest number of photographs that are taken from a folder."""

ATTEMPTS = 20
"""Attempts to cut out a square that has some color."""


@dataclasses.dataclass(frozen=True)
class Pair:
    """A photograph and its colored copy, cut alike.

    Attributes
    ----------
    name : str
        Name of the photograph.
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
    """An endless sequence of pairs, decided by a seed.

    Parameters
    ----------
    photographs : dict of str to ndarray of uint8, shape (height, width, 3)
        In color; all are shown once before one is shown again.
    colorizer : colorlib.colorize.Colorizer
    seed : int
        Seed of the order, the squares and the sides.

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
            Number of the round, from 0.

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
            # the whole photograph is colored, as readers do it, and cut afterwards
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
        Subfolders are left out.
    most : int
        Largest number of photographs; they are taken in the order of their names.

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
            skipped.append(f"{path}: is grey, so its copy would look the same; leave it out")
        else:
            found[path.name] = rgb
    return found, skipped


def new_game(folder=None, run=config.DEFAULT_RUN, seed=None):
    """Set up a game.

    Parameters
    ----------
    folder : path-like, optional
        Folder of photographs in color; by default the sample photographs.
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
